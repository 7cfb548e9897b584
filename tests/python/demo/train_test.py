"""The demo trains, draws and measures, and says when something is wrong."""

import os
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


def test_a_whole_demo_compares_times_and_says_all_that_is_wrong(
    tmp_path, capfd, monkeypatch
):
    monkeypatch.setattr(train, "_WHOLE", train._Length(1, 1.5))
    monkeypatch.setattr(timing, "_COLD_ROUNDS", 1)
    monkeypatch.setattr(timing, "_STEPS", 2)
    # No module of that name, so that the other process fails.
    monkeypatch.setattr(train.DigitClassifier, "__module__", "never_there")
    assert train.run(tmp_path) == 1
    _, _, rest = capfd.readouterr().out.partition("flaxlayer   keras.layers\n")
    *times, _, below, _, lost = rest.strip().splitlines()
    assert below.startswith("FAILED: test accuracy 0.")
    assert below.endswith("is below 1.5")
    assert lost == "FAILED: the reloaded model is not the saved one"
    for measured in ("build", "first training step", "training step"):
        (line,) = (line for line in times if line.startswith(measured))
        ours, unit, peer, other = line.removeprefix(measured).split()
        assert unit == other
        assert float(ours) > 0
        assert float(peer) > 0
