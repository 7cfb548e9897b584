"""Loads what train.py saved and checks that it predicts the same.

train.py runs it in a process of its own. Two imports are all it takes: of
flaxlayer, and of the module's definition.
"""

import argparse
import pathlib
import sys

import keras
import model  # noqa: F401  The file refers to the class in it.
import numpy as np

import flaxlayer  # noqa: F401  Makes its layers known to Keras.


def main() -> int:
    """Returns 0 if the predictions are equal to the last bit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path, help="train.py's --out")
    folder = parser.parse_args().folder

    loaded = keras.models.load_model(folder / "digits.keras")
    with np.load(folder / "predictions.npz") as saved:
        images, logits = saved["images"], saved["logits"]
    again = loaded.predict(images, verbose=0)
    if not np.array_equal(again, logits):
        error = np.abs(again - logits).max()
        print(f"reloaded: the predictions differ by up to {error}")
        return 1
    print(f"reloaded: {len(images)} predictions, equal to the last bit")
    return 0


if __name__ == "__main__":
    sys.exit(main())
