"""Estimates from collectives that were counted."""

import pytest

from benchmarks import pods
from benchmarks.collectives import Collective

GB = 10**9
SECONDS_OF_A_GB = GB / pods.BYTES_PER_SECOND


@pytest.mark.parametrize(
    ("kind", "times"),
    [
        ("all-reduce", 2 * 7 / 8),
        ("all-gather", 7 / 8),
        ("all-to-all", 7 / 8),
        ("reduce-scatter", 7),
        ("collective-permute", 1),
    ],
)
def test_a_ring_moves_what_its_kind_needs(kind, times):
    group = None if kind == "collective-permute" else 8
    found = [Collective(kind, GB, group)]
    assert pods.communicating(found, (8, 1), 8) == pytest.approx(
        times * SECONDS_OF_A_GB
    )


def test_only_rings_over_the_batch_become_longer():
    over_model = Collective("all-reduce", GB, 4)
    for chips in (8, 64):
        assert pods.communicating([over_model], (2, 4), chips) == pytest.approx(
            2 * 3 / 4 * SECONDS_OF_A_GB
        )
    over_batch = Collective("all-reduce", GB, 2)
    over_all = Collective("all-reduce", GB, None)
    for collective, size in ((over_batch, 16), (over_all, 64)):
        assert pods.communicating([collective], (2, 4), 64) == pytest.approx(
            2 * (size - 1) / size * SECONDS_OF_A_GB
        )


def test_collectives_come_one_after_the_other():
    one = Collective("all-gather", GB, 8)
    both = pods.communicating([one, one], (8, 1), 8)
    assert both == 2 * pods.communicating([one], (8, 1), 8)


def test_a_chip_computes_as_fast_as_is_assumed():
    assert pods.computing(pods.FLOPS_PER_SECOND / 2) == 0.5
