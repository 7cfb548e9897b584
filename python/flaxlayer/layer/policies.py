"""Which dtype policies a layer can have."""

from typing import Any

import keras


def check(policy: Any, layer: str) -> None:
    """Reports policies that mean nothing to a model of JAX.

    Args:
        policy: a `keras.DTypePolicy`.
        layer: how error messages call the layer.

    Raises:
        ValueError: it is not of floating point, or quantizes.
    """
    dtypes = (policy.variable_dtype, policy.compute_dtype)
    if all(map(keras.backend.is_float_dtype, dtypes)) and not getattr(
        policy, "quantization_mode", None
    ):
        return
    raise ValueError(
        f"{layer}: `dtype` must name a floating-point dtype, or "
        "a policy of such. Integers are what inputs, parameters and state "
        "are by themselves; Keras's quantization does not reach into a "
        f"model of JAX. Received: {policy.name!r}."
    )
