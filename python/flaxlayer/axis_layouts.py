"""Layouts of weights over a mesh, from the names that modules give to axes."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
from flax import linen as nn

from flaxlayer import found_layers, short_repr
from flaxlayer.layer.model_layer import ModelLayer
from flaxlayer.paths import joined

# As `flax.linen.logical_axis_rules` takes them, or as a dict.
Rules = Mapping[str, str | None] | Sequence[tuple[str, str | None]]


def layout_map(
    model_or_layer: keras.layers.Layer,
    mesh: keras.distribution.DeviceMesh,
    rules: Rules | None = None,
) -> keras.distribution.LayoutMap:
    """Where the weights of layers go on a mesh, as their modules have it.

    A module names the axes of its parameters with `nn.with_partitioning`,
    `nn.with_logical_partitioning`, `param_with_axes` of
    `flax.linen.partitioning`, or, in NNX, `nnx.with_partitioning`. The rules
    say over which axis of the mesh a name is split.

    The map is for `keras.distribution.ModelParallel`, and has to be set before
    there are weights: so the layers need not be built, and a layer's names are
    looked up when it is. Weights that have no names are on every device, unless
    a pattern is set for them in the map, as in any `LayoutMap`; such a pattern
    also goes before names.

    Example:
        ```python
        mesh = keras.distribution.DeviceMesh((2, 4), ("batch", "model"))
        layouts = flaxlayer.layout_map(
            layer, mesh, {"embed": None, "mlp": "model"}
        )
        keras.distribution.set_distribution(
            keras.distribution.ModelParallel(
                layout_map=layouts, batch_dim_name="batch"
            )
        )
        ```

    Args:
        model_or_layer: a `FlaxLayer` or `JaxLayer`, or a model or layer that
            holds some, however deep. The map is for these layers, and for
            others of the same paths if these are built.
        mesh: the mesh of the distribution.
        rules: for each name the mesh axis that it is split over, or `None` for
            an axis that is whole on every device; a dict, or pairs as Flax
            takes them, where a name may come again for weights in which the
            mesh axis of the first pair is taken. A name that is an axis of the
            mesh stands for itself if there is no rule for it. Without any, the
            rules of `nn.logical_axis_rules` that are set here.

    Returns:
        The map. Reading it for a weight of a layer that is being built raises
        a `ValueError` if an axis of the layer has a name without a rule, and
        rules that no layer had a name for are warned of when the last one is
        built; for layers that are built, here.

    Raises:
        TypeError: `model_or_layer` is no Keras layer, `mesh` no `DeviceMesh`,
            or a rule no pair of names.
        ValueError: there is no flaxlayer layer in it; a rule names an axis that
            the mesh has not; or a name has no rule.
    """
    if not isinstance(mesh, keras.distribution.DeviceMesh):
        raise TypeError(
            "`layout_map`: `mesh` has to be a `keras.distribution.DeviceMesh`. "
            f"Received: {short_repr.of(mesh)} (of type {type(mesh).__name__})."
        )
    pairs = _pairs(nn.get_logical_axis_rules() if rules is None else rules)
    _check_mesh_axes(pairs, mesh)
    layers = found_layers.of(
        model_or_layer,
        function="layout_map",
        does="has layouts for the weights",
        otherwise="For other layers set patterns in a "
        "`keras.distribution.LayoutMap`.",
    )
    layouts = _AxisLayouts(layers, mesh, pairs)
    layouts.look_up()
    return layouts


class _AxisLayouts(keras.distribution.LayoutMap):
    """A layout map that learns of a layer's axes when the layer is built.

    Args:
        layers: whose axes have names.
        mesh: the mesh.
        rules: pairs of a name and a mesh axis.
    """

    def __init__(
        self,
        layers: Sequence[ModelLayer],
        mesh: keras.distribution.DeviceMesh,
        rules: Sequence[tuple[str, str | None]],
    ):
        super().__init__(mesh)
        self._rules = rules
        self._waiting = list(layers)
        self._unused = {name for name, _ in rules}
        self._of_names: dict[str, keras.distribution.TensorLayout] = {}

    def __getitem__(self, key: str) -> keras.distribution.TensorLayout | None:
        self.look_up(key)
        own = super().__getitem__(key)
        return self._of_names.get(key) if own is None else own

    def __iter__(self) -> Iterator[str]:
        yield from super().__iter__()
        yield from self._of_names

    def __len__(self) -> int:
        return super().__len__() + len(self._of_names)

    @property
    def patterns(self) -> list[str]:
        """The keys that were set, without the paths that have names."""
        return list(super().__iter__())

    def look_up(self, path: str | None = None) -> None:
        """Takes the axes of the layers that have some by now.

        Args:
            path: that of a weight which is being made; the names of its layer
                are known then.
        """
        if not self._waiting:
            return
        known = [
            layer
            for layer in self._waiting
            if layer.built
            or (path and path.startswith(f"{layer.path}/"))
            or path in {v.path for v in layer._weights.variables}
        ]
        for layer in known:
            self._take(layer)
            self._waiting.remove(layer)
        if known and not self._waiting and self._unused:
            warnings.warn(
                "`layout_map`: no axis has a name that is in these rules: "
                f"{_listed(self._unused)}. They change nothing; is one "
                "misspelt?",
                stacklevel=2,
            )

    def _take(self, layer: ModelLayer) -> None:
        axis_names = getattr(layer, "axis_names", {})
        ruled = {name for name, _ in self._rules}
        decided = {None, *ruled, *self.device_mesh.axis_names}
        undecided: dict[str, str] = {}
        for path, names in axis_names.items():
            self._unused -= set(names)
            for name in names:
                if name not in decided:
                    undecided.setdefault(name, path)
        if undecided:
            found = ", ".join(
                f"{name!r} (of `{path}` {axis_names[path]})"
                for name, path in undecided.items()
            )
            raise ValueError(
                f"`layout_map`: {layer._described} has axes with "
                f"names that there are no rules for: {found}. Add a rule for "
                "each, such as "
                f"`{{{next(iter(undecided))!r}: None}}` for an axis that is "
                f"not split. Rules: {_listed(ruled)}."
            )
        # What a layer was given has had its path before the layer was built.
        paths = {
            joined(path): variable.path
            for path, variable in layer._weights.by_path().items()
        }
        themselves = [
            (axis, axis)
            for axis in self.device_mesh.axis_names
            if axis not in ruled
        ]
        for path, names in axis_names.items():
            try:
                spec: Any = nn.logical_to_mesh_axes(
                    names, [*self._rules, *themselves]
                )
            except ValueError as error:  # A name that is there twice.
                raise ValueError(
                    f"`layout_map`: {layer._described} has no layout for "
                    f"`{path}`, whose axes are called {names}: {error}"
                ) from error
            self._of_names[paths.get(path, f"{layer.path}/{path}")] = (
                keras.distribution.TensorLayout(tuple(spec), self.device_mesh)
            )


def _pairs(rules: Any) -> list[tuple[str, str | None]]:
    pairs = list(rules.items() if isinstance(rules, Mapping) else rules)
    for pair in pairs:
        match pair:
            case (str(), str() | None):
                continue
            case (str(name), tuple() | list() as axes):
                raise TypeError(
                    f"`layout_map`: the rule for {name!r} has several mesh "
                    f"axes, {axes!r}. A layout of Keras splits an axis over "
                    "one: make a mesh in which these are one axis."
                )
        raise TypeError(
            "`layout_map`: `rules` has to be a dict, or pairs, of a name and "
            f"an axis of the mesh or `None`. Received: {short_repr.of(pair)}."
        )
    return [tuple(pair) for pair in pairs]


def _check_mesh_axes(
    rules: Sequence[tuple[str, str | None]], mesh: Any
) -> None:
    unknown = {
        name: axis
        for name, axis in rules
        if axis is not None and axis not in mesh.axis_names
    }
    if unknown:
        found = ", ".join(f"{k!r}: {v!r}" for k, v in unknown.items())
        raise ValueError(
            "`layout_map`: there are rules for axes that the mesh has not: "
            f"{{{found}}}. Expected one of {_listed(mesh.axis_names)}, or "
            "`None`."
        )


def _listed(names: Any) -> str:
    return ", ".join(map(repr, sorted(names))) or "none"
