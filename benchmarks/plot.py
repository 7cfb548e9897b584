"""The picture of the stored results: steps, compilation, random words."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")  # Needs no display.
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from benchmarks import growth, interleave, kernels, models, report, train
from benchmarks.loops import FREE, HAND, OURS, PEER
from benchmarks.programs import XLA

_COLORS = {PEER: "#c0392b", OURS: "#4c78a8", FREE: "#c9d6e5"}
_OTHER = "#9aa5b1"
_INK, _GRID = "#46525f", "#e6e6e6"
_NAMES = {PEER: "Keras's layer", FREE: "limit: free random bits"}

_SETTINGS = {
    # The same results have to give the same file: ids are made of this.
    "svg.hashsalt": "flaxlayer",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    # Over the grid, and no box around them.
    "legend.fontsize": 8,
    "legend.edgecolor": "none",
    "legend.columnspacing": 1.2,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": _GRID,
    "errorbar.capsize": 2,
    "lines.markersize": 3,
    # Not transparent: what is dark on white is lost on a dark page.
    "figure.facecolor": "#ffffff",
}

# What is drawn, by the command that measures it.
_SECTIONS = {
    "train": (train.STEP, growth.GROWTH),
    "kernels": (kernels.RUN, kernels.COMPILE),
}

Results = Mapping[str, Any]


def write(folder: pathlib.Path, path: pathlib.Path) -> None:
    """Draws the results stored in a folder.

    Args:
        folder: has `train.json` and `kernels.json`.
        path: where to, an `.svg`.

    Raises:
        FileNotFoundError: one of them has not been measured.
        ValueError: a part of them has not been.
    """
    stored = {}
    for command, sections in _SECTIONS.items():
        file = folder / f"{command}.json"
        if not file.exists():
            raise FileNotFoundError(
                f"{file} is missing; `tools/dev bench {command}` writes it"
            )
        stored[command] = json.loads(file.read_text(encoding="utf-8"))
        missing = set(sections) - stored[command]["sections"].keys()
        if missing:
            raise ValueError(f"{file} lacks {', '.join(sorted(missing))}")
    draw(stored["train"], stored["kernels"], path)


def draw(training: Results, operations: Results, path: pathlib.Path) -> None:
    """Draws what `bench train` and `bench kernels` stored.

    Args:
        training: the contents of `train.json`.
        operations: those of `kernels.json`.
        path: where to, an `.svg`.
    """
    with plt.rc_context(_SETTINGS):
        figure, (steps, compiling, words) = plt.subplots(
            1,
            3,
            figsize=(11, 4),
            layout="constrained",
            gridspec_kw={"width_ratios": (11, 6, 6)},
        )
        _draw_steps(steps, training)
        _draw_growth(compiling, training)
        _draw_words(words, operations)
        # What both say is said once.
        captions = dict.fromkeys(map(caption, (training, operations)))
        figure.supxlabel("\n".join(captions), fontsize=7, x=0.01, ha="left")
        figure.savefig(path, metadata={"Date": None, "Creator": None})
        plt.close(figure)


def _draw_steps(axes: Axes, results: Results) -> None:
    measures = results["sections"][train.STEP]["measures"]
    variants = [
        name
        for name in (PEER, OURS, FREE)
        if all(name in by_variant for by_variant in measures.values())
    ]
    width = 0.8 / len(variants)
    for index, variant in enumerate(variants):
        ratios = [
            interleave.ratios(
                by_variant[HAND]["values"], by_variant[variant]["values"]
            )
            for by_variant in measures.values()
        ]
        axes.bar(
            np.arange(len(ratios)) + (index - (len(variants) - 1) / 2) * width,
            [ratio.median for ratio in ratios],
            width * 0.92,
            yerr=_whiskers(ratios),
            color=_COLORS[variant],
            error_kw={"ecolor": _INK, "elinewidth": 1},
            label=_NAMES.get(variant, variant),
        )
    axes.axhline(1, color=_INK, linewidth=1)
    axes.set_title(f"Training steps per second, {HAND} JAX is 1")
    axes.set_xticks(range(len(measures)), [_short(name) for name in measures])
    axes.tick_params(axis="x", length=0)
    axes.margins(x=0.02, y=0.2)  # Room for the legend.
    axes.legend(loc="upper left", ncols=len(variants))


def _draw_growth(axes: Axes, results: Results) -> None:
    measures = results["sections"][growth.GROWTH]["measures"]
    sizes = sorted(results["settings"]["sizes"])
    names = {n: growth.measure_name(growth.COMPILE, n) for n in sizes}
    for variant in (PEER, OURS):
        # Keras's layer may lack the last sizes.
        found = [n for n in sizes if variant in measures[names[n]]]
        if not found:
            continue
        spreads = [
            interleave.Spread.of(
                [n * value for value in measures[names[n]][variant]["values"]]
            )
            for n in found
        ]
        label = _NAMES.get(variant, variant)
        _draw_line(axes, found, spreads, color=_COLORS[variant], label=label)
    axes.set_title("Compiling the step, seconds")
    axes.set_xlabel("transformer blocks")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper left")


def _draw_words(axes: Axes, results: Results) -> None:
    exponents = results["settings"]["exponents"]
    for section, color, label in (
        (kernels.COMPILE, _OTHER, "compiling"),
        (kernels.RUN, _COLORS[OURS], "calling"),
    ):
        measures = results["sections"][section]["measures"]
        found = [measures[kernels.words_name(e)] for e in exponents]
        ratios = [
            interleave.ratios(by[XLA]["values"], by[OURS]["values"])
            for by in found
        ]
        words = [2**exponent for exponent in exponents]
        _draw_line(axes, words, ratios, color=color, label=label)
    axes.axhline(1, color=_INK, linewidth=1)
    axes.set_title("Random words, XLA / native")
    axes.set_xlabel("words")
    axes.set_xscale("log", base=2)
    axes.set_ylim(bottom=0)
    axes.legend()


def _draw_line(
    axes: Axes,
    places: Sequence[int],
    spreads: Sequence[interleave.Spread],
    **style: str,
) -> None:
    medians = [spread.median for spread in spreads]
    axes.errorbar(places, medians, _whiskers(spreads), marker="o", **style)


def _whiskers(spreads: Sequence[interleave.Spread]) -> np.ndarray:
    """How far the quartiles are below and above the medians."""
    return np.array(
        [
            [spread.median - spread.quarter for spread in spreads],
            [spread.three_quarters - spread.median for spread in spreads],
        ]
    )


def _short(name: str) -> str:
    """A model's name on two lines, with what tells it from others."""
    return {
        models.TRANSFORMER: "transformer\nd=64",
        "transformer-128": "transformer\nd=128",
        "mlp-24x64": "MLP\n24 x 64",
        "mlp-48x32": "MLP\n48 x 32",
        models.RESNET: "ResNet\nno dropout",
    }.get(name, name)


def caption(results: Results) -> str:
    """With what and where results were measured."""
    machine = results["machine"]
    return (
        "Medians and quartiles of the rounds. "
        f"{report.described(results['versions'])}; {machine['cpu']}, "
        f"{machine['cores']} cores, {machine['system']}; {results['date']}."
    )
