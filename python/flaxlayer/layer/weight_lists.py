"""The lists of arrays that `set_weights` of Keras takes."""

from collections.abc import Sequence
from typing import Any

import jax
import keras
import numpy as np

from flaxlayer import jax_compat, short_repr
from flaxlayer.calls.input_checks import is_numeric
from flaxlayer.weights import casting


def checked(
    weights: Any, variables: Sequence[keras.Variable], *, layer: str
) -> list[Any]:
    """The arrays of a list, cast to the dtypes of the variables.

    Args:
        weights: the list.
        variables: what it is for.
        layer: how error messages call the layer.

    Raises:
        TypeError: `weights` is no list, or something in it is no array of
            numbers.
        ValueError: their number or a shape is not that of the variables, or a
            value cannot be cast to the dtype of its variable.
    """
    if not isinstance(weights, Sequence) or isinstance(weights, str):
        raise TypeError(
            f"{layer}: `set_weights` takes a list of arrays, in "
            "the order of `self.weights`; nothing was assigned. Received: "
            f"{short_repr.of(weights)} (of type {type(weights).__name__})."
        )
    shapes = [np.shape(weight) for weight in weights]
    expected = [tuple(variable.shape) for variable in variables]
    if shapes != expected:
        hint = "" if expected else " It has none before it is built."
        raise ValueError(
            f"{layer}: `set_weights` got other shapes than the "
            f"layer has; nothing was assigned. Expected {expected} for "
            f"{[v.path for v in variables]}. Received: {shapes}.{hint}"
        )
    arrays, problems = [], []
    for variable, weight in zip(variables, weights, strict=True):
        plain = isinstance(weight, jax.Array) and (
            jax_compat.key_impl(weight) is None
        )
        array = weight if plain else np.asarray(weight)
        if not is_numeric(array.dtype):
            raise TypeError(
                f"{layer}: `set_weights` takes arrays of "
                "numbers; nothing was assigned. Received: dtype "
                f"{array.dtype} for `{variable.path}`."
            )
        try:
            arrays.append(casting.cast(array, variable.dtype))
        except casting.Refused as error:
            problems.append(f"`{variable.path}`: {error}")
    if problems:
        raise ValueError(
            f"{layer}: `set_weights` got values that its "
            "weights cannot hold; nothing was assigned. "
            f"{'; '.join(problems)}."
        )
    return arrays
