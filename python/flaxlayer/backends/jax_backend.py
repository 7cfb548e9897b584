"""Keras on JAX: its variables hold what models take."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import keras
import numpy as np

from flaxlayer import jax_compat, keras_compat, tensorflow_compat

# Whether variables hold arrays of JAX, which have places on devices.
HOLDS_JAX = True


def value_of(variable: keras.Variable) -> jax.Array:
    """The present value of a variable."""
    return variable.value


def values_of(variables: Sequence[keras.Variable]) -> list[Any]:
    """The present values of variables, which may have to be cast."""
    return keras_compat.values_of(variables)


def compute_dtype() -> str | None:
    """What values of weights that are autocast have yet to be cast to."""
    return keras_compat.autocast_dtype()


def as_array(value: Any) -> Any:
    """An array of this backend as one of JAX; anything else as it is."""
    return value


def seed_words(state: Any) -> Any:
    """The state of a seed generator as `uint32[2]`, for a call."""
    return state


def drawn(draw: Callable[[], np.ndarray]) -> jax.Array:
    """What a function draws of Keras's seeds, as `uint32[2]`."""
    return jax_compat.device_array(draw())


def added_loss(loss: Any) -> Any:
    """A loss of a model as Keras adds it to others."""
    return loss


def outside_of_traces() -> contextlib.AbstractContextManager[Any]:
    """A context in which arrays and variables have values."""
    return jax.ensure_compile_time_eval()


def not_rewritten(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function whose source is nobody's to rewrite."""
    return function


def check_distribution(layer: str) -> None:
    """Reports a `keras.distribution` that the backend has no meaning for."""


def check_decided(training: Any, layer: str) -> None:
    """Reports a mode that is an array of which only the trace is known.

    Args:
        training: an array.
        layer: how error messages call the layer.

    Raises:
        TypeError: the backend cannot call models with it.
    """


class Caller:
    """Calls a pure function on the values of variables.

    Args:
        pure: called as `pure(mode, *arrays)`, where the mode is static.
        layer: how error messages call the layer.
        platforms: for what other backends compile it.

    Attributes:
        compiled: what is called eagerly.
    """

    def __init__(
        self,
        pure: Callable[..., Any],
        layer: str,
        platforms: Sequence[str] | None,
    ):
        del layer, platforms
        self._pure = pure
        self.compiled = jax.jit(pure, static_argnums=0)

    def function(self, arrays: Any) -> tuple[Callable[..., Any], bool]:
        """What is called as the pure function is, for arrays such as these.

        Args:
            arrays: those of the call.

        Returns:
            It; and whether it is part of a program that is traced.
        """
        # Inside a trace the model is called as it is, so that the program is
        # the one a plain JAX loop would have; outside of one it is compiled.
        traced = jax_compat.is_staged(arrays)
        if traced:  # Perhaps by Keras, to export a model with this layer.
            tensorflow_compat.make_jax2tf_readable()
        return self._pure if traced else self.compiled, traced
