"""Checks that an sdist has what a build needs, and nothing else.

    check_sdist.py SDIST

That it has enough, a build of it shows. What it may have are the files named
below, of the checkout that this script is in.
"""

from __future__ import annotations

import fnmatch
import pathlib
import sys
import tarfile
from collections.abc import Iterator

_CHECKOUT = pathlib.Path(__file__).parents[2]
_SOURCES = (
    "LICENSE",
    "MANIFEST.in",
    "README.md",
    "csrc/**/*.cc",
    "csrc/**/*.h",
    "csrc/**/*.inc",
    "pyproject.toml",
    "python/flaxlayer/**/*.py",
    "python/flaxlayer/py.typed",
    "setup.py",
    "tools/bazel/pyinit_only.lds",
)
# Written by setuptools.
_MADE = ("PKG-INFO", "setup.cfg", "python/flaxlayer.egg-info/*")


def problems(sdist: pathlib.Path) -> Iterator[str]:
    """What is wrong with an sdist, a sentence each."""
    top = sdist.name.removesuffix(".tar.gz")
    with tarfile.open(sdist) as archive:
        files = {
            pathlib.PurePosixPath(member.name).relative_to(top)
            for member in archive
            if member.isfile()
        }
    sources = {
        pathlib.PurePosixPath(path.relative_to(_CHECKOUT))
        for pattern in _SOURCES
        for path in _CHECKOUT.glob(pattern)
    }
    made = {
        file
        for file in files
        for pattern in _MADE
        if fnmatch.fnmatchcase(str(file), pattern)
    }
    yield from (f"{file} is missing" for file in sorted(sources - files))
    yield from (
        f"{file} does not belong there"
        for file in sorted(files - sources - made)
    )


def main(path: str) -> int:
    """Prints what is wrong with an sdist; returns the exit status."""
    sdist = pathlib.Path(path)
    found = list(problems(sdist))
    for problem in found:
        print(f"{sdist.name}: {problem}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
