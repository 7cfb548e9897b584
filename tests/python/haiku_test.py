"""Haiku's transformed functions are `call_fn` and `init_fn` as they are."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from flaxlayer import JaxLayer

hk = pytest.importorskip("haiku")

# Haiku 0.0.16 on Python 3.13 and later.
pytestmark = pytest.mark.filterwarnings(
    "ignore:'maxsplit' is passed as positional argument:DeprecationWarning"
)

X = np.linspace(-1.0, 1.0, 12, dtype=np.float32).reshape(3, 4)


def with_dropout(inputs, training):
    x = hk.Linear(3)(inputs)
    if training:
        x = hk.dropout(hk.next_rng_key(), 0.5, x)
    return hk.Linear(2)(x)


def with_statistics(inputs, training):
    x = hk.BatchNorm(True, True, decay_rate=0.9)(inputs, is_training=training)
    return hk.Linear(2)(x)


def linear(inputs):
    return hk.Linear(2)(inputs)


def layer_of(transformed, **kwargs):
    return JaxLayer(transformed.apply, transformed.init, **kwargs)


def paths(layer):
    return {weight.path for weight in layer.weights}


def test_a_transformed_function_with_random_numbers():
    transformed = hk.transform(with_dropout)
    layer = layer_of(transformed, name="haiku", seed=3)
    outputs = layer(X)
    assert paths(layer) == {
        "haiku/params/linear/w",
        "haiku/params/linear/b",
        "haiku/params/linear_1/w",
        "haiku/params/linear_1/b",
    }
    params = transformed.init(jax.random.PRNGKey(3), X, True)
    expected = transformed.apply(params, None, X, False)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)
    first, second = layer(X, training=True), layer(X, training=True)
    assert not np.array_equal(first, second)


def test_a_transformed_function_with_state():
    transformed = hk.transform_with_state(with_statistics)
    layer = layer_of(transformed, seed=0)
    layer.build((None, 4))
    before = [np.array(w.value) for w in layer.non_trainable_weights]
    layer(X)
    for weight, value in zip(layer.non_trainable_weights, before, strict=True):
        np.testing.assert_array_equal(weight.value, value)
    layer(X, training=True)
    assert any(
        not np.array_equal(weight.value, value)
        for weight, value in zip(
            layer.non_trainable_weights, before, strict=True
        )
    )
    assert {path.split("/")[1] for path in paths(layer)} == {"params", "state"}


def test_a_transformed_function_without_random_numbers():
    transformed = hk.without_apply_rng(hk.transform(linear))
    layer = layer_of(transformed, seed=0)
    assert layer.seed_generator is None
    outputs = layer(X)
    params = transformed.init(jax.random.PRNGKey(0), X)
    np.testing.assert_allclose(
        outputs, transformed.apply(params, X), rtol=1e-5, atol=1e-6
    )


def test_state_without_random_numbers():
    transformed = hk.without_apply_rng(hk.transform_with_state(with_statistics))
    layer = layer_of(transformed, seed=0)
    layer(X, training=True)
    assert layer.seed_generator is None
    assert layer.non_trainable_weights


def test_names_of_nested_modules_are_paths():
    class Block(hk.Module):
        def __call__(self, inputs):
            return hk.nets.MLP([3, 2], name="inner")(inputs)

    transformed = hk.without_apply_rng(
        hk.transform(lambda inputs: Block(name="outer")(inputs))
    )
    layer = layer_of(transformed, name="haiku")
    layer(X)
    assert "haiku/params/outer/inner/~/linear_0/w" in {
        path.replace("/~/inner", "/inner") for path in paths(layer)
    }


def test_a_haiku_model_is_trained_and_its_weights_move():
    layer = layer_of(hk.transform_with_state(with_statistics), seed=0)
    model = keras.Sequential([keras.Input((4,)), layer])
    model.compile(keras.optimizers.SGD(0.05), "mse")
    losses = [float(model.train_on_batch(X, X[:, :2])) for _ in range(4)]
    assert losses[-1] < losses[0]


def test_the_variables_of_haiku_may_be_given():
    transformed = hk.without_apply_rng(hk.transform(linear))
    params = transformed.init(jax.random.PRNGKey(1), X)
    layer = JaxLayer(transformed.apply, params=params)
    expected = jnp.asarray(transformed.apply(params, X))
    np.testing.assert_allclose(layer(X), expected, rtol=1e-5, atol=1e-6)
