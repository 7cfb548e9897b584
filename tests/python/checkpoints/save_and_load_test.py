"""Weights in files that Flax reads, and from files that it wrote."""

import os
import pathlib
import shutil
import stat
import subprocess
import sys

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import keras
import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest
import safetensors.numpy

import flaxlayer
from flaxlayer import (
    FlaxLayer,
    JaxLayer,
    load_variables,
    save_variables,
)
from flaxlayer.checkpoints import progress, whole_files

X = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
NAMES = ["weights.msgpack", "weights.safetensors", "weights"]


class Net(nn.Module):
    @nn.compact
    def __call__(self, inputs, training=False):
        x = nn.BatchNorm(use_running_average=not training)(inputs)
        return nn.Dense(2)(x)


def built(seed, **kwargs):
    layer = FlaxLayer(Net(), seed=seed, **kwargs)
    layer.build((None, 3))
    return layer


def values(layer):
    return [np.array(v.value) for v in layer.weights]


def assert_same(a, b):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.fixture(params=NAMES)
def path(request, tmp_path):
    return tmp_path / request.param


def test_what_was_saved_is_loaded(path):
    layer, other = built(1), built(2)
    save_variables(layer, path)
    load_variables(other, path)
    assert_same(values(other), values(layer))


def test_nothing_is_left_beside_what_was_saved(path):
    save_variables(built(1), path)
    save_variables(built(2), path, overwrite=True)
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize(
    "dtype", ["bfloat16", "float16", "float64", "float8_e4m3fn", "int8", "bool"]
)
def test_dtypes_are_kept(path, dtype):
    value = np.array([[0, 1], [1, 0]], jnp.dtype(dtype))
    # JAX has no double precision unless it is told to.
    expected = jnp.asarray(value)

    def layer(value):
        return JaxLayer(
            lambda state, inputs: (inputs, state), state={"w": value}
        )

    save_variables(layer(value), path)
    other = layer(np.zeros_like(value))
    load_variables(other, path)
    loaded = other.get_layer_variables()["state"]["w"]
    assert loaded.dtype == expected.dtype
    np.testing.assert_array_equal(loaded, expected)


def stateful(params, state, inputs):
    return inputs * params[0], state


def jax_layer(key, number):
    return JaxLayer(
        stateful,
        params=[np.float32(number), {"a.b": np.full((2, 1), 0.0)}],
        state={"key": key, "net/~/linear": {"n": np.int32(number)}},
    )


def test_lists_scalars_keys_and_odd_names_are_kept(path):
    layer = jax_layer(jax.random.key(3), 5)
    other = jax_layer(jax.random.key(4), 6)
    save_variables(layer, path)
    load_variables(other, path)
    loaded = other.get_layer_variables()
    assert loaded["state"]["key"] == jax.random.key(3)
    assert float(loaded["params"][0]) == 5
    assert int(loaded["state"]["net/~/linear"]["n"]) == 5


def test_weights_are_cast_to_the_dtype_of_the_layer(path):
    layer, other = built(1), built(2, dtype="bfloat16")
    save_variables(layer, path)
    load_variables(other, path)
    assert all(v.dtype == "bfloat16" for v in other.trainable_weights)
    assert_same(
        [v.value for v in other.trainable_weights],
        [v.value.astype(jnp.bfloat16) for v in layer.trainable_weights],
    )


@pytest.mark.parametrize("name", NAMES)
def test_arrays_without_elements_are_kept_in_files(tmp_path, name):
    layer = JaxLayer(lambda params, inputs: inputs, params=[np.ones((2, 0))])
    if name == "weights":
        with pytest.raises(
            ValueError, match="cannot be saved.*without elements.*'params/0'"
        ):
            save_variables(layer, tmp_path / name)
        return
    save_variables(layer, tmp_path / name)
    load_variables(layer, tmp_path / name)
    assert values(layer)[0].shape == (2, 0)


@pytest.mark.parametrize("name", NAMES)
def test_a_layer_without_weights_is_kept_in_files(tmp_path, name):
    layer = JaxLayer(lambda inputs: inputs)
    if name == "weights":
        with pytest.raises(ValueError, match="it has no weights"):
            save_variables(layer, tmp_path / name)
        return
    save_variables(layer, tmp_path / name)
    load_variables(layer, tmp_path / name)


# Other programs.


def made_by_flax():
    return Net().init(jax.random.key(7), X)


def test_flax_reads_a_msgpack_file(tmp_path):
    layer = built(1)
    save_variables(layer, tmp_path / "weights.msgpack")
    data = (tmp_path / "weights.msgpack").read_bytes()
    variables = flax.serialization.from_bytes(made_by_flax(), data)
    np.testing.assert_array_equal(Net().apply(variables, X), layer(X))


def test_a_msgpack_file_of_flax_is_read(tmp_path):
    path = tmp_path / "weights.msgpack"
    path.write_bytes(flax.serialization.to_bytes(made_by_flax()))
    layer = built(1)
    load_variables(layer, path)
    np.testing.assert_array_equal(Net().apply(made_by_flax(), X), layer(X))


def test_arrays_that_flax_splits_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(flax.serialization, "MAX_CHUNK_SIZE", 8)
    layer, other = built(1), built(2)
    save_variables(layer, tmp_path / "weights.msgpack")
    assert (
        b"__msgpack_chunked_array__"
        in (tmp_path / "weights.msgpack").read_bytes()
    )
    load_variables(other, tmp_path / "weights.msgpack")
    assert_same(values(other), values(layer))


def test_safetensors_files_have_names_with_dots(tmp_path):
    layer = built(1)
    save_variables(layer, tmp_path / "weights.safetensors")
    stored = safetensors.numpy.load_file(tmp_path / "weights.safetensors")
    assert sorted(stored) == [
        "batch_stats.BatchNorm_0.mean",
        "batch_stats.BatchNorm_0.var",
        "params.BatchNorm_0.bias",
        "params.BatchNorm_0.scale",
        "params.Dense_0.bias",
        "params.Dense_0.kernel",
    ]
    kernel = layer.get_layer_variables()["params"]["Dense_0"]["kernel"]
    np.testing.assert_array_equal(stored["params.Dense_0.kernel"], kernel)


def test_safetensors_files_of_others_are_read_by_new_names(tmp_path):
    path = tmp_path / "model.safetensors"
    tensors = {
        "norm.running_mean": np.full(3, 0.5, np.float32),
        "norm.running_var": np.full(3, 2.0, np.float32),
        "norm.weight": np.ones(3, np.float32),
        "norm.bias": np.zeros(3, np.float32),
        "head.weight": np.ones((3, 2), ml_dtypes.bfloat16),
        "head.bias": np.zeros(2, np.float32),
    }
    safetensors.numpy.save_file(tensors, path)
    layer = built(1)
    load_variables(
        layer,
        path,
        rename={
            r"norm/running_(.*)": r"batch_stats/BatchNorm_0/\1",
            r"norm/weight": r"params/BatchNorm_0/scale",
            r"head/weight": r"params/Dense_0/kernel",
            r"head/(.*)": r"params/Dense_0/\1",
            r"norm/(.*)": r"params/BatchNorm_0/\1",
        },
    )
    variables = layer.get_layer_variables()
    np.testing.assert_array_equal(
        variables["params"]["Dense_0"]["kernel"], np.ones((3, 2))
    )
    np.testing.assert_array_equal(
        variables["batch_stats"]["BatchNorm_0"]["mean"], np.full(3, 0.5)
    )


def test_orbax_reads_a_directory(tmp_path):
    layer = built(1)
    save_variables(layer, tmp_path / "weights")
    with ocp.StandardCheckpointer() as checkpointer:
        variables = checkpointer.restore(tmp_path / "weights", made_by_flax())
    np.testing.assert_array_equal(Net().apply(variables, X), layer(X))


def by_checkpointer(path):
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path, made_by_flax())


def by_manager(path):
    with ocp.CheckpointManager(path.parent / "steps") as manager:
        manager.save(3, args=ocp.args.StandardSave(made_by_flax()))
    shutil.copytree(path.parent / "steps" / "3", path)


def by_second_interface(path):
    from orbax.checkpoint import v1

    save = getattr(v1, "save", None) or v1.save_pytree
    save(path, made_by_flax())


def test_numbers_of_64_bits_are_kept_or_refused(tmp_path):
    def layer():
        return JaxLayer(
            lambda state, inputs: (inputs, state),
            state={"n": np.int32(1), "x": np.float32(1)},
        )

    for number in (3, 2**40):
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(
                tmp_path / str(number),
                {"state": {"n": np.array(number), "x": np.array(0.5)}},
            )
    loaded = layer()
    load_variables(loaded, tmp_path / "3")
    assert int(loaded.get_layer_variables()["state"]["n"]) == 3
    with pytest.raises(ValueError, match="state/n`: .*that int32 can hold"):
        load_variables(loaded, tmp_path / str(2**40))
    assert int(loaded.get_layer_variables()["state"]["n"]) == 3


def test_a_directory_with_several_pytrees_asks_for_one(tmp_path):
    with ocp.CheckpointManager(tmp_path / "steps") as manager:
        manager.save(
            3,
            args=ocp.args.Composite(
                ema=ocp.args.StandardSave(made_by_flax()),
                net=ocp.args.StandardSave(made_by_flax()),
            ),
        )
    layer = built(1)
    with pytest.raises(ValueError, match="several pytrees.*3/ema.*3/net"):
        load_variables(layer, tmp_path / "steps" / "3")
    load_variables(layer, tmp_path / "steps" / "3" / "net")


@pytest.mark.parametrize(
    "save", [by_checkpointer, by_manager, by_second_interface]
)
def test_a_directory_of_orbax_is_read(tmp_path, save):
    save(tmp_path / "weights")
    layer = built(1)
    load_variables(layer, tmp_path / "weights")
    np.testing.assert_array_equal(Net().apply(made_by_flax(), X), layer(X))


def test_paths_in_any_format_are_renamed(tmp_path, path):
    layer, other = built(1), built(2)
    save_variables(layer, path)
    load_variables(other, path, rename={r"(\w+)/(.*)": r"\1/\2"})
    assert_same(values(other), values(layer))


# Writing.


def test_what_is_there_is_not_replaced_unasked(path):
    save_variables(built(1), path)
    with pytest.raises(FileExistsError, match="'probe': .*overwrite=True"):
        save_variables(built(2, name="probe"), path)
    other = built(3)
    load_variables(other, path)
    assert_same(values(other), values(built(1)))


def test_a_folder_that_is_no_checkpoint_is_not_replaced(tmp_path):
    folder = tmp_path / "precious"
    folder.mkdir()
    (folder / "thesis.txt").write_text("words")
    with pytest.raises(FileExistsError, match="is not replaced: expected a"):
        save_variables(built(1), folder, overwrite=True)
    assert (folder / "thesis.txt").read_text() == "words"


@pytest.mark.parametrize("name", NAMES[:2])
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_an_interrupted_save_leaves_the_old_file(
    tmp_path, monkeypatch, name, step
):
    path = tmp_path / name
    save_variables(built(1), path)

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, step, interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_variables(built(2), path, overwrite=True)
    monkeypatch.undo()
    assert os.listdir(tmp_path) == [name]
    other = built(3)
    load_variables(other, path)
    assert_same(values(other), values(built(1)))


def test_an_interrupted_save_leaves_the_old_directory(tmp_path, monkeypatch):
    path = tmp_path / "weights"
    save_variables(built(1), path)

    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(
        ocp.AsyncCheckpointer, "wait_until_finished", interrupted
    )
    with pytest.raises(KeyboardInterrupt):
        save_variables(built(2), path, overwrite=True)
    monkeypatch.undo()
    other = built(3)
    load_variables(other, path)
    assert_same(values(other), values(built(1)))


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("step", ["save", "wait_until_finished"])
def test_a_directory_that_cannot_be_written_leaves_nothing(
    tmp_path, monkeypatch, overwrite, step
):
    path = tmp_path / "weights"
    if overwrite:
        save_variables(built(1), path)

    def full(self, target=None, *args, **kwargs):
        # What tensorstore says of a full disk; Orbax has written by then.
        if target is not None:
            os.mkdir(f"{target}.orbax-checkpoint-tmp")
        raise ValueError("RESOURCE_EXHAUSTED: Error writing")

    monkeypatch.setattr(ocp.AsyncCheckpointer, step, full)
    with pytest.raises(OSError, match=f"{path}.*RESOURCE_EXHAUSTED"):
        save_variables(built(2), path, overwrite=overwrite)
    monkeypatch.undo()
    assert os.listdir(tmp_path) == (["weights"] if overwrite else [])
    if overwrite:
        other = built(3)
        load_variables(other, path)
        assert_same(values(other), values(built(1)))


def test_a_directory_that_cannot_take_its_name_gives_the_old_one_back(
    tmp_path, monkeypatch
):
    path = tmp_path / "weights"
    save_variables(built(1), path)
    rename, calls = os.rename, []

    def second_fails(old, new):
        # Only ours: Orbax has renames of its own.
        if str(path) in (str(old), str(new)):
            calls.append((old, new))
            if len(calls) == 2:
                raise PermissionError("no")
        rename(old, new)

    monkeypatch.setattr(os, "rename", second_fails)
    with pytest.raises(PermissionError):
        save_variables(built(2), path, overwrite=True)
    monkeypatch.undo()
    assert len(calls) == 3
    assert os.listdir(tmp_path) == ["weights"]
    other = built(3)
    load_variables(other, path)
    assert_same(values(other), values(built(1)))


def test_the_old_directory_is_there_until_the_new_one_is(tmp_path, monkeypatch):
    path = tmp_path / "weights"
    save_variables(built(1), path)
    rename, whole = os.rename, []

    def watching(old, new):
        if str(path) in (str(old), str(new)):
            whole.append(
                sorted(
                    float(np.sum(load_in(entry)))
                    for entry in os.scandir(tmp_path)
                )
            )
        rename(old, new)

    def load_in(entry):
        other = built(3)
        load_variables(other, entry.path)
        return np.concatenate([v.ravel() for v in values(other)])

    monkeypatch.setattr(os, "rename", watching)
    save_variables(built(2), path, overwrite=True)
    monkeypatch.undo()
    both = sorted(
        float(np.sum(np.concatenate([v.ravel() for v in values(built(seed))])))
        for seed in (1, 2)
    )
    assert whole == [both, both]


@pytest.mark.parametrize("name", NAMES)
def test_what_killed_saves_have_left_is_swept_by_the_next(
    tmp_path, name, monkeypatch
):
    path = str(tmp_path / name)
    mine = whole_files.beside(path)
    pathlib.Path(mine).touch()
    with monkeypatch.context() as patch:
        # The number of a process that is gone.
        child = subprocess.Popen([sys.executable, "-c", ""])
        child.wait()
        patch.setattr(os, "getpid", lambda: child.pid)
        pathlib.Path(whole_files.beside(path)).touch()
        os.mkdir(whole_files.beside(path) + ".orbax-checkpoint-tmp")
        theirs = whole_files.beside(f"{path}.other")
        pathlib.Path(theirs).touch()
    save_variables(built(1), path)
    left = {os.path.basename(entry) for entry in (path, mine, theirs)}
    assert set(os.listdir(tmp_path)) == left


def test_a_failing_save_sweeps_nothing(tmp_path, monkeypatch):
    # A process that was killed between two renames has left all there is.
    path = str(tmp_path / "weights.msgpack")
    with monkeypatch.context() as patch:
        child = subprocess.Popen([sys.executable, "-c", ""])
        child.wait()
        patch.setattr(os, "getpid", lambda: child.pid)
        left = whole_files.beside(path)
    pathlib.Path(left).touch()
    monkeypatch.setattr(os, "replace", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save_variables(built(1), path)
    assert os.listdir(tmp_path) == [os.path.basename(left)]


def test_the_name_of_a_file_is_on_the_disk_before_a_save_returns(
    tmp_path, monkeypatch
):
    steps = []
    replace, fsync = os.replace, os.fsync

    def synced(descriptor):
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        steps.append("folder" if is_folder else "file")
        fsync(descriptor)

    def replaced(old, new):
        steps.append("replace")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    save_variables(built(1), tmp_path / "weights.msgpack")
    assert steps == ["file", "replace", "folder"]


@pytest.mark.parametrize("ending", [".MSGPACK", ".SafeTensors"])
def test_endings_in_capitals_are_the_same(tmp_path, ending):
    path = tmp_path / f"weights{ending}"
    save_variables(built(1), path)
    assert path.is_file()
    other = built(2)
    load_variables(other, path)
    assert_same(values(other), values(built(1)))


def test_files_have_the_rights_that_the_umask_leaves(tmp_path):
    old = os.umask(0o027)
    try:
        save_variables(built(1), tmp_path / "weights.msgpack")
    finally:
        os.umask(old)
    mode = (tmp_path / "weights.msgpack").stat().st_mode
    assert stat.S_IMODE(mode) == 0o640


def test_training_goes_on_while_weights_are_written(path):
    layer = built(1)
    model = keras.Sequential([keras.Input((3,)), layer])
    model.compile("sgd", "mse")
    before = values(layer)
    pending = save_variables(layer, path, block=False)
    model.fit(X, X[:, :2], epochs=3, verbose=0)
    pending.wait()
    assert pending.done
    other = built(2)
    load_variables(other, path)
    assert_same(values(other), before)
    assert not np.array_equal(values(layer)[0], before[0])


def test_a_save_in_the_background_fails_when_it_is_waited_for(
    tmp_path, monkeypatch
):
    def full(*args):
        raise OSError("no space left")

    monkeypatch.setattr(whole_files.os, "fsync", full)
    pending = save_variables(
        built(1), tmp_path / "weights.msgpack", block=False
    )
    with pytest.raises(OSError, match="no space left"):
        pending.wait()


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_that_is_not_there_is_not_made(tmp_path, name):
    with pytest.raises(FileNotFoundError, match="'probe': there is no folder"):
        save_variables(built(1, name="probe"), tmp_path / "folder" / name)
    assert os.listdir(tmp_path) == []


def test_a_model_and_an_unbuilt_layer_are_refused(path):
    with pytest.raises(TypeError, match="get_layer.name.*of type Sequential"):
        save_variables(keras.Sequential([built(1)]), path)
    with pytest.raises(ValueError, match="'probe' has no weights to save"):
        save_variables(FlaxLayer(Net(), name="probe"), path)
    with pytest.raises(ValueError, match="'probe' has no weights to load"):
        load_variables(FlaxLayer(Net(), name="probe"), path)


def test_a_path_where_nothing_is_says_so(path):
    with pytest.raises(FileNotFoundError, match="'probe': there is nothing"):
        load_variables(built(1, name="probe"), path)


def test_safetensors_has_to_be_installed(tmp_path, monkeypatch):
    path = tmp_path / "weights.safetensors"
    save_variables(built(1), path)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    for use in (
        lambda: save_variables(built(1), path, overwrite=True),
        lambda: load_variables(built(1), path),
    ):
        with pytest.raises(ImportError, match=r"flaxlayer\[safetensors\]"):
            use()


# Progress.


@pytest.mark.parametrize("name", NAMES[:2])
def test_large_files_show_their_progress(tmp_path, monkeypatch, capsys, name):
    layer = built(1)
    save_variables(layer, tmp_path / name)
    load_variables(layer, tmp_path / name)
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(progress, "SHOWN_FROM_BYTES", 1)
    keras.config.enable_interactive_logging()
    save_variables(layer, tmp_path / name, overwrite=True)
    assert "1/1" in capsys.readouterr().out
    load_variables(layer, tmp_path / name)
    assert "1/1" in capsys.readouterr().out
    save_variables(layer, tmp_path / name, overwrite=True, block=False).wait()
    keras.config.disable_interactive_logging()
    try:
        save_variables(layer, tmp_path / name, overwrite=True)
        assert capsys.readouterr().out == ""
    finally:
        keras.config.enable_interactive_logging()


def test_the_public_names_are_those_of_the_package():
    assert flaxlayer.save_variables is save_variables
    assert flaxlayer.load_variables is load_variables
