"""Pictures of the weights of layers."""

import math
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import keras

from flaxlayer import found_layers, weight_rows
from flaxlayer.weight_rows import KINDS, WeightRow
from flaxlayer.weights import variable_tree

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Those of Okabe and Ito that the colour-blind tell apart, and grey.
_COLOURS = {"trainable": "#0072B2", "frozen": "#999999", "state": "#E69F00"}
_INCHES_PER_LINE = 0.22
_FONT = {"family": "monospace", "fontsize": 8, "va": "center"}
_INDENT = 2.0
# Of a character, in the units of the horizontal axis.
_CHARACTER = 1.0
_GAP = 3.0
_BAR = 30.0


class _Line(NamedTuple):
    """A submodule, or a weight in one."""

    depth: int
    text: str
    row: WeightRow | None


def plot_weights(
    layer: keras.layers.Layer, path: str | os.PathLike[str] | None = None
) -> "Figure":
    """Draws the weights of a layer, as the tree that its modules are.

    Each submodule has a line, and each weight one with its name, its shape, its
    bytes and a bar as long as their square root. Colours tell what is trained,
    frozen, or state that calls update. Of a weight that is split over several
    devices the partition spec is beside the shape; the bar of the whole is
    pale, and that of what one device has is not.

    It needs matplotlib: `pip install "flaxlayer[plot]"`.

    Args:
        layer: a `FlaxLayer` or `JaxLayer`; or a model, or another layer, that
            holds some, however deep, which are drawn one below the other.
        path: where to write it; the ending says in which of matplotlib's
            formats, such as `.svg` or `.png`.

    Returns:
        A `matplotlib.figure.Figure`, which notebooks show.

    Raises:
        ImportError: matplotlib is not installed.
        TypeError: `layer` is no Keras layer.
        ValueError: a layer is not built, or there is no flaxlayer layer; or
            matplotlib does not know the format.
    """
    found = found_layers.of(
        layer,
        function="plot_weights",
        does="draws the weights",
        otherwise="`keras.utils.plot_model` draws other layers.",
    )
    rows = [list(weight_rows.of(each)) for each in found]
    try:
        from matplotlib.figure import Figure
        from matplotlib.patches import Patch
    except ImportError as error:
        raise ImportError(
            '`plot_weights` needs matplotlib: `pip install "flaxlayer[plot]"`.'
        ) from error
    lines = [
        line
        for each, of_layer in zip(found, rows, strict=True)
        for line in (_Line(0, each.name, None), *_lines(of_layer))
    ]
    names = max(_INDENT * line.depth + len(line.text) for line in lines)
    weights = [line.row for line in lines if line.row is not None]
    shapes = max((len(_shape(row)) for row in weights), default=0)
    bars = names + shapes + 2 * _GAP
    width = bars + _BAR + _GAP + 8

    figure = Figure(
        figsize=(width * 0.075, (len(lines) + 2) * _INCHES_PER_LINE),
        layout="constrained",
    )
    axes = figure.subplots()
    axes.set_xlim(0, width)
    axes.set_ylim(len(lines), -2)
    axes.axis("off")
    largest = max((row.nbytes for row in weights), default=0)
    for y, line in enumerate(lines):
        x = _INDENT * line.depth
        boldness = "bold" if line.row is None else "normal"
        axes.text(x, y, line.text, weight=boldness, **_FONT)
        if line.row is not None:
            axes.text(names + _GAP, y, _shape(line.row), **_FONT)
            _draw_bar(axes, line.row, bars, y, largest)
    for start, end, x in _branches(lines):
        axes.plot([x, x], [start + 0.5, end], color="#CCCCCC", linewidth=0.8)
    axes.legend(
        handles=[Patch(color=_COLOURS[kind], label=kind) for kind in KINDS],
        loc="upper right",
        ncols=len(KINDS),
        fontsize=8,
        frameon=False,
    )
    if path is not None:
        figure.savefig(os.fspath(path))
    return figure


def _lines(rows: Sequence[WeightRow]) -> Iterator[_Line]:
    """A line for each weight, after those of submodules that come first."""
    before: tuple[str, ...] = ()
    for row in rows:
        *modules, name = variable_tree.names_of(row.path)
        shared = 0
        while shared < min(len(before), len(modules)) and (
            before[shared] == modules[shared]
        ):
            shared += 1
        for depth in range(shared, len(modules)):
            yield _Line(depth + 1, modules[depth], None)
        yield _Line(len(modules) + 1, name, row)
        before = tuple(modules)


def _shape(row: WeightRow) -> str:
    shape = f"{row.shape} {row.dtype}"
    return shape if row.part == row.shape else f"{shape} {row.sharding}"


def _draw_bar(
    axes: Any, row: WeightRow, left: float, y: int, most: int
) -> None:
    """The bytes of a weight: pale the whole, solid what a device has."""

    def length(nbytes: int) -> float:
        return _BAR * math.sqrt(nbytes / max(most, 1))

    colour = _COLOURS[row.kind]
    if row.part != row.shape:
        axes.barh(y, length(row.nbytes), left=left, color=colour, alpha=0.35)
    axes.barh(y, length(row.nbytes_per_device), left=left, color=colour)
    axes.text(left + _BAR + _GAP / 2, y, f"{row.nbytes:,}", **_FONT)


def _branches(lines: Sequence[_Line]) -> Iterator[tuple[int, int, float]]:
    """Where lines go from a submodule down to the last that is in it."""
    for start, line in enumerate(lines):
        if line.row is not None:
            continue
        end = start
        for y in range(start + 1, len(lines)):
            if lines[y].depth <= line.depth:
                break
            if lines[y].depth == line.depth + 1:
                end = y
        yield start, end, _INDENT * line.depth + _CHARACTER / 2
