"""What another process makes of a model that was saved."""

import importlib
import sys

import keras
import numpy as np
import pytest

from flaxlayer import FlaxLayer
from flaxlayer.demo import reload

MODEL_PY = """
import flax.linen as nn


class Doubled(nn.Module):
    @nn.compact
    def __call__(self, x):
        return 2 * nn.Dense(3)(x)
"""


pytestmark = pytest.mark.usefixtures("importable")

X = np.ones((4, 2), np.float32)


def test_a_process_that_imports_the_module_loads_the_model(
    tmp_path, monkeypatch, capfd
):
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    out.mkdir()
    (source / "doubled.py").write_text(MODEL_PY)
    monkeypatch.syspath_prepend(source)
    doubled = importlib.import_module("doubled")
    monkeypatch.delitem(sys.modules, "doubled")
    layer = FlaxLayer(doubled.Doubled(), seed=0)
    model = keras.Sequential([keras.Input((2,)), layer])
    outputs = model.predict(X, verbose=0)

    assert reload.survives(
        model, X, outputs, out=out, module="doubled", folder=source
    )
    printed = capfd.readouterr().out
    assert printed == "reloaded: 4 predictions, equal to the last bit\n"
    # Without the module there is no such class.
    assert not reload.survives(model, X, outputs, out=out, module="keras")


def test_predictions_that_differ_are_told_from_those_that_do_not(
    tmp_path, capfd
):
    # Of zeros, so that adding 1 is exact.
    dense = keras.layers.Dense(1, kernel_initializer="zeros")
    model = keras.Sequential([keras.Input((2,)), dense])
    outputs = model.predict(X, verbose=0)
    assert not reload.survives(
        model, X, outputs + 1, out=tmp_path, module="keras"
    )
    assert "the predictions differ by up to 1" in capfd.readouterr().out
