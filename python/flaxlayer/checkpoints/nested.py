"""Arrays by path, as nested dicts and back."""

from collections.abc import Iterator, Mapping
from typing import Any

from flaxlayer.paths import Path, joined


def nest(values: Mapping[Path, Any]) -> dict[str, Any]:
    """Nested dicts, as Flax has them, with the values at their paths.

    Raises:
        ValueError: a path goes on where another one ends.
    """
    nested: dict[str, Any] = {}
    leaves = set(values)
    for path, value in values.items():
        inner = nested
        for depth, step in enumerate(path[:-1], 1):
            if path[:depth] in leaves:
                raise ValueError(
                    f"`{joined(path[:depth])}` and `{joined(path)}` cannot be "
                    "in one nested dict"
                )
            inner = inner.setdefault(step, {})
        inner[path[-1]] = value
    return nested


def flatten(tree: Any, prefix: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Everything that is no dict and no list, with its path.

    Items of lists have their index as a step, as in a state dict of Flax.
    """
    if isinstance(tree, Mapping):
        items: Any = tree.items()
    elif isinstance(tree, list | tuple):
        items = enumerate(tree)
    else:
        yield prefix, tree
        return
    for key, value in items:
        # A slash in a key is a step of its own, as in the paths of a layer.
        yield from flatten(value, prefix + tuple(str(key).split("/")))
