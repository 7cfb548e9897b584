"""A layer's weights in a Keras weights file.

Weights are stored under their paths. Keras's own FlaxLayer and JaxLayer store
theirs under running numbers, which are read as well: all parameters in the
order of the pytree, then all state.
"""

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

import keras
import numpy as np

from flaxlayer.variable_tree import Path, joined

# A step of a path cannot hold the separator, nor the one HDF5 makes groups of.
_ESCAPES = {"%": "%25", ".": "%2E", "/": "%2F"}


def store_key(path: Path) -> str:
    """The name a weight has in the file: `params.Dense_0.kernel`."""
    return ".".join(step.translate(str.maketrans(_ESCAPES)) for step in path)


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
        ValueError: names are missing or unexpected, or a shape is another
            one. No variable has changed then.
    """
    wanted = [store_key(path) for path in paths]
    stored = set(store.keys())
    numbered = {str(i) for i in range(len(stored))}
    if stored and stored == numbered and stored != set(wanted):
        if len(stored) != len(wanted):
            raise ValueError(
                f"{layer}: the file numbers {len(stored)} weights, as Keras's "
                f"own layer writes them, but this layer has {len(wanted)}: "
                f"{_listed([joined(path) for path in paths])}."
            )
        wanted = [str(i) for i in range(len(wanted))]
    problems = []
    missing = [key for key in wanted if key not in stored]
    if missing:
        problems.append(f"missing: {_listed(missing)}")
    unexpected = sorted(stored.difference(wanted))
    if unexpected:
        problems.append(f"unexpected: {_listed(unexpected)}")
    values = [np.asarray(store[key]) for key in wanted if key in stored]
    if not problems:
        problems = [
            f"`{joined(path)}`: expected shape {tuple(variable.shape)}, "
            f"received {value.shape}"
            for path, variable, value in zip(
                paths, variables, values, strict=True
            )
            if tuple(variable.shape) != value.shape
        ]
    if problems:
        raise ValueError(
            f"{layer}: the weights in the file are not those of this layer; "
            f"nothing was assigned. {'; '.join(problems)}. The file must come "
            "from a layer around the same module, built for the same inputs."
        )
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _listed(names: Sequence[str], at_most: int = 8) -> str:
    more = f" and {len(names) - at_most} more" if len(names) > at_most else ""
    return ", ".join(f"`{name}`" for name in names[:at_most]) + more
