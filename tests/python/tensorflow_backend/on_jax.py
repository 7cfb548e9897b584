"""Run with Keras on JAX: trains all cases, or loads what was saved elsewhere.

python -m tests.python.tensorflow_backend.on_jax train|load FOLDER
"""

import pathlib
import sys

import keras
import numpy as np

from tests.python.tensorflow_backend import cases


def train(folder):
    for name in cases.CASES:
        model, results = cases.train(name)
        np.savez(folder / f"{name}.npz", **results)
        model.save(folder / f"{name}.keras")


def load(folder):
    for name, (_, inputs) in cases.CASES.items():
        model = keras.saving.load_model(folder / f"{name}.keras")
        (layer,) = model.layers
        np.savez(
            folder / f"{name}.loaded.npz",
            predictions=model.predict(inputs, verbose=0).astype("float32"),
            **cases.weights(layer),
        )


if __name__ == "__main__":
    assert keras.backend.backend() == "jax"
    assert "tensorflow" not in sys.modules
    {"train": train, "load": load}[sys.argv[1]](pathlib.Path(sys.argv[2]))
