"""Records on which versions the tests passed, in docs/compatibility.md.

    compatibility.py DEPENDENCIES PASSED FAILED SKIPPED

It describes the environment it runs in and takes the counts of a test run
there; DEPENDENCIES says in words which ones they are, such as "oldest". The
row of an earlier run on that Python with those dependencies is replaced, or
removed if a test failed. The table is the only record there is.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import pathlib
import platform
import sys

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "compatibility.md"
PACKAGES = ("jax", "jaxlib", "flax", "keras", "numpy", "orbax-checkpoint")
HEADER = ("Python", "dependencies", *PACKAGES, "tests", "system", "date")


def read(page: str) -> list[tuple[str, ...]]:
    """The rows of the table, each with the columns of `HEADER`."""
    lines = page.splitlines()
    start = lines.index(_line(HEADER)) + 2  # the line of dashes
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append(tuple(cell.strip() for cell in line.strip("|").split("|")))
    return rows


def write(page: str, rows: list[tuple[str, ...]]) -> str:
    """The page with these rows, by Python and dependencies."""
    lines = page.splitlines()
    start = lines.index(_line(HEADER)) + 2
    stop = start + len(read(page))
    lines[start:stop] = map(_line, sorted(rows, key=_order))
    return "\n".join(lines) + "\n"


def _line(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def _order(row: tuple[str, ...]) -> tuple:
    return [int(part) for part in row[0].split(".")], row[1]


def _minor(python: str) -> str:
    return python.rpartition(".")[0]


def main(dependencies: str, *counts: str) -> None:
    """Replaces the row of this environment."""
    passed, failed, skipped = map(int, counts)
    page = PAGE.read_text(encoding="utf-8")
    python = platform.python_version()
    rows = [
        row
        for row in read(page)
        if (_minor(row[0]), row[1]) != (_minor(python), dependencies)
    ]
    if passed and not failed:
        rows.append(
            (
                python,
                dependencies,
                *map(importlib.metadata.version, PACKAGES),
                f"{passed:,} passed, {skipped:,} skipped",
                f"{platform.system()} {platform.machine()}",
                datetime.datetime.now(datetime.UTC).date().isoformat(),
            )
        )
    PAGE.write_text(write(page, rows), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
