import flax.linen as nn
import jax
import numpy as np
import optax


class Net(nn.Module):
    @nn.compact
    def __call__(self, inputs, training):
        x = nn.Dense(32)(inputs)
        x = nn.BatchNorm(use_running_average=not training)(x)
        return nn.Dense(1)(nn.relu(x))


x = np.random.default_rng(0).normal(size=(256, 8)).astype("float32")
y = x[:, :1] * x[:, 1:2]

module = Net()
variables = module.init(jax.random.key(0), x[:1], training=False)
params, batch_stats = variables["params"], variables["batch_stats"]
optimizer = optax.sgd(0.01, momentum=0.9)
optimizer_state = optimizer.init(params)


@jax.jit
def step(params, batch_stats, optimizer_state, x, y):
    def loss_fn(params):
        variables = {"params": params, "batch_stats": batch_stats}
        outputs, new = module.apply(
            variables, x, training=True, mutable=["batch_stats"]
        )
        return ((outputs - y) ** 2).mean(), new["batch_stats"]

    (loss, batch_stats), gradients = jax.value_and_grad(loss_fn, has_aux=True)(
        params
    )
    updates, optimizer_state = optimizer.update(gradients, optimizer_state)
    params = optax.apply_updates(params, updates)
    return loss, params, batch_stats, optimizer_state


losses = []
for _ in range(3):
    sums = []
    for start in range(0, len(x), 32):
        batch = x[start : start + 32], y[start : start + 32]
        loss, params, batch_stats, optimizer_state = step(
            params, batch_stats, optimizer_state, *batch
        )
        sums.append(float(loss))
    losses.append(np.mean(sums))
print(*losses)
