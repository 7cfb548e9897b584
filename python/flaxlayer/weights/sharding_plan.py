"""Which arrays of a program may be in parts, and in which.

Each device computes the part of a weight that it will have, so that none ever
holds a whole one. That is only done where it cannot change a bit: where every
element of a result is computed on its own, and alike. What sums, sorts or
decomposes is computed whole, as on one device, and so is what it is made of.
"""

from collections.abc import Iterator, Sequence, Set
from typing import Any

import jax
from jax.extend.core import Var
from jax.sharding import NamedSharding, PartitionSpec

from flaxlayer import jax_compat

# Primitives that compute each element on its own, or move elements only.
_SEPARABLE_NAMES = """
    abs acos acosh add and asin asinh atan atan2 atanh bitcast_convert_type
    broadcast_in_dim cbrt ceil clamp concatenate convert_element_type copy
    copy_p cos cosh div eq erf erf_inv erfc exp exp2 expand_dims expm1
    flaxlayer_fold_in flaxlayer_located flaxlayer_random_bits flaxlayer_rng_fold
    flaxlayer_split floor ge gt integer_pow iota is_finite le log log1p logistic
    lt max min mul ne neg nextafter not or pad pow random_bits random_fold_in
    random_seed random_split random_unwrap random_wrap reduce_precision rem
    reshape rev round rsqrt select_n shift_left shift_right_arithmetic
    shift_right_logical sign sin sinh slice sqrt square squeeze stop_gradient
    sub tan tanh threefry2x32 transpose unstack xor
"""
# Those that do so if the programs in them do.
_CALL_NAMES = """
    checkpoint closed_call cond core_call custom_jvp_call custom_vjp_call
    custom_vjp_call_jaxpr jit pjit remat remat2 scan while
"""
# Functions of `jax.random` that were seen to have the same bits in parts.
_SAMPLER_NAMES = """
    _bernoulli _cauchy _exponential _gumbel _laplace _normal _normal_real
    _randint _truncated_normal _uniform
"""
# What XLA approximates, by polynomials and in several ways.
_APPROXIMATED_NAMES = """
    acos acosh asin asinh atan atan2 atanh cbrt cos cosh erf erf_inv erfc exp
    exp2 expm1 log log1p logistic pow rsqrt sin sinh tan tanh
"""
# Of the last axis; see `jax_compat.rounds_alike_in_short_rows`.
MOST_OF_SHORT_ROW = 8

_SEPARABLE, _CALLS, _SAMPLERS, _APPROXIMATED = (
    frozenset(names.split())
    for names in (
        _SEPARABLE_NAMES,
        _CALL_NAMES,
        _SAMPLER_NAMES,
        _APPROXIMATED_NAMES,
    )
)


def plan(
    jaxpr: Any, shardings: Sequence[NamedSharding | None]
) -> dict[Var, NamedSharding]:
    """Where arrays are to be, going back from the results.

    Args:
        jaxpr: the program.
        shardings: for each of its results, where it is to be; `None` for one
            that is whole.

    Returns:
        The shardings of what is computed in parts; the rest is whole.
    """
    if not any(shardings):
        return {}
    planned: dict[Var, NamedSharding] = {}
    whole: set[Var] = set()
    for variable, sharding in zip(jaxpr.outvars, shardings, strict=True):
        if sharding is not None and isinstance(variable, Var):
            planned.setdefault(variable, sharding)
    for equation in reversed(jaxpr.eqns):
        operands = [v for v in equation.invars if isinstance(v, Var)]
        if (
            not _is_separable(equation)
            or whole.intersection(equation.outvars)
            or _divides_single_numbers(equation, planned)
            or _shortens_rows(equation, planned)
        ):
            for variable in equation.outvars:
                planned.pop(variable, None)
            whole.update(operands)
            continue
        if len(equation.outvars) != 1 or equation.outvars[0] not in planned:
            # Run on what is in parts, it would be in parts as well.
            whole.update(operands)
            continue
        sharding = planned[equation.outvars[0]]
        for variable in operands:
            before = sharding_before(equation, variable, sharding)
            if before is not None:
                planned.setdefault(variable, before)
    given = {*jaxpr.invars, *jaxpr.constvars, *whole}
    return {v: s for v, s in planned.items() if v not in given}


def sharding_before(
    equation: Any, operand: Any, sharding: NamedSharding
) -> NamedSharding | None:
    """The sharding of an operand of which devices need no other part.

    Args:
        equation: a separable one.
        operand: of the equation.
        sharding: that of the result.

    Returns:
        The sharding; `None` if there is none, or the operand is small, as keys
        and scales are.
    """
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


def _is_separable(equation: Any) -> bool:
    name = equation.primitive.name
    if name in _CALLS:
        return (
            is_sampler(equation) or not {"mul"} < _arithmetic(equation)
        ) and all(map(_is_separable, _called(equation)))
    return name in _SEPARABLE


def _arithmetic(equation: Any) -> set[str]:
    """Which of `mul`, `add` and `sub` are in the programs of an equation.

    What multiplies and adds in one program XLA may round once or twice, and
    decides otherwise where an array is too narrow for a vector.
    """
    found = {equation.primitive.name} & {"mul", "add", "sub"}
    for each in _called(equation):
        if not is_sampler(each):
            found |= _arithmetic(each)
    return found


def _divides_single_numbers(
    equation: Any, planned: dict[Var, NamedSharding]
) -> bool:
    """Whether a part has one number along an axis that the whole has more of.

    XLA divides by what is repeated by way of its reciprocal, which rounds
    otherwise. Along an axis of one number nothing is repeated.
    """
    return any(
        p == 1 < w
        for part, whole in _parts(equation, planned)
        for p, w in zip(part, whole, strict=True)
    ) and _has(equation, {"div"})


def _shortens_rows(equation: Any, planned: dict[Var, NamedSharding]) -> bool:
    """Whether a part has rows that may be rounded otherwise."""
    return not all(
        rounds_alike_in_rows_of(part) for part, _ in _parts(equation, planned)
    ) and _has(equation, _APPROXIMATED)


def _parts(
    equation: Any, planned: dict[Var, NamedSharding]
) -> Iterator[tuple[Sequence[int], Sequence[int]]]:
    """The shapes of a part, and of the whole, of what is computed in parts."""
    for variable in equation.outvars:
        whole = variable.aval.shape
        if variable in planned:
            yield planned[variable].shard_shape(whole), whole


def rounds_alike_in_rows_of(shape: Sequence[int]) -> bool:
    """Whether elements of a shape are rounded as they are in other shapes.

    Args:
        shape: of what is computed on one device.
    """
    return (
        len(shape) < 2
        or shape[-1] > MOST_OF_SHORT_ROW
        or jax_compat.rounds_alike_in_short_rows()
    )


def _has(equation: Any, names: Set[str]) -> bool:
    """Whether it is one of these primitives, or has one in its programs."""
    return equation.primitive.name in names or any(
        _has(each, names) for each in _called(equation)
    )


def is_sampler(equation: Any) -> bool:
    """Whether an equation calls a function of `jax.random` that is named here.

    Args:
        equation: with programs in it, or without.
    """
    return equation.params.get("name") in _SAMPLERS


def holds_arrays(equation: Any) -> bool:
    """Whether an equation has constants, which may be large.

    Args:
        equation: with programs in it, or without.
    """
    return any(
        getattr(value, "consts", ()) for value in _each(equation.params)
    ) or any(map(holds_arrays, _called(equation)))


def programs(parameters: Any) -> list[Any]:
    """The jaxprs in the parameters of an equation.

    Args:
        parameters: those of the equation.
    """
    found = (getattr(each, "jaxpr", each) for each in _each(parameters))
    return [each for each in found if hasattr(each, "eqns")]


def _each(parameters: Any) -> Iterator[Any]:
    """The parameters of an equation, those of a sequence one by one."""
    for value in parameters.values():
        yield from value if isinstance(value, tuple | list) else [value]


def _called(equation: Any) -> Iterator[Any]:
    """The equations of the programs in an equation."""
    for program in programs(equation.params):
        yield from program.eqns


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
