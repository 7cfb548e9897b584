"""Steps and calls that are short: what is around the model shows in them.

A deep stack of small layers has many small weights. Keras's trainer hands all
of them over in each step, beside running callbacks, and `steps_per_execution`
says after how many steps it does the latter.
"""

import time
from collections.abc import Callable

from benchmarks import interleave, layers, loops, models
from benchmarks.loops import HAND, OURS, PEER
from benchmarks.report import Floor, Section

SHORT = "short"

_TOGETHER = (1, 8, 32)
_FIT = "fit step, steps_per_execution={}"

FLOORS = (
    Floor(SHORT, _FIT.format(1), OURS, HAND, "<=", 1.3, 1.03),
    Floor(SHORT, _FIT.format(8), OURS, HAND, "<=", 1.03, 0.9),
    *(
        Floor(SHORT, _FIT.format(together), PEER, OURS, ">=", 1.0)
        for together in _TOGETHER
    ),
    Floor(SHORT, layers.CALL_ONE, PEER, OURS, ">=", 15.0),
)


def run(
    *,
    rounds: int,
    steps: int,
    blocks: int | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Section]:
    """Measures epochs of `fit`, and eager calls of one input.

    Args:
        rounds: how often each is timed.
        steps: how many an epoch has.
        blocks: makes the model so many blocks long.
        progress: is told what is measured now.
    """
    workload = models.SHORT
    if blocks is not None:
        workload = workload.of_blocks(blocks)
    hand = layers.Hand(workload, steps)
    hand.cold()
    by_hand = hand.warm()
    times: interleave.Times = {}
    for together in _TOGETHER:
        progress(f"{SHORT}: {_FIT.format(together)}")
        subjects = {
            name: layers.InKeras(
                make,
                workload,
                steps,
                time.perf_counter,
                steps_per_execution=together,
            )
            for name, make in loops.layer_makers().items()
        }
        for subject in subjects.values():
            subject.cold()
        warm = {name: each.warm() for name, each in subjects.items()}
        warm[HAND] = by_hand
        measures = {_FIT.format(together): (layers.FIT_STEP, 1, steps)}
        if together == 1:
            measures[layers.CALL_ONE] = (layers.CALL_ONE, 50, 1)
        for name, (measure, calls, parts) in measures.items():
            fns = {who: each[measure] for who, each in warm.items()}
            epochs = interleave.measure(
                interleave.bursts(name, fns, calls), rounds=rounds, warmup=2
            )[name]
            times[name] = {
                who: [seconds / parts for seconds in found]
                for who, found in epochs.items()
            }
    return {
        SHORT: Section(
            f"Short steps: {models.SHORT.description}",
            times,
            [(PEER, OURS), (HAND, OURS)],
            note="By hand there is nothing but the steps.",
        )
    }
