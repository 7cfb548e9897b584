import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import export

from flaxlayer.ops import dispatch, state_merge

REFERENCE = dispatch.Choice("reference")
FLOATS = ("float16", "bfloat16", "float32", "float64")
COMPLEX = ("complex64", "complex128")
OTHERS = (
    *("bool", "int8", "int16", "int32", "int64"),
    *("uint8", "uint16", "uint32", "uint64"),
)


@pytest.fixture(params=["native", "reference"])
def kernel(request, on_cpu):
    if request.param == "native":
        request.getfixturevalue("native_kernels")
    return dispatch.choose("state_merge", request.param)


@pytest.fixture(scope="module")
def native(native_kernels):
    return dispatch.choose("state_merge", "native")


@pytest.fixture
def auto(native_kernels):
    choice = dispatch.choose("state_merge", "auto")
    assert choice.kernel == "native"
    return choice


def merging(kernel, guard=True):
    """`merge` as a function of arrays: old, new and, if given, update."""

    def function(old, new, update=None):
        return state_merge.merge(
            old, new, kernel=kernel, update=update, guard=guard
        )

    return function


def num_calls(function, *args):
    text = jax.jit(function).lower(*args).as_text()
    return text.count(f"@{state_merge.TARGET}(")


def bits(array):
    """What tells apart every two numbers, NaNs and zeros too."""
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        array = jax.random.key_data(array)
    array = np.asarray(array)
    return array.dtype, array.shape, array.tobytes()


def assert_same(actual, expected):
    """That the leaves of two trees have the same bits."""
    actual, expected = map(jax.tree.leaves, (actual, expected))
    assert len(actual) == len(expected)
    for one, other in zip(actual, expected, strict=True):
        assert bits(one) == bits(other)


def leaves(spoilt=False):
    """Old and new leaves; no number of the new ones is also an old one."""
    old = [
        jnp.zeros((2, 3)),
        jnp.array([0.0, np.nan, np.inf], jnp.bfloat16),
        jnp.zeros(4, jnp.int32),
        jnp.zeros((), bool),
    ]
    new = [
        jnp.arange(1.0, 7.0).reshape(2, 3),
        jnp.array([1, 2, 3], jnp.bfloat16),
        jnp.arange(1, 5, dtype=jnp.int32),
        jnp.ones((), bool),
    ]
    if spoilt:
        new[1] = new[1].at[2].set(jnp.nan)
    return old, new


# What is merged.


def test_new_leaves_are_taken(kernel):
    old, new = leaves()
    assert_same(merging(kernel)(old, new), new)


@pytest.mark.parametrize("guard", [False, True])
@pytest.mark.parametrize("jit", [False, True])
def test_the_predicate_decides(kernel, guard, jit):
    old, new = leaves()
    function = merging(kernel, guard)
    function = jax.jit(function) if jit else function
    assert_same(function(old, new, jnp.bool_(True)), new)
    assert_same(function(old, new, jnp.bool_(False)), old)


@pytest.mark.parametrize("update", [None, True, False])
def test_all_old_leaves_are_kept_where_one_is_not_finite(kernel, update):
    old, new = leaves(spoilt=True)
    assert_same(merging(kernel)(old, new, update), old)


@pytest.mark.parametrize("update", [None, True])
def test_without_a_guard_any_number_is_taken(kernel, update):
    old, new = leaves(spoilt=True)
    assert_same(merging(kernel, guard=False)(old, new, update), new)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", FLOATS + COMPLEX)
def test_every_kind_of_number_is_guarded(kernel, dtype, bad):
    with jax.enable_x64(True):
        old = [jnp.zeros(5, dtype), jnp.zeros(3)]
        numbers = [bad] if dtype in FLOATS else [bad, complex(0, bad)]
        for number in numbers:
            for at in range(5):
                new = [jnp.ones(5, dtype).at[at].set(number), jnp.ones(3)]
                assert_same(merging(kernel)(old, new), old)


def test_old_numbers_are_not_guarded(kernel):
    old, new = [jnp.array([np.nan, 0])], [jnp.ones(2)]
    assert_same(merging(kernel)(old, new), new)


def test_what_has_the_bits_of_a_nan_is_a_number_all_the_same(kernel):
    old = [jnp.zeros(3, jnp.int32), jnp.zeros(2)]
    new = [jnp.full(3, 0x7FC00000, jnp.int32), jnp.ones(2)]
    assert_same(merging(kernel)(old, new), new)


@pytest.mark.parametrize("size", [1, 7, 64, 1023, 300_001])
def test_a_number_is_found_at_any_place(kernel, size):
    old, new = [jnp.zeros(size)], [jnp.ones(size)]
    assert_same(merging(kernel)(old, new), new)
    for at in {0, size // 2, size - 1}:
        spoilt = [new[0].at[at].set(jnp.inf)]
        assert_same(merging(kernel)(old, spoilt), old)


@pytest.mark.parametrize("sizes", [[0], [0, 3], [0, 0], [3, 0, 2]])
def test_empty_leaves(kernel, sizes):
    old = [jnp.zeros(size) for size in sizes]
    new = [jnp.ones((size,)) for size in sizes]
    assert_same(merging(kernel)(old, new), new)
    assert_same(merging(kernel)(old, new, jnp.bool_(False)), old)


def test_no_leaves(kernel):
    assert merging(kernel)([], []) == []
    assert merging(kernel)([], [], jnp.bool_(False)) == []


def test_many_leaves(kernel):
    old = [jnp.full(i % 7, -1.0) for i in range(100)]
    new = [jnp.full(i % 7, i, jnp.float32) for i in range(100)]
    assert_same(jax.jit(merging(kernel))(old, new), new)
    new[97] = new[97].at[-1].set(jnp.nan)
    assert_same(jax.jit(merging(kernel))(old, new), old)


def test_a_leaf_may_be_old_and_new_at_other_places(kernel):
    a, b = jnp.arange(1.0, 6.0), -jnp.arange(1.0, 6.0)
    for donated in ((), (0, 1)):

        @functools.partial(jax.jit, donate_argnums=donated)
        def function(a, b):
            swapped = merging(kernel)([a, b], [b, a])
            twice = merging(kernel)([a, a], [b, b + 1])
            same = merging(kernel)([a], [a])
            return swapped, twice, same

        assert_same(function(a + 0, b + 0), ([b, a], [b, b + 1], [a]))


# Typed keys, and dtypes that the kernel does not know.


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
@pytest.mark.parametrize("guard", [False, True])
def test_typed_keys(kernel, impl, guard):
    keys = jax.random.split(jax.random.key(1, impl=impl), (2, 3))
    old, new = [keys[0], jnp.zeros(3)], [keys[1], jnp.ones(3)]
    function = jax.jit(merging(kernel, guard))
    for update, expected in ((True, new), (False, old)):
        merged = function(old, new, jnp.bool_(update))
        assert merged[0].dtype == keys.dtype
        assert_same(merged, expected)


def test_typed_keys_are_kept_by_the_guard(kernel):
    keys = jax.random.split(jax.random.key(1), 2)
    old, new = [keys[0], jnp.zeros(3)], [keys[1], jnp.full(3, jnp.nan)]
    assert_same(merging(kernel)(old, new), old)


def test_a_key_and_an_array():
    key = jax.random.key(0)
    words = jax.random.key_data(key)
    other = jax.random.key(0, impl="rbg")
    for old, new in ((key, words[0]), (words[0], key), (key, other)):
        with pytest.raises(TypeError, match="leaf 1 .*cannot be cast"):
            merging(REFERENCE)([key, old], [key, new])


@pytest.mark.parametrize("spoilt", [None, 0, 1])
def test_leaves_that_the_kernel_does_not_know(kernel, spoilt):
    narrow = jnp.float8_e4m3fn
    old = [jnp.zeros(3, narrow), jnp.zeros(3), jnp.zeros(2, jnp.int4)]
    new = [jnp.ones(3, narrow), jnp.ones(3), jnp.ones(2, jnp.int4)]
    if spoilt is not None:
        new[spoilt] = new[spoilt].at[1].set(jnp.nan)
    function = jax.jit(merging(kernel))
    assert_same(function(old, new), new if spoilt is None else old)
    update = jnp.bool_(False)
    assert_same(function(old, new, update), old)
    assert num_calls(function, old, new) == (kernel.kernel == "native")


def test_there_is_a_call_only_for_what_the_kernel_knows(auto):
    old, new = ([jnp.full(3, x, jnp.float8_e5m2)] for x in (0, 1))
    assert num_calls(merging(auto), old, new) == 0
    assert_same(merging(auto)(old, new), new)


# Casts.


@pytest.mark.parametrize("to", FLOATS + COMPLEX + OTHERS)
def test_new_leaves_are_cast(kernel, to):
    with jax.enable_x64(True):
        old = [jnp.zeros(3, to)] * len(FLOATS + OTHERS) + [jnp.zeros(1)]
        new = [jnp.array([0, 1, 2]).astype(dtype) for dtype in FLOATS + OTHERS]
        new.append(jnp.ones(1))

        @jax.jit  # One program in place of one for each pair of dtypes.
        def expected(old, new):
            return [x.astype(y.dtype) for y, x in zip(old, new, strict=True)]

        assert_same(jax.jit(merging(kernel))(old, new), expected(old, new))


def every_16_bits(dtype):
    return np.arange(2**16, dtype=np.uint16).view(jnp.dtype(dtype))


def halves_of_f32():
    """Numbers at and beside all that are halfway between two of 16 bits."""
    upper = np.arange(2**16, dtype=np.uint32) << 16
    lower = np.array([0, 1, 0xFFF, 0x1000, 0x1001, 0x7FFF, 0x8000, 0x8001])
    return (upper[:, None] | lower.astype(np.uint32)).ravel().view(np.float32)


def halves_of_f64():
    numbers = np.random.default_rng(0).integers(0, 2**64, 2**16, np.uint64)
    rounded = numbers >> np.uint64(29) << np.uint64(29)
    half = np.uint64(1 << 28)
    edges = [rounded, rounded + half, rounded + half + 1, rounded + half - 1]
    # Exponents of denormal numbers and of infinity in 32 bits.
    exponents = np.arange(860, 1160, dtype=np.uint64) << np.uint64(52)
    edges += [exponents, exponents - 1, exponents + half]
    return np.concatenate([numbers, *edges]).view(np.float64)


@pytest.mark.parametrize(
    ("numbers", "to"),
    [
        *((every_16_bits("float16"), to) for to in FLOATS),
        *((every_16_bits("bfloat16"), to) for to in FLOATS),
        *((halves_of_f32(), to) for to in FLOATS),
        *((halves_of_f64(), to) for to in FLOATS),
    ],
    ids=lambda value: getattr(value, "dtype", value),
)
def test_casts_and_the_guard_are_those_of_jax_for_every_number(
    native, numbers, to
):
    # Each number is a leaf of its own for a vmapped merge.
    with jax.enable_x64(True):
        old, new = jnp.full(numbers.shape, 7, to), jnp.asarray(numbers)
        stored = new.astype(to)
        expected = jnp.where(jnp.isfinite(stored), stored, old)
        for kernel in (native, REFERENCE):
            function = jax.jit(jax.vmap(merging(kernel)))
            assert_same(function([old], [new]), [expected])


@pytest.mark.parametrize(
    ("to", "bits_of_too_large"),
    [("float16", 0x477FF000), ("bfloat16", 0x7F7F8000)],
)
def test_a_number_that_is_too_large_when_stored_is_guarded(
    kernel, to, bits_of_too_large
):
    # Halfway between the largest number and what would be the next one.
    too_large = np.uint32(bits_of_too_large).view(np.float32)
    largest = np.uint32(bits_of_too_large - 1).view(np.float32)
    old = [jnp.zeros(2, to)]
    function = jax.jit(merging(kernel))
    kept = function(old, [jnp.array([1, too_large], jnp.float32)])
    taken = function(old, [jnp.array([1, largest], jnp.float32)])
    assert_same(kept, old)
    assert np.isfinite(np.asarray(taken[0], np.float32)).all()
    assert taken[0][1] > 1


def test_a_cast_is_in_the_step_that_computes_the_leaf(native):
    # XLA computes this in 32 bits and may leave out rounding to 16: then both
    # have what it left, and with a cast in the call one would not.
    def function(kernel, x):
        old = [jnp.zeros(x.shape, jnp.float32)]
        new = [x.astype(jnp.bfloat16) * jnp.bfloat16(1.1)]
        return merging(kernel)(old, new)

    x = jnp.linspace(0, 1, 1001)
    results = [
        jax.jit(functools.partial(function, kernel))(x)
        for kernel in (native, REFERENCE)
    ]
    assert_same(*results)


def test_integers_beyond_a_float_are_guarded(kernel):
    old, new = [jnp.zeros(2, jnp.float16)], [jnp.array([1, 70000])]
    assert_same(merging(kernel)(old, new), old)
    old, new = [jnp.zeros(2, jnp.int32)], [jnp.array([1.0, jnp.inf])]
    assert_same(merging(kernel)(old, new), [new[0].astype(jnp.int32)])


# What is emitted.


@pytest.mark.parametrize("guard", [False, True])
def test_where_there_is_nothing_to_do_nothing_is_done(kernel, guard):
    key = jax.random.key(0)
    old = [jnp.zeros(3, jnp.int32), jnp.zeros(2, bool), key]
    new = [jnp.ones(3, jnp.int32), jnp.ones(2, bool), key]
    if not guard:
        old.append(jnp.zeros(3))
        new.append(jnp.array([0, jnp.nan, 1]))
    merged = merging(kernel, guard)(old, new)
    assert all(a is b for a, b in zip(merged, new, strict=True))
    assert not jax.make_jaxpr(merging(kernel, guard))(old, new).eqns


def test_a_cast_alone_is_a_cast(kernel):
    old, new = [jnp.zeros(3, jnp.bfloat16)], [jnp.ones(3)]
    (cast,) = jax.make_jaxpr(merging(kernel, guard=False))(old, new).eqns
    assert cast.primitive.name == "convert_element_type"


def test_the_guard_is_one_call(auto):
    for count in (1, 2, 50):
        old, new = ([jnp.full(3, x)] * count for x in (0.0, 1.0))
        assert num_calls(merging(auto), old, new) == 1
        assert num_calls(merging(auto), old, new, jnp.bool_(True)) == 1


def test_all_dtypes_are_one_call(native):
    with jax.enable_x64(True):
        old = [jnp.zeros(3, dtype) for dtype in FLOATS + COMPLEX + OTHERS]
        new = [jnp.ones(3).astype(leaf.dtype) for leaf in old]
        old.append(jax.random.key(0))
        new.append(jax.random.key(1))
        assert num_calls(merging(native), old, new) == 1


def test_the_predicate_alone_is_no_call(native):
    old, new = leaves()
    function = merging(native, guard=False)
    assert num_calls(function, old, new, jnp.bool_(True)) == 0


def test_the_reference_is_no_call():
    assert num_calls(merging(REFERENCE), *leaves()) == 0


def test_the_choice_decides_and_not_the_policy(auto):
    with dispatch.kernels("reference"):
        assert num_calls(merging(auto), *leaves()) == 1


def test_merged_leaves_are_in_the_buffers_of_the_old(native):
    function = jax.jit(merging(native), donate_argnums=0)
    old, new = leaves()
    text = function.lower(old, new).compile().as_text()
    assert "{1}: (1, {})" in text.split("output_to_operand_aliasing")[1]
    assert "input_output_alias={ {0}: (0" in text
    assert " copy(" not in text
    pointers = [leaf.unsafe_buffer_pointer() for leaf in old]
    for spoilt in (True, False):
        merged = function(old, leaves(spoilt)[1])
        assert all(leaf.is_deleted() for leaf in old)
        assert [leaf.unsafe_buffer_pointer() for leaf in merged] == pointers
        old = merged
    assert_same(merged, new)


def test_leaves_that_are_not_donated_stay_as_they_are(native):
    old, new = leaves()
    before = [bits(leaf) for leaf in old + new]
    jax.jit(merging(native))(old, new)
    merging(native)(old, new)
    assert [bits(leaf) for leaf in old + new] == before


def test_hundreds_of_leaves_are_compiled_in_little_time(native):
    # XLA's attempts to fuse leaves into the call would take several seconds.
    def function(old, x):
        return merging(native)(old, [0.5 * leaf + x for leaf in old])

    old = [jnp.zeros(8) for _ in range(600)]
    text = jax.jit(function).lower(old, jnp.ones(8)).as_text()
    barrier = text.index("stablehlo.optimization_barrier")
    assert barrier < text.index(f"@{state_merge.TARGET}(")


# Any leaves at all.

dtypes = st.sampled_from(FLOATS + COMPLEX + OTHERS)
shapes = st.lists(st.integers(0, 5), max_size=3).map(tuple)
specs = st.tuples(dtypes, st.none() | st.sampled_from(FLOATS), shapes)
seeds = st.integers(0, 2**32 - 1)


def random_leaf(rng, dtype, shape):
    """Numbers of any bits, of which few are not finite."""
    dtype = jnp.dtype(dtype)
    size = int(np.prod(shape)) * dtype.itemsize
    array = np.frombuffer(rng.bytes(size), np.uint8)
    if jnp.issubdtype(dtype, np.bool_):
        array = array & 1
    array = array.view(dtype).reshape(shape).copy()
    if jnp.issubdtype(dtype, np.inexact) and rng.random() < 0.7:
        with np.errstate(invalid="ignore"):  # of signaling NaNs
            array = np.where(np.isfinite(array), array, array.dtype.type(1))
    if dtype == jnp.bfloat16:
        # XLA's select on the CPU computes in float32, and rounding that turns
        # every NaN into this one.
        with np.errstate(invalid="ignore"):
            array = np.where(np.isnan(array), dtype.type(np.nan), array)
    return jnp.asarray(array)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(specs, max_size=6),
    st.sampled_from([None, False, True]),
    st.booleans(),
    st.booleans(),
    seeds,
)
def test_both_kernels_do_what_is_documented(
    native, specs, update, guard, jit, seed
):
    rng = np.random.default_rng(seed)
    with jax.enable_x64(True):
        old = [random_leaf(rng, dtype, shape) for dtype, _, shape in specs]
        new = [
            random_leaf(
                rng, dtype if dtype not in FLOATS else other or dtype, shape
            )
            for dtype, other, shape in specs
        ]
        stored = [
            leaf.astype(kept.dtype) for kept, leaf in zip(old, new, strict=True)
        ]
        taken = update is not False and not (
            guard
            and any(
                not jnp.isfinite(leaf).all()
                for leaf in stored
                if jnp.issubdtype(leaf.dtype, np.inexact)
            )
        )
        if update is not None:
            update = jnp.bool_(update)
        for kernel in (native, REFERENCE):
            function = merging(kernel, guard)
            function = jax.jit(function) if jit else function
            assert_same(function(old, new, update), stored if taken else old)


@settings(max_examples=20, deadline=None)
@given(
    st.lists(specs, min_size=1, max_size=4),
    st.lists(st.integers(0, 3), min_size=1, max_size=2),
    st.booleans(),
    seeds,
)
def test_vmap_merges_each_element_by_itself(native, specs, batch, guard, seed):
    rng = np.random.default_rng(seed)
    with jax.enable_x64(True):
        old, new = (
            [
                random_leaf(rng, dtype, (*batch, *shape))
                for dtype, _, shape in specs
            ]
            for _ in range(2)
        )
        update = jnp.asarray(rng.random(batch) < 0.7)
        results = []
        for kernel in (native, REFERENCE):
            function = merging(kernel, guard)
            for _ in batch:
                function = jax.vmap(function)
            results.append(jax.jit(function)(old, new, update))
        assert_same(*results)
        for at in np.ndindex(*batch):
            one = state_merge.reference(
                [leaf[at] for leaf in old],
                [leaf[at] for leaf in new],
                update=update[at],
                guard=guard,
            )
            assert_same([leaf[at] for leaf in results[0]], one)


# Transformations. What a function makes of the native kernel has the bits of
# what it makes of the reference.


def assert_both_same(function, *args, calls=1):
    """Compares the kernels, compiled; the native one is called that often."""
    native = dispatch.choose("state_merge", "native")
    compiled = [
        jax.jit(functools.partial(function, kernel))(*args)
        for kernel in (native, REFERENCE)
    ]
    assert_same(*compiled)
    assert num_calls(functools.partial(function, native), *args) == calls
    return compiled[0]


needs_native = pytest.mark.usefixtures("native_kernels")


@needs_native
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_vmap_over_any_axis_is_one_call(axis):
    def function(kernel, old, new, update):
        vmapped = jax.vmap(
            merging(kernel), in_axes=(axis, axis, 0), out_axes=axis
        )
        return vmapped(old, new, update)

    old = [jnp.zeros((4, 4)), jnp.zeros((4, 4), jnp.int32)]
    new = [jnp.ones((4, 4)).at[1, 2].set(jnp.nan), jnp.ones((4, 4), jnp.int32)]
    update = jnp.array([True, True, True, False])
    assert_both_same(function, old, new, update)


@needs_native
def test_vmap_over_some_leaves_only():
    def function(kernel, old, new, update):
        # The first old leaf is the same for all.
        axes = ([None, 0], [0, 0], None)
        return jax.vmap(merging(kernel), in_axes=axes)(old, new, update)

    old = [jnp.zeros(3), jnp.zeros((2, 4))]
    new = [jnp.ones((2, 3)), jnp.ones((2, 4)).at[1, 0].set(jnp.inf)]
    merged = assert_both_same(function, old, new, jnp.bool_(True))
    np.testing.assert_array_equal(merged[0], [[1, 1, 1], [0, 0, 0]])


@needs_native
def test_nested_vmap_is_one_call():
    def function(kernel, old, new):
        inner = jax.vmap(merging(kernel), in_axes=1)
        return jax.vmap(inner, in_axes=2, out_axes=1)(old, new)

    shape = (3, 4, 5)
    old = [jnp.zeros(shape)]
    new = [jnp.ones(shape).at[2, 1, 3].set(jnp.nan)]
    merged = assert_both_same(function, old, new)
    assert merged[0].shape == (4, 5, 3)


def weights_and_leaves(spoilt):
    weights = jnp.linspace(-1.0, 1.0, 3)
    old = [jnp.array([0.5, -2.0, 3.0]), jnp.zeros(3, jnp.bfloat16)]
    bad = jnp.array([jnp.nan if spoilt else 1.0, 2.0, 3.0])
    return weights, old, bad


def merged_state(kernel, weights, old, x, update=None):
    """State whose new leaves depend on the weights, one with a cast."""
    # What is not finite is added, since zero times it would be NaN.
    new = [jnp.tanh(weights) * old[0] + x, weights**2 + x]
    count = jnp.arange(3)
    merged = merging(kernel)([*old, count], [*new, count + 1], update)
    return merged[0], merged[1].astype(jnp.float32), merged[2]


def scalar(kernel, weights, old, x, update=None):
    first, second, count = merged_state(kernel, weights, old, x, update)
    return jnp.sum(first**2 * count + 3 * second)


@needs_native
@pytest.mark.parametrize("spoilt", [False, True])
@pytest.mark.parametrize(
    "transform",
    [
        lambda f: jax.grad(f, argnums=(0, 1)),
        lambda f: jax.value_and_grad(f, argnums=(0, 1)),
        lambda f: jax.grad(jax.checkpoint(f), argnums=(0, 1)),
        lambda f: jax.jacfwd(f, argnums=(0, 1)),
        lambda f: jax.jacrev(f, argnums=(0, 1)),
        lambda f: jax.hessian(f),
        lambda f: jax.jacfwd(jax.jacfwd(f), argnums=1),
        lambda f: jax.vmap(jax.grad(f), in_axes=(None, None, 0)),
        lambda f: jax.grad(
            lambda *args: jax.vmap(f, in_axes=(None, None, 0))(*args).sum(),
            argnums=(0, 1),
        ),
    ],
    ids=[
        *("grad", "value_and_grad", "checkpoint", "jacfwd", "jacrev"),
        *("hessian", "jacfwd of jacfwd", "vmap of grad", "grad of vmap"),
    ],
)
def test_derivatives(request, transform, spoilt):
    weights, old, x = weights_and_leaves(spoilt)
    if "vmap" in request.node.callspec.id:
        x = jnp.stack([x, 2 * x, x.at[0].set(1.0)])
    native = dispatch.choose("state_merge", "native")
    results = [
        jax.jit(transform(functools.partial(scalar, kernel)))(weights, old, x)
        for kernel in (native, REFERENCE)
    ]
    assert_same(*results)
    function = transform(functools.partial(scalar, native))
    assert num_calls(function, weights, old, x) >= 1


@pytest.mark.parametrize("update", [True, False])
@pytest.mark.parametrize("spoilt", [False, True])
def test_the_derivative_is_that_of_what_is_taken(kernel, spoilt, update):
    weights, old, x = weights_and_leaves(spoilt)
    function = functools.partial(scalar, kernel)
    gradients = jax.grad(function, argnums=(0, 1))(
        weights, old, x, jnp.bool_(update)
    )
    if spoilt or not update:
        # That of the old leaves, kept.
        expected = [2 * old[0] * jnp.arange(3), jnp.full(3, 3, jnp.bfloat16)]
        assert_same(gradients, (jnp.zeros(3), expected))
    else:
        assert (gradients[0] != 0).any()
        np.testing.assert_array_equal(gradients[1][1], jnp.zeros(3))


@needs_native
def test_jvp_with_tangents_of_some_leaves_only():
    def function(kernel, a, b, tangent):
        old = [jnp.zeros(3), jnp.zeros(3), jnp.zeros(2, jnp.int32)]

        def merge_both(a):
            return merging(kernel)(old, [a, b, old[2] + 1])

        return jax.jvp(merge_both, (a,), (tangent,))

    a, b = jnp.ones(3), jnp.arange(3.0)
    merged, tangents = assert_both_same(function, a, b, 2 * a)
    assert_same(tangents[0], 2 * a)
    assert_same(tangents[1], jnp.zeros(3))
    assert tangents[2].dtype == jax.dtypes.float0
    assert_same(merged[1], b)


def test_jvp_of_leaves_and_the_predicate(kernel):
    old, new, update = [jnp.zeros(3)], [jnp.ones(3)], jnp.bool_(True)
    tangents = ([old[0] + 5], [new[0] + 6], np.zeros((), jax.dtypes.float0))
    _, tangent = jax.jvp(merging(kernel), (old, new, update), tangents)
    assert_same(tangent, [jnp.full(3, 7.0)])


def test_linear_in_the_leaves(kernel):
    old, new = leaves()
    floats = [leaf.astype(jnp.float32) for leaf in old[:2] + new[:2]]
    floats[1] = jnp.zeros(3)

    def function(*floats):
        return merging(kernel)(list(floats[:2]), list(floats[2:]))

    merged, tangents = jax.linearize(function, *floats)
    assert_same(merged, floats[2:])
    assert_same(tangents(*floats), floats[2:])
    (transposed,) = jax.linear_transpose(tangents, *floats)(floats[2:])[2:3]
    assert_same(transposed, floats[2])


@needs_native
def test_state_as_the_auxiliary_output_of_a_loss():
    def step(kernel, weights, old, x):
        def loss(weights):
            state = merged_state(kernel, weights, old, x)
            return jnp.sum(jnp.tanh(weights * x)), state

        return jax.value_and_grad(loss, has_aux=True)(weights)

    for spoilt in (False, True):
        weights, old, x = weights_and_leaves(spoilt)
        assert_both_same(step, weights, old, x)


def trained(kernel, weights, old, xs):
    def step(carry, x):
        weights, old = carry
        gradient, (first, second, _) = jax.grad(
            lambda weights: (
                jnp.sum(weights * x),
                merged_state(kernel, weights, old, x),
            ),
            has_aux=True,
        )(weights)
        state = [first, second.astype(jnp.bfloat16)]
        return (weights - 0.5 * gradient, state), state

    return jax.lax.scan(step, (weights, old), xs)


@needs_native
def test_scan():
    weights, old, x = weights_and_leaves(False)
    xs = jnp.stack([x, 2 * x, x.at[1].set(jnp.inf), -x])
    xs = xs.at[2].set(jnp.array([1.0, 2.0, 1e38]))
    assert_both_same(trained, weights, old, xs)


@needs_native
@pytest.mark.parametrize("wrap", [lambda f: f, jax.checkpoint])
def test_grad_through_scan(wrap):
    def loss(kernel, weights, old, xs):
        def step(state, x):
            first, second, _ = merged_state(kernel, weights, state, x)
            return [first, second.astype(jnp.bfloat16)], first.sum()

        state, sums = jax.lax.scan(wrap(step), old, xs)
        return sums.sum() + state[0].sum()

    weights, old, x = weights_and_leaves(False)
    xs = jnp.stack([x, x.at[0].set(jnp.nan), x])
    for argnums in (0, 1):
        results = [
            jax.jit(jax.grad(functools.partial(loss, kernel), argnums=argnums))(
                weights, old, xs
            )
            for kernel in (dispatch.choose("state_merge", "native"), REFERENCE)
        ]
        assert_same(*results)


@needs_native
def test_while_loop_and_cond():
    def function(kernel, old, x):
        def body(carry):
            i, state = carry
            new = [leaf + x for leaf in state]
            state = jax.lax.cond(
                i % 2 == 0,
                lambda: merging(kernel)(state, new),
                lambda: state,
            )
            return i + 1, state

        return jax.lax.while_loop(lambda carry: carry[0] < 5, body, (0, old))

    assert_both_same(function, [jnp.zeros(3), jnp.zeros(2)], jnp.float32(1))


@pytest.mark.parametrize("spoilt", [False, True])
def test_disable_jit(kernel, spoilt):
    old, new = leaves(spoilt)
    expected = old if spoilt else new
    with jax.disable_jit():
        assert_same(merging(kernel)(old, new), expected)
        assert_same(merging(kernel)(old, new, jnp.bool_(True)), expected)
        stacked = [[leaf[None] for leaf in tree] for tree in (old, new)]
        (batched,) = zip(*jax.vmap(merging(kernel))(*stacked), strict=True)
        assert_same(list(batched), expected)


def test_debug_nans(kernel):
    old, new = [jnp.zeros(3)], [jnp.array([1.0, jnp.nan, 2.0])]
    with jax.debug_nans(True):
        # What is merged is without them.
        assert_same(merging(kernel)(old, new), old)
        assert_same(jax.jit(merging(kernel))(old, new), old)
        with pytest.raises(FloatingPointError):
            jax.jit(merging(kernel))(new, new)


def test_eval_shape(kernel):
    old, new = leaves()
    shapes = jax.eval_shape(merging(kernel), old, new)
    assert [(leaf.shape, leaf.dtype) for leaf in shapes] == [
        (leaf.shape, leaf.dtype) for leaf in old
    ]


@pytest.mark.parametrize("update", [None, True])
@pytest.mark.parametrize("guard", [False, True])
def test_merged_leaves_are_not_weakly_typed(kernel, guard, update):
    old, new = [jnp.zeros(())], [jnp.asarray(1.0)]
    assert new[0].weak_type
    for function in (merging(kernel, guard), jax.jit(merging(kernel, guard))):
        (merged,) = function(old, new, update)
        assert not merged.weak_type


def test_a_choice_is_a_static_argument(auto):
    traces = []

    @functools.partial(jax.jit, static_argnames="kernel")
    def function(old, new, kernel):
        traces.append(kernel)
        return merging(kernel)(old, new)

    reworded = dispatch.Choice(auto.kernel, auto.required, "another reason")
    function(*leaves(), auto)
    function(*leaves(), reworded)
    assert len(traces) == 1


# Where there is no native call.


@pytest.mark.parametrize("platforms", [("cpu",), ("cpu", "tpu"), ("tpu",)])
def test_exports_come_out_with_the_reference(auto, platforms):
    exported = export.export(jax.jit(merging(auto)), platforms=platforms)(
        *leaves()
    )
    assert "custom_call" not in exported.mlir_module()


def test_an_export_merges_the_same(auto):
    exported = export.export(jax.jit(merging(auto)))(*leaves())
    assert_same(exported.call(*leaves()), leaves()[1])
    assert_same(exported.call(*leaves(spoilt=True)), leaves()[0])


def test_an_export_does_not_change_later_calls(auto):
    function = jax.jit(merging(auto))
    export.export(function)(*leaves())
    assert state_merge.TARGET in function.lower(*leaves()).as_text()


def test_export_with_a_symbolic_batch(auto):
    shape = export.symbolic_shape("batch, 2")
    spec = [jax.ShapeDtypeStruct(shape, np.float32)]
    exported = export.export(jax.jit(jax.vmap(merging(auto))))(spec, spec)
    old, new = jnp.zeros((3, 2)), jnp.ones((3, 2)).at[1, 0].set(jnp.nan)
    (merged,) = exported.call([old], [new])
    np.testing.assert_array_equal(merged, [[1, 1], [0, 0], [1, 1]])


@pytest.mark.parametrize(
    ("platform", "error"), [("cpu", ValueError), ("tpu", RuntimeError)]
)
def test_native_by_name_cannot_be_exported(native, platform, error):
    exporting = export.export(jax.jit(merging(native)), platforms=(platform,))
    # JAX knows of none that it is there where the program is loaded.
    with pytest.raises(error, match="state_merge"):
        exporting(*leaves())


def lower_for_cuda(kernel):
    traced = jax.jit(merging(kernel)).trace(*leaves())
    return traced.lower(lowering_platforms=("cuda",)).as_text()


def test_another_platform_uses_the_reference(auto):
    assert state_merge.TARGET not in lower_for_cuda(auto)


def test_native_by_name_raises_on_another_platform(native):
    with pytest.raises(RuntimeError, match="for the platform cpu only"):
        lower_for_cuda(native)


# Arguments.


def test_as_many_leaves(kernel):
    with pytest.raises(ValueError, match="as old ones, 2. Received: 1"):
        merging(kernel)([jnp.zeros(2)] * 2, [jnp.zeros(2)])


@pytest.mark.parametrize("shape", [(), (1, 3), (3, 1), (4,)])
def test_new_leaf_of_another_shape(kernel, shape):
    with pytest.raises(ValueError, match=r"new leaf 1 must .*\(3,\). Received"):
        merging(kernel)(
            [jnp.zeros(2), jnp.zeros(3)], [jnp.zeros(2), jnp.zeros(shape)]
        )


def test_update_of_another_dtype(kernel):
    with pytest.raises(TypeError, match="update must be a bool.*int32"):
        merging(kernel)(*leaves(), jnp.int32(1))


def test_update_that_is_no_scalar(kernel):
    with pytest.raises(ValueError, match=r"must be a scalar.*\(2,\)"):
        merging(kernel)(*leaves(), jnp.array([True, False]))


# The handler, called with what the primitive would not emit.


def call_handler(operands, results, aliases=None):
    call = jax.ffi.ffi_call(
        state_merge.TARGET, results, input_output_aliases=aliases
    )
    return jax.block_until_ready(jax.jit(call)(*operands))


TRUE = np.bool_(True)
LEAF = np.zeros(3, np.float32)
BOOL = jax.ShapeDtypeStruct((), bool)


def f32(*shape):
    return jax.ShapeDtypeStruct(shape, np.float32)


@pytest.mark.parametrize(
    ("operands", "results", "message"),
    [
        ([], [BOOL], "number of arguments"),
        ([TRUE, LEAF], [BOOL], "as many old and new leaves"),
        ([TRUE, LEAF], [BOOL, f32(3)], "as many old and new leaves"),
        (
            [TRUE, LEAF, LEAF],
            [BOOL, f32(3), f32(3)],
            "as many old and new leaves",
        ),
        ([np.int8(1), LEAF, LEAF], [BOOL, f32(3)], "got s8[] and pred[]"),
        ([TRUE, LEAF, LEAF], [f32(), f32(3)], "got pred[] and f32[]"),
        ([TRUE, LEAF, LEAF], [BOOL, f32(4)], "f32[3] and f32[4] for leaf 0"),
        ([TRUE, LEAF, LEAF[:2]], [BOOL, f32(3)], "f32[3], f32[2] and f32[3]"),
        (
            [TRUE, LEAF, LEAF.astype(np.int32)],
            [BOOL, f32(3)],
            "f32[3], s32[3] and f32[3]",
        ),
        (
            [TRUE, *[LEAF.astype(jnp.float8_e5m2)] * 2],
            [BOOL, jax.ShapeDtypeStruct((3,), jnp.float8_e5m2)],
            "one that can be merged",
        ),
        (
            [np.ones(2, bool), LEAF, LEAF],
            [jax.ShapeDtypeStruct((2,), bool), f32(3)],
            "beginning with those of pred[2]",
        ),
    ],
)
def test_the_handler_rejects(native_kernels, operands, results, message):
    with pytest.raises(Exception, match="INVALID_ARGUMENT") as error:
        call_handler(operands, results)
    assert message in str(error.value)


@pytest.mark.parametrize("aliases", [None, {1: 1}, {2: 2}, {1: 1, 2: 2}])
def test_the_handler_needs_no_aliases(native_kernels, aliases):
    old, new = [LEAF, LEAF + 1], [LEAF + 2, LEAF + 3]
    for update, expected in ((TRUE, new), (np.bool_(False), old)):
        taken, *merged = call_handler(
            [update, *old, *new], [BOOL, f32(3), f32(3)], aliases
        )
        assert taken == update
        assert_same(merged, expected)


@pytest.mark.parametrize("aliases", [{1: 2}, {3: 1}, {4: 2}, {3: 2}, {2: 1}])
def test_the_handler_rejects_other_aliases(native_kernels, aliases):
    operands = [TRUE, LEAF, LEAF + 1, LEAF + 2, LEAF + 3]
    with pytest.raises(Exception, match="must share no memory"):
        call_handler(operands, [BOOL, f32(3), f32(3)], aliases)
