"""What the tests inside Keras models share: modules, data, a short fit."""

import flax.linen as nn
import jax
import keras
import numpy as np

RNG = np.random.default_rng(0)
X = RNG.normal(size=(16, 4)).astype(np.float32) + 1.0
Y = X @ np.array([[1.0, 0], [0, 1], [1, 1], [0, 0]], np.float32)


class Net(nn.Module):
    """Has parameters, batch statistics and dropout."""

    features: int = 2

    @nn.compact
    def __call__(self, inputs, training=False):
        x = nn.BatchNorm(use_running_average=not training)(inputs)
        x = nn.Dropout(0.1, deterministic=not training)(x)
        return nn.Dense(self.features)(x)


class Linear(nn.Module):
    features: int = 2

    @nn.compact
    def __call__(self, inputs):
        return nn.Dense(self.features)(inputs)


class Embedding(nn.Module):
    @nn.compact
    def __call__(self, inputs):
        return nn.Embed(10, 3)(inputs).mean(1)


def values(layer):
    return [np.array(v.value) for v in layer.variables]


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def compiled(model, rate=0.05):
    model.compile(keras.optimizers.SGD(rate), "mse")
    return model


def fit(model, x=X, y=Y, **kwargs):
    return model.fit(x, y, batch_size=8, shuffle=False, verbose=0, **kwargs)


def program(layer, inputs, training=True):
    """The lowered text of one call of a layer."""

    def call(trainable, other, x):
        return layer.stateless_call(trainable, other, x, training=training)

    arguments = (layer.trainable_variables, layer.non_trainable_variables)
    arrays = jax.tree_util.tree_map(lambda v: v.value, arguments)
    return jax.jit(call).lower(*arrays, inputs).as_text()
