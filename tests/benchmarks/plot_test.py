import json
import xml.etree.ElementTree

import pytest

from benchmarks import growth, kernels, models, plot, train
from benchmarks.loops import FREE, HAND, OURS, PEER
from benchmarks.programs import XLA
from benchmarks.report import Report, Section

ABOUT = {
    "date": "2026-01-02",
    "versions": {"flaxlayer": "1.2.3", "jax": "0.9"},
    "kernels": {"rng_fold": "native"},
    "machine": {
        "cpu": "A CPU",
        "cores": 2,
        "system": "Linux x86_64",
        "load": 0.1,
    },
}
SIZES, EXPONENTS = (2, 4), (4, 10)


def stored(settings, sections):
    return json.loads(Report(ABOUT, settings, sections, ()).as_json())


def training(*layers):
    seconds = {HAND: 3e-3, OURS: 2e-3, PEER: 4e-3, FREE: 1e-3}
    step = {
        model: {
            name: [seconds[name], 1.1 * seconds[name]]
            for name in (HAND, FREE, *layers)
        }
        for model in models.WORKLOADS
    }
    compiling = {
        growth.measure_name(growth.COMPILE, size): {
            name: [seconds[name]] for name in layers
        }
        for size in SIZES
    }
    return stored(
        {"sizes": SIZES},
        {
            train.STEP: Section("", step),
            growth.GROWTH: Section("", compiling),
        },
    )


def operations():
    words = {
        kernels.words_name(exponent): {XLA: [3e-6, 4e-6], OURS: [1e-6, 1e-6]}
        for exponent in EXPONENTS
    }
    return stored(
        {"exponents": EXPONENTS},
        {
            kernels.RUN: Section("", words),
            kernels.COMPILE: Section("", words),
        },
    )


@pytest.mark.parametrize("layers", [(OURS, PEER), (OURS,)])
def test_the_same_results_give_the_same_file(tmp_path, layers):
    paths = [tmp_path / f"{i}.svg" for i in range(2)]
    for path in paths:
        plot.draw(training(*layers), operations(), path)
    first, second = (path.read_bytes() for path in paths)
    assert first == second
    assert b"<dc:date>" not in first
    xml.etree.ElementTree.fromstring(first)


def test_the_bars_are_ratios_to_the_hand_written_step(tmp_path, monkeypatch):
    drawn = {}
    bar = plot.Axes.bar

    def record(self, x, height, *args, label, **kwargs):
        drawn[label] = height
        return bar(self, x, height, *args, label=label, **kwargs)

    monkeypatch.setattr(plot.Axes, "bar", record)
    plot.draw(training(OURS, PEER), operations(), tmp_path / "figure.svg")
    assert [
        pytest.approx([ratio] * len(models.WORKLOADS))
        for ratio in (0.75, 1.5, 3)
    ] == list(drawn.values())


def test_the_caption_names_versions_and_machine():
    caption = plot.caption(training(OURS))
    for part in ("flaxlayer 1.2.3, jax 0.9", "A CPU, 2 cores", "2026-01-02"):
        assert part in caption


def test_stored_results_are_read(tmp_path):
    (tmp_path / "train.json").write_text(json.dumps(training(OURS, PEER)))
    figure = tmp_path / "figure.svg"
    with pytest.raises(FileNotFoundError, match="tools/dev bench kernels"):
        plot.write(tmp_path, figure)
    (tmp_path / "kernels.json").write_text(json.dumps(operations()))
    plot.write(tmp_path, figure)
    assert figure.stat().st_size > 1000


def test_a_part_that_was_not_measured_is_named(tmp_path):
    results = training(OURS)
    del results["sections"][growth.GROWTH]
    (tmp_path / "train.json").write_text(json.dumps(results))
    with pytest.raises(ValueError, match="lacks growth"):
        plot.write(tmp_path, tmp_path / "figure.svg")
