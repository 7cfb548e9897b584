"""What the package itself takes: the time of its import, and room on a disk."""

import importlib.util
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable

from benchmarks import interleave
from benchmarks.loops import OURS
from benchmarks.report import Floor, Section

PACKAGE = "package"
IMPORT, SIZE = "import", "size"

_IMPORTS = "import keras, flax.linen"
_WITHOUT, _WITH, _ADDED = "without", f"with {OURS}", "added"
_EXTENSION = "extension, stripped"

FLOORS = (
    Floor(IMPORT, _IMPORTS, _ADDED, None, "<=", 60.0),
    Floor(SIZE, _EXTENSION, OURS, None, "<=", 400e3),
)

_TIMED = """\
import time
start = time.perf_counter()
{}
print(time.perf_counter() - start)
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
    times = interleave.measure(
        {
            _WITHOUT: lambda: {_IMPORTS: import_ms(_IMPORTS)},
            _WITH: lambda: {_IMPORTS: import_ms(_IMPORTS, "import flaxlayer")},
        },
        rounds=rounds,
        warmup=1,  # Which writes what Python compiles, and fills file caches.
    )
    by_variant = times[_IMPORTS]
    by_variant[_ADDED] = [
        after - before
        for after, before in zip(
            by_variant[_WITH], by_variant[_WITHOUT], strict=True
        )
    ]
    sections = {IMPORT: Section("In a new interpreter", times, unit="ms")}
    size = extension_size()
    if size is not None:
        sections[SIZE] = Section(
            "On a disk", {_EXTENSION: {OURS: [size]}}, unit="bytes"
        )
    return sections


def import_ms(*statements: str) -> float:
    """The milliseconds that statements take in a new interpreter."""
    program = _TIMED.format("\n".join(statements))
    done = subprocess.run(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return float(done.stdout) * 1e3


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
