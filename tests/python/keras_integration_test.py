"""A wrapped module does in Keras what any layer does."""

import copy
import pickle

import keras
import numpy as np
import pytest

from flaxlayer import FlaxLayer
from tests.python.keras_models import (
    RNG,
    Embedding,
    Linear,
    Net,
    X,
    Y,
    compiled,
    fit,
    same,
    values,
)

# Sequential models, and what fit does.


@pytest.fixture(scope="module")
def trained():
    """A model, its variables before, and the history of its training."""
    layer = FlaxLayer(Net(), seed=1)
    model = compiled(keras.Sequential([keras.Input((4,)), layer]))
    before = values(layer)
    return model, before, fit(model, epochs=4).history


def test_fit_lowers_the_loss(trained):
    losses = trained[2]["loss"]
    assert losses[-1] < 0.7 * losses[0]


def test_fit_changes_every_variable(trained):
    model, before, _ = trained
    after = values(model.layers[0])
    for old, new, variable in zip(
        before, after, model.layers[0].variables, strict=True
    ):
        assert not np.array_equal(old, new), variable.path


def test_fit_advances_the_seed_once_for_each_batch(trained):
    model, before, _ = trained
    state = model.layers[0].seed_generator.state.value
    assert int(state[1]) - int(before[-1][1]) == 4 * 2


def test_predict_and_evaluate_agree_with_a_call(trained):
    model = trained[0]
    outputs = np.array(model(X))
    np.testing.assert_allclose(
        model.predict(X, batch_size=8, verbose=0), outputs, rtol=1e-5
    )
    loss = model.evaluate(X, Y, batch_size=8, verbose=0)
    np.testing.assert_allclose(loss, np.mean((outputs - Y) ** 2), rtol=1e-4)


def test_inference_changes_no_variable(trained):
    model = trained[0]
    before = values(model)
    model(X)
    model.predict(X, batch_size=8, verbose=0)
    model.evaluate(X, Y, batch_size=8, verbose=0)
    assert same(values(model), before)


def test_train_on_batch_is_a_step():
    layer = FlaxLayer(Linear(), seed=1)
    model = compiled(keras.Sequential([layer]))
    losses = [float(model.train_on_batch(X, Y)) for _ in range(3)]
    assert losses[0] > losses[1] > losses[2]
    assert model.built
    assert float(model.test_on_batch(X, Y)) < losses[0]


def test_set_random_seed_reproduces_a_training():
    def run():
        keras.utils.set_random_seed(7)
        model = compiled(keras.Sequential([FlaxLayer(Net())]))
        losses = fit(model).history["loss"]
        return losses, values(model)

    (losses, first), (again, second) = run(), run()
    assert losses == again
    assert same(first, second)


def test_callbacks_see_and_restore_the_weights(tmp_path):
    layer = FlaxLayer(Linear(), seed=1)
    model = compiled(keras.Sequential([keras.Input((4,)), layer]))
    path = str(tmp_path / "{epoch}.weights.h5")
    seen = []
    fit(
        model,
        epochs=2,
        callbacks=[
            keras.callbacks.ModelCheckpoint(path, save_weights_only=True),
            keras.callbacks.LambdaCallback(
                on_epoch_end=lambda epoch, logs: seen.append(values(layer))
            ),
        ],
    )
    model.load_weights(path.format(epoch=1))
    assert same(values(layer), seen[0])
    assert not same(seen[0], seen[1])


# Functional models.


def test_a_functional_model_knows_its_shapes():
    inputs = keras.Input((4,))
    outputs = FlaxLayer(Net())(inputs)
    assert outputs.shape == (None, 2)
    assert outputs.dtype == "float32"
    model = keras.Model(inputs, outputs)
    assert model.count_params() == 4 * 2 + 2 + 4 * 4
    assert model(X).shape == (16, 2)


def test_dicts_in_and_tuples_out_are_trained():
    def two_heads(module, inputs):
        outputs = module(inputs["a"] + inputs["b"])
        return outputs, outputs.sum(-1)

    inputs = {name: keras.Input((4,), name=name) for name in "ab"}
    layer = FlaxLayer(Linear(), method=two_heads, seed=0)
    model = keras.Model(inputs, layer(inputs))
    assert list(model.output_shape) == [(None, 2), (None,)]
    model.compile(keras.optimizers.SGD(0.01), ["mse", "mse"])
    x = {"a": X, "b": X}
    first = model.train_on_batch(x, (Y, Y.sum(-1)))
    second = model.train_on_batch(x, (Y, Y.sum(-1)))
    assert second[0] < first[0]


def test_a_layer_is_shared_between_inputs():
    layer = FlaxLayer(Linear(), seed=0)
    left, right = keras.Input((4,)), keras.Input((4,))
    model = keras.Model([left, right], layer(left) - layer(right))
    assert len(model.weights) == 2
    np.testing.assert_allclose(model([X, X]), np.zeros((16, 2)), atol=1e-6)
    np.testing.assert_allclose(
        model([X, 0 * X]), X @ np.array(layer.weights[1].value), atol=1e-5
    )


def test_models_nest():
    inner = keras.Sequential([keras.Input((4,)), FlaxLayer(Net(3), seed=0)])
    inputs = keras.Input((4,))
    outputs = FlaxLayer(Linear(2), seed=1)(inner(inputs))
    outer = compiled(keras.Model(inputs, outputs))
    before = values(inner)
    fit(outer)
    assert not any(
        np.array_equal(a, b) for a, b in zip(before, values(inner), strict=True)
    )
    assert len(outer.trainable_weights) == 6


def test_integer_inputs_reach_the_module_as_integers():
    ids = RNG.integers(0, 10, (16, 5))
    inputs = keras.Input((None,), dtype="int32")
    layer = FlaxLayer(Embedding(), seed=0)
    model = compiled(keras.Model(inputs, layer(inputs)), 1.0)
    assert model.output_shape == (None, 3)
    before = values(layer)
    model.train_on_batch(ids, np.zeros((16, 3)))
    assert not same(values(layer), before)
    assert model(ids[:, :2]).shape == (16, 3)


# Subclassed models.


class Subclassed(keras.Model):
    """Has no `build`, so its layers are built by the first call."""

    def __init__(self, seed=3):
        super().__init__()
        self.hidden = FlaxLayer(Net(3), seed=seed, name="hidden")
        self.head = FlaxLayer(Linear(2), seed=seed, name="head")

    def call(self, inputs, training=False):
        return self.head(self.hidden(inputs, training=training))


def test_an_unbuilt_model_is_built_by_fit():
    model = compiled(Subclassed(), rate=1e-3)
    fit(model)
    built = Subclassed()
    built(X)
    assert len(model.trainable_weights) == 6
    # One small step away from the values of the seed: these are its weights.
    for new, old in zip(
        model.hidden.trainable_weights + model.head.trainable_weights,
        built.hidden.trainable_weights + built.head.trainable_weights,
        strict=True,
    ):
        np.testing.assert_allclose(new.value, old.value, atol=0.1)
    kernel = model.hidden.params["params"]["Dense_0"]["kernel"]
    assert np.abs(np.array(kernel.value)).max() > 0.1


def test_an_unbuilt_model_trains_as_a_built_one():
    unbuilt, built = Subclassed(), Subclassed()
    built(X)
    losses = [
        fit(compiled(model)).history["loss"] for model in (unbuilt, built)
    ]
    assert losses[0] == losses[1]


def test_an_unbuilt_model_without_a_seed_draws_one_in_fit():
    keras.utils.set_random_seed(2)
    model = compiled(Subclassed(seed=None), rate=1e-3)
    fit(model)
    kernels = [w.value for w in model.weights if w.name == "kernel"]
    assert [k.shape for k in kernels] == [(4, 3), (3, 2)]
    assert all(np.count_nonzero(k) == k.size for k in kernels)


def test_an_unbuilt_model_predicts_and_evaluates():
    model = compiled(Subclassed())
    assert model.predict(X, batch_size=8, verbose=0).shape == (16, 2)
    other = compiled(Subclassed())
    assert other.evaluate(X, Y, batch_size=8, verbose=0) > 0
    assert same(values(model.head), values(other.head))


# Copies.


def test_clone_model_makes_new_weights_of_the_same_config():
    layer = FlaxLayer(Net(), seed=4)
    model = keras.Sequential([keras.Input((4,)), layer])
    clone = keras.models.clone_model(model)
    assert clone.layers[0] is not layer
    assert clone.layers[0].module == layer.module
    np.testing.assert_array_equal(clone(X), model(X))  # The seed's weights.
    layer.trainable_weights[0].assign_add([1.0, 1.0, 1.0, 1.0])
    assert not np.allclose(clone(X), model(X))


@pytest.mark.parametrize(
    "duplicate",
    [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))],
    ids=["deepcopy", "pickle"],
)
def test_a_copy_of_a_model_has_the_weights_and_the_randomness(
    trained, duplicate
):
    model = trained[0]
    again = duplicate(model)
    assert again is not model
    np.testing.assert_array_equal(again(X), model(X))
    assert same(values(again.layers[0]), values(model.layers[0]))
    kept = values(model.layers[0])
    again.layers[0](X, training=True)
    assert same(values(model.layers[0]), kept)


def test_a_layer_is_copied_before_and_after_it_is_built():
    layer = FlaxLayer(Net(), seed=4)
    unbuilt = copy.deepcopy(layer)
    layer(X, training=True)
    built = copy.deepcopy(layer)
    np.testing.assert_array_equal(built(X), layer(X))
    unbuilt(X, training=True)
    np.testing.assert_array_equal(unbuilt(X), layer(X))
