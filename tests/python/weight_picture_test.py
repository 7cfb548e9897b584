"""Pictures of weights: what is in them, and where."""

import sys

import flax.linen as nn
import keras
import matplotlib.colors
import numpy as np
import pytest
from matplotlib.figure import Figure

import flaxlayer
from flaxlayer import FlaxLayer

X = np.ones((2, 4), "float32")


class Net(nn.Module):
    @nn.compact
    def __call__(self, inputs, training=False):
        x = nn.Dense(16, name="up")(inputs)
        x = nn.BatchNorm(use_running_average=not training, name="norm")(x)
        return nn.Dense(1, use_bias=False, name="down")(x)


def built(**kwargs):
    layer = FlaxLayer(Net(), seed=0, **kwargs)
    layer(X)
    return layer


def texts(figure):
    """What is written, line by line: with its distance from the left."""
    lines = {}
    for text in figure.axes[0].texts:
        lines.setdefault(text.get_position()[1], []).append(
            (text.get_position()[0], text.get_text())
        )
    return [[text for _, text in sorted(lines[y])] for y in sorted(lines)]


def bars(figure):
    """The width of each bar and its colour, from above."""
    patches = figure.axes[0].patches
    return [
        (patch.get_width(), matplotlib.colors.to_hex(patch.get_facecolor()))
        for patch in sorted(patches, key=lambda patch: patch.get_y())
    ]


def test_the_tree_of_modules_has_a_line_for_each_weight():
    figure = flaxlayer.plot_weights(built(name="net"))
    assert isinstance(figure, Figure)
    assert texts(figure) == [
        ["net"],
        ["params"],
        ["down"],
        ["kernel", "(16, 1) float32", "64"],
        ["norm"],
        ["bias", "(16,) float32", "64"],
        ["scale", "(16,) float32", "64"],
        ["up"],
        ["bias", "(16,) float32", "64"],
        ["kernel", "(4, 16) float32", "256"],
        ["batch_stats"],
        ["norm"],
        ["mean", "(16,) float32", "64"],
        ["var", "(16,) float32", "64"],
    ]
    # What is deeper in the tree begins further to the right.
    left = {t.get_text(): t.get_position()[0] for t in figure.axes[0].texts}
    assert left["net"] < left["params"] < left["down"] < left["kernel"]


def test_bars_tell_bytes_and_kinds():
    layer = built()
    layer.freeze(".*/up/.*")
    widths, colours = zip(*bars(flaxlayer.plot_weights(layer)), strict=True)
    # Of 64 and 256 bytes, as their square roots.
    np.testing.assert_allclose(np.divide(widths[0], widths[4]), 0.5)
    trained, frozen, state = colours[0], colours[3], colours[5]
    assert colours == (*[trained] * 3, *[frozen] * 2, *[state] * 2)
    assert len({trained, frozen, state}) == 3
    figure = flaxlayer.plot_weights(layer)
    shown = [text.get_text() for text in figure.axes[0].get_legend().texts]
    assert shown == ["trainable", "frozen", "state"]


def test_layers_of_a_model_are_drawn_one_below_the_other():
    model = keras.Sequential([built(name="one"), keras.layers.Dense(2)])
    model.add(FlaxLayer(nn.Dense(2), name="two"))
    model(X)
    lines = [line[0] for line in texts(flaxlayer.plot_weights(model))]
    assert lines.index("one") == 0
    assert lines[lines.index("two") :] == ["two", "params", "bias", "kernel"]


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_it_is_written_as_its_ending_says(tmp_path, ending):
    path = tmp_path / f"weights.{ending}"
    flaxlayer.plot_weights(built(), path)
    start = path.read_bytes()[:8]
    assert start.startswith(b"<?xml" if ending == "svg" else b"\x89PNG")


def test_layers_without_weights_have_a_line():
    layer = FlaxLayer(nn.Dropout(0.5), name="drop")
    layer(X)
    assert texts(flaxlayer.plot_weights(layer)) == [["drop"]]


def test_what_cannot_be_drawn_is_refused(monkeypatch):
    with pytest.raises(ValueError, match="is not built"):
        flaxlayer.plot_weights(FlaxLayer(Net()))
    with pytest.raises(TypeError, match="`plot_weights` takes a Keras layer"):
        flaxlayer.plot_weights(Net())
    with pytest.raises(ValueError, match="`keras.utils.plot_model`"):
        flaxlayer.plot_weights(keras.layers.Dense(2))
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'pip install "flaxlayer\[plot\]"'):
        flaxlayer.plot_weights(built())
