"""Loading exported models: what is refused, and what it takes to serve."""

import concurrent.futures
import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile

import jax
import numpy as np
import pytest

import flaxlayer
from flaxlayer import serving
from flaxlayer.serving import array_file
from flaxlayer.serving.signature import Array
from tests.python.exports import exported_models as models


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "model"
    flaxlayer.export(models.masked(), path, check=False)
    return path


@pytest.fixture
def copy(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "model")


def change(path, *keys, to):
    """Changes a value of the signature."""
    file = path / "signature.json"
    plain = json.loads(file.read_text())
    at = plain
    for key in keys[:-1]:
        at = at[key]
    at[keys[-1]] = to
    file.write_text(json.dumps(plain))


def record(path, name):
    """Has the signature say what is in a file now."""
    data = (path / name).read_bytes()
    change(path, "files", name, "size", to=len(data))
    digest = hashlib.sha256(data).hexdigest()
    change(path, "files", name, "sha256", to=digest)


SERVE = ("endpoints", "serve")


@pytest.mark.parametrize(
    ("keys", "to", "message"),
    [
        (("format",), "other", "\"format\" must be 'flaxlayer-stablehlo'"),
        (("version",), 2, '"version" must be 1, .* Received: 2'),
        (("endpoints",), {}, "endpoints must be at least one endpoint"),
        (("endpoints",), [1], r"endpoints must be an object. Received: \[1\]"),
        (("endpoints",), {"../x": {}}, "must be names of letters and digits"),
        ((*SERVE, "inputs"), {}, r"\['serve'\].inputs must be a list"),
        ((*SERVE, "inputs", 0, "shape"), [-1], "a number that is not negative"),
        ((*SERVE, "inputs", 0, "shape"), ["a-b"], "shape must be a number"),
        ((*SERVE, "inputs", 0, "shape"), [True], "shape must be a number"),
        ((*SERVE, "inputs", 0, "dtype"), "O,O", "the name of a dtype"),
        ((*SERVE, "arguments", "args"), [0, 0], "must be each input once"),
        ((*SERVE, "arguments", "args"), [{"set": []}], "description of a tree"),
        ((*SERVE, "arguments"), {}, "arguments must be args and kwargs"),
        ((*SERVE, "results"), 1, "results must be each output once"),
        ((*SERVE, "weights"), ["other"], "must be names of weights"),
        ((*SERVE, "state"), ["other"], "must be names of weights"),
        ((*SERVE, "handlers"), {"x": "1"}, r"handlers\['x'\] must be a number"),
        (("platforms",), ["tpu"], r"platforms \['tpu'\]. Received: 'cpu'"),
        (("platforms",), "cpu", "platforms must be a list of texts"),
        (("files", "weights.npz", "size"), 3, "must have 3 bytes. Received"),
        (("files", "weights.npz", "sha256"), "0" * 64, "is not what was writ"),
        (("files", "weights.npz", "sha256"), "0", "64 hexadecimal digits"),
        (
            ("files", "other"),
            {"sha256": "0" * 64, "size": 1},
            "must be the fil",
        ),
        (("weights",), {}, r"\['serve'\].weights must be names of weights"),
    ],
)
def test_a_signature_that_is_not_right_is_refused(copy, keys, to, message):
    change(copy, *keys, to=to)
    with pytest.raises(serving.BadExport, match=message) as raised:
        serving.load(copy)
    assert str(raised.value).startswith(f"{str(copy)!r} cannot be served: ")


def test_what_is_missing_is_named(copy):
    file = copy / "signature.json"
    plain = json.loads(file.read_text())
    for key in tuple(plain["endpoints"]["serve"]):
        text = json.loads(file.read_text())
        del text["endpoints"]["serve"][key]
        (copy / "signature.json").write_text(json.dumps(text))
        with pytest.raises(serving.BadExport, match=rf"\['serve'\].{key} must"):
            serving.load(copy)
        file.write_text(json.dumps(plain))


@pytest.mark.parametrize("name", ["signature.json", "weights.npz"])
def test_what_is_no_file_is_refused(copy, name):
    (copy / name).unlink()
    os.mkfifo(copy / name)
    with pytest.raises(serving.BadExport, match=f"{name} is no file"):
        serving.load(copy)


def test_what_is_no_json_is_refused(copy):
    for text in ("[" * 100_000, "{", '{"format": NaN}', "[]"):
        (copy / "signature.json").write_text(text)
        with pytest.raises(serving.BadExport, match="signature.json"):
            serving.load(copy)
    (copy / "signature.json").write_bytes(b"\xff")
    with pytest.raises(serving.BadExport, match="is no text"):
        serving.load(copy)
    (copy / "signature.json").unlink()
    with pytest.raises(serving.BadExport, match="signature.json cannot be rea"):
        serving.load(copy)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        serving.load(copy / "other")


def test_a_program_of_other_arrays_is_refused(copy):
    change(copy, *SERVE, "inputs", 0, "shape", to=["batch", "x_1", 4])
    with pytest.raises(serving.BadExport, match="takes other arrays than") as e:
        serving.load(copy)
    assert "(['batch', 'x_1', '4'], 'float32')" in str(e.value)


def test_a_program_that_jax_does_not_read_is_refused(copy):
    (copy / "serve.jax_export").write_bytes(b"no program")
    record(copy, "serve.jax_export")
    with pytest.raises(serving.BadExport, match="cannot be read by JAX") as e:
        serving.load(copy)
    assert "It was written by JAX 0." in str(e.value)


def test_a_handler_of_another_version_is_refused(copy, native_kernels):
    change(copy, *SERVE, "handlers", to={"flaxlayer_rng_fold": 2})
    with pytest.raises(serving.BadExport, match="version 2 of the native") as e:
        serving.load(copy)
    assert "Received: version 1, which this flaxlayer has" in str(e.value)
    change(copy, *SERVE, "handlers", to={"flaxlayer_rng_fold": 1})
    serving.load(copy)


def test_without_handlers_a_program_that_calls_some_is_refused(
    copy, monkeypatch
):
    from flaxlayer.ops import native

    change(copy, *SERVE, "handlers", to={"flaxlayer_rng_fold": 1})
    monkeypatch.setattr(native, "unavailable_reason", lambda _: "no compiler")
    with pytest.raises(serving.BadExport, match="cannot be used here: no comp"):
        serving.load(copy)


WEIGHT = Array("a/b", (2, 3), "bfloat16")
NUMBERS = np.arange(6).reshape(2, 3)


def test_arrays_come_back_in_dtypes_that_numpy_has_no_names_for(tmp_path):
    path = tmp_path / "w.npz"
    arrays = {
        "a/b": NUMBERS.astype("bfloat16"),
        "empty": np.zeros((0, 2), np.float32),
        "one": np.array(True),
        "small": NUMBERS.astype("float8_e4m3fn")[:, ::2],
        "turned": NUMBERS.T,
    }
    array_file.write(path, arrays)
    described = [Array(k, v.shape, v.dtype.name) for k, v in arrays.items()]
    read = array_file.read(path, described)
    assert list(read) == list(arrays)
    for name, array in arrays.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)
    again = tmp_path / "again.npz"
    array_file.write(again, arrays)
    assert again.read_bytes() == path.read_bytes()
    # NumPy alone reads it too.
    with np.load(path, allow_pickle=False) as file:
        np.testing.assert_array_equal(file["turned"], NUMBERS.T)


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        (Array("other", (2, 3), "bfloat16"), r"Differing: \['a/b', 'other'\]"),
        (Array("a/b", (3, 2), "bfloat16"), r"must be uint16\[3, 2\]"),
        (Array("a/b", (2, 3), "float16"), r"must be float16\[2, 3\]"),
        (Array("a/b", (10**9, 10**9), "int8"), "must have 1000000000000000000"),
        (Array("a/b", (2, 3), "object"), "must be one of numbers"),
        (Array("a/b", (2, 3), "float33"), "Received: 'float33'"),
        (Array("a/b", (2, 3), "str"), "must be one of numbers"),
    ],
)
def test_arrays_that_are_not_those_expected_are_refused(
    tmp_path, expected, message
):
    array_file.write(tmp_path / "w.npz", {"a/b": NUMBERS.astype("bfloat16")})
    with pytest.raises(serving.BadExport, match=message):
        array_file.read(tmp_path / "w.npz", [expected])


def test_pickles_and_what_is_compressed_are_refused(tmp_path):
    path, expected = tmp_path / "w.npz", Array("a", (1,), "int64")
    np.savez(path, a=np.array([print], object))
    with pytest.raises(serving.BadExport, match="w.npz"):
        array_file.read(path, [expected])
    np.savez_compressed(path, a=np.zeros(1, np.int64))
    with pytest.raises(serving.BadExport, match="which are not compressed"):
        array_file.read(path, [expected])
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a.npy", b"no array")
    with pytest.raises(serving.BadExport, match="w.npz"):
        array_file.read(path, [expected])
    # What NumPy reads as Python.
    for header in (b"(" * 8, b"-" * 4000 + b"1"):
        start = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little")
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("a.npy", start + header + bytes(8))
        with pytest.raises(serving.BadExport, match="w.npz cannot be read"):
            array_file.read(path, [expected])
    array_file.write(path, {"a": np.zeros(1, np.int64)})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1  # Encrypted.
    path.write_bytes(data)
    with pytest.raises(serving.BadExport, match="password"):
        array_file.read(path, [expected])
    path.write_bytes(b"no archive")
    with pytest.raises(serving.BadExport, match="w.npz cannot be read"):
        array_file.read(path, [expected])


X, MASK = models.data(2, 4, 3), np.ones((2, 4), bool)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda f: f(X), TypeError, "must have the keys"),
        (lambda f: f(X, mask=[MASK]), ValueError, r"shape \(1, 2, 4\)"),
        (lambda f: f((X, X), mask=MASK), TypeError, "must be an array. Receiv"),
        (lambda f: f(X, X, X), TypeError, "a list or tuple of 1. Received"),
        (lambda f: f(X[:, :3], mask=MASK), ValueError, "`x_1` is one size in"),
        (lambda f: f(X[:1], mask=MASK), ValueError, "1 in 'x' and 2 in 'mask'"),
        (lambda f: f(X[..., :2], mask=MASK), ValueError, r"\[batch, x_1, 3\]"),
        (lambda f: f(X[0], mask=MASK), ValueError, r"shape \(4, 3\)"),
        (lambda f: f(X[:0], mask=MASK[:0]), ValueError, r"shape \(0, 4, 3\)"),
        (lambda f: f(X, mask=MASK + 0.5), TypeError, "'mask' must be bool"),
        (lambda f: f(X + 1j, mask=MASK), TypeError, "dtype complex64"),
        (lambda f: f(None, mask=MASK), TypeError, "Received: None"),
        (lambda f: f.endpoints["serve"].flat([X]), TypeError, "takes 2 arrays"),
    ],
)
def test_arguments_that_are_not_those_of_the_model(whole, call, error, message):
    served = serving.load(whole)
    with pytest.raises(error, match=message):
        call(served)


def test_arguments_are_cast_where_nothing_is_lost(whole):
    served = serving.load(whole)
    expected = np.asarray(served(X, mask=MASK))
    wide = X.astype(np.float64)
    np.testing.assert_array_equal(served(wide, mask=MASK), expected)
    np.testing.assert_array_equal(served(X.tolist(), mask=MASK), expected)


def test_several_endpoints_are_called_by_name(tmp_path):
    layers = models.autoencoder()
    flaxlayer.export(layers, tmp_path / "m", check=False)
    served = serving.load(tmp_path / "m")
    with pytest.raises(TypeError, match=r"endpoints \['whole', 'encode', 'dec"):
        served(models.data(2, 4))


def test_calls_that_change_the_seed_come_one_after_the_other(tmp_path):
    flaxlayer.export(models.noisy(), tmp_path / "m", check=False)
    served, again = (serving.load(tmp_path / "m") for _ in range(2))
    x = models.data(1, 3)
    expected = {np.asarray(again(x)).tobytes() for _ in range(64)}
    assert len(expected) == 64
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        received = pool.map(lambda _: np.asarray(served(x)), range(64))
    assert {each.tobytes() for each in received} == expected


ALONE = """
import sys, time
import jax, numpy as np
jax.devices()
started = time.perf_counter()
import flaxlayer.serving
seconds = time.perf_counter() - started
served = flaxlayer.serving.load(sys.argv[1])
served(np.ones((2, 4, 3), np.float32), mask=np.ones((2, 4), bool))
for name in ("absl.testing", "flax", "keras", "optax", "orbax", "tensorflow"):
    assert name not in sys.modules, name
assert seconds < 1, seconds
"""


def test_calls_that_change_the_seed_are_not_traced(tmp_path):
    flaxlayer.export(models.noisy(), tmp_path / "m", check=False)
    served = serving.load(tmp_path / "m")
    x = models.data(2, 3)
    with pytest.raises(TypeError, match="changes the weights .* where JAX tra"):
        jax.jit(lambda x: served(x))(x)
    assert served(x).shape == x.shape


def test_serving_imports_neither_keras_nor_flax_in_less_than_a_second(whole):
    result = subprocess.run(
        [sys.executable, "-c", ALONE, str(whole)],
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
