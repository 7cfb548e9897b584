"""Weights on the devices of a mesh: as they are read, set, listed, frozen."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

import flaxlayer
from tests.python import forced_devices
from tests.python.distribution.meshes import (
    Net,
    X,
    assert_close,
    assert_equal,
    assert_placed,
    data_parallel,
    fit,
    layer_of,
    model_of,
    model_parallel,
    spread,
    values,
)


def check_weights_have_the_bits_of_one_device():
    expected = values(layer_of().variables)
    for distribution in (model_parallel(), data_parallel()):
        with distribution.scope():
            layer = layer_of()
            assert_equal(values(layer.variables), expected)
            assert_placed(layer.variables)


def check_variables_are_the_sharded_arrays_themselves():
    for distribution, part in (
        (model_parallel(), (8, 4)),
        (data_parallel(), (8, 16)),
    ):
        with distribution.scope():
            layer = layer_of()
            variables = layer.get_layer_variables()
            assert len(jax.tree.leaves(variables)) == len(layer.weights)
            for tree in (layer.params, layer.state):
                for path, variable in jax.tree_util.tree_leaves_with_path(tree):
                    leaf = variables
                    for step in path:
                        leaf = leaf[step.key]
                    assert leaf is variable.value
            kernel = variables["params"]["up"]["kernel"]
            assert kernel.sharding.shard_shape(kernel.shape) == part
            # The module takes them as they are.
            outputs = Net().apply(variables, spread(distribution, X))
            assert_close([outputs], [layer(X)])


def new_values(like, seed):
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: rng.normal(size=leaf.shape).astype("float32"), like
    )


def on_others(array, _):
    mesh = jax.sharding.Mesh(jax.devices()[:3:-1], ("x",))
    return jax.device_put(array, NamedSharding(mesh, PartitionSpec()))


WAYS = {
    "on the host": lambda array, _: array,
    "on no device in particular": lambda array, _: jnp.asarray(array),
    "on one device": lambda array, _: jax.device_put(array, jax.devices()[-1]),
    "as the weights are": lambda array, like: jax.device_put(
        array, like.sharding
    ),
    "on other devices": on_others,
}


def check_set_weights_keep_their_shardings():
    for distribution in (model_parallel(), data_parallel()):
        with distribution.scope():
            layer = layer_of()
            kernel = layer.params["params"]["up"]["kernel"]
            for seed, place in enumerate(WAYS.values()):
                old = layer.get_layer_variables()
                new = new_values(old, seed)
                placed = jax.tree.map(place, new, old)
                layer.set_layer_variables(placed)
                assert_placed(layer.variables)
                found = layer.get_layer_variables()
                assert_equal(jax.tree.leaves(found), jax.tree.leaves(new))
                # As Keras sets them: one, and a list of all.
                kernel.assign(2 * placed["params"]["up"]["kernel"])
                assert_placed([kernel])
                assert_equal([kernel], [2 * new["params"]["up"]["kernel"]])
                others = [3 * value for value in values(layer.weights)]
                layer.set_weights(others)
                assert_placed(layer.variables)
                assert_equal(values(layer.weights), others)
            # Training goes on with them.
            fit(model_of(layer), epochs=1)
            assert_placed(layer.variables)


def cells(text, first):
    """Of the last line with this first cell."""
    *_, line = (x.split() for x in text.splitlines() if x.startswith(first))
    return line


def check_a_table_has_what_each_device_has():
    with model_parallel().scope():
        layer = layer_of()
        text = flaxlayer.tabulate(layer)
    header = cells(text, "path")
    assert header[-4:] == ["sharding", "bytes", "per", "device"], header
    for path, spec, whole, part in (
        ("params/up/kernel", "P(None, 'model')", 512, 128),
        ("params/up/bias", "P('model')", 64, 16),
        ("params/down/kernel", "P('model', None)", 256, 64),
        ("params/down/bias", "P(None)", 16, 16),
        ("batch_stats/norm/mean", "P('model')", 64, 16),
        ("batch_stats/norm/var", "P(None)", 64, 64),
    ):
        expected = [*spec.split(), str(whole), str(part)]
        assert cells(text, path)[-len(expected) :] == expected, text
    assert cells(text, "kind")[-3:] == ["bytes", "per", "device"], text
    assert cells(text, "trainable")[-2:] == ["976", "352"], text
    assert cells(text, "state")[-2:] == ["128", "80"], text
    on_one = sum(
        weight.value.addressable_shards[5].data.nbytes
        for weight in layer.weights
    )
    assert cells(text, "all")[-2:] == ["1,104", str(on_one)], text


def check_tables_of_whole_weights_have_no_such_column():
    for distribution in (model_parallel(layouts={}), data_parallel()):
        with distribution.scope():
            text = flaxlayer.tabulate(layer_of())
        expected = ["P(None,", "None)", "512"]
        assert cells(text, "params/up/kernel")[-3:] == expected, text
        assert "per device" not in text
    # Of a model the tables that need it have it, and so does their sum.
    with model_parallel().scope():
        whole = layer_of(nn.Dense(8), name="whole")
        model = keras.Sequential([keras.Input((8,)), whole, layer_of()])
        text = flaxlayer.tabulate(model)
    first, rest = text.split("<FlaxLayer name=net")
    assert "per device" not in first, text
    assert rest.count("per device") == 3, text
    assert cells(rest, "all") == ["all", "10", "348", "1,392", "720"], text


@pytest.fixture(scope="module")
def failures(native_kernels):
    return forced_devices.failures_of(__file__)


@pytest.mark.parametrize("check", forced_devices.checks(globals()))
def test_with_eight_devices(failures, check):
    assert failures[check] is None, failures[check]


if __name__ == "__main__":
    forced_devices.run_checks(globals())
