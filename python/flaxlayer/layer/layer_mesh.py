"""The mesh that the weights of a layer are on."""

import re
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import keras

from flaxlayer import keras_compat
from flaxlayer.paths import Path, joined
from flaxlayer.weights import memory, placed_initializer
from flaxlayer.weights.variable_tree import Leaf


class LayoutMismatch(ValueError):
    """A layout does not fit the weight that it is for."""


class LayerMesh:
    """Keeps a layer on the mesh that it was built on.

    Args:
        layer: how error messages call the layer.
    """

    def __init__(self, layer: str):
        self._layer = layer
        self._mesh: Any = None

    def build_on(self, variables: Iterable[keras.Variable]) -> None:
        """Takes the mesh of the distribution that is set.

        Args:
            variables: those that the layer has before it is built. It may have
                been made before the distribution was set, or under another.
        """
        self._mesh = _mesh()
        if keras.distribution.distribution() is not None:
            for variable in variables:
                keras_compat.lay_out(variable)

    def shardings(
        self, leaves: Sequence[Leaf], name: str
    ) -> dict[Path, jax.sharding.NamedSharding]:
        """Where the distribution has weights.

        Warns of a layout whose key names the layer, or matches a part of a
        path, and that no weight has.

        Args:
            leaves: the weights that are to be made here.
            name: that of the layer.

        Returns:
            The shardings of those of which no device is to have the whole.

        Raises:
            LayoutMismatch: a layout has more axes than its weight, or splits
                one into parts that are not equal; or there is none because a
                `LayoutMap` refuses to say.
        """
        if self._mesh is None:
            return {}
        paths: list[str] = []
        shardings = {}
        for leaf in leaves:
            if leaf.spec is not None:
                paths.append(keras_compat.path_here("/".join(leaf.path)))
                try:
                    layout = placed_initializer.layout_of(
                        paths[-1], leaf.spec.shape
                    )
                except ValueError as error:
                    raise LayoutMismatch(str(error)) from error
                _check_layout(leaf, layout)
                if any(axis is not None for axis in layout.axes):
                    shardings[leaf.path] = layout.backend_layout
        unmatched = [
            key
            for key in keras_compat.layouts_of(
                keras.distribution.distribution()
            )
            or ()
            if _is_meant_for(key, name, paths)
            and not any(re.fullmatch(key, path) for path in paths)
        ]
        if unmatched and paths:
            warnings.warn(
                f"{self._layer}: the LayoutMap has keys that match none of its "
                f"weights: {', '.join(map(repr, unmatched))}. They change "
                "nothing. A key has to match a whole path, such as "
                f"{paths[0]!r}; `flaxlayer.tabulate` lists all.",
                stacklevel=2,
            )
        return shardings

    def check(self) -> None:
        """Reports a call on another mesh: programs are for one.

        Without a distribution calls are on the mesh of the weights.

        Raises:
            ValueError: a distribution is set over other devices than the one
                that the layer was built under, or none was then.
        """
        mesh = _mesh()
        if mesh is None or mesh is self._mesh or _same(mesh, self._mesh):
            return
        raise ValueError(
            f"{self._layer} is called under a distribution over "
            f"{_described(mesh)}; it was built {_place_of(self._mesh)}, and "
            "its weights stay there. Call "
            "`keras.distribution.set_distribution` before the layer is built; "
            "or save the weights, and load them into a layer that is built "
            "under this distribution."
        )


def _is_meant_for(key: str, name: str, paths: Sequence[str]) -> bool:
    """Whether a key of a layout map has to do with a layer of that name."""
    names_it = re.search(rf"(^|/){re.escape(name)}/(?!output$)", key)
    return bool(names_it) or any(re.search(key, path) for path in paths)


def explain(
    error: Exception, inputs: Any, variables: Sequence[Any], layer: str
) -> None:
    """Raises a clearer error of a call whose inputs are on other devices.

    Args:
        error: what JAX raised.
        inputs: those of the call.
        variables: those of the layer.
        layer: how error messages call the layer.
    """
    speaks_of_them = re.search(r"\b(devices|[Mm]esh)\b", str(error))
    if not speaks_of_them or not variables:
        return
    arrays = [variables[0].value, *jax.tree_util.tree_leaves(inputs)]
    if any(isinstance(array, jax.core.Tracer) for array in arrays):
        return  # It has no place.
    own = arrays[0].sharding
    for array in arrays[1:]:
        if isinstance(array, jax.Array) and not _go_together(
            array.sharding, own
        ):
            raise ValueError(
                f"{layer} has its weights on {_devices_of(own)}; an input of "
                f"shape {array.shape} is on {_devices_of(array.sharding)}. "
                "Pass it as a NumPy array, or put it on the same devices and "
                f"mesh with `jax.device_put`. JAX says: {error}"
            ) from error


def _go_together(sharding: Any, other: Any) -> bool:
    meshes = [getattr(each, "mesh", None) for each in (sharding, other)]
    return sharding.device_set == other.device_set and (
        None in meshes or meshes[0] == meshes[1]
    )


def _devices_of(sharding: Any) -> str:
    if isinstance(sharding, jax.sharding.NamedSharding):
        mesh = sharding.mesh
        devices = [device.id for device in mesh.devices.flat]
        return f"the mesh {_sizes(mesh)} of the devices {devices}"
    return f"the devices {sorted(device.id for device in sharding.device_set)}"


def _check_layout(leaf: Leaf, layout: Any) -> None:
    sizes = _sizes(layout.device_mesh)
    shape = leaf.spec.shape  # type: ignore[union-attr]
    weight = f"`{joined(leaf.path)}` of shape {tuple(shape)}"
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


def _mesh() -> Any:
    """The mesh of several devices that is set, if there is one."""
    distribution = keras.distribution.distribution()
    if distribution is None or memory.devices_of_distribution() == 1:
        return None
    return distribution.device_mesh


def _sizes(mesh: Any) -> dict[str, int]:
    """Of each axis of a mesh, one of Keras or of JAX."""
    return dict(zip(mesh.axis_names, mesh.devices.shape, strict=True))


def _same(mesh: Any, other: Any) -> bool:
    return (
        other is not None
        and list(mesh.axis_names) == list(other.axis_names)
        and mesh.devices.shape == other.devices.shape
        and bool((mesh.devices == other.devices).all())
    )


def _place_of(mesh: Any) -> str:
    if mesh is None:
        return "on one device"
    return f"on {_described(mesh)}"


def _described(mesh: Any) -> str:
    return f"the mesh {_sizes(mesh)} of {mesh.devices.size} devices"
