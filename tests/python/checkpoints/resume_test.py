"""A run that was killed goes on as if it had not been, to the last bit."""

import os
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest

from tests.python.checkpoints import interrupted_run
from tests.python.checkpoints.interrupted_run import (
    DONE,
    callbacks,
    compiled,
    everything,
    fit,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What a run left that was killed."""
    folder = tmp_path_factory.mktemp("run")
    paths = [path for path in sys.path if path]
    result = subprocess.run(
        [sys.executable, "-m", interrupted_run.__name__, str(folder)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == -signal.SIGKILL, result.stderr[-4000:]
    return folder


@pytest.fixture(scope="module")
def uninterrupted():
    model = compiled(1)
    fit(model)
    return everything(model)


class Epochs(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.seen = []

    def on_epoch_begin(self, epoch, logs=None):
        self.seen.append(epoch)


def by_callback(folder, name):
    # Another seed: all that matters comes from the backup.
    model = compiled(99)
    epochs = Epochs()
    fit(model, callbacks=[callbacks(folder)[name], epochs])
    assert epochs.seen == [DONE, DONE + 1]
    return model


def by_backup_and_restore(folder):
    return by_callback(folder, "backup")


def by_orbax_backup(folder):
    return by_callback(folder, "orbax")


def by_whole_file(folder):
    model = keras.models.load_model(folder / "model.keras")
    fit(model, initial_epoch=DONE)
    return model


def by_weights_file(folder):
    model = compiled(99)
    model.optimizer.build(model.trainable_variables)
    model.load_weights(folder / "model.weights.h5")
    fit(model, initial_epoch=DONE)
    return model


@pytest.mark.parametrize(
    "resume",
    [by_backup_and_restore, by_whole_file, by_weights_file, by_orbax_backup],
)
def test_a_killed_run_ends_as_one_that_was_not(folder, uninterrupted, resume):
    model = resume(folder)
    for a, b in zip(everything(model), uninterrupted, strict=True):
        np.testing.assert_array_equal(a, b)


def test_another_seed_would_have_shown(uninterrupted):
    model = compiled(99)
    fit(model)
    same = [
        np.array_equal(a, b)
        for a, b in zip(everything(model), uninterrupted, strict=True)
    ]
    assert not all(same)
