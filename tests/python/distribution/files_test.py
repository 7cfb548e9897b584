"""Files of weights that are on one mesh, loaded on another and on none."""

import os
import tempfile

import keras
import pytest

import flaxlayer
from tests.python import forced_devices
from tests.python.distribution.meshes import (
    X,
    assert_equal,
    assert_optimizer_placed,
    assert_placed,
    data_parallel,
    fit,
    layer_of,
    model_of,
    model_parallel,
    scope,
    values,
)


def places():
    """One after the other: the file of each is loaded on the next."""
    return [
        model_parallel((2, 4)),
        model_parallel((4, 1)),
        None,
        data_parallel(),
        model_parallel((2, 4)),
    ]


def assert_there(distribution, layer, optimizer=None):
    if distribution is None:
        for variable in layer.variables:
            assert len(variable.value.sharding.device_set) == 1
    else:
        assert_placed(layer.variables)
    if optimizer is not None:
        assert_optimizer_placed(optimizer, layer.weights)


def new_model(seed):
    layer = layer_of(seed=seed)
    model = model_of(layer, optimizer=keras.optimizers.Adam(0.01))
    model.optimizer.build(model.trainable_variables)
    return model


def assert_travels(load, save, name):
    """That a file has a model with the seed's counter and the optimizer."""
    with tempfile.TemporaryDirectory() as folder:
        saved = []
        for seed, distribution in enumerate(places()):
            with scope(distribution):
                model = load(saved[-1], seed) if saved else new_model(seed)
                layer, optimizer = model.layers[-1], model.optimizer
                if not saved:
                    fit(model, epochs=1)
                    expected = values([*layer.variables, *optimizer.variables])
                found = values([*layer.variables, *optimizer.variables])
                assert_equal(found, expected)
                assert_there(distribution, layer, optimizer)
                saved.append(os.path.join(folder, f"{seed}.{name}"))
                save(model, saved[-1])
                # Training goes on.
                fit(model, epochs=1)
                assert_there(distribution, layer, optimizer)


def check_whole_models():
    for save in (keras.Model.save, flaxlayer.save_model):
        assert_travels(
            lambda path, _: keras.models.load_model(path), save, "keras"
        )


def check_weights_files_of_keras():
    def load(path, seed):
        model = new_model(seed)
        model.load_weights(path)
        return model

    assert_travels(load, keras.Model.save_weights, "weights.h5")


def check_files_of_flax():
    for name in ("weights.msgpack", "weights.safetensors", "orbax"):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, name)
            expected = None
            for seed, distribution in enumerate(places()):
                with scope(distribution):
                    layer = layer_of(seed=seed)
                    if expected is None:
                        layer(X, training=True)
                        expected = values(layer.weights)
                    else:
                        flaxlayer.load_variables(layer, path)
                        assert_equal(values(layer.weights), expected)
                    assert_there(distribution, layer)
                    flaxlayer.save_variables(layer, path, overwrite=True)


@pytest.fixture(scope="module")
def failures(native_kernels):
    return forced_devices.failures_of(__file__)


@pytest.mark.parametrize("check", forced_devices.checks(globals()))
def test_with_eight_devices(failures, check):
    assert failures[check] is None, failures[check]


if __name__ == "__main__":
    forced_devices.run_checks(globals())
