"""A network, and what its weights and data may be spread over."""

import contextlib
import types

import flax.linen as nn
import jax
import keras
import numpy as np

import flaxlayer

_RNG = np.random.default_rng(0)
# Every row has a mean of its own: statistics of some rows are not those of all.
X = _RNG.normal(size=(16, 8)).astype("float32") + np.linspace(
    -2, 2, 16, dtype="float32"
).reshape(16, 1)
Y = X[:, :4] - X[:, 4:]

LAYOUTS = {
    ".*params/up/kernel": (None, "model"),
    ".*params/up/bias": ("model",),
    ".*params/down/kernel": ("model", None),
    ".*batch_stats/norm/mean": ("model",),
}


class Net(nn.Module):
    """Has kernels to split in both ways, batch statistics and dropout."""

    @nn.compact
    def __call__(self, inputs, training=False):
        x = nn.relu(nn.Dense(16, name="up")(inputs))
        x = nn.BatchNorm(use_running_average=not training, name="norm")(x)
        x = nn.Dropout(0.5, deterministic=not training)(x)
        return nn.Dense(4, name="down")(x)


def model_parallel(shape=(2, 4), layouts=None):
    """Weights by layouts, the batch over the first axis of the mesh."""
    devices = keras.distribution.list_devices()[: shape[0] * shape[1]]
    mesh = keras.distribution.DeviceMesh(shape, ("batch", "model"), devices)
    layout_map = keras.distribution.LayoutMap(mesh)
    for pattern, axes in (LAYOUTS if layouts is None else layouts).items():
        layout_map[pattern] = axes
    return keras.distribution.ModelParallel(
        layout_map=layout_map, batch_dim_name="batch"
    )


def data_parallel():
    """All weights on each of the devices, a part of the batch on each."""
    return keras.distribution.DataParallel()


def scope(distribution):
    """In which a distribution is set; `None` for one device."""
    if distribution is None:
        return contextlib.nullcontext()
    return distribution.scope()


def spread(distribution, array, *axes):
    """An array over the devices of a distribution."""
    if distribution is None:
        return array
    mesh = distribution.device_mesh.backend_mesh
    spec = jax.sharding.PartitionSpec(*axes or ("batch",))
    return jax.device_put(array, jax.sharding.NamedSharding(mesh, spec))


def layer_of(module=None, **kwargs):
    """A built layer."""
    arguments = {"name": "net", "seed": 0} | kwargs
    layer = flaxlayer.FlaxLayer(module or Net(), **arguments)
    layer.build(X.shape)
    return layer


def model_of(layer, *, optimizer=None, **kwargs):
    """A compiled model with this one layer."""
    model = keras.Sequential([keras.Input(X.shape[1:]), layer])
    model.compile(optimizer or keras.optimizers.SGD(0.05), "mse", **kwargs)
    return model


def fit(model, epochs=3):
    """Two steps for each epoch; the losses."""
    history = model.fit(
        X, Y, batch_size=8, shuffle=False, epochs=epochs, verbose=0
    )
    return history.history["loss"]


def values(variables):
    """Copies of what variables hold."""
    return [np.array(v.value, copy=True) for v in variables]


def assert_placed(variables):
    """That variables are where the distribution that is set has weights."""
    for variable in variables:
        # Keras would hand back the layout that a variable already has.
        named = types.SimpleNamespace(path=variable.path, shape=variable.shape)
        layout = keras.distribution.distribution().get_variable_layout(named)
        where = variable.value.sharding
        assert where.is_equivalent_to(
            layout.backend_layout, len(variable.shape)
        ), f"{variable.path}: {where}, and not {layout.backend_layout}"


def assert_optimizer_placed(optimizer, weights):
    """That what an optimizer has of a weight is where the weight is."""
    for variable in optimizer.variables:
        where = variable.value.sharding
        of = [w for w in weights if w.path.replace("/", "_") in variable.path]
        if of:
            assert where == of[0].value.sharding, variable.path
        else:
            assert where.is_fully_replicated, variable.path
            assert where.device_set == weights[0].value.sharding.device_set


def assert_equal(found, expected):
    """To the bit."""
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def assert_close(found, expected):
    """But for the order of sums: those over the batch, and the axis "model"."""
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)
