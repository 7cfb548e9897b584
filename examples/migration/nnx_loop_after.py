import keras
import numpy as np
from flax import nnx

import flaxlayer


class Net(nnx.Module):
    def __init__(self, *, rngs):
        self.hidden = nnx.Linear(8, 32, rngs=rngs)
        self.norm = nnx.BatchNorm(32, rngs=rngs)
        self.head = nnx.Linear(32, 1, rngs=rngs)

    def __call__(self, inputs):
        return self.head(nnx.relu(self.norm(self.hidden(inputs))))


x = np.random.default_rng(0).normal(size=(256, 8)).astype("float32")
y = x[:, :1] * x[:, 1:2]

layer = flaxlayer.FlaxLayer(Net(rngs=nnx.Rngs(0)))
model = keras.Sequential([keras.Input((8,)), layer])
model.compile("sgd", "mse")
losses = model.fit(x, y, epochs=3, shuffle=False, verbose=0).history["loss"]
print(*losses)
