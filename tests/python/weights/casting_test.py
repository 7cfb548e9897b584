import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxlayer.weights import casting

INTEGERS = ["bool"] + [
    f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
]
FLOATS = ["bfloat16", "float16", "float32", "float64"]
COMPLEX = ["complex64", "complex128"]


def holds(dtype, other):
    with jax.enable_x64(True):
        return casting.holds(dtype, jnp.zeros(2, other))


def extremes(dtype):
    """The numbers of an integer dtype that are hardest to hold."""
    if dtype == "bool":
        return [0, 1]
    limits = np.iinfo(dtype)
    return [limits.min, limits.max, limits.max - 1, limits.max // 2 + 1]


def survives(dtype, number):
    if dtype in INTEGERS and dtype != "bool":
        limits = np.iinfo(dtype)
        return limits.min <= number <= limits.max
    if dtype == "bool":
        return number in (0, 1)
    part = {"complex64": "float32", "complex128": "float64"}.get(dtype, dtype)
    with np.errstate(over="ignore"):
        cast = np.float64(number).astype(jnp.dtype(part))
    return np.isfinite(cast) and int(cast) == number


@pytest.mark.parametrize("dtype", INTEGERS + FLOATS + COMPLEX)
def test_integers_are_held_exactly(dtype):
    for other in INTEGERS:
        exact = all(survives(dtype, number) for number in extremes(other))
        assert holds(dtype, other) == exact, other


def test_floats_may_lose_precision_and_nothing_else():
    for dtype, other in itertools.product(FLOATS, FLOATS):
        assert holds(dtype, other)
    for dtype, other in itertools.product(COMPLEX, FLOATS + COMPLEX):
        assert holds(dtype, other)
    for dtype, other in itertools.product(INTEGERS + FLOATS, COMPLEX):
        assert not holds(dtype, other)
    for dtype, other in itertools.product(INTEGERS, FLOATS):
        assert not holds(dtype, other)


def test_what_python_numbers_become_is_nobody_s_choice():
    weak = {kind: jnp.asarray(kind(1)) for kind in (int, float, complex)}
    assert all(array.weak_type for array in weak.values())
    for dtype in ("int8", "bfloat16", "complex64"):
        assert casting.holds(dtype, weak[int])
    assert not casting.holds("bool", weak[int])
    assert casting.holds("bfloat16", weak[float])
    assert not casting.holds("int32", weak[float])
    assert not casting.holds("float32", weak[complex])


def test_a_python_number_is_looked_at_itself():
    for number in (True, 1, 1.0, 1 + 0j):
        assert casting.holds("int8", number)
        assert casting.holds("bfloat16", number)
        assert casting.holds("bool", number)
    for number in (0.5, 1.5 + 0j, float("nan"), float("inf")):
        assert not casting.holds("int32", number)
        assert casting.holds("bfloat16", number)
    assert not casting.holds("int8", 300)
    assert not casting.holds("bool", 2)
    assert not casting.holds("float32", 1j)
    assert casting.holds("complex64", 1j)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int32"])
def test_the_least_and_the_most_are_held(dtype):
    least, most = (0, 1)
    if dtype != "bool":
        least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
    for number in (least, most):
        assert casting.holds(dtype, int(number))
    for number in (int(least) - 1, int(most) + 1):
        assert not casting.holds(dtype, number)


def test_an_array_of_numpy_has_a_dtype_of_its_own():
    array = np.zeros(2, "int32")
    assert casting.holds("int32", array)
    assert not casting.holds("int8", array)
    assert not casting.holds("float32", array)


def test_a_traced_array_is_asked_for_its_dtype():
    seen = []
    jax.eval_shape(
        lambda n: seen.append(casting.holds("int32", n + 0.6)),
        jax.ShapeDtypeStruct((), "int32"),
    )
    assert seen == [False]
