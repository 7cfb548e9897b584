"""The layers of flaxlayer in what a public function was given."""

from typing import Any

import keras

from flaxlayer import keras_compat, short_repr
from flaxlayer.layer.model_layer import ModelLayer


def of(
    layer: Any, *, function: str, does: str, otherwise: str
) -> list[ModelLayer]:
    """All of them, however deep.

    Args:
        layer: a layer or model, which may be or hold some.
        function: the function that was given it, as messages call it.
        does: what that does with weights.
        otherwise: what to do for other layers.

    Raises:
        TypeError: `layer` is no Keras layer.
        ValueError: there is none.
    """
    if not isinstance(layer, keras.layers.Layer):
        raise TypeError(
            f"`{function}` takes a Keras layer or model. Received: "
            f"{short_repr.of(layer)} (of type {type(layer).__name__})."
        )
    found = [
        each
        for each in keras_compat.flattened_layers(layer)
        if isinstance(each, ModelLayer)
    ]
    if not found:
        raise ValueError(
            f"`{function}` {does} of `FlaxLayer`s and `JaxLayer`s; there is "
            f"none in {short_repr.of(layer)}. {otherwise}"
        )
    return found
