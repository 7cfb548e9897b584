"""Native calls in programs that XLA splits over the devices of a mesh.

XLA cannot split what it does not know: it would gather the operands of a custom
call on every device. So an operation says itself how it is split. Shardy is
told which axes of operands and results belong together; it decides how they
are sharded, as for operations of its own; and then the call is made for the
part that one device has.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.custom_partitioning import custom_partitioning
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from flaxlayer import jax_compat

# For each axis of an array the mesh axes it is split over, in their order.
Axes = tuple[tuple[str, ...], ...]

# (mesh, axes of each result) -> the function of one device's operands, and the
# axes of each operand. It may be given fewer axes than Shardy has chosen.
Plan = Callable[[Mesh, list[Axes]], tuple[Callable[..., Any], list[Axes]]]


_of_mesh: list[Primitive] = []


def lower_on_mesh(primitive: Primitive) -> None:
    """Has the lowering rule of a primitive told of the mesh of a program."""
    _of_mesh.append(primitive)


@functools.cache
def prepare() -> None:
    """Has programs be lowered for the mesh they are for, if there can be one.

    JAX then lowers them for devices that are there, and not for a
    `jax.sharding.AbstractMesh`. A process of one device needs no kernels on a
    mesh, and is where programs for other machines are lowered.

    Call it before any is lowered.
    """
    try:
        devices = jax.device_count("cpu")
    except RuntimeError:  # JAX was told not to have that platform.
        return
    if devices > 1:
        for primitive in _of_mesh:
            jax_compat.lower_with_devices(primitive)


# The identity. JAX has the rules of a program told of its mesh if there is an
# operation in it that asks for this, and operations on typed keys, which are
# JAX's own, do not: they turn into ours only when they are lowered.
located_p = Primitive("flaxlayer_located")
located_p.def_impl(lambda array: array)
located_p.def_abstract_eval(lambda aval: aval)
mlir.register_lowering(located_p, lambda ctx, array: [array])
batching.defvectorized(located_p)
ad.defjvp(located_p, lambda tangent, array: tangent)
lower_on_mesh(located_p)


def located(array: jax.Array) -> jax.Array:
    """The same array, or typed keys, in a program that is told of its mesh."""
    prepare()
    if not jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key):
        return located_p.bind(array)
    return jax.random.wrap_key_data(
        located_p.bind(jax.random.key_data(array)),
        impl=jax_compat.key_impl(array),
    )


def partitioned(
    function: Callable[..., Any],
    plan: Plan,
    *,
    operands: Sequence[Sequence[str]],
    results: Sequence[Sequence[str]],
    multiple_results: bool = False,
) -> Callable[..., Any]:
    """A function of arrays that says how it is split over devices.

    Args:
        function: computes the whole; only its results' types are looked at.
        plan: what one device computes.
        operands: for each operand a name for each of its axes.
        results: for each result a name for each of its axes. An axis of a
            result is sharded as the axes of operands that have its name.
        multiple_results: whether the functions return a list.
    """
    wrapped = custom_partitioning(function)

    def listed(values: Any) -> list[Any]:
        return list(values) if multiple_results else [values]

    def partition(mesh: Mesh, _: Any, shapes: Any) -> Any:
        wanted = [_dividing(x.sharding, x.shape, mesh) for x in listed(shapes)]
        local, given = plan(mesh, wanted)
        shardings = [_sharding(mesh, axes) for axes in wanted]
        return (
            mesh,
            local,
            shardings if multiple_results else shardings[0],
            tuple(_sharding(mesh, axes) for axes in given),
        )

    def infer(mesh: Mesh, _: Any, shapes: Any) -> Any:
        replicated = [NamedSharding(mesh, PartitionSpec())] * len(results)
        del shapes
        return replicated if multiple_results else replicated[0]

    wrapped.def_partition(
        partition=partition,
        # For GSPMD, which does not know of the rule.
        infer_sharding_from_operands=infer,
        sharding_rule=_rule(operands, results),
    )
    return wrapped


def by_leading_axes(
    function: Callable[..., Any], *operands: Any, trailing: Sequence[int]
) -> Any:
    """Calls a function whose leading axes alone may be split.

    Args:
        function: of arrays that share their leading axes, as its result does:
            it computes each element of them on its own.
        *operands: the arrays.
        trailing: for each operand how many axes follow the leading ones.
    """
    leading = operands[0].ndim - trailing[0]
    result = jax.eval_shape(function, *operands)
    own = result.ndim - leading

    def plan(mesh: Mesh, results: list[Axes]) -> Any:
        del mesh
        # What is computed for one element is there on every device that needs
        # some of it: XLA takes its part of that.
        results[0] = results[0][:leading] + ((),) * own
        return function, [
            results[0][:leading] + ((),) * number for number in trailing
        ]

    shared = [f"b{i}" for i in range(leading)]
    call = partitioned(
        function,
        plan,
        operands=[
            [*shared, *(f"o{n}_{i}" for i in range(number))]
            for n, number in enumerate(trailing)
        ],
        results=[[*shared, *(f"r{i}" for i in range(own))]],
    )
    return call(*operands)


def offset(mesh: Mesh, axes: Axes, sizes: Sequence[int]) -> jax.Array:
    """Where this device's part of an array begins, `uint32[rank]`.

    Args:
        mesh: the mesh, all of whose axes are manual here.
        axes: how the array is split.
        sizes: the sizes of a part, each below 2**32.
    """
    starts = []
    for names, size in zip(axes, sizes, strict=True):
        index = jnp.uint32(0)
        for name in names:
            position = jax.lax.axis_index(name).astype(np.uint32)
            index = index * np.uint32(mesh.shape[name]) + position
        starts.append(index * np.uint32(size))
    return jnp.stack(starts)


def part(mesh: Mesh, axes: Axes, sizes: Sequence[int]) -> tuple[int, ...]:
    """The sizes of one device's part of an array of these sizes."""
    return tuple(
        size // _parts(mesh, names)
        for size, names in zip(sizes, axes, strict=True)
    )


def _parts(mesh: Mesh, names: Sequence[str]) -> int:
    return math.prod(mesh.shape[name] for name in names)


def _dividing(sharding: Any, sizes: Sequence[int], mesh: Mesh) -> Axes:
    """The mesh axes of a sharding, where parts of an axis are equally large.

    XLA pads others, and would have to say by how much.
    """
    spec = sharding.spec
    axes = []
    for size, entry in itertools.zip_longest(sizes, spec):
        names = entry if isinstance(entry, tuple) else (entry,)
        names = tuple(name for name in names if isinstance(name, str))
        fits = size % _parts(mesh, names) == 0 and size < 2**32
        axes.append(names if fits else ())
    return tuple(axes)


def _sharding(mesh: Mesh, axes: Axes) -> NamedSharding:
    return NamedSharding(
        mesh, PartitionSpec(*(names or None for names in axes))
    )


def _rule(
    operands: Sequence[Sequence[str]], results: Sequence[Sequence[str]]
) -> str:
    """In the notation of Shardy: `b0 k, b0 -> b0 r0`."""

    def side(arrays: Sequence[Sequence[str]]) -> str:
        return ", ".join(" ".join(axes) for axes in arrays)

    return f"{side(operands)} -> {side(results)}"
