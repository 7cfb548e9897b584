"""Which dtype policies and platforms a layer can have."""

from collections.abc import Sequence
from typing import Any

import keras

_PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


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


def checked_platforms(platforms: Any, layer: str) -> tuple[str, ...] | None:
    """The `native_serialization_platforms` argument, validated.

    Args:
        platforms: the argument.
        layer: how error messages call the layer.

    Raises:
        TypeError: it is no sequence of names.
        ValueError: a name is none of those of platforms, or there is none.
    """
    if platforms is None:
        return None
    if isinstance(platforms, str) or not isinstance(platforms, Sequence):
        raise TypeError(
            f"{layer}: `native_serialization_platforms` must be a sequence of "
            f"names, some of {_PLATFORMS}. Received: {platforms!r:.200} (of "
            f"type {type(platforms).__name__})."
        )
    if not platforms or not set(platforms) <= set(_PLATFORMS):
        raise ValueError(
            f"{layer}: `native_serialization_platforms` must have some of "
            f"{_PLATFORMS}. Received: {platforms!r:.200}."
        )
    return tuple(platforms)
