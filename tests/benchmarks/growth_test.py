import pytest

from benchmarks import growth
from benchmarks.loops import FREE, OURS, PEER

SIZES = (2, 4, 8)


def grown(slope, start, rounds=2):
    return [[start + slope * n] * rounds for n in SIZES]


def test_a_line_is_found():
    found = growth.fit(SIZES, [0.5 + 2 * n for n in SIZES])
    assert found == pytest.approx((2, 0.5, 0))


def test_the_distance_is_a_part_of_the_time():
    _, _, distance = growth.fit(SIZES, [2, 4.4, 8])
    assert 0.03 < distance < 0.07
    assert growth.fit(SIZES, [200, 440, 800])[2] == pytest.approx(distance)


def test_the_tables():
    times = {
        growth.STEP: {
            OURS: grown(1, 2),
            PEER: grown(3, 0),
            FREE: grown(1, 1),
        },
        growth.COMPILE: {
            OURS: grown(2, 0, 1),
            PEER: grown(4, 0, 1),
            FREE: grown(1, 0, 1),
        },
    }
    sections = growth.sections(times, SIZES)
    per_block = sections[growth.GROWTH].values
    assert per_block[growth.measure_name(growth.STEP, 4)] == {
        OURS: [1.5, 1.5],
        PEER: [3, 3],
        FREE: [1.25, 1.25],
    }
    lines = sections[growth.LINE].values
    assert lines["step, each block"][OURS] == pytest.approx([1, 1])
    assert lines["step, without a block"][OURS] == pytest.approx([2, 2])
    straight = sections[growth.LINEARITY].values
    distance = straight["step, worst distance from the line"]
    assert distance[OURS] == pytest.approx([0, 0], abs=1e-9)
    found = [straight[floor.measure][floor.above] for floor in growth.FLOORS]
    assert found == [
        # 24/10 of the longest over 6/4 of the shortest.
        pytest.approx([1.6, 1.6]),
        # 9/10 over 3/4.
        pytest.approx([1.2, 1.2]),
        pytest.approx([1]),
        pytest.approx([1]),
    ]


def test_the_peer_may_lack_the_last_sizes():
    times = {growth.STEP: {OURS: grown(1, 2), PEER: grown(3, 0)[:2]}}
    sections = growth.sections(times, SIZES)
    per_block = sections[growth.GROWTH].values
    assert list(per_block[growth.measure_name(growth.STEP, 4)]) == [OURS, PEER]
    assert list(per_block[growth.measure_name(growth.STEP, 8)]) == [OURS]
    lines = sections[growth.LINE].values["step, each block"]
    assert lines == {
        OURS: pytest.approx([1, 1]),
        PEER: pytest.approx([3, 3]),
    }
    # 12/6 of the longest that both have over 6/4 of the shortest.
    (gains,) = list(sections[growth.LINEARITY].values.values())[-1].values()
    assert gains == pytest.approx([4 / 3, 4 / 3])


def test_without_the_peer_there_are_no_ratios():
    sections = growth.sections({growth.STEP: {OURS: grown(1, 2)}}, SIZES)
    assert list(sections[growth.LINEARITY].values) == [
        "step, worst distance from the line"
    ]
