"""A progress bar is for what takes long, and for nothing else."""

import re

import jax
import keras
import numpy as np
import pytest

from flaxlayer import JaxLayer
from flaxlayer.weights import progress


class Clock:
    """A second passes each time it is looked at."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1.0
        return self.now


def report(items, clock=lambda: 0.0):
    return progress.reported(
        items, title="Counting", unit="number", clock=clock
    )


def counts(text):
    """What the bar has shown: pairs of done and total."""
    return re.findall(r"(\d+)/(\d+)", text)


def layer_with_weights(number):
    def init_fn(rng, inputs):
        keys = jax.random.split(rng, number)
        return [jax.random.normal(key, (2, 3)) for key in keys]

    def call_fn(params, inputs):
        return inputs + sum(w.sum() for w in params)

    return JaxLayer(call_fn, init_fn, seed=0)


def test_the_items_come_in_order():
    assert list(report(range(5), Clock())) == [0, 1, 2, 3, 4]
    assert list(report([])) == []


def test_what_is_quick_shows_nothing(capsys):
    list(report(range(1000)))
    assert capsys.readouterr() == ("", "")


def test_what_is_slow_shows_a_bar_from_then_on(capsys):
    list(report(range(6), Clock()))
    text, errors = capsys.readouterr()
    assert text.startswith("Counting\n")
    # At the first item one second has passed, at the second two.
    assert counts(text)[0] == ("2", "6")
    assert counts(text)[-1] == ("6", "6")
    assert "/number" in text
    assert text.endswith("\n")
    assert errors == ""


def test_what_is_done_is_not_announced(capsys):
    list(report(range(2), Clock()))
    list(report(range(1), Clock()))
    assert capsys.readouterr() == ("", "")


def test_an_item_counts_when_it_is_done(capsys):
    items = report(range(6), Clock())
    for _ in range(2):
        next(items)
    assert capsys.readouterr().out == ""
    next(items)
    assert counts(capsys.readouterr().out) == [("2", "6")]


def test_nothing_is_shown_where_keras_shows_nothing(capsys):
    keras.config.disable_interactive_logging()
    try:
        list(report(range(9), Clock()))
    finally:
        keras.config.enable_interactive_logging()
    assert capsys.readouterr() == ("", "")


def test_an_error_goes_through(capsys):
    def fail():
        for item in report(range(9), Clock()):
            if item == 4:
                raise RuntimeError("the fifth item")

    with pytest.raises(RuntimeError, match="the fifth item"):
        fail()


def test_a_quick_build_shows_nothing(capsys, monkeypatch):
    # Quick on any machine, however busy.
    monkeypatch.setattr(progress, "AFTER_SECONDS", 600.0)
    layer_with_weights(4).build((None, 3))
    assert capsys.readouterr() == ("", "")


def test_a_slow_build_shows_its_progress(capsys, monkeypatch):
    quiet = layer_with_weights(7)
    quiet.build((None, 3))
    monkeypatch.setattr(progress, "AFTER_SECONDS", 0.0)
    layer = layer_with_weights(7)
    layer.build((None, 3))
    text, errors = capsys.readouterr()
    assert text.startswith("Initialising 7 weights\n")
    done, total = counts(text)[-1]
    assert done == total
    assert int(total) >= 7
    assert "/operation" in text
    assert errors == ""
    for shown, expected in zip(layer.weights, quiet.weights, strict=True):
        np.testing.assert_array_equal(shown.value, expected.value)
