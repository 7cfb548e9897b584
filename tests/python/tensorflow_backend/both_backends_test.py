"""The same seed gives the same training as Keras on JAX, and files go around.

What Keras on JAX does is done in processes of their own, one to train and one
to load what was trained here.
"""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from tests.python.tensorflow_backend import cases

NAMES = list(cases.CASES)


def on_jax(action, folder):
    subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.python.tensorflow_backend.on_jax",
            action,
            str(folder),
        ],
        check=True,
        env={
            **os.environ,
            "KERAS_BACKEND": "jax",
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        },
    )


@pytest.fixture(scope="module")
def from_jax(tmp_path_factory):
    folder = tmp_path_factory.mktemp("jax")
    on_jax("train", folder)
    return folder


@pytest.fixture(scope="module")
def trained():
    return {name: cases.train(name) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_training_is_that_of_the_jax_backend(name, from_jax, trained):
    _, ours = trained[name]
    theirs = dict(np.load(from_jax / f"{name}.npz"))
    # What a metric is inside of an epoch, Keras on JAX does not know.
    assert ours.keys() == theirs.keys()
    assert len(ours["losses"]) == 6
    tolerance = 1e-2 if name == "bfloat16" else 1e-5
    for key, value in ours.items():
        assert value.dtype == theirs[key].dtype, key
        if key.startswith("initial/") or key.endswith("/seed"):
            assert value.tobytes() == theirs[key].tobytes(), key
        else:
            np.testing.assert_allclose(
                value, theirs[key], tolerance, tolerance, err_msg=key
            )
    # It is random, and is trained.
    assert len(set(ours["losses"])) == 6


@pytest.mark.parametrize(
    "options",
    [{"run_eagerly": True}, {"jit_compile": True}, {"jit_compile": False}],
    ids=["eager", "jit", "graph"],
)
def test_each_way_of_training_is_the_same(options, from_jax):
    model, _, inputs = cases.built("dropout")
    model.compile("sgd", model.loss, **options)
    model.optimizer.learning_rate = 0.05
    losses = cases.StepLosses()
    model.fit(
        inputs,
        cases.LABELS,
        batch_size=cases.BATCH,
        epochs=cases.EPOCHS,
        shuffle=False,
        verbose=0,
        callbacks=[losses],
    )
    expected = np.load(from_jax / "dropout.npz")["losses"]
    np.testing.assert_allclose(losses.losses, expected, 1e-5, 1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_the_jax_backend_is_loaded(name, from_jax):
    model = keras.saving.load_model(from_jax / f"{name}.keras")
    theirs = dict(np.load(from_jax / f"{name}.npz"))
    for key, value in cases.weights(model.layers[0]).items():
        assert value.tobytes() == theirs[f"trained/{key}"].tobytes(), key
    predictions = model.predict(cases.CASES[name][1], verbose=0)
    tolerance = 1e-2 if name == "bfloat16" else 1e-5
    np.testing.assert_allclose(
        predictions.astype("float32"),
        theirs["predictions"],
        tolerance,
        tolerance,
    )
    if name in ("dropout", "nnx"):  # It goes on from there.
        inputs = cases.CASES[name][1]
        model.fit(inputs, cases.LABELS, batch_size=cases.BATCH, verbose=0)


def test_files_are_loaded_by_the_jax_backend(trained, tmp_path):
    for name, (model, _) in trained.items():
        model.save(tmp_path / f"{name}.keras")
    on_jax("load", tmp_path)
    for name, (_, ours) in trained.items():
        loaded = dict(np.load(tmp_path / f"{name}.loaded.npz"))
        tolerance = 1e-2 if name == "bfloat16" else 1e-5
        np.testing.assert_allclose(
            loaded.pop("predictions"),
            ours["predictions"],
            tolerance,
            tolerance,
            err_msg=name,
        )
        for key, value in loaded.items():
            expected = ours[f"trained/{key}"]
            assert value.tobytes() == expected.tobytes(), (name, key)
