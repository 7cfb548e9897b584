"""JaxLayer: seeds, and what an eager call costs."""

import jax
import keras
import numpy as np
import pytest

import flaxlayer
from flaxlayer import JaxLayer
from tests.python.jax_models import (
    counting,
    counting_init,
    dense,
    dense_init,
    noisy,
)

X = np.linspace(-1.0, 1.0, 8, dtype=np.float32).reshape(2, 4)


# Seeds.


def drawn(layer, calls=3):
    return [np.array(layer(X, training=True)) for _ in range(calls)]


def test_the_same_seed_and_name_give_the_same_weights_and_calls():
    def call_fn(params, rng, inputs):
        return noisy(rng, dense(params, inputs))

    one, two, other = (
        JaxLayer(call_fn, dense_init, seed=seed, name="probe")
        for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(drawn(one), drawn(two))
    np.testing.assert_array_equal(one.weights[0], two.weights[0])
    assert not np.array_equal(drawn(one), drawn(other))
    assert not np.array_equal(one.weights[0], other.weights[0])


@pytest.mark.parametrize(
    "key", [jax.random.key(3), jax.random.PRNGKey(3)], ids=["typed", "raw"]
)
def test_a_key_is_a_seed(key):
    layer = JaxLayer(dense, dense_init, seed=key)
    layer.build((None, 4))
    expected = dense_init(jax.random.PRNGKey(3), X)["dense"]["w"]
    np.testing.assert_array_equal(layer.weights[0], expected)
    np.testing.assert_array_equal(
        drawn(JaxLayer(noisy, seed=key)), drawn(JaxLayer(noisy, seed=key))
    )


def test_set_random_seed_decides_what_no_seed_was_given_for():
    def made():
        layer = JaxLayer(
            lambda params, rng, inputs: noisy(rng, dense(params, inputs)),
            dense_init,
        )
        return drawn(layer, 1)[0]

    keras.utils.set_random_seed(0)
    first, second = made(), made()
    keras.utils.set_random_seed(0)
    np.testing.assert_array_equal(made(), first)
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_keys_are_of_the_default_implementation(impl):
    def init_fn(rng, inputs):
        return jax.random.normal(rng, (inputs.shape[-1],))

    def call_fn(params, rng, inputs):
        return inputs * params + jax.random.uniform(rng, inputs.shape)

    with jax.default_prng_impl(impl):
        layer, same = (
            JaxLayer(call_fn, init_fn, seed=2, name="probe") for _ in range(2)
        )
        first, second = drawn(layer, 2)
        again = drawn(same, 1)[0]
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, second)


# Eager calls.


def test_eager_calls_compile_once_for_each_mode_and_shape():
    traces = []

    def call_fn(params, state, rng, inputs, training):
        traces.append((training, inputs.shape))
        return inputs * params, state

    layer = JaxLayer(call_fn, params=1.0, state=0.0, seed=0)
    for _ in range(5):
        layer(X)
    assert traces == [(False, (2, 4))]
    for _ in range(5):
        layer(X, training=True)
    assert traces[1:] == [(True, (2, 4))]
    layer(X[:1])
    layer(X[:1])
    assert traces[2:] == [(False, (1, 4))]


def test_eager_calls_read_the_weights_as_they_are():
    layer = JaxLayer(lambda params, inputs: inputs * params, params=1.0)
    np.testing.assert_array_equal(layer(X), X)
    layer.weights[0].assign(3.0)
    np.testing.assert_array_equal(layer(X), 3 * X)


def test_an_eager_call_works_without_jit():
    layer = JaxLayer(counting, counting_init, seed=1)
    expected = layer(X)
    with jax.disable_jit():
        again = JaxLayer(counting, counting_init, seed=1)
        np.testing.assert_allclose(again(X), expected, rtol=1e-6)
        again(X, training=True)
    assert int(again.state["calls"].value) == 1


def test_both_kernel_policies_draw_the_same():
    seed = jax.random.key(1)
    default = drawn(JaxLayer(noisy, seed=seed))
    reference = drawn(JaxLayer(noisy, seed=seed, kernels="reference"))
    np.testing.assert_array_equal(default, reference)
    with flaxlayer.kernels("reference"):
        scoped = drawn(JaxLayer(noisy, seed=seed))
    np.testing.assert_array_equal(scoped, default)
