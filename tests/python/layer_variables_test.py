"""The weights as Flax or the model's functions take them, and back."""

import re

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from flaxlayer import FlaxLayer, JaxLayer, load_variables, save_variables

X = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)


class Net(nn.Module):
    @nn.compact
    def __call__(self, inputs, training=False):
        x = nn.BatchNorm(use_running_average=not training)(inputs)
        return nn.Dense(2)(x)


class Partitioned(nn.Module):
    @nn.compact
    def __call__(self, inputs):
        init = nn.with_partitioning(nn.initializers.ones, (None, "model"))
        return nn.Dense(2, kernel_init=init)(inputs)


def built(module=None, **kwargs):
    layer = FlaxLayer(module or Net(), **kwargs)
    layer.build((None, 3))
    return layer


def values(layer):
    return [np.array(v.value) for v in layer.weights]


def test_flax_applies_what_the_layer_returns():
    layer = built(seed=0)
    variables = layer.get_layer_variables()
    assert list(variables) == ["params", "batch_stats"]
    np.testing.assert_array_equal(Net().apply(variables, X), layer(X))


def test_the_arrays_are_those_of_the_weights():
    layer = built(seed=0)
    leaves = jax.tree.leaves(layer.get_layer_variables())
    assert {id(x) for x in leaves} == {id(v.value) for v in layer.weights}


def test_frozen_dicts_come_back_as_dicts():
    variables = flax.core.freeze(Net().init(jax.random.key(0), X))
    layer = FlaxLayer(Net(), variables=variables)
    layer.build((None, 3))
    assert type(layer.get_layer_variables()["params"]["Dense_0"]) is dict


@pytest.mark.parametrize("freeze", [dict, flax.core.freeze])
def test_what_flax_made_is_set_without_copies(freeze):
    layer = built(seed=0)
    variables = Net().init(jax.random.key(5), X)
    layer.set_layer_variables(freeze(variables))
    kernel = layer.get_layer_variables()["params"]["Dense_0"]["kernel"]
    assert kernel is variables["params"]["Dense_0"]["kernel"]
    np.testing.assert_array_equal(Net().apply(variables, X), layer(X))


def test_arrays_taken_before_training_are_gone_and_copies_are_not():
    layer = built(seed=0)
    model = keras.Sequential([keras.Input((3,)), layer])
    model.compile("sgd", "mse")
    taken = layer.get_layer_variables()
    copies = jax.tree.map(jnp.copy, taken)
    before = values(layer)
    model.fit(X, X[:, :2], epochs=1, verbose=0)
    assert any(x.is_deleted() for x in jax.tree.leaves(taken))
    layer.set_layer_variables(copies)
    for a, b in zip(before, values(layer), strict=True):
        np.testing.assert_array_equal(a, b)


def test_metadata_boxes_are_taken_off():
    layer = built(Partitioned())
    variables = Partitioned().init(jax.random.key(0), X)
    assert isinstance(
        variables["params"]["Dense_0"]["kernel"], nn.meta.AxisMetadata
    )
    layer.set_layer_variables(variables)
    kernel = layer.get_layer_variables()["params"]["Dense_0"]["kernel"]
    np.testing.assert_array_equal(kernel, np.ones((3, 2)))


def test_weights_are_cast_to_the_dtype_of_the_layer():
    layer = built(dtype="bfloat16")
    variables = Net().init(jax.random.key(0), X)
    layer.set_layer_variables(variables)
    params = layer.get_layer_variables()["params"]
    assert params["Dense_0"]["kernel"].dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (lambda v: v["params"].pop("Dense_0"), "missing: `params/Dense_0/bias"),
        (lambda v: v.update(more={"x": X}), "unexpected: `more/x`"),
        (
            lambda v: v["params"]["Dense_0"].update(kernel=np.ones((2, 2))),
            r"kernel`: expected shape \(3, 2\), received \(2, 2\)",
        ),
        (
            lambda v: v["params"]["Dense_0"].update(bias=np.full(2, 1j)),
            "bias`: expected values that float32 can hold",
        ),
        (
            lambda v: v["params"]["Dense_0"].update(bias="text"),
            "bias`: expected an array, received 'text'",
        ),
        (lambda v: v.update(note="text"), "note`: expected an array"),
    ],
)
def test_what_does_not_fit_is_refused_whole(edit, problem):
    layer = built(seed=0, name="probe")
    before = values(layer)
    variables = jax.tree.map(np.array, Net().init(jax.random.key(5), X))
    edit(variables)
    with pytest.raises(ValueError, match="'probe'.*nothing was as") as error:
        layer.set_layer_variables(variables)
    with pytest.raises(ValueError, match=problem):
        raise error.value
    for a, b in zip(before, values(layer), strict=True):
        np.testing.assert_array_equal(a, b)


def test_something_else_than_a_dict_is_refused():
    with pytest.raises(ValueError, match="of collections, received"):
        built().set_layer_variables([X])


def test_a_layer_that_was_never_built_says_so():
    layer = FlaxLayer(Net(), name="probe")
    with pytest.raises(ValueError, match="'probe' has no weights to return"):
        layer.get_layer_variables()
    with pytest.raises(ValueError, match="'probe' has no weights to set"):
        layer.set_layer_variables({})


def counting(params, state, rng, inputs):
    return inputs @ params[0], {**state, "calls": state["calls"] + 1}


def jax_layer(**kwargs):
    return JaxLayer(
        counting,
        params=[np.ones((3, 2), np.float32)],
        state={"calls": np.int32(0), "key": jax.random.key(3), "note": "ours"},
        **kwargs,
    )


def test_a_jax_layer_has_parameters_and_state_with_typed_keys():
    layer = jax_layer()
    variables = layer.get_layer_variables()
    assert list(variables) == ["params", "state"]
    assert isinstance(variables["params"], list)
    assert variables["state"]["key"] == jax.random.key(3)
    assert variables["state"]["note"] == "ours"


def test_what_a_jax_layer_returned_is_set_on_another():
    layer, other = jax_layer(), jax_layer()
    layer(X)
    state = layer.get_layer_variables()["state"]
    variables = layer.get_layer_variables()
    variables["state"] = {**state, "key": jax.random.key(9)}
    other.set_layer_variables(variables)
    assert int(other.get_layer_variables()["state"]["calls"]) == 1
    assert other.get_layer_variables()["state"]["key"] == jax.random.key(9)


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({"weights": []}, r"the keys \['params', 'state'\], received \['weig"),
        ([], "received list"),
        ({"params": [X[:3, :2]]}, "missing: `state/calls`, `state/key`"),
        (
            {
                "params": [X[:3, :2]],
                "state": {
                    "calls": 1,
                    "key": jax.random.key(0, impl="rbg"),
                    "note": "",
                },
            },
            "state/key`: expected a key of threefry2x32, received one of rbg",
        ),
    ],
)
def test_a_jax_layer_refuses_other_parts(variables, problem):
    with pytest.raises(ValueError, match="nothing was assigned") as error:
        jax_layer().set_layer_variables(variables)
    with pytest.raises(ValueError, match=problem):
        raise error.value


def test_setting_weights_as_a_list_changes_all_or_none():
    layer = built(seed=0)
    before = values(layer)
    with pytest.raises(ValueError, match="nothing was assigned"):
        layer.set_weights([*before[:-1], np.ones(7)])
    layer.set_weights([x + 1 for x in before])
    for a, b in zip(before, values(layer), strict=True):
        np.testing.assert_array_equal(a + 1, b)


def halved(params=None):
    """A layer whose kernel is stored in half precision."""
    variables = None if params is None else {"params": params}
    return FlaxLayer(
        nn.Dense(2), variables=variables, dtype="float16", name="probe"
    )


def file_of(params, path):
    other = FlaxLayer(nn.Dense(2), variables={"params": params}, name="probe")
    other.build((None, 3))
    if path.suffix == ".h5":
        keras.Sequential([keras.Input((3,)), other]).save_weights(path)
    else:
        save_variables(other, path)
    return path


def by_constructor(layer, params, path):
    halved(params)


def by_constructor_of_functions(layer, params, path):
    JaxLayer(
        lambda params, state, inputs: (inputs, state),
        params={},
        state={"kernel": np.asarray(params["kernel"], np.float64) * 1e40},
        name="probe",
    )


def by_set_weights(layer, params, path):
    layer.set_weights([params[v.name] for v in layer.weights])


def by_set_layer_variables(layer, params, path):
    layer.set_layer_variables({"params": params})


def by_file_of_variables(layer, params, path):
    load_variables(layer, file_of(params, path / "variables.msgpack"))


def by_weights_file(layer, params, path):
    model = keras.Sequential([keras.Input((3,)), layer])
    model.load_weights(file_of(params, path / "model.weights.h5"))


@pytest.mark.parametrize(
    "way",
    [
        *(by_constructor, by_constructor_of_functions, by_set_weights),
        *(by_set_layer_variables, by_file_of_variables, by_weights_file),
    ],
)
@pytest.mark.parametrize("make", [np.array, jnp.array])
def test_no_way_in_makes_a_number_infinite(way, make, tmp_path):
    kernel = np.ones((3, 2), np.float32)
    kernel[1, 1] = 1e5  # The largest of float16 is 65504.
    layer = halved()
    layer.build((None, 3))
    before = values(layer)
    params = {"bias": make(np.zeros(2, np.float32)), "kernel": make(kernel)}
    problem = "`(.*/)?kernel`: expected values that float(16|32) can hold"
    with pytest.raises(ValueError, match="'probe'") as error:
        way(layer, params, tmp_path)
    assert re.search(problem, str(error.value)), error.value
    for value, expected in zip(values(layer), before, strict=True):
        np.testing.assert_array_equal(value, expected)


def test_numbers_that_are_infinite_already_may_stay_so():
    kernel = np.full((3, 2), np.inf, np.float32)
    kernel[0, 0] = np.nan
    layer = halved({"bias": np.zeros(2, np.float32), "kernel": kernel})
    layer.build((None, 3))
    np.testing.assert_array_equal(layer.params["params"]["kernel"], kernel)
    layer.set_weights([np.zeros(2), kernel])
    np.testing.assert_array_equal(layer.params["params"]["kernel"], kernel)


@pytest.mark.parametrize("way", [by_constructor, by_set_weights])
def test_arrays_that_are_deleted_are_named(way, tmp_path):
    layer = halved()
    layer.build((None, 3))
    params = {"bias": jnp.zeros(2), "kernel": jnp.ones((3, 2))}
    params["kernel"].delete()
    with pytest.raises(ValueError, match="'probe'.*kernel`: .*is deleted"):
        way(layer, params, tmp_path)
    with pytest.raises(ValueError, match="'probe'.*kernel`: .*is deleted"):
        by_set_layer_variables(layer, params, tmp_path)


def test_platforms_are_kept_for_another_backend(tmp_path):
    layer = FlaxLayer(
        nn.Dense(2), native_serialization_platforms=("cpu", "tpu")
    )
    assert "native_serialization_platforms" not in (
        FlaxLayer(nn.Dense(2)).get_config()
    )
    again = FlaxLayer.from_config(layer.get_config())
    assert again.native_serialization_platforms == ("cpu", "tpu")
    for wrong, kind in (("cpu", TypeError), (("gpu",), ValueError)):
        with pytest.raises(kind, match="`native_serialization_platforms`"):
            FlaxLayer(nn.Dense(2), native_serialization_platforms=wrong)
