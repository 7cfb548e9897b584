"""A small transformer: all a saved file of it needs to load."""

import flax.linen as nn
import jax


class Encoder(nn.Module):
    """Classifies images, each row of which is a token.

    It names the axes of its kernels, and says nothing of devices: which axis
    of a mesh a name is split over is for the program that trains it.

    Attributes:
        classes: how many logits come out.
        features: of a token.
        hidden: the features inside each perceptron.
        heads: of the attention.
        depth: how many blocks there are.
        dropout: the share of features that training leaves out.
    """

    classes: int = 10
    features: int = 64
    hidden: int = 128
    heads: int = 4
    depth: int = 1
    dropout: float = 0.1

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Logits `[batch, classes]` for images `[batch, height, width]`."""
        shape = (1, images.shape[1], self.features)
        x = nn.Dense(self.features, name="rows")(images)
        x = x + self.param("places", nn.initializers.normal(0.02), shape)
        for i in range(self.depth):
            y = nn.LayerNorm(name=f"norm_{i}_attention")(x)
            y = nn.MultiHeadDotProductAttention(
                self.heads,
                kernel_init=_named("embed", "heads", None),
                out_kernel_init=_named("heads", None, "embed"),
                name=f"attention_{i}",
            )(y)
            x = x + nn.Dropout(self.dropout, deterministic=not train)(y)
            y = nn.LayerNorm(name=f"norm_{i}_mlp")(x)
            y = nn.Dense(
                self.hidden, kernel_init=_named("embed", "mlp"), name=f"up_{i}"
            )(y)
            y = nn.Dense(
                self.features,
                kernel_init=_named("mlp", "embed"),
                name=f"down_{i}",
            )(nn.gelu(y))
            x = x + nn.Dropout(self.dropout, deterministic=not train)(y)
        x = nn.LayerNorm(name="norm")(x).mean(axis=1)
        return nn.Dense(self.classes, name="head")(x)


def _named(*axes: str | None) -> nn.initializers.Initializer:
    """Lecun's initialiser, for a kernel whose axes have these names."""
    return nn.with_partitioning(nn.initializers.lecun_normal(), axes)
