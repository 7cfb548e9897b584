"""RNG fold: the seed state in, the keys of all random streams out.

keys[i] is the threefry2x32 key of the state with tags[i] folded in, the same
words as `jax.random.fold_in` gives, in one step for all of them.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from flaxlayer import jax_compat
from flaxlayer.ops.dispatch import Choice

TARGET = "flaxlayer_rng_fold"


def fold_streams(
    state: jax.Array, tags: Sequence[int], *, kernel: Choice
) -> jax.Array:
    """Folds every tag into the state.

    Args:
        state: uint32[..., 2], raw threefry2x32 key data.
        tags: Static integers from 0 up to but without 2**32, one a stream.
        kernel: What `dispatch.choose("rng_fold", policy)` returned. It is a
            static argument: choose outside of `jax.jit`.

    Returns:
        uint32[..., len(tags), 2], the key data of the streams.

    Raises:
        TypeError: If the state is not uint32 or a tag no integer.
        ValueError: If the state's last axis is not 2 or a tag out of range.
        RuntimeError: When lowered where there can be no native kernel, if
            `kernel.required`.
    """
    state = jnp.asarray(state)
    if state.dtype != np.uint32:
        raise TypeError(f"state must be uint32. Received: {state.dtype}")
    if state.ndim == 0 or state.shape[-1] != 2:
        raise ValueError(
            f"state must have the shape [..., 2]. Received: {state.shape}"
        )
    tags = tuple(operator.index(tag) for tag in tags)
    for tag in tags:
        if not 0 <= tag < 2**32:
            raise ValueError(f"tags must be in [0, 2**32). Received: {tag}")

    if not tags:
        return jnp.zeros((*state.shape[:-1], 0, 2), np.uint32)
    if kernel.kernel == "reference":
        return reference(state, tags)
    return rng_fold_p.bind(state, tags=tags, required=kernel.required)


def reference(state: jax.Array, tags: tuple[int, ...]) -> jax.Array:
    """`fold_streams` in terms of `jax.random`, on arguments it has checked."""

    def fold(raw: jax.Array, tag: jax.Array) -> jax.Array:
        key = jax.random.wrap_key_data(raw, impl="threefry2x32")
        return jax.random.key_data(jax.random.fold_in(key, tag))

    fold = jax.vmap(fold, in_axes=(None, 0))
    for _ in range(state.ndim - 1):
        fold = jax.vmap(fold, in_axes=(0, None))
    return fold(state, jnp.asarray(np.array(tags, np.uint32)))


# The native kernel is a primitive of its own rather than a `jax.ffi.ffi_call`
# inside `jax.lax.platform_dependent`. That pair decides by platform alone,
# which is not enough: whether a program is exported, or partitioned over
# several devices, is known when it is lowered and not before, since the same
# trace can be lowered for each of them. A lowering rule sees both, and is
# where the reference is emitted instead. The primitive also needs no
# custom_jvp around it, and its batching rule keeps vmap of vmap one call.
rng_fold_p = Primitive("flaxlayer_rng_fold")


@rng_fold_p.def_abstract_eval
def _abstract_eval(state, *, tags: tuple[int, ...], required: bool):
    del required
    # The reference's own result type: with it come shardings and manual mesh
    # axes, which JAX versions keep in different places.
    return jax_compat.result_aval(
        functools.partial(reference, tags=tags), state
    )


@functools.partial(jax.jit, static_argnames=("tags", "required"))
def _compiled(state, *, tags: tuple[int, ...], required: bool):
    return rng_fold_p.bind(state, tags=tags, required=required)


@rng_fold_p.def_impl
def _evaluate(state, *, tags: tuple[int, ...], required: bool):
    # An eager operation is compiled in JAX, under disable_jit too; without
    # the exception for it this would call itself for ever.
    with jax.disable_jit(False):
        return _compiled(state, tags=tags, required=required)


def _batch(args, axes, *, tags: tuple[int, ...], required: bool):
    (state,), (axis,) = args, axes
    state = jnp.moveaxis(state, axis, 0)
    return rng_fold_p.bind(state, tags=tags, required=required), 0


batching.primitive_batchers[rng_fold_p] = _batch

# Words have no tangents.
ad.defjvp(rng_fold_p, None)


def _lower_for_cpu(ctx, state, *, tags: tuple[int, ...], required: bool):
    if jax_compat.lowering_for_export(ctx):
        obstacle = "an exported program cannot call it where it is loaded"
    elif jax_compat.lowering_num_partitions(ctx) != 1:
        obstacle = "XLA cannot partition it over several devices"
    else:
        rule = jax.ffi.ffi_lowering(TARGET)
        return rule(ctx, state, tags=np.asarray(tags, np.uint32))
    return _lower_reference(obstacle, ctx, state, tags, required)


def _lower_elsewhere(ctx, state, *, tags: tuple[int, ...], required: bool):
    obstacle = "it is for the platform cpu only"
    return _lower_reference(obstacle, ctx, state, tags, required)


def _lower_reference(
    obstacle: str, ctx, state, tags: tuple[int, ...], required: bool
):
    if required:
        raise RuntimeError(
            'kernels="native" was asked for, but the native kernel of '
            f'rng_fold cannot be used here: {obstacle}. Use "auto" or '
            '"reference".'
        )
    rule = mlir.lower_fun(
        functools.partial(reference, tags=tags), multiple_results=False
    )
    return rule(ctx, state)


mlir.register_lowering(rng_fold_p, _lower_for_cpu, platform="cpu")
mlir.register_lowering(rng_fold_p, _lower_elsewhere)
