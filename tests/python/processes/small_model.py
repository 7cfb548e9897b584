"""A model over a mesh, or on one device, for the code of processes."""

import flax.linen as nn
import keras
import numpy as np
from jax.experimental import multihost_utils

import flaxlayer


class Net(nn.Module):
    """Has parameters, batch statistics and dropout."""

    @nn.compact
    def __call__(self, inputs, training=False):
        x = nn.Dense(8, name="up")(inputs)
        x = nn.BatchNorm(use_running_average=not training)(x)
        x = nn.Dropout(0.3, deterministic=not training)(x)
        return nn.Dense(4, name="down")(x)


def made(shape=None, axes=(None, "model"), seed=0):
    """A layer and its model, compiled.

    Args:
        shape: that of a mesh for data and for parts of the first kernel; or
            `None` for no mesh.
        axes: the layout of that kernel.
        seed: for the layer, and for what Keras draws.
    """
    keras.utils.set_random_seed(seed)
    keras.distribution.set_distribution(shape and _distribution(shape, axes))
    layer = flaxlayer.FlaxLayer(Net(), seed=seed, name="net")
    top = keras.layers.Dense(2, name="top")
    model = keras.Sequential([keras.Input((4,)), layer, top])
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), "mse")
    model.optimizer.build(model.trainable_variables)
    return layer, model


def _distribution(shape, axes):
    size = int(np.prod(shape))
    mesh = keras.distribution.DeviceMesh(
        shape, ("batch", "model"), keras.distribution.list_devices()[:size]
    )
    layouts = keras.distribution.LayoutMap(mesh)
    layouts[".*/up/kernel"] = axes
    return keras.distribution.ModelParallel(
        layout_map=layouts, batch_dim_name="batch", auto_shard_dataset=False
    )


def fit(model, count=16, **kwargs):
    """Trains on batches of `count` rows over all processes."""
    distribution = keras.distribution.distribution()
    x = np.random.RandomState(0).randn(2 * count, 4).astype("float32")
    rows = list(range(count))
    if distribution is not None:
        # Those of a batch that the devices of this process hold.
        layout = distribution.get_data_layout((count,)).backend_layout
        parts = layout.addressable_devices_indices_map((count,))
        rows = sorted({i for (x,) in parts.values() for i in range(count)[x]})
    mine = np.concatenate([x[rows], x[count:][rows]])
    return model.fit(
        mine,
        mine[:, :2],
        batch_size=len(rows),
        shuffle=False,
        verbose=0,
        **kwargs,
    )


def everything(model):
    """All weights, state and slots of the optimizer, whole."""
    variables = [*model.variables, *model.optimizer.variables]
    return [
        multihost_utils.process_allgather(v.value, tiled=True)
        if not v.value.is_fully_addressable
        else np.array(v.value, copy=True)
        for v in variables
    ]
