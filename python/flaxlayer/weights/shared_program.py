"""A program whose results are spread over devices, run equation by equation.

Each device computes the part of a weight that it will have, so that none ever
holds a whole one. That is only done where it cannot change a bit: where every
element of a result is computed on its own. What sums, sorts or decomposes is
computed whole, as on one device, and so is all that it is computed from.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import Var
from jax.sharding import NamedSharding, PartitionSpec

from flaxlayer.ops import partitioning
from flaxlayer.weights import placed_initializer

# Primitives that compute each element on its own, or move elements only.
_SEPARABLE = """
    abs acos acosh add and asin asinh atan atan2 atanh bitcast_convert_type
    broadcast_in_dim cbrt ceil clamp concatenate convert_element_type copy
    copy_p cos cosh div eq erf erf_inv erfc exp exp2 expand_dims expm1
    flaxlayer_fold_in flaxlayer_located flaxlayer_random_bits flaxlayer_rng_fold
    flaxlayer_split floor ge gt integer_pow iota is_finite le log log1p logistic
    lt max min mul ne neg nextafter not or pad pow random_bits random_fold_in
    random_seed random_split random_unwrap random_wrap reduce_precision rem
    reshape rev round rsqrt select_n shift_left shift_right_arithmetic
    shift_right_logical sign sin sinh slice sqrt square squeeze stop_gradient
    sub tan tanh threefry2x32 transpose xor
"""
# Those that do so if the programs in them do.
_CALLS = """
    checkpoint closed_call cond core_call custom_jvp_call custom_vjp_call
    custom_vjp_call_jaxpr jit pjit remat remat2 scan while
"""

Run = Callable[..., list[Any]]


class SharedProgram:
    """How the arrays of a program are spread while it runs.

    Args:
        jaxpr: the program, a closed jaxpr.
        shardings: for each of its results, where it is to be; `None` for one
            that is whole.
        shortcut: is asked for each result first, as `exact_arithmetic.evaluate`
            is; returns `None` where the equation is to be run.
    """

    def __init__(
        self,
        jaxpr: Any,
        shardings: Sequence[NamedSharding | None],
        shortcut: Callable[..., Any],
    ):
        self._jaxpr = jaxpr
        self._shortcut = shortcut
        self._shardings = _plan(jaxpr.jaxpr, shardings)
        self._compiled: dict[Any, Callable[..., list[Any]]] = {}

    def sizes(self) -> list[jax.ShapeDtypeStruct]:
        """The shape and dtype of what a device has of each array.

        They are in the order in which the program computes them.
        """
        found = []
        for equation in self._jaxpr.jaxpr.eqns:
            for variable in equation.outvars:
                aval: Any = variable.aval
                if not hasattr(aval, "shape"):
                    continue
                sharding = self._shardings.get(variable)
                shape = sharding.shard_shape(aval.shape) if sharding else None
                found.append(
                    jax.ShapeDtypeStruct(shape or aval.shape, aval.dtype)
                )
        return found

    def evaluate(
        self, equation: Any, operands: Sequence[Any], run: Run
    ) -> list[Any]:
        """The results of one equation.

        Args:
            equation: of the program.
            operands: what it is run on.
            run: runs it on operands.
        """
        shardings = [self._shardings.get(v) for v in equation.outvars]
        if any(shardings):
            return self._shared(equation, operands, run, shardings)
        result = self._shortcut(
            equation.primitive.name, equation.params, operands
        )
        return run(*operands) if result is None else [result]

    def _shared(
        self,
        equation: Any,
        operands: Sequence[Any],
        run: Run,
        shardings: list[NamedSharding | None],
    ) -> list[Any]:
        (first, *others) = shardings
        if first is not None and not others:
            operands = [
                _spread(x, _sharding_before(equation, variable, first))
                for x, variable in zip(operands, equation.invars, strict=True)
            ]
            result = self._in_parts(equation, operands, first)
            if result is not None:
                return [result]
        compiled = self._compile(equation, run, shardings)
        return compiled(*operands)

    def _compile(
        self,
        equation: Any,
        run: Run,
        shardings: list[NamedSharding | None],
    ) -> Callable[..., list[Any]]:
        """One program for all equations that do the same."""
        key = (
            equation.primitive,
            tuple(equation.params.items()),
            tuple(shardings),
        )
        try:
            if key in self._compiled:
                return self._compiled[key]
        except TypeError:  # Not all parameters can be hashed.
            key = equation

        def located_run(*operands: Any) -> list[Any]:
            return run(*map(_located, operands))

        self._compiled[key] = jax.jit(located_run, out_shardings=shardings)
        return self._compiled[key]

    def _in_parts(
        self, equation: Any, operands: Sequence[Any], sharding: NamedSharding
    ) -> jax.Array | None:
        """The result of a shortcut for the part of each device, if all have."""
        if jax.process_count() > 1:
            return None  # Others have to find the same, whatever numbers do.
        (result,) = equation.outvars
        shape = result.aval.shape
        parameters = dict(equation.params)
        if "shape" in parameters:
            parameters["shape"] = sharding.shard_shape(shape)
        parts: dict[Any, np.ndarray] = {}
        placed = []
        indices = sharding.addressable_devices_indices_map(shape)
        for device, index in indices.items():
            key = tuple((s.start, s.stop) for s in index or ())
            if key not in parts:
                own = [_part(x, shape, device) for x in operands]
                value = self._shortcut(equation.primitive.name, parameters, own)
                if value is None:
                    return None
                parts[key] = value
            placed.append(jax.device_put(parts[key], device))
        return jax.make_array_from_single_device_arrays(shape, sharding, placed)


def _spread(operand: Any, sharding: NamedSharding | None) -> Any:
    if sharding is None:
        return operand
    return placed_initializer.placed(operand, sharding)


def _part(operand: Any, shape: Any, device: Any) -> Any:
    """What a device has of an operand that is spread as the result is."""
    if not isinstance(operand, jax.Array) or operand.shape != shape:
        return operand
    shards = {s.device: s.data for s in operand.addressable_shards}
    return shards.get(device, operand)


def _located(operand: Any) -> Any:
    return (
        partitioning.located(operand)
        if isinstance(operand, jax.Array)
        else operand
    )


def _plan(
    jaxpr: Any, shardings: Sequence[NamedSharding | None]
) -> dict[Var, NamedSharding]:
    """Where arrays are, going back from the results."""
    planned: dict[Var, NamedSharding] = {}
    whole: set[Var] = set()
    for variable, sharding in zip(jaxpr.outvars, shardings, strict=True):
        if sharding is not None and isinstance(variable, Var):
            planned.setdefault(variable, sharding)
    for equation in reversed(jaxpr.eqns):
        operands = [v for v in equation.invars if isinstance(v, Var)]
        if not _is_separable(equation) or whole.intersection(equation.outvars):
            for variable in equation.outvars:
                planned.pop(variable, None)
            whole.update(operands)
            continue
        if len(equation.outvars) != 1 or equation.outvars[0] not in planned:
            continue
        sharding = planned[equation.outvars[0]]
        for variable in operands:
            back = _sharding_before(equation, variable, sharding)
            if back is not None:
                planned.setdefault(variable, back)
    given = {*jaxpr.invars, *jaxpr.constvars, *whole}
    return {v: s for v, s in planned.items() if v not in given}


def _is_separable(equation: Any) -> bool:
    name = equation.primitive.name
    if name in _CALLS.split():
        return all(
            map(
                _is_separable,
                (e for j in _programs(equation.params) for e in j.eqns),
            )
        )
    return name in _SEPARABLE.split()


def _programs(parameters: Any) -> list[Any]:
    """The jaxprs in the parameters of an equation."""
    found = []
    for value in parameters.values():
        for each in value if isinstance(value, tuple | list) else [value]:
            each = getattr(each, "jaxpr", each)
            if hasattr(each, "eqns"):
                found.append(each)
    return found


def _sharding_before(
    equation: Any, operand: Any, sharding: NamedSharding
) -> NamedSharding | None:
    """The sharding of an operand of which devices need no other part."""
    shape, dtype = operand.aval.shape, operand.aval.dtype
    if not shape or jax.dtypes.issubdtype(dtype, jax.dtypes.extended):
        return None
    (result,) = equation.outvars
    axes = [*sharding.spec, *[None] * (result.aval.ndim - len(sharding.spec))]
    name = equation.primitive.name
    if name == "transpose":
        before: list[Any] = [None] * len(axes)
        for to, origin in enumerate(equation.params["permutation"]):
            before[origin] = axes[to]
    elif name == "reshape":
        before = _before_reshape(axes, shape, result.aval.shape)
    elif shape == result.aval.shape:
        before = axes
    else:
        return None
    found = NamedSharding(sharding.mesh, PartitionSpec(*before))
    try:
        found.shard_shape(shape)
    except ValueError:  # Parts would not be equal.
        return None
    return None if found.is_fully_replicated else found


def _before_reshape(
    axes: Sequence[Any], before: Sequence[int], after: Sequence[int]
) -> list[Any]:
    """The axes of an operand whose parts are those of the result.

    Dimensions are compared from the left: those that are the same, and those
    that are split into several or merged, of which the first is in parts.
    """
    found: list[Any] = [None] * len(before)
    origins = [i for i, size in enumerate(before) if size != 1]
    results = [j for j, size in enumerate(after) if size != 1]
    while origins and results:
        origin, result = origins.pop(0), results.pop(0)
        left, right, following = before[origin], after[result], []
        while left != right:
            if left < right and origins:
                left *= before[origins.pop(0)]
            elif left > right and results:
                following.append(results.pop(0))
                right *= after[following[-1]]
            else:
                return found
        if not any(axes[j] for j in following):
            found[origin] = axes[result]
    return found
