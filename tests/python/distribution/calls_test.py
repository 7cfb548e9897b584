"""Calls of a layer whose weights and inputs are on the devices of a mesh."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

import flaxlayer
from tests.python import forced_devices
from tests.python.distribution.meshes import (
    Net,
    X,
    assert_close,
    assert_equal,
    assert_placed,
    data_parallel,
    layer_of,
    model_of,
    model_parallel,
    scope,
    spread,
    values,
)


def both(layouts=None):
    return [model_parallel(layouts=layouts), data_parallel()]


def called(distribution, inputs):
    """The outputs of calls in both modes, and the variables after them."""
    with scope(distribution):
        layer = flaxlayer.FlaxLayer(Net(), name="net", seed=0)
        outputs = [  # Of which the first builds the layer.
            np.array(layer(inputs, training=training))
            for training in (False, True, True, False)
        ]
        if distribution is not None:
            assert_placed(layer.variables)
        return outputs, values(layer.variables)


def check_eager_calls_return_and_leave_what_one_device_does():
    expected, state = called(None, X)
    for distribution in both():
        for inputs in (X, spread(distribution, X)):
            outputs, left = called(distribution, inputs)
            assert_close(outputs, expected)
            assert_close(left, state)
            # The counter of the seed.
            assert_equal(left[-1:], state[-1:])


def check_what_no_device_sums_has_the_same_bits():
    # Each device has all weights, and all of a batch that is on none.
    expected, state = called(None, X)
    outputs, left = called(data_parallel(), X)
    assert_equal(outputs, expected)
    assert_equal(left, state)


def check_outputs_stay_where_their_rows_are():
    for distribution in both():
        with distribution.scope():
            for training in (False, True):
                outputs = layer_of()(spread(distribution, X), training=training)
                parts = len(outputs.sharding.device_set)
                shape = outputs.sharding.shard_shape(outputs.shape)
                rows = distribution.device_mesh.shape[0]
                assert (parts, shape) == (8, (16 // rows, 4)), shape


class Masks(nn.Module):
    @nn.compact
    def __call__(self, inputs, training=False):
        x = nn.Dropout(0.5, deterministic=not training)(inputs)
        return x + nn.Dropout(0.2, deterministic=not training)(inputs)


def check_masks_are_those_of_one_device():
    def masked(distribution, inputs, kernels):
        with scope(distribution):
            layer = layer_of(Masks(), kernels=kernels)
            return [np.array(layer(inputs, training=True)) for _ in range(2)]

    expected = masked(None, X, "native")
    assert 0 < (expected[0] == 0).mean() < 0.5
    for distribution in both():
        axes = distribution.device_mesh.axis_names
        for inputs in (
            X,
            spread(distribution, X),
            spread(distribution, X, *axes),
            spread(distribution, X, None, axes),
        ):
            for kernels in ("native", "reference"):
                found = masked(distribution, inputs, kernels)
                assert_equal(found, expected)


class Norm(nn.Module):
    @nn.compact
    def __call__(self, inputs, training=False):
        norm = nn.BatchNorm(
            use_running_average=not training, momentum=0.0, name="norm"
        )
        return norm(inputs)


def check_statistics_are_those_of_the_global_batch():
    for distribution in both():
        with distribution.scope():
            layer = layer_of(Norm())
            layer(spread(distribution, X), training=True)
            statistics = layer.state["batch_stats"]["norm"]
            found = values([statistics["mean"], statistics["var"]])
            assert_close(found, [X.mean(0), X.var(0)])


class Last(nn.Module):
    """Keeps the last batch, and a count."""

    @nn.compact
    def __call__(self, inputs, training=False):
        last = self.variable("last", "batch", jnp.zeros, X.shape)
        calls = self.variable("last", "calls", jnp.zeros, (), jnp.int32)
        if training:
            last.value = inputs
            calls.value += 1
        return nn.Dense(4, name="down")(inputs)


# A NaN is in the part that one device has of the state, or one column of them.
SPLIT_STATE = {
    ".*params/down/kernel": ("model", None),
    ".*batch_stats/norm/.*": ("model",),
    ".*last/batch": ("batch", "model"),
}
SPOILT = X.copy()
SPOILT[13, 6] = np.nan


def state_on_each_device(layer):
    """For each part of the state its device and its values."""
    return [
        (shard.device, np.array(shard.data, copy=True))
        for variable in layer._weights.state.variables
        for shard in variable.value.addressable_shards
    ]


def assert_same_on_each_device(layer, expected):
    for (here, found), (there, kept) in zip(
        state_on_each_device(layer), expected, strict=True
    ):
        assert here == there
        np.testing.assert_array_equal(found, kept)


def check_a_nan_on_one_device_keeps_the_whole_state_on_all():
    for distribution in both(SPLIT_STATE):
        for module in (Norm(), Last()):
            for kernels in ("native", "reference"):
                with distribution.scope():
                    layer = layer_of(
                        module, nonfinite_state="keep", kernels=kernels
                    )
                    for inputs in (
                        (X, SPOILT),
                        [spread(distribution, x) for x in (X, SPOILT)],
                    ):
                        layer(-inputs[0], training=True)
                        before = state_on_each_device(layer)
                        layer(inputs[1], training=True)
                        assert_same_on_each_device(layer, before)
                        # And not for good.
                        layer(inputs[0], training=True)
                        after = state_on_each_device(layer)
                        assert (after[0][1] != before[0][1]).all()
                        assert_placed(layer.variables)


def check_a_training_step_keeps_it_as_well():
    for distribution in both(SPLIT_STATE):
        for module in (Norm(), Last()):
            with distribution.scope():
                layer = layer_of(module, nonfinite_state="keep")
                model = model_of(layer)
                for inputs in (X, SPOILT):
                    before = state_on_each_device(layer)
                    targets = np.zeros((16, model.output_shape[1]), "float32")
                    model.fit(inputs, targets, batch_size=16, verbose=0)
                    if inputs is SPOILT:
                        assert_same_on_each_device(layer, before)
                assert (before[0][1] != 0).all()


@pytest.fixture(scope="module")
def failures(native_kernels):
    return forced_devices.failures_of(__file__)


@pytest.mark.parametrize("check", forced_devices.checks(globals()))
def test_with_eight_devices(failures, check):
    assert failures[check] is None, failures[check]


if __name__ == "__main__":
    forced_devices.run_checks(globals())
