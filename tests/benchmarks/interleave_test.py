import gc
import math

import pytest

from benchmarks import interleave


def test_spread_of_values():
    spread = interleave.Spread.of([5.0, 1.0, 3.0, 2.0, 4.0])
    assert spread == interleave.Spread(1.0, 2.0, 3.0, 4.0, 5.0)


def test_spread_of_one_value():
    assert interleave.Spread.of([2.0]) == interleave.Spread(*[2.0] * 5)


def test_no_values_have_no_spread():
    with pytest.raises(ValueError, match="no values"):
        interleave.Spread.of([])


def test_ratios_are_taken_round_by_round():
    # The machine halves its speed: the times spread, the ratios do not.
    ratios = interleave.ratios([2.0, 4.0, 8.0], [1.0, 2.0, 4.0])
    assert ratios == interleave.Spread(*[2.0] * 5)


def test_ratios_need_as_many_rounds():
    with pytest.raises(ValueError, match="shorter"):
        interleave.ratios([1.0, 2.0], [1.0])


def test_the_clock_counts_the_call():
    ticks = iter([3.0, 3.5])
    called = []
    seconds = interleave.clock(called.append, 1, timer=lambda: next(ticks))
    assert (seconds, called) == (0.5, [1])


def test_a_burst_is_the_time_of_one_call():
    ticks = iter([3.0, 5.0])
    called = []
    seconds = interleave.burst(
        lambda: called.append(1), 4, timer=lambda: next(ticks)
    )
    assert (seconds, called) == (0.5, [1] * 4)


def test_bursts_are_variants():
    log = []
    ticks = iter(range(8))
    variants = interleave.bursts(
        "step",
        {name: lambda name=name: log.append(name) for name in "ab"},
        2,
        timer=lambda: next(ticks),
    )
    times = interleave.measure(variants, rounds=2)
    assert times == {"step": {"a": [0.5, 0.5], "b": [0.5, 0.5]}}
    assert sorted(log) == ["a"] * 4 + ["b"] * 4


@pytest.mark.parametrize(
    ("seconds", "calls"), [(0.0, 1), (1.0, 1), (6.0, 3), (6.5, 4), (1e3, 50)]
)
def test_the_fastest_decides_how_many_calls_there_are(seconds, calls):
    now = [0.0]

    def takes(first, then):
        durations = iter([first, then])

        def fn():
            now[0] += next(durations)

        return fn

    # The first call, which compiles, is not looked at.
    fns = {"a": takes(9.0, 2.0), "b": takes(1.0, 3.0)}
    assert calls == interleave.calls_within(
        seconds, fns, most=50, timer=lambda: now[0]
    )


def recorder(log, name, *measures):
    def variant():
        log.append(name)
        return dict.fromkeys(measures, float(len(log)))

    return variant


def test_every_round_times_every_variant_once():
    log = []
    names = "abc"
    times = interleave.measure(
        {name: recorder(log, name, "step") for name in names}, rounds=20
    )
    rounds = ["".join(log[i : i + 3]) for i in range(0, 60, 3)]
    assert all(sorted(order) == list(names) for order in rounds)
    assert len(set(rounds)) == math.factorial(3)
    assert list(times["step"]) == list(names)
    assert all(len(seconds) == 20 for seconds in times["step"].values())


def test_the_order_depends_on_the_seed_only():
    logs = {}
    for seed in (0, 0, 1):
        log = []
        interleave.measure(
            {name: recorder(log, name, "step") for name in "abcd"},
            rounds=5,
            seed=seed,
        )
        assert logs.setdefault(seed, log) == log
    assert logs[0] != logs[1]


def test_warmup_rounds_do_not_count():
    log = []
    times = interleave.measure(
        {"a": recorder(log, "a", "step")}, rounds=2, warmup=3
    )
    assert times == {"step": {"a": [4.0, 5.0]}}


def test_variants_may_have_different_measures():
    times = interleave.measure(
        {
            "a": recorder([], "a", "build", "step"),
            "b": recorder([], "b", "step"),
        },
        rounds=1,
    )
    assert {what: list(by) for what, by in times.items()} == {
        "build": ["a"],
        "step": ["a", "b"],
    }


def test_no_collection_is_timed():
    seen = []

    def variant():
        seen.append(gc.isenabled())
        return {}

    interleave.measure({"a": variant}, rounds=1)
    assert (seen, gc.isenabled()) == ([False], True)


def test_collections_are_on_again_after_an_error():
    def variant():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interleave.measure({"a": variant}, rounds=1)
    assert gc.isenabled()
