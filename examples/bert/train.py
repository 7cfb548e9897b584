"""Trains an encoder like BERT to tell languages apart, as a Keras model.

It is in model.py, in Flax, and takes tokens and a mask of those that are
padding. The texts are lines of old poems. It is trained with `fit`, saved, and
loaded again in another process.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")  # Read by the import of keras.

import argparse
import pathlib
import subprocess
import sys
import time

import keras
import numpy as np
import text
from model import BertClassifier

import flaxlayer

_HERE = pathlib.Path(__file__).resolve().parent
_GOAL = 0.8
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
    parser.add_argument("--epochs", type=int, default=6)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)

    keras.utils.set_random_seed(0)
    corpus = text.load()
    layer = flaxlayer.FlaxLayer(
        BertClassifier(corpus.vocabulary, len(corpus.languages)),
        seed=0,
        name="bert",
    )
    tokens = keras.Input((None,), dtype="int32")  # Texts of any length.
    mask = keras.ops.not_equal(tokens, text.PADDING)
    model = keras.Model(tokens, layer(tokens, mask=mask))
    steps = arguments.epochs * -(-len(corpus.train.tokens) // _BATCH)
    model.compile(
        optimizer=keras.optimizers.AdamW(
            keras.optimizers.schedules.CosineDecay(
                0.0, steps, warmup_target=2e-3, warmup_steps=steps // 10
            ),
            weight_decay=0.01,
        ),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.summary()
    start = time.perf_counter()
    model.fit(
        *corpus.train,
        batch_size=_BATCH,
        epochs=arguments.epochs,
        validation_data=corpus.test,
        verbose=2,
    )
    seconds = time.perf_counter() - start

    test, labels = corpus.test
    logits = model.predict(test, verbose=0)
    accuracy = float(np.mean(logits.argmax(axis=1) == labels))
    print(
        f"\ntest accuracy {accuracy:.4f} ({len(labels)} lines; the most "
        f"frequent language has {np.bincount(labels).max() / len(labels):.4f}) "
        f"after {arguments.epochs} epochs in {seconds:.1f} s"
    )
    # A text is the same whatever it is padded to.
    used = int((test != text.PADDING).sum(axis=1).max())
    shorter = model.predict(test[:, :used], verbose=0)
    difference = float(np.abs(shorter - logits).max())
    print(
        f"padded to {used} tokens and to {test.shape[1]}: logits differ by up "
        f"to {difference:.1e}"
    )

    model.save(arguments.out / "model.keras")
    np.savez(arguments.out / "predictions.npz", inputs=test, outputs=logits)
    reloaded = subprocess.run(
        [sys.executable, "-m", "flaxlayer.demo.reload", "model"]
        + [arguments.out, _HERE],
        check=False,
    )

    if accuracy < _GOAL:
        print(f"\nFAILED: test accuracy {accuracy:.4f} is below {_GOAL}")
        return 1
    if difference > 1e-3:
        print("\nFAILED: the padding changes what the model says")
        return 1
    if reloaded.returncode:
        print("\nFAILED: the reloaded model is not the saved one")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
