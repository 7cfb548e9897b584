"""Pytrees of dicts, lists and tuples as JSON, for the arguments of functions.

An array is written as its place in the flat list of arrays, a dict as
`{"dict": {...}}`, a list as `{"list": [...]}`, a tuple as `{"tuple": [...]}`,
and `None` as `null`. Arrays are counted in the order in which the tree is
written, which is that of its author: JAX would sort the keys of dicts.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any


def described(tree: Any, name: str) -> tuple[Any, dict[str, Any]]:
    """A tree as JSON, and its arrays by their names.

    Args:
        tree: what is described.
        name: that of the whole. What is in a dict or a list has the key or the
            place behind it, and in a dict at the top the key alone.

    Raises:
        TypeError: something in it is none of these; the message names it.
    """
    leaves: dict[str, Any] = {}
    return _described(tree, name, True, leaves), leaves


def _described(tree: Any, name: str, top: bool, leaves: dict[str, Any]) -> Any:
    if tree is None:
        return None
    if isinstance(tree, Mapping):
        if not all(isinstance(key, str) for key in tree):
            raise TypeError(
                f"`{name}` is a dict with keys that are not strings. Received: "
                f"{list(tree)!r:.200}."
            )
        return {
            "dict": {
                key: _described(
                    value, key if top else f"{name}/{key}", False, leaves
                )
                for key, value in tree.items()
            }
        }
    if isinstance(tree, list | tuple):
        values = [
            _described(value, f"{name}_{i}", False, leaves)
            for i, value in enumerate(tree)
        ]
        return {"list" if isinstance(tree, list) else "tuple": values}
    if not hasattr(tree, "shape") or not hasattr(tree, "dtype"):
        raise TypeError(
            f"`{name}` is neither an array nor a dict, list or tuple. "
            f"Received: {tree!r:.200} (of type {type(tree).__name__})."
        )
    unique, count = name, 1
    while unique in leaves:
        unique, count = f"{name}_{count}", count + 1
    leaves[unique] = tree
    return len(leaves) - 1


def built(structure: Any, leaves: Sequence[Any]) -> Any:
    """The tree that a description is of, with these leaves."""
    match structure:
        case None:
            return None
        case int():
            return leaves[structure]
        case {"dict": items}:
            return {key: built(value, leaves) for key, value in items.items()}
        case {"list": items}:
            return [built(value, leaves) for value in items]
        case {"tuple": items}:
            return tuple(built(value, leaves) for value in items)
    raise ValueError(f"no description of a tree: {structure!r:.200}")


def leaves_of(structure: Any, tree: Any, name: str) -> list[Any]:
    """The leaves of a tree that has to be as described, in their order.

    Args:
        structure: the description.
        tree: what was received for it.
        name: what messages call it.

    Raises:
        TypeError: it is another one; the message says where.
    """
    found: dict[int, Any] = {}
    _collect(structure, tree, name, found.__setitem__)
    return [found[i] for i in range(len(found))]


def _collect(
    structure: Any, tree: Any, name: str, found: Callable[[int, Any], None]
) -> None:
    match structure:
        case int() if tree is not None and not isinstance(
            tree, Mapping | tuple
        ):
            found(structure, tree)
            return
        case None if tree is None:
            return
        case {"dict": items} if isinstance(tree, Mapping):
            if items.keys() != tree.keys():
                raise TypeError(
                    f"`{name}` must have the keys {sorted(items)}. Received: "
                    f"{sorted(map(str, tree))}."
                )
            for key, value in items.items():
                _collect(value, tree[key], f"{name}[{key!r}]", found)
            return
        case {"list": items} | {"tuple": items} if isinstance(
            tree, list | tuple
        ) and len(items) == len(tree):
            for i, value in enumerate(items):
                _collect(value, tree[i], f"{name}[{i}]", found)
            return
    raise TypeError(
        f"`{name}` must be {_shown(structure)}. Received: {_received(tree)}."
    )


def _shown(structure: Any) -> str:
    match structure:
        case None:
            return "`None`"
        case int():
            return "an array"
        case {"dict": items}:
            return f"a dict with the keys {sorted(items)}"
        case {"list": items} | {"tuple": items}:
            return f"a list or tuple of {len(items)}"
    return repr(structure)


def _received(tree: Any) -> str:
    if isinstance(tree, Mapping):
        return f"a dict with the keys {sorted(map(str, tree))}"
    if isinstance(tree, list | tuple):
        return f"a {type(tree).__name__} of {len(tree)}"
    return f"{tree!r:.100} (of type {type(tree).__name__})"
