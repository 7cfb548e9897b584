"""Weights in a file of Keras: by path, and all of them or none."""

import flax.linen as nn
import h5py
import keras
import numpy as np
import pytest

from flaxlayer import FlaxLayer


class Net(nn.Module):
    @nn.compact
    def __call__(self, inputs, training=False):
        x = nn.BatchNorm(use_running_average=not training)(inputs)
        return nn.Dense(2)(nn.Dropout(0.5, deterministic=not training)(x))


def sequential(layer, shape=(4,), dtype="float32"):
    return keras.Sequential([keras.Input(shape, dtype=dtype), layer])


def values(model):
    return [np.array(v.value) for v in model.variables]


def assert_same(a, b):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.fixture
def weights_file(tmp_path):
    model = sequential(FlaxLayer(Net(), seed=1))
    path = tmp_path / "model.weights.h5"
    model.save_weights(path)
    return path


def datasets(path):
    """The names and shapes of all datasets in a weights file."""
    found = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: (
                found.update({name: item.shape})
                if isinstance(item, h5py.Dataset)
                else None
            )
        )
    return found


def test_weights_have_their_paths_in_the_file(weights_file):
    shapes = {
        name.rpartition("/")[2]: shape
        for name, shape in datasets(weights_file).items()
    }
    assert shapes["params.Dense_0.kernel"] == (4, 2)
    assert shapes["batch_stats.BatchNorm_0.mean"] == (4,)


def test_weights_are_loaded_by_path(weights_file):
    model = sequential(FlaxLayer(Net(), seed=2))
    model.load_weights(weights_file)
    expected = sequential(FlaxLayer(Net(), seed=1))
    assert_same(
        [w.value for w in model.weights], [w.value for w in expected.weights]
    )


def edited(path, edit):
    """Applies `edit` to the group that has the layer's weights."""
    (kernel,) = (n for n in datasets(path) if n.endswith("Dense_0.kernel"))
    with h5py.File(path, "r+") as file:
        edit(file[kernel.rpartition("/")[0]])


def renamed(group):
    group.move("params.Dense_0.kernel", "params.Dense_1.kernel")


def swapped(group):
    group.move("params.BatchNorm_0.bias", "kept")
    group.move("params.Dense_0.bias", "params.BatchNorm_0.bias")
    group.move("kept", "params.Dense_0.bias")


def reshaped(group):
    del group["params.Dense_0.kernel"]
    group["params.Dense_0.kernel"] = np.ones((2, 4), np.float32)


def dropped(group):
    del group["batch_stats.BatchNorm_0.var"]


def extended(group):
    group["params.Dense_1.bias"] = np.ones(2, np.float32)


@pytest.mark.parametrize(
    ("edit", "path"),
    [
        (renamed, "params/Dense_1/kernel"),
        (swapped, "params/BatchNorm_0/bias"),
        (reshaped, "params/Dense_0/kernel"),
        (dropped, "batch_stats/BatchNorm_0/var"),
        (extended, "params/Dense_1/bias"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_whole(weights_file, edit, path):
    edited(weights_file, edit)
    model = sequential(FlaxLayer(Net(), seed=2, name="probe"))
    before = values(model)
    with pytest.raises(ValueError, match="'probe'.*nothing was ass") as error:
        model.load_weights(weights_file)
    assert f"`{path}`" in str(error.value)
    assert_same(values(model), before)


def test_weights_of_a_layer_that_was_never_built_are_refused(tmp_path):
    layer = FlaxLayer(Net())
    with pytest.raises(ValueError, match="never built"):
        layer.load_own_variables({"params.Dense_0.kernel": np.ones((4, 2))})
