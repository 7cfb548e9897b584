"""How the step and its compilation grow with the model.

A transformer of more and more blocks is compiled and trained. What the layer
gains on Keras's should not get less, nor what it takes beside a loop by hand
whose random numbers cost nothing get more: for a long model that loop, too,
takes more than in proportion, as its weights leave the processor's caches.
"""

import functools
from collections.abc import Callable, Iterable, Sequence

import jax
import numpy as np

from benchmarks import interleave, loops, models
from benchmarks.loops import FREE, OURS, PEER
from benchmarks.report import Floor, Section

GROWTH, LINE, LINEARITY = "growth", "line", "linearity"

STEP, COMPILE = "step", "compile"


def _ratio(other: str) -> str:
    return f"{other} / {OURS}"


_DISTANCE = "{}, worst distance from the line"
_GAIN = "{}, ratio of the longest / of the shortest"
# Whose time over ours is looked at, and at how much of it has to stay.
_BESIDE = {PEER: (0.9, 1.0), FREE: (0.85, 1.0)}

FLOORS = tuple(
    Floor(LINEARITY, _GAIN.format(what), _ratio(other), None, ">=", floor, aim)
    for what in (STEP, COMPILE)
    for other, (floor, aim) in _BESIDE.items()
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
        (subject, blocks): loop
        for blocks in sizes
        for subject, loop in _loops(blocks, with_peer=blocks in of_peer).items()
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
        for other in _BESIDE:
            if other in by_subject:
                linearity.setdefault(_GAIN.format(what), {})[_ratio(other)] = (
                    _kept(by_subject[OURS], by_subject[other])
                )
    return {
        GROWTH: Section(
            f"Time per block: {models.GROWING.description}",
            per_block,
            [(PEER, OURS), (OURS, FREE)],
        ),
        LINE: Section("The straight line through these times", lines),
        LINEARITY: Section(
            "How straight it is",
            linearity,
            unit="",
            note="The distance is a part of the time itself. Ratios are of "
            "sizes that both have. With free bits random numbers cost nothing.",
        ),
    }


def _loops(blocks: int, *, with_peer: bool) -> dict[str, loops.Loop]:
    workload = models.GROWING.of_blocks(blocks)
    layers = {
        subject: loops.built(make, workload)
        for subject, make in loops.layer_makers().items()
        if subject != PEER or with_peer
    }
    found = {
        subject: loops.Loop.of_layer(layer) for subject, layer in layers.items()
    }
    found[FREE] = loops.Loop.of_module(
        workload.module,
        loops.variables_of(layers[OURS]),
        loops.Keys.split(loops.free_bits()),
    )
    return found


def _kept(
    ours: Sequence[Sequence[float]], others: Sequence[Sequence[float]]
) -> list[float]:
    """What is left, at the longest, of another's time over ours, by round.

    Args:
        ours: seconds by size and round.
        others: the same, and may lack the last sizes.
    """
    last = len(others) - 1
    return [
        (longest_other / longest) / (shortest_other / shortest)
        for shortest, longest, shortest_other, longest_other in zip(
            ours[0], ours[last], others[0], others[last], strict=True
        )
    ]


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
