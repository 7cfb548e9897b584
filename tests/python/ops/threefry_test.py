"""Keys with native words give the bits of JAX's own, everywhere."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import export

from flaxlayer.ops import threefry

BITS = "flaxlayer_random_bits"
FOLD_IN = "flaxlayer_fold_in"
SPLIT = "flaxlayer_random_split"

pytestmark = pytest.mark.usefixtures("native_kernels")

words = st.integers(0, 2**32 - 1)
key_data = st.tuples(words, words)
shapes = st.lists(st.integers(0, 9), max_size=3).map(tuple)


def keys(data):
    """The same key or keys, native and JAX's own."""
    data = jnp.asarray(data, jnp.uint32)
    return tuple(
        jax.random.wrap_key_data(data, impl=impl)
        for impl in (threefry.prng_impl(required=True), "threefry2x32")
    )


def result(function, key):
    """What a function makes of a key; keys as their words."""
    found = function(key)
    if jax.dtypes.issubdtype(found.dtype, jax.dtypes.prng_key):
        found = jax.random.key_data(found)
    return np.asarray(found)


def assert_same(function, data, wrap=lambda f: f):
    native, stock = keys(data)
    expected = result(function, stock)
    actual = result(wrap(function), native)
    assert actual.dtype == expected.dtype
    np.testing.assert_array_equal(actual, expected, strict=True)


def num_calls(function, target, key=None):
    native = keys((0, 1))[0] if key is None else key
    return jax.jit(function).lower(native).as_text().count(f"@{target}(")


def bits(dtype, shape):
    return lambda key: jax.random.bits(key, shape, dtype)


DTYPES = ("uint8", "uint16", "uint32")


@settings(max_examples=40, deadline=None)
@given(key_data, shapes, st.sampled_from(DTYPES))
def test_bits(data, shape, dtype):
    assert_same(bits(dtype, shape), data)


def test_bits_of_64_bits():
    with jax.enable_x64(True):
        for shape in ((), (3,), (0, 2), (5, 7)):
            assert_same(bits("uint64", shape), (3, 2**32 - 1))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (1,), (63,), (64,), (65,), (3, 5, 7)])
def test_bits_compiled(dtype, shape):
    assert_same(bits(dtype, shape), (1, 2), wrap=jax.jit)
    assert num_calls(bits(dtype, shape), BITS) == 1


def test_many_bits():
    # Enough for several threads, and no multiple of anything.
    assert_same(bits("uint32", (3, 333_667)), (8, 9), wrap=jax.jit)


@settings(max_examples=25, deadline=None)
@given(key_data, words)
def test_fold_in(data, number):
    assert_same(lambda key: jax.random.fold_in(key, np.uint32(number)), data)


@pytest.mark.parametrize("number", [0, 7, 2**31 - 1])
def test_fold_in_of_python_numbers(number):
    assert_same(lambda key: jax.random.fold_in(key, number), (4, 5))


@settings(max_examples=25, deadline=None)
@given(key_data, st.lists(st.integers(0, 5), min_size=1, max_size=2))
def test_split(data, shape):
    assert_same(lambda key: jax.random.split(key, tuple(shape)), data)


def test_each_operation_is_one_call():
    assert num_calls(lambda key: jax.random.fold_in(key, 3), FOLD_IN) == 1
    assert num_calls(jax.random.split, SPLIT) == 1
    assert num_calls(bits("uint32", (9,)), BITS) == 1


@pytest.mark.parametrize("seed", [0, 1, 42, 2**32 - 1, -1])
def test_seed(seed):
    native = jax.random.key(seed, impl=threefry.prng_impl(required=True))
    stock = jax.random.key(seed)
    np.testing.assert_array_equal(
        jax.random.key_data(native), jax.random.key_data(stock)
    )


def test_seeds_compiled():
    make = functools.partial(
        jax.random.key, impl=threefry.prng_impl(required=True)
    )
    np.testing.assert_array_equal(jax.random.key_data(jax.jit(make)(7)), (0, 7))


SAMPLERS = {
    "uniform": lambda key: jax.random.uniform(key, (13, 5)),
    "uniform of 16 bits": lambda key: jax.random.uniform(
        key, (77,), jnp.bfloat16
    ),
    "normal": lambda key: jax.random.normal(key, (101,)),
    "normal of 16 bits": lambda key: jax.random.normal(key, (64,), jnp.float16),
    "bernoulli": lambda key: jax.random.bernoulli(key, 0.3, (50, 3)),
    "truncated_normal": lambda key: jax.random.truncated_normal(
        key, -2.0, 1.0, (33,)
    ),
    "permutation": lambda key: jax.random.permutation(key, 100),
    "categorical": lambda key: jax.random.categorical(
        key, jnp.linspace(0.0, 1.0, 7), shape=(20,)
    ),
    "gumbel": lambda key: jax.random.gumbel(key, (17,)),
    "randint": lambda key: jax.random.randint(key, (40,), -5, 2**30),
    "choice": lambda key: jax.random.choice(key, 30, (10,), replace=False),
    # A loop that draws until it accepts.
    "gamma": lambda key: jax.random.gamma(key, jnp.array([0.3, 2.0, 9.0])),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers(name):
    sampler = SAMPLERS[name]
    assert_same(sampler, (11, 12))
    assert_same(jax.vmap(sampler), [(1, 2), (3, 4), (5, 6)])
    native, _ = keys((0, 1))
    assert BITS in jax.jit(sampler).lower(native).as_text()


DATA = np.arange(24, dtype=np.uint32).reshape(3, 4, 2)


@pytest.mark.parametrize(
    ("function", "target"),
    [
        (bits("uint16", (5,)), BITS),
        (lambda key: jax.random.fold_in(key, 9), FOLD_IN),
        (lambda key: jax.random.split(key, 3), SPLIT),
    ],
)
def test_vmap_is_one_call(function, target):
    batched = jax.vmap(jax.vmap(function), in_axes=1, out_axes=1)
    assert_same(batched, DATA)
    assert num_calls(batched, target, keys(DATA)[0]) == 1


def test_vmap_over_what_is_folded_in():
    def fold(key):
        data = jnp.arange(5, dtype=jnp.uint32)
        return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, data)

    assert_same(fold, (1, 2))
    assert num_calls(fold, FOLD_IN) == 1


def test_vmap_of_empty_batches():
    assert_same(jax.vmap(bits("uint32", (3,))), np.zeros((0, 2), np.uint32))


def walk(key):
    def step(key, _):
        key, drawn = jax.random.split(key)
        return key, jax.random.normal(drawn, (4,))

    return jax.lax.scan(step, key, length=5)[1]


def test_scan():
    assert_same(walk, (6, 7))
    assert num_calls(walk, SPLIT) == 1


def noisy(key, weights):
    noise = jax.random.normal(key, weights.shape)
    return jnp.sum(jnp.tanh(weights * noise))


@pytest.mark.parametrize(
    "transform",
    [
        lambda f: f,
        jax.grad,
        jax.hessian,
        jax.jacfwd,
        jax.checkpoint,
        lambda f: jax.grad(jax.checkpoint(f)),
        lambda f: lambda x: jax.jvp(f, (x,), (x,))[1],
    ],
)
def test_transformations_of_what_draws(transform):
    weights = jnp.linspace(-1.0, 1.0, 5)

    def function(key):
        return jax.jit(transform(functools.partial(noisy, key)))(weights)

    assert_same(function, (2, 3))


def test_disable_jit():
    with jax.disable_jit():
        assert_same(bits("uint32", (3,)), (1, 2))
        assert_same(jax.random.split, (1, 2))
        assert_same(lambda key: jax.random.fold_in(key, 3), (1, 2))


def test_debug_nans():
    with jax.debug_nans(True):
        assert_same(SAMPLERS["normal"], (1, 2), wrap=jax.jit)


def test_checks_of_tracer_leaks():
    with jax.checking_leaks():
        assert_same(SAMPLERS["normal"], (1, 2), wrap=jax.jit)


def test_the_other_layout_is_that_of_jax():
    with jax.threefry_partitionable(False):
        for function in (bits("uint8", (7,)), jax.random.split):
            assert_same(function, (1, 2))
        assert num_calls(bits("uint32", (3,)), BITS) == 0
    assert num_calls(bits("uint32", (3,)), BITS) == 1


def test_keys_can_be_compared_stored_and_wrapped():
    native, _ = keys([(1, 2), (3, 4)])
    impl = jax.random.key_impl(native)
    assert impl == threefry.prng_impl(required=True)
    again = jax.random.wrap_key_data(jax.random.key_data(native), impl=impl)
    assert bool((again == native).all())
    assert not bool((again[0] == native[1]).any())
    assert jnp.where(jnp.array([True, False]), native, again).shape == (2,)
    assert jax.random.clone(native).shape == (2,)


def draw_from(data, required=False):
    impl = threefry.prng_impl(required=required)
    key = jax.random.wrap_key_data(data, impl=impl)
    return jax.random.normal(jax.random.split(key)[0], (4,))


@pytest.mark.parametrize("platforms", [("cpu",), ("cpu", "tpu"), ("tpu",)])
def test_exports_come_out_with_the_reference(platforms):
    data = np.array([1, 2], np.uint32)
    exporting = export.export(jax.jit(draw_from), platforms=platforms)
    exported = exporting(data)
    assert "custom_call @flaxlayer" not in exported.mlir_module()
    if "cpu" in platforms:
        np.testing.assert_array_equal(exported.call(data), draw_from(data))


def test_export_with_a_symbolic_size():
    (size,) = export.symbolic_shape("size")

    def draw(data, x):
        key = jax.random.wrap_key_data(
            data, impl=threefry.prng_impl(required=False)
        )
        return x + jax.random.uniform(key, x.shape)

    exported = export.export(jax.jit(draw))(
        jax.ShapeDtypeStruct((2,), np.uint32),
        jax.ShapeDtypeStruct((size,), np.float32),
    )
    data, x = np.array([1, 2], np.uint32), np.zeros(5, np.float32)
    np.testing.assert_array_equal(exported.call(data, x), draw(data, x))


def test_native_by_name_cannot_be_exported():
    # JAX does not know that it is there where the program is loaded.
    with pytest.raises(ValueError, match=r"flaxlayer_random_split\.v1"):
        export.export(jax.jit(functools.partial(draw_from, required=True)))(
            np.array([1, 2], np.uint32)
        )


def test_another_platform_uses_the_reference():
    traced = jax.jit(draw_from).trace(np.array([1, 2], np.uint32))
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert "custom_call @flaxlayer" not in text
