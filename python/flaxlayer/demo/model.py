"""The network of the demo: all a saved file of it needs to load."""

import flax.linen as nn
import jax


class DigitClassifier(nn.Module):
    """A small convolutional network with batch normalisation and dropout.

    Attributes:
        features: the channels of each stage, which is a convolution and a
            pooling that halves height and width.
        dropout: the share of the features that training leaves out, of each
            stage before its pooling and of the last ones.
        classes: how many logits come out.
    """

    features: tuple[int, ...] = (32, 64)
    dropout: float = 0.25
    classes: int = 10

    @nn.compact
    def __call__(self, images: jax.Array, training: bool = False) -> jax.Array:
        """Logits `[batch, classes]` for images `[batch, height, width, 1]`."""
        x = images
        for features in self.features:
            x = nn.Conv(features, (3, 3), use_bias=False)(x)
            x = nn.relu(nn.BatchNorm(not training, momentum=0.9)(x))
            x = nn.Dropout(self.dropout, deterministic=not training)(x)
            x = nn.max_pool(x, (2, 2), strides=(2, 2))
        x = x.reshape(x.shape[0], -1)
        x = nn.Dropout(self.dropout, deterministic=not training)(x)
        return nn.Dense(self.classes)(x)
