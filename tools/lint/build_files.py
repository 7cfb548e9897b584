"""Reads the targets of BUILD files, without Bazel.

A BUILD file has the syntax of Python. The lists in it are written out, or made
of `glob` and `select`, which is all that is understood here.
"""

import ast
import dataclasses
import os
import pathlib
import subprocess
from collections.abc import Iterable, Iterator


@dataclasses.dataclass(frozen=True)
class Target:
    """A call of a rule.

    Attributes:
        label: the target, in full: `//a/b:c`.
        rule: the rule's name.
        folder: of the BUILD file.
        attributes: their values; a call for a list is kept as it is.
    """

    label: str
    rule: str
    folder: pathlib.PurePosixPath
    attributes: dict[str, ast.expr]

    def strings(self, attribute: str) -> list[str]:
        """The strings in a list; those of all branches of a `select`."""
        value = self.attributes.get(attribute)
        return [] if value is None else list(_strings(value))

    def labels(self, attribute: str) -> list[str]:
        """The same, as labels in full."""
        return [full(text, self.folder) for text in self.strings(attribute)]

    def files(self, *attributes: str) -> list[str]:
        """The paths of source files, from the root of the repository."""
        return [
            path
            for attribute in attributes
            for path in as_paths(self.labels(attribute))
        ]


def as_paths(labels: Iterable[str]) -> list[str]:
    """What would be at these labels, in full, if they are files."""
    return [
        label.removeprefix("//").replace(":", "/").removeprefix("/")
        for label in labels
    ]


def tracked(*pathspecs: str) -> list[str]:
    """The files of the current folder that git knows or would add."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
        + ["--", *pathspecs],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [path for path in listing.splitlines() if os.path.exists(path)]


def full(label: str, folder: pathlib.PurePosixPath) -> str:
    """A label in full, where `folder` has the BUILD file that it is in."""
    if not label.startswith(("//", "@")):
        package = "" if folder == pathlib.PurePosixPath() else folder
        return f"//{package}:{label.removeprefix(':')}"
    if ":" not in label:
        return f"{label}:{label.rpartition('/')[2]}"
    return label


def read(
    root: pathlib.Path, paths: Iterable[str]
) -> tuple[list[Target], dict[pathlib.PurePosixPath, list[str]]]:
    """Reads BUILD files.

    Args:
        root: the repository.
        paths: of the files, from there.

    Returns:
        Their targets, and the default visibility of each folder. What
        `exports_files` names are targets as well.
    """
    targets = []
    defaults = {}
    for path in paths:
        folder = pathlib.PurePosixPath(path).parent
        defaults[folder] = ["//visibility:private"]
        tree = ast.parse((root / path).read_text(encoding="utf-8"), path)
        for rule, call in _calls(tree):
            attributes = {
                keyword.arg: keyword.value
                for keyword in call.keywords
                if keyword.arg
            }
            if rule == "package":
                if "default_visibility" in attributes:
                    value = attributes["default_visibility"]
                    defaults[folder] = list(_strings(value))
            elif rule == "exports_files":
                for name in _strings(call.args[0]):
                    label = full(name, folder)
                    targets.append(Target(label, rule, folder, attributes))
            elif "name" in attributes:
                name = ast.literal_eval(attributes["name"])
                label = full(name, folder)
                targets.append(Target(label, rule, folder, attributes))
    return targets, defaults


def _calls(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    for statement in tree.body:
        if isinstance(statement, ast.Expr):
            call = statement.value
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name):
                yield call.func.id, call


def _strings(node: ast.expr) -> Iterator[str]:
    match node:
        case ast.List(elements):
            for element in elements:
                yield ast.literal_eval(element)
        case ast.BinOp(left, ast.Add(), right):
            yield from _strings(left)
            yield from _strings(right)
        case ast.Call(ast.Name("select"), [ast.Dict(_, branches)]):
            for branch in branches:
                yield from _strings(branch)
        case ast.Call(ast.Name("glob")):
            return  # What it finds is for others to see.
        case _:
            raise ValueError(
                f"expected a list, `select`, `glob` or a sum of these, "
                f"got {ast.unparse(node)}"
            )
