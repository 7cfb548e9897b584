"""Trains a language model on Shakespeare's sonnets, as a Keras model.

It is in model.py, in Flax, and has a key-value cache. It is trained with `fit`,
saved, and loaded again in another process; then it writes on from a line, with
the cache and without.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")  # Read by the import of keras.

import pathlib
import time
from collections.abc import Sequence

import generation
import jax.numpy as jnp
import keras
import numpy as np
from absl import app, flags
from model import Decoder

import flaxlayer
from flaxlayer.demo import reload

_HERE = pathlib.Path(__file__).resolve().parent
_LENGTH = 64  # Of the texts in training, in characters.
_STRIDE = 8  # From one to the next.
_BATCH = 32
_PROMPT = "Shall I compare thee to "

_OUT = flags.DEFINE_string("out", str(_HERE / "out"), "Where the files go.")
_EPOCHS = flags.DEFINE_integer(
    "epochs", 20, "Epochs of training.", lower_bound=1
)


def main(argv: Sequence[str]) -> int:
    """Returns 0 if the model is good enough and survives saving."""
    if argv[1:]:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    out = pathlib.Path(_OUT.value)
    out.mkdir(parents=True, exist_ok=True)

    keras.utils.set_random_seed(0)
    poems = (_HERE / "sonnets.txt").read_text(encoding="utf-8")
    characters = sorted(set(poems))
    tokens = np.array([characters.index(c) for c in poems], np.int32)
    # The last sonnet is for the test.
    split = poems.rstrip().rindex("\n\n") + 2
    train, test = tokens[:split], tokens[split:]

    layer = flaxlayer.FlaxLayer(
        Decoder(len(characters)),
        collections={"cache": "transient"},
        seed=0,
        name="decoder",
    )
    inputs = keras.Input((None,), dtype="int32")  # Texts of any length.
    logits, _ = layer(inputs)  # Nothing is cached in training.
    model = keras.Model(inputs, logits)
    model.compile(
        optimizer=keras.optimizers.AdamW(2e-3, weight_decay=0.01),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.summary()
    start = time.perf_counter()
    model.fit(
        *_texts(train),
        batch_size=_BATCH,
        epochs=_EPOCHS.value,
        validation_data=_texts(test),
        verbose=2,
    )
    seconds = time.perf_counter() - start
    inputs, targets = _texts(test)
    outputs = model.predict(inputs, verbose=0)
    bits = _bits(outputs, targets)
    pairs = _bits_of_pairs(train, test, len(characters))
    print(
        f"\n{bits:.2f} bits for each character of the last sonnet, after "
        f"{_EPOCHS.value} epochs in {seconds:.1f} s; with the frequencies "
        f"of pairs {pairs:.2f}"
    )
    alike = _write(layer, characters)

    survives = reload.survives(
        model, inputs, outputs, out=out, module="model", folder=_HERE
    )

    if bits > pairs:
        print("\nFAILED: the frequencies of pairs predict better")
        return 1
    if not alike:
        print("\nFAILED: with the cache the model writes something else")
        return 1
    if not survives:
        print("\nFAILED: the reloaded model is not the saved one")
        return 1
    return 0


def _write(layer: flaxlayer.FlaxLayer, characters: list[str]) -> bool:
    """Prints what the model writes; whether it is the same without cache."""
    prompt = jnp.array([[characters.index(c) for c in _PROMPT]], jnp.int32)
    count = layer.module.max_length - len(_PROMPT)
    results = []
    for generate in (generation.with_cache, generation.without_cache):
        generate(layer, prompt, count)  # Compiles.
        start = time.perf_counter()
        tokens, logits = generate(layer, prompt, count)
        tokens, logits = np.asarray(tokens), np.asarray(logits)
        each = (time.perf_counter() - start) / count
        print(f"{generate.__name__}: {each * 1e3:.2f} ms for each character")
        results.append((tokens, logits))
    (cached, cached_logits), (whole, whole_logits) = results
    difference = float(np.abs(cached_logits - whole_logits).max())
    print(f"logits differ by up to {difference:.1e}; it writes\n")
    print(_PROMPT + "".join(characters[i] for i in cached[0]) + "\n")
    return np.array_equal(cached, whole) and difference < 1e-3


def _texts(tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Texts `[n, length]`, and of each character the one that follows."""
    starts = np.arange(0, len(tokens) - _LENGTH, _STRIDE)
    texts = tokens[starts[:, np.newaxis] + np.arange(_LENGTH + 1)]
    return texts[:, :-1], texts[:, 1:]


def _bits(logits: np.ndarray, targets: np.ndarray) -> float:
    """What the targets cost, for each of them, with these predictions."""
    nats = keras.losses.sparse_categorical_crossentropy(
        targets, logits, from_logits=True
    )
    return float(np.mean(nats) / np.log(2))


def _bits_of_pairs(train: np.ndarray, test: np.ndarray, size: int) -> float:
    """The same for a model that knows only the character before.

    Pairs are counted, each once more than it is there by a tenth: about what
    predicts best.
    """
    counts = np.full((size, size), 0.1)
    np.add.at(counts, (train[:-1], train[1:]), 1)
    logits = np.log(counts)
    inputs, targets = _texts(test)
    return _bits(logits[inputs].astype("float32"), targets)


if __name__ == "__main__":
    app.run(main)
