import io
import json

import numpy as np
import pytest
from absl import logging

from benchmarks import (
    bench,
    children,
    kernels,
    layers,
    mesh_training,
    train,
)
from benchmarks.report import Floor, Section


def run(arguments):
    return bench.main(bench.parse(["bench.py", *arguments]))


@pytest.fixture
def measured(monkeypatch):
    """The settings of what `bench kernels` measured, which is nothing."""
    seen = []

    def run(settings, progress):
        progress("nothing")
        seen.append(settings)
        return {"some": Section("Some", {"m": {"a": [2.0], "b": [1.0]}})}

    monkeypatch.setattr(kernels, "run", run)
    floors = (Floor("some", "m", "a", "b", ">=", 3.0),)
    monkeypatch.setattr(kernels, "FLOORS", floors)
    return seen


def test_a_command_stores_what_it_prints(measured, tmp_path, capsys):
    assert run(["kernels", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert (tmp_path / "kernels.md").read_text() in printed.out
    assert "measuring nothing" in printed.err
    stored = json.loads((tmp_path / "kernels.json").read_text())
    assert stored["floors"][0]["holds"] is False
    assert measured == [kernels.Settings()]


def test_options_are_settings(measured, tmp_path):
    run(
        ["kernels", "--rounds", "7", "--parts", "threads"]
        + ["--out", str(tmp_path)]
    )
    (settings,) = measured
    assert (settings.rounds, settings.parts) == (7, ["threads"])
    assert settings.cold_rounds == kernels.Settings().cold_rounds


def test_a_quick_run_stores_nothing(measured, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(bench, "_RESULTS", tmp_path)
    assert run(["kernels", "--quick"]) == 0
    assert measured == [kernels.SMOKE]
    assert "smoke run" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
    # Not even if it is told to.
    assert run(["kernels", "--quick", "--out", str(tmp_path)]) == 2
    assert len(measured) == 1


def test_a_part_does_not_replace_the_whole(measured, monkeypatch, tmp_path):
    monkeypatch.setattr(bench, "_RESULTS", tmp_path)
    assert run(["kernels", "--parts", "threads"]) == 0
    assert not list(tmp_path.iterdir())
    assert run(["kernels", "--rounds", "3"]) == 0
    assert len(list(tmp_path.iterdir())) == 2
    assert len(measured) == 2


def test_what_is_not_there_is_not_drawn(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(bench, "_RESULTS", tmp_path)
    assert run(["--plot"]) == 1
    assert "train.json is missing" in capsys.readouterr().err


def test_strict_is_about_floors(measured, tmp_path):
    arguments = ["kernels", "--out", str(tmp_path), "--strict"]
    assert run(arguments) == 1


@pytest.mark.parametrize("arguments", [[], ["--plot", "kernels"]])
def test_either_measure_or_plot(arguments, capsys):
    with pytest.raises(SystemExit):
        run(arguments)
    assert "either a command or --plot" in capsys.readouterr().err


def test_growth_needs_two_sizes():
    with pytest.raises(ValueError, match="two sizes"):
        run(["train", "--sizes", "4"])


def test_hidden_commands_are_hidden(capsys):
    with pytest.raises(SystemExit):
        run(["--help"])
    text = capsys.readouterr().out
    assert "kernels" in text
    assert "_words" not in text


@pytest.mark.parametrize("before", [True, False])
def test_flags_of_absl_are_options(measured, tmp_path, before):
    flag, command = ["--verbosity=1"], ["kernels", "--out", str(tmp_path)]
    verbosity = logging.get_verbosity()
    try:
        run(flag + command if before else command + flag)
        assert logging.get_verbosity() == 1
    finally:
        logging.set_verbosity(verbosity)
    assert measured


@pytest.mark.parametrize("module", [kernels, layers, mesh_training, train])
def test_floors_are_named_once(module):
    named = [(f.section, f.measure, f.above, f.below) for f in module.FLOORS]
    assert len(named) == len(set(named))
    for floor in module.FLOORS:
        if floor.aim is not None and floor.relation == ">=":
            assert floor.aim >= floor.bound
        elif floor.aim is not None:
            assert floor.aim <= floor.bound


def test_a_child_answers_each_question():
    answers = io.StringIO()
    children.serve(
        lambda a, b: {"sum": a + b},
        io.StringIO('{"a": 1, "b": 2}\n{"a": 3, "b": 4}\n'),
        answers,
    )
    assert answers.getvalue() == '{"sum": 3}\n{"sum": 7}\n'


def test_memory_is_in_bytes():
    assert 2**20 < children.peak_memory() < 2**40


def test_peaks_are_forgotten():
    taken = np.ones(2**25)
    high = children.peak_memory()
    del taken
    children.forget_peak()
    assert children.peak_memory() < high - 2**27
