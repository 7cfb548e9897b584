"""An initializer whose values get to where Keras wants the variable to live."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np


class PlacedInitializer:
    """A Keras initializer that knows of layouts.

    Under a `keras.distribution` Keras asks in one of three ways. For a layout,
    in a mesh whose axes are explicit, if there is a parameter of that name. In
    versions that do not know it, through `jax.jit` of the bound method
    `__call__` if the value is large, which takes an instance of a class: a
    plain function has no method that JAX can refer to. Otherwise plainly.

    Args:
        initialize: called as `initialize(shape, dtype)`; returns the value.
    """

    def __init__(self, initialize: Callable[..., jax.Array]):
        self._initialize = initialize

    def __call__(
        self, shape: Any, dtype: Any = None, layout: Any = None
    ) -> jax.Array:
        """The value.

        Args:
            shape: that of the variable.
            dtype: that of the variable.
            layout: where it is to live: a `jax.sharding.NamedSharding` over the
                axes of the mesh that is set; `None` where nobody has said.
        """
        if layout is None:
            return self._initialize(shape, dtype)
        # The layout is for traces; its mesh has no devices.
        sharding = jax.sharding.NamedSharding(
            jax.sharding.get_mesh(), layout.spec
        )
        # An initialiser of a model is not written for explicit axes: what it
        # computes would differ in its type, and some of it would be refused.
        with jax.set_mesh(jax.sharding.Mesh(np.empty((), object), ())):
            return jax.device_put(self._initialize(shape, dtype), sharding)
