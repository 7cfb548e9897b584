import flax.linen as nn
import keras
import numpy as np

import flaxlayer


class Net(nn.Module):
    @nn.compact
    def __call__(self, inputs, training):
        x = nn.Dense(32)(inputs)
        x = nn.BatchNorm(use_running_average=not training)(x)
        return nn.Dense(1)(nn.relu(x))


x = np.random.default_rng(0).normal(size=(256, 8)).astype("float32")
y = x[:, :1] * x[:, 1:2]

layer = flaxlayer.FlaxLayer(Net(), seed=0)
model = keras.Sequential([keras.Input((8,)), layer])
model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "mse")
losses = model.fit(x, y, epochs=3, shuffle=False, verbose=0).history["loss"]
print(*losses)
