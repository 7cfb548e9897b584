"""Checks BUILD files, without Bazel: `python -m tools.lint.check_build_files`.

Bazel runs the tests that BUILD files name and says nothing of others, so a
test that was forgotten there would never fail.
"""

import pathlib
import sys

from tools.lint import build_files, check_deps, check_includes, check_visibility

_FOLDERS = ("benchmarks", "csrc", "examples", "python", "tests")
_ENDINGS = (".cc", ".h", ".inc", ".py")


def _missing(path: pathlib.Path) -> bool:
    build = path.parent / "BUILD"
    return not build.exists() or f'"{path.name}"' not in build.read_text()


def main() -> int:
    """Prints what is wrong; returns the exit status."""
    paths = map(pathlib.Path, build_files.tracked(*_FOLDERS))
    found = [
        f"{path} is not in {path.parent / 'BUILD'}"
        for path in paths
        if path.suffix in _ENDINGS and _missing(path)
    ]
    # Those of examples/monorepo are another workspace's.
    builds = build_files.tracked("BUILD", "*/BUILD", ":!examples/monorepo")
    for check in (check_deps, check_includes, check_visibility):
        found += check.problems(pathlib.Path(), builds)
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
