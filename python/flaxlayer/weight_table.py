"""Tables of the weights of layers."""

import dataclasses
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import keras
import numpy as np
import rich.box
import rich.console
import rich.table
import rich.text

from flaxlayer import found_layers
from flaxlayer.layer.model_layer import ModelLayer
from flaxlayer.paths import joined

_KINDS = ("trainable", "frozen", "state")
# Of the console: as wide as a path may be, since a cut one is of no use.
_WIDTH = 10_000


def tabulate(layer: keras.layers.Layer) -> str:
    """Lists the weights of a layer, or of all flaxlayer layers in a model.

    Each weight has a row with

    - its path, as in `module.init`: `params/Dense_0/kernel`;
    - its shape;
    - the dtype it is stored in, and, where the layer's dtype policy has calls
      compute with another one, that one: `float32 as bfloat16`;
    - what it is: `trainable`; `frozen` for a parameter that is not trained,
      because it or its layer is not trainable; or `state`, which calls update;
    - its logical axes, in a column that is there only if a parameter of the
      layer has some (`nn.with_partitioning`);
    - its sharding: the partition spec, such as `P('batch', None)`, `-` if it is
      on one device, and `?` inside of a trace, where nobody knows;
    - its size in bytes: that of the whole weight, however it is sharded;
    - the bytes that one device has of it, in a column `per device` that is
      there only if a weight of the layer is split over several.

    Below them are the numbers of weights and of values, the bytes, and those
    per device, of each kind and of all. The counter of the layer's random
    numbers, which Keras has among its variables, is no weight of the model and
    not listed.

    No line is cut or broken, so the text may be wider than a terminal.

    Example:
        ```python
        layer = flaxlayer.FlaxLayer(nn.Dense(3))
        layer.build((None, 4))
        print(flaxlayer.tabulate(layer))
        ```

    Args:
        layer: a `FlaxLayer` or `JaxLayer`; or a model, or another layer, that
            holds some, however deep. Then there is a table for each of them,
            and one line for all at the end.

    Returns:
        The tables as text without colours.

    Raises:
        TypeError: `layer` is no Keras layer.
        ValueError: a layer is not built, or there is no flaxlayer layer.
    """
    found = found_layers.of(
        layer,
        function="tabulate",
        does="lists the weights",
        otherwise="`summary()` of a Keras model lists its other layers.",
    )
    weights = [list(_weights(each)) for each in found]
    parts: list[Any] = []
    for each, rows in zip(found, weights, strict=True):
        parts += [repr(each), "", _table_of(rows)]
        parts += ["", _totals_of(rows), "", ""]
    if len(found) > 1:
        everything = [row for rows in weights for row in rows]
        parts += [f"{len(found)} layers of {layer.name}", ""]
        parts += [_totals_of(everything)]
    return _text_of(parts)


@dataclasses.dataclass(frozen=True)
class _Weight:
    path: str
    shape: tuple[int, ...]
    dtype: str
    kind: str
    axes: str
    sharding: str
    part: tuple[int, ...]  # What one device has, a shape.
    itemsize: int

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.itemsize

    @property
    def nbytes_per_device(self) -> int:
        return math.prod(self.part) * self.itemsize


def _weights(layer: ModelLayer) -> Iterator[_Weight]:
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
            yield _Weight(
                path=name,
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


def _is_any_split(rows: Sequence[_Weight]) -> bool:
    return any(row.part != row.shape for row in rows)


def _table_of(rows: Sequence[_Weight]) -> rich.table.Table:
    table = _table("path", "shape", "dtype", "kind")
    has_axes = any(row.axes for row in rows)
    if has_axes:
        table.add_column("axes")
    table.add_column("sharding")
    table.add_column("bytes", justify="right")
    is_any_split = _is_any_split(rows)
    if is_any_split:
        table.add_column("per device", justify="right")
    for row in rows:
        axes = [row.axes or "-"] if has_axes else []
        cells = [row.path, str(row.shape), row.dtype, row.kind, *axes]
        cells += [row.sharding, f"{row.nbytes:,}"]
        if is_any_split:
            cells.append(f"{row.nbytes_per_device:,}")
        table.add_row(*_plain(cells))
    return table


def _totals_of(rows: Sequence[_Weight]) -> rich.table.Table:
    table = _table("kind")
    headers = ["weights", "values", "bytes"]
    is_any_split = _is_any_split(rows)
    if is_any_split:
        headers.append("per device")
    for header in headers:
        table.add_column(header, justify="right")
    groups = [(k, [r for r in rows if r.kind == k]) for k in _KINDS]
    for name, group in [*groups, ("all", rows)]:
        numbers = [
            len(group),
            sum(row.size for row in group),
            sum(row.nbytes for row in group),
        ]
        if is_any_split:
            numbers.append(sum(row.nbytes_per_device for row in group))
        table.add_row(name, *(f"{number:,}" for number in numbers))
    return table


def _table(*columns: str) -> rich.table.Table:
    return rich.table.Table(
        *columns, box=rich.box.SIMPLE, pad_edge=False, show_edge=False
    )


def _plain(cells: Iterable[str]) -> Iterator[rich.text.Text]:
    """Cells in which brackets are brackets and not Rich's markup."""
    return (rich.text.Text(cell, no_wrap=True) for cell in cells)


def _text_of(parts: Sequence[Any]) -> str:
    output = io.StringIO()
    console = rich.console.Console(
        file=output, width=_WIDTH, color_system=None, force_terminal=False
    )
    for part in parts:
        console.print(part, markup=False, highlight=False, emoji=False)
    # Rich fills its lines with blanks.
    lines = [line.rstrip() for line in output.getvalue().splitlines()]
    return "\n".join(lines).rstrip()
