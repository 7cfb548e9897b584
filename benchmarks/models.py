"""The models that are measured, as plain Flax modules."""

import dataclasses

import flax.linen as nn
import jax
import numpy as np


class Block(nn.Module):
    """A pre-norm transformer block.

    Attributes:
        features: the size of the last axis.
        heads: of the attention.
        dropout: the rate, for attention weights and both branches.
    """

    features: int
    heads: int
    dropout: float

    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool) -> jax.Array:
        """`[batch, length, features]` to the same shape."""
        y = nn.LayerNorm()(x)
        y = nn.MultiHeadDotProductAttention(
            self.heads, dropout_rate=self.dropout, deterministic=deterministic
        )(y, y)
        x = x + nn.Dropout(self.dropout, deterministic=deterministic)(y)
        y = nn.LayerNorm()(x)
        y = nn.gelu(nn.Dense(4 * self.features)(y))
        y = nn.Dropout(self.dropout, deterministic=deterministic)(y)
        y = nn.Dense(self.features)(y)
        return x + nn.Dropout(self.dropout, deterministic=deterministic)(y)


class Transformer(nn.Module):
    """A transformer encoder with dropout and a mean-pooled head."""

    blocks: int = 6
    features: int = 64
    heads: int = 4
    dropout: float = 0.1
    classes: int = 10

    @nn.compact
    def __call__(self, inputs: jax.Array, training: bool = False) -> jax.Array:
        """Logits for `[batch, length, width]`."""
        x = nn.Dense(self.features)(inputs)
        for _ in range(self.blocks):
            x = Block(self.features, self.heads, self.dropout)(x, not training)
        return nn.Dense(self.classes)(x.mean(1))


class MLP(nn.Module):
    """A deep stack of small dense layers, each with a dropout."""

    blocks: int = 24
    features: int = 64
    dropout: float = 0.1
    classes: int = 10

    @nn.compact
    def __call__(self, inputs: jax.Array, training: bool = False) -> jax.Array:
        """Logits for `[batch, width]`."""
        x = inputs
        for _ in range(self.blocks):
            x = nn.relu(nn.Dense(self.features)(x))
            x = nn.Dropout(self.dropout, deterministic=not training)(x)
        return nn.Dense(self.classes)(x)


class ResNet(nn.Module):
    """A pre-activation residual network with batch normalisation."""

    blocks: int = 8
    features: int = 16
    classes: int = 10

    @nn.compact
    def __call__(self, inputs: jax.Array, training: bool = False) -> jax.Array:
        """Logits for `[batch, height, width, channels]`."""
        x = nn.Conv(self.features, (3, 3))(inputs)
        for _ in range(self.blocks):
            y = x
            for _ in range(2):
                y = nn.relu(nn.BatchNorm(not training)(y))
                y = nn.Conv(self.features, (3, 3))(y)
            x = x + y
        return nn.Dense(self.classes)(x.mean((1, 2)))


@dataclasses.dataclass(frozen=True)
class Workload:
    """A module with the inputs it is measured on.

    Attributes:
        description: for the reports.
        module: the model; it has a field `blocks`.
        shape: of one input, without the batch.
        batch: how many of them are in a step.
    """

    description: str
    module: nn.Module
    shape: tuple[int, ...]
    batch: int = 32

    def data(self, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """Random inputs and labels for so many steps, the same every time."""
        random = np.random.default_rng(0)
        count = steps * self.batch
        x = random.standard_normal((count, *self.shape), np.float32)
        return x, random.integers(0, 10, count).astype(np.int32)

    def of_blocks(self, blocks: int) -> "Workload":
        """The same with another number of blocks, and no description."""
        return dataclasses.replace(
            self, description="", module=self.module.clone(blocks=blocks)
        )


TRANSFORMER, RESNET = "transformer", "resnet"

WORKLOADS = {
    TRANSFORMER: Workload(
        "6 transformer blocks with dropout, d=64, length 32, batch 32",
        Transformer(),
        (32, 16),
    ),
    "transformer-128": Workload(
        "6 transformer blocks with dropout, d=128, length 64, batch 32",
        Transformer(features=128),
        (64, 16),
    ),
    "mlp-24x64": Workload(
        "24 dense layers of 64 with dropout, batch 256", MLP(), (64,), 256
    ),
    "mlp-48x32": Workload(
        "48 dense layers of 32 with dropout, batch 16",
        MLP(blocks=48, features=32),
        (32,),
        16,
    ),
    RESNET: Workload(
        "8 residual blocks with batch norm, 16 channels, 16x16x3, batch 32",
        ResNet(),
        (16, 16, 3),
    ),
}

# What is around its steps takes as long as they do.
SHORT = Workload(
    "24 dense layers of 32 with dropout, batch 16",
    MLP(features=32),
    (32,),
    16,
)

# Of which only the weights are made.
WIDE = Workload(
    "2 transformer blocks, d=1024, 25 million weights",
    Transformer(blocks=2, features=1024),
    (16, 16),
)

# Cheap for each block, so that there can be many.
GROWING = Workload(
    "transformer blocks with dropout, d=32, length 16, batch 8",
    Transformer(features=32),
    (16, 16),
    8,
)


def sized(name: str, blocks: int | None) -> Workload:
    """One of `WORKLOADS`, of so many blocks if that is said."""
    workload = WORKLOADS[name]
    return workload if blocks is None else workload.of_blocks(blocks)
