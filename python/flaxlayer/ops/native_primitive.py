"""JAX primitives that a native handler computes where there can be one.

A primitive of our own, rather than a `jax.ffi.ffi_call` inside of
`jax.lax.platform_dependent`: that pair decides by platform alone, which is not
enough. Whether a program is exported, or partitioned over several devices, is
known when it is lowered and not before, since the same trace can be lowered for
each of them. A lowering rule sees both, and is where the reference is emitted
instead, or what says how the operation is partitioned. A primitive also needs
no custom_jvp around it, and its batching rule keeps a vmap of a vmap one call.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import Primitive
from jax.extend.mlir.dialects import stablehlo
from jax.interpreters import ad, batching, mlir, xla

from flaxlayer import jax_compat
from flaxlayer.ops import log, native, partitioning

# See `dispatch.choose`.
_NOT_ASKED_FOR = "on a GPU it has to be asked for by name"
_PARTITIONED = "XLA cannot partition it over several devices"


def define(
    target: str,
    *,
    reference: Callable[..., Any],
    result: Callable[..., Any],
    multiple_results: bool = False,
    tangents: Callable[..., Sequence[Any]] | None = None,
    attributes: Callable[..., Mapping[str, Any]] = lambda **_: {},
    aliases: Callable[[int], Mapping[int, int]] = lambda _: {},
    partitioned: Callable[..., Any] | None = None,
    has_cuda_kernel: bool = False,
    on_cuda: Callable[..., Any] | None = None,
) -> Primitive:
    """Makes the primitive of an operation.

    Its operands all have the leading axes that `jax.vmap` puts there, and so
    have the reference's and the handler's. It is bound with `required`, whether
    lowering raises where it cannot emit the native call, and with the static
    parameters that the functions below take by name.

    Args:
        target: the name of the handler and of the primitive.
        reference: the operation in terms of JAX.
        result: the shape and dtype of the result for operands of those shapes
            and dtypes.
        multiple_results: whether `reference` and `result` return a list.
        tangents: the tangents of the results, from the list of results and the
            tangents of the operands, which may be `jax.interpreters.ad.Zero`.
            Without it results have no tangents, which is for a single result.
        attributes: what the handler is given besides its operands.
        aliases: the results that are in the buffer of an operand, by the index
            of the operand, for that number of operands.
        partitioned: the operation in terms of `partitioning`, for programs over
            the devices of a mesh; it takes `required` as well. Without it these
            get the reference.
        has_cuda_kernel: whether there is a handler for CUDA devices too. It is
            called where it is required, and not in programs over several
            devices.
        on_cuda: the operation in terms of others that have such a handler; it
            takes `required` as well.
    """
    platforms = ("cpu",)
    if has_cuda_kernel or on_cuda is not None:
        platforms = ("cpu", "cuda")
    primitive = Primitive(target)
    primitive.multiple_results = multiple_results

    def each(function: Callable[[Any], Any], results: Any) -> Any:
        if not multiple_results:
            return function(results)
        return [function(result) for result in results]

    @primitive.def_abstract_eval
    def _(*operands, required: bool, **static):
        del required
        if all(map(jax_compat.on_no_mesh, operands)):
            return each(jax_compat.aval_of, result(*operands, **static))
        # The reference's own result types: with them come shardings and manual
        # mesh axes, which JAX versions keep in different places.
        avals = jax_compat.result_avals(
            functools.partial(reference, **static), *operands
        )
        return avals if multiple_results else avals[0]

    # As JAX's own operations: eager ones are compiled, under disable_jit too.
    primitive.def_impl(functools.partial(xla.apply_primitive, primitive))

    def batch(operands: Sequence[Any], axes: Sequence[Any], **parameters: Any):
        results = primitive.bind(*_leading(operands, axes), **parameters)
        return results, each(lambda _: 0, results)

    batching.primitive_batchers[primitive] = batch
    if tangents is None:
        ad.defjvp(primitive, None)
    else:

        def jvp(operands, operand_tangents, **parameters):
            results = primitive.bind(*operands, **parameters)
            return results, tangents(results, *operand_tangents)

        ad.primitive_jvps[primitive] = jvp

    def lower(ctx, *operands, required: bool, **static):
        platform = _platform(ctx)
        obstacle = _obstacle(ctx, platform, platforms, required)
        if obstacle is None and platform == "cuda" and on_cuda is not None:
            rule = mlir.lower_fun(
                functools.partial(on_cuda, required=required, **static),
                multiple_results=multiple_results,
            )
            return rule(ctx, *operands)
        if obstacle is None:
            aliased = aliases(len(operands))
            if aliased:
                operands = _behind_barrier(operands)
            exported = jax_compat.lowering_for_export(ctx)
            rule = jax.ffi.ffi_lowering(
                native.versioned(target) if exported else target,
                operand_output_aliases=dict(aliased),
                result_shapes=_result_shapes(ctx, operands),
            )
            return rule(ctx, *operands, **attributes(**static))
        if (
            obstacle == _PARTITIONED
            and platform == "cpu"
            and partitioned is not None
            and jax_compat.lowering_names_mesh(ctx)
        ):
            rule = mlir.lower_fun(
                functools.partial(partitioned, required=required, **static),
                multiple_results=multiple_results,
            )
            return rule(ctx, *operands)
        op = target.removeprefix("flaxlayer_")
        if required:
            raise RuntimeError(
                'kernels="native" was asked for, but the native kernel of '
                f'{op} cannot be used here: {obstacle}. Use "auto" or '
                '"reference".'
            )
        log.once(
            lambda: (
                f"A program uses the reference for {op} in place of the native "
                f"kernel: {obstacle}."
            )
        )
        rule = mlir.lower_fun(
            functools.partial(reference, **static),
            multiple_results=multiple_results,
        )
        return rule(ctx, *operands)

    mlir.register_lowering(primitive, lower)
    if partitioned is not None:
        partitioning.lower_on_mesh(primitive)
    return primitive


def _platform(ctx: Any) -> str | None:
    """The one platform that something is lowered for, or None for several."""
    platforms = jax_compat.lowering_platforms(ctx)
    return platforms[0] if len(platforms) == 1 else None


def _obstacle(
    ctx: Any, platform: str | None, platforms: Sequence[str], required: bool
) -> str | None:
    """Why there can be no native call where something is lowered, or None.

    Where it is required an exported program has it: JAX itself refuses to
    export calls of which it does not know that they can be made where the
    program is loaded, unless it is told that they can. `flaxlayer.export` tells
    it so, since `flaxlayer.serving` registers the handlers.
    """
    if platform is None:
        return "one program for several platforms cannot call it"
    if platform not in platforms:
        return f"it is for the platform {' or '.join(platforms)} only"
    if platform == "cuda" and not required:
        return _NOT_ASKED_FOR
    if jax_compat.lowering_for_export(ctx):
        if not required:
            return "an exported program cannot call it where it is loaded"
    elif (missing := native.unavailable_reason(platform)) is not None:
        return missing
    if jax_compat.lowering_num_partitions(ctx) != 1:
        return _PARTITIONED
    return None


def _result_shapes(ctx: Any, operands: Sequence[Any]) -> Any:
    """What an exported program computes the shapes of the results as.

    `None` where all sizes are known.
    """
    shapes = [aval.shape for aval in ctx.avals_out]
    if all(isinstance(size, int) for shape in shapes for size in shape):
        return None

    def sizes(*_: Any) -> list[jax.Array]:
        return [
            jax.numpy.stack([jax.numpy.asarray(d, np.int32) for d in shape])
            for shape in shapes
        ]

    rule = mlir.lower_fun(sizes, multiple_results=True)
    return list(rule(ctx.replace(avals_out=None), *operands))


def _behind_barrier(operands: Sequence[Any]) -> Sequence[Any]:
    """The operands of a call, of which XLA is not to try to fuse any into it.

    It could not, but would compare each with all operands for every alias,
    which takes seconds where there are hundreds. The barrier itself is gone
    before XLA assigns buffers.
    """
    return list(stablehlo.OptimizationBarrierOp(operands).results)


def _leading(operands: Sequence[Any], axes: Sequence[Any]) -> list[jax.Array]:
    """The operands with the batch as their first axis, all of them."""
    size = next(
        operand.shape[axis]
        for operand, axis in zip(operands, axes, strict=True)
        if axis is not None
    )
    return [
        jax.numpy.broadcast_to(operand, (size, *operand.shape))
        if axis is None
        else jax.numpy.moveaxis(operand, axis, 0)
        for operand, axis in zip(operands, axes, strict=True)
    ]
