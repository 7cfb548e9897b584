"""Threefry keys whose random words are computed by native kernels.

A PRNG implementation for JAX: typed keys of it work with everything in
`jax.random`, and give the same bits as those of JAX's own threefry2x32, on
which the words here are modelled. Each operation on keys is one custom call
instead of the loop over rounds that XLA makes of it on a CPU.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Hashable
from typing import Any

import jax
import jax.extend.random
import jax.numpy as jnp
import numpy as np

from flaxlayer import jax_compat
from flaxlayer.ops import native_primitive, partitioning

_STOCK = jax.extend.random.threefry_prng_impl


def _stock(keys: jax.Array, *more: jax.Array, function, axes: int) -> jax.Array:
    """Applies a function of JAX's implementation to leading axes of keys."""
    for _ in range(axes):
        function = jax.vmap(function)
    return function(keys, *more)


def fold_in_reference(keys: jax.Array, data: jax.Array) -> jax.Array:
    """uint32[..., 2] keys and uint32[...] data to uint32[..., 2] keys."""
    return _stock(keys, data, function=_STOCK.fold_in, axes=data.ndim)


fold_in_p = native_primitive.define(
    "flaxlayer_fold_in",
    reference=fold_in_reference,
    result=lambda keys, data: jax.ShapeDtypeStruct(keys.shape, np.uint32),
    partitioned=lambda keys, data, **static: partitioning.by_leading_axes(
        functools.partial(fold_in_p.bind, **static),
        *(keys, data),
        trailing=(1, 0),
    ),
    has_cuda_kernel=True,
)


def split_reference(keys: jax.Array, *, shape: tuple[int, ...]) -> jax.Array:
    """uint32[..., 2] keys to uint32[..., *shape, 2] keys."""
    function = functools.partial(_STOCK.split, shape=shape)
    return _stock(keys, function=function, axes=keys.ndim - 1)


split_p = native_primitive.define(
    "flaxlayer_random_split",
    reference=split_reference,
    result=lambda keys, shape: jax.ShapeDtypeStruct(
        (*keys.shape[:-1], *shape, 2), np.uint32
    ),
    partitioned=lambda keys, **static: partitioning.by_leading_axes(
        functools.partial(split_p.bind, **static), keys, trailing=(1,)
    ),
    has_cuda_kernel=True,
)


def random_bits_reference(
    keys: jax.Array, *, bit_width: int, shape: tuple[int, ...]
) -> jax.Array:
    """uint32[..., 2] keys to words, uint{bit_width}[..., *shape]."""
    function = functools.partial(
        _STOCK.random_bits, bit_width=bit_width, shape=shape
    )
    return _stock(keys, function=function, axes=keys.ndim - 1)


def _random_bits_in_parts(
    keys: jax.Array, *, bit_width: int, shape: tuple[int, ...], required: bool
) -> jax.Array:
    """Each device computes the words of its own part, from their indices."""
    leading = keys.ndim - 1
    whole = functools.partial(
        random_bits_p.bind, bit_width=bit_width, shape=shape, required=required
    )

    def plan(mesh: Any, results: list[partitioning.Axes]) -> Any:
        (axes,) = results
        own = axes[leading:]
        sizes = partitioning.part(mesh, own, shape)

        def block(keys: jax.Array) -> jax.Array:
            if not any(own):
                return whole(keys)
            call = jax.ffi.ffi_call(
                "flaxlayer_random_block",
                jax.ShapeDtypeStruct(
                    (*keys.shape[:-1], *sizes), f"uint{bit_width}"
                ),
            )
            start = partitioning.offset(mesh, own, sizes)
            return call(keys, start, whole=np.asarray(shape, np.int64))

        return block, [(*axes[:leading], ())]

    shared = [f"b{i}" for i in range(leading)]
    call = partitioning.partitioned(
        whole,
        plan,
        operands=[[*shared, "k"]],
        results=[[*shared, *(f"d{i}" for i in range(len(shape)))]],
    )
    return call(keys)


random_bits_p = native_primitive.define(
    "flaxlayer_random_bits",
    reference=random_bits_reference,
    result=lambda keys, bit_width, shape: jax.ShapeDtypeStruct(
        (*keys.shape[:-1], *shape), f"uint{bit_width}"
    ),
    partitioned=_random_bits_in_parts,
    has_cuda_kernel=True,
)


@functools.cache
def prng_impl(*, required: bool) -> Hashable:
    """The implementation, as `jax.random.key` takes it for `impl`.

    Args:
        required: whether lowering raises where there can be no native call,
            instead of emitting JAX's own operations.
    """

    def fold_in(key: jax.Array, data: Any) -> jax.Array:
        data = jnp.asarray(data, np.uint32)
        return fold_in_p.bind(key, data, required=required)

    def split(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        if not _has_kernel(shape):
            return _STOCK.split(key, shape)
        return split_p.bind(key, shape=shape, required=required)

    def random_bits(
        key: jax.Array, bit_width: int, shape: tuple[int, ...]
    ) -> jax.Array:
        if not _has_kernel(shape) or bit_width not in (8, 16, 32, 64):
            return _STOCK.random_bits(key, bit_width, shape)
        return random_bits_p.bind(
            key, bit_width=bit_width, shape=shape, required=required
        )

    return jax.extend.random.define_prng_impl(
        key_shape=(2,),
        # A few shifts, which XLA compiles well.
        seed=_STOCK.seed,
        split=split,
        random_bits=random_bits,
        fold_in=fold_in,
        name="flaxlayer_threefry2x32",
        tag="flfryn" if required else "flfry",
    )


def stock_impl(impl: Any) -> Any:
    """An implementation of keys; JAX's threefry2x32 in place of this one.

    Args:
        impl: what `jax.random.key_impl` returns.
    """
    ours = [prng_impl(required=required) for required in (False, True)]
    return "threefry2x32" if impl in ours else impl


def keys_of(data: jax.Array, *, required: bool) -> jax.Array:
    """Typed keys of the implementation, `uint32[..., 2]` to `key[...]`."""
    return jax.random.wrap_key_data(
        partitioning.located_p.bind(data), impl=prng_impl(required=required)
    )


def _has_kernel(shape: tuple[int, ...]) -> bool:
    """Whether words of this shape, with their layout, can be native."""
    return (
        jax_compat.threefry_partitionable()
        and all(isinstance(size, int) for size in shape)
        and math.prod(shape) <= 2**64
    )
