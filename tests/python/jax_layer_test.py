"""JaxLayer: the documented contract of `call_fn`, `init_fn` and the rest."""

import flax
import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from flaxlayer import JaxLayer
from tests.python.jax_models import (
    counting,
    counting_init,
    dense,
    dense_init,
    noisy,
)

X = np.linspace(-1.0, 1.0, 8, dtype=np.float32).reshape(2, 4)
W = np.arange(12.0, dtype=np.float32).reshape(4, 3) / 10


# The arguments.


def test_arguments_come_by_name_in_any_order():
    seen = {}

    def init_fn(training, inputs, rng):
        seen["init"] = (training, inputs.shape, rng.shape)
        return {"w": jnp.ones(())}, {"s": jnp.zeros(())}

    def call_fn(training, inputs, rng, state, params):
        seen["call"] = (training, rng.shape, set(state), set(params))
        return inputs * params["w"], state

    layer = JaxLayer(call_fn, init_fn)
    np.testing.assert_array_equal(layer(X, training=True), X)
    assert seen["init"] == (True, (2, 4), (2,))
    assert seen["call"] == (True, (2,), {"s"}, {"w"})


def test_inputs_alone_are_enough():
    layer = JaxLayer(lambda inputs: 2 * inputs)
    np.testing.assert_array_equal(layer(X), 2 * X)
    assert layer.weights == []


def test_init_fn_may_take_inputs_alone():
    layer = JaxLayer(dense, lambda inputs: {"dense": {"w": jnp.asarray(W)}})
    np.testing.assert_allclose(layer(X), X @ W, rtol=1e-6)


def test_init_fn_need_not_take_training_when_call_fn_does():
    layer = JaxLayer(
        lambda params, inputs, training: inputs * params,
        lambda rng, inputs: jnp.ones(()),
    )
    np.testing.assert_array_equal(layer(X), X)


def test_training_is_false_unless_said_otherwise():
    layer = JaxLayer(lambda inputs, training: inputs + float(training))
    np.testing.assert_array_equal(layer(X), X)
    np.testing.assert_array_equal(layer(X, training=False), X)
    np.testing.assert_array_equal(layer(X, training=True), X + 1)


def test_rng_is_a_new_raw_key_in_each_training_call():
    keys = JaxLayer(lambda rng, inputs: rng, seed=5)
    state = np.array(keys.seed_generator.state.value)
    first, second = keys(X, training=True), keys(X, training=True)
    assert first.dtype == np.uint32
    np.testing.assert_array_equal(first, state)
    assert not np.array_equal(first, second)


def test_rng_is_none_in_inference_for_a_model_that_lacks_training():
    layer = JaxLayer(noisy, seed=0)
    np.testing.assert_array_equal(layer(X), X)
    assert not np.array_equal(layer(X, training=True), X)


def test_rng_in_inference_is_the_next_training_key_and_uses_none_up():
    layer = JaxLayer(lambda rng, inputs, training: rng, seed=5)
    first, second = layer(X), layer(X)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(layer(X, training=True), first)
    assert not np.array_equal(layer(X), first)


def test_a_model_without_rng_has_no_seed_to_save():
    assert JaxLayer(dense, dense_init).seed_generator is None
    assert len(JaxLayer(noisy).variables) == 1


# Where the weights come from.


def test_params_are_the_weights_the_initialiser_made():
    layer = JaxLayer(dense, dense_init, seed=7)
    layer.build((None, 4))
    expected = dense_init(jax.random.PRNGKey(7), X)["dense"]["w"]
    np.testing.assert_array_equal(layer.params["dense"]["w"], expected)
    assert isinstance(layer.params["dense"]["w"], keras.Variable)
    np.testing.assert_array_equal(layer(X), X @ expected)


def test_given_params_need_no_initialiser():
    layer = JaxLayer(dense, params={"dense": {"w": W}})
    assert len(layer.trainable_weights) == 1  # Even before it is built.
    np.testing.assert_allclose(layer(X), X @ W, rtol=1e-6)


@pytest.mark.parametrize("given", ["params", "state"])
def test_init_fn_is_not_called_when_values_are_given(given):
    def init_fn(rng, inputs):
        raise AssertionError("called")

    def call_fn(params, state, inputs):
        return inputs, state

    layer = JaxLayer(call_fn, init_fn, **{given: {"a": 1.0}})
    layer(X)
    assert [w.path.split("/")[-2:] for w in layer.weights] == [[given, "a"]]


def test_a_described_parameter_starts_as_zeros():
    spec = jax.ShapeDtypeStruct((4, 3), np.float32)
    layer = JaxLayer(dense, params={"dense": {"w": spec}})
    np.testing.assert_array_equal(layer(X), np.zeros((2, 3)))


def test_an_initialiser_without_rng_draws_no_key():
    def global_draw(make):
        keras.utils.set_random_seed(4)
        make()
        return np.array(keras.random.uniform((2,)))

    def build():
        JaxLayer(lambda params, inputs: inputs, lambda inputs: {})(X)

    np.testing.assert_array_equal(global_draw(build), global_draw(dict))


def test_input_shape_builds_a_sequential_model():
    with pytest.warns(UserWarning, match="input_shape"):
        layer = JaxLayer(dense, params={"dense": {"w": W}}, input_shape=(4,))
    model = keras.Sequential([layer])
    assert model.built
    assert model.output_shape == (None, 3)


def test_several_inputs_and_keys_go_through_a_wrapper():
    def model_fn(params, rngs, input1, input2, deterministic):
        x = input1 * params + input2
        if not deterministic:
            keep = jax.random.bernoulli(rngs["dropout"], 0.5, x.shape)
            x = jnp.where(keep, x / 0.5, 0) + jax.random.normal(rngs["noise"])
        return x

    def wrapper(params, rng, inputs, training):
        # As in the documentation of Keras's layer: before asking for the mode.
        dropout, noise = jax.random.split(rng)
        rngs = {"dropout": dropout, "noise": noise}
        return model_fn(params, rngs, *inputs, not training)

    layer = JaxLayer(call_fn=wrapper, params=2.0, seed=0)
    np.testing.assert_array_equal(layer((X, X)), 3 * X)
    assert not np.array_equal(layer((X, X), training=True), 3 * X)


def test_state_comes_from_the_initialiser_and_is_not_trained():
    layer = JaxLayer(counting, counting_init, name="probe")
    layer.build((None, 4))
    assert [w.path for w in layer.trainable_weights] == ["probe/params/dense/w"]
    assert [w.path for w in layer.non_trainable_weights] == [
        "probe/state/calls"
    ]
    assert layer.state["calls"].dtype == "int32"


def test_a_training_call_keeps_the_state_it_returns():
    layer = JaxLayer(counting, counting_init)
    for _ in range(3):
        layer(X, training=True)
    layer(X)
    assert int(layer.state["calls"].value) == 3


def test_the_values_of_a_layer_make_an_equal_layer():
    layer = JaxLayer(counting, counting_init, seed=1)
    layer(X, training=True)
    as_arrays = jax.tree_util.tree_map(
        lambda v: np.array(v.value), (layer.params, layer.state)
    )
    again = JaxLayer(counting, None, *as_arrays)
    np.testing.assert_array_equal(again(X), layer(X))
    assert int(again.state["calls"].value) == 1


def test_variables_of_another_layer_are_copied():
    layer = JaxLayer(dense, dense_init)
    layer(X)
    again = JaxLayer(dense, params=layer.params)
    np.testing.assert_array_equal(again(X), layer(X))
    assert again.weights[0] is not layer.weights[0]


def test_a_layer_without_state_has_none():
    layer = JaxLayer(dense, dense_init)
    layer(X)
    assert layer.state is None
    assert layer.non_trainable_weights == []


# Structures.


def test_inputs_and_outputs_are_any_pytree():
    def call_fn(inputs):
        a, (b, c) = inputs["a"], inputs["pair"]
        return {"sum": a + b, "both": [c, (a,)]}

    outputs = JaxLayer(call_fn)({"a": X, "pair": (X, 2 * X)})
    np.testing.assert_array_equal(outputs["sum"], 2 * X)
    np.testing.assert_array_equal(outputs["both"][0], 2 * X)
    assert isinstance(outputs["both"][1], tuple)


def test_inputs_of_unknown_length_may_have_different_ones():
    def call_fn(inputs):
        a, b = inputs["a"], inputs["b"]
        return jnp.concatenate([a, b], 1), jnp.concatenate([b, a], 1)

    inputs = {name: keras.Input((None, 3), name=name) for name in "ab"}
    model = keras.Model(inputs, JaxLayer(call_fn)(inputs))
    a, b = np.ones((2, 6, 3), "float32"), np.zeros((2, 7, 3), "float32")
    first, second = model({"a": a, "b": b})
    np.testing.assert_array_equal(first, np.concatenate([a, b], 1))
    np.testing.assert_array_equal(second, np.concatenate([b, a], 1))
    assert [o.shape for o in model.outputs] == [(None, None, 3)] * 2


def test_there_may_be_many_unknown_dimensions():
    layer = JaxLayer(lambda inputs: jnp.concatenate(inputs, axis=1))
    inputs = [keras.Input((None, 3)) for _ in range(60)]
    model = keras.Model(inputs, layer(inputs))
    assert model.output_shape == (None, None, 3)
    outputs = model([np.ones((2, 1, 3), "float32")] * 60)
    assert outputs.shape == (2, 60, 3)


@jax.tree_util.register_pytree_node_class
class Point:
    def __init__(self, x, y, name):
        self.x, self.y, self.name = x, y, name

    def tree_flatten(self):
        return (self.x, self.y), self.name

    @classmethod
    def tree_unflatten(cls, name, children):
        return cls(*children, name)


def test_registered_nodes_are_structure():
    def call_fn(params, state, inputs):
        (point,) = state
        assert point.name == "origin"
        return inputs + point.x, [Point(point.x + 1, point.y, point.name)]

    layer = JaxLayer(call_fn, state=[Point(1.0, 2.0, "origin")])
    np.testing.assert_array_equal(layer(X), X + 1)
    np.testing.assert_array_equal(layer(X), X + 2)
    assert isinstance(layer.state[0].y, keras.Variable)
    assert len(layer.non_trainable_weights) == 2


def test_frozen_dicts_are_structure():
    def call_fn(params, state, inputs):
        assert isinstance(params, flax.core.FrozenDict)
        return inputs * params["w"], {"n": state["n"] + 1}

    layer = JaxLayer(
        call_fn,
        params=flax.core.freeze({"w": 3.0}),
        state=flax.core.freeze({"n": 0}),
    )
    np.testing.assert_array_equal(layer(X), 3 * X)
    assert int(layer.state["n"].value) == 1


def test_none_and_static_leaves_are_left_alone():
    marker = object()

    def call_fn(params, state, inputs):
        assert state["none"] is None
        assert state["text"] == "relu"
        assert state["marker"] is marker
        return inputs * params["w"], state

    layer = JaxLayer(
        call_fn,
        params={"w": 2.0, "nothing": None},
        state={"none": None, "text": "relu", "marker": marker},
    )
    assert layer.state["none"] is None
    assert layer.state["text"] == "relu"
    np.testing.assert_array_equal(layer(X), 2 * X)
    assert len(layer.weights) == 1


def test_static_leaves_may_come_from_the_initialiser():
    layer = JaxLayer(
        lambda params, inputs: getattr(jnp, params["act"])(inputs),
        lambda inputs: {"act": "cos", "w": jnp.ones(1)},
    )
    np.testing.assert_allclose(layer(X), np.cos(X), rtol=1e-6)
    assert len(layer.weights) == 1


def test_integer_parameters_are_state_and_gradients_ignore_them():
    params = {"ids": np.array([0, 2]), "w": np.ones(2, np.float32)}
    layer = JaxLayer(
        lambda params, inputs: inputs[:, params["ids"]] * params["w"],
        params=params,
    )
    assert [w.name for w in layer.trainable_weights] == ["w"]
    assert [w.name for w in layer.non_trainable_weights] == ["ids"]
    model = keras.Sequential([layer])
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
    model.train_on_batch(X, np.zeros((2, 2)))
    np.testing.assert_array_equal(layer.params["ids"], [0, 2])
    assert not np.array_equal(layer.params["w"], np.ones(2))


@pytest.mark.parametrize(
    ("state", "path"),
    [
        ([0.0], "state/0"),
        ({"counts": {"a": 0.0}}, "state/counts/a"),
        ({"counts": [[0.0]]}, "state/counts/0/0"),
        (None, "state/counts/0"),
        ({"counts": {}}, "state/counts/0"),
        ({"counts": {"a": [2.0]}}, "state/counts/a/0"),
        ({"counts": [np.ones(2)]}, "state/counts/0"),
        ({"counts": [1.0, 1.0]}, "state/counts/1"),
    ],
    ids=[
        "sequence for mapping",
        "mapping for sequence",
        "sequence for leaf",
        "no state",
        "missing leaf",
        "leaf below another",
        "other shape",
        "one leaf less",
    ],
)
def test_a_returned_state_of_another_structure_is_named(state, path):
    def call_fn(params, state, inputs):
        return inputs, {"counts": [jnp.ones(())]}

    layer = JaxLayer(call_fn, params={}, state=state, name="probe")
    before = [np.array(w.value) for w in layer.weights]
    with pytest.raises(ValueError, match=f"`{path}`") as error:
        layer(X)
    assert "JaxLayer 'probe'" in str(error.value)
    for weight, value in zip(layer.weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)


@pytest.mark.parametrize("returned", [X, [X, {}], (X,), (X, {}, {})])
def test_a_model_with_state_has_to_return_a_pair(returned):
    layer = JaxLayer(
        lambda params, state, inputs: returned, params={}, state={}
    )
    with pytest.raises(ValueError, match=r"tuple `\(outputs, state\)`"):
        layer(X)


def test_an_initialiser_of_state_has_to_return_a_pair():
    layer = JaxLayer(counting, dense_init, name="probe")
    with pytest.raises(ValueError, match=r"'probe'.*tuple `\(params, state\)`"):
        layer(X)
