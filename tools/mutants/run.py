"""Runs the tests of mutants, and prints the mutants that they let pass.

    mutate.py FILE... | run.py

Where a source has tests of its own, `tests/python/weights/casting_test.py` for
`python/flaxlayer/weights/casting.py`, those run first, then the others in their
folder, and last those that go through layers.

Each mutant runs in a fork of this process, which has imported all that takes
long and nothing that is tested, and is imported there in place of the source:
no file changes. What takes far longer than without a mutation is taken for a
loop that never ends, and is noticed.
"""

import collections
import contextlib
import dataclasses
import difflib
import importlib.abc
import importlib.util
import json
import os
import pathlib
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterable, Iterator, Sequence

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_SOURCES = pathlib.PurePath("python/flaxlayer")
_TESTS = pathlib.PurePath("tests/python")

# The tests of layers that are of a folder's sources too.
_THROUGH_LAYERS = {
    "calls": ("errors", "calling", "input_dtypes", "masks", "jax_layer"),
    "config": ("saving",),
    "linen": ("flax_layer", "calling", "collections"),
    "randomness": ("flax_streams", "model_keys", "jax_layer_calls"),
    "weights": ("layer_variables", "weight_paths", "saved_weights", "errors"),
}


@dataclasses.dataclass(frozen=True)
class Mutant:
    """A changed source.

    Attributes:
        path: of the source, below the root of the repository.
        text: what is imported in its place.
    """

    path: pathlib.PurePath
    text: str

    @property
    def module(self) -> str:
        """What it is imported as."""
        inside = self.path.with_suffix("").relative_to(_SOURCES.parent)
        return ".".join(part for part in inside.parts if part != "__init__")

    def difference(self, root: pathlib.Path) -> str:
        """What is changed in it, as a unified diff."""
        source = (root / self.path).read_text(encoding="utf-8")
        return "".join(
            difflib.unified_diff(
                source.splitlines(keepends=True),
                self.text.splitlines(keepends=True),
                str(self.path),
                str(self.path),
                n=2,
            )
        )


def tests_of(path: pathlib.PurePath, root: pathlib.Path) -> list[list[str]]:
    """The test files of a source, in stages: what passes one meets the next.

    Its own come first, then the others in their folder, unless that is the
    package's, whose tests take minutes. A source that has none of either has
    those of the folder above.
    """
    place = path.relative_to(_SOURCES)
    own = root / _TESTS / place.with_name(f"{place.stem}_test.py")
    folder = own.parent
    while not list(folder.glob("*_test.py")):
        folder = folder.parent
    stages = [[own]] if own.is_file() else []
    if folder != root / _TESTS or not stages:
        others = sorted(x for x in folder.glob("*_test.py") if x != own)
        stages += [others] if others else []
    stages += [
        [root / _TESTS / f"{name}_test.py"]
        for name in _THROUGH_LAYERS.get(place.parts[0], ())
    ]
    return [[str(x.relative_to(root)) for x in stage] for stage in stages]


class _Finder(importlib.abc.MetaPathFinder):
    """Has a mutant imported in place of its source."""

    def __init__(self, mutant: Mutant):
        self._mutant = mutant

    def find_spec(self, name, path, target=None):
        if name != self._mutant.module:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        loader = _Loader(name, spec.origin)
        loader.text = self._mutant.text
        return importlib.util.spec_from_file_location(
            name,
            spec.origin,
            loader=loader,
            submodule_search_locations=spec.submodule_search_locations,
        )


class _Loader(importlib.machinery.SourceFileLoader):
    text: str

    def get_code(self, fullname):
        return compile(self.text, self.path, "exec", dont_inherit=True)


@dataclasses.dataclass
class _Run:
    """The tests of a mutant, in a process of its own."""

    mutant: Mutant | None
    process: int
    started: float
    limit: float


def _start(
    mutant: Mutant | None,
    tests: Sequence[str],
    root: pathlib.Path,
    limit: float,
    log: str = os.devnull,
) -> _Run:
    with warnings.catch_warnings():
        # JAX warns of forks; it has started no threads yet.
        warnings.simplefilter("ignore")
        process = os.fork()
    if not process:
        status = 70
        try:
            os.setsid()  # So that what the tests start can be stopped too.
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            for stream in (1, 2):
                os.dup2(os.open(log, os.O_WRONLY), stream)
            status = _test(mutant, tests, root)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    return _Run(mutant, process, time.monotonic(), limit)


def _test(
    mutant: Mutant | None, tests: Sequence[str], root: pathlib.Path
) -> int:
    import pytest

    os.chdir(root)
    if mutant is not None:
        sys.meta_path.insert(0, _Finder(mutant))
    return int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests]))


def _wait(runs: list[_Run]) -> tuple[_Run, str]:
    """Waits for one of the runs; removes it, and says how it ended."""
    while True:
        for run in runs:
            process, status = os.waitpid(run.process, os.WNOHANG)
            late = time.monotonic() - run.started > run.limit
            if not process and not late:
                continue
            with contextlib.suppress(ProcessLookupError):
                os.killpg(run.process, signal.SIGKILL)
            if not process:
                os.waitpid(run.process, 0)
            runs.remove(run)
            return run, "endless" if not process else (
                "survived" if status == 0 else "killed"
            )
        time.sleep(0.01)


def seconds_of(tests: Sequence[str], root: pathlib.Path) -> float:
    """How long the tests take without a mutation.

    Raises:
        RuntimeError: they fail; with what they have printed.
    """
    with tempfile.NamedTemporaryFile("r", encoding="utf-8") as log:
        run = _start(None, tests, root, float("inf"), log.name)
        _, outcome = _wait([run])
        if outcome != "survived":
            raise RuntimeError(
                f"the tests fail without a mutation:\n{log.read()}"
            )
    return time.monotonic() - run.started


def outcomes(
    mutants: Iterable[Mutant],
    tests: Sequence[str],
    root: pathlib.Path,
    *,
    jobs: int = os.cpu_count() or 1,
    grace: float = 20.0,
) -> Iterator[tuple[Mutant, str]]:
    """Each mutant, and whether it was "killed", "endless" or "survived".

    Args:
        mutants: of one source or of several.
        tests: files, relative to `root`, which pass without a mutation.
        root: where tests run, on the path of imports.
        jobs: how many run at a time.
        grace: the seconds that tests may take beyond thrice their time, on a
            machine that is busy.

    Raises:
        RuntimeError: the tests fail without a mutation.
    """
    # Twice: what is compiled the first time is in a cache the second time.
    seconds_of(tests, root)
    limit = grace + 3 * jobs * seconds_of(tests, root)
    runs: list[_Run] = []
    try:
        for mutant in mutants:
            if len(runs) == jobs:
                run, outcome = _wait(runs)
                yield run.mutant, outcome
            runs.append(_start(mutant, tests, root, limit))
        while runs:
            run, outcome = _wait(runs)
            yield run.mutant, outcome
    finally:
        for run in runs:  # Nobody waits for these any more.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(run.process, signal.SIGKILL)


def _import_what_takes_long(scratch: str) -> None:
    for name, value in {
        "FLAXLAYER_REQUIRE_NATIVE": "1",
        "HYPOTHESIS_STORAGE_DIRECTORY": f"{scratch}/hypothesis",
        "JAX_COMPILATION_CACHE_DIR": f"{scratch}/jax",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "JAX_PLATFORMS": "cpu",
        "KERAS_BACKEND": "jax",
        "KERAS_HOME": scratch,
        "TEST_TMPDIR": scratch,
    }.items():
        os.environ[name] = value
    import flax.linen  # noqa: F401
    import keras  # noqa: F401
    import orbax.checkpoint  # noqa: F401
    import pytest  # noqa: F401


def main(lines: Iterable[str]) -> int:
    """Runs the tests of the mutants that `mutate.py` has printed.

    Returns:
        0, or 1 if tests fail without a mutation.
    """
    mutants: dict[pathlib.PurePath, list[Mutant]] = collections.defaultdict(
        list
    )
    for line in lines:
        read = json.loads(line)
        path = pathlib.Path(read["path"]).resolve().relative_to(_ROOT)
        mutants[path].append(Mutant(path, read["mutant"]))
    sys.path.insert(0, str(_ROOT))
    counts = {}
    with tempfile.TemporaryDirectory() as scratch:
        _import_what_takes_long(scratch)
        for path, left in mutants.items():
            count = collections.Counter(mutants=len(left))
            for tests in tests_of(path, _ROOT):
                if not left:
                    break
                survivors = []
                try:
                    for mutant, outcome in outcomes(left, tests, _ROOT):
                        count[outcome] += outcome != "survived"
                        if outcome == "survived":
                            survivors.append(mutant)
                except RuntimeError as error:
                    print(f"mutants of {path}: {error}", file=sys.stderr)
                    return 1
                left = survivors
                what = tests[0] if len(tests) == 1 else f"{tests[0]} and others"
                print(f"{path}: {what}: {len(left)} left", file=sys.stderr)
            for mutant in left:
                print(mutant.difference(_ROOT), flush=True)
            count["survived"] = len(left)
            counts[path] = count
    columns = ("mutants", "killed", "endless", "survived")
    for path, count in counts.items():
        numbers = ", ".join(f"{count[column]} {column}" for column in columns)
        print(f"{path}: {numbers}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.stdin))
