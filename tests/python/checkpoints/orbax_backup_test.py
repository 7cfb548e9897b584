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
    with pytest.warns(UserWarning, match="is of epoch 2, and `epochs` is 2"):
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


def assert_refused(model, directory, problem):
    model.optimizer.build(model.trainable_variables)
    before = everything(model)
    with pytest.raises(ValueError, match=problem):
        fit(model, callbacks=[OrbaxBackup(directory)])
    assert_same(everything(model), before)


def test_a_backup_of_another_model_is_refused(tmp_path):
    model = compiled(1)
    fit(model, epochs=1, callbacks=[OrbaxBackup(tmp_path)])
    other = wider(
        type(model.optimizer).from_config(model.optimizer.get_config())
    )
    assert_refused(other, tmp_path, "epoch 1 is one of another model")


SGD, Adam = keras.optimizers.SGD, keras.optimizers.Adam


@pytest.mark.parametrize(
    ("saved", "resumed", "problem"),
    [
        # Each pair has variables of the same shapes.
        (
            lambda: SGD(momentum=0.9),
            keras.optimizers.Adagrad,
            "`optimizer.class` was 'SGD' and is 'Adagrad'",
        ),
        (
            keras.optimizers.RMSprop,
            lambda: SGD(momentum=0.9),
            "`optimizer.class` was 'RMSprop' and is 'SGD'",
        ),
        (
            lambda: SGD(momentum=0.9),
            lambda: SGD(momentum=0.5, nesterov=True),
            "`optimizer.momentum` was 0.9 and is 0.5; "
            "`optimizer.nesterov` was False and is True",
        ),
        (
            lambda: keras.optimizers.LossScaleOptimizer(Adam(beta_1=0.8)),
            lambda: keras.optimizers.LossScaleOptimizer(Adam()),
            "`optimizer.inner_optimizer.beta_1` was 0.8 and is 0.9",
        ),
        (
            lambda: Adam(keras.optimizers.schedules.CosineDecay(0.1, 5)),
            lambda: Adam(keras.optimizers.schedules.CosineDecay(0.1, 9)),
            "`optimizer.learning_rate.decay_steps` was 5 and is 9",
        ),
    ],
)
def test_a_backup_of_another_optimizer_is_refused(
    tmp_path, saved, resumed, problem
):
    fit(wider(saved()), epochs=1, callbacks=[OrbaxBackup(tmp_path)])
    assert_refused(wider(resumed()), tmp_path, problem)


def test_a_learning_rate_is_what_training_has_made_of_it(tmp_path):
    first, second = wider(SGD(0.5)), wider(SGD(0.5))
    fit(first, epochs=1, callbacks=[OrbaxBackup(tmp_path)])
    first.optimizer.learning_rate = 0.25
    fit(first, epochs=2, callbacks=[OrbaxBackup(tmp_path / "later")])
    fit(second, epochs=3, callbacks=[OrbaxBackup(tmp_path / "later")])
    assert float(second.optimizer.learning_rate) == 0.25


class Counting(keras.Model):
    """Has a variable that nobody named: Keras numbers it."""

    def __init__(self):
        super().__init__()
        self.seen = keras.Variable(0.0, trainable=False)
        self.layer = FlaxLayer(nn.Dense(2), seed=0, name="net")

    def call(self, inputs):
        self.seen.assign_add(1.0)
        return self.layer(inputs)


def test_variables_without_a_name_are_found_again(tmp_path):
    def counting():
        model = Counting()
        model.compile(SGD(0.1, momentum=0.9), "mse")
        return model

    whole, first, second = counting(), counting(), counting()
    assert whole.seen.name != second.seen.name
    fit(whole)
    fit(first, epochs=2, callbacks=[OrbaxBackup(tmp_path)])
    fit(second, callbacks=[OrbaxBackup(tmp_path)])
    assert_same(everything(second), everything(whole))


def test_a_file_is_no_directory(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(NotADirectoryError, match="run'.*path of a file"):
        fit(compiled(1), callbacks=[OrbaxBackup(tmp_path / "run")])


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
