"""Samplers, compiled once for weights of many shapes.

XLA compiles a sampler anew for each shape of a weight, for some 50 ms each. But
the words of a threefry key are those of their own index, and a sampler of
`jax.random` computes each element from its own word. So a small array is the
beginning of a larger one, and a program for so many elements serves all shapes
that have fewer. These are the bits of stock JAX where an element is rounded
alike wherever it is in an array: `jax_compat.rounds_alike_in_parts` says in
which versions, and the tests compare.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import Literal

from flaxlayer import jax_compat
from flaxlayer.ops import threefry
from flaxlayer.weights import sharding_plan

# The numbers of elements that programs are compiled for. Of more elements the
# work would take longer than compiling does.
_SIZES = (2**12, 2**14, 2**16)

_DTYPES = ("float32", "bfloat16", "float16")

# Primitives that compute each element on its own, whatever the shape is.
_ELEMENTWISE = frozenset(
    [
        "abs",
        "add",
        "and",
        "bitcast_convert_type",
        "ceil",
        "clamp",
        "convert_element_type",
        "cos",
        "div",
        "eq",
        "erf",
        "erf_inv",
        "exp",
        "floor",
        "ge",
        "gt",
        "is_finite",
        "le",
        "log",
        "log1p",
        "lt",
        "max",
        "min",
        "mul",
        "ne",
        "neg",
        "nextafter",
        "not",
        "or",
        "select_n",
        "shift_left",
        "shift_right_logical",
        "sign",
        "sin",
        "sqrt",
        "stop_gradient",
        "sub",
        "tan",
        "tanh",
        "xor",
    ]
)


class _Step(NamedTuple):
    """An operation on elements, whatever the shape is.

    Attributes:
        primitive: the operation.
        parameters: its parameters, but for shapes.
        operands: for each operand, the index of the value, or a number.
    """

    primitive: Any
    parameters: tuple[tuple[str, Any], ...]
    operands: tuple[Any, ...]


class _Number(NamedTuple):
    """A literal of a program; equal to others of the same bits."""

    dtype: np.dtype
    bits: bytes


class _Unsuitable(Exception):
    """A program does something else than to compute element by element."""


def evaluate(equation: Any, operands: Sequence[Any]) -> np.ndarray | None:
    """The result of an equation, if that calls a sampler on a CPU.

    Args:
        equation: as it was traced.
        operands: what it is run on.

    Returns:
        The result, in memory of its own; `None` where it is left to XLA.
    """
    if not all(map(_is_near, operands)):
        return None
    program = _program(equation)
    if program is None:
        return None
    with equation.ctx.manager:
        drawn = np.asarray(_compiled(*program)(*operands))
    result = equation.outvars[0].aval
    return drawn[: result.size].reshape(result.shape).copy()


def serves(equation: Any) -> bool:
    """Whether `evaluate` has a result if the operands are on one CPU."""
    return _program(equation) is not None


def _program(equation: Any) -> tuple[tuple["_Step", ...], int] | None:
    """What a sampler does, and for how many elements; `None` for others."""
    if not sharding_plan.is_sampler(equation) or len(equation.outvars) != 1:
        return None
    result = equation.outvars[0].aval
    size = next((size for size in _SIZES if result.size <= size), None)
    if size is None or result.size < 2 or result.dtype not in _DTYPES:
        return None
    if not sharding_plan.rounds_alike_in_rows_of(result.shape):
        return None
    with equation.ctx.manager:
        if not jax_compat.rounds_alike_in_parts() or not all(
            _is_suitable(variable.aval) for variable in equation.invars
        ):
            return None
        try:
            return _steps(equation.params["jaxpr"], result.shape), size
        except _Unsuitable:
            return None


def _is_near(operand: Any) -> bool:
    """Whether it is in the memory of a CPU, and all of it."""
    return not isinstance(operand, jax.Array) or (
        operand.is_fully_addressable
        and all(device.platform == "cpu" for device in operand.devices())
    )


def _is_suitable(aval: Any) -> bool:
    """Whether it is a number, or a key of threefry."""
    if aval.shape:
        return False
    impl = jax_compat.key_impl(jax.ShapeDtypeStruct(aval.shape, aval.dtype))
    return impl is None or (
        str(threefry.stock_impl(impl)) == "threefry2x32"
        and jax_compat.threefry_partitionable()
    )


def _steps(jaxpr: Any, shape: tuple[int, ...]) -> tuple[_Step, ...]:
    """The operations of a program, without the shape of its result.

    The values that operations refer to are first the arguments of the program,
    then the results of the operations. The last one is the result.

    Raises:
        _Unsuitable: an operation does not compute each element on its own.
    """
    steps: list[_Step] = []
    shapes = {shape, (1,) * len(shape), ()}

    def add(program: Any, arguments: Sequence[Any]) -> list[Any]:
        if program.consts:
            raise _Unsuitable
        values = dict(zip(program.jaxpr.invars, arguments, strict=True))
        for equation in program.jaxpr.eqns:
            operands = [
                _number(atom) if isinstance(atom, Literal) else values[atom]
                for atom in equation.invars
            ]
            if not all(v.aval.shape in shapes for v in equation.outvars):
                raise _Unsuitable
            name, parameters = equation.primitive.name, equation.params
            if name in ("jit", "pjit"):
                results = add(parameters["jaxpr"], operands)
            elif name == "broadcast_in_dim":
                # Numbers are repeated where an operation takes arrays.
                results = operands[:1]
            else:
                if name == "random_bits":
                    if parameters["shape"] != shape:  # A word for all.
                        raise _Unsuitable
                    parameters = {**parameters, "shape": None}
                elif name not in _ELEMENTWISE:
                    raise _Unsuitable
                fixed = tuple(sorted(parameters.items()))
                steps.append(_Step(equation.primitive, fixed, tuple(operands)))
                results = [len(jaxpr.jaxpr.invars) + len(steps) - 1]
            values.update(zip(equation.outvars, results, strict=True))
        return [values[atom] for atom in program.jaxpr.outvars]

    (result,) = add(jaxpr, range(len(jaxpr.jaxpr.invars)))
    if not steps or result != len(jaxpr.jaxpr.invars) + len(steps) - 1:
        raise _Unsuitable
    return tuple(steps)


def _number(literal: Any) -> _Number:
    value = np.asarray(literal.val, literal.aval.dtype)
    return _Number(value.dtype, value.tobytes())


@functools.lru_cache(maxsize=64)
def _compiled(steps: tuple[_Step, ...], size: int) -> Any:
    """The jitted program of a sampler, for so many elements."""

    def sample(*arguments: Any) -> Any:
        values = list(arguments)
        for step in steps:
            operands = [
                np.frombuffer(place.bits, place.dtype)[0]
                if isinstance(place, _Number)
                else values[place]
                for place in step.operands
            ]
            parameters = dict(step.parameters)
            if "shape" in parameters:
                parameters["shape"] = (size,)
            elif any(map(np.ndim, operands)):
                operands = [
                    # Literals are repeated by the operation itself.
                    x
                    if np.ndim(x) or isinstance(place, _Number)
                    else jax.lax.broadcast(x, (size,))
                    for x, place in zip(operands, step.operands, strict=True)
                ]
            values.append(step.primitive.bind(*operands, **parameters))
        return values[-1]

    return jax.jit(sample)
