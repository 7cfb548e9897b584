"""What a layer does with a state that is not finite, and how it merges one."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from flaxlayer import FlaxLayer, JaxLayer
from tests.python.keras_models import program

X = np.linspace(-1.0, 1.0, 12, dtype=np.float32).reshape(3, 4)
BAD = np.where(X > 0.9, np.nan, X)
TARGET = "custom_call @flaxlayer_state_merge("

pytestmark = pytest.mark.usefixtures("native_kernels")
both_kernels = pytest.mark.parametrize("kernels", ["native", "reference"])


class Norms(nn.Module):
    """Statistics of the inputs, of something always finite, and a count."""

    @nn.compact
    def __call__(self, inputs, training=False):
        x = nn.BatchNorm(use_running_average=not training)(inputs)
        ones = jnp.ones_like(inputs)
        y = nn.BatchNorm(use_running_average=not training)(ones)
        count = self.variable("counts", "calls", jnp.zeros, (), jnp.int32)
        if training:
            count.value += 1
        return x + y


def state(layer):
    return [np.array(v.value) for v in layer._weights.state.variables]


def layer_of(**kwargs):
    layer = FlaxLayer(Norms(), seed=0, **kwargs)
    layer.build(X.shape)
    return layer


@both_kernels
def test_all_of_it_is_kept(kernels):
    layer = layer_of(nonfinite_state="keep", kernels=kernels)
    layer(X, training=True)
    before = state(layer)
    outputs = layer(BAD, training=True)
    assert not np.isfinite(outputs).all()
    for now, then in zip(state(layer), before, strict=True):
        np.testing.assert_array_equal(now, then)
    # The next call goes on from there, as if the bad one had not been.
    layer(X, training=True)
    # (Another program, in which XLA may round once where here it does twice.)
    other = layer_of(kernels=kernels)
    other(X, training=True)
    other(X, training=True)
    for a, b in zip(state(layer), state(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


@both_kernels
def test_it_is_stored_by_default(kernels):
    layer = layer_of(kernels=kernels)
    assert layer.nonfinite_state == "propagate"
    (before,) = [int(v) for v in state(layer) if v.dtype == np.int32]
    layer(BAD, training=True)
    assert any(np.isnan(value).any() for value in state(layer))
    assert [int(v) for v in state(layer) if v.dtype == np.int32] == [before + 1]


@both_kernels
def test_in_fit(kernels):
    layer = layer_of(nonfinite_state="keep", kernels=kernels)
    model = keras.Sequential([keras.Input((4,)), layer])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    x = np.concatenate([X, BAD])
    model.fit(x, x, batch_size=3, shuffle=False, verbose=0)
    other = layer_of(kernels=kernels)
    model = keras.Sequential([keras.Input((4,)), other])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    model.fit(X, X, batch_size=3, shuffle=False, verbose=0)
    for a, b in zip(state(layer), state(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_the_guard_is_one_call():
    assert program(layer_of(nonfinite_state="keep"), X).count(TARGET) == 1
    text = program(layer_of(nonfinite_state="keep", kernels="reference"), X)
    assert TARGET not in text


@pytest.mark.parametrize("kernels", ["auto", "native"])
def test_without_anything_to_do_nothing_is_emitted(kernels):
    assert TARGET not in program(layer_of(kernels=kernels), X)
    guarded = layer_of(nonfinite_state="keep", kernels=kernels)
    # Inference leaves the state alone.
    assert TARGET not in program(guarded, X, training=False)
    plain = layer_of(kernels="reference")
    assert "stablehlo.is_finite" not in program(plain, X)


@both_kernels
def test_values_are_cast_to_what_is_stored(kernels):
    def call_fn(state, inputs):
        mean = inputs.mean(0).astype(jnp.bfloat16)
        return inputs, {"mean": mean, "scaled": mean * 2.0**20, "steps": 1.0}

    made = {
        "mean": np.zeros(4, np.float32),
        "scaled": np.zeros(4, np.float16),
        "steps": np.int32(0),
    }
    layer = JaxLayer(
        call_fn, state=made, nonfinite_state="keep", kernels=kernels
    )
    layer(X)
    # As they would be stored they are not finite.
    for value, expected in zip(state(layer), made.values(), strict=True):
        np.testing.assert_array_equal(value, expected)
    layer(X * 2.0**-20)
    dtypes = [str(value.dtype) for value in state(layer)]
    assert dtypes == ["float32", "float16", "int32"]
    assert all(value.any() for value in state(layer))


@both_kernels
def test_gradients_do_not_mind(kernels):
    layer = layer_of(nonfinite_state="keep", kernels=kernels)
    trainable = [v.value for v in layer.trainable_variables]
    other = [v.value for v in layer.non_trainable_variables]

    def loss(trainable, x):
        outputs, new_state = layer.stateless_call(
            trainable, other, x, training=True
        )
        return jnp.sum(outputs**2), new_state

    def gradients(x):
        return jax.jit(jax.value_and_grad(loss, has_aux=True))(trainable, x)

    (_, new_state), found = gradients(X)
    assert all(np.isfinite(g).all() for g in found)
    assert not np.array_equal(new_state[0], other[0])
    (_, new_state), _ = gradients(BAD)
    # The seed goes on even so.
    *statistics, seed = new_state
    for now, then in zip(statistics, other[:-1], strict=True):
        np.testing.assert_array_equal(now, then)
    assert int(seed[1]) == int(other[-1][1]) + 1


def test_it_is_saved():
    layer = layer_of(nonfinite_state="keep")
    copy = FlaxLayer.from_config(layer.get_config())
    assert copy.nonfinite_state == "keep"


@pytest.mark.parametrize("value", ["drop", None, True])
def test_it_must_be_one_of_two_words(value):
    with pytest.raises(ValueError, match=f"`nonfinite_state` must.*{value}"):
        FlaxLayer(Norms(), nonfinite_state=value)
