import numpy as np
import pytest

from benchmarks import nnx_models, nnx_training
from benchmarks.loops import OURS

WORKLOAD = nnx_models.Workload(blocks=1, shape=(4, 16), batch=8)
BATCH = WORKLOAD.data()


@pytest.fixture(scope="module")
def losses():
    return {
        name: make(WORKLOAD).losses(*BATCH, 4)
        for name, make in nnx_training.LOOPS.items()
    }


@pytest.mark.parametrize("name", nnx_training.LOOPS)
def test_all_loops_have_the_losses_of_the_layer(losses, name):
    # Of other steps other ones, or they would not have trained.
    assert len(set(losses[OURS].tolist())) == 4
    np.testing.assert_array_equal(losses[name], losses[OURS])


def test_a_run_has_a_measure_for_every_floor():
    sections = nnx_training.run(nnx_training.SMOKE)
    for floor in nnx_training.FLOORS:
        assert floor.measure in sections[floor.section].values
    (build, first_step) = sections[nnx_training.COLD].values.values()
    assert (
        set(build)
        == set(first_step)
        == {
            nnx_training.FUNCTIONAL,
            nnx_training.JIT,
            OURS,
        }
    )
