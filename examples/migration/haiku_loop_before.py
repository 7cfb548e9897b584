import haiku as hk
import jax
import numpy as np
import optax


def net(inputs, training):
    x = hk.Linear(32)(inputs)
    x = hk.BatchNorm(True, True, decay_rate=0.9)(x, is_training=training)
    return hk.Linear(1)(jax.nn.relu(x))


x = np.random.default_rng(0).normal(size=(256, 8)).astype("float32")
y = x[:, :1] * x[:, 1:2]

transformed = hk.transform_with_state(net)
params, state = transformed.init(jax.random.key(0), x[:1], training=True)
optimizer = optax.sgd(0.01)
optimizer_state = optimizer.init(params)


@jax.jit
def step(params, state, optimizer_state, x, y):
    def loss_fn(params):
        outputs, new = transformed.apply(params, state, None, x, training=True)
        return ((outputs - y) ** 2).mean(), new

    (loss, state), gradients = jax.value_and_grad(loss_fn, has_aux=True)(params)
    updates, optimizer_state = optimizer.update(gradients, optimizer_state)
    return loss, optax.apply_updates(params, updates), state, optimizer_state


losses = []
for _ in range(3):
    sums = []
    for start in range(0, len(x), 32):
        batch = x[start : start + 32], y[start : start + 32]
        loss, params, state, optimizer_state = step(
            params, state, optimizer_state, *batch
        )
        sums.append(float(loss))
    losses.append(np.mean(sums))
print(*losses)
