"""How the step and its compilation grow with the model.

A transformer of more and more blocks is compiled and trained. Both should take
a time in proportion to the blocks, and what the layer gains should not get
less.
"""

import functools
from collections.abc import Callable, Iterable, Sequence

import jax
import numpy as np

from benchmarks import interleave, loops, models
from benchmarks.loops import OURS, PEER
from benchmarks.report import Floor, Section

GROWTH, LINE, LINEARITY = "growth", "line", "linearity"

STEP, COMPILE = "step", "compile"
_RATIO = f"{PEER} / {OURS}"
_DISTANCE = "{}, worst distance from the line"
_GAIN = "{}, ratio of the longest / of the shortest"

FLOORS = tuple(
    floor
    for what in (STEP, COMPILE)
    for floor in (
        Floor(LINEARITY, _DISTANCE.format(what), OURS, None, "<=", 0.15, 0.05),
        Floor(LINEARITY, _GAIN.format(what), _RATIO, None, ">=", 0.9, 1),
    )
)


def measure_name(what: str, blocks: int) -> str:
    """What a measure of the section `GROWTH` is called."""
    return f"{what} per block, of {blocks}"


def run(
    sizes: Sequence[int],
    *,
    most_of_peer: int,
    rounds: int,
    cold_rounds: int,
    burst: float,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Section]:
    """Measures the growing model at some sizes.

    Args:
        sizes: in blocks, at least two.
        most_of_peer: up to how many blocks Keras's layer has them: it compiles
            for minutes.
        rounds: how often steps are timed.
        cold_rounds: how often each is compiled.
        burst: for how many seconds steps are timed, at least.
        progress: is told what is measured now.
    """
    sizes = sorted(sizes)
    of_peer = [blocks for blocks in sizes if blocks <= most_of_peer]
    if len(of_peer) < 2:  # Which make no line.
        of_peer = []
    progress(f"{GROWTH}: building")
    batch = models.GROWING.data(1)
    made = {
        (subject, blocks): loops.Loop.of_layer(
            loops.built(make, models.GROWING.of_blocks(blocks))
        )
        for blocks in sizes
        for subject, make in loops.layer_makers().items()
        if subject != PEER or blocks in of_peer
    }

    def compile_variant(loop: loops.Loop) -> interleave.Variant:
        def variant() -> dict[str, float]:
            jax.clear_caches()
            return {COMPILE: interleave.clock(loop.compile, *batch)}

        return variant

    # All sizes are in every round, so that each round has a line of its own.
    progress(f"{GROWTH}: {COMPILE}")
    times = interleave.measure(
        {
            _variant(*which): compile_variant(loop)
            for which, loop in made.items()
        },
        rounds=cold_rounds,
    )
    progress(f"{GROWTH}: {STEP}")
    variants = {}
    for which, loop in made.items():
        one = {_variant(*which): functools.partial(loop.wait_for_step, *batch)}
        calls = interleave.calls_within(burst, one)
        variants |= interleave.bursts(STEP, one, calls)
    times |= interleave.measure(variants, rounds=rounds, warmup=1)
    subjects = list(dict.fromkeys(subject for subject, _ in made))
    return sections(
        {
            what: {
                subject: [
                    times[what][_variant(subject, n)]
                    for n in sizes
                    if (subject, n) in made
                ]
                for subject in subjects
            }
            for what in (STEP, COMPILE)
        },
        sizes,
    )


def sections(
    times: dict[str, dict[str, list[list[float]]]], sizes: Sequence[int]
) -> dict[str, Section]:
    """The tables of seconds by what, subject, size and round.

    Keras's layer may lack the last sizes.
    """
    per_block: interleave.Times = {}
    lines: interleave.Times = {}
    linearity: interleave.Times = {}
    for what, by_subject in times.items():
        for index, blocks in enumerate(sizes):
            per_block[measure_name(what, blocks)] = {
                subject: [seconds / blocks for seconds in found[index]]
                for subject, found in by_subject.items()
                if index < len(found)
            }
        for subject, found in by_subject.items():
            measured = sizes[: len(found)]
            fits = [fit(measured, each) for each in zip(*found, strict=True)]
            for measure, into, values in (
                (f"{what}, each block", lines, [f[0] for f in fits]),
                (f"{what}, without a block", lines, [f[1] for f in fits]),
                (_DISTANCE.format(what), linearity, [f[2] for f in fits]),
            ):
                into.setdefault(measure, {})[subject] = values
        if PEER in by_subject:
            ours, peers = by_subject[OURS], by_subject[PEER]
            linearity[_GAIN.format(what)] = {
                _RATIO: [
                    (last_peer / last) / (first_peer / first)
                    for first, last, first_peer, last_peer in zip(
                        ours[0],
                        ours[len(peers) - 1],
                        peers[0],
                        peers[-1],
                        strict=True,
                    )
                ]
            }
    return {
        GROWTH: Section(
            f"Time per block: {models.GROWING.description}",
            per_block,
            [(PEER, OURS)],
        ),
        LINE: Section("The straight line through these times", lines),
        LINEARITY: Section(
            "How straight it is",
            linearity,
            unit="",
            note="The distance is a part of the time itself. Ratios are of "
            "sizes that both have.",
        ),
    }


def fit(
    sizes: Sequence[int], seconds: Iterable[float]
) -> tuple[float, float, float]:
    """The straight line through times at some sizes.

    The distances from it that are made small are parts of the times, or only
    the longest would count.

    Returns:
        Its slope, its value at 0, and the worst of the distances.
    """
    x, y = np.array(sizes, float), np.array(list(seconds))
    slope, start = np.polyfit(x, y, 1, w=1 / y)
    distance = np.abs((slope * x + start) / y - 1).max()
    return float(slope), float(start), float(distance)


def _variant(subject: str, blocks: int) -> str:
    return f"{subject} of {blocks}"
