"""Checks that the lock files are those of pyproject.toml.

Nothing is resolved, which would take an index and minutes. For every lock file
and every Python and system that is supported, each requirement that goes into
the file must be met by the version that is pinned, and the file must name the
table of pyproject.toml that asks for it; what it names must still be asked for.
A floor must be pinned to itself in the file of floors. So a change of the
dependencies without `tools/dev lock` is found, and so is a lock file that was
changed by hand; a hash of the tables would vouch for neither.

What depends on what beyond that, `tools/dev lock` alone knows.
"""

import argparse
import dataclasses
import pathlib
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

_ROOT = pathlib.Path(__file__).parents[2]
_FOLDER = "tools/requirements"

_PIN = re.compile(
    r"(?P<name>[\w.-]+)==(?P<version>[^\s;]+)(?: ; (?P<marker>.*?))? \\"
)
_PYTHON = re.compile(r"Programming Language :: Python :: (3\.\d+)")
_SYSTEMS = (
    {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"},
    {"sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix"},
)


@dataclasses.dataclass(frozen=True)
class Source:
    """What a lock file is resolved from.

    Attributes:
        tables: the requirements, by the table's name in the lock file: "" is
            the project with its extras, "-" is what builds it, and the rest are
            groups.
        lowest: whether the oldest versions are taken.
    """

    tables: Mapping[str, list[Requirement]]
    lowest: bool


@dataclasses.dataclass(frozen=True)
class Pin:
    """A version in a lock file.

    Attributes:
        name: the distribution.
        version: its version.
        marker: where it is installed; None is everywhere.
        tables: the tables that ask for it themselves.
    """

    name: str
    version: str
    marker: Marker | None
    tables: frozenset[str]


def sources(listing: str, pyproject: Mapping) -> dict[str, Source]:
    """What the lock files are resolved from.

    Args:
        listing: the text of tools/requirements/sources.
        pyproject: what pyproject.toml says.

    Returns:
        The sources, by the names of the lock files.

    Raises:
        ValueError: it names a group that there is not.
    """
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("project", nargs="*")
    parser.add_argument("--extra", action="append", default=[])
    parser.add_argument("--group", action="append", default=[])
    parser.add_argument("--resolution", default="highest")
    # Of what others depend on, which is not looked at here.
    parser.add_argument("--no-emit-package", action="append", default=[])
    found = {}
    for line in listing.splitlines():
        if not line or line.startswith("#"):
            continue
        name, *words = line.split()
        arguments = parser.parse_args(words)
        tables: dict[str, list[str]] = {}
        if "-" in arguments.project:
            tables["-"] = pyproject["build-system"]["requires"]
        if "pyproject.toml" in arguments.project:
            project = pyproject["project"]
            tables[""] = list(project["dependencies"])
            for extra in arguments.extra:
                tables[""] += project["optional-dependencies"][extra]
        for group in arguments.group:
            if group not in pyproject["dependency-groups"]:
                raise ValueError(
                    f"{_FOLDER}/sources: {name} has the group {group}, which "
                    "pyproject.toml lacks"
                )
            tables[group] = pyproject["dependency-groups"][group]
        found[name] = Source(
            {
                table: [Requirement(text) for text in texts]
                for table, texts in tables.items()
            },
            lowest=arguments.resolution == "lowest-direct",
        )
    return found


def pins(lock: str, project: str) -> list[Pin]:
    """The versions in a lock file.

    Args:
        lock: its text.
        project: the name of the project.

    Returns:
        The pins, as they follow each other.
    """
    asked = re.compile(rf"{re.escape(project)} \(pyproject\.toml(?::(.+))?\)$")
    found = []
    comments: list[str] = []
    for line in reversed(lock.splitlines()):
        if line.startswith("    #"):
            comments.append(line)
        elif pin := _PIN.match(line):
            marker = Marker(pin["marker"]) if pin["marker"] else None
            tables = {by[1] or "" for by in map(asked.search, comments) if by}
            found.append(
                Pin(
                    canonicalize_name(pin["name"]),
                    pin["version"],
                    marker,
                    # Nothing is said of what was read from standard input.
                    frozenset(tables if comments else {"-"}),
                )
            )
            comments = []
    return found[::-1]


def environments(classifiers: list[str]) -> Iterator[dict[str, str]]:
    """The environments that a lock file serves, as markers see them.

    Args:
        classifiers: those of the project.

    Yields:
        The variables of each.
    """
    for classifier in classifiers:
        if python := _PYTHON.fullmatch(classifier):
            for system in _SYSTEMS:
                yield {
                    "python_version": python[1],
                    "python_full_version": f"{python[1]}.0",
                    "implementation_name": "cpython",
                    "platform_python_implementation": "CPython",
                    **system,
                }


def _asker(table: str) -> str:
    named = {"": "the project", "-": "build-system.requires"}
    return named.get(table, f"the group {table}")


def _applies(marker: Marker | None, environment: dict[str, str]) -> bool:
    return marker is None or marker.evaluate(environment)


def _floor(specifier: SpecifierSet) -> SpecifierSet:
    """The versions that begin as the floor; it need not exist itself."""
    floors = [part.version for part in specifier if part.operator == ">="]
    return SpecifierSet(f"=={floors[0]}.*") if floors else specifier


def problems(
    source: Source, lock: list[Pin], served: list[dict[str, str]]
) -> list[str]:
    """What is wrong with a lock file.

    Args:
        source: what it is resolved from.
        lock: what is in it.
        served: the environments it has to serve.

    Returns:
        A line for each problem, none twice.
    """
    found = [
        problem
        for table, requirements in source.tables.items()
        for requirement in requirements
        for environment in served
        if _applies(requirement.marker, environment)
        for problem in _unmet(requirement, table, lock, environment)
    ]
    asked = {
        (table, canonicalize_name(requirement.name))
        for table, requirements in source.tables.items()
        for requirement in requirements
    }
    found += [
        f"{pin.name}: {_asker(table)} no longer asks for it"
        for pin in lock
        for table in sorted(pin.tables)
        if (table, pin.name) not in asked
    ]
    if source.lowest:
        found += _above_the_floor(source, lock, served)
    return list(dict.fromkeys(found))


def _unmet(
    requirement: Requirement,
    table: str,
    lock: list[Pin],
    environment: dict[str, str],
) -> Iterator[str]:
    name = canonicalize_name(requirement.name)
    python = environment["python_version"]
    asks = f"{_asker(table)} asks for {requirement}"
    pinned = [
        pin
        for pin in lock
        if pin.name == name and _applies(pin.marker, environment)
    ]
    if len(pinned) != 1:
        versions = ", ".join(pin.version for pin in pinned) or "none"
        yield f"{asks}, and it has {versions} for Python {python}"
        return
    (pin,) = pinned
    if not requirement.specifier.contains(pin.version, prereleases=True):
        yield f"{asks}, and it has {pin.version} for Python {python}"
    elif table not in pin.tables:
        yield f"{asks}, and it has it for the sake of other packages only"


def _above_the_floor(
    source: Source, lock: list[Pin], served: list[dict[str, str]]
) -> Iterator[str]:
    requirements = [r for listed in source.tables.values() for r in listed]
    for environment in served:
        for pin in lock:
            floors = [
                _floor(requirement.specifier)
                for requirement in requirements
                if canonicalize_name(requirement.name) == pin.name
                and _applies(requirement.marker, environment)
            ]
            if (
                floors
                and _applies(pin.marker, environment)
                and not any(floor.contains(pin.version) for floor in floors)
            ):
                yield (
                    f"{pin.name}: it has {pin.version} for Python "
                    f"{environment['python_version']}, and the floor is "
                    + " and ".join(str(floor) for floor in floors)
                )


def main() -> int:
    """Prints what is wrong; returns the exit status."""
    pyproject = tomllib.loads((_ROOT / "pyproject.toml").read_text("utf-8"))
    served = list(environments(pyproject["project"]["classifiers"]))
    listing = (_ROOT / _FOLDER / "sources").read_text("utf-8")
    expected = sources(listing, pyproject)
    status = 0
    for path in sorted((_ROOT / _FOLDER).glob("*.txt")):
        if path.stem not in expected:
            print(f"{path.relative_to(_ROOT)}: {_FOLDER}/sources lacks it")
            status = 1
    for name, source in expected.items():
        path = _ROOT / _FOLDER / f"{name}.txt"
        if not path.exists():
            print(f"{path.relative_to(_ROOT)} is missing; run tools/dev lock")
            status = 1
            continue
        lock = pins(path.read_text("utf-8"), pyproject["project"]["name"])
        for problem in problems(source, lock, served):
            print(f"{path.relative_to(_ROOT)}: {problem}; run tools/dev lock")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
