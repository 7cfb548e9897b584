import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from flaxlayer.ops import dispatch, rng_fold

TAGS = (0, 1, 7, 2**31 - 1, 2**31, 2**32 - 1)


@pytest.fixture(params=["native", "reference"])
def kernel(request, on_cpu):
    if request.param == "native":
        request.getfixturevalue("native_kernels")
    return dispatch.choose("rng_fold", request.param)


@pytest.fixture
def auto(native_kernels):
    choice = dispatch.choose("rng_fold", "auto")
    assert choice.kernel == "native"
    return choice


def random_words(*shape):
    rng = np.random.default_rng(len(shape))
    return rng.integers(0, 2**32, shape, dtype=np.uint32)


def stock(state, tags):
    key = jax.random.wrap_key_data(jnp.asarray(state), impl="threefry2x32")
    folded = [jax.random.fold_in(key, np.uint32(tag)) for tag in tags]
    return np.stack([jax.random.key_data(key) for key in folded])


def folding(kernel, tags=TAGS):
    return functools.partial(rng_fold.fold_streams, tags=tags, kernel=kernel)


def num_calls(function, *args):
    text = jax.jit(function).lower(*args).as_text()
    return text.count(f"@{rng_fold.TARGET}(")


def assert_same(actual, expected):
    assert actual.dtype == expected.dtype == np.uint32
    np.testing.assert_array_equal(actual, expected)


def test_equals_stock_fold_in(kernel):
    states = random_words(20, 2)
    tags = tuple(int(tag) for tag in random_words(12)) + TAGS
    for state in states:
        assert_same(folding(kernel, tags)(state), stock(state, tags))


@pytest.mark.parametrize("state", [(0, 0), (2**32 - 1, 2**32 - 1), (0, 42)])
def test_equals_stock_fold_in_at_the_edges(kernel, state):
    state = np.array(state, np.uint32)
    assert_same(folding(kernel)(state), stock(state, TAGS))


# An attribute whose elements are all the same is stored as one of them.
@pytest.mark.parametrize("tags", [(5,), (7, 7, 7), tuple(range(300))])
def test_any_number_of_tags(kernel, tags):
    state = random_words(2)
    assert_same(folding(kernel, tags)(state), stock(state, tags))


def test_tags_can_be_numpy_integers(kernel):
    state = random_words(2)
    tags = np.array([3, 2**32 - 1], np.uint32)
    assert_same(folding(kernel, tags)(state), stock(state, tags))


def test_leading_axes(kernel):
    states = random_words(3, 4, 2)
    keys = folding(kernel)(states)
    assert keys.shape == (3, 4, len(TAGS), 2)
    for at in np.ndindex(3, 4):
        assert_same(keys[at], stock(states[at], TAGS))


def test_an_empty_leading_axis(kernel):
    keys = folding(kernel)(np.zeros((0, 2), np.uint32))
    assert keys.shape == (0, len(TAGS), 2)


def test_no_tags_is_no_call(kernel):
    function = folding(kernel, ())
    state = random_words(5, 2)
    assert function(state).shape == (5, 0, 2)
    assert function(state).dtype == np.uint32
    assert num_calls(function, state) == 0


def test_native_is_lowered_to_one_call(auto):
    assert num_calls(folding(auto), random_words(2)) == 1


def test_reference_is_lowered_to_no_call():
    reference = dispatch.choose("rng_fold", "reference")
    assert num_calls(folding(reference), random_words(2)) == 0


def test_the_choice_decides_and_not_the_policy(auto):
    with dispatch.kernels("reference"):
        assert num_calls(folding(auto), random_words(2)) == 1


def test_jit(kernel):
    state = random_words(2)
    assert_same(jax.jit(folding(kernel))(state), stock(state, TAGS))


def test_a_choice_is_a_static_argument(auto):
    traces = []

    @functools.partial(jax.jit, static_argnames="kernel")
    def function(state, kernel):
        traces.append(kernel)
        return folding(kernel)(state)

    reworded = dispatch.Choice(auto.kernel, auto.required, "another reason")
    function(random_words(2), auto)
    function(random_words(2), reworded)
    assert len(traces) == 1


def test_vmap_is_one_call(auto):
    states = random_words(5, 2)
    assert num_calls(jax.vmap(folding(auto)), states) == 1


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_vmap(kernel, axis):
    states = random_words(2, 2)
    keys = jax.vmap(folding(kernel), in_axes=axis)(states)
    for got, state in zip(keys, np.moveaxis(states, axis, 0), strict=True):
        assert_same(got, stock(state, TAGS))


def test_nested_vmap_is_one_call(auto):
    function = jax.vmap(jax.vmap(folding(auto), in_axes=1), out_axes=2)
    assert num_calls(function, random_words(3, 2, 4)) == 1


def test_nested_vmap(kernel):
    function = jax.vmap(jax.vmap(folding(kernel), in_axes=1), out_axes=2)
    states = random_words(3, 2, 4)
    keys = function(states)
    assert keys.shape == (4, len(TAGS), 3, 2)
    for i, j in np.ndindex(3, 4):
        assert_same(keys[j, :, i], stock(states[i, :, j], TAGS))


def walk(kernel, state, length=4):
    def step(state, _):
        keys = folding(kernel, (1, 2))(state)
        return keys[0], keys[1]

    return jax.lax.scan(step, state, length=length)


def test_scan(kernel):
    state = random_words(2)
    _, outputs = walk(kernel, state)
    for output in outputs:
        state, expected = stock(state, (1, 2))
        assert_same(output, expected)


def test_scan_calls_native(auto):
    assert num_calls(functools.partial(walk, auto), random_words(2)) == 1


def noisy_loss(kernel, weights, state):
    keys = folding(kernel, (3, 4))(state)
    noise = [jax.random.normal(key, weights.shape) for key in keys]
    return jnp.sum(jnp.tanh(weights * noise[0]) * noise[1])


@pytest.mark.parametrize("wrap", [lambda f: f, jax.checkpoint, jax.jit])
def test_grad_of_what_uses_the_keys(auto, wrap):
    weights, state = jnp.linspace(-1.0, 1.0, 8), random_words(2)
    reference = dispatch.choose("rng_fold", "reference")
    native, expected = (
        jax.value_and_grad(wrap(functools.partial(noisy_loss, choice)))(
            weights, state
        )
        for choice in (auto, reference)
    )
    np.testing.assert_array_equal(native[0], expected[0])
    np.testing.assert_array_equal(native[1], expected[1])


def test_grad_in_scan(auto):
    reference = dispatch.choose("rng_fold", "reference")

    def loss(kernel, weights, state):
        def step(carry, _):
            weights, state = carry
            value = noisy_loss(kernel, weights, state)
            state = folding(kernel, (9,))(state)[0]
            return (weights - 0.1 * value, state), value

        return jnp.sum(jax.lax.scan(step, (weights, state), length=3)[1])

    weights, state = jnp.linspace(-1.0, 1.0, 8), random_words(2)
    native, expected = (
        jax.grad(functools.partial(loss, choice))(weights, state)
        for choice in (auto, reference)
    )
    np.testing.assert_allclose(native, expected, rtol=1e-5)


def test_words_have_no_tangents(kernel):
    state = random_words(2)
    tangent = np.zeros(state.shape, jax.dtypes.float0)
    keys, tangents = jax.jvp(folding(kernel), (state,), (tangent,))
    assert_same(keys, stock(state, TAGS))
    assert tangents.dtype == jax.dtypes.float0
    assert tangents.shape == keys.shape


def test_vjp(kernel):
    state = random_words(2)
    keys, pullback = jax.vjp(folding(kernel), state)
    (cotangent,) = pullback(np.zeros(keys.shape, jax.dtypes.float0))
    assert cotangent.dtype == jax.dtypes.float0


def test_disable_jit(kernel):
    state = random_words(2)
    with jax.disable_jit():
        keys = folding(kernel)(state)
        batched = jax.vmap(folding(kernel))(state[None])
    assert_same(keys, stock(state, TAGS))
    assert_same(batched[0], keys)


def test_eval_shape(kernel):
    shape = jax.ShapeDtypeStruct((3, 2), np.uint32)
    result = jax.eval_shape(folding(kernel), shape)
    assert (result.shape, result.dtype) == ((3, len(TAGS), 2), np.uint32)


@pytest.mark.parametrize("platforms", [("cpu",), ("cpu", "tpu"), ("tpu",)])
def test_exports_come_out_with_the_reference(auto, platforms):
    exported = export.export(jax.jit(folding(auto)), platforms=platforms)(
        random_words(2)
    )
    assert "custom_call" not in exported.mlir_module()


def test_an_export_computes_the_same_keys(auto):
    state = random_words(2)
    exported = export.export(jax.jit(folding(auto)))(state)
    assert_same(exported.call(state), stock(state, TAGS))


def test_an_export_does_not_change_later_calls(auto):
    function = jax.jit(folding(auto))
    state = random_words(2)
    export.export(function)(state)
    assert rng_fold.TARGET in function.lower(state).as_text()


def test_export_with_a_symbolic_batch(auto):
    shape = export.symbolic_shape("batch, 2")
    exported = export.export(jax.jit(folding(auto)))(
        jax.ShapeDtypeStruct(shape, np.uint32)
    )
    states = random_words(3, 2)
    for keys, state in zip(exported.call(states), states, strict=True):
        assert_same(keys, stock(state, TAGS))


def test_a_serialized_export(auto):
    pytest.importorskip("flatbuffers")
    state = random_words(2)
    exported = export.export(jax.jit(folding(auto)), platforms=("cpu", "tpu"))(
        state
    )
    loaded = export.deserialize(exported.serialize())
    assert_same(loaded.call(state), stock(state, TAGS))


@pytest.mark.parametrize(
    ("platform", "error"), [("cpu", ValueError), ("tpu", RuntimeError)]
)
def test_native_by_name_cannot_be_exported(native_kernels, platform, error):
    required = dispatch.choose("rng_fold", "native")
    exporting = export.export(jax.jit(folding(required)), platforms=(platform,))
    # JAX knows of none that it is there where the program is loaded.
    with pytest.raises(error, match="rng_fold"):
        exporting(random_words(2))


def test_native_by_name_is_exported_where_jax_is_told_that_it_is_there(
    native_kernels,
):
    fold = jax.jit(folding(dispatch.choose("rng_fold", "native")))
    allowed = export.DisabledSafetyCheck.custom_call(f"{rng_fold.TARGET}.v1")
    (size,) = export.symbolic_shape("n")
    exported = export.export(fold, disabled_checks=[allowed])(
        jax.ShapeDtypeStruct((size, 2), np.uint32)
    )
    assert f"@{rng_fold.TARGET}.v1(" in exported.mlir_module()
    states = random_words(5, 2)
    np.testing.assert_array_equal(exported.call(states), fold(states))


def lower_for(platform, kernel):
    traced = jax.jit(folding(kernel)).trace(random_words(2))
    return traced.lower(lowering_platforms=(platform,)).as_text()


@pytest.mark.parametrize("platform", ["cuda", "rocm", "tpu"])
def test_another_platform_uses_the_reference(auto, platform):
    assert "@flaxlayer_" not in lower_for(platform, auto)


def test_native_by_name_raises_on_another_platform(native_kernels):
    with pytest.raises(RuntimeError, match="for the platform cpu or cuda only"):
        lower_for("tpu", dispatch.choose("rng_fold", "native"))


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_state_of_another_dtype(kernel, dtype):
    with pytest.raises(TypeError, match="state must be uint32"):
        folding(kernel)(np.zeros(2, dtype))


@pytest.mark.parametrize("shape", [(), (1,), (4,), (2, 3)])
def test_state_of_another_shape(kernel, shape):
    with pytest.raises(ValueError, match=r"shape \[\.\.\., 2\]. Received"):
        folding(kernel)(np.zeros(shape, np.uint32))


@pytest.mark.parametrize("tag", [-1, 2**32])
def test_a_tag_out_of_range(kernel, tag):
    with pytest.raises(ValueError, match=f"2\\*\\*32.*Received: {tag}"):
        folding(kernel, (0, tag))(random_words(2))


def test_a_tag_that_is_no_integer(kernel):
    with pytest.raises(TypeError, match="float"):
        folding(kernel, (1.5,))(random_words(2))


# The handler, called with what the primitive would not emit.


def call_handler(operands, result, **attributes):
    call = jax.ffi.ffi_call(rng_fold.TARGET, result)
    return jax.block_until_ready(call(*operands, **attributes))


def words(*shape, dtype=np.uint32):
    return jax.ShapeDtypeStruct(shape, dtype)


STATE = np.zeros(2, np.uint32)
TWO_TAGS = np.array([1, 2], np.uint32)


@pytest.mark.parametrize(
    ("operands", "result", "attributes", "message"),
    [
        ([], words(2, 2), {"tags": TWO_TAGS}, "number of arguments"),
        ([STATE] * 2, words(2, 2), {"tags": TWO_TAGS}, "number of arguments"),
        ([STATE], [words(2, 2)] * 2, {"tags": TWO_TAGS}, "number of results"),
        ([STATE], words(2, 2), {}, "number of attributes"),
        ([STATE], words(2, 2), {"labels": TWO_TAGS}, "tags"),
        ([STATE], words(2, 2), {"tags": TWO_TAGS.astype(np.int32)}, "S32"),
        ([STATE], words(2, 2), {"tags": np.uint32(1)}, "attribute type"),
        ([STATE.astype(np.int32)], words(2, 2), {"tags": TWO_TAGS}, "S32"),
        ([STATE], words(2, 2, dtype=np.int32), {"tags": TWO_TAGS}, "S32"),
        ([np.uint32(1)], words(2, 2), {"tags": TWO_TAGS}, "got u32[]"),
        ([np.zeros(3, np.uint32)], words(2, 2), {"tags": TWO_TAGS}, "u32[3]"),
        ([STATE], words(3, 2), {"tags": TWO_TAGS}, "got u32[3,2]"),
        ([STATE], words(2, 3), {"tags": TWO_TAGS}, "got u32[2,3]"),
        ([STATE], words(4), {"tags": TWO_TAGS}, "got u32[4]"),
        ([STATE], words(9, 2, 2), {"tags": TWO_TAGS}, "got u32[9,2,2]"),
        (
            [np.zeros((3, 2), np.uint32)],
            words(4, 2, 2),
            {"tags": TWO_TAGS},
            "got u32[4,2,2]",
        ),
    ],
)
def test_the_handler_rejects(
    native_kernels, operands, result, attributes, message
):
    with pytest.raises(Exception, match="INVALID_ARGUMENT") as error:
        call_handler(operands, result, **attributes)
    assert message in str(error.value)


def test_the_handler_accepts_what_is_right(native_kernels):
    keys = call_handler([STATE], words(2, 2), tags=TWO_TAGS)
    assert_same(keys, stock(STATE, TWO_TAGS))
