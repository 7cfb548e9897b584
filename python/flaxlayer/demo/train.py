"""Trains a Flax network on handwritten digits, as a Keras model.

The network is in model.py. It is trained with `fit`, saved, and loaded again
in another process; a folder is left with the model and a picture.
"""

import pathlib
import time
from typing import Any, NamedTuple

import keras
import numpy as np
from sklearn import datasets, model_selection

import flaxlayer
from flaxlayer.demo import figure, reload, timing
from flaxlayer.demo.model import DigitClassifier

_BATCH = 64


class _Length(NamedTuple):
    """How long is trained, and the accuracy that must come of it."""

    epochs: int
    goal: float


_WHOLE = _Length(25, 0.97)
_SHORT = _Length(5, 0.95)


def run(out: pathlib.Path, *, short: bool = False) -> int:
    """Trains, saves, reloads, draws and measures.

    Args:
        out: an existing folder for the model and the picture.
        short: whether to train for a few epochs and to measure no times.

    Returns:
        0 if the model is good enough and survives saving, else 1.
    """
    length = _SHORT if short else _WHOLE
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
        epochs=length.epochs,
        validation_data=(test_images, test_labels),
    )
    seconds = time.perf_counter() - start
    logits = model.predict(test_images, verbose=0)
    accuracy = float(np.mean(logits.argmax(axis=1) == test_labels))
    print(
        f"\ntest accuracy {accuracy:.4f} ({len(test_labels)} digits) after "
        f"{length.epochs} epochs in {seconds:.1f} s"
    )

    survives = reload.survives(
        model, test_images, logits, out=out, module=DigitClassifier.__module__
    )

    picture = out / "digits.png"
    figure.save(picture, history.history, test_images, test_labels, logits)
    print(f"picture: {picture}\n")
    print(flaxlayer.explain_kernels())
    if not short:
        batch = train_images[:_BATCH], train_labels[:_BATCH]
        print("\n" + timing.table(module, *batch, _compile))

    problems = []
    if accuracy < length.goal:
        problems.append(f"test accuracy {accuracy:.4f} is below {length.goal}")
    if not survives:
        problems.append("the reloaded model is not the saved one")
    for problem in problems:
        print(f"\nFAILED: {problem}")
    return 1 if problems else 0


def _compile(model: keras.Model) -> None:
    model.compile(
        optimizer=keras.optimizers.Adam(2e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )


def _digits() -> tuple[np.ndarray, ...]:
    """Images `[n, 8, 8, 1]` in [0, 1] and digits `[n]`: train, test."""
    digits: Any = datasets.load_digits()
    train_images, test_images, train_labels, test_labels = (
        model_selection.train_test_split(
            (digits.images / 16).astype("float32")[..., np.newaxis],
            digits.target.astype("int32"),
            test_size=0.2,
            stratify=digits.target,
            random_state=0,
        )
    )
    return train_images, test_images, train_labels, test_labels
