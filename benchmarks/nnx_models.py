"""The model that is measured as a module of NNX."""

import dataclasses

import jax
import numpy as np
from flax import nnx

from benchmarks import models


class Block(nnx.Module):
    """A pre-norm transformer block, as `models.Block` is.

    Args:
        features: the size of the last axis.
        heads: of the attention.
        dropout: the rate, for attention weights and both branches.
        rngs: what weights and dropouts are made of.
    """

    def __init__(
        self, features: int, heads: int, dropout: float, *, rngs: nnx.Rngs
    ):
        self.before = nnx.LayerNorm(features, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(
            heads,
            features,
            dropout_rate=dropout,
            decode=False,
            rngs=rngs,
        )
        self.after = nnx.LayerNorm(features, rngs=rngs)
        self.up = nnx.Linear(features, 4 * features, rngs=rngs)
        self.down = nnx.Linear(4 * features, features, rngs=rngs)
        self.drops = nnx.List(
            [nnx.Dropout(dropout, rngs=rngs) for _ in range(3)]
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        """`[batch, length, features]` to the same shape."""
        x = x + self.drops[0](self.attention(self.before(x)))
        y = self.drops[1](nnx.gelu(self.up(self.after(x))))
        return x + self.drops[2](self.down(y))


class Transformer(nnx.Module):
    """A transformer encoder with dropout and a mean-pooled head.

    Args:
        blocks: how many there are.
        width: of the inputs.
        features: of the blocks.
        heads: of the attention.
        dropout: the rate.
        classes: how many logits there are.
        rngs: what weights and dropouts are made of.
    """

    def __init__(
        self,
        blocks: int = 6,
        width: int = 16,
        features: int = 64,
        heads: int = 4,
        dropout: float = 0.1,
        classes: int = 10,
        *,
        rngs: nnx.Rngs,
    ):
        self.embed = nnx.Linear(width, features, rngs=rngs)
        self.blocks = nnx.List(
            [Block(features, heads, dropout, rngs=rngs) for _ in range(blocks)]
        )
        self.head = nnx.Linear(features, classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits for `[batch, length, width]`."""
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(1))


@dataclasses.dataclass(frozen=True)
class Workload:
    """A class of modules with the inputs it is measured on.

    Attributes:
        blocks: how many blocks the transformer has.
        shape: of one input, without the batch.
        batch: how many of them are in a step.
    """

    blocks: int = 6
    shape: tuple[int, ...] = (32, 16)
    batch: int = 32

    def module(self, *, rngs: nnx.Rngs) -> nnx.Module:
        """The module."""
        return Transformer(self.blocks, rngs=rngs)

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Random inputs and labels for a step, the same every time."""
        transformer = models.WORKLOADS[models.TRANSFORMER]
        return dataclasses.replace(
            transformer, shape=self.shape, batch=self.batch
        ).data(1)
