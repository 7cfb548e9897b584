"""A classifier in NNX, with adapters beside its matrices or without."""

import jax
import jax.numpy as jnp
from flax import nnx


class Classifier(nnx.Module):
    """Layers with a residual around each but the first and the last.

    Args:
        rank: of the adapters; 0 for none. The weights that are there either
            way have the same paths.
        inputs: how many numbers an input has.
        features: of the hidden layers.
        depth: how many of these have a residual.
        classes: how many logits there are.
        dropout: the rate, before the head.
        rngs: what weights and dropout are made of.
    """

    def __init__(
        self,
        rank: int = 0,
        *,
        inputs: int = 64,
        features: int = 128,
        depth: int = 2,
        classes: int = 10,
        dropout: float = 0.2,
        rngs: nnx.Rngs,
    ):
        def linear(fan_in: int, fan_out: int) -> nnx.Module:
            if rank:
                return nnx.LoRALinear(
                    fan_in, fan_out, lora_rank=rank, rngs=rngs
                )
            return nnx.Linear(fan_in, fan_out, rngs=rngs)

        self.embed = linear(inputs, features)
        self.blocks = nnx.List(
            [linear(features, features) for _ in range(depth)]
        )
        self.norms = nnx.List(
            [nnx.LayerNorm(features, rngs=rngs) for _ in range(depth)]
        )
        self.drop = nnx.Dropout(dropout, rngs=rngs)
        self.head = linear(features, classes)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits `[batch, classes]` for `[batch, ...]`."""
        x = nnx.gelu(self.embed(jnp.reshape(x, (x.shape[0], -1))))
        for block, norm in zip(self.blocks, self.norms, strict=True):
            x = x + nnx.gelu(block(norm(x)))
        return self.head(self.drop(x))
