"""ONNX files: what onnxruntime makes of models."""

import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest

import flaxlayer
from flaxlayer.exports import check
from tests.python.exports import exported_models as models

KINDS = {
    "images": models.images,
    "tokens": models.tokens,
    "masked": models.masked,
    "added": models.added,
    "nnx": models.of_nnx,
    "recurrent": models.recurrent,
    "step": lambda: models.decoder()[0],
}


def export(model, path, **arguments):
    return flaxlayer.export(model, path, format="onnx", **arguments)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_computes_the_same_in_onnxruntime(kind, tmp_path):
    inputs = models.decoder()[2] if kind == "step" else None
    report = export(KINDS[kind](), tmp_path / "m.onnx", inputs=inputs)
    assert report.reader == f"onnxruntime {onnxruntime.__version__}"
    assert len(report.compared) == 3
    assert all(each.difference <= 1e-5 for each in report.compared)
    assert {each.tolerance for each in report.compared} == {1e-5}
    assert str(report).startswith(f"{tmp_path / 'm.onnx'}: onnx, ")


def test_inputs_and_outputs_have_their_names(tmp_path):
    model = models.added()
    export(model, tmp_path / "m.onnx", check=False)
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    taken = {i.name: i.shape for i in session.get_inputs()}
    shape = ["batch", "size_1", 3]
    assert taken == {"second": shape, "first": shape}
    x = {k: models.data(2, 4, 3, seed=i) for i, k in enumerate(taken)}
    received = session.run(["output_0", "output_1"], x)
    for a, b in zip(received, model.predict(x, verbose=0), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_what_the_format_has_no_word_for(tmp_path):
    path = tmp_path / "m.onnx"
    with pytest.raises(ValueError, match=r"one function. Received: .*'whole'"):
        export(models.autoencoder(), path)
    with pytest.raises(ValueError, match="a call changes .*seed_generator_st"):
        export(models.noisy(), path)
    with pytest.raises(ValueError, match="is for no platform"):
        export(models.of_nnx(), path, platforms=["cpu"])
    sorting = flaxlayer.JaxLayer(
        lambda params, inputs: jnp.linalg.svd(inputs)[1],
        lambda rng, inputs: {},
        name="svd",
    )
    sorting.build((None, 3, 3))
    with pytest.raises(ValueError, match="JaxLayer 'svd' cannot be exported"):
        export(sorting, path)
    assert list(tmp_path.iterdir()) == []


def test_what_onnxruntime_has_no_code_for_is_not_left(tmp_path):
    with pytest.raises(check.CheckFailed, match="NOT_IMPLEMENTED"):
        export(models.pair(), tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []
