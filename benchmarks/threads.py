"""Random words on one thread, and on two.

XLA decides when it starts how many threads it has, so that processes of their
own are asked, each with as many cores as it is to have threads.
"""

import contextlib
import functools
import os
from collections.abc import Callable
from typing import Any

from benchmarks import children, interleave, programs
from benchmarks.loops import OURS
from benchmarks.programs import XLA
from benchmarks.report import Floor, Section

THREADS = "threads"
ONE_THREAD = "one thread"

_COUNTS = {ONE_THREAD: 1, "two threads": 2}
_ONE, _TWO = _COUNTS

FLOORS = (
    Floor(ONE_THREAD, "2^20 words", XLA, OURS, ">=", 3.0, 4.0),
    Floor(THREADS, f"2^24 words, {OURS}", _ONE, _TWO, ">=", 1.6, 1.9),
)


def run(
    fewer: int,
    more: int,
    *,
    rounds: int,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Section]:
    """Measures in processes of one thread and of two.

    Args:
        fewer: the power of two of how many words there are on one thread.
        more: of how many on one thread and on two.
        rounds: how often they are timed.
        progress: is told what is measured now.
    """
    cores = len(os.sched_getaffinity(0))
    counts = {name: n for name, n in _COUNTS.items() if n <= cores}
    one_thread: interleave.Times = {}
    threads: interleave.Times = {}
    with contextlib.ExitStack() as stack:
        servers = {
            name: stack.enter_context(children.Server("_words", count))
            for name, count in counts.items()
        }
        progress(f"{ONE_THREAD}: 2^{fewer} words")
        one_thread |= _measured(
            f"2^{fewer} words",
            {name: (servers[_ONE], name) for name in (XLA, OURS)},
            fewer,
            rounds,
        )
        progress(f"{THREADS}: 2^{more} words")
        for subject in (XLA, OURS):
            threads |= _measured(
                f"2^{more} words, {subject}",
                {name: (server, subject) for name, server in servers.items()},
                more,
                rounds,
            )
    return {
        ONE_THREAD: Section(
            "A call in a process of one core", one_thread, [(XLA, OURS)]
        ),
        THREADS: Section(
            "A call in processes of one core and of two",
            threads,
            [(_ONE, _TWO)],
        ),
    }


def _measured(
    measure: str,
    asked: dict[str, tuple[children.Server, str]],
    exponent: int,
    rounds: int,
) -> interleave.Times:
    def variant(server: children.Server, subject: str) -> interleave.Variant:
        return lambda: {measure: server.ask(subject=subject, exponent=exponent)}

    return interleave.measure(
        {name: variant(*which) for name, which in asked.items()},
        rounds=rounds,
        warmup=1,  # Which compiles.
    )


def serve(count: int) -> None:
    """Times calls for another process, on so many threads.

    Nothing may have started JAX's platforms before.
    """
    children.use_cores(count)

    @functools.cache
    def compiled(subject: str, exponent: int) -> programs.Runner:
        made = programs.of_keys(programs.random_words, 2**exponent)
        runner = programs.Runner(made[subject])
        runner()
        return runner

    def respond(subject: str, exponent: int) -> Any:
        # Of few words several calls, as many for each subject.
        calls = max(1, 2 ** (24 - exponent))
        return interleave.burst(compiled(subject, exponent), min(calls, 16))

    children.serve(respond)
