import numpy as np
import optax
from flax import nnx


class Net(nnx.Module):
    def __init__(self, *, rngs):
        self.hidden = nnx.Linear(8, 32, rngs=rngs)
        self.norm = nnx.BatchNorm(32, rngs=rngs)
        self.head = nnx.Linear(32, 1, rngs=rngs)

    def __call__(self, inputs):
        return self.head(nnx.relu(self.norm(self.hidden(inputs))))


x = np.random.default_rng(0).normal(size=(256, 8)).astype("float32")
y = x[:, :1] * x[:, 1:2]

module = Net(rngs=nnx.Rngs(0))
optimizer = nnx.Optimizer(module, optax.sgd(0.01), wrt=nnx.Param)
module.train()


@nnx.jit
def step(module, optimizer, x, y):
    def loss_fn(module):
        return ((module(x) - y) ** 2).mean()

    loss, gradients = nnx.value_and_grad(loss_fn)(module)
    optimizer.update(module, gradients)
    return loss


losses = []
for _ in range(3):
    sums = []
    for start in range(0, len(x), 32):
        batch = x[start : start + 32], y[start : start + 32]
        sums.append(float(step(module, optimizer, *batch)))
    losses.append(np.mean(sums))
print(*losses)
