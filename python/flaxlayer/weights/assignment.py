"""Assigning many variables: all of them, or none.

Whatever can go wrong with values that come from elsewhere goes wrong here
before the first variable changes: paths and shapes are compared, values are
cast to the dtype of their variable and put where it is, and only then are they
assigned.
"""

import collections
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np

from flaxlayer import backends
from flaxlayer.paths import Path, StructureMismatch, joined
from flaxlayer.weights import casting, placed_initializer, variable_tree
from flaxlayer.weights.variable_tree import Leaf


def leaf_of(path: Path, value: Any) -> Leaf:
    """Describes what was received for a path, without reading or copying it.

    Args:
        path: where it belongs.
        value: anything; an array has a `shape` and a `dtype` and may be lazy,
            such as a dataset of an HDF5 file.
    """
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape is None or dtype is None:
        if not jax.tree_util.all_leaves([value]):
            return Leaf(path, None, value)  # None, and containers.
        (leaf,), _ = variable_tree.describe_leaves([value])
        return Leaf(path, leaf.spec, leaf.value)
    if not (jnp.issubdtype(dtype, jnp.number) or dtype == np.bool_):
        return Leaf(path, None, value)  # Text, dates, objects.
    return Leaf(path, jax.ShapeDtypeStruct(tuple(shape), dtype), value)


def leaves_for(
    tree: variable_tree.VariableTree, values: Any, prefix: Path
) -> list[Leaf]:
    """The leaves of a pytree that is to be assigned to a tree of variables.

    Typed keys come as their data. Leaves that are no arrays, and are none in
    the tree, belong to the model, which has them: they are left out.

    Args:
        tree: whose variables they are for.
        values: the pytree.
        prefix: what the paths of its leaves start with.

    Raises:
        StructureMismatch: a key is of another implementation than the one it
            is for.
    """
    ours, _ = variable_tree.describe_leaves(tree.as_specs(), prefix)
    static = {leaf.path for leaf in ours if not leaf.is_array}
    impls = {leaf.path: leaf.key_impl for leaf in tree.array_leaves()}
    leaves, _ = variable_tree.describe_leaves(values, prefix)
    received = []
    for leaf in leaves:
        impl = impls.get(leaf.path)
        if not leaf.is_array and leaf.path in static:
            continue
        if leaf.key_impl is None:
            received.append(leaf)
        elif impl is None or impl == leaf.key_impl:
            data = jax.random.key_data(leaf.value)
            received.append(leaf_of(leaf.path, data))
        else:
            raise StructureMismatch(
                f"`{joined(leaf.path)}`: expected a key "
                f"of {impl}, received one of {leaf.key_impl}"
            )
    return received


def check(
    variables: Mapping[Path, keras.Variable], received: Sequence[Leaf]
) -> None:
    """Compares paths and shapes.

    Raises:
        StructureMismatch: paths are missing, unexpected or there twice, a leaf
            is no array, or a shape is another one; the message lists them.
    """
    expected = [
        Leaf(path, jax.ShapeDtypeStruct(tuple(v.shape), v.dtype))
        for path, v in variables.items()
    ]
    arrays = [leaf for leaf in received if leaf.is_array]
    others = {leaf.path for leaf in received if not leaf.is_array}
    problems = variable_tree.mismatches(
        # Reported below, and not as missing.
        expected=[leaf for leaf in expected if leaf.path not in others],
        received=arrays,
    )
    counts = collections.Counter(leaf.path for leaf in received)
    problems += [
        f"`{joined(path)}`: expected once, received {count} times"
        for path, count in counts.items()
        if count > 1
    ]
    problems += [
        f"`{joined(leaf.path)}`: expected an array, received "
        f"{leaf.value!r:.80} (of type {type(leaf.value).__name__})"
        for leaf in received
        if not leaf.is_array
    ]
    if problems:
        raise StructureMismatch("; ".join(problems))


def assign(
    variables: Mapping[Path, keras.Variable], received: Sequence[Leaf]
) -> None:
    """Assigns all variables, or none of them.

    Arrays that have the dtype and the sharding of their variable are not
    copied: the variable holds the very array then.

    Args:
        variables: what to assign, by path.
        received: a value for each of them, in any order.

    Raises:
        StructureMismatch: as `check` says; or a value cannot be cast to the
            dtype of its variable, as `casting` says.
    """
    check(variables, received)
    # Not in the order received, which a file of safetensors does not have:
    # several processes put one array after the other on their devices together.
    by_path = {leaf.path: leaf for leaf in received}
    values, problems = [], []
    for path, variable in variables.items():
        leaf = by_path[path]
        try:
            values.append(casting.cast(leaf.value, variable.dtype))
        except casting.Refused as error:
            problems.append(f"`{joined(path)}`: {error}")
    if problems:
        raise StructureMismatch("; ".join(problems))
    assign_values(list(variables.values()), values)


def assign_values(
    variables: Sequence[keras.Variable], values: Sequence[Any]
) -> None:
    """Assigns values whose shapes have been compared.

    All of them are cast and placed, which may fail for want of memory, before
    the first is assigned.
    """
    placed = [_placed(x, v) for v, x in zip(variables, values, strict=True)]
    for variable, value in zip(variables, placed, strict=True):
        variable.assign(value)


def _placed(value: Any, variable: keras.Variable) -> Any:
    """The value in the dtype of a variable, on the devices it is on."""
    if not backends.current.HOLDS_JAX:
        return value
    current = variable.value
    tracers = (jax.core.Tracer,)
    if isinstance(current, tracers) or isinstance(value, tracers):
        return value  # It has no place yet.
    dtype = jnp.dtype(variable.dtype)
    if isinstance(value, jax.Array):
        value = value.astype(dtype)  # The same array if it has that dtype.
        there = value.sharding.is_equivalent_to(current.sharding, value.ndim)
        if there:
            return value
        return placed_initializer.placed(value, current.sharding)
    value = np.asarray(value, dtype)
    if current.committed:
        return placed_initializer.placed(value, current.sharding)
    # Committing it would forbid computations with arrays on other devices.
    return jnp.array(value)
