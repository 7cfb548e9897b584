"""Data that small models learn in a few steps."""

import pathlib

import numpy as np

_POEMS = pathlib.Path(__file__).parents[2] / "examples/decoder/sonnets.txt"
VOCABULARY = 128


def stripes(
    count: int = 128, noise: float = 0.2
) -> tuple[np.ndarray, np.ndarray]:
    """Images `[count, 8, 8, 1]` of stripes, and 1 for those that lie down.

    Without noise they are the same ones.
    """
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, count).astype("int32")
    phases = rng.uniform(0, 2 * np.pi, count)
    standing = np.sin(np.arange(8) * 1.5 + phases[:, np.newaxis])
    images = np.repeat(standing[:, np.newaxis, :], 8, axis=1)
    images[labels == 1] = images[labels == 1].swapaxes(1, 2)
    images = images + noise * rng.normal(size=images.shape)
    return images[..., np.newaxis].astype("float32"), labels


def tokens(length: int, count: int = 64) -> np.ndarray:
    """The ASCII codes of pieces of sonnets, `[count, length]`, int32."""
    codes = np.frombuffer(_POEMS.read_bytes(), np.uint8).astype("int32")
    return codes[: count * length].reshape(count, length)
