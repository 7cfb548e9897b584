"""Native masks are those of jax.random.bernoulli."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import export

from flaxlayer.ops import random_mask, threefry

FUSED = f"@{random_mask.FOLD_IN_TARGET}("
PLAIN = f"@{random_mask.TARGET}("

pytestmark = pytest.mark.usefixtures("native_kernels")

words = st.integers(0, 2**32 - 1)


def key_of(data, *, required=True):
    impl = threefry.prng_impl(required=required)
    return jax.random.wrap_key_data(jnp.asarray(data, jnp.uint32), impl=impl)


def stock_key(data):
    return jax.random.wrap_key_data(jnp.asarray(data, jnp.uint32))


def text_of(function, *args):
    return jax.jit(function).lower(*args).as_text()


@settings(max_examples=30, deadline=None)
@given(
    st.tuples(words, words),
    st.floats(1e-6, 1.0, exclude_max=True),
    st.lists(st.integers(0, 40), max_size=2).map(tuple),
)
def test_equals_bernoulli(data, probability, shape):
    actual = random_mask.bernoulli(key_of(data), probability, shape)
    expected = jax.random.bernoulli(stock_key(data), probability, shape)
    assert actual.dtype == expected.dtype == np.bool_
    np.testing.assert_array_equal(actual, expected, strict=True)


@pytest.mark.parametrize(
    "probability",
    [0.9, 0.5, 0.1, 1 / 3, 2.0**-23, 3 * 2.0**-24, 1 - 2.0**-23, 1e-6],
)
def test_the_limit_is_where_bernoulli_changes(probability):
    limit = random_mask._limit(probability)
    # Fractions just below and above it, as jax.random.uniform makes them.
    around = (limit >> 9) + np.arange(-2, 3)
    around = around[(around >= 0) & (around < 2**23)]
    drawn = (around * 2.0**-23).astype(np.float32)
    expected = drawn < np.float32(probability)
    np.testing.assert_array_equal((around << 9) < limit, expected)
    assert len(set(expected)) > 1 or probability == 1 - 2.0**-23
    # All words of one fraction are on the same side.
    np.testing.assert_array_equal((around << 9) + 511 < limit, expected)


@pytest.mark.parametrize("probability", [0.0, -1.0, 1.0, 1 - 1e-9, 2.0])
def test_probabilities_without_a_limit(probability):
    key = key_of((1, 2))
    expected = jax.random.bernoulli(stock_key((1, 2)), probability, (50,))
    actual = random_mask.bernoulli(key, probability, (50,))
    np.testing.assert_array_equal(actual, expected)


def test_a_large_mask():
    shape = (7, 61_111)
    actual = jax.jit(lambda key: random_mask.bernoulli(key, 0.9, shape))(
        key_of((5, 6))
    )
    expected = jax.random.bernoulli(stock_key((5, 6)), 0.9, shape)
    np.testing.assert_array_equal(actual, expected)


def folded(key):
    return random_mask.bernoulli(jax.random.fold_in(key, 9), 0.7, (33,))


def test_a_fold_is_part_of_the_call():
    compiled = jax.jit(folded).lower(key_of((1, 2))).compile()
    assert "flaxlayer_fold_in_random_mask" in compiled.as_text()
    assert '"flaxlayer_fold_in"' not in compiled.as_text()
    expected = jax.random.bernoulli(
        jax.random.fold_in(stock_key((1, 2)), 9), 0.7, (33,)
    )
    np.testing.assert_array_equal(compiled(key_of((1, 2))), expected)


def test_a_fold_that_is_used_elsewhere_stays():
    def function(key):
        key = jax.random.fold_in(key, 9)
        mask = random_mask.bernoulli(key, 0.7, (33,))
        return mask, jax.random.key_data(key)

    compiled = jax.jit(function).lower(key_of((1, 2))).compile()
    assert "flaxlayer_fold_in_random_mask" in compiled.as_text()
    key = jax.random.fold_in(stock_key((1, 2)), 9)
    mask, data = compiled(key_of((1, 2)))
    np.testing.assert_array_equal(data, jax.random.key_data(key))
    np.testing.assert_array_equal(mask, jax.random.bernoulli(key, 0.7, (33,)))


def test_a_key_that_is_not_folded():
    mask = functools.partial(random_mask.bernoulli, probability=0.7, shape=(3,))
    text = text_of(mask, key_of((1, 2)))
    assert PLAIN in text
    assert FUSED not in text


DATA = np.arange(24, dtype=np.uint32).reshape(3, 4, 2)


def test_vmap_is_one_call():
    batched = jax.vmap(jax.vmap(folded), in_axes=1, out_axes=1)
    text = text_of(batched, key_of(DATA))
    assert text.count(FUSED) + text.count(PLAIN) == 1

    def stock(key):
        return jax.random.bernoulli(jax.random.fold_in(key, 9), 0.7, (33,))

    expected = jax.vmap(jax.vmap(stock), in_axes=1, out_axes=1)(stock_key(DATA))
    np.testing.assert_array_equal(batched(key_of(DATA)), expected)


def test_other_keys_are_left_to_jax():
    for key in (stock_key((1, 2)), jnp.array([1, 2], jnp.uint32)):
        mask = random_mask.bernoulli(key, 0.5, (9,))
        np.testing.assert_array_equal(
            mask, jax.random.bernoulli(key, 0.5, (9,))
        )


def test_64_bit_floats_are_left_to_jax():
    with jax.enable_x64(True):
        mask = random_mask.bernoulli(key_of((1, 2)), 0.3, (99,))
        np.testing.assert_array_equal(
            mask, jax.random.bernoulli(stock_key((1, 2)), 0.3, (99,))
        )


def test_the_other_layout_is_left_to_jax():
    with jax.threefry_partitionable(False):
        mask = random_mask.bernoulli(key_of((1, 2)), 0.3, (99,))
        np.testing.assert_array_equal(
            mask, jax.random.bernoulli(stock_key((1, 2)), 0.3, (99,))
        )


@pytest.mark.parametrize("platforms", [("cpu",), ("tpu", "cpu")])
def test_exports_come_out_with_the_reference(platforms):
    def function(data):
        return folded(key_of(data, required=False))

    data = np.array([1, 2], np.uint32)
    exported = export.export(jax.jit(function), platforms=platforms)(data)
    assert "custom_call @flaxlayer" not in exported.mlir_module()
    np.testing.assert_array_equal(exported.call(data), function(data))


def test_native_by_name_cannot_be_exported():
    with pytest.raises(RuntimeError, match=r'"native" was asked for'):
        export.export(jax.jit(lambda data: folded(key_of(data))))(
            np.array([1, 2], np.uint32)
        )
