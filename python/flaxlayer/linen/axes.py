"""The logical axes that Flax keeps around weights, or beside them."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
from flax.linen import partitioning

from flaxlayer.paths import joined, path_of

_AXES = "_axes"


def beside(variables: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """The axes that `flax.linen.partitioning` keeps beside weights.

    `param_with_axes`, as T5X uses it, has those of `params/mlp/kernel` at
    `params_axes/mlp/kernel_axes`.

    Args:
        variables: those of a module.

    Returns:
        Names by the joined path of the weight.
    """

    def is_axes(x: Any) -> bool:
        return isinstance(x, partitioning.AxisMetadata)

    found = {}
    for collection, tree in variables.items():
        if not collection.endswith(_AXES):
            continue
        flat, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_axes)
        for keys, value in flat:
            if is_axes(value):
                path = (collection, *path_of(keys))
                steps = [step.removesuffix(_AXES) for step in path]
                names = () if value.names is None else value.names
                found[joined(tuple(steps))] = tuple(names)
    return found


def unboxed(
    variables: Mapping[str, Any],
) -> tuple[dict[str, tuple[Any, ...]], dict[str, Any]]:
    """Takes arrays out of Flax's metadata boxes.

    Returns:
        The axes that the boxes name, by joined path, and the variables without
        them.
    """

    def is_box(x: Any) -> bool:
        return isinstance(x, nn.meta.AxisMetadata)

    variables = dict(variables)
    leaves, treedef = jax.tree_util.tree_flatten_with_path(
        variables, is_leaf=is_box
    )
    if not any(is_box(value) for _, value in leaves):
        return {}, variables
    found = {
        joined(path_of(keys)): tuple(value.get_partition_spec())
        for keys, value in leaves
        if is_box(value)
    }
    return found, treedef.unflatten(
        value.unbox() if is_box(value) else value for _, value in leaves
    )
