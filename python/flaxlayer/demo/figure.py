"""The picture of a training run: its curves and what the model predicts."""

import pathlib

import matplotlib
import numpy as np

matplotlib.use("Agg")  # Needs no display.
from matplotlib import pyplot as plt

_TRAIN, _TEST = "#4c78a8", "#e4572e"
_RIGHT, _WRONG = "#4a4a4a", "#d62728"
_ROWS, _COLUMNS = 5, 8


def save(
    path: pathlib.Path,
    history: dict[str, list[float]],
    images: np.ndarray,
    labels: np.ndarray,
    logits: np.ndarray,
) -> None:
    """Writes the picture.

    Args:
        path: where to, a `.png`.
        history: `keras.callbacks.History.history`.
        images: test images, `[n, height, width, 1]`.
        labels: their digits, `[n]`.
        logits: what the model says of them, `[n, 10]`.
    """
    settings = {
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": "#e6e6e6",
    }
    with plt.rc_context(settings):
        figure = plt.figure(figsize=(13, 6), layout="constrained")
        left, right = figure.subfigures(
            1, 2, squeeze=False, width_ratios=(4, 6), wspace=0.03
        )[0]
        _curves(left, history)
        _predictions(right, images, labels, logits)
        figure.savefig(path, dpi=120)
        plt.close(figure)


def _curves(figure, history: dict[str, list[float]]) -> None:
    accuracy, loss = figure.subplots(2, 1, sharex=True)
    epochs = np.arange(1, len(history["loss"]) + 1)
    for axes, name, title in (
        (accuracy, "accuracy", "Accuracy"),
        (loss, "loss", "Loss"),
    ):
        axes.plot(epochs, history[name], color=_TRAIN, lw=2, label="training")
        axes.plot(
            epochs, history[f"val_{name}"], color=_TEST, lw=2, label="test"
        )
        axes.set_title(title, loc="left", fontweight="bold")
        axes.margins(x=0.02)
    best = max(history["val_accuracy"])
    # The first epochs are far below; what is of interest is the rest.
    accuracy.set_ylim(min(0.9, best - 0.02), 1.002)
    accuracy.legend(loc="lower right", frameon=False)
    loss.set_yscale("log")
    loss.set_xlabel("epoch")
    loss.xaxis.get_major_locator().set_params(integer=True)


def _predictions(
    figure, images: np.ndarray, labels: np.ndarray, logits: np.ndarray
) -> None:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = shifted / shifted.sum(axis=1, keepdims=True)
    predicted = probabilities.argmax(axis=1)
    confidence = probabilities.max(axis=1)
    wrong = predicted != labels
    figure.suptitle(
        f"Wrong: {wrong.sum()} of {len(labels)} test digits (red); after "
        "them those it is least sure of",
        fontweight="bold",
        fontsize=12,
        x=0.01,
        ha="left",
    )
    # The wrong ones first, then by how sure the model is.
    order = np.lexsort((confidence, ~wrong))
    for axes, i in zip(
        figure.subplots(_ROWS, _COLUMNS).flat, order, strict=False
    ):
        axes.imshow(images[i, :, :, 0], cmap="gray_r", vmin=0, vmax=1)
        axes.set(xticks=[], yticks=[])
        axes.grid(visible=False)
        color = _WRONG if wrong[i] else _RIGHT
        for spine in axes.spines.values():
            spine.set(visible=True, color=color if wrong[i] else "#cccccc")
            spine.set_linewidth(2 if wrong[i] else 0.8)
        text = f"{predicted[i]}   {confidence[i]:.0%}"
        if wrong[i]:
            text = f"{predicted[i]}, is {labels[i]}"
        axes.set_title(text, color=color, fontsize=10, pad=3)
