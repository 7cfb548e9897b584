"""Trains a vision transformer on handwritten digits, as a Keras model.

It is in model.py, in Flax. It is trained with `fit` under a cosine schedule,
saved, and loaded again in another process.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")  # Read by the import of keras.

import pathlib
import time
from collections.abc import Sequence

import keras
import numpy as np
from absl import app, flags
from model import ViT
from sklearn import datasets, model_selection

import flaxlayer
from flaxlayer.demo import reload

_HERE = pathlib.Path(__file__).resolve().parent
_GOAL = 0.95
_BATCH = 64

_OUT = flags.DEFINE_string("out", str(_HERE / "out"), "Where the files go.")
_EPOCHS = flags.DEFINE_integer(
    "epochs", 30, "Epochs of training.", lower_bound=1
)


def main(argv: Sequence[str]) -> int:
    """Returns 0 if the model is good enough and survives saving."""
    if argv[1:]:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    out = pathlib.Path(_OUT.value)
    out.mkdir(parents=True, exist_ok=True)

    keras.utils.set_random_seed(0)
    train_images, test_images, train_labels, test_labels = _digits()
    model = keras.Sequential(
        [
            keras.Input(train_images.shape[1:]),
            flaxlayer.FlaxLayer(ViT(), seed=0, name="vit"),
        ]
    )
    steps = _EPOCHS.value * -(-len(train_images) // _BATCH)
    model.compile(
        optimizer=keras.optimizers.AdamW(
            keras.optimizers.schedules.CosineDecay(
                0.0, steps, warmup_target=3e-3, warmup_steps=steps // 10
            ),
            weight_decay=0.01,
        ),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.summary()
    start = time.perf_counter()
    model.fit(
        train_images,
        train_labels,
        batch_size=_BATCH,
        epochs=_EPOCHS.value,
        validation_data=(test_images, test_labels),
        verbose=2,
    )
    seconds = time.perf_counter() - start
    logits = model.predict(test_images, verbose=0)
    accuracy = float(np.mean(logits.argmax(axis=1) == test_labels))
    print(
        f"\ntest accuracy {accuracy:.4f} ({len(test_labels)} digits) after "
        f"{_EPOCHS.value} epochs in {seconds:.1f} s"
    )

    survives = reload.survives(
        model, test_images, logits, out=out, module="model", folder=_HERE
    )

    if accuracy < _GOAL:
        print(f"\nFAILED: test accuracy {accuracy:.4f} is below {_GOAL}")
        return 1
    if not survives:
        print("\nFAILED: the reloaded model is not the saved one")
        return 1
    return 0


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
    app.run(main)
