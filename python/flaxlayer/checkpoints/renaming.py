"""The paths of a file under the names that a layer has for them."""

import re
from collections.abc import Iterable, Mapping, Sequence

from flaxlayer.paths import Path, joined, listed


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
        ValueError: a regular expression or a replacement is none, one decides
            of no path, a path is there twice, or two paths become one.
    """
    rules = _compiled(rename or {})
    paths = list(paths)
    _check_deciding(rules, paths)
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


def _check_deciding(
    rules: list[tuple[re.Pattern[str], str]], paths: Sequence[Path]
) -> None:
    """Reports rules without an effect, which are misspelt."""
    texts = ["/".join(path) for path in paths]
    deciding = {
        next((i for i, (p, _) in enumerate(rules) if p.fullmatch(text)), None)
        for text in texts
    }
    for i, (pattern, _) in enumerate(rules):
        if i not in deciding:
            matches = any(map(pattern.fullmatch, texts))
            reason = (
                "all paths that it matches are those of earlier patterns"
                if matches
                else "it matches no whole path in the file"
            )
            raise ValueError(
                f"`rename`: the pattern {pattern.pattern!r} has no effect: "
                f"{reason}. The paths are {listed(paths)}"
            )


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
