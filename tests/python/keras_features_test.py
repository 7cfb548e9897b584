"""Shapes, wrappers and freezing: what Keras asks of a single layer."""

import jax
import jax.numpy as jnp
import keras
import numpy as np

from flaxlayer import FlaxLayer, JaxLayer
from tests.python.keras_models import (
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

# What a layer says about itself.


def test_summary_counts_parameters_of_each_layer():
    model = keras.Sequential(
        [keras.Input((4,)), FlaxLayer(Net(), name="wrapped")]
    )
    lines = []
    model.summary(print_fn=lines.append)
    text = "\n".join(lines)
    assert "wrapped (FlaxLayer)" in text
    assert "(None, 2)" in text
    assert "Trainable params: 18" in text
    assert "Non-trainable params: 8" in text


def test_output_shapes_are_known_without_building():
    layer = FlaxLayer(Net())
    assert layer.compute_output_shape((None, 4)) == (None, 2)
    assert layer.compute_output_shape((5, 7)) == (5, 2)
    assert not layer.built
    assert layer.weights == []


def test_output_specs_have_unknown_dimensions_and_dtypes():
    def call_fn(inputs):
        return {"rows": inputs.sum(-1), "flag": inputs[..., 0] > 0}

    layer = JaxLayer(call_fn)
    spec = layer.compute_output_spec(keras.KerasTensor((None, None, 3)))
    assert spec["rows"].shape == (None, None)
    assert (spec["rows"].dtype, spec["flag"].dtype) == ("float32", "bool")
    shapes = layer.compute_output_shape((2, None, 3))
    assert shapes == {"rows": (2, None), "flag": (2, None)}


def test_output_specs_of_a_built_layer_follow_its_dtypes():
    layer = FlaxLayer(Embedding())
    layer(np.zeros((2, 5), "int32"))
    assert layer.compute_output_shape((None, 7)) == (None, 3)


# Wrappers.


def test_time_distributed_applies_it_to_every_step():
    layer = FlaxLayer(Linear(), seed=0)
    wrapped = keras.layers.TimeDistributed(layer)
    inputs = keras.Input((3, 4))
    model = keras.Model(inputs, wrapped(inputs))
    assert model.output_shape == (None, 3, 2)
    steps = np.stack([X, 2 * X, 3 * X], 1)
    expected = np.stack([layer(X), layer(2 * X), layer(3 * X)], 1)
    np.testing.assert_allclose(model(steps), expected, rtol=1e-5, atol=1e-5)


def test_a_remat_scope_trains_the_same():
    def run(mode):
        with keras.RematScope(mode=mode):
            layer = FlaxLayer(Net(), seed=5, name="net")
        model = compiled(keras.Sequential([keras.Input((4,)), layer]))
        history = fit(model, epochs=2).history["loss"]
        return history, values(layer)

    (plain, expected), (remat, received) = run(None), run("full")
    np.testing.assert_allclose(plain, remat, rtol=1e-6)
    for a, b in zip(expected, received, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_a_remat_scope_recomputes_the_model_in_the_gradient():
    with keras.RematScope(mode="full"):
        layer = FlaxLayer(Net(), seed=5)
        layer.build((None, 4))

    def loss(trainable, non_trainable):
        outputs, _ = layer.stateless_call(
            trainable, non_trainable, X, training=True
        )
        return jnp.sum(outputs)

    arguments = (
        [v.value for v in layer.trainable_variables],
        [v.value for v in layer.non_trainable_variables],
    )
    assert "remat" in str(jax.make_jaxpr(jax.grad(loss))(*arguments))


# Freezing.


def test_a_layer_may_be_frozen_when_it_is_made():
    layer = FlaxLayer(Linear(), seed=0, trainable=False)
    model = compiled(keras.Sequential([layer, FlaxLayer(Linear(), seed=1)]))
    model(X)
    assert layer.trainable_weights == []
    assert len(layer.non_trainable_weights) == 2
    before = [np.array(w.value) for w in layer.weights]
    model.train_on_batch(X, Y)
    assert same([w.value for w in layer.weights], before)
    layer.trainable = True
    assert len(layer.trainable_weights) == 2


def test_given_weights_are_frozen_with_their_layer():
    layer = JaxLayer(
        lambda params, inputs: inputs * params, params=1.0, trainable=False
    )
    assert layer.trainable_weights == []
    assert len(layer.weights) == 1


def test_a_layer_may_be_frozen_and_thawed_later():
    layer = FlaxLayer(Linear(), seed=0)
    model = keras.Sequential([keras.Input((4,)), layer])
    layer.trainable = False
    assert model.trainable_weights == []
    layer.trainable = True
    assert len(model.trainable_weights) == 2
    before = values(layer)
    compiled(model).train_on_batch(X, Y)
    assert not same(values(layer), before)


# Two of them.


def test_two_layers_of_one_key_are_equal_and_apart():
    key = jax.random.key(9)
    one, two = FlaxLayer(Net(), seed=key), FlaxLayer(Net(), seed=key)
    np.testing.assert_array_equal(one(X, training=True), two(X, training=True))
    assert same(values(one), values(two))
    one(X, training=True)
    assert not same(values(one), values(two))
