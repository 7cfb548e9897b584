"""Adapters learn what the base was not trained for, and the base stays."""

import functools

import keras
import numpy as np
from flax import nnx

from examples.lora.model import Classifier
from flaxlayer import FlaxLayer
from tests.examples import small_data

X, Y = small_data.stripes()
SMALL = functools.partial(Classifier, features=16, depth=1, classes=2)


def trained(layer, labels):
    model = keras.Sequential([keras.Input(X.shape[1:]), layer])
    model.compile(
        keras.optimizers.Adam(1e-2),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(X, labels, epochs=20, shuffle=False, verbose=0)
    return model


def values(layer):
    """Parameters by their NNX paths."""
    return {
        variable.path.partition("/params/")[2]: np.array(
            variable.value, copy=True
        )
        for variable in layer.weights
        if "/params/" in variable.path
    }


def test_adapters_learn_the_opposite_of_what_their_base_knows():
    base = FlaxLayer(SMALL, seed=0)
    trained(base, Y)
    module = SMALL(4, rngs=nnx.Rngs(1))
    nnx.update(module, nnx.state(base.merged(), nnx.Param))
    tuned = FlaxLayer(
        functools.partial(SMALL, 4),
        variables=nnx.state(module),
        partition={".*/lora_[ab]": "trainable", ".*": "frozen"},
    )
    # Before they are trained they change nothing.
    np.testing.assert_allclose(tuned(X), base(X), atol=1e-5)
    model = trained(tuned, 1 - Y)
    assert model.evaluate(X, 1 - Y, verbose=0)[1] > 0.9
    before, after = values(base), values(tuned)
    assert before.keys() < after.keys()
    for path, value in before.items():
        assert value.tobytes() == after[path].tobytes(), path
    sizes = [
        sum(np.prod(v.shape) for v in group)
        for group in (model.optimizer.variables, tuned.trainable_weights)
    ]
    assert sizes[0] - 2 == 2 * sizes[1]
