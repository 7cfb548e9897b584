"""Gradients through a layer are those of JAX."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
import tensorflow as tf

import flaxlayer
from tests.python.tensorflow_backend import cases

RNG = np.random.RandomState(4)


def in_graph(function, *arguments):
    return tf.function(function)(*arguments)


def with_unknown_batch(function, *arguments):
    specs = [tf.TensorSpec((None, *x.shape[1:]), x.dtype) for x in arguments]
    return tf.function(function, input_signature=specs)(*arguments)


def with_xla(function, *arguments):
    return tf.function(function, jit_compile=True)(*arguments)


WAYS = [
    lambda function, *arguments: function(*arguments),
    in_graph,
    with_unknown_batch,
    with_xla,
]


@pytest.mark.parametrize("way", WAYS, ids=["eager", "graph", "unknown", "xla"])
def test_of_weights_and_inputs(way):
    layer = cases.normalised(seed=7)
    x = tf.constant(cases.VECTORS)
    layer(x)
    values = layer.get_layer_variables()

    def loss(params, x):
        outputs, _ = layer.module.apply(
            {**values, "params": params}, x, mutable=["losses"]
        )
        return jnp.sum(outputs**2)

    expected, expected_x = jax.grad(loss, argnums=(0, 1))(
        values["params"], cases.VECTORS
    )

    def gradients(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            result = tf.reduce_sum(layer(x) ** 2)
        return tape.gradient(
            result, [[v.value for v in layer.trainable_variables], x]
        )

    received, received_x = way(gradients, x)
    np.testing.assert_allclose(received_x, expected_x, 1e-4, 1e-4)
    for a, b in zip(received, jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, 1e-4, 1e-4)


def test_of_the_second_order():
    layer = flaxlayer.JaxLayer(lambda inputs: inputs**3)
    x = tf.constant([2.0, 3.0])
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            y = tf.reduce_sum(layer(x))
        first = inner.gradient(y, x)
    assert first.numpy().tolist() == [12, 27]
    assert outer.gradient(first, x).numpy().tolist() == [12, 18]


def test_of_complex_numbers_are_those_of_tensorflow():
    z = tf.constant([1 + 2j, 3 - 1j], tf.complex64)

    def gradient(square):
        with tf.GradientTape() as tape:
            tape.watch(z)
            y = tf.reduce_sum(tf.math.real(square(z)))
        return tape.gradient(y, z)

    layer = flaxlayer.JaxLayer(lambda inputs: inputs**2 * (1 + 2j))
    np.testing.assert_allclose(
        gradient(layer), gradient(lambda z: z**2 * (1 + 2j)), 1e-5
    )


@pytest.mark.parametrize("way", WAYS[:3], ids=["eager", "graph", "unknown"])
def test_integers_have_none(way):
    def call_fn(params, inputs):
        ids, x = inputs
        return {"y": params[ids] * x, "ids": ids + 1}

    table = RNG.randn(5, 3).astype("float32")
    layer = flaxlayer.JaxLayer(call_fn, params=table)
    ids = tf.constant([1, 1, 4])
    x = tf.constant(RNG.randn(3, 3), tf.float32)

    def gradients(ids, x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = layer((ids, x))
            result = tf.reduce_sum(
                outputs["y"] * tf.cast(outputs["ids"], tf.float32)[:, None]
            )
        (variable,) = layer.trainable_variables
        return tape.gradient(result, [variable.value, x])

    of_table, of_x = way(gradients, ids, x)
    expected = np.zeros_like(table)
    np.add.at(expected, [1, 1, 4], x * np.array([[2], [2], [5]]))
    np.testing.assert_allclose(of_table, expected, 1e-5)
    np.testing.assert_allclose(
        of_x, table[[1, 1, 4]] * [[2], [2], [5]], 1e-5, 1e-6
    )


def test_a_part_of_the_outputs_is_enough():
    layer = flaxlayer.JaxLayer(lambda inputs: (2 * inputs, 3 * inputs))
    x = tf.ones(2)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.reduce_sum(layer(x)[1])
    assert tape.gradient(y, x).numpy().tolist() == [3, 3]


def test_what_is_not_differentiable_has_none():
    layer = flaxlayer.JaxLayer(lambda inputs: inputs > 0)
    assert layer(np.array([1.0, -1.0])).numpy().tolist() == [True, False]
    layer = flaxlayer.JaxLayer(lambda inputs: inputs + 1)
    assert layer(np.array([1, 2])).numpy().tolist() == [2, 3]


def test_weights_without_a_gradient_are_left(monkeypatch):
    layer = cases.normalised(seed=7)
    layer(cases.VECTORS)
    layer.freeze(".*/kernel")
    model = keras.Sequential([layer])
    model.compile("sgd", "mse")
    before = cases.weights(layer)
    model.fit(cases.VECTORS, np.zeros((30, 3)), verbose=0)
    after = cases.weights(layer)
    changed = {k for k in before if not np.array_equal(before[k], after[k])}
    assert "params/Dense_1/bias" in changed
    assert not any("kernel" in key for key in changed)


def test_a_rematerialised_layer_is_called_as_always():
    with keras.RematScope("full"):
        layer = cases.normalised(seed=7)
        with tf.GradientTape() as tape:
            y = tf.reduce_sum(layer(cases.VECTORS, training=True) ** 2)
        gradients = tape.gradient(
            y, [v.value for v in layer.trainable_variables]
        )
    assert all(gradient is not None for gradient in gradients)
    assert layer.seed_generator.state.numpy()[1] == 1
