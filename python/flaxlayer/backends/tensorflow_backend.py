"""Keras on TensorFlow: models are compiled into operations of its graphs."""

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
import tensorflow as tf

from flaxlayer.backends import unknown_sizes
from flaxlayer.backends.tensorflow_program import Program

# As in flaxlayer.backends.jax_backend, which says more of each name.
HOLDS_JAX = False

# As many programs of a layer are kept: one for each mode and shapes.
_KEPT_PROGRAMS = 256


def value_of(variable: keras.Variable) -> jax.Array:
    """The present value of a variable, copied."""
    with tf.init_scope():
        return as_array(tf.convert_to_tensor(variable.value))


def values_of(variables: Sequence[keras.Variable]) -> list[Any]:
    """The present values of variables, cast as the present scope says."""
    return [variable.value for variable in variables]


def compute_dtype() -> str | None:
    """What values have yet to be cast to: nothing, since reading casts them."""
    return None


def as_array(value: Any) -> Any:
    """A tensor as an array of JAX; anything else as it is."""
    if not isinstance(value, tf.Tensor | tf.Variable):
        return value
    if not hasattr(value, "numpy"):
        raise ValueError(
            "a value is wanted where a tf.function is traced, and there is "
            f"none: {value!r:.200}"
        )
    return jnp.asarray(value.numpy())


def seed_words(state: Any) -> Any:
    """The state of a seed generator as `uint32[2]`, for a call."""
    # Keras has 64 bits for each word here, and 32 of them in use.
    return tf.cast(state, tf.uint32)


def drawn(draw: Callable[[], np.ndarray]) -> jax.Array:
    """What a function draws of Keras's seeds, as `uint32[2]`."""
    with tf.init_scope():
        return jnp.asarray(draw().astype(np.uint32))


def added_loss(loss: Any) -> Any:
    """A loss of a model as Keras adds it to others."""
    # Those of half precision Keras cannot add to its own.
    return tf.cast(loss, keras.config.floatx())


@contextlib.contextmanager
def outside_of_traces() -> Any:
    """A context in which arrays and variables have values."""
    with tf.init_scope(), jax.ensure_compile_time_eval():
        yield


def not_rewritten(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function whose source AutoGraph leaves as it is."""
    return tf.autograph.experimental.do_not_convert(function)


def check_distribution(layer: str) -> None:
    """Reports a `keras.distribution`, which is for arrays of JAX."""
    if keras.distribution.distribution() is not None:
        raise ValueError(
            f"{layer}: `keras.distribution` lays weights out over the devices "
            "of JAX, which the TensorFlow backend does not use. Run with "
            "KERAS_BACKEND=jax, or without a distribution."
        )


def check_decided(training: Any, layer: str) -> None:
    """Reports a mode that is a tensor without a value."""
    if isinstance(training, tf.Tensor) and not hasattr(training, "numpy"):
        raise TypeError(
            f"{layer}: `training` must be known where a tf.function is traced: "
            f"a boolean of Python. Received: {training!r:.200}."
        )


class Caller:
    """Calls a pure function on tensors, as a program for each mode and shapes.

    Args:
        pure: called as `pure(mode, *arrays)`, where the mode is static.
        layer: how error messages call the layer.
        platforms: for what it is compiled; JAX's default one if `None`.
    """

    def __init__(
        self,
        pure: Callable[..., Any],
        layer: str,
        platforms: Sequence[str] | None,
    ):
        self._pure = pure
        self._layer = layer
        self._platforms = None if platforms is None else tuple(platforms)
        self._program = functools.lru_cache(_KEPT_PROGRAMS)(self._new_program)

    def function(self, arrays: Any) -> tuple[Callable[..., Any], bool]:
        """What is called as the pure function is; errors are those of a trace.

        Args:
            arrays: those of the call.
        """
        del arrays
        return self._call, True

    def _call(self, mode: Any, *arrays: Any) -> Any:
        leaves, treedef = jax.tree_util.tree_flatten(arrays)
        tensors = [self._tensor(leaf) for leaf in leaves]
        program, results_tree = self._program(
            mode,
            treedef,
            tuple(tuple(tensor.shape) for tensor in tensors),
            tuple(tensor.dtype.as_numpy_dtype for tensor in tensors),
        )
        return results_tree.unflatten(program(tensors))

    def _tensor(self, leaf: Any) -> tf.Tensor:
        """A tensor of a dtype that JAX has, for one of the arrays of a call."""
        tensor = tf.convert_to_tensor(leaf)
        if tensor.shape.rank is None:
            raise ValueError(
                f"{self._layer}: the rank of an input has to be known. Set it, "
                f"with `tf.ensure_shape`. Received: {tensor!r:.200}."
            )
        dtype = jax.dtypes.canonicalize_dtype(tensor.dtype.as_numpy_dtype)
        return tensor if tensor.dtype == dtype else tf.cast(tensor, dtype)

    def _new_program(
        self,
        mode: Any,
        treedef: Any,
        shapes: tuple[tuple[int | None, ...], ...],
        dtypes: tuple[Any, ...],
    ) -> tuple[Program, Any]:
        trees: list[Any] = []

        def flat(*leaves: Any) -> list[jax.Array]:
            results = self._pure(mode, *treedef.unflatten(leaves))
            arrays, tree = jax.tree_util.tree_flatten(results)
            trees.append(tree)
            return [jnp.asarray(array) for array in arrays]

        program = unknown_sizes.resolved(
            lambda specs: Program(flat, specs, self._platforms),
            treedef,
            shapes,
            dtypes,
            layer=self._layer,
        )
        return program, trees[-1]
