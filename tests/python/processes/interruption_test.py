"""A process that dies ends the others, and the run goes on from its backup."""

import shutil
import signal

import pytest

from tests.python import several_processes

pytestmark = pytest.mark.usefixtures("on_cpu")

# How long the service of JAX waits for a sign of life, twice, and some more.
LIMIT = 45

COMMON = """
import os, pathlib, signal, time
import keras, numpy as np
import flaxlayer
from tests.python.processes import small_model

folder = pathlib.Path(sys.argv[1])
process = jax.process_index()

def run(name, epochs, *callbacks, seed=1):
    _, model = small_model.made((2, 2), seed=seed)
    backup = flaxlayer.OrbaxBackup(folder / name)
    seen = small_model.fit(
        model, epochs=epochs, callbacks=[backup, *callbacks]
    ).epoch
    return seen, small_model.everything(model)
"""

# One process kills itself; what the other does then nobody ends but JAX.
KILLED = (
    COMMON
    + """
victim = int(sys.argv[2])

class Kill(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.epoch == 2 and batch == 0 and process == victim:
            while not (folder / "killed" / "2").exists():
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)

try:
    run("killed", 4, Kill())
except Exception as error:
    print(type(error).__name__, error, flush=True)
time.sleep(600)
"""
)

# The seed is another one: all that matters comes from the backup.
ONE = (
    COMMON
    + """
epochs, expected = run("whole", 4)
assert epochs == [0, 1, 2, 3]
np.savez(folder / "expected.npz", *expected)
run("one", 2)
epochs, found = run("killed_for_one", 4, seed=2)
assert epochs == [2, 3], epochs
for a, b in zip(found, expected, strict=True):
    np.testing.assert_array_equal(a, b)
print("done")
"""
)
TWO = (
    COMMON
    + """
for name in ("killed", "one"):
    epochs, found = run(name, 4, seed=2)
    assert epochs == [2, 3], epochs
    expected = np.load(folder / "expected.npz").values()
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)

# As if each process had a disk of its own.
try:
    run("killed" if process == 0 else "other", 4)
except ValueError as error:
    assert "process 0 finds 4, process 1 None" in str(error), error
    print("done")
"""
)


def killed_run(folder, victim):
    """What a run leaves of which one process was killed."""
    ended = several_processes.run(
        KILLED, folder, victim, devices=2, timeout=LIMIT
    )
    survivor = ended[1 - victim]
    assert ended[victim].returncode == -signal.SIGKILL, ended[victim].errors
    # It has neither slept to the end nor been killed by us.
    assert survivor.returncode not in (0, -signal.SIGKILL), survivor
    return survivor


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    survivor = killed_run(folder, victim=1)
    assert "Gloo" in survivor.output, survivor
    assert "heartbeat" in survivor.errors, survivor
    shutil.copytree(folder / "killed", folder / "killed_for_one")
    return folder


def test_the_end_of_the_first_process_ends_the_others(tmp_path):
    survivor = killed_run(tmp_path, victim=0)
    assert "JAX distributed service detected fatal errors" in survivor.errors


def test_a_killed_run_goes_on_with_as_many_processes_or_others(folder):
    outputs = several_processes.outputs_of(ONE, folder, processes=1, devices=4)
    assert outputs == [["done"]]
    (folder / "other").mkdir()
    outputs = several_processes.outputs_of(TWO, folder, devices=2)
    assert outputs == [["done"]] * 2
