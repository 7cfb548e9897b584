"""What the package itself takes: the time of its import, and room on a disk."""

import importlib.util
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence

from benchmarks import interleave
from benchmarks.loops import OURS
from benchmarks.report import Floor, Section

PACKAGE = "package"
IMPORT, SIZE = "import", "size"

_IMPORTS, _OURS = "import keras, flax.linen", f"import {OURS}"
# Programs that have imported this already do not wait for it again.
_WITH_NNX = f"{_IMPORTS}, flax.nnx"
BEFORE, ADDED = "without", "added"
_EXTENSION = "extension, stripped"

FLOORS = (
    Floor(IMPORT, _IMPORTS, ADDED, None, "<=", 60.0),
    Floor(SIZE, _EXTENSION, OURS, None, "<=", 400e3),
)

# The time of the processor, in this process and its threads: what others do on
# the machine is not in it, and one process has both times.
_TIMED = """\
import time
{before}
between = time.process_time()
{then}
print(between, time.process_time() - between)
"""


def run(
    *, rounds: int, progress: Callable[[str], None] = lambda _: None
) -> dict[str, Section]:
    """Measures both.

    Args:
        rounds: how often the packages are imported.
        progress: is told what is measured now.
    """
    progress(f"{PACKAGE}: {_IMPORTS}")
    times = imports_of([(i, _OURS) for i in (_IMPORTS, _WITH_NNX)], rounds)
    sections = {
        IMPORT: Section(
            "In a new interpreter",
            times,
            unit="ms",
            note=f"Processor time. Added is that of `{_OURS}` after it.",
        )
    }
    size = extension_size()
    if size is not None:
        sections[SIZE] = Section(
            "On a disk", {_EXTENSION: {OURS: [size]}}, unit="bytes"
        )
    return sections


def imports_of(
    statements: Sequence[tuple[str, str]], rounds: int
) -> interleave.Times:
    """Milliseconds of imports, by the first statement of each.

    Args:
        statements: what is imported before, and what is imported then.
        rounds: how often.
    """
    for before, then in statements:
        import_ms(before, then)  # Python writes what it compiles.
    times: interleave.Times = {
        before: {BEFORE: [], ADDED: []} for before, _ in statements
    }
    for _ in range(rounds):
        for before, then in statements:
            for variant, ms in import_ms(before, then).items():
                times[before][variant].append(ms)
    return times


def import_ms(before: str, then: str) -> dict[str, float]:
    """Milliseconds of the processor in a new interpreter.

    Args:
        before: a statement; its time is from the start of the interpreter on.
        then: the statement after it.
    """
    program = _TIMED.format(before=before, then=then)
    done = subprocess.run(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    first, second = map(float, done.stdout.split())
    return {BEFORE: first * 1e3, ADDED: second * 1e3}


def extension_size() -> int | None:
    """The bytes of the extension without symbols; None where there is none.

    Where there is no `strip` it is that of the file as it was built, which
    both builds strip.
    """
    spec = importlib.util.find_spec("flaxlayer._native")
    if spec is None or spec.origin is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(shutil.copy(spec.origin, folder))
        # The copy may be read-only, as what Bazel builds is.
        copy.chmod(0o600)
        if strip := shutil.which("strip"):
            subprocess.run([strip, "--strip-all", copy], check=True)
        return copy.stat().st_size
