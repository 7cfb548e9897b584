"""Files that are damaged, of something else, or made to do harm."""

import gc
import json
import logging
import os
import shutil
import struct

import flax
import flax.linen as nn
import msgpack
import numpy as np
import orbax.checkpoint as ocp
import pytest
import safetensors.numpy

from flaxlayer import FlaxLayer, JaxLayer, load_variables, save_variables
from flaxlayer.checkpoints import orbax_directory

# What a failed read of Orbax leaves for the garbage collector complains of it.
pytestmark = [
    pytest.mark.filterwarnings(
        "ignore::pytest.PytestUnraisableExceptionWarning"
    ),
    pytest.mark.usefixtures("collected"),
]


class Net(nn.Module):
    @nn.compact
    def __call__(self, inputs):
        return nn.Dense(2)(inputs)


KERNEL = np.ones((3, 2), np.float32)
BIAS = np.ones(2, np.float32)


@pytest.fixture
def layer():
    layer = FlaxLayer(Net(), seed=1, name="probe")
    layer.build((None, 3))
    return layer


def refused(layer, path, problem, **kwargs):
    """Loading raises a ValueError and leaves the layer as it was."""
    before = [v.value for v in layer.weights]
    with pytest.raises(ValueError, match="nothing was assigned") as error:
        load_variables(layer, path, **kwargs)
    message = str(error.value)
    assert "FlaxLayer 'probe'" in message
    assert repr(str(path)) in message
    with pytest.raises(ValueError, match=problem):
        raise error.value
    for variable, value in zip(layer.weights, before, strict=True):
        assert variable.value is value


# msgpack.


def array(code, shape, dtype, data):
    return msgpack.ExtType(code, msgpack.packb((shape, dtype, data)))


def with_kernel(kernel):
    return msgpack.packb(
        {"params": {"Dense_0": {"kernel": kernel, "bias": [1.0, 2.0]}}}
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"text",
        msgpack.packb([1, 2]),
        msgpack.packb(None),
        with_kernel(msgpack.ExtType(1, b"\xc1")),
        with_kernel(array(1, (3, 2), "float32", b"short")),
        with_kernel(array(1, (2**40, 2**20), "float32", bytes(24))),
        with_kernel(array(1, (3, 2), "O", bytes(48))),
        with_kernel(array(1, (3, 2), "no dtype", bytes(24))),
        with_kernel({"__msgpack_chunked_array__": True}),
        with_kernel(
            {
                "__msgpack_chunked_array__": True,
                "shape": {"0": 2**60},
                "chunks": {"0": 1},
            }
        ),
        b"\xdd\xff\xff\xff\xff",  # A list of 2**32 - 1 items.
        b"\xc6\xff\xff\xff\xff",  # As many bytes.
        b"\x81\xa1x" * 100_000 + b"\xc0",  # Nested as deep as that.
        b"\x91" * 500 + b"\xc0",
    ],
)
def test_a_msgpack_file_of_something_else_is_refused(layer, tmp_path, data):
    path = tmp_path / "weights.msgpack"
    path.write_bytes(data)
    refused(layer, path, "expected a file of `flax.serialization`")


@pytest.mark.parametrize(
    ("kernel", "problem"),
    [
        (msgpack.ExtType(77, b"unknown"), "kernel/1`: expected an array"),
        # Flax and NumPy take -1 for what is left.
        (array(1, (-1, 2), "float32", bytes(24)), "missing: .*/bias`"),
        (array(1, (3, 2), "U4", bytes(96)), "kernel`: expected an array"),
        ("text", "kernel`: expected an array, received 'text'"),
        (None, "kernel`: expected an array, received None"),
    ],
)
def test_what_is_no_kernel_is_refused(layer, tmp_path, kernel, problem):
    path = tmp_path / "weights.msgpack"
    path.write_bytes(with_kernel(kernel))
    refused(layer, path, problem)


@pytest.mark.parametrize("levels", [1000, 100_000])
def test_dicts_that_are_too_deep_are_named(layer, tmp_path, levels):
    path = tmp_path / "weights.msgpack"
    path.write_bytes(b"\x81\xa1x" * levels + b"\xc0")
    refused(layer, path, "it holds dicts or lists in each other, too deep")


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (safetensors.numpy.save({"a": BIAS}), "to end in `.safetensors`"),
        (b"\x89HDF\r\n\x1a\n", "HDF5 file; read it with `load_weights`"),
        (b"PK\x03\x04", "`load_model` reads a `.keras` file"),
    ],
)
def test_a_file_of_another_format_is_named(layer, tmp_path, data, problem):
    path = tmp_path / "weights.msgpack"
    path.write_bytes(data)
    refused(layer, path, problem)


def test_keys_that_read_the_same_are_refused(layer, tmp_path):
    path = tmp_path / "weights.msgpack"
    data = {"params": {"a/b": 1.0, "a": {"b": 2.0}}}
    path.write_bytes(msgpack.packb(data))
    refused(layer, path, "`params/a/b` is there twice")


def test_a_number_is_no_array_of_that_shape(layer, tmp_path):
    path = tmp_path / "weights.msgpack"
    path.write_bytes(
        msgpack.packb({"params": {"Dense_0": {"kernel": 1.0, "bias": 2.0}}})
    )
    refused(layer, path, r"kernel`: expected shape \(3, 2\), received \(\)")


# safetensors.


def tensors_file(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(start, end, shape=(3, 2), dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


NAME = "params.Dense_0.kernel"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00" * 7,
        b"\xff" * 8,
        struct.pack("<Q", 2**62),
        tensors_file(b"{"),
        tensors_file(b"[" * 100_000),
        tensors_file({NAME: tensor(0, 24)}, bytes(23)),
        tensors_file({NAME: tensor(0, 24)}, bytes(25)),
        tensors_file({NAME: tensor(8, 32)}, bytes(32)),
        tensors_file({NAME: tensor(0, 24, shape=(2**40, 2**40))}, bytes(24)),
        tensors_file({NAME: tensor(0, 24, shape=(-3, -2))}, bytes(24)),
        tensors_file({NAME: tensor(0, 24, dtype="O")}, bytes(24)),
        tensors_file({NAME: tensor(0, 24), "other": tensor(0, 24)}, bytes(24)),
        tensors_file({NAME: "text"}),
    ],
)
def test_a_safetensors_file_of_something_else_is_refused(layer, tmp_path, data):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(data)
    refused(layer, path, "expected a safetensors file")


def test_a_safetensors_file_of_nothing_is_refused(layer, tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(tensors_file({}))
    refused(layer, path, "missing: `params/Dense_0/bias`, .*/kernel`")


def test_names_that_stand_for_one_path_are_refused(layer, tmp_path):
    path = tmp_path / "weights.safetensors"
    safetensors.numpy.save_file({"params.%": BIAS, "params.%25": BIAS}, path)
    refused(layer, path, "`params/%` is there twice")


# Orbax.

UNREADABLE = "expected a readable directory of Orbax"


@pytest.fixture
def directory(layer, tmp_path):
    save_variables(layer, tmp_path / "weights")
    return tmp_path / "weights"


def edit_metadata(directory, edit):
    path = directory / "_METADATA"
    path.write_text(edit(path.read_text()))


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: "",
        lambda text: "[]",
        lambda text: "{}",
        lambda text: text[: len(text) // 2],
        lambda text: text.replace('"key_type": 2', '"key_type": 99'),
        lambda text: text.replace("kernel", "../../kernel"),
        lambda text: text.replace('"key": "kernel"', '"key": ".."'),
        lambda text: text.replace('"key": "kernel"', '"key": ""'),
        lambda text: text.replace("jax.Array", "builtins.eval"),
    ],
)
def test_a_directory_with_a_damaged_description_is_refused(
    layer, directory, edit
):
    rename = {r".*(kernel|bias)": r"params/Dense_0/\1"}
    load_variables(layer, directory, rename=rename)
    edit_metadata(directory, edit)
    refused(layer, directory, UNREADABLE, rename=rename)


@pytest.mark.parametrize("step", ["..", "."])
def test_a_directory_that_names_what_is_outside_of_it_is_refused(
    layer, tmp_path, step
):
    # A database takes any name; folders would not.
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "w", {"params": {step: np.ones(3)}})
    problem = f"names `params/{step}`, which is no path in it"
    refused(layer, tmp_path / "w", problem)


def files_of(directory):
    return sorted(
        os.path.join(folder, name)
        for folder, _, names in os.walk(directory)
        for name in names
    )


def test_a_directory_whose_data_are_damaged_is_refused(layer, directory):
    data = [p for p in files_of(directory) if f"{os.sep}d{os.sep}" in p]
    assert data
    for path in data:
        with open(path, "r+b") as file:
            file.truncate(os.path.getsize(path) // 2)
    refused(layer, directory, UNREADABLE)


def test_one_error_is_told_of_arrays_that_are_read_side_by_side(
    tmp_path, caplog
):
    # What is small when compressed is written beside the names.
    rng = np.random.default_rng(0)
    arrays = {f"x{i}": rng.random((64, 64), "float32") for i in range(8)}
    layer = JaxLayer(lambda params, inputs: inputs, params=arrays)
    layer.build((None, 64))
    save_variables(layer, tmp_path / "weights")
    files = files_of(tmp_path / "weights")
    data = [p for p in files if f"process_0{os.sep}d{os.sep}" in p]
    assert data
    for path in data:
        os.unlink(path)
    with pytest.raises(ValueError, match=r"Orbax: .*params\.x\d"):
        load_variables(layer, tmp_path / "weights")
    gc.collect()
    assert not caplog.records


def test_what_gathers_the_reads_tells_nothing_either(caplog):
    # Whether asyncio finds it to be told at all is a matter of time.
    reading = compile("raise OSError", "/lib/orbax/reading.py", "exec")
    logger = logging.getLogger("asyncio")
    with orbax_directory._one_error():
        try:
            exec(reading)
        except OSError:
            logger.exception("_GatheringFuture exception was never retrieved")
        logger.error("of something else")
    assert [record.msg for record in caplog.records] == ["of something else"]


def test_a_directory_whose_data_are_gone_is_refused(layer, directory):
    for path in files_of(directory):
        if os.path.basename(path) != "_METADATA":
            os.unlink(path)
    refused(layer, directory, UNREADABLE)


def test_a_directory_without_its_arrays_is_refused(layer, directory):
    shutil.rmtree(directory / "d")
    refused(layer, directory, f"{UNREADABLE}: ValueError: arrays are not there")


def test_a_directory_of_something_else_is_refused(layer, tmp_path):
    (tmp_path / "other").mkdir()
    refused(layer, tmp_path / "other", "expected a directory of Orbax")
    (tmp_path / "file").write_text("text")
    refused(layer, tmp_path / "file", r"has to end in `.msgpack` or")


# Any format.


@pytest.fixture(params=["weights.msgpack", "weights.safetensors"])
def file(request, layer, tmp_path):
    save_variables(layer, tmp_path / request.param)
    return tmp_path / request.param


def test_a_file_cut_short_anywhere_is_refused(layer, file):
    data = file.read_bytes()
    for size in range(0, len(data), 7):
        file.write_bytes(data[:size])
        refused(layer, file, "expected a (safetensors )?file( of `flax)?")


def test_a_file_with_a_flipped_byte_is_read_or_refused(layer, file):
    data = file.read_bytes()
    saved = [np.array(v.value, copy=True).view("u4") for v in layer.weights]
    altered = 0

    def load_original():
        file.write_bytes(data)
        load_variables(layer, file)

    rng = np.random.default_rng(0)
    for position in rng.integers(0, len(data), 200):
        damaged = bytearray(data)
        damaged[position] ^= int(rng.integers(1, 256))
        file.write_bytes(damaged)
        try:
            load_variables(layer, file)
        except ValueError:
            refused(layer, file, "expected|missing|unexpected|is damaged")
        else:
            # One number is another one.
            changed = sum(
                int(np.sum(np.array(v.value).view("u4") != x))
                for v, x in zip(layer.weights, saved, strict=True)
            )
            assert changed <= 1
            altered += changed
            load_original()
    # Which the one format has checksums for, and the other cannot tell.
    assert (altered > 0) == (file.suffix == ".msgpack")


def test_a_file_too_large_for_the_layer_is_not_read(layer, file):
    with open(file, "r+b") as opened:
        opened.truncate(1 << 40)  # Takes no place on the disk.
    refused(layer, file, "bytes, too many for the 8 numbers")


def test_a_directory_in_place_of_a_file_is_refused(layer, tmp_path):
    (tmp_path / "weights.msgpack").mkdir()
    refused(layer, tmp_path / "weights.msgpack", "received a directory")


def test_a_pipe_in_place_of_a_file_is_not_waited_for(layer, tmp_path):
    os.mkfifo(tmp_path / "weights.msgpack")
    refused(layer, tmp_path / "weights.msgpack", "received a special file")


@pytest.mark.parametrize("path", [None, 3, b"weights.msgpack"])
@pytest.mark.parametrize("function", [save_variables, load_variables])
def test_a_path_is_a_string(layer, function, path):
    with pytest.raises(TypeError, match="'probe': expected a path") as error:
        function(layer, path)
    assert f"{path!r} (of type {type(path).__name__})" in str(error.value)


@pytest.mark.parametrize(
    ("params", "problem"),
    [
        ({"Dense_0": {"kernel": KERNEL}}, "missing: `params/Dense_0/bias`"),
        (
            {"Dense_0": {"kernel": KERNEL, "bias": BIAS, "more": BIAS}},
            "unexpected: `params/Dense_0/more`",
        ),
        (
            {"Dense_0": {"kernel": KERNEL.T, "bias": BIAS}},
            r"kernel`: expected shape \(3, 2\), received \(2, 3\)",
        ),
        (
            {"Dense_0": {"kernel": KERNEL, "bias": BIAS * 1j}},
            "bias`: expected values that float32 can hold",
        ),
    ],
)
def test_weights_of_another_module_are_refused(
    layer, tmp_path, params, problem
):
    data = flax.serialization.to_bytes({"params": params})
    (tmp_path / "weights.msgpack").write_bytes(data)
    refused(layer, tmp_path / "weights.msgpack", problem)
    other = FlaxLayer(Net(), variables={"params": params})
    save_variables(other, tmp_path / "weights")
    refused(layer, tmp_path / "weights", problem)


@pytest.mark.parametrize(
    ("rename", "problem"),
    [
        ({r".*": "params/x"}, "makes one path of two: `params/Dense_0/"),
        ({r"(": "x"}, "'\\(' is no regular expression"),
        ({r".*": r"\1"}, r"no replacement for '\.\*'"),
    ],
)
def test_renaming_that_cannot_be_is_refused(layer, file, rename, problem):
    refused(layer, file, problem, rename=rename)


@pytest.mark.parametrize("rename", [{r".*": 1}, [r".*"], "text"])
def test_renaming_takes_a_dict_of_strings(layer, file, rename):
    with pytest.raises(TypeError, match="`rename` must be a dict"):
        load_variables(layer, file, rename=rename)
