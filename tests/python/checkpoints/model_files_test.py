"""Files of Keras that are there as a whole, or not at all."""

import os

import flax.linen as nn
import keras
import numpy as np
import pytest

import flaxlayer
from flaxlayer import FlaxLayer

X = np.random.default_rng(0).standard_normal((8, 3)).astype(np.float32)
NAMES = ["model.keras", "model.weights.h5"]


def compiled(seed):
    model = keras.Sequential(
        [keras.Input((3,)), FlaxLayer(nn.Dense(3), seed=seed)]
    )
    model.compile("sgd", "mse")
    return model


def loaded(path):
    if path.suffix == ".keras":
        return keras.models.load_model(path)
    model = compiled(9)
    model.load_weights(path)
    return model


def assert_same(a, b):
    for x, y in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("name", NAMES)
def test_what_was_saved_is_loaded(tmp_path, name):
    path = tmp_path / name
    flaxlayer.save_model(compiled(1), path)
    assert os.listdir(tmp_path) == [name]
    assert_same(loaded(path), compiled(1))
    flaxlayer.save_model(compiled(2), str(path), overwrite=True)
    assert os.listdir(tmp_path) == [name]
    assert_same(loaded(path), compiled(2))


def full_disk(self, path, *args, **kwargs):
    with open(path, "wb") as file:
        file.write(b"half")
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("way", ["function", "callback"])
@pytest.mark.parametrize("name", NAMES)
def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch, name, way):
    path = tmp_path / name
    flaxlayer.save_model(compiled(1), path)
    model = compiled(2)
    for method in ("save", "save_weights"):
        monkeypatch.setattr(keras.Model, method, full_disk)
    save = fit if way == "callback" else save_over
    with pytest.raises(OSError, match="No space left"):
        save(model, path)
    monkeypatch.undo()
    assert os.listdir(tmp_path) == [name]
    assert_same(loaded(path), compiled(1))


def save_over(model, path):
    flaxlayer.save_model(model, path, overwrite=True)


def fit(model, path, **options):
    checkpoint = flaxlayer.ModelCheckpoint(
        path, save_weights_only=path.suffix == ".h5", **options
    )
    model.fit(X, X, epochs=2, verbose=0, callbacks=[checkpoint])


@pytest.mark.parametrize("name", NAMES)
def test_the_callback_saves_as_that_of_keras(tmp_path, name):
    model = compiled(1)
    fit(model, tmp_path / name)
    assert_same(loaded(tmp_path / name), model)
    numbered = tmp_path / f"{{epoch}}-{name}"
    fit(model, numbered, monitor="loss", save_best_only=True)
    assert sorted(os.listdir(tmp_path)) == [f"1-{name}", f"2-{name}", name]


def test_nothing_is_replaced_unasked(tmp_path):
    path = tmp_path / "model.keras"
    path.write_text("words")
    with pytest.raises(FileExistsError, match="`overwrite=True`"):
        flaxlayer.save_model(compiled(1), path)
    assert path.read_text() == "words"


@pytest.mark.parametrize(
    ("model", "name", "error", "problem"),
    [
        (None, "a.keras", TypeError, "NoneType"),
        (FlaxLayer(nn.Dense(2)), "a.keras", TypeError, "`flaxlayer.save_var"),
        (keras.Model(), "a.h5", ValueError, "'.weights.h5' or '.keras'"),
        (keras.Model(), "no/a.keras", FileNotFoundError, "no folder for"),
    ],
)
def test_what_cannot_be_saved_is_refused(tmp_path, model, name, error, problem):
    with pytest.raises(error, match=problem):
        flaxlayer.save_model(model, tmp_path / name)
    assert os.listdir(tmp_path) == []
