"""Trains the model and says what it used."""

import numpy as np
from app import model

import flaxlayer


def main() -> None:
    """Prints the loss before and after, and which kernels there are."""
    random = np.random.RandomState(0)
    x = random.randn(256, 8).astype("float32")
    y = x[:, :3].argmax(axis=1).astype("int32")
    classifier = model.build(features=8)
    before = classifier.evaluate(x, y, verbose=0)
    classifier.fit(x, y, epochs=5, verbose=0)
    after = classifier.evaluate(x, y, verbose=0)
    print(f"loss {before:.3f}, after training {after:.3f}")
    print(flaxlayer.explain_kernels())


if __name__ == "__main__":
    main()
