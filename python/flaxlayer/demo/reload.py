"""Loads a model that was saved and checks that it predicts the same.

Whoever has trained it runs this in a process of its own. Two imports are all
it takes: of flaxlayer, and of the definition of the Flax module.
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
    parser = argparse.ArgumentParser(
        prog="python -m flaxlayer.demo.reload",
        description="Loads a model that was saved and checks that it predicts "
        "the same.",
    )
    parser.add_argument("module", help="what defines the Flax module")
    parser.add_argument(
        "out", type=pathlib.Path, help="has model.keras and predictions.npz"
    )
    parser.add_argument(
        "folder", nargs="?", help="has the module, if it is not installed"
    )
    arguments = parser.parse_args()
    # The file names the class by the module that it was trained from, which
    # has to be imported for it to be found.
    if arguments.folder:
        sys.path.insert(0, arguments.folder)
    importlib.import_module(arguments.module)

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
