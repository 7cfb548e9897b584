"""Tables of the weights of layers."""

import html
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import keras
import rich.box
import rich.console
import rich.table
import rich.text

from flaxlayer import found_layers, weight_rows
from flaxlayer.paths import joined
from flaxlayer.weight_rows import KINDS, WeightRow

# Of the console: as wide as a path may be, since a cut one is of no use.
_WIDTH = 10_000


class WeightTables(str):
    """Tables as text, which a notebook shows as they are."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        # Each character is as wide as another, and no line is broken.
        style = "white-space: pre; overflow-x: auto; line-height: normal"
        return f'<pre style="{style}">{html.escape(self)}</pre>'


def tabulate(layer: keras.layers.Layer) -> WeightTables:
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
        The tables as text without colours: a `str`, which notebooks show line
        by line.

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
    weights = [list(weight_rows.of(each)) for each in found]
    parts: list[Any] = []
    for each, rows in zip(found, weights, strict=True):
        parts += [repr(each), "", _table_of(rows)]
        parts += ["", _totals_of(rows), "", ""]
    if len(found) > 1:
        everything = [row for rows in weights for row in rows]
        parts += [f"{len(found)} layers of {layer.name}", ""]
        parts += [_totals_of(everything)]
    return WeightTables(_text_of(parts))


def _is_any_split(rows: Sequence[WeightRow]) -> bool:
    return any(row.part != row.shape for row in rows)


def _table_of(rows: Sequence[WeightRow]) -> rich.table.Table:
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
        cells = [joined(row.path), str(row.shape), row.dtype, row.kind, *axes]
        cells += [row.sharding, f"{row.nbytes:,}"]
        if is_any_split:
            cells.append(f"{row.nbytes_per_device:,}")
        table.add_row(*_plain(cells))
    return table


def _totals_of(rows: Sequence[WeightRow]) -> rich.table.Table:
    table = _table("kind")
    headers = ["weights", "values", "bytes"]
    is_any_split = _is_any_split(rows)
    if is_any_split:
        headers.append("per device")
    for header in headers:
        table.add_column(header, justify="right")
    groups = [(k, [r for r in rows if r.kind == k]) for k in KINDS]
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
