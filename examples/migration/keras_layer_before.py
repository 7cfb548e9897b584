import flax.linen as nn
import keras
import numpy as np


class Net(nn.Module):
    @nn.compact
    def __call__(self, inputs, training):
        x = nn.Dense(32)(inputs)
        x = nn.BatchNorm(use_running_average=not training)(x)
        x = nn.Dropout(0.1, deterministic=not training)(nn.relu(x))
        return nn.Dense(1)(x)


def call(module, inputs, training):
    return module(inputs, training=training)


x = np.random.default_rng(0).normal(size=(256, 8)).astype("float32")
y = x[:, :1] * x[:, 1:2]

keras.utils.set_random_seed(0)
layer = keras.layers.FlaxLayer(Net(), method=call)
model = keras.Sequential([keras.Input((8,)), layer])
model.compile("sgd", "mse")
losses = model.fit(x, y, epochs=3, shuffle=False, verbose=0).history["loss"]
print(*losses)
