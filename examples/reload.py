"""Loads what an example's train.py saved and checks that it predicts the same.

train.py runs it in a process of its own. Two imports are all it takes: of
flaxlayer, and of the module's definition, which is in the example's model.py.
"""

import argparse
import importlib
import pathlib
import sys

import keras
import numpy as np

import flaxlayer  # noqa: F401  Makes its layers known to Keras.


def main() -> int:
    """Returns 0 if the predictions are equal to the last bit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("example", type=pathlib.Path, help="has the model.py")
    parser.add_argument("out", type=pathlib.Path, help="train.py's --out")
    arguments = parser.parse_args()
    # The file refers to the class by the name it had in train.py.
    sys.path.insert(0, str(arguments.example))
    importlib.import_module("model")

    loaded = keras.models.load_model(arguments.out / "model.keras")
    with np.load(arguments.out / "predictions.npz") as saved:
        inputs, outputs = saved["inputs"], saved["outputs"]
    again = loaded.predict(inputs, verbose=0)
    if not np.array_equal(again, outputs):
        error = np.abs(again - outputs).max()
        print(f"reloaded: the predictions differ by up to {error}")
        return 1
    print(f"reloaded: {len(inputs)} predictions, equal to the last bit")
    return 0


if __name__ == "__main__":
    sys.exit(main())
