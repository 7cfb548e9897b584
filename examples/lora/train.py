"""Fine-tunes a classifier of digits to digits that lie on their side.

It is in model.py, in NNX. It is trained on upright digits; then its weights are
frozen, and adapters of low rank are trained on rotated ones. The optimizer has
moments for the adapters alone. The model is saved, and loaded again in another
process.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")  # Read by the import of keras.

import functools
import pathlib
import time
from collections.abc import Iterable, Sequence

import keras
import numpy as np
from absl import app, flags
from flax import nnx
from model import Classifier
from sklearn import datasets, model_selection

import flaxlayer
from flaxlayer.demo import reload

_HERE = pathlib.Path(__file__).resolve().parent
_GOAL = 0.9
_RANK = 8
_BATCH = 64

_OUT = flags.DEFINE_string("out", str(_HERE / "out"), "Where the files go.")
_EPOCHS = flags.DEFINE_integer(
    "epochs", 30, "Epochs of each training.", lower_bound=1
)


def main(argv: Sequence[str]) -> int:
    """Returns 0 if the adapters learn, the base stays, and both are saved."""
    if argv[1:]:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    out = pathlib.Path(_OUT.value)
    out.mkdir(parents=True, exist_ok=True)

    train_images, test_images, train_labels, test_labels = _digits()
    rotated = [np.rot90(x, axes=(1, 2)) for x in (train_images, test_images)]
    base = flaxlayer.FlaxLayer(Classifier, seed=0, name="base")
    trained = _trained(base, train_images, train_labels)
    upright = _accuracy(trained, test_images, test_labels)
    print(f"upright digits        {upright:.4f}")
    before = _accuracy(trained, rotated[1], test_labels)
    print(f"rotated, no adapters  {before:.4f}")

    tuned = flaxlayer.FlaxLayer(
        functools.partial(Classifier, _RANK),
        variables=_with_adapters(base),
        partition={".*/lora_[ab]": "trainable", ".*": "frozen"},
        name="tuned",
    )
    model = _trained(tuned, rotated[0], train_labels)
    after = _accuracy(model, rotated[1], test_labels)
    print(f"rotated, adapters     {after:.4f}")
    # But for its counter of steps and the learning rate.
    moments = _size(model.optimizer.variables) - 2
    adapters = _size(tuned.trainable_weights)
    print(f"trained weights       {adapters} of {_size(tuned.weights)}")
    print(f"moments of Adam       {moments}\n")

    survives = reload.survives(
        model,
        rotated[1],
        model.predict(rotated[1], verbose=0),
        out=out,
        module="model",
        folder=_HERE,
    )
    if after < _GOAL or before > 0.5:
        print(f"\nFAILED: expected {_GOAL} with adapters, and 0.5 without")
        return 1
    if moments != 2 * adapters:
        print("\nFAILED: the optimizer has moments for more than the adapters")
        return 1
    if not _same_base(base, tuned):
        print("\nFAILED: a frozen weight has changed")
        return 1
    if not survives:
        print("\nFAILED: the reloaded model is not the saved one")
        return 1
    return 0


def _trained(
    layer: flaxlayer.FlaxLayer, images: np.ndarray, labels: np.ndarray
) -> keras.Model:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input(images.shape[1:]), layer])
    model.compile(
        optimizer=keras.optimizers.Adam(3e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    start = time.perf_counter()
    model.fit(
        images, labels, batch_size=_BATCH, epochs=_EPOCHS.value, verbose=0
    )
    seconds = time.perf_counter() - start
    print(f"{layer.name}: {_EPOCHS.value} epochs in {seconds:.1f} s")
    return model


def _with_adapters(base: flaxlayer.FlaxLayer) -> nnx.State:
    """What is in the trained module, and in new adapters beside it."""
    module = Classifier(_RANK, rngs=nnx.Rngs(1))
    nnx.update(module, nnx.state(base.merged(), nnx.Param))
    return nnx.state(module)


def _accuracy(
    model: keras.Model, images: np.ndarray, labels: np.ndarray
) -> float:
    logits = model.predict(images, verbose=0)
    return float(np.mean(logits.argmax(axis=1) == labels))


def _size(variables: Iterable[keras.Variable]) -> int:
    return sum(int(np.prod(variable.shape)) for variable in variables)


def _same_base(base: flaxlayer.FlaxLayer, tuned: flaxlayer.FlaxLayer) -> bool:
    """Whether all parameters of the first are in the second, to the bit."""

    def by_path(layer: flaxlayer.FlaxLayer) -> dict[str, np.ndarray]:
        return {
            variable.path.partition("/params/")[2]: np.asarray(variable.value)
            for variable in layer.weights
            if "/params/" in variable.path
        }

    found = by_path(tuned)
    return all(
        np.array_equal(found[path], value)
        for path, value in by_path(base).items()
    )


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
