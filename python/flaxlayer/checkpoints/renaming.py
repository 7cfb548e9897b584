"""The paths of a file under the names that a layer has for them."""

import re
from collections.abc import Iterable, Mapping

from flaxlayer.weights.variable_tree import Path, joined


def renamed(
    paths: Iterable[Path], rename: Mapping[str, str] | None
) -> dict[Path, Path]:
    """The path in the layer for each path in a file.

    Args:
        paths: those in the file.
        rename: replacements by regular expression. The first that matches the
            whole path, with slashes between its steps, is applied; a path that
            none matches stays as it is.

    Raises:
        TypeError: `rename` is no mapping of strings.
        ValueError: a regular expression or a replacement is none, a path is
            there twice, or two paths become one.
    """
    rules = _compiled(rename or {})
    result: dict[Path, Path] = {}
    taken: dict[Path, Path] = {}
    for path in paths:
        if path in result:
            raise ValueError(f"`{joined(path)}` is there twice")
        new = tuple(_apply(rules, "/".join(path)).split("/"))
        if new in taken:
            raise ValueError(
                f"`rename` makes one path of two: `{joined(taken[new])}` and "
                f"`{joined(path)}` both become `{joined(new)}`"
            )
        taken[new] = path
        result[path] = new
    return result


def _compiled(rename: Mapping[str, str]) -> list[tuple[re.Pattern[str], str]]:
    if not isinstance(rename, Mapping) or not all(
        isinstance(text, str) for item in rename.items() for text in item
    ):
        raise TypeError(
            "`rename` must be a dict from regular expressions to replacements, "
            r'such as {r"encoder/(.*)": r"params/encoder/\1"}. Received: '
            f"{rename!r:.200} (of type {type(rename).__name__})."
        )
    rules = []
    for pattern, replacement in rename.items():
        try:
            rules.append((re.compile(pattern), replacement))
        except re.error as error:
            raise ValueError(
                f"`rename`: {pattern!r} is no regular expression: {error}"
            ) from error
    return rules


def _apply(rules: list[tuple[re.Pattern[str], str]], path: str) -> str:
    for pattern, replacement in rules:
        match = pattern.fullmatch(path)
        if match is None:
            continue
        try:
            return match.expand(replacement)
        except (re.error, IndexError) as error:
            raise ValueError(
                f"`rename`: {replacement!r} is no replacement for "
                f"{pattern.pattern!r}: {error}"
            ) from error
    return path
