"""What the package itself takes: the time of its import, and room on a disk."""

import importlib.util
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping

from benchmarks import children, interleave
from benchmarks.loops import OURS
from benchmarks.report import Floor, Section

PACKAGE = "package"
IMPORT, SIZE = "import", "size"

_IMPORTS, _OURS = "import keras, flax.linen", f"import {OURS}"
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
    sections = {
        IMPORT: Section(
            "In a new interpreter",
            import_times(_IMPORTS, _OURS, rounds),
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


def import_times(before: str, then: str, rounds: int) -> interleave.Times:
    """Milliseconds of two imports, one after the other, by the first of them.

    Installers compile what they install, so all is compiled here once, whatever
    the environment says of that: compiling sources takes longer than running
    them.

    Args:
        before: a statement; its time is from the start of the interpreter on.
        then: the statement after it.
        rounds: how often.
    """
    with tempfile.TemporaryDirectory() as compiled:
        environment = children.environment()
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        environment["PYTHONPYCACHEPREFIX"] = compiled
        _import_ms(before, then, environment)
        times = [_import_ms(before, then, environment) for _ in range(rounds)]
    return {before: {name: [t[name] for t in times] for name in times[0]}}


def _import_ms(
    before: str, then: str, environment: Mapping[str, str]
) -> dict[str, float]:
    """Milliseconds of the processor in a new interpreter."""
    program = _TIMED.format(before=before, then=then)
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
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
