"""Layouts made of the names that modules give to the axes of weights."""

import warnings

import flax.linen as nn
import jax
import keras
import numpy as np
import pytest
from flax import nnx
from flax.linen import partitioning

import flaxlayer
from flaxlayer import FlaxLayer
from tests.python.forced_devices import output_of

X = np.ones((2, 4), "float32")
INIT = nn.initializers.lecun_normal()


class Net(nn.Module):
    """Names axes in both of the ways that Linen has boxes for."""

    @nn.compact
    def __call__(self, inputs, training=False):
        up = nn.with_logical_partitioning(INIT, ("embed", "mlp"))
        down = nn.with_partitioning(INIT, ("mlp", "embed"))
        x = nn.Dense(8, kernel_init=up, name="up")(inputs)
        return nn.Dense(4, kernel_init=down, name="down")(x)


class Cached(nn.Module):
    """Has state whose axes have names, too."""

    @nn.compact
    def __call__(self, inputs):
        init = nn.with_partitioning(INIT, ("embed", "mlp"))
        cache = nn.with_partitioning(nn.initializers.zeros, ("embed", "mlp"))
        self.variable("cache", "kept", cache, jax.random.key(0), (4, 8))
        return nn.Dense(8, kernel_init=init, name="up")(inputs)


class Beside(nn.Module):
    """Names axes as T5X does."""

    @nn.compact
    def __call__(self, inputs):
        kernel = partitioning.param_with_axes(
            "kernel", INIT, (4, 8), axes=("embed", "mlp")
        )
        return inputs @ kernel


class Nnx(nnx.Module):
    """Names axes in the metadata of variables."""

    def __init__(self, *, rngs):
        init = nnx.with_partitioning(INIT, ("embed", "mlp"))
        self.up = nnx.Linear(4, 8, kernel_init=init, rngs=rngs)

    def __call__(self, inputs):
        return self.up(inputs)


@pytest.fixture
def mesh():
    """As of many devices: layouts do not ask how many there are."""
    return keras.distribution.DeviceMesh(
        (1, 1), ("batch", "model"), jax.devices()[:1]
    )


def axes_of(layouts):
    return {path: layout.axes for path, layout in layouts.items()}


RULES = {"embed": None, "mlp": "model"}
UP = {"net/params/up/kernel": (None, "model")}
UP_AND_DOWN = UP | {"net/params/down/kernel": ("model", None)}


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (Net(), UP_AND_DOWN),
        (Beside(), {"net/params/kernel": (None, "model")}),
        (Nnx, UP),
    ],
)
def test_names_become_layouts_by_the_rules(mesh, module, expected):
    layer = FlaxLayer(module, name="net")
    layer(X)
    assert axes_of(flaxlayer.layout_map(layer, mesh, RULES)) == expected


def test_a_layer_in_a_model_is_asked_when_it_is_built(mesh):
    layer = FlaxLayer(Net(), name="net")
    model = keras.Sequential([layer, keras.layers.Dense(2)], name="model")
    layouts = flaxlayer.layout_map(model, mesh, RULES)
    assert len(layouts) == 0
    distribution = keras.distribution.ModelParallel(
        layout_map=layouts, batch_dim_name="batch"
    )
    with distribution.scope():
        model(X)
    assert axes_of(layouts) == {
        f"model/{path}": axes for path, axes in UP_AND_DOWN.items()
    }
    kernel = layer.params["params"]["up"]["kernel"]
    assert layouts[kernel.path].axes == (None, "model")
    assert layouts[layer.params["params"]["up"]["bias"].path] is None


def test_given_weights_keep_their_paths_in_a_model(mesh):
    variables = Net().init(jax.random.key(0), X)
    layer = FlaxLayer(Net(), name="net", variables=variables)
    layouts = flaxlayer.layout_map(layer, mesh, RULES)
    distribution = keras.distribution.ModelParallel(
        layout_map=layouts, batch_dim_name="batch"
    )
    with distribution.scope():
        keras.Sequential([layer], name="model")(X)
    kernel = layer.params["params"]["up"]["kernel"]
    assert layouts[kernel.path].axes == (None, "model")


def test_a_pattern_goes_before_names(mesh):
    layer = FlaxLayer(Net(), name="net")
    layer(X)
    layouts = flaxlayer.layout_map(layer, mesh, RULES)
    layouts[".*/up/kernel"] = ("batch", None)
    layouts[".*/up/bias"] = ("model",)
    assert layouts["net/params/up/kernel"].axes == ("batch", None)
    assert layouts["net/params/up/bias"].axes == ("model",)
    assert layouts["net/params/down/kernel"].axes == ("model", None)
    assert set(layouts) == {".*/up/kernel", ".*/up/bias", *UP_AND_DOWN}


def test_a_name_may_have_a_second_rule_for_when_the_first_axis_is_taken(mesh):
    layer = FlaxLayer(Net(), name="net")
    layer(X)
    rules = [("mlp", "model"), ("embed", "model"), ("embed", "batch")]
    assert axes_of(flaxlayer.layout_map(layer, mesh, rules)) == {
        "net/params/up/kernel": ("batch", "model"),
        "net/params/down/kernel": ("model", "batch"),
    }


def test_the_rules_of_flax_are_taken_where_there_are_no_others(mesh):
    layer = FlaxLayer(Net(), name="net")
    layer(X)
    with nn.logical_axis_rules([("embed", None), ("mlp", "model")]):
        assert axes_of(flaxlayer.layout_map(layer, mesh)) == UP_AND_DOWN


def test_a_name_that_is_a_mesh_axis_needs_no_rule(mesh):
    split = nn.with_partitioning(INIT, (None, "model"))
    layer = FlaxLayer(nn.Dense(8, kernel_init=split), name="net")
    layer(X)
    assert axes_of(flaxlayer.layout_map(layer, mesh)) == {
        "net/params/kernel": (None, "model")
    }
    assert axes_of(flaxlayer.layout_map(layer, mesh, {"model": None})) == {
        "net/params/kernel": (None, None)
    }


def test_a_name_without_a_rule_is_an_error(mesh):
    layer = FlaxLayer(Net(), name="net")
    layer(X)
    with pytest.raises(ValueError, match="no rules") as error:
        flaxlayer.layout_map(layer, mesh, {"mlp": "model"})
    assert str(error.value) == (
        "`layout_map`: FlaxLayer 'net' has axes with names that there are no "
        "rules for: 'embed' (of `params/down/kernel` ('mlp', 'embed')). Add a "
        "rule for each, such as `{'embed': None}` for an axis that is not "
        "split. Rules: 'mlp'."
    )


def test_rules_without_a_name_are_warned_of_once_all_layers_are_known(mesh):
    layers = [FlaxLayer(Net(), name="net"), FlaxLayer(Beside(), name="other")]
    model = keras.Sequential(layers)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layouts = flaxlayer.layout_map(
            model, mesh, {**RULES, "heads": "model", "kv": None}
        )
        layers[0](X)
        layouts.look_up()
    layers[1](X)
    with pytest.warns(UserWarning, match="these rules: 'heads', 'kv'"):
        layouts.look_up()


def test_a_name_twice_in_a_weight_is_an_error_of_its_path(mesh):
    square = nn.with_partitioning(INIT, ("embed", "embed"))
    layer = FlaxLayer(nn.Dense(4, kernel_init=square), name="net")
    layer(X)
    with pytest.raises(ValueError, match="'net' has no layout for `params/ker"):
        flaxlayer.layout_map(layer, mesh, RULES)


def test_bad_arguments_are_refused(mesh):
    layer = FlaxLayer(Net(), name="net")
    with pytest.raises(TypeError, match="`mesh` has to be a `keras.dist"):
        flaxlayer.layout_map(layer, jax.make_mesh((1,), ("model",)), RULES)
    with pytest.raises(TypeError, match="takes a Keras layer or model"):
        flaxlayer.layout_map(Net(), mesh, RULES)
    with pytest.raises(ValueError, match="there is none in"):
        flaxlayer.layout_map(keras.layers.Dense(2), mesh, RULES)
    with pytest.raises(ValueError, match=r"not: \{'mlp': 'modle'\}. Expected"):
        flaxlayer.layout_map(layer, mesh, {"mlp": "modle"})
    with pytest.raises(TypeError, match=r"'mlp' has several mesh axes"):
        flaxlayer.layout_map(layer, mesh, {"mlp": ("batch", "model")})
    with pytest.raises(TypeError, match="or pairs, of a name and"):
        flaxlayer.layout_map(layer, mesh, ["mlp"])


TRAINED = """
import warnings
import flax.linen as nn, jax, keras, numpy as np
import flaxlayer
from tests.python.axis_layouts_test import Cached, Net, RULES

def trained(shape):
    devices = keras.distribution.list_devices()[: shape[0] * shape[1]]
    mesh = keras.distribution.DeviceMesh(shape, ("batch", "model"), devices)
    layer = flaxlayer.FlaxLayer(Net(), name="net", seed=0)
    layouts = flaxlayer.layout_map(layer, mesh, RULES)
    keras.distribution.set_distribution(
        keras.distribution.ModelParallel(
            layout_map=layouts, batch_dim_name="batch"
        )
    )
    model = keras.Sequential([layer])
    model.compile("adam", "mse")
    x = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    losses = model.fit(x, x, epochs=3, verbose=0).history["loss"]
    params = layer.params["params"]
    kernels = [params[name]["kernel"].value for name in ("up", "down")]
    return losses, kernels, model.optimizer.variables

losses, (up, down), slots = trained((2, 2))
assert up.sharding.shard_shape(up.shape) == (4, 4), up.sharding
assert down.sharding.shard_shape(down.shape) == (4, 4), down.sharding
split = [s.path for s in slots if "model" in s.value.sharding.spec]
assert len(split) == 4, split
alone, _, _ = trained((1, 1))
np.testing.assert_allclose(losses, alone, rtol=1e-5)

# Layers of one name in two models, or with a name that looks like a pattern:
# nobody is warned of keys that the other one has.
warnings.simplefilter("error")
devices = keras.distribution.list_devices()
mesh = keras.distribution.DeviceMesh((2, 2), ("batch", "model"), devices)
keras.distribution.set_distribution(None)
first, second, third = (
    keras.Sequential([flaxlayer.FlaxLayer(Net(), name=name)], name=model)
    for model, name in (("one", "net"), ("two", "net"), ("three", "c++[0]"))
)
model = keras.Sequential([first, second, third])
layouts = flaxlayer.layout_map(model, mesh, RULES)
keras.distribution.set_distribution(
    keras.distribution.ModelParallel(
        layout_map=layouts, batch_dim_name="batch"
    )
)
model(np.ones((8, 4), "float32"))
split = [w for w in model.weights if "model" in w.value.sharding.spec]
assert len(split) == 6, split

# A layer that was given some of its collections, with the names or without.
x = np.ones((8, 4), "float32")
boxed = Cached().init(jax.random.key(0), x)
for variables in (boxed, nn.unbox(boxed)):
    for collection in ("params", "cache"):
        keras.distribution.set_distribution(None)
        given = {collection: variables[collection]}
        layer = flaxlayer.FlaxLayer(Cached(), name="net", variables=given)
        layouts = flaxlayer.layout_map(layer, mesh, RULES)
        keras.distribution.set_distribution(
            keras.distribution.ModelParallel(
                layout_map=layouts, batch_dim_name="batch"
            )
        )
        keras.Sequential([layer])(x)
        split = [w for w in layer.weights if "model" in w.value.sharding.spec]
        assert len(split) == 2, (list(given), split)
print("trained")
"""


def test_a_layer_is_sharded_by_its_own_names_and_trains_the_same():
    assert output_of(TRAINED, devices=4) == ["trained"]
