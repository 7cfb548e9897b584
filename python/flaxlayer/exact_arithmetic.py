"""Operations whose results leave no choice, computed without compiling them.

An initialiser scales what it has drawn, and fills arrays with a number. XLA
compiles a program for each such operation and shape, for some 20 ms each. For
the operations here the IEEE 754 standard says what the result is, to the last
bit, so that NumPy may compute them as well. Where XLA departs from the standard
it is left to XLA: on CPUs it takes subnormal numbers for zero, and which NaN
comes of an operation is not defined.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import numpy as np

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


def evaluate(
    operation: str, parameters: Mapping[str, Any], operands: Sequence[Any]
) -> np.ndarray | None:
    """The result of a JAX operation on arrays in the memory of a CPU.

    Args:
        operation: the name of the primitive.
        parameters: its static parameters.
        operands: NumPy arrays, or arrays and scalars of JAX.

    Returns:
        The result, or `None` where it is left to XLA.
    """
    if not all(map(_on_cpu, operands)):
        return None
    if operation == "broadcast_in_dim":
        return _broadcast(parameters, operands)
    if operation not in _ARITHMETIC:
        return None
    arrays = [np.asarray(operand) for operand in operands]
    if not all(map(_ordinary, arrays)):
        return None
    with np.errstate(all="ignore"):  # What is not ordinary is not returned.
        result = _ARITHMETIC[operation](*arrays)
    return result if _ordinary(result) else None


def _broadcast(
    parameters: Mapping[str, Any], operands: Sequence[Any]
) -> np.ndarray | None:
    """A number, repeated; other broadcasts are of data."""
    operand, *dynamic_shape = operands
    if dynamic_shape or np.shape(operand) or parameters.get("sharding"):
        return None
    return np.broadcast_to(np.asarray(operand), parameters["shape"])


def _on_cpu(operand: Any) -> bool:
    if isinstance(operand, np.ndarray | np.generic | bool | int | float):
        return True
    return (
        isinstance(operand, jax.Array)
        and not isinstance(operand, jax.core.Tracer)
        and not jax.dtypes.issubdtype(operand.dtype, jax.dtypes.extended)
        and operand.is_fully_addressable
        and all(device.platform == "cpu" for device in operand.devices())
        and len(operand.devices()) == 1
    )


def _ordinary(array: np.ndarray) -> bool:
    """Whether all its elements are normal floating-point numbers, or zero."""
    if array.dtype not in (np.float32, np.float64):
        return False
    magnitude = np.abs(array)
    smallest = np.finfo(array.dtype).smallest_normal
    return bool(
        np.isfinite(magnitude).all()
        and ((magnitude >= smallest) | (magnitude == 0)).all()
    )
