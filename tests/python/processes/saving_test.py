"""Weights of several processes in files, and from files of one."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import keras
import numpy as np
import orbax.checkpoint as ocp
import pytest

import flaxlayer
from flaxlayer.checkpoints import processes
from tests.python import several_processes
from tests.python.processes import small_model

pytestmark = pytest.mark.usefixtures("on_cpu")

FILES = ("w.msgpack", "w.safetensors", "w")

SAVE = """
import errno, os
import numpy as np
import flaxlayer
from flaxlayer.checkpoints import orbax_directory, processes, whole_files
from tests.python.processes import small_model

folder, *files = sys.argv[1:]
process = jax.process_index()

def kernel(layer):
    return layer.params["params"]["up"]["kernel"].value

def weights(layer):
    return processes.gathered(
        {(str(i),): v.value for i, v in enumerate(layer.weights)}, shared=False
    ).values()

def check_same(one, other):
    for a, b in zip(weights(one), weights(other), strict=True):
        np.testing.assert_array_equal(a, b)

layer, model = small_model.made((2, 4), seed=1)
assert not kernel(layer).is_fully_addressable

# What one process has written that has one device.
for name in files:
    flaxlayer.load_variables(layer, f"{folder}/one/{name}")
    other, _ = small_model.made((1, 8), seed=2)
    flaxlayer.load_variables(other, f"{folder}/one/{name}")
    assert kernel(other).sharding.shard_shape((4, 8)) == (4, 1)
    check_same(layer, other)
model.load_weights(f"{folder}/one/m.weights.h5")

small_model.made((2, 4), seed=1)  # Sets the distribution.
small_model.fit(model)
expected = small_model.everything(model)
for name in files:
    path = f"{folder}/two/{name}"
    flaxlayer.save_variables(layer, path)
    try:
        flaxlayer.save_variables(layer, path)
        raise SystemExit("written over")
    except FileExistsError as error:
        assert "'net'" in str(error)
    flaxlayer.save_variables(layer, path, overwrite=True)
    other, _ = small_model.made((2, 4), ("model", None), seed=2)
    flaxlayer.load_variables(other, path)
    check_same(layer, other)
for name in ["m.keras", "m.weights.h5"]:
    flaxlayer.save_model(model, f"{folder}/two/{name}")

# Each wrote its parts; of a file no process but one had the whole.
parts = os.listdir(f"{folder}/two/w")
assert {"ocdbt.process_0", "ocdbt.process_1"} <= set(parts), parts
values = {path: v.value for path, v in layer._weights.by_path().items()}
assert len(processes.gathered(values, shared=True)) == (
    len(values) if process == 0 else 0
)

# While the program goes on.
small_model.made((2, 4), seed=1)
pending = [
    flaxlayer.save_variables(layer, f"{folder}/later/{name}", block=False)
    for name in files
]
checkpoint = flaxlayer.ModelCheckpoint(
    f"{folder}/later/m.weights.h5", save_weights_only=True
)
small_model.fit(model, callbacks=[checkpoint])
for save in pending:
    save.wait()
assert os.path.exists(f"{folder}/later/m.weights.h5")

# What fails in one process does not leave the other waiting.
def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")

def check_raises(kind, message, function, *args, **kwargs):
    try:
        function(*args, **kwargs)
    except kind as error:
        assert message in str(error), error
        if process == 1:
            assert "in process 0 of 2" in str(error), error
    else:
        raise SystemExit("nothing raised")

if process == 0:
    whole_files.put_in_place = orbax_directory._put_in_place = full
    os.replace = full
for name in ["n.msgpack", "n.safetensors", "n"]:
    check_raises(
        OSError, "No space left", flaxlayer.save_variables, layer,
        f"{folder}/two/{name}",
    )
check_raises(
    OSError, "No space left", flaxlayer.save_model, model,
    f"{folder}/two/n.keras",
)
missing = f"{folder}/missing/w" if process == 0 else f"{folder}/two/w"
check_raises(
    FileNotFoundError, "nothing at", flaxlayer.load_variables, layer, missing
)
if process == 0:
    np.savez(f"{folder}/expected.npz", *expected)
print(*sorted(os.listdir(f"{folder}/two")))
"""

LOAD = """
import keras, numpy as np
import flaxlayer
from tests.python.processes import small_model

folder, *files = sys.argv[1:]
expected = list(np.load(f"{folder}/expected.npz").values())
for name in files:
    layer, _ = small_model.made((2, 2), ("model", None), seed=3)
    flaxlayer.load_variables(layer, f"{folder}/two/{name}")
    kernel = layer.params["params"]["up"]["kernel"].value
    assert kernel.sharding.shard_shape((4, 8)) == (2, 8)
    flaxlayer.save_variables(layer, f"{folder}/four/{name}")
_, model = small_model.made((2, 2), ("model", None), seed=3)
model.load_weights(f"{folder}/two/m.weights.h5")
found = small_model.everything(model)
for a, b in zip(found[: len(model.variables)], expected):
    np.testing.assert_array_equal(a, b)
print("loaded")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What two processes have written that have eight devices."""
    folder = tmp_path_factory.mktemp("weights")
    for name in ("one", "two", "later", "four"):
        (folder / name).mkdir()
    layer, model = small_model.made(seed=9)
    for name in FILES:
        flaxlayer.save_variables(layer, folder / "one" / name)
    model.save_weights(folder / "one" / "m.weights.h5")
    outputs = several_processes.outputs_of(SAVE, folder, *FILES, devices=4)
    # A save that has failed has left nothing.
    expected = sorted([*FILES, "m.keras", "m.weights.h5"])
    assert outputs == [expected, expected]
    return folder


@pytest.fixture(scope="module")
def expected(folder):
    return list(np.load(folder / "expected.npz").values())


def check_loaded(layer, path, expected):
    flaxlayer.load_variables(layer, path)
    for variable, value in zip(layer.weights, expected, strict=False):
        np.testing.assert_array_equal(variable, value)


def test_one_process_reads_what_two_have_written(folder, expected):
    for name in FILES:
        layer, _ = small_model.made(seed=5)
        check_loaded(layer, folder / "two" / name, expected)
        check_loaded(layer, folder / "later" / name, expected)


def test_a_model_file_has_the_optimizer_too(folder, expected):
    model = keras.models.load_model(
        folder / "two" / "m.keras", custom_objects={"Net": small_model.Net}
    )
    found = small_model.everything(model)
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_eight_devices_write_what_four_read_and_four_what_one_reads(
    folder, expected
):
    outputs = several_processes.outputs_of(
        LOAD, folder, *FILES, processes=1, devices=4
    )
    assert outputs == [["loaded"]]
    for name in FILES:
        layer, _ = small_model.made(seed=5)
        check_loaded(layer, folder / "four" / name, expected)


def test_arrays_that_all_processes_have_whole_have_checksums(folder):
    handler = ocp.StandardCheckpointHandler()
    stored = handler.metadata(folder / "two" / "w").custom_metadata
    with_checksums = set(stored["flaxlayer.crc32"])
    assert "params.down.kernel" in with_checksums
    # None of the two has all of it.
    assert "params.up.kernel" not in with_checksums


def test_arrays_of_some_of_the_processes_are_not_saved(monkeypatch):
    device_set = [SimpleNamespace(process_index=i) for i in (0, 2)]
    array = SimpleNamespace(
        is_fully_addressable=False,
        sharding=SimpleNamespace(device_set=device_set),
    )
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    with pytest.raises(ValueError, match=r"over the processes \[0, 2\] of 3"):
        processes.together([jnp.ones(2), array])
    assert not processes.together([jnp.ones(2)])
