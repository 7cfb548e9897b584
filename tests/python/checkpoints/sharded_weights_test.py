"""Weights that are spread over several devices, in every format."""

import pytest

from tests.python.forced_devices import output_of

pytestmark = pytest.mark.usefixtures("on_cpu")

CODE = """
import sys
import warnings
import flax.linen as nn, jax, keras, numpy as np
import flaxlayer

class Net(nn.Module):
    @nn.compact
    def __call__(self, inputs):
        return nn.Dense(4, name="down")(nn.Dense(8, name="up")(inputs))

def layer_over(axes, seed):
    devices = keras.distribution.list_devices()
    mesh = keras.distribution.DeviceMesh((2, 2), ("batch", "model"), devices)
    layouts = keras.distribution.LayoutMap(mesh)
    layouts[".*/params/up/kernel"] = axes
    keras.distribution.set_distribution(
        keras.distribution.ModelParallel(
            layout_map=layouts, batch_dim_name="batch"
        )
    )
    layer = flaxlayer.FlaxLayer(Net(), seed=seed)
    model = keras.Sequential([keras.Input((4,)), layer])
    model.compile("adam", "mse")
    return layer, model

def kernel(layer):
    return layer.params["params"]["up"]["kernel"].value

columns, rows = (None, "model"), ("model", None)
layer, model = layer_over(columns, 1)
assert kernel(layer).sharding.shard_shape((4, 8)) == (4, 4)
folder = sys.argv[1]
for name in ["w.msgpack", "w.safetensors", "w"]:
    flaxlayer.save_variables(layer, f"{folder}/{name}")
    other, _ = layer_over(rows, 2)
    before = [v.value.sharding for v in other.weights]
    flaxlayer.load_variables(other, f"{folder}/{name}")
    assert kernel(other).sharding.shard_shape((4, 8)) == (2, 8)
    assert [v.value.sharding for v in other.weights] == before
    for a, b in zip(layer.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)

# Arrays on one device are spread as the weights are.
other, _ = layer_over(rows, 2)
given = Net().init(jax.random.key(1), np.ones((1, 4)))
other.set_layer_variables(given)
assert kernel(other).sharding.shard_shape((4, 8)) == (2, 8)

# A backup of one layout is restored into another.
x = np.ones((8, 4), "float32")
def fit(model, epochs):
    model.fit(
        x, x, epochs=epochs, verbose=0, shuffle=False,
        callbacks=[flaxlayer.OrbaxBackup(f"{folder}/run")],
    )
layer, model = layer_over(columns, 1)
fit(model, 2)
other, again = layer_over(rows, 3)
with warnings.catch_warnings():
    warnings.filterwarnings("ignore", ".*nothing to do")
    fit(again, 2)
assert kernel(other).sharding.shard_shape((4, 8)) == (2, 8)
for a, b in zip(layer.get_weights(), other.get_weights(), strict=True):
    np.testing.assert_array_equal(a, b)
print("restored")
"""


def test_weights_are_restored_into_other_shardings(tmp_path):
    flags = ["-W", "error::UserWarning"]
    printed = output_of(CODE, tmp_path, devices=4, flags=flags)
    assert printed == ["restored"]
