"""NNX modules train in a layer as in a loop of plain NNX, to the last bit."""

import jax
import keras
import numpy as np
import optax
import pytest
from flax import nnx

from flaxlayer import FlaxLayer
from tests.python.nnx.nnx_networks import (
    Adapted,
    Language,
    Network,
    Stack,
    assert_same,
    data,
)

RANDOM = np.random.RandomState(0)
CASES = {
    "cnn": (
        Network,
        RANDOM.rand(32, 8, 8, 1).astype("float32"),
        RANDOM.randint(0, 3, 32),
    ),
    "adapters": (
        Adapted,
        RANDOM.randn(32, 6).astype("float32"),
        RANDOM.randint(0, 3, 32),
    ),
    "stack": (
        Stack,
        RANDOM.randn(32, 6).astype("float32"),
        RANDOM.randint(0, 3, 32),
    ),
    "language": (
        Language,
        RANDOM.randint(0, 17, (32, 12)).astype("int32"),
        RANDOM.randint(0, 17, (32, 12)),
    ),
}
STEPS = 6
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def trained(module):
    """Parameters and statistics, and how often each stream has drawn."""
    return data(module, nnx.Any(nnx.Param, nnx.BatchStat, nnx.RngCount))


def wrt(make):
    """What of a module is trained."""
    return nnx.LoRAParam if make is Adapted else nnx.Param


def with_nnx_optimizer(make, x, y):
    """Losses and module of a loop as Flax's tutorials write it."""
    module = make(rngs=nnx.Rngs(7))
    module.train()
    optimizer = nnx.Optimizer(module, optax.sgd(0.1), wrt=wrt(make))

    @nnx.jit
    def step(module, optimizer, x, y):
        value_and_grad = nnx.value_and_grad(
            lambda m: LOSS(y, m(x)), argnums=nnx.DiffState(0, wrt(make))
        )
        loss, grads = value_and_grad(module)
        optimizer.update(module, grads)
        return loss

    return [float(step(module, optimizer, x, y)) for _ in range(STEPS)], module


def with_keras_adam(make, x, y):
    """The same with Keras's Adam on the parameters."""
    module = make(rngs=nnx.Rngs(7))
    module.train()
    graphdef, params, rest = nnx.split(module, wrt(make), ...)
    # In the order of a layer's weights, which is that of sorted paths.
    leaves, treedef = jax.tree.flatten(nnx.to_pure_dict(params))
    optimizer = keras.optimizers.Adam(0.01)
    optimizer.build([keras.Variable(leaf) for leaf in leaves])
    slots = [v.value for v in optimizer.variables]

    @jax.jit
    def step(leaves, slots, rest, x, y):
        def loss_of(leaves):
            nnx.replace_by_pure_dict(params, treedef.unflatten(leaves))
            module = nnx.merge(graphdef, params, rest, copy=True)
            loss = LOSS(y, module(x))
            return loss, nnx.split(module, wrt(make), ...)[2]

        (loss, rest), grads = jax.value_and_grad(loss_of, has_aux=True)(leaves)
        leaves, slots = optimizer.stateless_apply(slots, grads, leaves)
        return loss, leaves, slots, rest

    losses = []
    for _ in range(STEPS):
        loss, leaves, slots, rest = step(leaves, slots, rest, x, y)
        losses.append(float(loss))
    nnx.replace_by_pure_dict(params, treedef.unflatten(leaves))
    return losses, nnx.merge(graphdef, params, rest)


LOOPS = {
    "sgd": (with_nnx_optimizer, lambda: keras.optimizers.SGD(0.1)),
    "adam": (with_keras_adam, lambda: keras.optimizers.Adam(0.01)),
}


@pytest.mark.parametrize("kernels", ["native", "reference"])
@pytest.mark.parametrize("way", ["class", "instance"])
@pytest.mark.parametrize("optimizer", LOOPS)
@pytest.mark.parametrize("case", CASES)
def test_training_has_the_bits_of_a_loop(
    case, optimizer, way, kernels, native_kernels
):
    make, x, y = CASES[case]
    loop, made = LOOPS[optimizer]
    losses, module = loop(make, x, y)
    given = make if way == "class" else make(rngs=nnx.Rngs(7))
    seed = 7 if way == "class" else None
    partition = (
        {nnx.LoRAParam: "trainable", nnx.Param: "frozen"}
        if make is Adapted
        else None
    )
    layer = FlaxLayer(given, seed=seed, kernels=kernels, partition=partition)
    model = keras.Sequential([keras.Input(x.shape[1:], dtype=x.dtype), layer])
    model.compile(made(), LOSS)
    history = model.fit(
        x, y, batch_size=32, shuffle=False, epochs=STEPS, verbose=0
    ).history["loss"]
    assert history == losses
    assert_same(trained(layer.merged()), trained(module))
