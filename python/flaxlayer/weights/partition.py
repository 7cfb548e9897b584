"""Which weights of a module are trained, which are frozen, which are state.

Weights are told apart by the paths of their variables, `params/Dense_0/kernel`,
so that a collection may be split. Trees are nested dicts, as Flax has them;
what a dict holds that is no dict itself is one variable.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from flaxlayer.paths import Path
from flaxlayer.weights import path_patterns

Kind = Literal["trainable", "frozen", "state"]

_PARAMS = "params"


class Partition:
    """Says of each variable what kind of weight it is.

    Args:
        kinds: the `partition` argument: kinds by pattern; the first pattern
            that matches decides. A pattern matches a path with its collection,
            or in `"params"` without, and everything below it. What none
            matches is trainable in `"params"`, and state in any other
            collection.
        layer: how error messages call the layer.

    Raises:
        TypeError: `kinds` is not a mapping from strings.
        ValueError: a pattern is no regular expression, or a kind is another
            word.
    """

    def __init__(self, kinds: Mapping[str, Kind] | None, layer: str):
        self.declared = path_patterns.checked_mapping(
            kinds, layer=layer, argument="partition"
        )
        for pattern, kind in self.declared.items():
            if kind not in get_args(Kind):
                raise ValueError(
                    f"{layer}: `partition[{pattern!r}]` must be one of "
                    f"{get_args(Kind)}. Received: {kind!r}."
                )

    def kind(self, path: tuple[str, ...]) -> Kind:
        """The kind of the weights at a path."""
        for pattern, kind in self.declared.items():
            if self._matches(pattern, path):
                return kind
        return "trainable" if path[:1] == (_PARAMS,) else "state"

    def _matches(self, pattern: str, path: Sequence[str]) -> bool:
        # Statistics do not become parameters by the name of their module.
        return path_patterns.matches_above(pattern, path) or (
            path[0] == _PARAMS
            and path_patterns.matches_above(pattern, path[1:])
        )

    def check_policies(self, policies: Mapping[str, str], layer: str) -> None:
        """Reports kinds of weights for collections that are no weights.

        Args:
            policies: the `collections` argument.
            layer: how error messages call the layer.

        Raises:
            ValueError: a pattern speaks of a collection that `collections`
                gives another policy than `"state"`.
        """
        for pattern, kind in self.declared.items():
            name = pattern.partition("/")[0]
            policy = policies.get(name, "state")
            if policy != "state":
                raise ValueError(
                    f"{layer}: `partition[{pattern!r}]` and "
                    f"`collections[{name!r}]` contradict each other: the "
                    "layer keeps weights for the one and none for the other. "
                    f"Leave one out. Received: {kind!r} and {policy!r}."
                )

    def check_patterns(self, paths: Sequence[Path], layer: str) -> None:
        """Reports patterns that decide of no weight.

        Raises:
            ValueError: a pattern matches no path, or only such as an earlier
                one matches.
        """
        path_patterns.check_deciding(
            list(self.declared),
            paths,
            matching=self._matches,
            layer=layer,
            argument="partition",
        )

    def names(self, collection: str) -> bool:
        """Whether a pattern speaks of this very collection."""
        return collection in self.declared

    def split(self, variables: Mapping[str, Any]) -> tuple[Any, Any]:
        """Divides variables into parameters and state."""
        params, state = {}, {}
        for name, value in variables.items():
            below = self._split(value, (name,))
            for part, kept in zip((params, state), below, strict=True):
                if kept is not None:
                    part[name] = kept
        return params, state

    def _split(self, tree: Any, path: tuple[str, ...]) -> tuple[Any, Any]:
        if not isinstance(tree, Mapping) or not tree:
            is_state = self.kind(path) == "state"
            return (None, tree) if is_state else (tree, None)
        parts: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
        for name, value in tree.items():
            below = self._split(value, (*path, str(name)))
            for part, kept in zip(parts, below, strict=True):
                if kept is not None:
                    part[name] = kept
        params, state = parts
        return params or None, state or None


def merged(params: Any, state: Any) -> dict[str, Any]:
    """The variables that were split."""
    result = dict(params or {})
    for name, value in (state or {}).items():
        both = isinstance(value, Mapping) and isinstance(
            result.get(name), Mapping
        )
        result[name] = merged(result[name], value) if both else value
    return result
