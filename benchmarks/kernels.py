"""What each native kernel takes, beside what XLA makes of the same operation.

Both are programs of one operation, compiled from nothing and then called. A
call has the cost of calling any program in it, which is most of the smallest.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import numpy as np

from benchmarks import interleave, package, programs, threads
from benchmarks.loops import OURS
from benchmarks.programs import UNGUARDED, XLA
from benchmarks.report import Floor, Section

PROGRAMS = "programs"
RUN, COMPILE = "run", "compile"

_MERGES = ((10, 64), (106, 256), (106, 2048), (400, 1024))


def words_name(exponent: int) -> str:
    """What the measure of so many random words is called."""
    return f"2^{exponent} words"


def _merge_name(count: int, size: int) -> str:
    return f"merge of {count} leaves of {size}"


FLOORS = (
    # Without a guard it is 3.2 to 3.6: that is all there is to gain.
    Floor(RUN, _merge_name(400, 1024), XLA, OURS, ">=", 2.0, 3.0),
    Floor(RUN, _merge_name(400, 1024), OURS, UNGUARDED, "<=", 2.0, 1.3),
    Floor(COMPILE, _merge_name(400, 1024), XLA, OURS, ">=", 15.0, 25.0),
    *threads.FLOORS,
    *package.FLOORS,
)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is measured how often.

    Attributes:
        parts: keys of `PARTS`.
        rounds: how often programs are run.
        burst: for how many seconds, at least, each time.
        cold_rounds: how often they are compiled.
        exponents: how many random words there are, as powers of two.
        most: of how many keys or leaves, at most.
        thread_exponents: how many words on one thread, and beside two.
        import_rounds: how often the packages are imported.
    """

    parts: Sequence[str] = (PROGRAMS, threads.THREADS, package.PACKAGE)
    rounds: int = 30
    burst: float = 0.005
    cold_rounds: int = 3
    exponents: Sequence[int] = tuple(range(4, 25, 2))
    most: int = 1024
    thread_exponents: tuple[int, int] = (20, 24)
    import_rounds: int = 20


SMOKE = Settings(
    rounds=2,
    burst=0,
    cold_rounds=1,
    exponents=(4, 10),
    most=12,
    import_rounds=1,
)

Progress = Callable[[str], None]


def run(
    settings: Settings, progress: Progress = lambda _: None
) -> dict[str, Section]:
    """Takes the measures that the settings name."""
    sections: dict[str, Section] = {}
    for part in settings.parts:
        sections |= PARTS[part](settings, progress)
    return sections


def cases(
    settings: Settings,
) -> Iterator[tuple[str, dict[str, programs.Program]]]:
    """What is measured: names, and programs that compute the same."""
    for exponent in settings.exponents:
        yield (
            words_name(exponent),
            programs.of_keys(programs.random_words, 2**exponent),
        )
    for what, make, counts in (
        ("fold_in x {}", programs.fold_in, (1, 12, 48, 200)),
        ("split in {}", programs.split, (2, 16, 1024)),
    ):
        for count in counts:
            if count <= settings.most:
                yield what.format(count), programs.of_keys(make, count)
    for count in (1, 2, 4, 8, 16):
        yield (
            f"rng_fold of {count} streams",
            programs.of_op("rng_fold", programs.fold_streams, count),
        )
    for count, size in _MERGES:
        if count <= settings.most:
            yield (
                _merge_name(count, size),
                programs.of_op("state_merge", programs.merge, count, size)
                | {UNGUARDED: programs.unguarded(count, size)},
            )


def _programs(settings: Settings, progress: Progress) -> dict[str, Section]:
    compiling: interleave.Times = {}
    running: interleave.Times = {}
    for name, by_variant in cases(settings):
        progress(name)
        runners = {
            variant: programs.Runner(program)
            for variant, program in by_variant.items()
        }
        compiling |= interleave.measure(
            {
                variant: _compile_variant(name, runner)
                for variant, runner in runners.items()
            },
            rounds=settings.cold_rounds,
        )
        check_same(name, runners)
        calls = interleave.calls_within(settings.burst, runners)
        running |= interleave.measure(
            interleave.bursts(name, runners, calls),
            rounds=settings.rounds,
            warmup=1,
        )
    ratios = [(XLA, OURS)]
    return {
        RUN: Section("A call of the compiled program", running, ratios),
        COMPILE: Section(
            "Compiling it: traced, lowered, compiled, with no cache filled",
            compiling,
            ratios,
        ),
    }


def _compile_variant(name: str, runner: programs.Runner) -> interleave.Variant:
    def variant() -> dict[str, float]:
        jax.clear_caches()
        return {name: interleave.clock(runner.compile)}

    return variant


def check_same(name: str, runners: Mapping[str, programs.Runner]) -> None:
    """Raises an AssertionError if the programs do not compute the same."""
    expected, received = (
        jax.tree.map(np.asarray, runners[variant]()) for variant in (XLA, OURS)
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_array_equal(b, a, err_msg=name),
        expected,
        received,
    )


def _threads(settings: Settings, progress: Progress) -> dict[str, Section]:
    return threads.run(
        *settings.thread_exponents, rounds=settings.rounds, progress=progress
    )


def _package(settings: Settings, progress: Progress) -> dict[str, Section]:
    return package.run(rounds=settings.import_rounds, progress=progress)


PARTS: dict[str, Callable[[Settings, Progress], dict[str, Section]]] = {
    PROGRAMS: _programs,
    threads.THREADS: _threads,
    package.PACKAGE: _package,
}
