"""A training run that is killed in the middle of an epoch.

`python -m tests.python.checkpoints.interrupted_run FOLDER` is that run, with
all ways to go on with it. Tests go on with it, in a process of their own.
"""

import os
import pathlib
import signal
import sys
import time

import flax.linen as nn
import keras
import numpy as np

import flaxlayer

EPOCHS = 4
DONE = 2  # Whole epochs before it is killed.
RNG = np.random.default_rng(0)
X = RNG.standard_normal((32, 4)).astype(np.float32)
Y = X[:, :2] * 2


class Net(nn.Module):
    """Has parameters, batch statistics and dropout."""

    @nn.compact
    def __call__(self, inputs, training=False):
        x = nn.Dense(8)(inputs)
        x = nn.BatchNorm(use_running_average=not training)(x)
        x = nn.Dropout(0.3, deterministic=not training)(x)
        return nn.Dense(2)(x)


def compiled(seed):
    layer = flaxlayer.FlaxLayer(Net(), seed=seed, name="net")
    model = keras.Sequential([keras.Input((4,)), layer])
    model.compile(keras.optimizers.Adam(0.01), "mse")
    return model


def fit(model, epochs=EPOCHS, **kwargs):
    model.fit(
        X,
        Y,
        batch_size=4,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        **kwargs,
    )


def everything(model):
    """All weights, statistics and seeds, and all slots of the optimizer."""
    variables = [*model.variables, *model.optimizer.variables]
    return [np.array(v.value) for v in variables]


class Kill(keras.callbacks.Callback):
    """Kills the process in the middle of an epoch."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder
        self.epoch = 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.epoch == DONE and batch == 3:
            # Which backup is the last one that is whole is left to chance
            # otherwise: it is written in the background.
            while not (self.folder / "orbax" / str(DONE)).exists():
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)


def callbacks(folder):
    return {
        "backup": keras.callbacks.BackupAndRestore(folder / "backup"),
        "whole": keras.callbacks.ModelCheckpoint(folder / "model.keras"),
        "weights": keras.callbacks.ModelCheckpoint(
            folder / "model.weights.h5", save_weights_only=True
        ),
        "orbax": flaxlayer.OrbaxBackup(folder / "orbax"),
    }


def main(folder):
    fit(compiled(1), callbacks=[*callbacks(folder).values(), Kill(folder)])


if __name__ == "__main__":
    # As what the tests know it by: model files name the class of the module.
    from tests.python.checkpoints import interrupted_run

    interrupted_run.main(pathlib.Path(sys.argv[1]))
