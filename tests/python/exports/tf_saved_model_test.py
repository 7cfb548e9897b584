"""SavedModels: what TensorFlow makes of models, and which it can read."""

import jax
import keras
import numpy as np
import pytest
import tensorflow as tf

import flaxlayer
from flaxlayer import jax_compat, tensorflow_compat
from flaxlayer.exports import check
from tests.python.exports import exported_models as models


@pytest.fixture(scope="module")
def layers():
    return models.of_all_kinds()


@pytest.fixture(scope="module")
def exported(layers, tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "models"
    _, _, specs = models.decoder()
    report = flaxlayer.export(
        layers, path, format="tf_saved_model", inputs={"step": specs}
    )
    return report, tf.saved_model.load(path)


def test_all_of_it_was_compared(exported, layers):
    report, _ = exported
    assert {each.endpoint for each in report.compared} == set(layers)
    for each in report.compared:
        narrow = each.endpoint == "pair"  # Has an output in bfloat16.
        assert each.tolerance == (4 * 2**-7 if narrow else 1e-5)
        assert each.difference <= each.tolerance
    assert report.reader == f"TensorFlow {tf.__version__}"
    assert report.platforms == ("cpu",)


def test_functions_take_arrays_in_the_model_s_order(exported, layers):
    _, loaded = exported
    second, first = models.data(3, 5, 3), models.data(3, 5, 3, seed=1)
    expected = layers["added"].predict(
        {"second": second, "first": first}, verbose=0
    )
    received = loaded.added(second, first)
    assert isinstance(received, list)
    for a, b in zip(received, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    received = loaded.pair(models.data(2, 4), models.data(2, 3), np.float32(2))
    assert received["each"][1].dtype == tf.bfloat16


def test_signatures_take_arrays_by_name(exported, layers):
    _, loaded = exported
    x, mask = models.data(3, 6, 3), np.ones((3, 6), bool)
    signature = loaded.signatures["masked"]
    received = signature(x=tf.constant(x), mask=tf.constant(mask))
    assert list(received) == ["output"]
    expected = layers["masked"](x, mask=mask)
    np.testing.assert_allclose(received["output"], expected, atol=1e-5)
    default = loaded.signatures["serving_default"]
    images = models.data(2, 8, 8, 1)
    (received,) = default(tf.constant(images)).values()
    expected = layers["images"].predict(images, verbose=0)
    np.testing.assert_allclose(received, expected, atol=1e-5)


def test_weights_stay_variables_and_are_stored_once(exported, layers):
    _, loaded = exported
    variables = {v.name.removesuffix(":0"): v for v in loaded.all_variables}
    (whole,) = (v for n, v in variables.items() if n.endswith("encoder/bias"))
    assert whole.trainable
    (mean,) = (
        v for n, v in variables.items() if n.endswith("BatchNorm_0/mean")
    )
    assert not mean.trainable
    x = models.data(2, 4)
    before = loaded.whole(x).numpy(), loaded.encode(x).numpy()
    whole.assign_add([1.0, 2.0])
    after = loaded.whole(x).numpy(), loaded.encode(x).numpy()
    np.testing.assert_allclose(after[1] - before[1], [[1, 2], [1, 2]], 1e-4)
    assert np.abs(after[0] - before[0]).max() > 1e-3


def test_what_changes_weights_is_refused(tmp_path):
    with pytest.raises(ValueError, match="a call changes .*seed_generator_st"):
        flaxlayer.export(
            models.noisy(), tmp_path / "m", format="tf_saved_model"
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["serving_default", "variables", "signatures"])
def test_names_that_mean_something_else_are_refused(name, tmp_path):
    ends = {"first": models.of_nnx(), name: models.of_nnx()}
    with pytest.raises(ValueError, match=f"under the name '{name}', which is"):
        flaxlayer.export(ends, tmp_path / "m", format="tf_saved_model")
    assert list(tmp_path.iterdir()) == []


def test_inputs_may_be_called_what_no_parameter_is(tmp_path):
    inputs = [keras.Input((2,), name=name) for name in ("from", "self", "1st")]
    model = keras.Model(inputs, inputs[0] - inputs[1] * inputs[2])
    flaxlayer.export(model, tmp_path / "m", format="tf_saved_model")
    signature = tf.saved_model.load(tmp_path / "m").signatures["serve"]
    _, taken = signature.structured_input_signature
    assert sorted(taken) == ["from_", "self_", "x1st"]


def test_what_tensorflow_has_no_code_for_is_named(tmp_path):
    layer = flaxlayer.JaxLayer(
        lambda params, inputs: jax.numpy.linalg.cholesky(inputs) * params,
        lambda rng, inputs: jax.random.normal(rng),
        seed=0,
    )
    layer.build((None, 2, 2))
    with pytest.raises(check.CheckFailed, match="handler .* lapack_spotrf_ffi"):
        flaxlayer.export(layer, tmp_path / "m", format="tf_saved_model")
    assert list(tmp_path.iterdir()) == []


class Knows:
    """TensorFlow, as one that knows a version of the calling convention."""

    def __init__(self, convention):
        self.call_module_maximum_supported_version = lambda: convention


def test_a_tensorflow_that_is_too_old_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(tensorflow_compat, "_xla", lambda: Knows(8))
    with pytest.raises(tensorflow_compat.NotReadable, match="up to version 8"):
        flaxlayer.export(
            models.of_nnx(), tmp_path / "m", format="tf_saved_model"
        )
    assert list(tmp_path.iterdir()) == []


def test_an_older_calling_convention_is_written_where_it_is_asked_for(
    monkeypatch,
):
    before = jax.config.jax_export_calling_convention_version
    monkeypatch.setattr(tensorflow_compat, "_xla", lambda: Knows(9))
    assert tensorflow_compat.calling_convention() == 9
    with jax_compat.calling_convention(9):
        program = jax.export.export(jax.jit(lambda x: x * 2))(
            jax.ShapeDtypeStruct((), np.float32)
        )
    assert program.calling_convention_version == 9
    assert jax.config.jax_export_calling_convention_version == before


@pytest.mark.filterwarnings("ignore:The `native_serialization` parameter")
def test_keras_exports_a_model_with_layers_in_it(tmp_path, layers):
    model = layers["images"]
    model.export(tmp_path / "m", format="tf_saved_model", verbose=False)
    x = models.data(3, 8, 8, 1)
    loaded = tf.saved_model.load(tmp_path / "m")
    np.testing.assert_allclose(
        loaded.serve(x), model.predict(x, verbose=0), atol=1e-5
    )
