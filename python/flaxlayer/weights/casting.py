"""What a variable may hold that comes in another dtype.

One rule for all ways in: floating-point and complex values may lose precision
but not become infinite, all others are kept exactly. Where there are values,
they are looked at; in a trace there are only dtypes.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def holds(dtype: Any, value: Any) -> bool:
    """Whether a dtype holds whatever an array may have in it.

    Where JAX chose the array's dtype for Python numbers, as that of
    `jnp.where(x > 0, 1.0, 0.0)`, any dtype of the same kind will do.

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


class Refused(ValueError):
    """A value that a dtype cannot hold, or that is not there any more."""


def cast(value: Any, dtype: Any) -> Any:
    """An array in another dtype.

    Args:
        value: an array of NumPy or JAX that is not traced, a lazy one such as
            a dataset of an HDF5 file, or a number.
        dtype: the dtype.

    Returns:
        An array of NumPy or JAX; the very one if it has that dtype.

    Raises:
        Refused: a value would be lost, or the array is deleted.
    """
    dtype = jnp.dtype(dtype)
    if not isinstance(value, jax.Array):
        value = np.asarray(value)
    elif value.is_deleted():
        raise Refused(
            "expected an array, received one that is deleted: Keras's `fit`, "
            "`evaluate` and `predict`, and `jax.jit` with donation, delete "
            "those they are given. Pass a copy that was made before"
        )
    if value.dtype == dtype:
        return value
    floats, complexes = (
        all(jnp.issubdtype(d, kind) for d in (value.dtype, dtype))
        for kind in (jnp.floating, jnp.complexfloating)
    )
    with np.errstate(all="ignore"):  # Looked for here.
        if floats or complexes:
            result = value.astype(dtype)
            xp: Any = jnp if isinstance(result, jax.Array) else np
            kept = xp.all(xp.isfinite(result) == xp.isfinite(value))
        else:
            value = np.asarray(value)
            result = _real(value).astype(dtype)
            # There and back again; the sign tells what wrapped around.
            kept = np.array_equal(
                _real(result).astype(value.dtype), value
            ) and np.array_equal(_real(result) < 0, _real(value) < 0)
    if not kept:
        raise Refused(
            f"expected values that {dtype.name} can hold, received "
            f"{value.dtype.name} that it cannot"
        )
    return result


def _real(array: Any) -> Any:
    is_complex = jnp.issubdtype(array.dtype, jnp.complexfloating)
    return array.real if is_complex else array
