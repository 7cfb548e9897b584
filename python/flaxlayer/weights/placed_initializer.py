"""Initializers whose values get to where Keras wants the variable to live."""

from collections.abc import Callable
from typing import Any

import jax
import keras
import numpy as np

from flaxlayer import keras_compat
from flaxlayer.weights import layouts, memory


def placed(value: Any, sharding: jax.sharding.Sharding) -> jax.Array:
    """An array where it is wanted.

    Args:
        value: the same in every process, or spread over their devices already.
        sharding: over devices of one or several processes.
    """
    if getattr(value, "sharding", None) == sharding:
        return value
    if sharding.is_fully_addressable or not getattr(
        value, "is_fully_addressable", True
    ):
        return jax.device_put(value, sharding)
    # `device_put` would compare the values of all processes, whole ones.
    value = np.asarray(value)
    return jax.make_array_from_callback(
        value.shape, sharding, lambda index: value[index]
    )


class CompilableInitializer:
    """A Keras initializer with a bound `__call__` that JAX can compile.

    Under a `keras.distribution` Keras calls `jax.jit(initializer.__call__)` for
    large variables. A plain function has no such method that JAX could refer
    to.

    Args:
        initialize: called as `initialize(shape, dtype)`; returns the value.
    """

    def __init__(self, initialize: Callable[..., jax.Array]):
        self._initialize = initialize

    def __call__(self, shape: Any, dtype: Any = None) -> jax.Array:
        """The value for a variable of that shape and dtype."""
        return self._initialize(shape, dtype)


class PlacedInitializer(CompilableInitializer):
    """A Keras initializer that knows of layouts.

    Keras hands one to an initializer that has a parameter of that name, and
    calls it in a mesh whose axes are explicit; versions before 3.15 do not.
    """

    def __call__(
        self, shape: Any, dtype: Any = None, layout: Any = None
    ) -> jax.Array:
        """The value.

        Args:
            shape: that of the variable.
            dtype: that of the variable.
            layout: where it is to live: a `jax.sharding.NamedSharding` over the
                mesh of the distribution; `None` where nobody has said.
        """
        if layout is None:
            return self._initialize(shape, dtype)
        # The layout is for traces; its mesh has no devices.
        distribution: Any = keras.distribution.distribution()
        sharding = jax.sharding.NamedSharding(
            distribution.device_mesh.backend_mesh, layout.spec
        )
        # An initialiser of a model is not written for explicit axes: what it
        # computes would differ in its type, and some of it would be refused.
        with jax.set_mesh(jax.sharding.Mesh(np.empty((), object), ())):
            return placed(self._initialize(shape, dtype), sharding)


def for_keras(
    initialize: Callable[..., jax.Array], name: str, shape: Any, dtype: Any
) -> CompilableInitializer | jax.Array:
    """What a variable is made of here: its value, if it may have one.

    Where Keras infers shapes it makes variables first, and asks for their
    values later.

    Args:
        initialize: called as `initialize(shape, dtype)`; returns the value.
        name: that of the variable, in the name scope that is entered.
        shape: that of the variable.
        dtype: that of the variable.

    Raises:
        layouts.LayoutMismatch: the layout that it is to have does not fit.
    """
    # On one device Keras leaves values where they are, and warns of a mix with
    # others where one has a layout.
    alone = memory.devices_of_distribution() == 1
    if keras_compat.in_stateless_scope():
        kind = CompilableInitializer if alone else PlacedInitializer
        return kind(initialize)
    value = initialize(shape, dtype)
    if alone:
        return value
    layout: Any = layouts.of(keras_compat.path_here(name), shape)
    with jax.ensure_compile_time_eval():
        return placed(value, layout.backend_layout)
