"""What another process makes of a model that was saved."""

import importlib
import os
import runpy
import subprocess
import sys

import keras
import numpy as np
import pytest

from flaxlayer import FlaxLayer

MODEL_PY = """
import flax.linen as nn


class Doubled(nn.Module):
    @nn.compact
    def __call__(self, x):
        return 2 * nn.Dense(3)(x)
"""


def save(model, folder, error=0.0):
    """A model, and what it predicts, as whoever has trained it leaves them."""
    model.save(folder / "model.keras")
    x = np.ones((4, 2), np.float32)
    outputs = model.predict(x, verbose=0)
    np.savez(folder / "predictions.npz", inputs=x, outputs=outputs + error)


def test_a_process_that_imports_the_module_loads_the_model(
    tmp_path, monkeypatch
):
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    out.mkdir()
    (source / "doubled.py").write_text(MODEL_PY)
    monkeypatch.syspath_prepend(source)
    doubled = importlib.import_module("doubled")
    monkeypatch.delitem(sys.modules, "doubled")
    layer = FlaxLayer(doubled.Doubled(), seed=0)
    save(keras.Sequential([keras.Input((2,)), layer]), out)
    monkeypatch.undo()

    result = subprocess.run(
        [sys.executable, "-m", "flaxlayer.demo.reload", "doubled", out, source],
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == "reloaded: 4 predictions, equal to the last bit\n"


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
def test_predictions_that_differ_are_told_from_those_that_do_not(
    tmp_path, monkeypatch, capsys
):
    # Of zeros, so that adding 1 is exact.
    dense = keras.layers.Dense(1, kernel_initializer="zeros")
    save(keras.Sequential([keras.Input((2,)), dense]), tmp_path, error=1.0)
    monkeypatch.setattr(sys, "argv", ["reload", "keras", str(tmp_path)])
    with pytest.raises(SystemExit, match="1"):
        runpy.run_module("flaxlayer.demo.reload", run_name="__main__")
    assert "the predictions differ by up to 1" in capsys.readouterr().out
