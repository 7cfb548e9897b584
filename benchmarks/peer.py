"""keras.layers.FlaxLayer, made to work where TensorFlow is not installed.

On the JAX backend it asks TensorFlow one thing, when it is built: whether a
TensorFlow function is being traced. Where TensorFlow is missing the answer is
no, and that answer is put in its place, so that the layer can be measured.
"""

import types
from typing import Any

import flax.linen as nn
import keras


def unavailable_reason() -> str | None:
    """Why the layer cannot be used, or None if it can."""
    try:
        from keras.src.utils import jax_layer
    except ImportError as error:
        return str(error)
    if not hasattr(jax_layer, "tf"):
        return "keras.src.utils.jax_layer has no `tf`"
    # Keras imports TensorFlow when it is used, and knows before whether it can.
    if not getattr(jax_layer.tf, "available", True):
        jax_layer.tf = types.SimpleNamespace(inside_function=lambda: False)
    return None


def flax_layer(module: nn.Module, **kwargs: Any) -> keras.layers.Layer:
    """`keras.layers.FlaxLayer(module, **kwargs)`.

    Raises:
        RuntimeError: it cannot be used; see `unavailable_reason`.
    """
    if reason := unavailable_reason():
        raise RuntimeError(f"keras.layers.FlaxLayer is missing: {reason}")
    return keras.layers.FlaxLayer(module, **kwargs)
