"""Operations whose results leave no choice, computed without compiling them.

An initialiser scales and reshapes what it has drawn, and fills arrays. XLA
compiles a program for each such operation and shape, for some 20 ms each. For
the operations here the IEEE 754 standard says what the result is, to the last
bit, so that NumPy may compute them as well. But only where XLA has no choice
either. It fuses what is in one program, so that the operation must be the only
one; and divides by what is repeated by way of the reciprocal. On CPUs it takes
subnormal numbers for zero, and which NaN comes of an operation is not defined.
Of other devices nothing is known.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import numpy as np

from flaxlayer import jax_compat

_ARITHMETIC: Mapping[str, Callable[..., np.ndarray]] = MappingProxyType(
    {
        "add": np.add,
        "div": np.divide,
        "mul": np.multiply,
        "neg": np.negative,
        "sqrt": np.sqrt,
        "sub": np.subtract,
    }
)


# The parameters of a reshape; what is unusual is not computed here.
_SIZES = "new_sizes"
_UNUSUAL = ("dimensions", "sharding")
_RESHAPE = frozenset({_SIZES, *_UNUSUAL})


def is_available() -> bool:
    """Whether XLA would compute on a CPU, as NumPy does."""
    return _on_cpu(jax.device_put(np.float32(0)))


def evaluate(
    operation: str, parameters: Mapping[str, Any], operands: Sequence[Any]
) -> np.ndarray | None:
    """The result of a JAX operation on arrays in the memory of a CPU.

    Args:
        operation: the name of the primitive.
        parameters: its static parameters.
        operands: arrays of NumPy or JAX, and what JAX has for literals.

    Returns:
        The result, or `None` where it is left to XLA.
    """
    if operation == "broadcast_in_dim":
        return _broadcast(parameters, operands)
    if operation == "reshape":
        return _reshape(parameters, operands)
    called = jax_compat.called_operation(operation, parameters)
    if called is not None:
        operation = called.name
    if operation not in _ARITHMETIC:
        return None
    arrays = [_in_memory(operand) for operand in operands]
    if called is not None:
        arrays = [_converted(arrays[i], dtype) for i, dtype in called.operands]
    if not all(map(_ordinary, arrays)):
        return None
    shapes = {array.shape for array in arrays if array is not None}
    if operation == "div" and len(shapes) > 1:
        return None
    with np.errstate(all="ignore"):  # What is not ordinary is not returned.
        result = _ARITHMETIC[operation](*arrays)
    return result if _ordinary(result) else None


def _converted(array: np.ndarray | None, dtype: Any) -> np.ndarray | None:
    """An operand in the dtype of the operation; `None` if it may be rounded."""
    if array is None or array.dtype == dtype:
        return array
    return array.astype(dtype) if array.dtype.kind in "iu" else None


def _broadcast(
    parameters: Mapping[str, Any], operands: Sequence[Any]
) -> np.ndarray | None:
    """A number, repeated; other broadcasts are of data."""
    operand, *dynamic_shape = operands
    if dynamic_shape or np.shape(operand) or parameters.get("sharding"):
        return None
    number = _in_memory(operand)
    return (
        None if number is None else np.broadcast_to(number, parameters["shape"])
    )


def _reshape(
    parameters: Mapping[str, Any], operands: Sequence[Any]
) -> np.ndarray | None:
    operand, *dynamic_shape = operands
    if dynamic_shape or not set(parameters) <= _RESHAPE:
        return None
    if any(parameters.get(name) is not None for name in _UNUSUAL):
        return None
    array = _in_memory(operand)
    # A copy: what shares the memory of an operand could not be donated.
    return None if array is None else array.reshape(parameters[_SIZES]).copy()


def _in_memory(operand: Any) -> np.ndarray | None:
    """An operand as an array of its own dtype; `None` if it is not on a CPU."""
    if isinstance(operand, jax.Array) and not _on_cpu(operand):
        return None
    # A literal may be a Python float of JAX's with a dtype of 32 bits, of which
    # NumPy alone would make 64.
    return np.asarray(operand, operand.dtype)


def _on_cpu(array: jax.Array) -> bool:
    return (
        not isinstance(array, jax.core.Tracer)
        and not jax.dtypes.issubdtype(array.dtype, jax.dtypes.extended)
        and array.is_fully_addressable
        and [device.platform for device in array.devices()] == ["cpu"]
    )


def _ordinary(array: np.ndarray | None) -> bool:
    """Whether all its elements are normal floating-point numbers, or zero."""
    if array is None or array.dtype not in (np.float32, np.float64):
        return False
    magnitude = np.abs(array)
    smallest = np.finfo(array.dtype).smallest_normal
    return bool(
        np.isfinite(magnitude).all()
        and ((magnitude >= smallest) | (magnitude == 0)).all()
    )
