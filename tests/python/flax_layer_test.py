"""FlaxLayer: the documented contract of `module`, `method` and `variables`."""

from typing import Any, get_type_hints

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from flax.linen import partitioning

from flaxlayer import FlaxLayer

X = np.linspace(-1.0, 1.0, 8, dtype=np.float32).reshape(2, 4)


class Dense(nn.Module):
    features: int = 3

    @nn.compact
    def __call__(self, inputs):
        return nn.Dense(self.features)(inputs)


class Net(nn.Module):
    """Batch statistics, dropout, and two ways to be called."""

    def setup(self):
        self.norm = nn.BatchNorm(momentum=0.5)
        self.drop = nn.Dropout(0.5)
        self.dense = nn.Dense(3)

    def __call__(self, inputs, training=False):
        x = self.norm(inputs, use_running_average=not training)
        return self.dense(self.drop(x, deterministic=not training))

    def forward(self, first, second, deterministic):
        return self(first + second, training=not deterministic)

    def scaled(self, inputs, training):
        return 2 * self(inputs, training)


class Counter(nn.Module):
    @nn.compact
    def __call__(self, inputs):
        calls = self.variable("counts", "calls", jnp.zeros, (), jnp.int32)
        calls.value = calls.value + 1
        return inputs


class Noise(nn.Module):
    @nn.compact
    def __call__(self, inputs, training=False):
        noise = jax.random.normal(self.make_rng("noise"), inputs.shape)
        return inputs + noise


class Partitioned(nn.Module):
    @nn.compact
    def __call__(self, inputs):
        init = nn.with_partitioning(nn.initializers.ones, (None, "model"))
        return nn.Dense(3, kernel_init=init)(inputs)


def values(tree):
    return jax.tree_util.tree_map(lambda v: np.array(v.value), tree)


def assert_trees_equal(a, b):
    assert jax.tree_util.tree_structure(a) == jax.tree_util.tree_structure(b)
    jax.tree_util.tree_map(np.testing.assert_array_equal, a, b)


@pytest.fixture(scope="module")
def variables():
    return Net().init(jax.random.key(0), X, training=False)


# The method.


def test_the_module_is_called_with_the_inputs():
    layer = FlaxLayer(Dense(), seed=7)
    expected = Dense().init_with_output(jax.random.key(7), X)[0]
    np.testing.assert_array_equal(layer(X), expected)


def test_a_convolution_flattens_an_unknown_batch():
    class Convolution(nn.Module):
        @nn.compact
        def __call__(self, inputs):
            x = nn.relu(nn.Conv(features=2, kernel_size=(3, 3))(inputs))
            x = nn.avg_pool(x, window_shape=(2, 2), strides=(2, 2))
            x = x.reshape((x.shape[0], -1))
            return nn.softmax(nn.Dense(features=5)(x))

    layer = FlaxLayer(Convolution())
    inputs = keras.Input((6, 6, 1))
    model = keras.Model(inputs, layer(inputs))
    assert model.output_shape == (None, 5)
    kernels = [w.shape for w in model.weights if w.name == "kernel"]
    assert kernels == [(3, 3, 1, 2), (18, 5)]
    outputs = model(np.ones((3, 6, 6, 1), np.float32))
    np.testing.assert_allclose(outputs.sum(-1), np.ones(3), rtol=1e-5)


def test_training_is_passed_to_a_method_that_takes_it(variables):
    layer = FlaxLayer(Net(), variables=variables)
    inference = Net().apply(variables, X, training=False)
    np.testing.assert_allclose(layer(X), inference, rtol=1e-6)
    assert not np.allclose(layer(X, training=True), inference)


def test_a_bound_method_is_called(variables):
    module = Net()
    layer = FlaxLayer(module, method=module.scaled, variables=variables)
    expected = 2 * module.apply(variables, X, training=False)
    np.testing.assert_allclose(layer(X), expected, rtol=1e-6)


def test_a_method_of_the_class_is_called(variables):
    layer = FlaxLayer(Net(), method=Net.scaled, variables=variables)
    expected = 2 * Net().apply(variables, X, training=False)
    np.testing.assert_allclose(layer(X), expected, rtol=1e-6)


def test_a_method_may_be_named(variables):
    layer = FlaxLayer(Net(), "scaled", variables)
    expected = 2 * Net().apply(variables, X, training=False)
    np.testing.assert_allclose(layer(X), expected, rtol=1e-6)


def test_a_function_of_the_module_takes_several_inputs(variables):
    def wrapper(module, inputs, training):
        first, second = inputs
        return module.forward(first, second, not training)

    layer = FlaxLayer(module=Net(), method=wrapper, seed=0)
    outputs = layer((X, X))
    assert set(layer.params["params"]) == {"dense", "norm"}
    expected = Net().apply(
        values({**layer.params, **layer.state}), 2 * X, training=False
    )
    np.testing.assert_allclose(outputs, expected, rtol=1e-6)
    with_dropout = np.array(layer((X, X), training=True))
    assert not np.allclose(with_dropout, outputs)


def test_inputs_may_be_a_dict():
    def wrapper(module, inputs):
        return module(inputs["x"] - inputs["y"])

    layer = FlaxLayer(Dense(), method=wrapper)
    np.testing.assert_array_equal(
        layer({"x": X, "y": X}), np.zeros((2, 3), np.float32)
    )


# The variables.


def test_params_are_trainable_and_all_else_is_not(variables):
    layer = FlaxLayer(Net(), variables=variables, name="probe")
    assert [w.path for w in layer.trainable_weights] == [
        "probe/params/dense/bias",
        "probe/params/dense/kernel",
        "probe/params/norm/bias",
        "probe/params/norm/scale",
    ]
    assert [w.path for w in layer.non_trainable_weights] == [
        "probe/batch_stats/norm/mean",
        "probe/batch_stats/norm/var",
    ]
    assert set(layer.params) == {"params"}
    assert set(layer.state) == {"batch_stats"}


def test_variables_are_initialised_as_by_the_module():
    layer = FlaxLayer(Net(), seed=7)
    layer.build((None, 4))
    expected = Net().init(jax.random.key(7), X)
    assert_trees_equal(values({**layer.params, **layer.state}), dict(expected))


def test_a_submodule_for_training_only_has_weights():
    class Auxiliary(nn.Module):
        @nn.compact
        def __call__(self, inputs, training=False):
            x = nn.Dense(3, name="main")(inputs)
            return x + nn.Dense(3, name="aux")(inputs) if training else x

    layer = FlaxLayer(Auxiliary(), seed=0)
    layer(X)
    assert set(layer.params["params"]) == {"main", "aux"}
    expected = Auxiliary().init(jax.random.key(0), X, training=True)
    jax.tree.map(
        np.testing.assert_array_equal,
        jax.tree.map(lambda v: np.asarray(v.value), layer.params["params"]),
        expected["params"],
    )
    layer(X, training=True)


def test_variables_of_a_layer_make_an_equal_layer():
    layer = FlaxLayer(Net(), seed=1)
    layer(X, training=True)
    given = values({**layer.params, **layer.state})
    again = FlaxLayer(Net(), variables=given)
    np.testing.assert_array_equal(again(X), layer(X))


def test_variables_may_be_frozen(variables):
    layer = FlaxLayer(Net(), variables=flax.core.freeze(variables))
    expected = Net().apply(variables, X, training=False)
    np.testing.assert_allclose(layer(X), expected, rtol=1e-6)


def test_variables_are_copied(variables):
    given = jax.tree_util.tree_map(np.array, variables)
    layer = FlaxLayer(Net(), variables=given)
    before = np.array(layer(X))
    given["params"]["dense"]["kernel"][:] = 0
    np.testing.assert_array_equal(layer(X), before)


def test_missing_collections_are_initialised(variables):
    layer = FlaxLayer(Net(), variables={"params": variables["params"]})
    layer.build((None, 4))
    assert_trees_equal(values(layer.params)["params"], variables["params"])
    assert_trees_equal(
        dict(values(layer.state)), {"batch_stats": variables["batch_stats"]}
    )
    layer(X, training=True)


def test_state_without_params_is_enough():
    layer = FlaxLayer(Counter(), variables={"counts": {"calls": 3}})
    layer(X)
    assert int(layer.state["counts"]["calls"].value) == 4
    assert layer.trainable_weights == []


def test_the_state_and_what_is_declared_is_mutable():
    seen = []
    names = ("params", "counts", "losses", "intermediates", "cache", "other")

    class Probe(nn.Module):
        @nn.compact
        def __call__(self, inputs):
            self.variable("counts", "calls", jnp.zeros, ())
            seen.append({n for n in names if self.is_mutable_collection(n)})
            return nn.Dense(1)(inputs)

    layer = FlaxLayer(Probe(), collections={"cache": "drop"})
    layer.build((None, 4))
    seen.clear()
    layer(X)
    layer(X, training=True)
    assert seen
    assert all(mutable == {"counts", "losses", "cache"} for mutable in seen)


def test_a_call_keeps_the_state():
    layer = FlaxLayer(Counter())
    layer.build((None, 4))
    made = int(layer.state["counts"]["calls"].value)
    for _ in range(3):
        layer(X)
    assert int(layer.state["counts"]["calls"].value) == made + 3
    assert layer.state["counts"]["calls"].dtype == "int32"


def test_training_updates_batch_statistics_as_the_module_does(variables):
    layer = FlaxLayer(Net(), variables=variables)
    layer(X, training=True)
    _, expected = Net().apply(
        variables,
        X,
        training=True,
        mutable=["batch_stats"],
        rngs={"dropout": jax.random.key(0)},
    )
    np.testing.assert_allclose(
        layer.state["batch_stats"]["norm"]["mean"].value,
        expected["batch_stats"]["norm"]["mean"],
        rtol=1e-5,
    )


def test_inference_changes_nothing(variables):
    layer = FlaxLayer(Net(), variables=variables)
    before = [np.array(v.value) for v in layer.variables]
    layer(X)
    for variable, value in zip(layer.variables, before, strict=True):
        np.testing.assert_array_equal(variable.value, value)


def test_a_module_without_variables_works():
    class Halve(nn.Module):
        def __call__(self, inputs):
            return inputs / 2

    layer = FlaxLayer(Halve())
    np.testing.assert_array_equal(layer(X), X / 2)
    assert layer.weights == []


# Flax's metadata.


def test_axes_beside_the_weights_are_read():
    """T5X keeps them in a collection, `params_axes`."""

    class Mlp(nn.Module):
        @nn.compact
        def __call__(self, x):
            kernel = partitioning.param_with_axes(
                "kernel", nn.initializers.ones, (4, 2), axes=("embed", "mlp")
            )
            count = partitioning.variable_with_axes(
                "counts", "seen", jnp.zeros, (2,), axes=("mlp",)
            )
            return x @ kernel + count.value

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            return Mlp(name="mlp")(x)

    layer = FlaxLayer(Net())
    layer(X)
    assert layer.axis_names == {
        "params/mlp/kernel": ("embed", "mlp"),
        "counts/mlp/seen": ("mlp",),
    }
    assert [v.path.partition("/")[2] for v in layer.weights] == [
        "params/mlp/kernel",
        "counts/mlp/seen",
    ]


def test_partitioned_parameters_are_unboxed_and_keep_their_axes():
    layer = FlaxLayer(Partitioned())
    assert layer.axis_names == {}
    np.testing.assert_allclose(
        layer(X), np.tile(X.sum(1, keepdims=True), 3), atol=1e-6
    )
    assert layer.axis_names == {"params/Dense_0/kernel": (None, "model")}
    kernel = layer.params["params"]["Dense_0"]["kernel"]
    assert isinstance(kernel, keras.Variable)
    assert len(layer.trainable_weights) == 2


def test_partitioned_parameters_may_be_given():
    given = Partitioned().init(jax.random.key(0), X)
    layer = FlaxLayer(Partitioned(), variables=given)
    assert layer.axis_names == {"params/Dense_0/kernel": (None, "model")}
    np.testing.assert_allclose(
        layer(X), Partitioned().apply(given, X), rtol=1e-6
    )


def test_partitioned_state_is_unboxed_in_calls_as_well():
    class Boxed(nn.Module):
        @nn.compact
        def __call__(self, inputs):
            total = self.variable(
                "sums",
                "total",
                nn.with_partitioning(lambda: jnp.zeros(4), ("features",)),
            )
            total.value = total.value + inputs.sum(0)
            return total.value

    layer = FlaxLayer(Boxed())
    layer.build((None, 4))
    before = np.array(layer.state["sums"]["total"].value)
    np.testing.assert_allclose(layer(X), before + X.sum(0), atol=1e-6)
    np.testing.assert_allclose(
        layer.state["sums"]["total"].value, before + X.sum(0), atol=1e-6
    )
    assert layer.axis_names == {"sums/total": ("features",)}


# Sizes that Keras does not know.


class Positions(nn.Module):
    @nn.compact
    def __call__(self, inputs):
        table = self.param("table", nn.initializers.ones, inputs.shape[1:])
        return inputs + table


def test_inputs_spec_tells_the_sizes_weights_need():
    spec = jax.ShapeDtypeStruct((1, 5, 3), np.float32)
    layer = FlaxLayer(Positions(), inputs_spec=spec)
    inputs = keras.Input((None, 3))
    model = keras.Model(inputs, layer(inputs))
    assert layer.params["params"]["table"].shape == (5, 3)
    x = np.zeros((2, 5, 3), np.float32)
    np.testing.assert_array_equal(model(x), np.ones((2, 5, 3)))


def test_data_tells_the_sizes_weights_need():
    layer = FlaxLayer(Positions())
    layer(np.zeros((2, 5, 3), np.float32))
    assert layer.params["params"]["table"].shape == (5, 3)


# Modules inside modules.


def test_scanned_and_remat_modules_work():
    class Stack(nn.Module):
        @nn.compact
        def __call__(self, inputs):
            block = nn.remat(lambda m, x: (nn.tanh(nn.Dense(4)(x)), None))

            class Block(nn.Module):
                @nn.compact
                def __call__(self, x, _):
                    return block(self, x)

            scan = nn.scan(
                Block,
                variable_axes={"params": 0},
                split_rngs={"params": True},
                length=3,
            )
            return scan()(inputs, None)[0]

    layer = FlaxLayer(Stack(), seed=0)
    assert layer(X).shape == (2, 4)
    (kernel,) = (w for w in layer.weights if w.name == "kernel")
    assert kernel.shape == (3, 4, 4)
    assert not np.allclose(kernel.value[0], kernel.value[1])


def test_fields_of_any_type_configure_the_module():
    class Configured(nn.Module):
        sizes: tuple[int, ...] = (2,)
        options: Any = None

        @nn.compact
        def __call__(self, inputs):
            for size in self.sizes:
                inputs = nn.Dense(size)(inputs)
            return self.options["act"](inputs)

    module = Configured(sizes=(5, 2), options={"act": jnp.cos})
    layer = FlaxLayer(module)
    assert layer(X).shape == (2, 2)
    assert layer.params["params"]["Dense_0"]["kernel"].shape == (4, 5)


# Eager calls.


def test_the_module_is_traced_once_for_many_eager_calls():
    traces = []

    class Probe(nn.Module):
        @nn.compact
        def __call__(self, inputs, training=False):
            traces.append(training)
            return nn.Dense(2)(inputs)

    layer = FlaxLayer(Probe())
    layer.build((None, 4))
    traces.clear()
    for _ in range(10):
        layer(X)
    assert len([t for t in traces if t is False]) <= 2  # Shapes, and the call.
    traces.clear()
    for _ in range(10):
        layer(X)
    assert traces == []
    layer(X, training=True)
    traces.clear()
    layer(X, training=True)
    assert traces == []


def test_its_type_hints_can_be_read():
    assert get_type_hints(FlaxLayer.__init__)["module"]
    assert get_type_hints(FlaxLayer.merged)["return"]
