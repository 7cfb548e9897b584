"""Layers come back from files as they were, or not at all."""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from flaxlayer import FlaxLayer, JaxLayer

RNG = np.random.default_rng(0)
X = RNG.normal(size=(8, 4)).astype(np.float32)
Y = RNG.normal(size=(8, 2)).astype(np.float32)
IDS = RNG.integers(0, 10, (8, 5)).astype(np.int32)


class Net(nn.Module):
    """Has no `get_config`: its fields say all."""

    features: int = 2
    rate: float = 0.5

    @nn.compact
    def __call__(self, inputs, training=False):
        x = nn.BatchNorm(use_running_average=not training)(inputs)
        x = nn.Dropout(self.rate, deterministic=not training)(x)
        return nn.Dense(self.features)(x)

    def doubled(self, inputs):
        return 2 * self(inputs)


class Everything(nn.Module):
    """Fields of all the plain kinds."""

    sizes: tuple[int, ...] = ()
    names: dict[str, Any] = dataclasses.field(default_factory=dict)
    activation: Any = nn.relu
    kernel_init: Any = nn.initializers.ones
    dtype: Any = None
    inner: nn.Module | None = None
    scale: float | None = None

    @nn.compact
    def __call__(self, inputs):
        x = inputs
        for size in self.sizes:
            x = self.activation(
                nn.Dense(size, kernel_init=self.kernel_init, dtype=self.dtype)(
                    x
                )
            )
        if self.inner is not None:
            x = self.inner(x)
        return x * self.scale + self.names["shift"]["by"]


class Embedding(nn.Module):
    @nn.compact
    def __call__(self, inputs):
        return nn.Embed(10, 3)(inputs).mean(1)


def doubled(module, inputs):
    return 2 * module(inputs)


def dense_init(rng, inputs):
    return {"w": jax.random.normal(rng, (inputs.shape[-1], 2)), "act": "tanh"}


def dense(params, inputs):
    return getattr(jnp, params["act"])(inputs @ params["w"])


def running(params, state, rng, inputs, training):
    if training:
        inputs = inputs + jax.random.normal(rng, inputs.shape)
        state = {"n": state["n"] + 1}
    return inputs @ params["w"], state


def sequential(layer, shape=(4,), dtype="float32"):
    return keras.Sequential([keras.Input(shape, dtype=dtype), layer])


def values(model):
    return [np.array(v.value) for v in model.variables]


def assert_same(a, b):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


def assert_all_the_same(model, again, x=X):
    assert_same(values(model), values(again))
    np.testing.assert_array_equal(model(x), again(x))
    for a, b in zip(model.weights, again.weights, strict=True):
        assert a.path.endswith(b.path)  # Keras loads a layer before its model.


@pytest.fixture
def reload(tmp_path):
    def save_and_load(model, **kwargs):
        path = str(tmp_path / "model.keras")
        model.save(path)
        return keras.models.load_model(path, **kwargs)

    return save_and_load


# Whole models.


def test_a_module_without_get_config_comes_back(reload):
    layer = FlaxLayer(Net(rate=0.25), seed=3)
    model = sequential(layer)
    layer(X, training=True)
    again = reload(model)
    assert_all_the_same(model, again)
    assert again.layers[0].module == Net(rate=0.25)


def test_fields_of_every_plain_kind_come_back(reload):
    module = Everything(
        sizes=(3, 2),
        names={"shift": {"by": 1.5}, "tags": ["a", None, True, 2]},
        activation=nn.gelu,
        kernel_init=nn.initializers.normal(0.5),
        dtype=jnp.float32,
        inner=Everything(names={"shift": {"by": -1}}, scale=2.0),
        scale=0.5,
    )
    model = sequential(FlaxLayer(module, seed=0))
    again = reload(model)
    assert_all_the_same(model, again)
    loaded = again.layers[0].module
    assert loaded.sizes == (3, 2)
    assert loaded.names == module.names
    assert loaded.activation is nn.gelu
    assert loaded.inner == module.inner


def test_a_partial_and_a_function_of_jax_come_back(reload):
    module = Everything(
        sizes=(2,),
        names={"shift": {"by": 0.0}},
        activation=functools.partial(jax.nn.leaky_relu, negative_slope=0.5),
        scale=1.0,
    )
    model = sequential(FlaxLayer(module))
    assert_all_the_same(model, reload(model))


@pytest.mark.parametrize(
    "method",
    [None, "doubled", Net.doubled, Net().doubled, doubled],
    ids=["none", "name", "function of the class", "bound", "function"],
)
def test_a_method_comes_back(reload, method):
    model = sequential(FlaxLayer(Net(), method=method, seed=1))
    assert_all_the_same(model, reload(model))


def test_other_arguments_come_back(reload):
    layer = FlaxLayer(
        Net(),
        rngs={"dropout": "training", "noise": "always"},
        seed=jax.random.key(11),
        kernels="reference",
        name="probe",
        dtype="mixed_bfloat16",
        trainable=False,
    )
    again = reload(sequential(layer)).layers[0]
    config = layer.get_config()
    assert again.get_config() == config
    assert again.name == "probe"
    assert again.kernels == "reference"
    assert again.dtype_policy.name == "mixed_bfloat16"
    assert again.trainable_weights == []
    assert "noise" in str(config["rngs"])


def test_a_config_makes_an_equal_layer():
    layer = FlaxLayer(Net(features=3), seed=3)
    again = FlaxLayer.from_config(layer.get_config())
    np.testing.assert_array_equal(again(X), layer(X))
    assert again.get_config() == layer.get_config()


def test_a_config_of_a_spec_for_inputs_comes_back():
    spec = jax.ShapeDtypeStruct((2, 5), np.int32)
    layer = FlaxLayer(Embedding(), inputs_spec=spec, seed=1)
    again = FlaxLayer.from_config(layer.get_config())
    again.build((2, 5))
    layer.build((2, 5))
    assert_same(values(again), values(layer))


def test_integer_inputs_are_rebuilt_on_load(reload):
    model = sequential(FlaxLayer(Embedding(), seed=2), (None,), "int32")
    assert_all_the_same(model, reload(model), IDS)


def test_structured_inputs_are_rebuilt_on_load(reload):
    inputs = {
        "ids": keras.Input((5,), dtype="int32", name="ids"),
        "x": keras.Input((3,), name="x"),
    }
    layer = FlaxLayer(Embedding(), method=shifted_embedding, seed=2)
    model = keras.Model(inputs, layer(inputs))
    x = {"ids": IDS, "x": X[:, :3]}
    assert_all_the_same(model, reload(model), x)


def shifted_embedding(module, inputs):
    return module(inputs["ids"]) + inputs["x"]


def test_a_subclassed_model_is_rebuilt_on_load(reload):
    @keras.saving.register_keras_serializable("saving_test")
    class Subclassed(keras.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.hidden = FlaxLayer(Net(3), seed=1, name="hidden")
            self.head = FlaxLayer(Net(2), seed=2, name="head")

        def call(self, inputs, training=False):
            return self.head(self.hidden(inputs), training=training)

    model = Subclassed()
    model(X, training=True)
    assert_all_the_same(model, reload(model))


def test_an_unbuilt_layer_comes_back_unbuilt(reload):
    model = keras.Sequential([FlaxLayer(Net(), seed=5)])
    with pytest.warns(UserWarning, match="not yet been built"):
        again = reload(model)
    assert not again.layers[0].built
    np.testing.assert_array_equal(again(X), model(X))


# JaxLayer.


def test_functions_come_back(reload):
    model = sequential(JaxLayer(dense, dense_init, seed=4))
    again = reload(model)
    assert_all_the_same(model, again)
    assert again.layers[0].call_fn is dense
    assert again.layers[0].params["act"] == "tanh"


def test_a_layer_with_params_only_comes_back(reload):
    w = RNG.normal(size=(4, 2)).astype(np.float32)
    layer = JaxLayer(dense, params={"w": w, "act": "cos"})
    model = sequential(layer)
    again = reload(model)
    assert_all_the_same(model, again)
    assert again.layers[0].params["act"] == "cos"
    np.testing.assert_array_equal(again.layers[0].params["w"].value, w)


def test_a_layer_with_given_params_and_state_comes_back(reload):
    params = {"w": np.ones((4, 2), np.float32)}
    layer = JaxLayer(running, params=params, state={"n": 3}, seed=1)
    model = sequential(layer)
    model(X, training=True)
    again = reload(model)
    assert_all_the_same(model, again)
    assert int(again.layers[0].state["n"].value) == 4


def test_given_variables_come_back_with_their_values(reload):
    variables = Net().init(jax.random.key(8), X)
    model = sequential(FlaxLayer(Net(), variables=variables))
    again = reload(model)
    assert_all_the_same(model, again)
    kernel = again.layers[0].params["params"]["Dense_0"]["kernel"].value
    np.testing.assert_array_equal(
        kernel, variables["params"]["Dense_0"]["kernel"]
    )


@pytest.mark.parametrize("what", ["call_fn", "init_fn"])
def test_a_lambda_is_refused_when_it_is_saved(tmp_path, what):
    functions = {"call_fn": dense, "init_fn": dense_init}
    functions[what] = {
        "call_fn": lambda params, inputs: inputs @ params["w"],
        "init_fn": lambda inputs: {"w": jnp.ones((4, 2)), "act": "cos"},
    }[what]
    model = sequential(JaxLayer(**functions, name="probe"))
    with pytest.raises(TypeError, match=f"'probe': `{what}`.*lambda"):
        model.save(str(tmp_path / "model.keras"))


def test_a_field_that_cannot_be_saved_is_named(tmp_path):
    module = Everything(
        names={"shift": {"by": 0.0}}, activation=lambda x: x, scale=1.0
    )
    model = sequential(FlaxLayer(module, name="probe"))
    with pytest.raises(TypeError, match="'probe'.*activation.*lambda"):
        model.save(str(tmp_path / "model.keras"))


# Training goes on.


@pytest.mark.parametrize("form", ["model.keras", "model.weights.h5"])
def test_training_continues_bit_for_bit(tmp_path, form):
    def make():
        model = sequential(FlaxLayer(Net(), seed=6))
        model.compile("adam", "mse")
        return model

    def train(model, epochs):
        return model.fit(
            X, Y, batch_size=4, epochs=epochs, shuffle=False, verbose=0
        ).history["loss"]

    model = make()
    train(model, 2)
    path = str(tmp_path / form)
    if form.endswith(".keras"):
        model.save(path)
        again = keras.models.load_model(path)
    else:
        model.save_weights(path)
        again = make()
        again.optimizer.build(again.trainable_variables)
        again.load_weights(path)
    assert_same(values(model), values(again))
    assert train(model, 2) == train(again, 2)
    assert_same(values(model), values(again))


def test_the_seed_goes_on_after_loading(reload):
    model = sequential(FlaxLayer(Net(), seed=6))
    first = np.array(model(X, training=True))
    again = reload(model)
    second = np.array(model(X, training=True))
    np.testing.assert_array_equal(again(X, training=True), second)
    assert not np.array_equal(first, second)
