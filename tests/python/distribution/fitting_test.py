"""Keras's ways to train, with weights on the devices of a mesh."""

import re

import keras
import numpy as np
import pytest

from tests.python import forced_devices
from tests.python.distribution.meshes import (
    X,
    Y,
    assert_close,
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


def adam(**kwargs):
    # With less of epsilon, small gradients make much of the last bit.
    return keras.optimizers.Adam(0.01, epsilon=0.01, **kwargs)


def trained(distribution, options, epochs=3):
    """A layer and its model after training, and the losses."""
    with scope(distribution):
        layer = layer_of()
        model = model_of(layer, **options())  # Optimizers have variables, too.
        losses = fit(model, epochs=epochs)
        if distribution is not None:
            assert_placed(layer.variables)
            assert_optimizer_placed(model.optimizer, layer.weights)
        return layer, model, losses


def assert_trains_as_one_device(options, epochs=3):
    layer, model, losses = trained(None, options, epochs)
    expected = values([*layer.variables, *model.optimizer.variables])
    for distribution in (model_parallel(), data_parallel()):
        layer, model, found = trained(distribution, options, epochs)
        assert_close(found, losses)
        assert_close(
            values([*layer.variables, *model.optimizer.variables]), expected
        )


def check_momentum_and_velocity_are_where_their_weights_are():
    for distribution, part in (
        (model_parallel(), (8, 4)),
        (data_parallel(), (8, 16)),
    ):
        with distribution.scope():
            layer = layer_of()
            model = model_of(layer, optimizer=adam())
            model.optimizer.build(layer.trainable_variables)
            for steps in (0, 2):
                if steps:
                    fit(model, epochs=1)
                assert_optimizer_placed(model.optimizer, layer.weights)
                slots = [
                    variable
                    for variable in model.optimizer.variables
                    if "up_kernel" in variable.path
                ]
                assert len(slots) == 2
                assert np.any(values(slots)) == (steps > 0)
                for slot in slots:
                    sharding = slot.value.sharding
                    assert sharding.shard_shape(slot.shape) == part


def check_training_is_that_of_one_device():
    assert_trains_as_one_device(lambda: {"optimizer": adam()})


def check_gradients_are_accumulated():
    assert_trains_as_one_device(
        lambda: {"optimizer": adam(gradient_accumulation_steps=2)}
    )


def check_averages_of_weights():
    assert_trains_as_one_device(
        lambda: {"optimizer": adam(use_ema=True, ema_momentum=0.5)}
    )


def check_several_steps_in_one_execution():
    assert_trains_as_one_device(lambda: {"steps_per_execution": 2})


def check_training_without_a_compiled_step():
    assert_trains_as_one_device(lambda: {"jit_compile": False}, epochs=1)


def check_eager_training():
    assert_trains_as_one_device(lambda: {"run_eagerly": True}, epochs=1)


def check_evaluation_and_prediction():
    layer, model, _ = trained(None, dict)
    expected = [model.evaluate(X, Y, 8, verbose=0), model.predict(X, 8, 0)]
    weights = layer.get_weights()
    for distribution in (model_parallel(), data_parallel()):
        with distribution.scope():
            layer = layer_of()
            model = model_of(layer)
            layer.set_weights(weights)
            found = [model.evaluate(X, Y, 8, verbose=0), model.predict(X, 8, 0)]
            assert_close(found, expected)
            assert_equal(layer.get_weights(), weights)
            assert_placed(layer.variables)


def check_what_is_frozen_stays_as_it_is_where_it_is():
    for pattern in (None, "params/up/.*", ".*/norm/.*"):
        losses = {}
        for distribution in (None, model_parallel(), data_parallel()):
            with scope(distribution):
                layer = layer_of()
                fit(model_of(layer), epochs=1)
                if pattern is None:
                    layer.trainable = False
                else:
                    layer.freeze(pattern)
                model = model_of(layer)
                before = values(layer.weights)
                losses[distribution] = fit(model)
                for weight, old in zip(layer.weights, before, strict=True):
                    path = weight.path.removeprefix("net/")
                    frozen = re.fullmatch(pattern or ".*", path) is not None
                    assert np.array_equal(weight, old) == frozen, path
                if distribution is not None:
                    assert_placed(layer.variables)
        one, *others = losses.values()
        for found in others:
            assert_close(found, one)


@pytest.fixture(scope="module")
def failures(native_kernels):
    return forced_devices.failures_of(__file__)


@pytest.mark.parametrize("check", forced_devices.checks(globals()))
def test_with_eight_devices(failures, check):
    assert failures[check] is None, failures[check]


if __name__ == "__main__":
    forced_devices.run_checks(globals())
