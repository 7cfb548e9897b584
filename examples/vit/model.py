"""A vision transformer: all a saved file of it needs to load."""

import flax.linen as nn
import jax
import jax.numpy as jnp


class EncoderBlock(nn.Module):
    """Attention, then a perceptron, each normalised first and added.

    Attributes:
        heads: how many heads the attention has; they share the features.
        hidden: the features between the two layers of the perceptron.
        dropout: the share of features that training leaves out.
    """

    heads: int
    hidden: int
    dropout: float

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Tokens `[batch, tokens, features]`, the same shape as `x`."""
        y = nn.LayerNorm()(x)
        y = nn.MultiHeadDotProductAttention(
            self.heads, dropout_rate=self.dropout, deterministic=not train
        )(y)
        x = x + nn.Dropout(self.dropout, deterministic=not train)(y)
        y = nn.LayerNorm()(x)
        y = nn.gelu(nn.Dense(self.hidden)(y))
        y = nn.Dense(x.shape[-1])(y)
        return x + nn.Dropout(self.dropout, deterministic=not train)(y)


class ViT(nn.Module):
    """The vision transformer of Dosovitskiy et al., arXiv:2010.11929.

    An image is cut into square patches, which are embedded, given a learned
    position and, with one more token for the class, put through a transformer.

    Attributes:
        classes: how many logits come out.
        patch: height and width of a patch; those of the images are multiples.
        features: of each token.
        depth: how many blocks.
        heads: of the attention, a divisor of `features`.
        hidden: features inside a block's perceptron.
        dropout: the share of features that training leaves out.
    """

    classes: int = 10
    patch: int = 2
    features: int = 64
    depth: int = 3
    heads: int = 4
    hidden: int = 128
    dropout: float = 0.1

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Logits `[batch, classes]` for images `[batch, height, width, 1]`."""
        sides = (self.patch, self.patch)
        x = nn.Conv(self.features, sides, strides=sides, padding="VALID")(
            images
        )
        x = x.reshape(x.shape[0], -1, self.features)

        token = self.param(
            "class_token", nn.initializers.zeros, (1, 1, self.features)
        )
        token = jnp.broadcast_to(token, (x.shape[0], 1, self.features))
        x = jnp.concatenate([token.astype(x.dtype), x], axis=1)
        # As large as the embedded patches: much smaller ones are overlooked.
        x = x + self.param(
            "positions", nn.initializers.normal(0.5), (1, *x.shape[1:])
        )
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        for _ in range(self.depth):
            x = EncoderBlock(self.heads, self.hidden, self.dropout)(x, train)
        return nn.Dense(self.classes)(nn.LayerNorm()(x[:, 0]))
