import pytest

from benchmarks import mesh_training
from benchmarks.loops import HAND, OURS, REFERENCE


@pytest.fixture(scope="module")
def sections():
    return mesh_training.run(mesh_training.SMOKE)


CASE = mesh_training.case_name("transformer", (2, 4))


def test_a_run_has_a_measure_for_every_floor_of_its_case(sections):
    floors = [f for f in mesh_training.FLOORS if f.measure == CASE]
    assert len(floors) == 5
    for floor in floors:
        values = sections[floor.section].values[floor.measure]
        assert {floor.above, floor.below} - {None} <= values.keys()


def test_weights_are_made_in_both_ways(sections):
    floors = [f for f in mesh_training.FLOORS if f.section == "build"]
    built = sections[mesh_training.BUILD].values
    assert built.keys() == {
        f.measure for f in floors if "transformer-128" not in f.measure
    }
    for floor in floors[:2]:
        assert {floor.above, floor.below} == built[floor.measure].keys()


def test_all_have_the_losses_of_the_layer(sections):
    (by,) = sections[mesh_training.LOSSES].values.values()
    assert by == {REFERENCE: [0], HAND: [0]}


def test_a_layer_adds_no_collectives_to_those_of_a_split_block(sections):
    # Two ahead and two back for each block, and one of all gradients.
    (by,) = sections[mesh_training.NUMBER].values.values()
    assert by == {OURS: [5], HAND: [5], mesh_training.IN_KERAS: [5]}
    (by,) = sections[mesh_training.SIZE].values.values()
    assert len({tuple(values) for values in by.values()}) == 1
    # Activations of a half of the batch, and a quarter of most parameters.
    assert 4 * (16 * 32 * 64 * 4) / 1e3 < by[OURS][0] < 1e3


def test_an_estimate_says_what_it_is(sections):
    section = sections[mesh_training.ESTIMATE]
    assert "an estimate, not a measurement" in section.title
    (computing, *steps) = section.values[CASE].values()
    assert computing < steps[0] < steps[1] < steps[2]
