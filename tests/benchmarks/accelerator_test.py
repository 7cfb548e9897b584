from benchmarks import accelerator, models
from benchmarks.loops import HAND, OURS


def test_a_run_has_a_measure_for_every_floor(monkeypatch):
    (name,) = accelerator.SMOKE.models
    tiny = models.Workload("", models.MLP(features=8), (8,), batch=4)
    monkeypatch.setitem(accelerator.WORKLOADS, name, tiny)
    sections = accelerator.run(accelerator.SMOKE)
    for floor in accelerator.FLOORS:
        values = sections[floor.section].values[floor.measure]
        assert {floor.above, floor.below} <= set(values)
    (losses,) = sections[accelerator.LOSSES].values.values()
    assert OURS not in losses
    # Where there is no GPU all bits are the same, by native kernels too.
    assert losses[accelerator.NATIVE] == losses[HAND] == [0]
    words = sections[accelerator.WORDS].values
    assert list(words) == [
        "words, 2^4",
        "dropout, 2^4",
        "words, 2^6",
        "dropout, 2^6",
    ]
