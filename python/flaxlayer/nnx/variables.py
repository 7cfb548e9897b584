"""The variables of NNX modules: their values, collections and kinds."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from flax import nnx

from flaxlayer.paths import Path, joined
from flaxlayer.weights import path_patterns
from flaxlayer.weights.partition import Kind

# What Flax has no name for: its own types, and arrays in no variable.
_RNG = "rng"
_ARRAYS = "arrays"


def value_of(variable: Any) -> Any:
    """The value in a variable; of a bare array, itself.

    Never by `get_value` or indexing, which run the hooks of a variable once
    more than the module itself does.
    """
    if not isinstance(variable, nnx.Variable):
        return variable
    if hasattr(variable, "get_raw_value"):
        return variable.get_raw_value()
    return variable.raw_value  # Flax 0.12.0.


def collection_of(variable: Any) -> str:
    """The collection of a variable: what its path in a layer begins with.

    By its type: the name that Flax has for it in Linen, such as `params`, of
    it or of the next class above it that is no more general than `Param` and
    the like; or that of the class, in lower case with underscores.
    """
    if not isinstance(variable, nnx.Variable):
        return _ARRAYS
    if isinstance(variable, nnx.RngState):
        return _RNG
    for cls in type(variable).__mro__:
        if cls is nnx.Variable:
            break
        try:
            return nnx.variable_name_from_type(cls)
        except ValueError:
            continue
    name = type(variable).__name__
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


class Kinds:
    """Says of each variable what kind of weight it is.

    Args:
        kinds: the `partition` argument: kinds by pattern, a regular expression
            for paths, or any filter of NNX, such as `nnx.LoRAParam`. The first
            that matches decides; what none matches is trainable if it is a
            `Param`, and state if not.
        layer: how error messages call the layer.

    Attributes:
        declared: the argument.

    Raises:
        TypeError: `kinds` is not a mapping, or a key is no filter.
        ValueError: a pattern is no regular expression, or a kind is another
            word.
    """

    def __init__(self, kinds: Mapping[Any, Kind] | None, layer: str):
        if not isinstance(kinds, Mapping | None):
            raise TypeError(
                f"{layer}: `partition` must be a mapping from patterns, or "
                f"filters of NNX, to kinds. Received: {kinds!r:.200} (of type "
                f"{type(kinds).__name__})."
            )
        self.declared: dict[Any, Kind] = dict(kinds or {})
        self._filters: dict[Any, Any] = {}
        for pattern, kind in self.declared.items():
            if isinstance(pattern, str):
                path_patterns.checked(
                    pattern, layer=layer, argument="`partition`"
                )
            else:
                self._filters[pattern] = _predicate(pattern, layer)
            if kind not in get_args(Kind):
                raise ValueError(
                    f"{layer}: `partition[{pattern!r}]` must be one of "
                    f"{get_args(Kind)}. Received: {kind!r}."
                )
        self._deciding: set[Any] = set()

    def of(self, path: Path, nnx_path: Sequence[Any], variable: Any) -> Kind:
        """The kind of one variable.

        Args:
            path: with its collection, as strings.
            nnx_path: as NNX has it.
            variable: the variable, or a bare array.
        """
        for pattern, kind in self.declared.items():
            predicate = self._filters.get(pattern)
            if (
                _matches(pattern, path)
                if predicate is None
                else predicate(tuple(nnx_path), variable)
            ):
                self._deciding.add(pattern)
                return kind
        return "trainable" if isinstance(variable, nnx.Param) else "state"

    def check_deciding(self, paths: Sequence[Path], layer: str) -> None:
        """Reports patterns that have decided of no variable.

        Args:
            paths: those of all weights.
            layer: how error messages call the layer.

        Raises:
            ValueError: there is one, which is misspelt or comes too late.
        """
        for pattern in self.declared:
            if pattern not in self._deciding:
                raise ValueError(
                    f"{layer}: `partition[{pattern!r}]` decides of no weight: "
                    "it matches none, or only such as an earlier one matches. "
                    f"The paths are {[joined(path) for path in paths[:8]]}."
                )


def _matches(pattern: str, path: Path) -> bool:
    return path_patterns.matches_above(
        pattern, path
    ) or path_patterns.matches_above(pattern, path[1:])


def _predicate(pattern: Any, layer: str) -> Any:
    try:
        return nnx.filterlib.to_predicate(pattern)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{layer}: the keys of `partition` must be regular expressions "
            "for paths, or filters of NNX, such as `nnx.LoRAParam`. Received: "
            f"{pattern!r:.200} ({error})."
        ) from error
