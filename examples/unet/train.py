"""Trains a U-Net to take noise off handwritten digits, as a Keras model.

It is in model.py, in Flax. It is measured beside the best Gaussian filter,
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
from model import UNet
from scipy import ndimage
from sklearn import datasets, model_selection

import flaxlayer
from flaxlayer.demo import reload

_HERE = pathlib.Path(__file__).resolve().parent
_SIGMA = 0.4  # Of the noise; pixels are in [0, 1].
_COPIES = 4  # Of each image for training, with other noise.
_BATCH = 64
_GOAL = 3.0  # dB better than the filter.

_OUT = flags.DEFINE_string("out", str(_HERE / "out"), "Where the files go.")
_EPOCHS = flags.DEFINE_integer(
    "epochs", 10, "Epochs of training.", lower_bound=1
)


def main(argv: Sequence[str]) -> int:
    """Returns 0 if the model is good enough and survives saving."""
    if argv[1:]:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    out = pathlib.Path(_OUT.value)
    out.mkdir(parents=True, exist_ok=True)

    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    train_clean, test_clean = model_selection.train_test_split(
        (datasets.load_digits().images / 16).astype("float32")[..., np.newaxis],
        test_size=0.2,
        random_state=0,
    )
    train_clean = np.tile(train_clean, (_COPIES, 1, 1, 1))
    train_noisy = _with_noise(train_clean, rng)
    test_noisy = _with_noise(test_clean, rng)
    model = keras.Sequential(
        [
            keras.Input((None, None, 1)),  # Any height and width.
            flaxlayer.FlaxLayer(UNet(), seed=0, name="unet"),
        ]
    )
    model.compile(keras.optimizers.Adam(2e-3), loss="mse")
    model.summary()
    start = time.perf_counter()
    model.fit(
        train_noisy,
        train_clean,
        batch_size=_BATCH,
        epochs=_EPOCHS.value,
        validation_data=(test_noisy, test_clean),
        verbose=2,
    )
    seconds = time.perf_counter() - start
    denoised = model.predict(test_noisy, verbose=0)
    reached = _psnr(denoised, test_clean)
    width, filtered = _best_filter(test_noisy, test_clean)
    print(f"\nPSNR on {len(test_clean)} test digits:")
    print(f"  with noise       {_psnr(test_noisy, test_clean):.2f} dB")
    print(f"  Gaussian filter  {filtered:.2f} dB (width {width}, the best)")
    print(
        f"  U-Net            {reached:.2f} dB after {_EPOCHS.value} epochs "
        f"in {seconds:.1f} s"
    )

    survives = reload.survives(
        model, test_noisy, denoised, out=out, module="model", folder=_HERE
    )

    if reached < filtered + _GOAL:
        print(f"\nFAILED: the U-Net is not {_GOAL} dB above the filter")
        return 1
    if not survives:
        print("\nFAILED: the reloaded model is not the saved one")
        return 1
    return 0


def _with_noise(clean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return clean + rng.normal(0, _SIGMA, clean.shape).astype("float32")


def _best_filter(noisy: np.ndarray, clean: np.ndarray) -> tuple[float, float]:
    """The width in pixels, chosen on these very images, and the PSNR."""
    found = []
    for width in (0.25, 0.5, 0.75, 1.0, 1.25, 1.5):
        filtered = ndimage.gaussian_filter(noisy, width, axes=(1, 2))
        found.append((_psnr(filtered, clean), width))
    psnr, width = max(found)
    return width, psnr


def _psnr(images: np.ndarray, clean: np.ndarray) -> float:
    """The peak signal-to-noise ratio in dB, over all pixels; the peak is 1."""
    return float(-10 * np.log10(np.mean(np.square(images - clean))))


if __name__ == "__main__":
    app.run(main)
