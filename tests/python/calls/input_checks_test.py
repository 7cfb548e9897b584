import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from flaxlayer.calls import input_checks

X = np.ones((2, 3), np.float32)
MASKED = np.ma.masked_array([1.0, 2.0], [True, False])
STRUCTURED = np.zeros(2, [("a", "f4"), ("b", "i4")])


class Scipy:
    """What a sparse matrix of SciPy is known by."""

    shape, dtype = (2, 3), np.dtype("float32")

    def toarray(self):
        return X


class Torch:
    """An array of another library: it says how it becomes one of NumPy."""

    shape, dtype = (2, 3), np.dtype("float32")

    def __array__(self, dtype=None, copy=None):
        return X


def refused(problem, *args, **keywords):
    with pytest.raises(TypeError, match=problem) as error:
        input_checks.check(list(args), keywords, "Layer 'probe'")
    assert str(error.value).startswith("Layer 'probe': ")
    return str(error.value)


@pytest.mark.parametrize(
    "value",
    [
        X,
        X.astype(bool),
        np.float32(1),
        X.astype(jnp.bfloat16),
        X.astype(np.complex64),
        jnp.ones(3),
        jax.ShapeDtypeStruct((2,), "int32"),
        keras.KerasTensor((None, 3)),
        keras.Variable(X),
        Torch(),
        {"a": X, "b": [X, None]},
    ],
    ids=lambda value: type(value).__name__,
)
def test_arrays_of_numbers_are_inputs(value):
    input_checks.check([value], {}, "layer")
    input_checks.check([X, value], {"other": value}, "layer")


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        (MASKED, "has no masked arrays: pass `x.filled"),
        (STRUCTURED, "fields of a structured array as a dict"),
        (Scipy(), "by `x.toarray"),
        (np.array(["text"]), ""),
        (np.array([None, 1]), ""),
        (np.array(["2026-01-01"], "datetime64[D]"), ""),
        ([1.0, [2.0, 3.0]], "rows of different lengths"),
        ("text", ""),
        (3.0, ""),
        (iter([X]), ""),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_none_is_refused_by_position(value, advice):
    for args in ([value], [X, value], [X, {"a": [value]}]):
        message = refused("inputs by position must be arrays", *args)
        # No advice that is another's.
        for other in ("masked", "structured", "toarray"):
            assert (other in message.partition("Received")[0]) == (
                other in advice
            )
        assert advice in message


@pytest.mark.parametrize(
    "value", [MASKED, STRUCTURED, np.array(["text"]), {"a": [MASKED]}]
)
def test_arrays_of_numpy_by_name_are_of_numbers(value):
    message = refused("the input `mask` must be an array", X, mask=value)
    assert "a pytree of such" in message


@pytest.mark.parametrize("value", ["text", 3.0, None, [1, 2], object()])
def test_what_is_static_by_name_is_not_looked_at(value):
    input_checks.check([X], {"mode": value}, "layer")


@pytest.mark.parametrize("nothing", [None, [], {}, ()])
def test_there_is_a_first_input(nothing):
    refused("the first input must be an array", nothing)
    if nothing is None:
        refused("the first input must be an array", None, X)
    # The others may be left out, and all may come by name.
    input_checks.check([X, nothing], {}, "layer")
    input_checks.check([], {"x": X}, "layer")


def test_typed_keys_are_told_apart():
    key = jax.random.key(0)
    for args, keywords in (([key], {}), ([X, key], {}), ([X], {"k": [key]})):
        refused("an input is a typed key", *args, **keywords)
    input_checks.check([jax.random.PRNGKey(0)], {}, "layer")
