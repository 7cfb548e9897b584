"""The mesh that the weights of a layer are on."""

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import keras

from flaxlayer import backends, keras_compat
from flaxlayer.paths import Path
from flaxlayer.weights import (
    layouts,
    memory,
    placed_initializer,
    variable_tree,
)
from flaxlayer.weights.variable_tree import Leaf


class LayerMesh:
    """Keeps a layer on the mesh that it was built on.

    Args:
        layer: how error messages call the layer.
    """

    def __init__(self, layer: str):
        self._layer = layer
        self._mesh: Any = None

    def take(self) -> None:
        """Takes the mesh of the distribution that is set."""
        backends.current.check_distribution(self._layer)
        self._mesh = _mesh()

    def move(self, variables: Iterable[keras.Variable]) -> None:
        """Moves what the layer had before it was built to where it belongs.

        It may have been made before the distribution was set, or under another.
        A layout map may ask for the axis names that the layer has only when it
        is built, so this comes after the rest.

        Args:
            variables: those that the layer had.

        Raises:
            layouts.LayoutMismatch: a layout does not fit.
        """
        if keras.distribution.distribution() is not None:
            for variable in variables:
                layouts.of(variable.path, variable.shape)
                keras_compat.lay_out(variable, placed_initializer.placed)

    def shardings(
        self,
        leaves: Sequence[Leaf],
        existing: Mapping[Path, keras.Variable],
        scope: str,
    ) -> dict[Path, jax.sharding.NamedSharding]:
        """Where the distribution has weights.

        Warns of a pattern of a layout map that names the layer, or matches a
        part of a path, and that no weight has.

        Args:
            leaves: the weights that the layer is to have.
            existing: those of them that are there already.
            scope: the path of the layer.

        Returns:
            The shardings of those that are to be made, and of which no device
            is to have the whole.

        Raises:
            layouts.LayoutMismatch: a layout does not fit.
        """
        if self._mesh is None:
            return {}
        paths: list[str] = []
        shardings = {}
        for leaf in leaves:
            if leaf.spec is None:
                continue
            there = existing.get(leaf.path)
            paths.append(
                "/".join((scope, *variable_tree.names_of(leaf.path)))
                if there is None
                else there.path
            )
            layout = layouts.of(paths[-1], leaf.spec.shape)
            if there is None and any(axis is not None for axis in layout.axes):
                shardings[leaf.path] = layout.backend_layout
        self._warn_of_patterns(paths, scope)
        return shardings

    def _warn_of_patterns(self, paths: Sequence[str], scope: str) -> None:
        unmatched = [
            pattern
            for pattern in keras_compat.layout_patterns()
            if _is_meant_for(pattern, scope, paths)
            and not any(re.fullmatch(pattern, path) for path in paths)
        ]
        if unmatched and paths:
            warnings.warn(
                f"{self._layer}: the LayoutMap has keys that match none of its "
                f"weights: {', '.join(map(repr, unmatched))}. They change "
                "nothing. A key has to match a whole path, such as "
                f"{paths[0]!r}; `flaxlayer.tabulate` lists all.",
                stacklevel=2,
            )

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


def _is_meant_for(pattern: str, scope: str, paths: Sequence[str]) -> bool:
    """Whether a pattern has to do with the layer of that path.

    It may say that path, or the end of it, as in `.*/net/params/kernel`.
    """
    if any(re.search(pattern, path) for path in paths):
        return True
    name = scope.rpartition("/")[2]
    for written in {name, re.escape(name)}:
        before, found, after = pattern.partition(f"{written}/")
        # Outputs of layers have layouts too, as `net/output`.
        if found and after != "output":
            ends = scope == before + name or scope.endswith(f"/{before}{name}")
            return ends or _ends(scope, before + re.escape(name))
    return False


def _ends(scope: str, pattern: str) -> bool:
    """Whether a path, or the last steps of it, is what the pattern matches."""
    try:
        return re.search(rf"(?:^|/)(?:{pattern})$", scope) is not None
    except re.error:  # Half of a pattern need not be one.
        return False


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
        return f"the mesh {layouts.sizes_of(mesh)} of the devices {devices}"
    return f"the devices {sorted(device.id for device in sharding.device_set)}"


def _mesh() -> Any:
    """The mesh of several devices that is set, if there is one."""
    distribution = keras.distribution.distribution()
    if distribution is None or memory.devices_of_distribution() == 1:
        return None
    return distribution.device_mesh


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
    return f"the mesh {layouts.sizes_of(mesh)} of {mesh.devices.size} devices"
