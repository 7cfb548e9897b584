"""What is said of a layer's weights by patterns for their paths."""

from collections.abc import Callable, Mapping
from typing import Any

import keras

from flaxlayer.paths import Path, listed
from flaxlayer.weights import path_patterns, variable_tree

# What is no value of an argument, but one of the other.
_OTHERS = {
    "regularizers": keras.constraints.Constraint,
    "constraints": keras.regularizers.Regularizer,
}


class WeightRules:
    """Regularizers, constraints, and what is frozen.

    Args:
        regularizers: the `regularizers` argument: what
            `keras.regularizers.get` takes, by pattern. The first pattern that
            matches decides.
        constraints: the same for `keras.constraints.get`.
        layer: how error messages call the layer.

    Attributes:
        regularizers: Keras regularizers by pattern.
        constraints: Keras constraints by pattern.
        freezing: patterns in the order of the calls of `freeze` and
            `unfreeze`, with whether they freeze. The last one that matches
            decides.
        kept_state: the indices of the state that calls leave as it is.

    Raises:
        TypeError: an argument is not a mapping from strings.
        ValueError: a pattern is no regular expression, or a value is not what
            Keras takes.
    """

    def __init__(
        self,
        regularizers: Mapping[str, Any] | None,
        constraints: Mapping[str, Any] | None,
        layer: str,
    ):
        self.regularizers = _found(
            "regularizers", regularizers, keras.regularizers.get, layer
        )
        self.constraints = _found(
            "constraints", constraints, keras.constraints.get, layer
        )
        self.freezing: tuple[tuple[str, bool], ...] = ()
        self.kept_state: frozenset[int] = frozenset()

    def regularize(self, weights: variable_tree.VariableTree) -> None:
        """Gives each variable the regularizer and the constraint it has."""
        for path, variable in weights.by_path().items():
            variable.regularizer = path_patterns.first_match(
                self.regularizers, path
            )
            variable.constraint = path_patterns.first_match(
                self.constraints, path
            )

    def set_freezing(self, pattern: str, frozen: bool) -> None:
        """Notes a call of `freeze` or `unfreeze`."""
        earlier = (rule for rule in self.freezing if rule[0] != pattern)
        self.freezing = (*earlier, (pattern, frozen))

    def is_frozen(self, path: Path, initially: bool) -> bool:
        """Whether the rules freeze what is at a path.

        Args:
            path: of a weight.
            initially: whether it is frozen where no rule matches.
        """
        for pattern, freezes in self.freezing:
            if path_patterns.matches(pattern, path):
                initially = freezes
        return initially

    def check_patterns(
        self,
        params: tuple[Path, ...],
        state: tuple[Path, ...],
        layer: str,
    ) -> None:
        """Reports patterns without an effect, which are misspelt.

        Args:
            params: the paths of the parameters; only these are regularised and
                constrained.
            state: the paths of the state.
            layer: how error messages call the layer.

        Raises:
            ValueError: there is one.
        """
        for argument, values in (
            ("regularizers", self.regularizers),
            ("constraints", self.constraints),
        ):
            path_patterns.check_deciding(
                list(values),
                params,
                matching=path_patterns.matches,
                layer=layer,
                argument=argument,
            )
        for pattern, _ in self.freezing:
            check_pattern(
                pattern, params + state, layer=layer, argument="freeze"
            )

    def to_config(self, layer: str) -> dict[str, Any]:
        """The rules that there are, as JSON-compatible values.

        Raises:
            TypeError: one of them is a lambda.
        """
        for argument in ("regularizers", "constraints"):
            for pattern, value in getattr(self, argument).items():
                if getattr(value, "__name__", None) == "<lambda>":
                    raise TypeError(
                        f"{layer}: `{argument}[{pattern!r}]` is a lambda, "
                        "which cannot be saved. Use a module-level function, "
                        "registered with "
                        "`keras.saving.register_keras_serializable()`."
                    )
        config: dict[str, Any] = {
            "regularizers": {
                pattern: keras.regularizers.serialize(value)
                for pattern, value in self.regularizers.items()
            },
            "constraints": {
                pattern: keras.constraints.serialize(value)
                for pattern, value in self.constraints.items()
            },
            "freezing": [list(rule) for rule in self.freezing],
        }
        return {name: value for name, value in config.items() if value}


def check_pattern(
    pattern: str,
    paths: tuple[Path, ...],
    *,
    layer: str,
    argument: str,
) -> None:
    """Reports a pattern that matches no path.

    Raises:
        ValueError: it matches none.
    """
    if not any(path_patterns.matches(pattern, path) for path in paths):
        raise ValueError(
            f"{layer}: the pattern {pattern!r} of `{argument}` matches no "
            "weight of the layer; it has to match a whole path, with or "
            "without the collection. The paths are "
            f"{listed(paths)}."
        )


def freezing_from_config(config: Any, *, layer: str) -> list[tuple[str, bool]]:
    """The rules that `to_config` wrote under `freezing`.

    Raises:
        ValueError: they are not such rules.
    """
    match config:
        case [*rules] if all(
            isinstance(rule, list | tuple)
            and [type(x) for x in rule] == [str, bool]
            for rule in rules
        ):
            return [(pattern, frozen) for pattern, frozen in rules]
    raise ValueError(
        f"{layer}: the saved `freezing` is not one this layer writes. "
        f"Expected pairs of a pattern and a boolean. Received: {config!r:.200}."
    )


def _found(
    argument: str, values: Any, get: Callable[[Any], Any], layer: str
) -> dict[str, Any]:
    values = path_patterns.checked_mapping(
        values, layer=layer, argument=argument
    )
    found = {}
    for pattern, identifier in values.items():
        try:
            found[pattern] = get(identifier)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{layer}: `{argument}[{pattern!r}]` must be what "
                f"`keras.{argument}.get` takes. Received: "
                f"{identifier!r:.200} ({error})."
            ) from error
        # Keras takes anything that can be called.
        if isinstance(found[pattern], _OTHERS[argument]):
            (other,) = _OTHERS.keys() - {argument}
            raise ValueError(
                f"{layer}: `{argument}[{pattern!r}]` must be one of "
                f"`keras.{argument}`. Received: one of `keras.{other}`, "
                f"{type(found[pattern]).__name__}."
            )
    return found
