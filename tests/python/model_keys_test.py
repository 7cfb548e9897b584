"""The keys a model is given: native where it makes no difference to it."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flaxlayer
from flaxlayer import FlaxLayer, JaxLayer
from tests.python.keras_models import program

X = np.linspace(-1.0, 1.0, 8, dtype=np.float32).reshape(2, 4)
TARGET = "custom_call @flaxlayer_"

pytestmark = pytest.mark.usefixtures("native_kernels")


class Dropout(nn.Module):
    @nn.compact
    def __call__(self, x, training=False):
        return nn.Dropout(0.5, deterministic=not training)(nn.Dense(4)(x))


class KeyInState(nn.Module):
    """Keeps a key, and draws from it and from a fresh one."""

    @nn.compact
    def __call__(self, x, training=False):
        kept = self.variable("keys", "kept", self.make_rng, "params")
        noise = jax.random.normal(kept.value, x.shape)
        if training:
            kept.value = self.make_rng("dropout")
        return x + noise


class SplitKeyInState(nn.Module):
    """Keeps a key that is split in each call."""

    @nn.compact
    def __call__(self, x, training=False):
        kept = self.variable("keys", "kept", jax.random.PRNGKey, 3)
        kept.value, key = jax.random.split(kept.value)
        return x + jax.random.normal(key, x.shape)


class KeyData(nn.Module):
    @nn.compact
    def __call__(self, x, training=False):
        if not training:
            return x
        key = self.make_rng("dropout")
        same = jax.random.wrap_key_data(
            jax.random.key_data(key), impl=jax.random.key_impl(key)
        )
        # Of raw keys it compares the words.
        equal = jnp.all(key == key)
        return x + jax.random.uniform(same, x.shape) + equal


class ReturnsKeys(nn.Module):
    @nn.compact
    def __call__(self, x, training=False):
        return {"x": x, "keys": jax.random.split(self.make_rng("dropout"))}


class Lifted(nn.Module):
    """Keys that are split for the steps of a scan and for a batch."""

    @nn.compact
    def __call__(self, x, training=False):
        block = nn.scan(
            nn.remat(Step),
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            length=3,
        )
        x, _ = block(training)(x, None)
        heads = nn.vmap(
            Step,
            in_axes=None,
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            axis_size=2,
        )
        return heads(training)(x, None)[0].sum(0)


class Step(nn.Module):
    training: bool

    @nn.compact
    def __call__(self, x, _):
        x = nn.Dense(4)(x)
        return nn.Dropout(0.5, deterministic=not self.training)(x), None


class IndexesWords(nn.Module):
    """Takes for granted that a key is an array of two words."""

    @nn.compact
    def __call__(self, x, training=False):
        if not training:
            return x
        return x + self.make_rng("dropout")[0] % 7


class WrapsWords(nn.Module):
    @nn.compact
    def __call__(self, x, training=False):
        if not training:
            return x
        key = jax.random.wrap_key_data(self.make_rng("dropout"))
        return x + jax.random.normal(key, x.shape)


class Poisson(nn.Module):
    """JAX has this sampler for its own threefry keys only."""

    @nn.compact
    def __call__(self, x, training=False):
        scale = self.param("scale", lambda key: jax.random.poisson(key, 4.0))
        if not training:
            return x * scale
        return x + jax.random.poisson(self.make_rng("dropout"), 3.0, x.shape)


class MixesKeys(nn.Module):
    @nn.compact
    def __call__(self, x, training=False):
        mine = jax.random.PRNGKey(5)
        key = jnp.where(x.sum() > 0, mine, mine)
        if training:
            key = jnp.where(x.sum() > 0, mine, self.make_rng("dropout"))
        return x + jax.random.normal(key, x.shape)


def called(module, **kwargs):
    """What a layer returns and what becomes of its weights in some calls."""
    layer = FlaxLayer(module, seed=11, name="probe", **kwargs)
    layer.build(X.shape)
    results = [layer(X, training=training) for training in (True, False, True)]
    weights = [variable.value for variable in layer.variables]
    return jax.tree_util.tree_leaves((results, weights))


def assert_same(actual, expected):
    assert len(actual) == len(expected)
    for a, b in zip(actual, expected, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


NATIVE = (Dropout(), KeyInState(), KeyData(), Lifted())
# Not the model's own keys, or the layer's in a form that only JAX's have; with
# what JAX says where it gets the layer's.
STOCK = {
    IndexesWords(): (IndexError, "Too many indices: "),
    WrapsWords(): (TypeError, "invalid PRNG key data"),
    Poisson(): (NotImplementedError, "not flfryn"),
    MixesKeys(): (ValueError, "key<flfryn> is not a valid dtype"),
}


def name(module):
    return type(module).__name__


@pytest.mark.parametrize("module", NATIVE, ids=name)
def test_what_works_with_native_keys(module):
    assert_same(called(module), called(module, kernels="reference"))
    assert_same(
        called(module, kernels="native"), called(module, kernels="reference")
    )
    layer = FlaxLayer(module, seed=0)
    layer.build(X.shape)
    assert TARGET in program(layer, X)
    reference = FlaxLayer(module, seed=0, kernels="reference")
    reference.build(X.shape)
    assert TARGET not in program(reference, X)


@pytest.mark.parametrize("module", STOCK, ids=name)
def test_what_needs_the_keys_of_jax_gets_them(module):
    assert_same(called(module), called(module, kernels="reference"))
    layer = FlaxLayer(module, seed=0)
    layer.build(X.shape)
    assert TARGET not in program(layer, X)
    # It is not tried again and again.
    assert layer._keys.stock_only
    assert layer.compute_output_shape(X.shape) == X.shape


@pytest.mark.parametrize(
    ("module", "error"), STOCK.items(), ids=map(name, STOCK)
)
def test_native_by_name_does_not_give_way(module, error):
    layer = FlaxLayer(module, seed=0, kernels="native")
    kind, message = error
    with pytest.raises(kind, match=message):
        layer(X, training=True)


def test_a_key_of_the_model_itself_stays_as_it_is():
    module = SplitKeyInState()
    assert_same(called(module), called(module, kernels="reference"))


@pytest.mark.parametrize("kernels", ["native", "reference"])
def test_returned_keys_are_those_of_jax(kernels):
    def keys(kernels):
        layer = FlaxLayer(
            ReturnsKeys(),
            rngs={"dropout": "always"},
            seed=jax.random.key(0),
            kernels=kernels,
        )
        return layer(X)["keys"]

    received = keys(kernels)
    assert (received.shape, received.dtype) == ((2, 2), np.uint32)
    np.testing.assert_array_equal(received, keys("reference"))


def test_an_error_of_the_model_is_its_own():
    class Fails(nn.Module):
        @nn.compact
        def __call__(self, x, training=False):
            return x + self.make_rng("dropout") @ jnp.ones((3, 3))

    layer = FlaxLayer(Fails(), rngs={"dropout": "always"}, seed=0)
    with pytest.raises(TypeError, match="dot_general") as error:
        layer(X)
    assert "flaxlayer_threefry" not in str(error.value)


def test_other_implementations_are_used_as_they_are():
    with jax.default_prng_impl("rbg"):
        layer = FlaxLayer(Dropout(), seed=0)
        layer.build(X.shape)
        assert TARGET not in program(layer, X)
        assert layer(X, training=True).shape == X.shape


def test_the_other_layout_of_words():
    with jax.threefry_partitionable(False):
        native = called(Dropout())
        assert_same(native, called(Dropout(), kernels="reference"))
        with pytest.raises(RuntimeError, match="jax_threefry_partitionable"):
            FlaxLayer(Dropout(), seed=0, kernels="native")(X)


def typed_init(rng, inputs):
    return {"w": jax.random.normal(rng, (inputs.shape[-1],))}


def typed(params, rng, inputs, training):
    assert jax.dtypes.issubdtype(rng.dtype, jax.dtypes.prng_key)
    return inputs * params["w"] + jax.random.normal(rng, inputs.shape)


def raw(params, rng, inputs, training):
    assert rng.dtype == np.uint32
    return inputs * params["w"] + jax.random.normal(rng, inputs.shape)


def outputs(call_fn, **kwargs):
    layer = JaxLayer(call_fn, typed_init, seed=4, name="probe", **kwargs)
    return [layer(X, training=True), layer(X), layer(X, training=True)]


def test_a_jax_layer_gives_raw_keys_by_default():
    layer = JaxLayer(raw, typed_init, seed=4)
    layer.build(X.shape)
    assert TARGET not in program(layer, X)


def test_rng_impl_gives_typed_keys_of_the_same_bits():
    expected = outputs(raw)
    assert_same(outputs(typed, rng_impl="threefry2x32"), expected)
    assert_same(
        outputs(typed, rng_impl="threefry2x32", kernels="reference"), expected
    )
    layer = JaxLayer(typed, typed_init, seed=4, rng_impl="threefry2x32")
    layer.build(X.shape)
    assert TARGET in program(layer, X)


def test_rng_impl_may_be_another():
    a, _, b = outputs(typed, rng_impl="rbg")
    assert not np.array_equal(a, b)


def test_typed_keys_that_are_returned_are_those_of_jax():
    def call_fn(rng, inputs, training):
        return jax.random.split(rng, 2)

    layer = JaxLayer(call_fn, seed=0, rng_impl="threefry2x32")
    keys = layer(X, training=True)
    assert str(jax.random.key_impl(keys)) in ("threefry2x32", "fry")
    assert keys.dtype == jax.random.key(0).dtype


def test_rng_impl_is_saved():
    layer = JaxLayer(typed, typed_init, seed=4, rng_impl="threefry2x32")
    copy = JaxLayer.from_config(layer.get_config())
    assert copy.rng_impl == "threefry2x32"
    assert "rng_impl" not in JaxLayer(raw, typed_init).get_config()


@pytest.mark.parametrize(
    ("impl", "error"), [("nonsense", ValueError), (7, ValueError)]
)
def test_rng_impl_must_name_an_implementation(impl, error):
    with pytest.raises(error, match=f"`rng_impl` must .*{impl}"):
        JaxLayer(raw, typed_init, rng_impl=impl)


def test_the_policy_of_the_process_decides():
    layer = FlaxLayer(Dropout(), seed=0)
    layer.build(X.shape)
    with flaxlayer.kernels("reference"):
        assert TARGET not in program(layer, X)
    assert TARGET in program(layer, X)


def test_an_error_of_the_values_is_not_tried_again(native_kernels):
    calls = []

    def fails(x):
        calls.append(len(calls))
        raise ArithmeticError("of the values")

    class Failing(nn.Module):
        @nn.compact
        def __call__(self, x, training=False):
            x = nn.Dropout(0.5, deterministic=not training)(x)
            if self.is_initializing() or not training:
                return x
            shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
            return jax.pure_callback(fails, shape, x)

    layer = FlaxLayer(Failing(), seed=0)
    layer(X)
    with pytest.raises(jax.errors.JaxRuntimeError, match="of the values"):
        layer(X, training=True)
    assert calls == [0]
    assert not layer._keys.stock_only
