"""Checks that Python targets state what they import: all of it, no more.

Bazel puts everything that a target depends on, however far, where Python finds
it, so a forgotten dependency shows only when another target drops its own.

A module's target has to be in the `deps` of what imports it, and so have those
of the packages it is in, whose __init__.py Python runs first; but most modules
below python/flaxlayer cannot depend on flaxlayer/__init__.py, which imports
them, and there it is stated only where nothing else is imported from it.
"""

import ast
import pathlib
import re
import sys
from collections.abc import Iterable, Iterator

from tools.lint import build_files

_RULES = ("py_binary", "py_library", "py_test", "pytest_test")
_ADDED_BY_MACROS = {"pytest_test": {"//third_party/py/pytest:pytest"}}

# Folders that imports start from.
_ROOTS = ("python", "")

_PACKAGE = "python/flaxlayer"

_IN_STRING = re.compile(r"(?:\A(?=[\w.]+\Z)|^ *import |^ *from )([\w.]+)", re.M)


def problems(root: pathlib.Path, build_paths: Iterable[str]) -> list[str]:
    """What is missing from the `deps` of Python targets, and what is unused.

    Args:
        root: the repository.
        build_paths: its BUILD files.

    Returns:
        A line for each.
    """
    targets, _ = build_files.read(root, build_paths)
    labels = {target.label for target in targets}
    owners: dict[str, set[str]] = {}
    for target in targets:
        if target.rule in _RULES:
            for path in target.files("srcs"):
                owners.setdefault(path, set()).add(target.label)

    found = []
    for target in targets:
        if target.rule not in _RULES:
            continue
        deps = set(target.labels("deps"))
        added = _ADDED_BY_MACROS.get(target.rule, set())
        used = _conftests(target, owners)
        for path in target.files("srcs"):
            tree = ast.parse((root / path).read_text(encoding="utf-8"), path)
            for module in _named(tree):
                used |= set().union(*_owners(module, [], path, target, owners))
            for module, names in _imports(tree):
                for needed in _owners(module, names, path, target, owners):
                    used |= needed
                    if not needed & (deps | added):
                        found.append(
                            f"{target.label}: {path} imports {module} of "
                            f"{' or '.join(sorted(needed))}, not in deps"
                        )
        for dep in sorted(deps - (used & labels)):
            reason = "is not imported" if dep in labels else "does not exist"
            found.append(f"{target.label}: {dep} is in deps and {reason}")
    stated = set().union(
        *(target.labels("deps") for target in targets),
        *_ADDED_BY_MACROS.values(),
    )
    found += [
        f"{target.label}: no target has it in deps"
        for target in targets
        if target.rule == "label_flag"
        and target.label.startswith("//third_party/py/")
        and target.label not in stated
    ]
    return sorted(set(found))


def _owners(
    module: str,
    names: list[str],
    path: str,
    target: build_files.Target,
    owners: dict[str, set[str]],
) -> Iterator[set[str]]:
    """The targets of what an import runs; of each set one has to be in deps."""
    roots = _ROOTS
    if target.rule == "py_binary":  # Python adds the folder of a script.
        roots = (str(target.folder), *_ROOTS)
    files = _files(module, names, roots, owners)
    top = module.partition(".")[0]
    if not files and top not in sys.stdlib_module_names:
        yield {f"//third_party/py/{top}:{top}"}
    if path.startswith(f"{_PACKAGE}/"):
        files = files - {f"{_PACKAGE}/__init__.py"} or files
    for file in files - set(target.files("srcs")):
        yield owners[file]


def _imports(tree: ast.Module) -> Iterator[tuple[str, list[str]]]:
    """Modules, each with the names that are imported from it."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(aliases):
                for alias in aliases:
                    yield alias.name, []
            case ast.ImportFrom(str(module), aliases, 0):
                yield module, [alias.name for alias in aliases]
            case ast.ImportFrom():
                raise ValueError("relative imports are not used here")


def _named(tree: ast.Module) -> Iterator[str]:
    """Modules that strings name, or import, as a program in a string does.

    Such a module may be imported, and need not be.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from _IN_STRING.findall(node.value)


def _files(
    module: str,
    names: list[str],
    roots: Iterable[str],
    owners: dict[str, set[str]],
) -> set[str]:
    """The files of targets that an import runs."""
    parts = module.split(".")
    prefixes = ["/".join(parts[: n + 1]) for n in range(len(parts))]
    prefixes += [f"{prefixes[-1]}/{name}" for name in names]
    for root in roots:
        start = f"{root}/" if root else ""
        files = {
            file
            for prefix in prefixes
            for file in (f"{start}{prefix}.py", f"{start}{prefix}/__init__.py")
            if file in owners
        }
        if files:
            return files
    return set()


def _conftests(
    target: build_files.Target, owners: dict[str, set[str]]
) -> set[str]:
    """What pytest loads for tests in a folder, without an import."""
    if target.rule != "pytest_test":
        return set()
    folders = [target.folder, *target.folder.parents]
    files = [str(folder / "conftest.py") for folder in folders]
    return set().union(*(owners.get(file, set()) for file in files))
