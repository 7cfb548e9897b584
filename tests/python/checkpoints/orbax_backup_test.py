"""Backups of runs: what is in them, when they are used, when refused."""

import os

import flax.linen as nn
import keras
import numpy as np
import pytest

from flaxlayer import FlaxLayer, OrbaxBackup
from tests.python.checkpoints.interrupted_run import (
    Net,
    X,
    compiled,
    everything,
    fit,
)


def assert_same(a, b):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


def several(seed):
    """Two layers with random generators, and an optimizer in another."""
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dropout(0.2, seed=seed),
            FlaxLayer(Net(), seed=seed, name="net"),
        ]
    )
    optimizer = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(0.01, momentum=0.9)
    )
    model.compile(optimizer, "mse")
    return model


def test_all_generators_and_wrapped_optimizers_are_restored(tmp_path):
    whole, first, second = several(1), several(1), several(7)
    fit(whole)
    fit(first, epochs=2, callbacks=[OrbaxBackup(tmp_path)])
    fit(second, callbacks=[OrbaxBackup(tmp_path)])
    assert_same(everything(second), everything(whole))


def test_the_newest_backup_is_kept(tmp_path):
    fit(compiled(1), epochs=3, callbacks=[OrbaxBackup(tmp_path / "run")])
    assert os.listdir(tmp_path / "run") == ["3"]


def test_a_run_that_is_over_is_not_repeated(tmp_path):
    fit(compiled(1), epochs=2, callbacks=[OrbaxBackup(tmp_path)])
    model = compiled(1)
    history = model.fit(
        X, X[:, :2], epochs=2, verbose=0, callbacks=[OrbaxBackup(tmp_path)]
    )
    assert history.epoch == []
    # And a fit without it begins where it always does.
    assert model.fit(X, X[:, :2], epochs=1, verbose=0).epoch == [0]


def test_a_backup_that_was_not_finished_is_passed_over(tmp_path):
    whole, model = compiled(1), compiled(1)
    fit(whole)
    fit(model, epochs=2, callbacks=[OrbaxBackup(tmp_path)])
    # Orbax writes below another name, until all is on the disk.
    (tmp_path / "3.orbax-checkpoint-tmp-0").mkdir()
    fit(model, callbacks=[OrbaxBackup(tmp_path)])
    assert_same(everything(model), everything(whole))


class Fails(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            raise RuntimeError("interrupted")


def test_a_callback_is_used_again_after_a_fit_that_failed(tmp_path):
    whole, model = compiled(1), compiled(1)
    fit(whole)
    backup = OrbaxBackup(tmp_path)
    with pytest.raises(RuntimeError, match="interrupted"):
        fit(model, callbacks=[backup, Fails()])
    fit(model, callbacks=[backup])
    assert_same(everything(model), everything(whole))


def test_a_model_that_fit_builds_is_restored(tmp_path):
    def unbuilt(seed):
        model = keras.Sequential([FlaxLayer(Net(), seed=seed, name="net")])
        model.compile(keras.optimizers.Adam(0.01), "mse")
        return model

    whole, first, second = unbuilt(1), unbuilt(1), unbuilt(7)
    fit(whole)
    fit(first, epochs=2, callbacks=[OrbaxBackup(tmp_path)])
    fit(second, callbacks=[OrbaxBackup(tmp_path)])
    assert_same(everything(second), everything(whole))


def wider(optimizer="adam"):
    layer = FlaxLayer(nn.Dense(2))
    model = keras.Sequential([keras.Input((4,)), layer])
    model.compile(optimizer, "mse")
    return model


def other_optimizer():
    model = compiled(1)
    model.compile("sgd", "mse")
    return model


@pytest.mark.parametrize("other", [wider, other_optimizer])
def test_a_backup_of_another_model_is_refused(tmp_path, other):
    fit(compiled(1), epochs=1, callbacks=[OrbaxBackup(tmp_path)])
    model = other()
    model.optimizer.build(model.trainable_variables)
    before = everything(model)
    with pytest.raises(ValueError, match="epoch 1 is one of another model"):
        fit(model, callbacks=[OrbaxBackup(tmp_path)])
    assert_same(everything(model), before)


def test_a_damaged_backup_is_refused(tmp_path):
    fit(compiled(1), epochs=1, callbacks=[OrbaxBackup(tmp_path)])
    for folder, _, names in os.walk(tmp_path):
        if "_METADATA" in names:
            open(os.path.join(folder, "_METADATA"), "w").close()
    model = compiled(99)
    model.optimizer.build(model.trainable_variables)
    before = everything(model)
    with pytest.raises(ValueError, match="epoch 1 cannot be read"):
        fit(model, callbacks=[OrbaxBackup(tmp_path)])
    assert_same(everything(model), before)


@pytest.mark.skipif(
    keras.__version__ not in ("3.14.1", "3.15.1"),
    reason="what the documentation says of Keras is of these versions",
)
@pytest.mark.filterwarnings("ignore:Sharding info not provided")
def test_the_callback_of_keras_loses_weights(tmp_path):
    model = compiled(1)
    fit(
        model,
        epochs=1,
        callbacks=[
            keras.callbacks.OrbaxCheckpoint(
                str(tmp_path), save_on_background=False
            )
        ],
    )
    initial = compiled(1).get_weights()
    assert_same(keras.saving.load_model(str(tmp_path)).get_weights(), initial)
    with pytest.raises(AssertionError):
        assert_same(model.get_weights(), initial)
