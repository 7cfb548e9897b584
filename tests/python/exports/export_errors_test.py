"""What cannot be exported says why, and leaves nothing behind."""

import os
import sys

import jax
import keras
import numpy as np
import pytest

import flaxlayer
from flaxlayer import serving
from flaxlayer.exports import check
from tests.python.exports import exported_models as models


def built(call_fn):
    """A layer without weights, built for a batch of any length."""
    layer = flaxlayer.JaxLayer(
        lambda params, inputs: call_fn(inputs),
        lambda rng, inputs: {},
        inputs_spec=keras.KerasTensor((None, None, 3)),
        name="layer",
    )
    layer.build((None, None, 3))
    return layer


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__(name="subclassed")
        self.layer = flaxlayer.FlaxLayer(models.Mean(), name="inner")
        self.dense = keras.layers.Dense(2)

    def call(self, x):
        return self.dense(x)


SPEC = keras.KerasTensor((None, 3))


@pytest.mark.parametrize(
    ("model", "arguments", "error", "message"),
    [
        (
            lambda: flaxlayer.FlaxLayer(models.Mean(), name="mean"),
            {},
            ValueError,
            "FlaxLayer 'mean' was never built",
        ),
        (
            lambda: [models.of_nnx()],
            {},
            TypeError,
            "takes a Keras layer or model, or a mapping .*of type list",
        ),
        (dict, {}, ValueError, "Received: an empty mapping"),
        (
            lambda: {"a/b": models.of_nnx()},
            {},
            ValueError,
            "letters, digits and underscores.* Received: 'a/b'",
        ),
        (
            lambda: {"a": models.of_nnx()},
            {"inputs": {"b": SPEC}},
            TypeError,
            r"a mapping from some of their names, \['a'\]",
        ),
        (
            models.of_nnx,
            {"platforms": "cpu"},
            ValueError,
            "`platforms` must be a sequence of some of",
        ),
        (
            models.of_nnx,
            {"platforms": ["gpu"]},
            ValueError,
            "`platforms` .*'cuda'.* Received: \\['gpu'\\]",
        ),
        (
            models.of_nnx,
            {"format": "pickle"},
            ValueError,
            "`format` must be one of .* Received: 'pickle'",
        ),
        (
            models.of_nnx,
            {"inputs": {"x": 3}},
            TypeError,
            "the inputs of FlaxLayer .*: `x` is neither an array nor",
        ),
        (
            models.of_nnx,
            {"inputs": jax.ShapeDtypeStruct(("a b", 3), "float32")},
            ValueError,
            "must be a Python identifier .* Received: 'a b'",
        ),
        (
            lambda: built(lambda x: {3: x}),
            {},
            ValueError,
            "cannot be exported .*: `output` is a dict with keys that are not",
        ),
        (
            # Only a length that is known can be counted.
            lambda: built(lambda x: sum(x[:, i] for i in range(x.shape[1]))),
            {},
            ValueError,
            r"(?s)JaxLayer 'layer' cannot be exported .*The sizes "
            r"\['batch', 'inputs_1'\] are not known.*Export it with `inputs=`",
        ),
        (
            lambda: built(lambda x: x @ x[0, 0, 0]),
            {},
            ValueError,
            r"cannot be exported for the inputs inputs: float32\[batch, inputs",
        ),
        (
            lambda: built(
                lambda x: jax.pure_callback(np.sin, x[0, 0], x[0, 0])
            ),
            {},
            ValueError,
            r"for the platforms \['cpu'\]: it calls back to Python",
        ),
    ],
)
def test_what_cannot_be_exported(model, arguments, error, message, tmp_path):
    with pytest.raises(error, match=message):
        flaxlayer.export(model(), tmp_path / "m", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_layer_within_that_was_never_built(tmp_path):
    model = Subclassed()
    with pytest.warns(UserWarning, match="looks like it has unbuilt state"):
        model(np.ones((1, 3), np.float32))
    with pytest.raises(ValueError, match="FlaxLayer 'inner' was never built"):
        flaxlayer.export(model, tmp_path / "m")


def test_inputs_that_are_not_known_may_be_given(tmp_path):
    dense = keras.layers.Dense(2)
    dense.build((None, 3))
    with pytest.raises(ValueError, match="inputs of Dense .* are not known"):
        flaxlayer.export(dense, tmp_path / "m")
    flaxlayer.export(dense, tmp_path / "m", inputs=SPEC, check=False)
    served = serving.load(tmp_path / "m")
    x = models.data(2, 3)
    np.testing.assert_array_equal(served(x), dense(x))


def test_sizes_may_be_given_names(tmp_path):
    # The length of one input is twice that of the other.
    layer = built(lambda x: x[:, ::2] + x[:, : x.shape[1] // 2])
    spec = jax.ShapeDtypeStruct(("batch", 8, 3), "float32")
    flaxlayer.export(layer, tmp_path / "m", inputs=spec, check=False)
    served = serving.load(tmp_path / "m")
    assert served.endpoints["serve"].inputs[0].shape == ("batch", 8, 3)


def test_what_is_there_is_not_replaced(tmp_path):
    path = tmp_path / "m"
    layer = models.of_nnx()
    flaxlayer.export(layer, path, check=False)
    with pytest.raises(FileExistsError, match="Pass `overwrite=True`"):
        flaxlayer.export(layer, path)
    flaxlayer.export(layer, path, overwrite=True, check=False)
    other = tmp_path / "other"
    other.mkdir()
    (other / "file").touch()
    with pytest.raises(FileExistsError, match="no export is in"):
        flaxlayer.export(layer, other, overwrite=True)
    assert {file.name for file in tmp_path.iterdir()} == {"m", "other"}


def test_a_file_is_not_replaced_by_a_folder(tmp_path):
    path = tmp_path / "model.keras"
    path.write_text("kept")
    with pytest.raises(FileExistsError, match="is no folder, as 'stablehlo'"):
        flaxlayer.export(models.of_nnx(), path, overwrite=True)
    assert path.read_text() == "kept"


def test_a_mode_is_no_input(tmp_path):
    inputs = flaxlayer.CallArguments(SPEC, training=True)
    with pytest.raises(ValueError, match="have `training`, which is always"):
        flaxlayer.export(models.of_nnx(), tmp_path / "m", inputs=inputs)


def test_a_folder_with_more_in_it_is_not_replaced(tmp_path):
    path = tmp_path / "m"
    layer = models.of_nnx()
    flaxlayer.export(layer, path, check=False)
    (path / "notes").touch()
    with pytest.raises(FileExistsError, match=r"than an export.*\['notes'\]"):
        flaxlayer.export(layer, path, overwrite=True)
    assert (path / "notes").exists()


def test_what_cannot_be_replaced_stays(tmp_path, monkeypatch):
    path = tmp_path / "m"
    flaxlayer.export(models.of_nnx(), path, check=False)
    before = (path / "signature.json").read_bytes()
    rename = os.rename

    def fails(old, new):
        if os.path.basename(old) == os.path.basename(new) == "m":
            raise OSError("no space")
        rename(old, new)

    monkeypatch.setattr(os, "rename", fails)
    with pytest.raises(OSError, match="no space"):
        flaxlayer.export(models.masked(), path, check=False, overwrite=True)
    assert (path / "signature.json").read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def changed(monkeypatch, endpoints):
    """Has the check expect other numbers than the model computes."""
    compute = check._calls

    def calls(*args):
        found = compute(*args)
        found[-1].expected[0] = found[-1].expected[0] + np.float32(1e-4)
        return found

    monkeypatch.setattr(check, "_calls", calls)


def test_what_computes_something_else_is_not_left(tmp_path, monkeypatch):
    changed(monkeypatch, None)
    layer = models.of_nnx()
    with pytest.raises(
        check.CheckFailed,
        match=r"the output 'output' is not what it is here, for batch=8. "
        r"Expected a difference of at most 0e\+00. Received: \d\.\de-0",
    ):
        flaxlayer.export(layer, tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_what_its_reader_cannot_load_is_not_left(tmp_path, monkeypatch):
    from flaxlayer.serving import signature

    monkeypatch.setattr(signature, "VERSION", 2)
    with pytest.raises(
        check.CheckFailed, match='could not be loaded .* "version" must be'
    ):
        flaxlayer.export(models.of_nnx(), tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("format", "extra", "package"),
    [
        ("tf_saved_model", "tensorflow", "tensorflow"),
        ("onnx", "onnx", "jax2onnx"),
    ],
)
def test_what_is_not_installed_is_named(
    format, extra, package, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        ImportError,
        match=rf"needs the package '{package}'"
        rf".* `pip install 'flaxlayer\[{extra}\]'`",
    ):
        flaxlayer.export(models.of_nnx(), tmp_path / "m", format=format)
    assert list(tmp_path.iterdir()) == []
