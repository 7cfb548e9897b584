"""Flax paths are Keras paths: what goes by a path finds its weights."""

import re

import flax.linen as nn
import jax
import keras
import numpy as np
import pytest

from flaxlayer import FlaxLayer, JaxLayer

X = np.linspace(-1.0, 1.0, 16, dtype=np.float32).reshape(4, 4)


class Block(nn.Module):
    @nn.compact
    def __call__(self, inputs):
        return nn.Dense(4)(nn.LayerNorm()(inputs))


class Net(nn.Module):
    @nn.compact
    def __call__(self, inputs, training=False):
        x = nn.BatchNorm(use_running_average=not training)(inputs)
        for i in range(2):
            x = Block(name=f"block_{i}")(x)
        return nn.Dense(2)(x)


def paths(layer):
    return {weight.path for weight in layer.weights}


def test_paths_are_those_of_flax_below_the_layers_name():
    layer = FlaxLayer(Net(), name="flax_layer")
    layer.build((None, 4))
    assert paths(layer) >= {
        "flax_layer/params/Dense_0/kernel",
        "flax_layer/params/block_1/Dense_0/kernel",
        "flax_layer/params/block_1/LayerNorm_0/scale",
        "flax_layer/batch_stats/BatchNorm_0/mean",
    }


def test_given_variables_have_the_same_paths_as_made_ones():
    made = FlaxLayer(Net(), name="flax_layer")
    made.build((None, 4))
    variables = Net().init(jax.random.key(0), X)
    given = FlaxLayer(Net(), variables=variables, name="flax_layer")
    assert paths(given) == paths(made)
    partly = FlaxLayer(
        Net(), variables={"params": variables["params"]}, name="flax_layer"
    )
    partly.build((None, 4))
    assert paths(partly) == paths(made)


def test_paths_begin_with_the_names_of_the_models_around():
    class Model(keras.Model):
        def __init__(self):
            super().__init__(name="outer")
            self.layer = FlaxLayer(Net(), name="wrapped")

        def call(self, inputs):
            return self.layer(inputs)

    model = Model()
    model(X)
    assert all(w.path.startswith("outer/wrapped/") for w in model.weights)


def test_a_pytree_of_jax_has_paths_as_well():
    layer = JaxLayer(
        lambda params, inputs: inputs,
        params={"layers": [{"w": 1.0}, {"w": 2.0}]},
        name="jax_layer",
    )
    assert paths(layer) == {
        "jax_layer/params/layers/0/w",
        "jax_layer/params/layers/1/w",
    }


def test_paths_of_one_layer_are_distinct():
    layer = FlaxLayer(Net())
    layer.build((None, 4))
    assert len(paths(layer)) == len(layer.weights)


def test_a_layout_map_finds_weights_by_regex():
    devices = np.array(keras.distribution.list_devices()[:1])
    mesh = keras.distribution.DeviceMesh((1, 1), ("batch", "model"), devices)
    layouts = keras.distribution.LayoutMap(mesh)
    layouts[".*/block_[01]/Dense_0/kernel"] = (None, "model")
    layouts[".*/params/Dense_0/kernel"] = ("model", None)
    distribution = keras.distribution.ModelParallel(
        layout_map=layouts, batch_dim_name="batch"
    )
    with distribution.scope():
        layer = FlaxLayer(Net(), name="flax_layer", seed=0)
        model = keras.Sequential([keras.Input((4,)), layer])
        model.compile("sgd", "mse")
        model.fit(X, X[:, :2], verbose=0)
    found = {
        weight.path.partition("params/")[2]: layouts[weight.path]
        for weight in layer.trainable_weights
    }
    assert found["block_0/Dense_0/kernel"].axes == (None, "model")
    assert found["block_1/Dense_0/kernel"].axes == (None, "model")
    assert found["Dense_0/kernel"].axes == ("model", None)
    assert found["block_0/Dense_0/bias"] is None


def test_weight_decay_leaves_out_weights_by_name_and_by_path():
    layer = FlaxLayer(Net(), seed=0)
    layer.build((None, 4))
    weights = layer.trainable_weights
    for weight in weights:
        weight.assign(np.ones(weight.shape))
    optimizer = keras.optimizers.AdamW(0.1, weight_decay=1.0)
    optimizer.exclude_from_weight_decay(
        var_list=[w for w in weights if re.search("block_1/", w.path)],
        var_names=["bias", "scale"],
    )
    optimizer.build(weights)
    optimizer.apply([np.zeros(w.shape, np.float32) for w in weights])
    decayed = {
        weight.path.partition("params/")[2]
        for weight in weights
        if not np.array_equal(weight.value, np.ones(weight.shape))
    }
    assert decayed == {"block_0/Dense_0/kernel", "Dense_0/kernel"}


def test_weights_are_frozen_by_path():
    layer = FlaxLayer(Net(), seed=0)
    model = keras.Sequential([keras.Input((4,)), layer])
    for weight in layer.weights:
        if re.search("block_0/", weight.path):
            weight.trainable = False
    model.compile(keras.optimizers.SGD(0.1), "mse")
    before = {w.path: np.array(w.value) for w in layer.trainable_weights}
    frozen = {
        w.path: np.array(w.value) for w in layer.weights if "block_0/" in w.path
    }
    assert not set(before) & set(frozen)
    model.train_on_batch(X, X[:, :2])
    now = {w.path: np.array(w.value) for w in layer.weights}
    for path, value in frozen.items():
        np.testing.assert_array_equal(now[path], value)
    assert any(not np.array_equal(now[p], v) for p, v in before.items())


def test_axes_of_partitioned_weights_go_by_the_same_paths():
    class Partitioned(nn.Module):
        @nn.compact
        def __call__(self, inputs):
            init = nn.with_partitioning(
                nn.initializers.lecun_normal(), (None, "model")
            )
            return nn.Dense(3, kernel_init=init)(inputs)

    layer = FlaxLayer(Partitioned(), name="flax_layer")
    layer.build((None, 4))
    for path, names in layer.axis_names.items():
        (weight,) = (w for w in layer.weights if w.path.endswith(path))
        assert len(names) == len(weight.shape)
    assert set(layer.axis_names) == {"params/Dense_0/kernel"}
    with pytest.raises(KeyError):
        layer.axis_names["params/Dense_0/bias"]
