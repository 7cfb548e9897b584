"""Checks that a wheel has what belongs into it, and nothing else.

    check_wheel.py WHEEL...

Its files are those of `python/flaxlayer` beside this script and an extension,
which is stripped and exports its init function alone; it is no larger than it
ought to be.
"""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator

_PACKAGE = pathlib.Path(__file__).parents[2] / "python" / "flaxlayer"
_MAX_BYTES = 500_000
_EXTENSION = re.compile(r"flaxlayer/_native\.[\w.-]+\.so")
_METADATA = {
    "METADATA",
    "RECORD",
    "WHEEL",
    "entry_points.txt",
    "licenses/LICENSE",
    "top_level.txt",
}


def problems(wheel: pathlib.Path) -> Iterator[str]:
    """What is wrong with a wheel, a sentence each."""
    if wheel.stem.split("-")[-1].startswith("linux_"):
        yield "it is named for this machine's Linux, not for manylinux"
    size = wheel.stat().st_size
    if size >= _MAX_BYTES:
        yield f"it has {size} bytes; it must have less than {_MAX_BYTES}"
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if name[-1] != "/"}
        extensions = {name for name in names if _EXTENSION.fullmatch(name)}
        expected = extensions | _sources() | _metadata(wheel)
        yield from (f"{name} is missing" for name in sorted(expected - names))
        yield from (
            f"{name} does not belong there" for name in sorted(names - expected)
        )
        if len(extensions) != 1:
            yield f"it must have one extension. Received: {sorted(extensions)}"
        for name in extensions:
            with tempfile.TemporaryDirectory() as folder:
                yield from _extension_problems(archive.extract(name, folder))


def _sources() -> set[str]:
    files = [*_PACKAGE.rglob("*.py"), _PACKAGE / "py.typed"]
    return {file.relative_to(_PACKAGE.parent).as_posix() for file in files}


def _metadata(wheel: pathlib.Path) -> set[str]:
    name, version = wheel.name.split("-")[:2]
    return {f"{name}-{version}.dist-info/{file}" for file in _METADATA}


def _extension_problems(library: str) -> Iterator[str]:
    mac = sys.platform == "darwin"
    # Mach-O has one table of symbols; names have an underscore before them.
    exported = _symbols("-gU" if mac else "-D", library)
    if exported != {"_PyInit__native" if mac else "PyInit__native"}:
        yield f"its extension must export PyInit__native alone: {exported}"
    if not mac and (local := _symbols("-a", library)):
        yield f"its extension is not stripped: it has {len(local)} symbols"


def _symbols(table: str, library: str) -> set[str]:
    flags = [] if sys.platform == "darwin" else ["--defined-only"]
    output = subprocess.run(
        ["nm", table, *flags, library],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return {line.split()[-1] for line in output.splitlines()}


def main(paths: list[str]) -> int:
    """Prints what is wrong with each wheel; returns the exit status."""
    status = 0
    for wheel in map(pathlib.Path, paths):
        found = list(problems(wheel))
        for problem in found:
            print(f"{wheel.name}: {problem}")
        if found:
            status = 1
        else:
            print(f"{wheel.name}: {wheel.stat().st_size:,} bytes, as it should")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
