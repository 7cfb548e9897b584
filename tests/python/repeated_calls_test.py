"""Eager calls in which Keras has nothing to do: made at once, no others."""

import flax.linen as nn
import jax
import jax.experimental
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from flaxlayer import FlaxLayer, JaxLayer, keras_compat
from tests.python.jax_models import counting, counting_init

X = jnp.arange(6, dtype=jnp.float32).reshape(2, 3)


class Noisy(nn.Module):
    """Drops out in training, and says what it costs."""

    costly: bool = False

    @nn.compact
    def __call__(self, x, training=False):
        x = nn.Dropout(0.5, deterministic=not training)(nn.Dense(4)(x))
        if training or self.costly:
            self.sow("losses", "size", jnp.abs(x).sum())
        return x


def noisy(**kwargs):
    return FlaxLayer(
        Noisy(kwargs.pop("costly", False)),
        collections={"losses": "loss"},
        seed=0,
        **kwargs,
    )


@pytest.fixture
def by_keras(monkeypatch):
    """The layers that Keras has called, one after the other."""
    called = []
    call = keras.layers.Layer.__call__

    def noted(self, *args, **kwargs):
        called.append(self)
        return call(self, *args, **kwargs)

    monkeypatch.setattr(keras.layers.Layer, "__call__", noted)
    return called


def test_keras_makes_the_first_call_only(by_keras):
    layer = noisy()
    first = layer(X)
    assert by_keras == [layer]
    np.testing.assert_array_equal(layer(X), first)
    assert by_keras == [layer]
    # What it computes on is read in each call.
    layer.set_weights([np.zeros_like(w) for w in layer.get_weights()])
    np.testing.assert_array_equal(layer(X), np.zeros((2, 4)))
    assert by_keras == [layer]


def test_other_shapes_are_compiled_once(by_keras):
    traced = []

    def model(inputs):
        traced.append(inputs.shape)
        return 2 * inputs

    layer = JaxLayer(model)
    layer(X)
    before = len(traced)
    for x in (X[:1], X, X[:1], X[:1]):
        np.testing.assert_array_equal(layer(x), 2 * x)
    assert traced[before:] == [(1, 3)]
    jax.clear_caches()
    layer(X), layer(X)
    assert traced[before:] == [(1, 3), (2, 3)]
    assert by_keras == [layer]


def test_integers_are_no_inputs_to_be_cast(by_keras):
    layer = FlaxLayer(nn.Embed(5, 2), seed=0)
    ids = jnp.array([1, 2])
    first = layer(ids)
    np.testing.assert_array_equal(layer(ids), first)
    assert by_keras == [layer]
    # Floats are, since the model takes integers.
    with pytest.raises(ValueError, match="integer"):
        layer(ids.astype(jnp.float32))


def test_floats_become_the_integers_that_a_model_takes(by_keras):
    spec = jax.ShapeDtypeStruct((3,), jnp.int32)
    layer, ids = JaxLayer(lambda inputs: 2 * inputs, inputs_spec=spec), X[0]
    for x in (ids.astype(int), ids.astype(int), ids, ids):
        assert layer(x).dtype == jnp.int32
    assert by_keras == [layer, layer, layer]
    # Nor does it try them with a model that takes integers only.
    traced = []
    layer = JaxLayer(
        lambda inputs: traced.append(inputs.dtype) or jnp.eye(3)[inputs],
        inputs_spec=spec,
    )
    for x in (ids.astype(int), ids.astype(int), ids, ids):
        layer(x)
    assert {dtype.name for dtype in traced} == {"int32"}


def test_a_typed_key_is_refused_as_in_the_first_call():
    layer = noisy()
    for _ in range(2):
        with pytest.raises(TypeError, match="an input is a typed key"):
            layer(jax.random.key(0))
        layer(X)


@pytest.mark.parametrize(
    "other",
    [
        lambda layer: layer(np.asarray(X)),
        lambda layer: layer(X.astype(jnp.float16)),
        lambda layer: layer(X, training=True),
        lambda layer: jax.jit(layer)(X),
        lambda layer: jax.vmap(layer)(X),
        lambda layer: jax.grad(lambda x: layer(x).sum())(X),
        lambda layer: keras.Sequential([layer])(X),
    ],
)
def test_keras_makes_all_other_calls(by_keras, other):
    layer = noisy()
    layer(X), layer(X)
    before = by_keras.count(layer)
    other(layer)
    assert by_keras.count(layer) > before


def test_what_a_call_leaves_is_kept_by_keras(by_keras):
    state = JaxLayer(counting, counting_init, seed=0)
    random = FlaxLayer(Noisy(), rngs={"dropout": "always"}, seed=0)
    for layer in (state, random):
        calls = [(layer(X), layer.get_weights()) for _ in range(3)]
        assert len(calls) == 3
    # In inference the state stays, but is handed back.
    assert by_keras.count(random) == 3
    assert int(random.seed_generator.state.value[1]) == 3


def test_losses_are_of_the_last_call():
    layer = noisy()
    layer(X), layer(X)
    layer(X, training=True)
    assert len(layer.losses) == 1
    layer(X)
    assert layer.losses == []
    costly = noisy(costly=True)
    for _ in range(3):
        costly(X)
        assert len(costly.losses) == 1
    costly._clear_losses()  # As a call of a layer around it does.
    costly(X)
    assert len(costly.losses) == 1


def test_an_outer_call_decides_about_training():
    class Outer(keras.layers.Layer):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def call(self, x, training=False):
            return self.inner(x)

    layer = noisy()
    plain = np.array(layer(X), copy=True)
    outer = Outer(layer)
    np.testing.assert_array_equal(outer(X), plain)
    np.testing.assert_array_equal(outer(X), plain)
    assert not np.array_equal(outer(X, training=True), plain)
    np.testing.assert_array_equal(layer(X), plain)


def test_masks_are_handed_on():
    layer = noisy()
    steps = X[None]
    assert keras_compat.mask_of([layer(steps), layer(steps)]) == [None, None]
    masked = jnp.array(steps, copy=True)
    mask = jnp.array([[True, False]])
    keras_compat.masking.set_keras_mask(masked, mask)
    assert keras_compat.mask_of(layer(masked)) is mask
    assert keras_compat.mask_of(layer(steps)) is None


def test_what_was_set_since_is_heeded():
    layer = noisy()
    layer(X), layer(X)
    layer.input_spec = keras.layers.InputSpec(ndim=3)
    with pytest.raises(ValueError, match="expected ndim=3"):
        layer(X)
    layer.input_spec = None
    layer.activity_regularizer = keras.regularizers.L2()
    layer(X)
    assert len(layer.losses) == 1


def test_weights_are_cast_as_the_policy_says():
    layer, half = noisy(), X.astype(jnp.bfloat16)
    layer.dtype_policy = "mixed_bfloat16"
    for x in (X, half, half, half):
        assert layer(x).dtype == jnp.bfloat16
    layer.dtype_policy = "float32"
    for x in (half, half, X, X):
        assert layer(x).dtype == jnp.float32


def test_methods_of_a_subclass_are_called():
    class Doubled(FlaxLayer):
        def call(self, x, training=False):
            return 2 * super().call(x, training=training)

    class Masking(FlaxLayer):
        def compute_mask(self, inputs, previous_mask):
            return inputs[..., 0] > 0

    module = nn.Dense(4)
    plain, doubled = FlaxLayer(module, seed=0), Doubled(module, seed=0)
    masking = Masking(module, seed=0)
    for _ in range(3):
        np.testing.assert_array_equal(doubled(X), 2 * plain(X))
        assert keras_compat.mask_of(masking(X)).tolist() == [False, True]
    plain.call = lambda x, training=False: x + 1
    np.testing.assert_array_equal(plain(X), X + 1)


def test_layers_in_a_model_are_traced_inside_of_a_call():
    found = []

    class Inner(keras.layers.Layer):
        def call(self, x, training=None):
            found.append((training, keras_compat.path_here("x")))
            return x

    inner = Inner()
    layer = JaxLayer(lambda inputs: inner(inputs), name="outer")
    for rows in (1, 1, 2, 2, 3):
        layer(X[:1].repeat(rows, 0))
    assert len(set(found)) == 1
    assert found[0][0] is False
    assert found[0][1].startswith("outer/")


def test_an_error_says_what_the_call_received():
    layer = noisy()
    layer(X), layer(X)
    for _ in range(2):
        with pytest.raises(Exception, match="Arguments received by") as raised:
            layer(X[:, :2])
        assert layer.name in str(raised.value)


def test_what_fails_while_it_runs_is_not_run_again():
    seen = []

    def check(x):
        seen.append(x)
        if np.any(x < 0):
            raise ValueError("negative")

    def model(inputs):
        jax.experimental.io_callback(check, None, inputs)
        return 2 * inputs

    layer = JaxLayer(model, name="checked")
    layer(X), layer(X)
    jax.effects_barrier()
    seen.clear()
    with pytest.raises(jax.errors.JaxRuntimeError) as error:
        jax.block_until_ready(layer(-X))
    assert len(seen) == 1
    assert "negative" in str(error.value)
