"""Which dtypes a variable of another one may be assigned."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np


def holds(dtype: Any, value: Any) -> bool:
    """Whether a dtype holds whatever an array may have in it.

    Where both are of floating point, or complex, precision may differ, as
    everywhere in Keras. All else has to be held exactly. Where JAX chose the
    array's dtype for Python numbers, as that of `jnp.where(x > 0, 1.0, 0.0)`,
    any dtype of the same kind will do.

    Args:
        dtype: of what is to hold it.
        value: an array, perhaps a traced one, whose dtype alone is looked at;
            or a Python number, which has none and is looked at itself.
    """
    own = jnp.dtype(dtype)
    if not hasattr(value, "dtype"):
        return _holds_number(own, value)
    other = jnp.dtype(value.dtype)
    if own == other or other == np.bool_:
        return True
    if _kind(own) < _kind(other):
        return False
    if getattr(value, "weak_type", False) or jnp.issubdtype(other, jnp.inexact):
        return True
    integers = jnp.iinfo(other)
    if jnp.issubdtype(own, jnp.integer):
        limits = jnp.iinfo(own)
        return limits.min <= integers.min and integers.max <= limits.max
    # One more bit than the mantissa stores.
    return integers.bits <= jnp.finfo(own).nmant + 1


def _holds_number(dtype: Any, number: complex) -> bool:
    if jnp.issubdtype(dtype, jnp.complexfloating):
        return True
    if number.imag:
        return False
    if jnp.issubdtype(dtype, jnp.floating):
        return True
    whole = math.isfinite(number.real) and number.real == int(number.real)
    smallest, largest = (
        (0, 1)
        if dtype == np.bool_
        else (jnp.iinfo(dtype).min, jnp.iinfo(dtype).max)
    )
    return whole and smallest <= number.real <= largest


def _kind(dtype: Any) -> int:
    kinds = (np.bool_, jnp.integer, jnp.floating, jnp.complexfloating)
    return next(
        i for i, kind in enumerate(kinds) if jnp.issubdtype(dtype, kind)
    )
