import haiku as hk
import jax
import keras
import numpy as np

import flaxlayer


def net(inputs, training):
    x = hk.Linear(32)(inputs)
    x = hk.BatchNorm(True, True, decay_rate=0.9)(x, is_training=training)
    return hk.Linear(1)(jax.nn.relu(x))


x = np.random.default_rng(0).normal(size=(256, 8)).astype("float32")
y = x[:, :1] * x[:, 1:2]

transformed = hk.transform_with_state(net)
layer = flaxlayer.JaxLayer(transformed.apply, transformed.init, seed=0)
model = keras.Sequential([keras.Input((8,)), layer])
model.compile("sgd", "mse")
losses = model.fit(x, y, epochs=3, shuffle=False, verbose=0).history["loss"]
print(*losses)
