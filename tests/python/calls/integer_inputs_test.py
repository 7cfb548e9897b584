import jax.numpy as jnp
import keras
import numpy as np
import pytest

from flaxlayer import CallArguments
from flaxlayer.calls import integer_inputs

FLOATS = keras.KerasTensor((None, 4), "float32")
IDS = keras.KerasTensor((None, 4), "int32")


def dtypes(specs):
    if isinstance(specs, CallArguments):
        return [x.dtype for x in (*specs.args, *specs.keywords.values())]
    return [specs.dtype]


def test_each_input_is_guessed_to_be_integers_and_then_all():
    specs = CallArguments(FLOATS, IDS, scale=FLOATS)
    assert [dtypes(guess) for guess in integer_inputs.guesses(specs)] == [
        ["int32", "int32", "float32"],
        ["float32", "int32", "int32"],
        ["int32", "int32", "int32"],
    ]
    assert [*map(dtypes, integer_inputs.guesses(FLOATS))] == [["int32"]]
    assert not [*integer_inputs.guesses(IDS)]


def test_arrays_are_cast_if_asked_for():
    x = np.array([[1.0, 2.0]], np.float32)
    (kept,), _ = integer_inputs.restored((x,), {}, IDS, arrays=False)
    assert kept is x
    (cast,), _ = integer_inputs.restored((x,), {}, IDS, arrays=True)
    assert cast.dtype == "int32"
    np.testing.assert_array_equal(cast, [[1, 2]])


def test_what_has_its_dtype_is_left_alone():
    ids, scale = np.ones((1, 4), np.uint8), np.ones((1, 4), np.float32)
    specs = CallArguments(IDS, scale=FLOATS)
    args, kwargs = integer_inputs.restored(
        (ids,), {"scale": scale, "training": True}, specs, arrays=True
    )
    assert args[0] is ids
    assert kwargs == {"scale": scale, "training": True}


def test_the_first_input_may_be_called_inputs():
    x = np.ones((1, 4), np.float32)
    _, kwargs = integer_inputs.restored((), {"inputs": x}, IDS, arrays=True)
    assert kwargs["inputs"].dtype == "int32"


def test_lists_and_tuples_are_the_same():
    x = np.ones((1, 4), np.float32)
    (cast,), _ = integer_inputs.restored(([x],), {}, (IDS,), arrays=True)
    assert cast[0].dtype == "int32"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_refused(dtype):
    for x in (jnp.ones((1, 4), dtype), keras.KerasTensor((1, 4), dtype)):
        with pytest.raises(integer_inputs.Inexact, match=f"and {dtype}"):
            integer_inputs.restored((x,), {}, IDS, arrays=True)


def test_a_description_takes_the_place_of_what_would_be_cast():
    args, kwargs = integer_inputs.described(
        (FLOATS,), {"scale": FLOATS}, CallArguments(IDS, scale=FLOATS)
    )
    assert args == (IDS,)
    assert kwargs["scale"] is FLOATS
