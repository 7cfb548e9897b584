"""The one place that knows what JAX does not promise.

Every function here says what it needs of JAX, and has a test that fails
plainly when that goes away.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp
from jax.interpreters import partial_eval

# The primitives behind `jax.debug`.
_DEBUGGING = ("debug_callback", "debug_print")


def key_impl(value: Any) -> Any:
    """The PRNG implementation of a typed key array, `None` for other values.

    Args:
        value: anything; arrays, tracers and `jax.ShapeDtypeStruct`s may be
            typed keys.

    Returns:
        What `jax.random.wrap_key_data` takes as `impl`.
    """
    dtype = getattr(value, "dtype", None)
    if dtype is None or not jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key):
        return None
    if not isinstance(value, jax.ShapeDtypeStruct):
        return jax.random.key_impl(value)
    # There is no public way from a key dtype to its implementation, but one
    # from a key, and tracing makes a key of the dtype.
    found = []
    jax.eval_shape(lambda key: found.append(jax.random.key_impl(key)), value)
    return found[0]


def default_prng_impl() -> str:
    """The name of the implementation raw keys are taken to be of.

    Needs the configuration option of that name, which is documented but has no
    accessor.
    """
    # Options are added to the object when they are defined.
    config: Any = jax.config
    return str(config.jax_default_prng_impl)


def is_staged(arrays: Any) -> bool:
    """Whether operations on these arrays are recorded rather than run.

    True for what is traced by `jax.jit`, `jax.make_jaxpr` or `jax.eval_shape`,
    also below `jax.grad` or `jax.vmap` there; false for `jax.grad` and
    `jax.vmap` alone, whose operations run at once.
    """
    leaves = jax.tree_util.tree_leaves(arrays)
    if not any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
        return False
    # There is no public predicate: an operation on nothing tells.
    return isinstance(jnp.zeros(()), jax.core.Tracer)


def symbolic_dimension(name: str, *, at_least: int) -> Any:
    """A dimension whose size is not known, for abstract tracing."""
    return jax.export.symbolic_shape(
        f"({name})", constraints=[f"{name} >= {at_least}"]
    )[0]


def without_dead_code(jaxpr: Any) -> tuple[Any, list[bool]]:
    """A closed jaxpr reduced to what its outputs depend on.

    What is printed or called for debugging is left out as well, where it is
    not inside another equation.

    Needs `jax.interpreters.partial_eval.dce_jaxpr`, which has no promise of
    stability, keeps whatever has an effect, and takes a jaxpr with other
    equations, and the names of the primitives for debugging; the tests compare
    what it leaves with the whole.

    Returns:
        The reduced jaxpr, and which of the inputs it still takes.
    """
    silent = [
        equation
        for equation in jaxpr.jaxpr.eqns
        if equation.primitive.name not in _DEBUGGING
    ]
    reduced, used = partial_eval.dce_jaxpr(
        jaxpr.jaxpr.replace(eqns=silent), [True] * len(jaxpr.jaxpr.outvars)
    )
    return jax.extend.core.ClosedJaxpr(reduced, jaxpr.consts), list(used)


def eval_by_equation(
    jaxpr: Any,
    arguments: Sequence[Any],
    shortcut: Callable[[str, Mapping[str, Any], Sequence[Any]], Any],
    watched: Callable[[Sequence[Any]], Iterable[Any]] = iter,
) -> list[Any]:
    """Runs a closed jaxpr one equation at a time, without compiling it whole.

    Needs equations to have a `primitive` with `get_bind_params`, `params`,
    `invars`, `outvars` and the context they were traced in, `ctx.manager`:
    `jax.extend.core.jaxpr_as_fun`, which is public, runs all of them.

    Args:
        jaxpr: what to run.
        arguments: one for each of its inputs.
        shortcut: is asked for each result first, with the name of the
            primitive, its parameters and the operands; returns `None` where
            the equation is to be run.
        watched: returns an iterator over the equations, which may look at how
            the evaluation goes.
    """
    literal = jax.extend.core.Literal
    values = dict(zip(jaxpr.jaxpr.constvars, jaxpr.consts, strict=True))
    values.update(zip(jaxpr.jaxpr.invars, arguments, strict=True))

    def value_of(variable: Any) -> Any:
        if isinstance(variable, literal):
            return variable.val
        return values[variable]

    for equation in watched(jaxpr.jaxpr.eqns):
        operands = [value_of(variable) for variable in equation.invars]
        result = shortcut(equation.primitive.name, equation.params, operands)
        if result is not None:
            (variable,) = equation.outvars
            values[variable] = result
            continue
        # In older versions functions come apart from the other parameters.
        parameters = equation.primitive.get_bind_params(equation.params)
        functions, parameters = (
            parameters if isinstance(parameters, tuple) else ((), parameters)
        )
        with equation.ctx.manager:
            results = equation.primitive.bind(
                *functions, *operands, **parameters
            )
        if not equation.primitive.multiple_results:
            results = [results]
        values.update(zip(equation.outvars, results, strict=True))
    return [jnp.asarray(value_of(variable)) for variable in jaxpr.jaxpr.outvars]


def threefry_partitionable() -> bool:
    """Whether threefry words are laid out by their own index alone.

    Needs the configuration option of that name, which is documented but has no
    accessor; it is part of the key of `jax.jit`'s cache.
    """
    config: Any = jax.config
    return bool(config.jax_threefry_partitionable)


# Rules of the primitives in flaxlayer.ops.


def on_no_mesh(aval: Any) -> bool:
    """Whether an abstract value says nothing of meshes or their axes.

    Needs the `sharding` of abstract values to have a `mesh` that is `empty`.
    Should they go away everything counts as on a mesh, which is slower to
    trace and as correct.
    """
    mesh = getattr(getattr(aval, "sharding", None), "mesh", None)
    return getattr(mesh, "empty", False)


def aval_of(spec: jax.ShapeDtypeStruct) -> Any:
    """The abstract value of an array on no mesh."""
    return jax.core.ShapedArray(spec.shape, spec.dtype)


def result_avals(function: Callable[..., Any], *avals: Any) -> list[Any]:
    """The abstract values of a function's results, for abstract evaluations.

    Needs `jax.make_jaxpr` to accept abstract values as arguments and to carry
    their shardings and manual mesh axes over, for which `jax.ShapeDtypeStruct`
    has no place in older versions.

    Args:
        function: has an array, or a list of them, as its result.
        avals: the abstract values of its arguments.
    """
    return list(jax.make_jaxpr(function)(*avals).out_avals)


def lowering_for_export(ctx: Any) -> bool:
    """Whether a lowering rule is run for `jax.export`.

    Needs `lowering_parameters.for_export` of the module context. Should it go
    away every lowering counts as an export, which is always correct: the
    reference is emitted then.

    Args:
        ctx: what JAX passes to the lowering rule.
    """
    parameters = getattr(ctx.module_context, "lowering_parameters", None)
    return getattr(parameters, "for_export", True)


def lowering_platforms(ctx: Any) -> tuple[str, ...]:
    """The platforms a lowering rule is run for, several in some exports.

    Needs `platforms` of the context, which says something in a branch for some
    platforms only, and of the module context. Should they go away no platform
    is known, and the reference is emitted.

    Args:
        ctx: what JAX passes to the lowering rule.
    """
    platforms = getattr(ctx, "platforms", None)
    if platforms is None:
        platforms = getattr(ctx.module_context, "platforms", ())
    return tuple(platforms)


def lowering_num_partitions(ctx: Any) -> int | None:
    """Over how many devices XLA may split the operation that is lowered.

    It is 1 for one device, and inside of `jax.shard_map` where all mesh axes
    are manual: there the program is already that of one device.

    Needs `axis_context` of the module context, and of that `num_devices`
    (under `jax.jit`), or `mesh` and `manual_axes` (under `jax.shard_map`).

    Args:
        ctx: what JAX passes to the lowering rule.

    Returns:
        The number, or None where it is not known.
    """
    context = getattr(ctx.module_context, "axis_context", None)
    num_devices = getattr(context, "num_devices", None)
    if num_devices is not None:
        return num_devices
    mesh = getattr(context, "mesh", None)
    manual_axes = getattr(context, "manual_axes", None)
    if mesh is None or manual_axes is None:
        return None
    return math.prod(
        size for axis, size in mesh.shape.items() if axis not in manual_axes
    )
