"""nn.Dropout under a layer: native masks, the bits of Linen."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxlayer import FlaxLayer

X = np.linspace(-1.0, 1.0, 48, dtype=np.float32).reshape(2, 4, 6)
FUSED = "custom_call @flaxlayer_fold_in_random_mask("
MASK = "custom_call @flaxlayer_random_mask("
BITS = "custom_call @flaxlayer_random_bits("

pytestmark = pytest.mark.usefixtures("native_kernels")


class Drop(nn.Module):
    """A dropout, called as `arguments` say."""

    rate: float = 0.5
    broadcast_dims: tuple[int, ...] = ()
    own_key: bool = False
    in_call: bool = False
    collection: str = "dropout"
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x, training=False):
        options = {"deterministic": not training}
        drop = nn.Dropout(
            self.rate,
            broadcast_dims=self.broadcast_dims,
            rng_collection=self.collection,
            **({} if self.in_call else options),
        )
        rng = self.make_rng("dropout") if self.own_key and training else None
        x = x.astype(self.dtype)
        return drop(x, rng=rng, **(options if self.in_call else {}))


class Other(nn.Dropout):
    """A subclass, which may do as it likes."""

    @nn.compact
    def __call__(self, inputs, deterministic=None, rng=None):
        return super().__call__(inputs, deterministic, rng) + 1.0


class UsesOther(nn.Module):
    @nn.compact
    def __call__(self, x, training=False):
        return Other(0.5, deterministic=not training)(x)


class Twice(nn.Module):
    @nn.compact
    def __call__(self, x, training=False):
        drop = nn.Dropout(0.3, deterministic=not training)
        return drop(x) + drop(x)


class Scanned(nn.Module):
    @nn.compact
    def __call__(self, x, training=False):
        def body(module, x, _):
            return nn.Dropout(0.3, deterministic=not training)(x), None

        scan = nn.scan(body, split_rngs={"dropout": True}, length=3)
        return scan(self, x, None)[0]


class Batched(nn.Module):
    @nn.compact
    def __call__(self, x, training=False):
        heads = nn.vmap(
            nn.Dropout,
            in_axes=0,
            variable_axes={},
            split_rngs={"dropout": True},
        )
        return heads(0.3, deterministic=not training)(x)


def layer(module, kernels="auto", **kwargs):
    made = FlaxLayer(module, seed=3, kernels=kernels, **kwargs)
    made.build(X.shape)
    return made


def program(made):
    def call(other, x):
        return made.stateless_call([], other, x, training=True)

    other = [v.value for v in made.non_trainable_variables]
    return jax.jit(call).lower(other, X).as_text()


def assert_bits_of_linen(module, **kwargs):
    native = layer(module, "native", **kwargs)
    reference = layer(module, "reference", **kwargs)
    for _ in range(2):
        actual = native(X, training=True)
        expected = reference(X, training=True)
        assert actual.dtype == expected.dtype
        np.testing.assert_array_equal(
            np.asarray(actual, np.float32), np.asarray(expected, np.float32)
        )
    np.testing.assert_array_equal(native(X), reference(X))


@pytest.mark.parametrize(
    "module",
    [
        Drop(),
        Drop(rate=0.1),
        Drop(rate=1e-6),
        Drop(rate=0.999),
        Drop(broadcast_dims=(1,)),
        Drop(broadcast_dims=(0, -1)),
        Drop(in_call=True),
        Drop(dtype="bfloat16"),
        Twice(),
        Scanned(),
    ],
    ids=str,
)
def test_one_call_makes_a_mask(module):
    assert_bits_of_linen(module)
    text = program(layer(module))
    assert text.count(FUSED) == (2 if isinstance(module, Twice) else 1)
    assert MASK not in text
    assert BITS not in text


@pytest.mark.parametrize("module", [Batched(), Drop(own_key=True)], ids=str)
def test_masks_of_several_keys_and_of_given_ones(module):
    assert_bits_of_linen(module)
    text = program(layer(module))
    assert text.count(FUSED) + text.count(MASK) == 1
    assert BITS not in text


@pytest.mark.parametrize(
    "module",
    [
        # The probability rounds to one.
        Drop(rate=1e-9),
        UsesOther(),
    ],
    ids=str,
)
def test_what_is_left_to_linen(module):
    assert_bits_of_linen(module)
    text = program(layer(module))
    assert FUSED not in text
    assert BITS in text


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_rates_without_a_mask(rate):
    assert_bits_of_linen(Drop(rate=rate))
    assert "custom_call @flaxlayer" not in program(layer(Drop(rate=rate)))


def test_another_stream():
    assert_bits_of_linen(Drop(collection="noise"), rngs=("noise", "dropout"))


def test_64_bit_floats():
    with jax.enable_x64(True):
        assert_bits_of_linen(Drop())


def test_the_gradient():
    def gradient(made):
        def loss(x):
            other = [v.value for v in made.non_trainable_variables]
            out, _ = made.stateless_call([], other, x, training=True)
            return jnp.sum(out * jnp.arange(6.0))

        return jax.jit(jax.grad(loss))(X)

    np.testing.assert_array_equal(
        gradient(layer(Drop(), "native")), gradient(layer(Drop(), "reference"))
    )


def test_deterministic_has_to_be_said():
    class Silent(nn.Module):
        @nn.compact
        def __call__(self, x, training=False):
            return nn.Dropout(0.5)(x)

    for kernels in ("native", "reference"):
        with pytest.raises(ValueError, match="deterministic"):
            layer(Silent(), kernels)(X, training=True)


def test_interceptors_of_the_user_see_the_dropout():
    seen = []

    def watch(next_fun, args, kwargs, context):
        seen.append(type(context.module).__name__)
        return next_fun(*args, **kwargs)

    made = layer(Drop())
    with nn.intercept_methods(watch):
        made(X, training=True)
    assert seen == ["Drop", "Dropout"]
