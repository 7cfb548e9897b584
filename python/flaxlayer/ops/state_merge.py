"""State merge: old and new state in, the state to store out.

New leaves take the dtypes of the old ones. Either all of them are taken or
none: none where a predicate is false, or where a number is not finite.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.interpreters import ad

from flaxlayer import jax_compat
from flaxlayer.ops import native_primitive, partitioning
from flaxlayer.ops.dispatch import Choice

TARGET = "flaxlayer_state_merge"

# What the kernel merges; it is not made for others, such as 8-bit floats.
_KERNEL_DTYPES = frozenset(
    np.dtype(dtype)
    for dtype in (
        *("bool", "float16", jnp.bfloat16, "float32", "float64"),
        *("int8", "int16", "int32", "int64", "complex64"),
        *("uint8", "uint16", "uint32", "uint64", "complex128"),
    )
)


def merge(
    old: Sequence[jax.Array],
    new: Sequence[jax.Array],
    *,
    kernel: Choice,
    update: jax.Array | None = None,
    guard: bool = False,
) -> list[jax.Array]:
    """Casts the new leaves to the dtypes of the old; takes all of them or none.

    Args:
        old: The leaves as they are stored: arrays, or typed keys.
        new: As many leaves, of the same shapes.
        kernel: What `dispatch.choose("state_merge", policy)` returned. It is a
            static argument: choose outside of `jax.jit`. Without `guard` both
            do the same.
        update: A bool, which may be traced: where it is false, the old leaves
            are kept.
        guard: Whether the old leaves are also kept where any number in any new
            leaf is infinite or NaN, in the dtype of the old leaf.

    Returns:
        The leaves to store, of the shapes and dtypes of `old`: every bit of the
        leaves that are taken, but for NaNs in bfloat16. Where XLA selects, as
        `jnp.where` does, those may come out as another NaN.

    Raises:
        TypeError: If one of two leaves is a typed key and the other none of
            the same implementation, or if `update` is no bool.
        ValueError: If there are not as many leaves of the same shapes, or if
            `update` is no scalar.
        RuntimeError: When lowered where there can be no native kernel, if
            `kernel.required` and there is something to guard.
    """
    old, new = _checked(old, new)
    guard = guard and any(map(_is_inexact, new))

    # Which implementation runs, and why:
    # - Nothing decides: the new leaves are the result. XLA casts in the step
    #   that computes a leaf, and those that need no cast are left alone.
    if update is None and not guard:
        return new
    taken = _checked_update(True if update is None else update)
    # - The predicate alone decides: the reference. XLA selects in the step
    #   that computes a leaf, where a call would have to copy it.
    # - There is a guard: the native call, for the leaves that its kernel can
    #   merge. XLA goes over each leaf once to look at it and once to select, in
    #   code that it compiles for each of them.
    # A cast is XLA's in any case: it costs nothing in the step that computes a
    # leaf. XLA may also leave out there what rounds to the dtype that is cast
    # from; with the cast in a call that would differ from the reference.
    kept, given = [*map(_words, old)], [*map(_words, new)]
    known = [leaf.dtype in _KERNEL_DTYPES for leaf in kept]
    if kernel.kernel == "native" and guard and any(known):
        merged = _native(taken, kept, given, known, required=kernel.required)
    else:
        merged = _reference(taken, kept, given, guard=guard)
    return [
        _with_dtype_of(leaf, words)
        for leaf, words in zip(old, merged, strict=True)
    ]


def reference(
    old: Sequence[jax.Array],
    new: Sequence[jax.Array],
    *,
    update: jax.Array | None = None,
    guard: bool = False,
) -> list[jax.Array]:
    """`merge` in terms of JAX."""
    kernel = Choice("reference")
    return merge(old, new, kernel=kernel, update=update, guard=guard)


def _checked(
    old: Sequence[Any], new: Sequence[Any]
) -> tuple[list[jax.Array], list[jax.Array]]:
    """The leaves, the new ones with the dtypes of the old."""
    if len(old) != len(new):
        raise ValueError(
            f"there must be as many new leaves as old ones, {len(old)}. "
            f"Received: {len(new)}"
        )
    old = [jnp.asarray(leaf) for leaf in old]
    new = [jnp.asarray(leaf) for leaf in new]
    for i, (kept, leaf) in enumerate(zip(old, new, strict=True)):
        if leaf.shape != kept.shape:
            raise ValueError(
                f"new leaf {i} must have the shape of the old one, "
                f"{kept.shape}. Received: {leaf.shape}"
            )
        if _is_key(kept) or _is_key(leaf):
            if leaf.dtype != kept.dtype:
                raise TypeError(
                    f"new leaf {i} must have the dtype of the old one, "
                    f"{kept.dtype}: a typed key cannot be cast. Received: "
                    f"{leaf.dtype}"
                )
        elif leaf.dtype != kept.dtype or leaf.weak_type:
            new[i] = leaf.astype(kept.dtype)
    return old, new


def _checked_update(update: Any) -> jax.Array:
    update = jnp.asarray(update)
    if update.dtype != np.bool_:
        raise TypeError(f"update must be a bool. Received: {update.dtype}")
    if update.shape != ():
        raise ValueError(f"update must be a scalar. Received: {update.shape}")
    return update


def _is_key(leaf: jax.Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _is_inexact(leaf: jax.Array) -> bool:
    return jnp.issubdtype(leaf.dtype, np.inexact)


def _words(leaf: jax.Array) -> jax.Array:
    """The numbers that a typed key consists of; other leaves as they are."""
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _with_dtype_of(leaf: jax.Array, words: jax.Array) -> jax.Array:
    """What has these words, as `_words` takes them from such a leaf."""
    if not _is_key(leaf):
        return words
    return jax.random.wrap_key_data(words, impl=jax_compat.key_impl(leaf))


def _reference(
    taken: jax.Array,
    old: Sequence[jax.Array],
    new: Sequence[jax.Array],
    *,
    guard: bool,
) -> list[jax.Array]:
    if guard:
        taken = _if_finite(taken, new)
    return _selected(taken, old, new)


def _if_finite(taken: jax.Array, new: Sequence[jax.Array]) -> jax.Array:
    """`taken`, and whether all numbers are finite."""
    finite = [jnp.isfinite(leaf).all() for leaf in new if _is_inexact(leaf)]
    # Behind the barrier it is one value. XLA would look for ways to compute
    # all of this again for each leaf that it selects, which takes half a minute
    # where there are hundreds.
    return jax.lax.optimization_barrier(
        functools.reduce(jnp.logical_and, finite, taken)
    )


def _selected(
    taken: jax.Array, old: Sequence[jax.Array], new: Sequence[jax.Array]
) -> list[jax.Array]:
    return [
        jnp.where(taken, leaf, kept)
        for kept, leaf in zip(old, new, strict=True)
    ]


def _native(
    taken: jax.Array,
    old: Sequence[jax.Array],
    new: Sequence[jax.Array],
    known: Sequence[bool],
    *,
    required: bool,
) -> list[jax.Array]:
    """`_reference` with a guard; XLA merges the leaves that are not known."""
    others = [leaf for leaf, here in zip(new, known, strict=True) if not here]
    if others:
        taken = _if_finite(taken, others)
    taken, *merged = state_merge_p.bind(
        taken,
        *(leaf for leaf, here in zip(old, known, strict=True) if here),
        *(leaf for leaf, here in zip(new, known, strict=True) if here),
        required=required,
    )
    rest = iter(merged)
    return [
        next(rest) if here else jnp.where(taken, leaf, kept)
        for kept, leaf, here in zip(old, new, known, strict=True)
    ]


# The primitive: a bool and the old and the new leaves to the bool of whether
# the new ones are taken and the merged leaves. The bool's axes, which vmap puts
# there, are the first ones of all leaves: each of its elements decides on its
# own part of them.


def _halves(leaves: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any]]:
    """The old leaves and the new ones."""
    return leaves[: len(leaves) // 2], leaves[len(leaves) // 2 :]


def _primitive_reference(
    taken: jax.Array, *leaves: jax.Array
) -> list[jax.Array]:
    def merge_one(taken, *leaves):
        old, new = _halves(leaves)
        taken = _if_finite(taken, new)
        return [taken, *_selected(taken, old, new)]

    for _ in range(taken.ndim):
        merge_one = jax.vmap(merge_one)
    return merge_one(taken, *leaves)


def _in_parts(
    taken: jax.Array, *leaves: jax.Array, required: bool
) -> list[jax.Array]:
    """Each device merges what it has of the leaves."""
    whole = functools.partial(state_merge_p.bind, required=required)
    axes = taken.ndim

    def plan(mesh: Any, results: list[partitioning.Axes]) -> Any:
        # Those in front are few, and no number may be left out of a decision.
        results[:] = [((),) * axes + split[axes:] for split in results]
        taken_axes, *split = results
        if not any(map(any, split)):
            return whole, [taken_axes, *split, *split]

        def merge_one(taken: jax.Array, *leaves: jax.Array) -> list[jax.Array]:
            old, new = _halves(leaves)
            finite = _if_finite(jnp.bool_(True), new)
            # The only thing that devices have to tell each other.
            others = jax.lax.psum(jnp.int32(~finite), mesh.axis_names)
            taken = taken & (others == 0)
            return [taken, *_selected(taken, old, new)]

        local = merge_one
        for _ in range(axes):
            local = jax.vmap(local)
        return local, [taken_axes, *split, *split]

    shared = [f"b{i}" for i in range(axes)]
    names = [
        [*shared, *(f"x{n}_{i}" for i in range(leaf.ndim - axes))]
        for n, leaf in enumerate(_halves(leaves)[0])
    ]
    call = partitioning.partitioned(
        whole,
        plan,
        operands=[shared, *names, *names],
        results=[shared, *names],
        multiple_results=True,
    )
    return call(taken, *leaves)


def _result(taken: Any, *leaves: Any) -> list[jax.ShapeDtypeStruct]:
    return [
        jax.ShapeDtypeStruct(array.shape, array.dtype)
        for array in (taken, *_halves(leaves)[0])
    ]


def _tangents(results: Sequence[jax.Array], *tangents: Any) -> list[Any]:
    """Linear in the leaves, given which of them are taken."""
    taken, *_ = results
    taken_tangent, *leaf_tangents = tangents

    def merged(old: Any, new: Any) -> Any:
        if isinstance(old, ad.Zero) and isinstance(new, ad.Zero):
            return old
        old, new = map(ad.instantiate_zeros, (old, new))
        axes = tuple(range(taken.ndim, new.ndim))
        return jnp.where(jnp.expand_dims(taken, axes), new, old)

    return [taken_tangent, *map(merged, *_halves(leaf_tangents))]


state_merge_p = native_primitive.define(
    TARGET,
    reference=_primitive_reference,
    result=_result,
    multiple_results=True,
    tangents=_tangents,
    partitioned=_in_parts,
    # A merged leaf is in the buffer of the old one, where those that are kept
    # already are.
    aliases=lambda operands: {i: i for i in range(1, (operands + 1) // 2)},
)
