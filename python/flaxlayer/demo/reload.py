"""Checks that a model that was saved and loaded predicts the same.

It is loaded in a process of its own, which runs this file. Two imports are all
it takes: of flaxlayer, and of the definition of the Flax module.
"""

import argparse
import importlib
import pathlib
import subprocess
import sys

import keras
import numpy as np

import flaxlayer  # noqa: F401  Makes its layers known to Keras.


def survives(
    model: keras.Model,
    inputs: np.ndarray,
    outputs: np.ndarray,
    *,
    out: pathlib.Path,
    module: str,
    folder: pathlib.Path | None = None,
) -> bool:
    """Saves a model; whether another process that loads it predicts the same.

    Args:
        model: what to save, as `model.keras`.
        inputs: for predictions.
        outputs: what the model predicts for them.
        out: an existing folder, for the files.
        module: what to import for the definition of the Flax module.
        folder: where that is found, if it is not installed.
    """
    model.save(out / "model.keras")
    np.savez(out / "predictions.npz", inputs=inputs, outputs=outputs)
    command = [sys.executable, "-m", "flaxlayer.demo.reload", module, str(out)]
    if folder is not None:
        command.append(str(folder))
    # What is printed there comes after what was printed here.
    sys.stdout.flush()
    return subprocess.run(command, check=False).returncode == 0


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
