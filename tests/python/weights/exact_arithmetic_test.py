"""Operations that NumPy may compute: the bits of XLA, or left to it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flaxlayer import jax_compat
from flaxlayer.weights import exact_arithmetic, shared_program

BINARY = {
    "add": jax.lax.add,
    "div": jax.lax.div,
    "mul": jax.lax.mul,
    "sub": jax.lax.sub,
}
UNARY = {"neg": jax.lax.neg, "sqrt": jax.lax.sqrt}

# Powers of two of all sizes, and what is between them.
floats = st.floats(width=32, allow_subnormal=True)


def bits(array):
    array = np.asarray(array)
    return array.view(f"u{array.itemsize}")


def run(jaxpr, x, shortcut):
    program = shared_program.SharedProgram(
        jaxpr, [None] * len(jaxpr.out_avals), shortcut
    )
    return jax_compat.eval_by_equation(jaxpr, [x], program.evaluate)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(BINARY)), st.lists(st.tuples(floats, floats)))
def test_binary_operations_have_the_bits_of_xla(name, pairs):
    a, b = np.array(pairs, np.float32).reshape(-1, 2).T
    result = exact_arithmetic.evaluate(name, {}, [a, b])
    if result is not None:
        np.testing.assert_array_equal(bits(result), bits(BINARY[name](a, b)))


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(sorted(UNARY)), st.lists(floats))
def test_unary_operations_have_the_bits_of_xla(name, numbers):
    a = np.array(numbers, np.float32)
    result = exact_arithmetic.evaluate(name, {}, [a])
    if result is not None:
        np.testing.assert_array_equal(bits(result), bits(UNARY[name](a)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_many_numbers(dtype):
    random = np.random.default_rng(0)
    a, b = random.standard_normal((2, 10_000)).astype(dtype)
    with jax.enable_x64(True):
        for name, operation in BINARY.items():
            result = exact_arithmetic.evaluate(name, {}, [a, b])
            np.testing.assert_array_equal(bits(result), bits(operation(a, b)))
        result = exact_arithmetic.evaluate("sqrt", {}, [a * a])
        np.testing.assert_array_equal(bits(result), bits(jax.lax.sqrt(a * a)))


TINY = np.finfo(np.float32).smallest_normal


@pytest.mark.parametrize(
    ("name", "operands"),
    [
        ("mul", [np.float32(TINY / 2), np.float32(1)]),
        ("mul", [np.float32(TINY), np.float32(0.5)]),
        ("mul", [np.float32(np.inf), np.float32(1)]),
        ("mul", [np.float32(3e38), np.float32(3e38)]),
        ("div", [np.float32(0), np.float32(0)]),
        # XLA multiplies by the reciprocal.
        ("div", [np.ones((2, 3), np.float32), np.float32(3)]),
        ("div", [np.ones((2, 3), np.float32), np.ones((2, 1), np.float32)]),
        ("sqrt", [np.float32(-1)]),
        ("add", [np.int32(1), np.int32(2)]),
        ("mul", [np.float16(1), np.float16(2)]),
        ("exp", [np.float32(1)]),
        ("broadcast_in_dim", [np.ones(3, np.float32)]),
    ],
)
def test_what_is_left_to_xla(name, operands):
    parameters = {"shape": (3, 3), "broadcast_dimensions": (0,)}
    assert exact_arithmetic.evaluate(name, parameters, operands) is None


@pytest.mark.parametrize("dtype", ["float32", "int32", "bool", "bfloat16"])
def test_numbers_are_repeated(dtype):
    number = jnp.ones((), dtype)
    result = exact_arithmetic.evaluate(
        "broadcast_in_dim", {"shape": (2, 3)}, [number]
    )
    assert result.shape == (2, 3)
    assert result.dtype == number.dtype
    assert (result == np.asarray(number)).all()


def test_arrays_are_reshaped_into_memory_of_their_own():
    x = jnp.arange(6.0)
    parameters = {"new_sizes": (2, 3), "dimensions": None, "sharding": None}
    result = exact_arithmetic.evaluate("reshape", parameters, [x])
    np.testing.assert_array_equal(result, np.arange(6.0).reshape(2, 3))
    assert not np.shares_memory(result, np.asarray(x))
    for unusual in ({"dimensions": (0,)}, {"more": 1}):
        assert (
            exact_arithmetic.evaluate("reshape", parameters | unusual, [x])
            is None
        )


def test_keys_and_tracers_are_left_to_jax():
    key = jax.random.key(0)
    parameters = {"shape": (2,)}
    assert (
        exact_arithmetic.evaluate("broadcast_in_dim", parameters, [key]) is None
    )

    @jax.jit
    def traced(x):
        assert exact_arithmetic.evaluate("neg", {}, [x]) is None
        return x

    traced(1.0)


def test_literals_have_the_dtype_that_jax_gives_them():
    # JAX has Python floats for some literals, which are 64 bits wide to NumPy.
    def function(x):
        return jnp.sqrt(2.0) * x + 0.1, jnp.full((3,), 0.1)

    x = np.random.default_rng(1).standard_normal(1000).astype(np.float32)
    results = run(jax.make_jaxpr(function)(x), x, exact_arithmetic.evaluate)
    with jax.disable_jit():  # One operation after the other.
        expected = function(jnp.asarray(x))
    for actual, stock in zip(results, expected, strict=True):
        assert actual.dtype == np.float32
        np.testing.assert_array_equal(bits(actual), bits(stock))


@pytest.mark.parametrize(
    ("function", "is_exact"),
    [
        (lambda x: x * 3, True),
        (lambda x: x - np.float32(0.3), True),
        (lambda x: x / (x + 9), True),
        (lambda x: x / 3, False),
        (lambda x: x / x.max(1, keepdims=True), False),
        # A product and a sum in one program are rounded once.
        (jax.jit(lambda x: x * x + x), False),
        (lambda x: x.astype("bfloat16") / 1e30, False),
    ],
)
def test_calls_of_one_operation(function, is_exact):
    x = np.random.default_rng(2).standard_normal((16, 16)).astype(np.float32)
    asked = []

    def shortcut(*equation):
        asked.append(exact_arithmetic.evaluate(*equation))
        return asked[-1]

    jaxpr = jax_compat.trace_of_calls(function, x)
    (actual,) = run(jaxpr, x, shortcut)
    assert (asked[-1] is not None) == is_exact
    np.testing.assert_array_equal(bits(actual), bits(function(jnp.asarray(x))))


def test_it_is_for_cpus():
    assert exact_arithmetic.is_available() == (
        jax.devices()[0].platform == "cpu"
    )


def test_a_literal_is_computed_with():
    (equation,) = jax.make_jaxpr(lambda: jnp.sqrt(2.0))().jaxpr.eqns
    (literal,) = equation.invars
    result = exact_arithmetic.evaluate("sqrt", {}, [literal.val])
    assert result is not None
    assert result.dtype == np.float32
