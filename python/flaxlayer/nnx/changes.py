"""What a call has changed in a module besides the values of its variables.

A compiled call keeps values and nothing else. What would be lost is refused.
"""

from collections.abc import Mapping
from typing import Any

from flax import nnx

from flaxlayer.calls.collection_policies import CollectionPolicies
from flaxlayer.nnx.graph import Graph, static_attributes
from flaxlayer.nnx.variables import collection_of, value_of
from flaxlayer.paths import Path, joined, listed

# By the paths of NNX.
Variables = Mapping[tuple[Any, ...], Any]


def variables_of(module: nnx.Module) -> Variables:
    """The variables of a module, and its bare arrays."""
    _, state = nnx.split(module)
    return dict(nnx.to_flat_state(state))


def sown(
    after: Variables, graph: Graph, collections: CollectionPolicies, layer: str
) -> dict[str, Any]:
    """What a call has sown.

    Args:
        after: the variables of the module, after the call.
        graph: what the module was before.
        collections: what becomes of what is sown.
        layer: how error messages call the layer.

    Returns:
        The values in nested dicts, by collection and path.

    Raises:
        ValueError: a variable was made that is neither sown nor dropped.
    """
    found: dict[str, Any] = {}
    unknown = []
    for path, variable in after.items():
        if path in graph.entries:
            continue
        collection = collection_of(variable)
        value = value_of(variable)
        if collections.of(collection, {"": value}) == "state":
            unknown.append((collection, *map(str, path)))
        tree = found.setdefault(collection, {})
        for step in path[:-1]:
            tree = tree.setdefault(str(step), {})
        tree[str(path[-1])] = value
    if unknown:
        raise ValueError(
            f"{layer}: a call has made variables, {listed(unknown)}: a "
            "layer has those it was built with. Make them in `__init__`, "
            "or say by `collections=` what becomes of their collection."
        )
    return found


def check_static(
    before: Mapping[Path, Any], module: nnx.Module, layer: str
) -> None:
    """Reports attributes that are no variables, and that a call has changed.

    Args:
        before: what `static_attributes` returned before the call.
        module: the module, after it.
        layer: how error messages call the layer.

    Raises:
        ValueError: there are some.
    """
    lost = _changed(before, static_attributes(module))
    if lost:
        raise ValueError(
            f"{layer}: a call has changed {listed(lost)}, which are no "
            "variables: a compiled call would lose that. Keep what calls "
            "change in an `nnx.Variable` that `__init__` makes, with an "
            "array in it."
        )


def values_after(
    after: Variables, graph: Graph, layer: str
) -> dict[tuple[Any, ...], Any]:
    """The values of what a module had before a call, by the paths of NNX.

    Raises:
        ValueError: a variable is not there any more.
    """
    gone = [e.path for path, e in graph.entries.items() if path not in after]
    if gone:
        raise ValueError(
            f"{layer}: a call has taken {listed(gone)} away: a layer has "
            "the variables it was built with. Leave them where they are."
        )
    return {path: value_of(after[path]) for path in graph.entries}


def _changed(
    before: Mapping[Path, Any], after: Mapping[Path, Any]
) -> list[Path]:
    """The paths of static attributes that differ."""
    return sorted(
        (
            name
            for name in before.keys() | after.keys()
            if name not in before
            or name not in after
            or not _same(before[name], after[name])
        ),
        key=joined,
    )


def _same(a: Any, b: Any) -> bool:
    if a is b:
        return True
    try:
        return type(a) is type(b) and bool(a == b)
    except Exception:  # Arrays of NumPy, for one.
        return False
