import numpy as np
import pytest

from benchmarks import exports, models


@pytest.fixture(scope="module")
def sections():
    return exports.run(exports.SMOKE)


def test_a_run_has_a_measure_for_every_floor(sections):
    for floor in exports.FLOORS:
        by_variant = sections[floor.section].values[floor.measure]
        assert {floor.above, floor.below} - {None} <= by_variant.keys()


def test_files_hold_the_weights_and_little_else(sections):
    for by_variant in sections[exports.SIZE].values.values():
        (weights,), (served,) = (
            by_variant["weights alone"],
            by_variant[exports.SERVED],
        )
        assert weights < served < weights + 200_000


def test_all_that_is_called_answers_the_same(tmp_path):
    workload = models.WORKLOADS[models.TRANSFORMER].of_blocks(1)
    model = exports._model(workload)
    path = str(tmp_path / "served")
    exports._written(models.TRANSFORMER, model, {exports.SERVED: path}, 1)
    x = workload.data(1)[0][:3]
    answers = {
        name: np.asarray(call(x))
        for name, call in exports._calls(model, {exports.SERVED: path}).items()
    }
    assert answers[exports.PREDICT].shape == (3, 10)
    for name, answer in answers.items():
        np.testing.assert_allclose(
            answer, answers[exports.PREDICT], rtol=1e-5, err_msg=name
        )
