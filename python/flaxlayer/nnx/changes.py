"""What a call has changed in a module besides the values of its variables.

A compiled call keeps values and nothing else. What would be lost is refused.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from flax import nnx

from flaxlayer.calls.collection_policies import CollectionPolicies
from flaxlayer.nnx.graph import Graph, static_attributes
from flaxlayer.nnx.variables import collection_of, value_of
from flaxlayer.paths import joined


def taken_out(
    module: nnx.Module,
    graph: Graph,
    collections: CollectionPolicies,
    layer: str,
) -> dict[str, Any]:
    """Takes what a call has sown out of a module.

    Args:
        module: the module, after the call.
        graph: what it was before.
        collections: what becomes of what is sown.
        layer: how error messages call the layer.

    Returns:
        The values in nested dicts, by collection and path.

    Raises:
        ValueError: a variable was made that is neither sown nor dropped.
    """
    _, state = nnx.split(module)
    born = {
        path: variable
        for path, variable in nnx.to_flat_state(state)
        if path not in graph.entries
    }
    if not born:
        return {}
    found: dict[str, Any] = {}
    unknown = []
    for path, variable in born.items():
        collection = collection_of(variable)
        value = value_of(variable)
        if collections.of(collection, {"": value}) == "state":
            unknown.append(joined((collection, *map(str, path))))
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
    nnx.pop(module, lambda path, _: path in born)
    return found


def check_static(
    before: Mapping[str, Any], module: nnx.Module, layer: str
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
    module: nnx.Module, graph: Graph, layer: str
) -> dict[tuple[Any, ...], Any]:
    """The values of a module after a call, by the paths of NNX.

    Raises:
        ValueError: a variable is not there any more.
    """
    _, state = nnx.split(module)
    values = {
        path: value_of(variable) for path, variable in nnx.to_flat_state(state)
    }
    gone = [
        joined(entry.path)
        for path, entry in graph.entries.items()
        if path not in values
    ]
    if gone:
        raise ValueError(
            f"{layer}: a call has taken {listed(gone)} away: a layer has "
            "the variables it was built with. Leave them where they are."
        )
    return values


def listed(names: Sequence[str], at_most: int = 8) -> str:
    """The first few names as messages show them."""
    more = len(names) - at_most
    shown = ", ".join(f"`{name}`" for name in names[:at_most])
    return shown + (f" and {more} more" if more > 0 else "")


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The paths of static attributes that differ."""
    return sorted(
        name
        for name in before.keys() | after.keys()
        if name not in before
        or name not in after
        or not _same(before[name], after[name])
    )


def _same(a: Any, b: Any) -> bool:
    if a is b:
        return True
    try:
        return type(a) is type(b) and bool(a == b)
    except Exception:  # Arrays of NumPy, for one.
        return False
