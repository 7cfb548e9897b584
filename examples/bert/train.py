"""Trains an encoder like BERT to tell languages apart, as a Keras model.

It is in model.py, in Flax, and takes tokens and a mask of those that are
padding. The texts are lines of old poems. It is trained with `fit`, saved, and
loaded again in another process.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")  # Read by the import of keras.

import pathlib
import time
from collections.abc import Sequence

import keras
import numpy as np
import text
from absl import app, flags
from model import BertClassifier

import flaxlayer
from flaxlayer.demo import reload

_HERE = pathlib.Path(__file__).resolve().parent
_GOAL = 0.8
_BATCH = 64

_OUT = flags.DEFINE_string("out", str(_HERE / "out"), "Where the files go.")
_EPOCHS = flags.DEFINE_integer(
    "epochs", 6, "Epochs of training.", lower_bound=1
)


def main(argv: Sequence[str]) -> int:
    """Returns 0 if the model is good enough and survives saving."""
    if argv[1:]:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    out = pathlib.Path(_OUT.value)
    out.mkdir(parents=True, exist_ok=True)

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
    steps = _EPOCHS.value * -(-len(corpus.train.tokens) // _BATCH)
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
        epochs=_EPOCHS.value,
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
        f"after {_EPOCHS.value} epochs in {seconds:.1f} s"
    )
    # A text is the same whatever it is padded to.
    used = int((test != text.PADDING).sum(axis=1).max())
    shorter = model.predict(test[:, :used], verbose=0)
    difference = float(np.abs(shorter - logits).max())
    print(
        f"padded to {used} tokens and to {test.shape[1]}: logits differ by up "
        f"to {difference:.1e}"
    )

    survives = reload.survives(
        model, test, logits, out=out, module="model", folder=_HERE
    )

    if accuracy < _GOAL:
        print(f"\nFAILED: test accuracy {accuracy:.4f} is below {_GOAL}")
        return 1
    if difference > 1e-3:
        print("\nFAILED: the padding changes what the model says")
        return 1
    if not survives:
        print("\nFAILED: the reloaded model is not the saved one")
        return 1
    return 0


if __name__ == "__main__":
    app.run(main)
