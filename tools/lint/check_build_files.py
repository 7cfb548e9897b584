"""Checks that every source file is named in the BUILD file beside it.

Bazel runs the tests that BUILD files name and says nothing of others, so a
test that was forgotten there would never fail.
"""

import pathlib
import subprocess
import sys

_FOLDERS = ("benchmarks", "csrc", "examples", "python", "tests")
_ENDINGS = (".cc", ".h", ".inc", ".py")


def _missing(path: pathlib.Path) -> bool:
    build = path.parent / "BUILD"
    return not build.exists() or f'"{path.name}"' not in build.read_text()


def main() -> int:
    """Prints the files that are missing; returns the exit status."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
        + ["--", *_FOLDERS],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    paths = [pathlib.Path(line) for line in listing.splitlines()]
    missing = [
        path
        for path in paths
        if path.suffix in _ENDINGS and path.exists() and _missing(path)
    ]
    for path in missing:
        print(f"{path} is not in {path.parent / 'BUILD'}")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
