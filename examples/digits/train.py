"""Trains a Flax network on handwritten digits, as a Keras model.

The network is in model.py. It is trained with `fit`, saved, and loaded again
in another process; the folder given by --out has the model and a picture.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")  # Read by the import of keras.

import argparse
import pathlib
import subprocess
import sys
import time

import figure
import keras
import numpy as np
import timing
from model import DigitClassifier
from sklearn import datasets, model_selection

import flaxlayer

_HERE = pathlib.Path(__file__).resolve().parent
_GOAL = 0.97
_BATCH = 64


def main() -> int:
    """Returns 0 if the model is good enough and survives saving."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        default=_HERE / "out",
        help="where the files go (default: %(default)s)",
    )
    parser.add_argument("--epochs", type=int, default=25)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)

    keras.utils.set_random_seed(0)
    train_images, test_images, train_labels, test_labels = _digits()
    module = DigitClassifier()
    model = keras.Sequential(
        [
            keras.Input(train_images.shape[1:]),
            flaxlayer.FlaxLayer(module, seed=0, name="classifier"),
        ]
    )
    _compile(model)
    model.summary()
    start = time.perf_counter()
    history = model.fit(
        train_images,
        train_labels,
        batch_size=_BATCH,
        epochs=arguments.epochs,
        validation_data=(test_images, test_labels),
    )
    seconds = time.perf_counter() - start
    logits = model.predict(test_images, verbose=0)
    accuracy = float(np.mean(logits.argmax(axis=1) == test_labels))
    print(
        f"\ntest accuracy {accuracy:.4f} ({len(test_labels)} digits) after "
        f"{arguments.epochs} epochs in {seconds:.1f} s"
    )

    model.save(arguments.out / "model.keras")
    np.savez(
        arguments.out / "predictions.npz", inputs=test_images, outputs=logits
    )
    reloaded = subprocess.run(
        [sys.executable, _HERE.parent / "reload.py", _HERE, arguments.out],
        check=False,
    )

    picture = arguments.out / "digits.png"
    figure.save(picture, history.history, test_images, test_labels, logits)
    print(f"picture: {picture}\n")
    print(flaxlayer.explain_kernels(), end="\n\n")
    print(
        timing.table(
            module, train_images[:_BATCH], train_labels[:_BATCH], _compile
        )
    )

    if accuracy < _GOAL:
        print(f"\nFAILED: test accuracy {accuracy:.4f} is below {_GOAL}")
        return 1
    if reloaded.returncode:
        print("\nFAILED: the reloaded model is not the saved one")
        return 1
    return 0


def _compile(model: keras.Model) -> None:
    model.compile(
        optimizer=keras.optimizers.Adam(2e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )


def _digits() -> tuple[np.ndarray, ...]:
    """Images `[n, 8, 8, 1]` in [0, 1] and digits `[n]`: train, test."""
    digits = datasets.load_digits()
    images = (digits.images / 16).astype("float32")[..., np.newaxis]
    train_images, test_images, train_labels, test_labels = (
        model_selection.train_test_split(
            images,
            digits.target.astype("int32"),
            test_size=0.2,
            stratify=digits.target,
            random_state=0,
        )
    )
    return train_images, test_images, train_labels, test_labels


if __name__ == "__main__":
    sys.exit(main())
