"""A Keras model whose layer is a Flax module."""

import flax.linen as nn
import jax
import keras

import flaxlayer


class Classifier(nn.Module):
    """A perceptron with dropout and three classes."""

    @nn.compact
    def __call__(self, x: jax.Array, training: bool = False) -> jax.Array:
        """Logits `[batch, 3]` for vectors `[batch, features]`."""
        x = nn.relu(nn.Dense(64)(x))
        x = nn.Dropout(0.2, deterministic=not training)(x)
        return nn.Dense(3)(x)


def build(features: int) -> keras.Model:
    """A compiled model for vectors of so many features."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input([features]),
            flaxlayer.FlaxLayer(Classifier(), seed=0, name="classifier"),
        ]
    )
    model.compile(
        "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    return model
