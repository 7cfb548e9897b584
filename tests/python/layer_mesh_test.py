"""What layers say of meshes and layouts that do not fit them."""

import pytest

from tests.python.forced_devices import output_of

pytestmark = pytest.mark.usefixtures("on_cpu")

CODE = """
import re, warnings
import flax.linen as nn, jax, keras, numpy as np
import flaxlayer

X = np.ones((8, 6), "float32")
DEVICES = keras.distribution.list_devices()

def under(axes, key=".*kernel", shape=(2, 2), devices=DEVICES):
    mesh = keras.distribution.DeviceMesh(shape, ("batch", "model"), devices)
    layouts = keras.distribution.LayoutMap(mesh)
    layouts[key] = axes
    keras.distribution.set_distribution(
        keras.distribution.ModelParallel(
            layout_map=layouts, batch_dim_name="batch"
        )
    )

def dense(units=8, **kwargs):
    return flaxlayer.FlaxLayer(nn.Dense(units), name="net", seed=0, **kwargs)

def message(call):
    try:
        call()
    except ValueError as error:
        return str(error)
    raise AssertionError("nothing was raised")

# A layout that does not fit, for small weights and for large ones.
for units in (7, 2**22 + 1):
    under((None, "model"))
    layer = dense(units)
    said = message(lambda: layer.build((8, 6)))
    assert said == (
        "FlaxLayer 'net': the layout (None, 'model') splits dimension 1 of "
        f"`net/params/kernel` of shape (6, {units}) over the 2 devices of "
        "'model', "
        f"which do not divide {units}. Split another dimension, use a mesh "
        "that divides it, or none (`None`)."
    ), said
    # The layer is as it was, and can be built otherwise.
    under((None, None))
    layer(X)
under((None, "model", None))
said = message(lambda: dense().build((8, 6)))
assert "the layout (None, 'model', None) is for 3 dimensions; " in said, said
assert "`net/params/kernel` of shape (6, 8) has 2. Give" in said, said

# So for weights that are given, before a distribution is set or after.
given = nn.Dense(7).init(jax.random.key(0), X)
keras.distribution.set_distribution(None)
layer = dense(7, variables=given)
under((None, "model"))
for call in (
    lambda: dense(7, variables=given), lambda: layer.build((8, 6))
):
    said = message(call)
    assert said.startswith(
        "FlaxLayer 'net': the layout (None, 'model') splits dimension 1 of "
        "`net/params/kernel` of shape (6, 7) over the 2 devices of"
    ), said

# Two keys for one weight, which Keras refuses: the layer is named.
under((None, "model"))
layouts = keras.distribution.distribution()._layout_map
layouts[".*params.*"] = ("model",)
said = message(lambda: dense().build((8, 6)))
assert said.startswith("FlaxLayer 'net': Path 'net/params/kernel' mat"), said

# A layout that names no weight.
def warnings_of(key):
    under((None, "model"), key)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        dense()(X)
    return [str(each.message) for each in caught]

(said,) = warnings_of("net/params/kernell")
assert said == (
    "FlaxLayer 'net': the LayoutMap has keys that match none of its weights: "
    "'net/params/kernell'. They change nothing. A key has to match a whole "
    "path, such as 'net/params/bias'; `flaxlayer.tabulate` lists all."
), said
(said,) = warnings_of("params/kernel")
assert "match none of its weights: 'params/kernel'." in said, said
for key in (
    "net/params/kernel", ".*/kernel", "net/output", "other/kernel",
    "other/net/params/kernel", r"other\\.net/params/kernel",
    "(other|another)/net/params/kernel",
):
    assert warnings_of(key) == [], key
for key in ("(.*/)?net/params/kernell", ".*net/params/kernell"):
    assert len(warnings_of(key)) == 1, key

# A distribution that is set after the build, or is another one.
keras.distribution.set_distribution(None)
late = dense()
alone = late(X)
under((None, "model"))
said = message(lambda: late(X))
assert (
    "FlaxLayer 'net' is called under a distribution over the mesh {'batch': 2, "
    "'model': 2} of 4 devices; it was built on one device, and its weights "
    "stay there."
) in said, said
layer = dense()
np.testing.assert_allclose(layer(X), alone, rtol=1e-6)
for shape, devices in (((4, 1), DEVICES), ((2, 2), DEVICES[::-1])):
    under((None, "model"), shape=shape, devices=devices)
    said = message(lambda: layer(X))
    assert "it was built on the mesh {'batch': 2, 'model': 2} of" in said, said
under((None, "model"))  # An equal one.
layer(X)
keras.distribution.set_distribution(None)
layer(X)

# The global seed generator may have been made under another distribution.
def drawn():
    layer = flaxlayer.FlaxLayer(nn.Dense(8), name="net")
    layer.build((8, 6))
    return np.array(layer.params["params"]["kernel"], copy=True)

keras.utils.set_random_seed(0)
expected = [drawn(), drawn()]
under((None, "model"))
keras.utils.set_random_seed(0)
found = [drawn()]
under((None, "model"), shape=(1, 2), devices=DEVICES[:2])
found.append(drawn())
np.testing.assert_array_equal(found, expected)

# Inputs that are on other devices, or on another mesh of the same.
under((None, "model"))
layer = dense()
layer(X)
said = message(lambda: layer(jax.device_put(X, jax.devices()[3])))
assert (
    "FlaxLayer 'net' has its weights on the mesh {'batch': 2, 'model': 2} of "
    "the devices [0, 1, 2, 3]; an input of shape (8, 6) is on the devices [3]. "
    "Pass it as a NumPy array, or "
) in said, said
mesh = jax.sharding.Mesh(np.array(jax.devices()[::-1]), ("rows",))
rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("rows"))
said = message(lambda: layer(jax.device_put(X, rows)))
assert "is on the mesh {'rows': 4} of the devices [3, 2, 1, 0]." in said, said
assert "JAX says: Received incompatible devices" in said, said
keras.distribution.set_distribution(None)

# A layer that was made before the distribution was set, with its seed and its
# weights, is built and trained under it.
class Net(nn.Module):
    @nn.compact
    def __call__(self, x, training=False):
        x = nn.Dropout(0.5, deterministic=not training)(x)
        return nn.Dense(6)(x)

def net(**kwargs):
    return flaxlayer.FlaxLayer(Net(), name="net", seed=0, **kwargs)

def trained(layer):
    under((None, "model"))
    model = keras.Sequential([layer])
    model.compile("adam", "mse")
    losses = model.fit(X, X, epochs=2, verbose=0).history["loss"]
    (kernel,) = (v for v in layer.weights if v.path.endswith("kernel"))
    assert kernel.value.sharding.shard_shape(kernel.shape) == (6, 3)
    slots = [v for v in model.optimizer.variables if "kernel" in v.path]
    assert len(slots) == 2
    for slot in slots:
        assert slot.value.sharding == kernel.value.sharding, slot.path
    return losses

under((None, "model"))
expected = trained(net())
keras.distribution.set_distribution(None)
before = net()
assert trained(before) == expected
for shape, devices in (((1, 2), DEVICES[:2]), ((4, 1), DEVICES)):
    under((None, "model"), shape=shape, devices=devices)
    before = net()
    assert trained(before) == expected
keras.distribution.set_distribution(None)
first = net()
first.build((8, 6))
given = net(variables=first.get_layer_variables())
assert trained(given) == expected
print("said")
"""


def test_what_does_not_fit_is_named_and_what_came_before_is_moved():
    assert output_of(CODE, devices=4)[-1] == "said"
