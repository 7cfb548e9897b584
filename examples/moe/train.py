"""Trains a mixture of experts on handwritten digits, as a Keras model.

It is in model.py, in Flax. It sows a loss that spreads the digits over the
experts, which the layer adds to what Keras trains on. It is trained without
that loss and with it, and the loads of the experts are compared; then it is
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
from model import MoEClassifier
from sklearn import datasets, model_selection

import flaxlayer
from flaxlayer.demo import reload

_HERE = pathlib.Path(__file__).resolve().parent
_GOAL = 0.95
_BALANCE = 0.01  # The weight of the loss.
_BATCH = 64

_OUT = flags.DEFINE_string("out", str(_HERE / "out"), "Where the files go.")
_EPOCHS = flags.DEFINE_integer(
    "epochs", 30, "Epochs of training.", lower_bound=1
)


def main(argv: Sequence[str]) -> int:
    """Returns 0 if the loss spreads the load and the model survives saving."""
    if argv[1:]:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    out = pathlib.Path(_OUT.value)
    out.mkdir(parents=True, exist_ok=True)

    data = _digits()
    _, test_images, _, test_labels = data
    _, unbalanced = _trained(0.0, data, _EPOCHS.value)
    model, balanced = _trained(_BALANCE, data, _EPOCHS.value)
    logits = model.predict(test_images, verbose=0)
    accuracy = float(np.mean(logits.argmax(axis=1) == test_labels))

    survives = reload.survives(
        model, test_images, logits, out=out, module="model", folder=_HERE
    )

    if accuracy < _GOAL:
        print(f"\nFAILED: test accuracy {accuracy:.4f} is below {_GOAL}")
        return 1
    if balanced < unbalanced + 1:
        print("\nFAILED: the loss did not bring at least one expert into use")
        return 1
    if not survives:
        print("\nFAILED: the reloaded model is not the saved one")
        return 1
    return 0


def _trained(
    balance: float, data: tuple[np.ndarray, ...], epochs: int
) -> tuple[keras.Model, float]:
    """The model and how many experts it uses, see `_in_use`."""
    train_images, test_images, train_labels, test_labels = data
    keras.utils.set_random_seed(0)
    module = MoEClassifier(balance=balance)
    layer = flaxlayer.FlaxLayer(module, seed=0, name="moe")
    model = keras.Sequential([keras.Input(train_images.shape[1:]), layer])
    model.compile(
        optimizer=keras.optimizers.Adam(2e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    start = time.perf_counter()
    model.fit(
        train_images,
        train_labels,
        batch_size=_BATCH,
        epochs=epochs,
        verbose=0,
    )
    seconds = time.perf_counter() - start
    measured = model.evaluate(
        test_images, test_labels, verbose=0, return_dict=True
    )
    _, sown = layer.apply_with_intermediates(test_images)
    (experts,) = sown["mixture"]["expert"]
    load = np.bincount(experts, minlength=module.experts)
    print(f"balance loss times {balance}, {epochs} epochs in {seconds:.1f} s")
    for name, value in measured.items():
        print(f"  {name:<24}{value:.4f}")
    print(f"  {'digits for each expert':<24}{', '.join(map(str, load))}")
    print(f"  {'experts in use':<24}{_in_use(load):.2f}\n")
    return model, _in_use(load)


def _in_use(load: np.ndarray) -> float:
    """The number of experts that, with even loads, had the same entropy."""
    share = load[load > 0] / load.sum()
    return float(np.exp(-np.sum(share * np.log(share))))


def _digits() -> tuple[np.ndarray, ...]:
    """Images `[n, 8, 8]` in [0, 1] and digits `[n]`: train, test."""
    digits = datasets.load_digits()
    train_images, test_images, train_labels, test_labels = (
        model_selection.train_test_split(
            (digits.images / 16).astype("float32"),
            digits.target.astype("int32"),
            test_size=0.2,
            stratify=digits.target,
            random_state=0,
        )
    )
    return train_images, test_images, train_labels, test_labels


if __name__ == "__main__":
    app.run(main)
