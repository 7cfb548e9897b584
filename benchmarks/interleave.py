"""Timing several variants of one thing against each other.

A machine's speed drifts, by its load and by its temperature. So the variants
are not timed one after the other but in rounds: each round times every variant
once, in an order drawn anew, and ratios are taken between times of one round.
What drifts is then in both, and the spread of the ratios says what is left.
"""

import dataclasses
import gc
import math
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Timer = Callable[[], float]
# Times one run of a variant: seconds by what was measured.
Variant = Callable[[], Mapping[str, float]]
# Seconds by measure and variant, an entry for each round.
Times = dict[str, dict[str, list[float]]]


@dataclasses.dataclass(frozen=True)
class Spread:
    """The distribution of some numbers, in five of them."""

    low: float
    quarter: float
    median: float
    three_quarters: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """The spread of one or more values.

        Raises:
            ValueError: there are none.
        """
        if not values:
            raise ValueError("there is no spread of no values")
        if len(values) == 1:
            return cls(*[float(values[0])] * 5)
        quartiles = statistics.quantiles(values, n=4, method="inclusive")
        return cls(min(values), *quartiles, max(values))


def clock(
    fn: Callable[..., Any],
    *args: Any,
    timer: Timer = time.perf_counter,
) -> float:
    """The seconds a call takes; the call has to wait for its results."""
    start = timer()
    fn(*args)
    return timer() - start


def burst(
    fn: Callable[[], Any], calls: int, *, timer: Timer = time.perf_counter
) -> float:
    """The seconds of one call, of several that are timed together.

    The first call after another variant's finds the processor's caches filled
    with that one's data, which is not what a program that makes only these
    calls sees.
    """

    def several() -> None:
        for _ in range(calls):
            fn()

    return clock(several, timer=timer) / calls


def bursts(
    measure: str,
    fns: Mapping[str, Callable[[], Any]],
    calls: int,
    *,
    timer: Timer = time.perf_counter,
) -> dict[str, Variant]:
    """For each function a variant that times a burst of it."""

    def variant(fn: Callable[[], Any]) -> Variant:
        return lambda: {measure: burst(fn, calls, timer=timer)}

    return {name: variant(fn) for name, fn in fns.items()}


def calls_within(
    seconds: float,
    fns: Mapping[str, Callable[[], Any]],
    *,
    most: int = 1000,
    timer: Timer = time.perf_counter,
) -> int:
    """How many calls of the fastest of some functions take so long.

    Each is called twice, and only the second call counts.
    """
    fastest = math.inf
    for fn in fns.values():
        fn()
        fastest = min(fastest, clock(fn, timer=timer))
    # A clock may be too coarse to see the call.
    calls = math.ceil(seconds / max(fastest, 1e-9))
    return max(1, min(calls, most))


def measure(
    variants: Mapping[str, Variant],
    *,
    rounds: int,
    warmup: int = 0,
    seed: int = 0,
) -> Times:
    """Times all variants in every round, in random order.

    Args:
        variants: by name.
        rounds: how often each one is timed.
        warmup: how many rounds come before, which do not count.
        seed: of the order.

    Returns:
        For each measure that a variant returns, and each variant that returns
        it, the seconds of all rounds.
    """
    shuffle = random.Random(seed).shuffle
    times: Times = {}
    order = list(variants)
    collecting = gc.isenabled()
    try:
        for index in range(-warmup, rounds):
            shuffle(order)
            # A collection in the middle would count for one of them.
            gc.collect()
            gc.disable()
            for name in order:
                for what, seconds in variants[name]().items():
                    if index >= 0:
                        by_variant = times.setdefault(what, {})
                        by_variant.setdefault(name, []).append(seconds)
            if collecting:
                gc.enable()
    finally:
        if collecting:
            gc.enable()
    # As the variants were given, not as the first round was drawn.
    return {
        what: {name: found[name] for name in variants if name in found}
        for what, found in times.items()
    }


def ratios(numerator: Sequence[float], denominator: Sequence[float]) -> Spread:
    """The spread of the ratios of two variants, round by round.

    Raises:
        ValueError: they have different numbers of rounds.
    """
    return Spread.of(
        [a / b for a, b in zip(numerator, denominator, strict=True)]
    )
