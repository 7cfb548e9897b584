"""A layer's weights in a Keras weights file.

Weights are stored under their paths. Keras's own FlaxLayer and JaxLayer store
theirs under running numbers, which are read as well: all parameters in the
order of the pytree, then all state.
"""

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

import keras

from flaxlayer.paths import Path, StructureMismatch, joined
from flaxlayer.weights import assignment

# A step of a path cannot hold the separator, nor the one HDF5 makes groups of.
_ESCAPES = {"%": "%25", ".": "%2E", "/": "%2F"}


def store_key(path: Path) -> str:
    """The name a weight has in the file: `params.Dense_0.kernel`."""
    return ".".join(step.translate(str.maketrans(_ESCAPES)) for step in path)


def path_of_key(key: str) -> Path:
    """The path that `store_key` made a name of."""

    def unescaped(step: str) -> str:
        # The escape of the escapes is the last to go.
        for plain, escape in reversed(_ESCAPES.items()):
            step = step.replace(escape, plain)
        return step

    return tuple(unescaped(step) for step in key.split("."))


def save(
    paths: Sequence[Path],
    variables: Sequence[keras.Variable],
    store: MutableMapping[str, Any],
) -> None:
    """Writes all variables into `store`."""
    for path, variable in zip(paths, variables, strict=True):
        store[store_key(path)] = variable


def load(
    paths: Sequence[Path],
    variables: Sequence[keras.Variable],
    store: Mapping[str, Any],
    *,
    layer: str,
) -> None:
    """Assigns all variables from `store`, or none of them.

    Args:
        paths: a path for each variable.
        variables: in the order of running numbers.
        store: what the file has for this layer.
        layer: how error messages call the layer.

    Raises:
        ValueError: names are missing or unexpected, a shape is another one,
            or a value cannot be cast. No variable has changed then.
    """
    keys = list(store.keys())
    stored = [path_of_key(key) for key in keys]
    numbered = {(str(i),) for i in range(len(keys))}
    if keys and set(stored) == numbered and numbered != set(paths):
        if len(keys) != len(paths):
            raise ValueError(
                f"{layer}: the file numbers {len(keys)} weights, as Keras's "
                f"own layer writes them, but this layer has {len(paths)}: "
                f"{_listed([joined(path) for path in paths])}."
            )
        keys, stored = [str(i) for i in range(len(keys))], list(paths)
    try:
        assignment.assign(
            dict(zip(paths, variables, strict=True)),
            [
                assignment.leaf_of(path, store[key])
                for path, key in zip(stored, keys, strict=True)
            ],
        )
    except StructureMismatch as error:
        raise ValueError(
            f"{layer}: the weights in the file are not those of this layer; "
            f"nothing was assigned. {error}. The file must come from a layer "
            "around the same module, built for the same inputs."
        ) from error


def _listed(names: Sequence[str], at_most: int = 8) -> str:
    more = f" and {len(names) - at_most} more" if len(names) > at_most else ""
    return ", ".join(f"`{name}`" for name in names[:at_most]) + more
