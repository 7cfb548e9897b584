"""The layouts that a distribution has for the weights of layers."""

import types
from typing import Any

import keras


class LayoutMismatch(ValueError):
    """A layout does not fit the weight that it is for."""


def of(path: str, shape: Any) -> keras.distribution.TensorLayout:
    """The layout that a variable has, or will have when it is made.

    Args:
        path: that of the variable, by which a `LayoutMap` finds it.
        shape: that of the variable.

    Raises:
        LayoutMismatch: it has more axes than the variable, or splits one into
            parts that are not equal; or there is none because a `LayoutMap`
            refuses to say.
    """
    distribution: Any = keras.distribution.distribution()
    try:
        layout = distribution.get_variable_layout(
            types.SimpleNamespace(path=path, shape=shape)
        )
    except ValueError as error:
        raise LayoutMismatch(str(error)) from error
    _check(layout, path, shape)
    return layout


def sizes_of(mesh: Any) -> dict[str, int]:
    """How many devices each axis of a mesh has, one of Keras or of JAX."""
    return dict(zip(mesh.axis_names, mesh.devices.shape, strict=True))


def _check(layout: Any, path: str, shape: Any) -> None:
    sizes = sizes_of(layout.device_mesh)
    weight = f"`{path}` of shape {tuple(shape)}"
    if len(layout.axes) > len(shape):
        raise LayoutMismatch(
            f"the layout {layout.axes} is for {len(layout.axes)} dimensions; "
            f"{weight} has {len(shape)}. Give each dimension an axis of the "
            "mesh or `None`."
        )
    for dimension, axis in enumerate(layout.axes):
        if axis is not None and shape[dimension] % sizes[axis]:
            raise LayoutMismatch(
                f"the layout {layout.axes} splits dimension {dimension} of "
                f"{weight} over the {sizes[axis]} devices of {axis!r}, which "
                f"do not divide {shape[dimension]}. Split another dimension, "
                "use a mesh that divides it, or none (`None`)."
            )
