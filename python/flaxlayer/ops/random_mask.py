"""Random masks, as `jax.random.bernoulli` makes them, for dropout.

A mask is made in the pass that computes the words, which are never stored, and
the key's last fold is part of the same call where there is one.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import numpy as np

from flaxlayer import jax_compat
from flaxlayer.ops import native_primitive, threefry

TARGET = "flaxlayer_random_mask"
FOLD_IN_TARGET = "flaxlayer_fold_in_random_mask"


def bernoulli(
    key: jax.Array, probability: float, shape: tuple[int, ...]
) -> jax.Array:
    """`jax.random.bernoulli(key, probability, shape)`, bit for bit.

    Args:
        key: one typed key; of `threefry.prng_impl` for a native mask.
        probability: of each element to be true.
        shape: of the mask.
    """
    required = threefry.native_key(key)
    limit = _limit(probability)
    if required is None or limit is None or not threefry.has_kernel(shape):
        return jax.random.bernoulli(key, probability, shape)
    words = jax.random.key_data(key)
    return random_mask_p.bind(
        words, limit=limit, shape=shape, required=required
    )


def _limit(probability: float) -> int | None:
    """Below which 32-bit words make an element true; None if no such number.

    `jax.random.bernoulli` takes the upper 23 bits of a word as the fraction of
    a float32 in [0, 1), and compares that with the probability, a float32 too.
    Both are multiples of powers of two, so that whole numbers compare alike.
    """
    if jax_compat.x64():  # Then it draws float64s.
        return None
    scaled = math.ceil(float(np.float32(probability)) * 2**23)
    return scaled << 9 if 0 < scaled < 2**23 else None


def reference(
    keys: jax.Array, *, limit: int, shape: tuple[int, ...]
) -> jax.Array:
    """uint32[..., 2] keys to bool[..., *shape]: whether words are < `limit`."""
    words = threefry.random_bits_reference(keys, bit_width=32, shape=shape)
    return words < np.uint32(limit)


def _emit(ctx: Any, keys: Any, *, limit: int, shape: tuple[int, ...]) -> Any:
    """One call for the mask, and for the fold that its key comes from."""
    del shape  # That of the result.
    attributes = {"limit": np.uint32(limit)}
    fold = jax_compat.custom_call_operands(keys, threefry.FOLD_IN_TARGET)
    if fold is None:
        return jax.ffi.ffi_lowering(TARGET)(ctx, keys, **attributes)
    # The call of the fold stays, unused, and is removed by XLA.
    rule = jax.ffi.ffi_lowering(FOLD_IN_TARGET)
    return rule(jax_compat.with_operands(ctx, fold), *fold, **attributes)


random_mask_p = native_primitive.define(
    TARGET,
    reference=reference,
    result=lambda keys, limit, shape: jax.ShapeDtypeStruct(
        (*keys.shape[:-1], *shape), np.bool_
    ),
    emit=_emit,
)
