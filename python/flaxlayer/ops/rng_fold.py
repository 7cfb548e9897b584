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

from flaxlayer.ops import native_primitive, partitioning, threefry
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


def _by_fold_in(
    state: jax.Array, tags: tuple[int, ...], *, required: bool
) -> jax.Array:
    shape = (*state.shape[:-1], len(tags))
    return threefry.fold_in_p.bind(
        jnp.broadcast_to(state[..., None, :], (*shape, 2)),
        jnp.broadcast_to(np.array(tags, np.uint32), shape),
        required=required,
    )


rng_fold_p = native_primitive.define(
    TARGET,
    reference=reference,
    result=lambda state, tags: jax.ShapeDtypeStruct(
        (*state.shape[:-1], len(tags), 2), np.uint32
    ),
    partitioned=lambda state, **static: partitioning.by_leading_axes(
        functools.partial(rng_fold_p.bind, **static), state, trailing=(1,)
    ),
    attributes=lambda tags: {"tags": np.asarray(tags, np.uint32)},
    on_cuda=_by_fold_in,
)
