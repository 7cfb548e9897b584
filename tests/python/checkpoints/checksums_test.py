import json
import os
import zipfile
import zlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import keras
import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest
import safetensors
import safetensors.numpy

import flaxlayer
from flaxlayer.checkpoints import checksums

# What a failed read of Orbax leaves for the garbage collector complains of it.
pytestmark = [
    pytest.mark.filterwarnings(
        "ignore::pytest.PytestUnraisableExceptionWarning"
    ),
    pytest.mark.usefixtures("collected"),
]


def model_and_layer():
    layer = flaxlayer.FlaxLayer(nn.Dense(64), seed=0, name="dense")
    model = keras.Sequential([keras.Input((64,)), layer])
    model.compile(keras.optimizers.SGD(momentum=0.9), "mse")
    return model, layer


def snapshot(variables):
    return [np.array(v.value, copy=True) for v in variables]


def same(variables, values):
    return all(
        np.array(v.value).tobytes() == x.tobytes()
        for v, x in zip(variables, values, strict=True)
    )


def files_of(path):
    """The files of a directory, or the one there is."""
    if path.is_file():
        return [path]
    return [p for p in sorted(path.rglob("*")) if p.is_file()]


def flips(path, count):
    """Has one bit flipped, at another place each time."""
    files = files_of(path)
    sizes = np.array([os.path.getsize(file) for file in files])
    rng = np.random.default_rng(0)
    for bit in rng.integers(0, 8 * sizes.sum(), count):
        index = int(np.searchsorted(8 * np.cumsum(sizes), bit, side="right"))
        offset = int(bit - 8 * sizes[:index].sum())
        data = files[index].read_bytes()
        damaged = bytearray(data)
        damaged[offset // 8] ^= 1 << offset % 8
        files[index].write_bytes(damaged)
        yield
        files[index].write_bytes(data)


def outcomes(path, count, load, variables):
    """How often a flip was refused, was of no account, or changed a number."""
    saved = snapshot(variables())
    result = dict.fromkeys(["refused", "same", "changed"], 0)
    for _ in flips(path, count):
        try:
            load()
        except (
            ValueError,
            OSError,
            KeyError,
            RuntimeError,
            zipfile.BadZipFile,
        ):
            result["refused"] += 1
        else:
            unchanged = same(variables(), saved)
            result["same" if unchanged else "changed"] += 1
    return result


# What docs/guide/checkpoints.md says of each format.


@pytest.mark.parametrize(
    ("name", "notices"),
    [("w.safetensors", True), ("w", True), ("w.msgpack", False)],
)
def test_which_formats_of_flax_notice_a_flipped_bit(tmp_path, name, notices):
    _, layer = model_and_layer()
    path = tmp_path / name
    flaxlayer.save_variables(layer, path)
    found = outcomes(
        path,
        20,
        lambda: flaxlayer.load_variables(layer, path),
        lambda: layer.weights,
    )
    assert (found["changed"] == 0) == notices
    assert (found["refused"] > 0) == notices


@pytest.mark.parametrize(
    ("name", "notices"), [("m.keras", True), ("m.weights.h5", False)]
)
def test_which_formats_of_keras_notice_a_flipped_bit(tmp_path, name, notices):
    model, _ = model_and_layer()
    path = tmp_path / name
    flaxlayer.save_model(model, path)
    loaded = [model]

    def load():
        if notices:
            loaded[0] = keras.models.load_model(path)
        else:
            loaded[0].load_weights(path)

    found = outcomes(path, 20, load, lambda: loaded[0].weights)
    assert (found["changed"] == 0) == notices
    assert not notices or found["refused"]


def test_a_backup_notices_a_flipped_bit(tmp_path):
    model, _ = model_and_layer()
    x, y = np.ones((4, 64)), np.ones((4, 64))
    backup = flaxlayer.OrbaxBackup(tmp_path / "run")
    model.fit(x, y, epochs=1, verbose=0, callbacks=[backup])
    largest = max(files_of(tmp_path / "run"), key=os.path.getsize)
    saved = snapshot(model.variables)
    refused = 0
    for _ in flips(largest, 8):
        try:
            backup.on_train_begin()
        except ValueError as error:
            refused += "nothing was assigned" in str(error)
        assert same(model.variables, saved)
    backup.on_train_end()
    assert refused


# What is said of it.


def test_the_weights_that_are_damaged_are_named(tmp_path):
    _, layer = model_and_layer()
    flaxlayer.save_variables(layer, tmp_path / "w.safetensors")
    data = bytearray((tmp_path / "w.safetensors").read_bytes())
    data[-1] ^= 1  # The largest array is the last one.
    (tmp_path / "w.safetensors").write_bytes(data)
    with pytest.raises(ValueError, match="'dense': the weights") as error:
        flaxlayer.load_variables(layer, tmp_path / "w.safetensors")
    assert "it is damaged: the numbers of ['params/" in str(error.value)


@pytest.mark.parametrize(
    ("stored", "problem"),
    [
        ("[" * 100_000, "its checksums cannot be read"),
        ("{", "its checksums cannot be read"),
        ("[]", "expected checksums by name"),
        ('{"params.bias": 3}', r"the numbers of \['params/bias'\]"),
    ],
)
def test_checksums_that_are_none_are_refused(tmp_path, stored, problem):
    _, layer = model_and_layer()
    variables = layer.get_layer_variables()["params"]
    safetensors.numpy.save_file(
        {f"params.{name}": np.asarray(x) for name, x in variables.items()},
        tmp_path / "w.safetensors",
        metadata={checksums.NAME: stored},
    )
    with pytest.raises(ValueError, match=problem):
        flaxlayer.load_variables(layer, tmp_path / "w.safetensors")


@pytest.mark.parametrize("metadata", [None, {"format": "np"}])
def test_files_without_checksums_are_read(tmp_path, metadata):
    _, layer = model_and_layer()
    expected = {"kernel": np.ones((64, 64), "f4"), "bias": np.ones(64, "f4")}
    safetensors.numpy.save_file(
        {f"params.{name}": x for name, x in expected.items()},
        tmp_path / "w.safetensors",
        metadata=metadata,
    )
    flaxlayer.load_variables(layer, tmp_path / "w.safetensors")
    jax.tree.map(
        np.testing.assert_array_equal,
        layer.get_layer_variables()["params"],
        expected,
    )
    expected = {name: 2 * x for name, x in expected.items()}
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "w", {"params": expected})
    flaxlayer.load_variables(layer, tmp_path / "w")
    jax.tree.map(
        np.testing.assert_array_equal,
        layer.get_layer_variables()["params"],
        expected,
    )


# The checksums themselves.


def test_others_can_compute_them(tmp_path):
    _, layer = model_and_layer()
    flaxlayer.save_variables(layer, tmp_path / "w.safetensors")
    with safetensors.safe_open(tmp_path / "w.safetensors", "np") as file:
        stored = json.loads(file.metadata()["flaxlayer.crc32"])
        for name in file.keys():  # noqa: SIM118, it is no mapping.
            array = file.get_tensor(name)
            text = f"{array.dtype.name}{list(array.shape)}".encode()
            expected = zlib.crc32(text + array.tobytes())
            assert stored.pop(name) == f"{expected:08x}"
    assert not stored


@pytest.mark.parametrize(
    "other",
    [
        np.arange(6, dtype="f4").reshape(3, 2),
        np.arange(6, dtype="f4").view("i4").reshape(2, 3),
        np.arange(6, dtype="f4").reshape(3, 2).T,
        np.arange(6).astype(ml_dtypes.bfloat16).reshape(2, 3),
    ],
)
def test_shapes_dtypes_and_order_count(other):
    path = ("params", "a.b")
    array = np.arange(6, dtype="f4").reshape(2, 3)
    stored = checksums.of_arrays({path: array})
    assert set(stored) == {"params.a%2Eb"}
    checksums.check(stored, {path: jnp.asarray(array)})
    checksums.check(stored, {path: np.asfortranarray(array)})
    with pytest.raises(ValueError, match="damaged: the numbers of"):
        checksums.check(stored, {path: other})


@pytest.mark.parametrize("shape", [(), (0,), (2, 0)])
def test_arrays_of_any_size_have_one(shape):
    path = ("x",)
    array = np.zeros(shape, bool)
    checksums.check(checksums.of_arrays({path: array}), {path: array})
