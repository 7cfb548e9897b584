"""Networks of NNX modules that tests train, and what is in them."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx


def data(module, *filters):
    """Copies of the values of a module by path, keys as their data."""
    found = {}
    state = nnx.to_pure_dict(nnx.state(module, *filters))
    for path, value in jax.tree.leaves_with_path(state):
        if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
            value = jax.random.key_data(value)
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        found[name] = np.array(value, copy=True)
    return found


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        assert first[name].tobytes() == second[name].tobytes(), name


class Network(nnx.Module):
    """Convolution, batch statistics and dropout."""

    def __init__(self, width=8, classes=3, *, rngs):
        self.conv = nnx.Conv(1, width, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(width, rngs=rngs)
        self.drop = nnx.Dropout(0.3, rngs=rngs)
        self.head = nnx.Linear(width, classes, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.norm(self.conv(x)))
        return self.head(self.drop(x.mean((1, 2))))


class Adapted(nnx.Module):
    """A frozen base with adapters, of which only these are trained."""

    def __init__(self, *, rngs):
        self.hidden = nnx.LoRALinear(6, 16, lora_rank=2, rngs=rngs)
        self.drop = nnx.Dropout(0.2, rngs=rngs)
        self.head = nnx.LoRALinear(16, 3, lora_rank=2, rngs=rngs)

    def __call__(self, x):
        return self.head(self.drop(nnx.relu(self.hidden(x))))


class Stack(nnx.Module):
    """Layers whose weights are stacked, one after the other."""

    def __init__(self, *, rngs):
        @nnx.split_rngs(splits=3)
        @nnx.vmap(in_axes=(0,), out_axes=0)
        def make(rngs):
            return nnx.Sequential(
                nnx.Linear(6, 6, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)
            )

        self.layers = make(rngs)
        self.head = nnx.Linear(6, 3, rngs=rngs)

    def __call__(self, x):
        @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
        def forward(layer, x):
            return nnx.tanh(layer(x))

        return self.head(forward(self.layers, x))


class Block(nnx.Module):
    def __init__(self, width, heads, *, rngs):
        self.before = nnx.LayerNorm(width, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(
            num_heads=heads,
            in_features=width,
            dropout_rate=0.1,
            decode=False,
            rngs=rngs,
        )
        self.after = nnx.LayerNorm(width, rngs=rngs)
        self.up = nnx.Linear(width, 2 * width, rngs=rngs)
        self.down = nnx.Linear(2 * width, width, rngs=rngs)
        self.drop = nnx.Dropout(0.1, rngs=rngs)

    def __call__(self, x):
        x = x + self.attention(self.before(x))
        hidden = nnx.gelu(self.up(self.after(x)))
        return x + self.drop(self.down(hidden))


class Language(nnx.Module):
    """A small language model, whose embedding is its head as well."""

    def __init__(self, vocabulary=17, width=16, heads=2, depth=2, *, rngs):
        self.embed = nnx.Embed(vocabulary, width, rngs=rngs)
        self.position = nnx.Param(
            jax.random.normal(rngs.params(), (12, width)) * 0.02
        )
        self.blocks = nnx.List(
            [Block(width, heads, rngs=rngs) for _ in range(depth)]
        )
        self.norm = nnx.LayerNorm(width, rngs=rngs)

    def __call__(self, tokens):
        x = self.embed(tokens) + self.position[...]
        for block in self.blocks:
            x = block(x)
        return self.embed.attend(self.norm(x))
