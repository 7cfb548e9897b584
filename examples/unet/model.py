"""A U-Net: all a saved file of it needs to load."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp


class ConvBlock(nn.Module):
    """Two 3x3 convolutions, each normalised over the batch and rectified.

    Attributes:
        features: the channels that come out.
    """

    features: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """`[batch, height, width, features]`, height and width those of `x`."""
        for _ in range(2):
            x = nn.Conv(self.features, (3, 3), use_bias=False)(x)
            x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
            x = nn.relu(x)
        return x


class UNet(nn.Module):
    """The U-Net of Ronneberger et al., arXiv:1505.04597, to denoise images.

    Each level halves height and width, and the way back up joins what the way
    down had at the same size. What comes out of the network is the noise,
    which is taken off the image.

    Attributes:
        features: the channels of each level, from the finest to the coarsest.
    """

    features: Sequence[int] = (16, 32, 64)

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Denoised images, of the shape of `images`.

        Args:
            images: `[batch, height, width, channels]`, floating point; height
                and width are multiples of `2 ** (len(features) - 1)`.
            train: whether to normalise with the statistics of this batch, and
                update the running ones in `"batch_stats"`.
        """
        *finer, coarsest = self.features
        x, skipped = images, []
        for features in finer:
            x = ConvBlock(features)(x, train)
            skipped.append(x)
            x = nn.max_pool(x, (2, 2), strides=(2, 2))
        x = ConvBlock(coarsest)(x, train)
        for features, skip in zip(
            reversed(finer), reversed(skipped), strict=True
        ):
            x = nn.ConvTranspose(features, (2, 2), strides=(2, 2))(x)
            x = ConvBlock(features)(jnp.concatenate([x, skip], axis=-1), train)
        noise = nn.Conv(images.shape[-1], (1, 1))(x)
        return images - noise
