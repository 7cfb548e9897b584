"""The one place that knows what JAX does not promise.

Every function here says what it needs of JAX, and has a test that fails
plainly when that goes away.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp
from jax.interpreters import partial_eval


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

    Needs `jax.interpreters.partial_eval.dce_jaxpr`, which has no promise of
    stability; the test compares what it leaves with the whole.

    Returns:
        The reduced jaxpr, and which of the inputs it still takes.
    """
    reduced, used = partial_eval.dce_jaxpr(
        jaxpr.jaxpr, [True] * len(jaxpr.jaxpr.outvars)
    )
    return jax.extend.core.ClosedJaxpr(reduced, jaxpr.consts), list(used)


def eval_by_equation(jaxpr: Any, arguments: Sequence[Any]) -> list[Any]:
    """Runs a closed jaxpr one equation at a time, without compiling it whole.

    Needs `jax.extend.core.jaxpr_as_fun`, which is public, to keep evaluating
    equation by equation.
    """
    return jax.extend.core.jaxpr_as_fun(jaxpr)(*arguments)


# Lowering: for the rules of the primitives in flaxlayer.ops.


def result_aval(function: Callable[..., Any], *avals: Any) -> Any:
    """The abstract value of `function`'s result, for an abstract evaluation.

    Needs `jax.make_jaxpr` to accept abstract values as arguments and to carry
    their shardings and manual mesh axes over, for which `jax.ShapeDtypeStruct`
    has no place in older versions.

    Args:
        function: has one array as its result.
        avals: the abstract values of its arguments.
    """
    (aval,) = jax.make_jaxpr(function)(*avals).out_avals
    return aval


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
