"""keras.layers.FlaxLayer and JaxLayer, made to run without TensorFlow.

Since Keras 3.13 they ask TensorFlow, on the JAX backend too, whether they are
being built inside a tf.function, and fail where it is not installed. That is
their defect, and not what these tests compare.
"""

import types

import keras
from keras.src.utils import jax_layer

if not getattr(jax_layer.tf, "available", True):
    jax_layer.tf = types.SimpleNamespace(inside_function=lambda: False)

FlaxLayer = keras.layers.FlaxLayer
JaxLayer = keras.layers.JaxLayer


def set_random_seed(seed: int) -> None:
    """keras.utils.set_random_seed, which before 3.13 leaves a generator be."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
