"""Patterns that choose weights by their paths.

A pattern is a regular expression that has to match a whole path, such as
`params/encoder/Dense_0/kernel`, or all of it below the collection,
`encoder/Dense_0/kernel`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flaxlayer.paths import Path, listed


def checked(pattern: Any, *, layer: str, argument: str) -> str:
    """A pattern, validated.

    Raises:
        TypeError: it is no string.
        ValueError: it is no regular expression.
    """
    if not isinstance(pattern, str):
        raise TypeError(
            f"{layer}: {argument} must be a regular expression for the paths "
            f"of weights. Received: {pattern!r} (of type "
            f"{type(pattern).__name__})."
        )
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(
            f"{layer}: {argument} is no regular expression: {error}. "
            f"Received: {pattern!r}."
        ) from error
    return pattern


def checked_mapping(
    values: Any, *, layer: str, argument: str
) -> dict[str, Any]:
    """A mapping from patterns, validated; `None` is an empty one.

    Raises:
        TypeError: it is no mapping, or has a key that is no string.
        ValueError: a key is no regular expression.
    """
    if values is None:
        return {}
    if not isinstance(values, Mapping):
        raise TypeError(
            f"{layer}: `{argument}` must be a mapping from patterns for the "
            f"paths of weights. Received: {values!r:.200} (of type "
            f"{type(values).__name__})."
        )
    described = f"each key of `{argument}`"
    return {
        checked(pattern, layer=layer, argument=described): value
        for pattern, value in values.items()
    }


def matches(pattern: str, path: Sequence[str]) -> bool:
    """Whether a pattern matches a path, with or without the collection."""
    return any(
        re.fullmatch(pattern, "/".join(steps)) is not None
        for steps in (path, path[1:])
        if steps
    )


def matches_above(pattern: str, path: Sequence[str]) -> bool:
    """Whether it matches a whole path or anything that the path is below of."""
    return any(
        re.fullmatch(pattern, "/".join(path[:end])) is not None
        for end in range(1, len(path) + 1)
    )


def first_match(values: Mapping[str, Any], path: Sequence[str]) -> Any | None:
    """The value of the first pattern that matches, or `None`."""
    for pattern, value in values.items():
        if matches(pattern, path):
            return value
    return None


def check_deciding(
    patterns: Sequence[str],
    paths: Sequence[Path],
    *,
    matching: Callable[[str, Path], bool],
    layer: str,
    argument: str,
) -> None:
    """Reports patterns that decide of nothing, the first that matches deciding.

    Args:
        patterns: in their order.
        paths: of the weights they are for.
        matching: `matches` or `matches_above`.
        layer: how error messages call the layer.
        argument: whose patterns they are.

    Raises:
        ValueError: a pattern matches no path, or only such as an earlier one
            matches.
    """
    undecided = list(paths)
    for pattern in patterns:
        if not any(matching(pattern, path) for path in paths):
            raise ValueError(
                f"{layer}: the pattern {pattern!r} of `{argument}` matches no "
                "weight that it could be for; it has to match a whole path, "
                "with or without the collection. The paths are "
                f"{listed(paths)}."
            )
        left = [path for path in undecided if not matching(pattern, path)]
        if len(left) == len(undecided):
            raise ValueError(
                f"{layer}: the pattern {pattern!r} of `{argument}` decides "
                "nothing: the first one that matches counts, and those before "
                "it match all that it matches. Put it first. Received: "
                f"{list(patterns)}."
            )
        undecided = left
