"""Trains a small transformer on handwritten digits, in several processes.

The processes are started on this machine, each with devices of its own, as they
would be on several machines. Together they have a mesh: each process has a part
of every batch, and its devices have a part of the weights. Each epoch is backed
up: interrupt it, run it again, with other numbers of processes and devices if
you like, and it goes on. In the end the weights are written to one file, and
read by this process, which has one device.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")  # Read by the import of keras.

import pathlib
import shutil
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence

import jax
import keras
import numpy as np
from absl import app, flags, logging
from model import Encoder
from sklearn import datasets, model_selection

import flaxlayer

_HERE = pathlib.Path(__file__).resolve().parent
_GOAL = 0.9
_BATCH = 128
_LIMIT_SECONDS = 600

_OUT = flags.DEFINE_string("out", str(_HERE / "out"), "Where the files go.")
_EPOCHS = flags.DEFINE_integer(
    "epochs", 10, "Epochs of training.", lower_bound=1
)
_PROCESSES = flags.DEFINE_integer(
    "processes", 2, "How many there are.", lower_bound=1
)
_DEVICES = flags.DEFINE_integer(
    "devices", 2, "How many each process has.", lower_bound=1
)
_PROCESS = flags.DEFINE_integer(
    "process", None, "Which of them this is; none to start them all."
)
_ADDRESS = flags.DEFINE_string("address", None, "Where the first one is.")


def main(argv: Sequence[str]) -> int:
    """Returns 0 if the processes have trained a good model together."""
    if argv[1:]:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    if not flags.FLAGS["verbosity"].present:
        # Orbax tells all that it does.
        logging.set_verbosity(logging.WARNING)
    out = pathlib.Path(_OUT.value)
    if _PROCESS.value is not None:
        work(out, _PROCESS.value)
        return 0
    out.mkdir(parents=True, exist_ok=True)
    if not start():
        return 1
    shutil.rmtree(out / "backup")

    _, test_images, _, test_labels = _digits()
    layer = _layer()
    model = _model(layer)
    flaxlayer.load_variables(layer, out / "weights.msgpack")
    _, accuracy = model.evaluate(test_images, test_labels, verbose=0)
    print(f"one process that reads the file: test accuracy {accuracy:.4f}")
    if accuracy < _GOAL:
        print(f"\nFAILED: test accuracy {accuracy:.4f} is below {_GOAL}")
        return 1
    return 0


def start() -> bool:
    """Runs all processes; returns whether all of them have ended well."""
    with socket.socket() as opened:
        opened.bind(("localhost", 0))
        address = f"localhost:{opened.getsockname()[1]}"
    count = f"--xla_force_host_platform_device_count={_DEVICES.value}"
    running = [
        subprocess.Popen(
            [sys.executable, __file__, *sys.argv[1:]]
            + [f"--process={process}", f"--address={address}"],
            env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": count},
        )
        for process in range(_PROCESSES.value)
    ]
    deadline = time.monotonic() + _LIMIT_SECONDS
    try:
        while any(process.poll() is None for process in running):
            # Those that are left would wait for one that has failed.
            if any(process.returncode for process in running):
                print("\nFAILED: a process has failed")
                return False
            if time.monotonic() > deadline:
                print(f"\nFAILED: not done after {_LIMIT_SECONDS} seconds")
                return False
            time.sleep(0.05)
    finally:
        for process in running:
            process.kill()
            process.wait()
    return not any(process.returncode for process in running)


def work(out: pathlib.Path, process: int) -> None:
    """What each process does; all do the same, but for their data."""
    sys.excepthook = _fail
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(
        _ADDRESS.value,
        num_processes=_PROCESSES.value,
        process_id=process,
        initialization_timeout=60,
        heartbeat_timeout_seconds=10,
    )
    keras.utils.set_random_seed(0)
    mesh = keras.distribution.DeviceMesh(
        (_PROCESSES.value, _DEVICES.value),
        ("batch", "model"),
        keras.distribution.list_devices(),
    )
    layer = _layer()
    rules = {"embed": None, "heads": "model", "mlp": "model"}
    keras.distribution.set_distribution(
        keras.distribution.ModelParallel(
            layout_map=flaxlayer.layout_map(layer, mesh, rules),
            batch_dim_name="batch",
            auto_shard_dataset=False,  # Here that is done already:
        )
    )
    train_images, test_images, train_labels, test_labels = (
        _share(array, process) for array in _digits()
    )
    model = _model(layer)
    begin = time.perf_counter()
    history = model.fit(
        train_images,
        train_labels,
        batch_size=_BATCH // _PROCESSES.value,
        epochs=_EPOCHS.value,
        callbacks=[flaxlayer.OrbaxBackup(out / "backup")],
        verbose=0,
    )
    seconds = time.perf_counter() - begin
    _, accuracy = model.evaluate(
        test_images,
        test_labels,
        batch_size=_BATCH // _PROCESSES.value,
        verbose=0,
    )
    flaxlayer.save_variables(layer, out / "weights.msgpack", overwrite=True)
    if process == 0:
        print(flaxlayer.tabulate(layer))
        print(
            f"{_PROCESSES.value} processes with {_DEVICES.value} devices each: "
            f"{len(history.epoch)} epochs in {seconds:.1f} s, test accuracy "
            f"{accuracy:.4f}"
        )


def _layer() -> flaxlayer.FlaxLayer:
    return flaxlayer.FlaxLayer(Encoder(), seed=0, name="encoder")


def _model(layer: flaxlayer.FlaxLayer) -> keras.Model:
    model = keras.Sequential([keras.Input((8, 8)), layer])
    model.compile(
        keras.optimizers.Adam(3e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def _share(array: np.ndarray, process: int) -> np.ndarray:
    """The rows of one process: as many as all others have."""
    count = len(array) // _PROCESSES.value * _PROCESSES.value
    return array[process : count : _PROCESSES.value]


def _digits() -> tuple[np.ndarray, ...]:
    """Images `[n, 8, 8]` in [0, 1] and digits `[n]`: train, test."""
    digits = datasets.load_digits()
    train_images, test_images, train_labels, test_labels = (
        model_selection.train_test_split(
            (digits.images / 16).astype("float32"),
            digits.target.astype("int32"),
            test_size=0.2,
            stratify=digits.target,
            random_state=0,
        )
    )
    return train_images, test_images, train_labels, test_labels


def _fail(*error: object) -> None:
    """Ends the process, which else waits for the others, which wait for it."""
    traceback.print_exception(*error)
    os._exit(1)


if __name__ == "__main__":
    app.run(main)
