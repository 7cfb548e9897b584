"""Checks that the package, pyproject.toml and third_party/py agree.

pyproject.toml alone says what the package depends on. What the package imports
must be stated there, what is stated there must be used, and every folder of
third_party/py must be there for somebody.
"""

import ast
import importlib.metadata
import pathlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_ROOT = pathlib.Path(__file__).parents[2]
_PACKAGE = "python/flaxlayer"

# Dependencies that no Python file of the package imports.
_USED_OTHERWISE = {
    "jaxlib": "the extension is built with its headers and called by it",
}
_LABEL = re.compile(r'"//third_party/py/(\w+)')


def imports(source: str) -> Iterator[str]:
    """The modules that a file imports, in functions as well.

    Args:
        source: the text of the file.

    Yields:
        Full names, such as `orbax.checkpoint`; those of the file's own package
        only if they are not relative.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def problems(
    sources: Mapping[str, str],
    pyproject: Mapping,
    folders: Iterable[str],
    build_files: Iterable[str],
    distributions: Mapping[str, Iterable[str]],
) -> list[str]:
    """What does not agree.

    Args:
        sources: the texts of the package's files, by their paths.
        pyproject: what pyproject.toml says.
        folders: the folders of third_party/py.
        build_files: the texts of the files that may use labels.
        distributions: the distributions of a top-level module.

    Returns:
        A line for each problem.
    """
    project = pyproject["project"]
    runtime = _names(project["dependencies"])
    extras = _names(
        requirement
        for requirements in project["optional-dependencies"].values()
        for requirement in requirements
    )
    folders = set(folders)
    found = []

    imported: dict[str, str] = {}
    for path, source in sources.items():
        for module in imports(source):
            top = module.partition(".")[0]
            if top not in sys.stdlib_module_names and top != project["name"]:
                imported.setdefault(top, path)

    used = set()
    for module, path in sorted(imported.items()):
        owners = {canonicalize_name(d) for d in distributions.get(module, ())}
        # What an extra asks for need not be installed here.
        owners = owners or extras & {canonicalize_name(module)}
        used |= owners
        if not owners:
            found.append(f"{path} imports {module}, which is not installed")
        elif not owners & (runtime | extras):
            found.append(
                f"{path} imports {module}, of {' or '.join(sorted(owners))}, "
                "which is neither in project.dependencies of pyproject.toml "
                "nor in an extra"
            )
        if module not in folders:
            found.append(f"{path} imports {module}: no third_party/py/{module}")

    for name in sorted(runtime - used - _USED_OTHERWISE.keys()):
        found.append(
            f"project.dependencies of pyproject.toml has {name}, which nothing "
            f"in {_PACKAGE} imports"
        )
    for name in sorted(_USED_OTHERWISE.keys() - runtime):
        found.append(f"project.dependencies of pyproject.toml lacks {name}")

    named = {name for text in build_files for name in _LABEL.findall(text)}
    for folder in sorted(folders - named):
        found.append(f"no BUILD file uses third_party/py/{folder}")
    return found


def _names(requirements: Iterable[str]) -> set[str]:
    return {canonicalize_name(Requirement(r).name) for r in requirements}


def _files(*pathspecs: str) -> dict[str, str]:
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
        + ["--", *pathspecs],
        cwd=_ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    paths = {name: _ROOT / name for name in listing}
    return {
        name: path.read_text("utf-8")
        for name, path in paths.items()
        if path.is_file()
    }


def main() -> int:
    """Prints what does not agree; returns the exit status."""
    found = problems(
        _files(f"{_PACKAGE}/*.py"),
        tomllib.loads((_ROOT / "pyproject.toml").read_text("utf-8")),
        {path.split("/")[2] for path in _files("third_party/py/*/BUILD")},
        # The example of an importing repository has labels of its own.
        _files(
            "*BUILD", "*.bzl", ":!third_party", ":!examples/monorepo"
        ).values(),
        importlib.metadata.packages_distributions(),
    )
    for problem in found:
        print(problem)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
