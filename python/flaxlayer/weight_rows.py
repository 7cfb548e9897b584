"""The weights of a layer, as tables and pictures show them."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import jax
import keras
import numpy as np

from flaxlayer.layer.model_layer import ModelLayer
from flaxlayer.paths import Path, joined

KINDS = ("trainable", "frozen", "state")


@dataclasses.dataclass(frozen=True)
class WeightRow:
    """What is shown of a weight.

    Attributes:
        path: its path in the model.
        shape: that of the whole.
        dtype: what it is stored in, and what calls compute with if that is
            another one.
        kind: one of `KINDS`.
        axes: the names of its axes; empty if they have none.
        sharding: how it is split.
        part: the shape of what one device has of it.
        itemsize: the bytes of a value.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: str
    kind: str
    axes: str
    sharding: str
    part: tuple[int, ...]
    itemsize: int

    @property
    def size(self) -> int:
        """The number of values."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The bytes of the whole."""
        return self.size * self.itemsize

    @property
    def nbytes_per_device(self) -> int:
        """The bytes of what one device has."""
        return math.prod(self.part) * self.itemsize


def of(layer: ModelLayer) -> Iterator[WeightRow]:
    """The weights of a layer, in the order of their paths in the trees.

    Raises:
        ValueError: it is not built.
    """
    if not layer.built:
        raise ValueError(
            f"{layer._described} is not built: it has no weights to list yet. "
            "Build it, or call it or its model on data first."
        )
    axis_names = getattr(layer, "axis_names", {})
    compute_dtype = layer.compute_dtype if layer.autocast else None
    for kind, tree in (
        ("params", layer._weights.params),
        ("state", layer._weights.state),
    ):
        for path, variable, called_with in zip(
            tree.paths, tree.variables, tree.specs(compute_dtype), strict=True
        ):
            name = joined(path)
            stored, used = str(variable.dtype), called_with.dtype.name
            yield WeightRow(
                path=path,
                shape=tuple(variable.shape),
                dtype=stored if stored == used else f"{stored} as {used}",
                kind=_kind_of(variable, kind),
                axes=", ".join(map(str, axis_names.get(name, ()))),
                sharding=_sharding_of(variable.value),
                part=_part_of(variable.value),
                itemsize=np.dtype(stored).itemsize,
            )


def _kind_of(variable: keras.Variable, tree: str) -> str:
    if tree == "state":
        return "state"
    return "trainable" if variable.trainable else "frozen"


def _sharding_of(value: Any) -> str:
    if isinstance(value, jax.core.Tracer):
        return "?"
    sharding = getattr(value, "sharding", None)
    if sharding is None or len(sharding.device_set) == 1:
        return "-"
    if isinstance(sharding, jax.sharding.NamedSharding):
        return f"P({', '.join(map(repr, sharding.spec))})"
    return type(sharding).__name__


def _part_of(value: Any) -> tuple[int, ...]:
    if isinstance(value, jax.core.Tracer) or not hasattr(value, "sharding"):
        return tuple(value.shape)
    return value.sharding.shard_shape(value.shape)
