"""A layer whose weights are spread over several devices."""

import pytest

from tests.python.forced_devices import output_of

pytestmark = pytest.mark.usefixtures("on_cpu")

CODE = """
import flax.linen as nn, jax, keras, numpy as np
import flaxlayer

class Net(nn.Module):
    @nn.compact
    def __call__(self, inputs, training=False):
        x = nn.Dense(8, name="up")(inputs)
        x = nn.Dropout(0.5, deterministic=not training)(x)
        return nn.Dense(4, name="down")(x)

x = np.ones((8, 4), "float32")

def trained(shape, axes, kernels="auto"):
    devices = keras.distribution.list_devices()
    mesh = keras.distribution.DeviceMesh(
        shape, ("batch", "model"), devices[: shape[0] * shape[1]]
    )
    layouts = keras.distribution.LayoutMap(mesh)
    layouts[".*/params/up/kernel"] = axes
    keras.distribution.set_distribution(
        keras.distribution.ModelParallel(
            layout_map=layouts, batch_dim_name="batch"
        )
    )
    layer = flaxlayer.FlaxLayer(
        Net(), seed=0, name="net", kernels=kernels
    )
    model = keras.Sequential([keras.Input((4,)), layer])
    model.compile("sgd", "mse")
    losses = model.fit(x, x, epochs=3, verbose=0).history["loss"]
    kernel = layer.params["params"]["up"]["kernel"].value
    return losses, kernel, flaxlayer.tabulate(layer)

losses, kernel, table = trained((2, 2), (None, "model"))
assert kernel.sharding.shard_shape(kernel.shape) == (4, 4), kernel.sharding
shardings = {line.split()[0]: line for line in table.splitlines() if line}
assert " P(None, 'model') " in shardings["params/up/kernel"], table
assert " P(" in shardings["params/down/bias"], table
# Each device has the words of one device for its part of the mask.
again, same, _ = trained((2, 2), (None, "model"), "reference")
assert losses == again, (losses, again)
np.testing.assert_array_equal(kernel, same)
alone, whole, table = trained((1, 1), (None, None))
assert "P(" not in table, table
np.testing.assert_allclose(losses, alone, rtol=1e-5)
np.testing.assert_allclose(kernel, whole, rtol=1e-4, atol=1e-5)
print("sharded")
"""


def test_weights_are_sharded_by_their_paths_and_train_the_same():
    assert output_of(CODE, devices=4) == ["sharded"]


LARGE = """
import flax.linen as nn, jax, keras, numpy as np
import flaxlayer

def kernel():
    # So large that Keras takes care that no device has the whole of it.
    layer = flaxlayer.FlaxLayer(nn.Dense(2**21), seed=0)
    layer.build((None, 8))
    return layer.params["params"]["kernel"].value

expected = np.array(kernel(), copy=True)
devices = keras.distribution.list_devices()
mesh = keras.distribution.DeviceMesh((2, 2), ("batch", "model"), devices)
layouts = keras.distribution.LayoutMap(mesh)
layouts[".*kernel"] = (None, "model")
keras.distribution.set_distribution(
    keras.distribution.ModelParallel(
        layout_map=layouts, batch_dim_name="batch"
    )
)
value = kernel()
assert value.sharding.shard_shape(value.shape) == (8, 2**20), value.sharding
assert isinstance(value.sharding.mesh, jax.sharding.Mesh), value.sharding
np.testing.assert_array_equal(value, expected)
print("built")
"""


def test_large_weights_are_built_where_they_will_live_with_the_same_bits():
    assert output_of(LARGE, devices=4)[-1] == "built"


COMPILED = """
import flax.linen as nn, jax, numpy as np
import flaxlayer

class Net(nn.Module):
    @nn.compact
    def __call__(self, inputs, training=False):
        x = nn.Dropout(0.5, deterministic=not training)(inputs)
        return nn.Dropout(0.5, deterministic=not training)(x)

layer = flaxlayer.FlaxLayer(Net(), seed=0, kernels="native")
layer.build((8, 4))
mesh = jax.sharding.Mesh(np.array(jax.devices()).reshape(2, 2), ("a", "b"))
split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("a", "b"))
x = jax.device_put(np.ones((8, 4), "float32"), split)

def call(variables, x):
    return layer.stateless_call([], variables, x, training=True)

values = [v.value for v in layer.non_trainable_variables]
text = jax.jit(call).lower(values, x).compile().as_text()
assert "flaxlayer_random_block" in text
assert "u32[4,2]" in text and "u32[8,4]" not in text
assert "all-gather" not in text and "all-reduce" not in text
out, _ = jax.jit(call)(values, x)
alone, _ = jax.jit(call)(values, np.ones((8, 4), "float32"))
np.testing.assert_array_equal(out, alone)
print("split")
"""


def test_masks_are_computed_in_parts_and_are_those_of_one_device():
    assert output_of(COMPILED, devices=4) == ["split"]
