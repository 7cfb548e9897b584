"""The loss that a mixture of experts sows spreads the load over them."""

import keras
import numpy as np

from examples.moe.model import MoEClassifier
from flaxlayer import FlaxLayer
from tests.examples import small_data

X, Y = small_data.stripes()


def trained(balance):
    """A layer, and what `evaluate` says of its model."""
    module = MoEClassifier(
        classes=2, features=16, experts=8, hidden=8, balance=balance
    )
    layer = FlaxLayer(module, seed=0, name="moe")
    model = keras.Sequential([keras.Input(X.shape[1:]), layer])
    model.compile(
        keras.optimizers.Adam(1e-2),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(X, Y, batch_size=64, epochs=30, shuffle=False, verbose=0)
    return layer, model.evaluate(X, Y, verbose=0, return_dict=True)


def busiest(layer):
    """The share of the images that the expert with the most of them has."""
    _, sown = layer.apply_with_intermediates(X)
    (experts,) = sown["mixture"]["expert"]
    return np.bincount(experts).max() / len(X)


def test_the_balance_loss_makes_the_load_more_even():
    alone, _ = trained(0.0)
    layer, measured = trained(0.1)
    assert busiest(layer) < busiest(alone) - 0.1
    # The metric is the mean over batches, of which none is more even than all.
    assert measured["moe/mixture/busiest"] >= busiest(layer) - 1e-6
    # At its best the loss is its weight: it is part of what Keras minimises.
    assert measured["loss"] > 0.1
