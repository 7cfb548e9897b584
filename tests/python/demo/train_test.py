"""The demo trains, draws and measures, and says when something is wrong."""

import os
import subprocess
import sys

import pytest

from flaxlayer.demo import timing, train


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """What is imported here is what another process imports."""
    paths = os.pathsep.join(filter(None, sys.path))
    monkeypatch.setenv("PYTHONPATH", paths)


def test_a_short_demo_is_good_enough_and_comes_back(tmp_path, capfd):
    assert train.run(tmp_path, short=True) == 0
    printed = capfd.readouterr().out
    assert "\ntest accuracy 0.9" in printed
    assert "reloaded: 360 predictions, equal to the last bit" in printed
    assert f"picture: {tmp_path / 'digits.png'}" in printed
    assert "flaxlayer kernels (policy: auto)" in printed
    assert "train_on_batch" not in printed
    picture = (tmp_path / "digits.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 20_000
    assert (tmp_path / "model.keras").exists()


def test_a_whole_demo_compares_times_with_those_of_keras(
    tmp_path, capfd, monkeypatch
):
    monkeypatch.setattr(train, "_WHOLE", train._Length(1, 0.3))
    monkeypatch.setattr(timing, "_COLD_ROUNDS", 1)
    monkeypatch.setattr(timing, "_STEPS", 2)
    assert train.run(tmp_path) == 0
    _, _, table = capfd.readouterr().out.partition("jax 0.")
    assert "flaxlayer   keras.layers" in table
    for measured in ("build", "first training step", "training step"):
        (line,) = (
            line for line in table.splitlines() if line.startswith(measured)
        )
        ours, unit, peer, other = line.removeprefix(measured).split()
        assert unit == other
        assert float(ours) > 0
        assert float(peer) > 0


def test_what_is_wrong_is_said_and_is_the_exit_status(
    tmp_path, capfd, monkeypatch
):
    monkeypatch.setattr(train, "_SHORT", train._Length(1, 1.5))
    failed = subprocess.CompletedProcess([], 1)
    monkeypatch.setattr(train.subprocess, "run", lambda *a, **k: failed)
    assert train.run(tmp_path, short=True) == 1
    assert "is below 1.5" in capfd.readouterr().out
    monkeypatch.setattr(train, "_SHORT", train._Length(1, 0.3))
    assert train.run(tmp_path, short=True) == 1
    assert "the reloaded model is not the saved one" in capfd.readouterr().out
