"""Every misuse is refused with the layer, the place, and what was expected."""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from jax.experimental import sparse

from flaxlayer import FlaxLayer, JaxLayer

X = np.linspace(-1.0, 1.0, 8, dtype=np.float32).reshape(2, 4)


class Net(nn.Module):
    @nn.compact
    def __call__(self, inputs, training=False):
        x = nn.BatchNorm(use_running_average=not training)(inputs)
        return nn.Dense(3)(x)


class Noise(nn.Module):
    @nn.compact
    def __call__(self, inputs, training=False):
        if training:
            inputs += jax.random.normal(self.make_rng("noise"), inputs.shape)
        return inputs


class Embedding(nn.Module):
    @nn.compact
    def __call__(self, inputs):
        return nn.Embed(10, 3)(inputs).mean(1)


class Complex(nn.Module):
    @nn.compact
    def __call__(self, inputs):
        if not jnp.iscomplexobj(inputs):
            raise TypeError("needs complex numbers")
        return nn.Dense(3)(abs(inputs))


def values(layer):
    return [np.array(v.value) for v in layer.variables]


def assert_unchanged(layer, before):
    for variable, value in zip(layer.variables, before, strict=True):
        np.testing.assert_array_equal(variable.value, value)


@pytest.fixture(scope="module")
def variables():
    return Net().init(jax.random.key(0), X)


# Signatures.


@pytest.mark.parametrize(
    ("call_fn", "init_fn", "problem"),
    [
        (lambda params, rng: 0, None, "missing.*`call_fn`: `inputs`"),
        (lambda params, inputs, mode: 0, None, "`call_fn`: `mode`"),
        (lambda params, inputs: 0, lambda rng: {}, "missing.*`init_fn`: `inp"),
        (
            lambda params, inputs: 0,
            lambda rng, inputs, state: {},
            "`init_fn`: `state`",
        ),
    ],
)
def test_a_wrong_signature_is_refused_when_the_layer_is_made(
    call_fn, init_fn, problem
):
    with pytest.raises(ValueError, match=f"JaxLayer '?probe'?: .*{problem}"):
        JaxLayer(call_fn, init_fn, params={}, name="probe")


@pytest.mark.parametrize("argument", ["call_fn", "init_fn"])
def test_a_function_has_to_be_callable(argument):
    arguments = {"call_fn": lambda inputs: inputs, argument: 3}
    with pytest.raises(TypeError, match=f"`{argument}` must be a function"):
        JaxLayer(**arguments)


@pytest.mark.parametrize(
    "call_fn",
    [lambda params, inputs: 0, lambda state, inputs: 0],
    ids=["params", "state"],
)
def test_weights_have_to_come_from_somewhere(call_fn):
    with pytest.raises(ValueError, match="probe.*`init_fn`, `params` and"):
        JaxLayer(call_fn, name="probe")


def test_a_method_needs_inputs():
    class Bare(nn.Module):
        def __call__(self):
            return 0

    with pytest.raises(ValueError, match="FlaxLayer 'probe': .*`inputs`"):
        FlaxLayer(Bare(), name="probe")


def test_an_argument_that_is_missing_in_a_call_is_named():
    def method(module, inputs, context):
        return module(inputs) + context

    layer = FlaxLayer(Net(), method=method, name="probe")
    with pytest.raises(TypeError, match="'probe'.*'context'") as error:
        layer(X)
    assert "(inputs, context, *, training=False)" in str(error.value)
    layer(X, context=np.float32(1))


@pytest.mark.parametrize(("argument", "given"), [("mode", 1), ("inputs", X)])
def test_an_argument_that_the_method_does_not_take_is_named(argument, given):
    layer = FlaxLayer(Net(), name="probe")
    with pytest.raises(TypeError, match=f"'probe'.*'{argument}'") as error:
        layer(X, **{argument: given})
    assert "(inputs, *, training=False)" in str(error.value)
    assert not layer.built


def test_the_modules_word_for_the_mode_is_not_that_of_the_layer():
    layer = FlaxLayer(nn.Dropout(0.5), name="probe")
    with pytest.raises(TypeError, match="'probe'.*`training=`") as error:
        layer(X, deterministic=True)
    assert "`deterministic`" in str(error.value)


def test_a_static_argument_has_to_be_hashable():
    def method(module, inputs, axes):
        return module(inputs).sum(axes)

    layer = FlaxLayer(Net(), method=method, name="probe")
    with pytest.raises(TypeError, match="'probe'.*`axes`.*tuple"):
        layer(X, axes=[0, 1])
    assert layer(X, axes=(0, 1)).shape == ()


@pytest.mark.parametrize(
    ("training_argument", "error"), [("mode", ValueError), (True, TypeError)]
)
def test_the_argument_of_the_mode_has_to_be_there(training_argument, error):
    with pytest.raises(error, match="'probe': `training_argument`"):
        FlaxLayer(Net(), training_argument=training_argument, name="probe")


def test_a_named_method_has_to_be_there():
    with pytest.raises(ValueError, match="probe.*`method`.*Net.*'forward'"):
        FlaxLayer(Net(), method="forward", name="probe")


@pytest.mark.parametrize("method", [3, ("__call__",)])
def test_a_method_has_to_be_a_function_or_a_name(method):
    with pytest.raises(TypeError, match="`method` must be"):
        FlaxLayer(Net(), method=method)


# Modules.


@pytest.mark.parametrize(
    ("module", "hint"),
    [
        (Net, "Net(...)`, not the class"),
        (nn, "of type module"),
        (None, "of type NoneType"),
        (lambda inputs: inputs, "of type function"),
        (keras.layers.Dense, "Pass an instance"),
    ],
    ids=["class", "python module", "none", "function", "keras layer"],
)
def test_what_is_no_module_is_refused(module, hint):
    with pytest.raises(
        TypeError, match="`module` must be a Flax module"
    ) as error:
        FlaxLayer(module, name="probe")
    assert hint in str(error.value)
    assert "FlaxLayer 'probe'" in str(error.value)


# Variables.


@pytest.mark.parametrize(
    ("given", "received"),
    [
        ([1.0], "list"),
        (3, "int"),
        ({"params": np.ones(2)}, "{'params': 'ndarray'}"),
        ({1: {}}, "{1: 'dict'}"),
    ],
)
def test_variables_have_to_be_collections(given, received):
    with pytest.raises(
        TypeError, match="'probe': `variables` must be"
    ) as error:
        FlaxLayer(Net(), variables=given, name="probe")
    assert received in str(error.value)


def changed(variables, collection, module, name, value):
    """A copy of `variables` with one leaf replaced, or removed for `None`."""
    copy = jax.tree_util.tree_map(np.array, variables)
    copy[collection][module].pop(name)
    if value is not None:
        copy[collection][module][name] = value
    return copy


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (("params", "Dense_0", "kernel", np.ones((4, 5))), r"\(4, 3\).*\(4, 5"),
        (("params", "Dense_0", "kernel", None), "missing: `params/Dense_0/ker"),
        (("batch_stats", "BatchNorm_0", "var", np.ones(3)), r"\(4,\).*\(3,\)"),
    ],
)
def test_variables_that_do_not_fit_are_named(variables, change, path):
    given = changed(variables, *change)
    layer = FlaxLayer(Net(), variables=given, name="probe")
    with pytest.raises(ValueError, match=path) as error:
        layer.build((None, 4))
    assert "FlaxLayer 'probe'" in str(error.value)
    assert f"`{'/'.join(change[:3])}`" in str(error.value)


def test_an_unknown_parameter_is_named(variables):
    given = changed(variables, "params", "Dense_0", "kernel", None)
    given["params"]["Dense_1"] = {"kernel": np.ones((4, 3), np.float32)}
    layer = FlaxLayer(Net(), variables=given)
    with pytest.raises(ValueError, match="unexpected: `params/Dense_1/kernel`"):
        layer(X)


def test_a_collection_below_the_right_name_is_compared(variables):
    # As it happens when the result of `init` is wrapped once more.
    layer = FlaxLayer(Net(), variables={"params": dict(variables)})
    with pytest.raises(ValueError, match="`params/params/Dense_0/kernel`"):
        layer(X)


# Inputs.


def test_inputs_of_another_size_do_not_fit_the_weights():
    layer = FlaxLayer(nn.Dense(3), name="probe")
    layer(X)
    with pytest.raises(ValueError, match="'probe'.*do not fit") as error:
        layer(np.ones((2, 5), np.float32))
    assert "(4, 3)" in str(error.value)
    assert "(5, 3)" in str(error.value)


def test_inputs_of_another_rank_name_both():
    layer = JaxLayer(
        lambda params, inputs: inputs @ params["w"],
        lambda rng, inputs: {"w": jnp.ones((inputs.shape[-1], 2))},
        name="probe",
    )
    layer(X)
    with pytest.raises(ValueError, match="'probe' was built for") as error:
        layer(np.float32(3))
    assert "float32[2, 4]" in str(error.value)
    assert "float32[]" in str(error.value)


def test_inputs_of_another_dtype_name_both():
    layer = FlaxLayer(Embedding(), name="probe")
    layer(np.zeros((2, 5), np.int32))
    with pytest.raises(ValueError, match="'probe' was built for") as error:
        layer(np.zeros((2, 5), np.float32))
    assert "int32[2, 5]" in str(error.value)
    assert "float32[2, 5]" in str(error.value)


def test_inputs_of_another_structure_name_both():
    layer = JaxLayer(
        lambda params, inputs: inputs["a"] * params,
        lambda inputs: jnp.ones(()),
        name="probe",
    )
    layer({"a": X})
    with pytest.raises(ValueError, match="'probe' was built for.*'a'"):
        layer({"b": X})


def test_a_shape_alone_is_taken_for_floats_and_said_so():
    # One that takes neither these nor integers.
    layer = FlaxLayer(Complex(), name="probe")
    with pytest.raises(ValueError, match="'probe'.*shape alone") as error:
        layer.build((None, 5))
    assert "inputs_spec=" in str(error.value)
    assert not layer.built


def test_inputs_that_do_not_match_their_spec_are_refused():
    spec = jax.ShapeDtypeStruct((2, 5), np.int32)
    layer = FlaxLayer(Embedding(), inputs_spec=spec, name="probe")
    with pytest.raises(ValueError, match="'probe'.*`inputs_spec`") as error:
        layer(np.zeros((2, 5, 1), np.int32))
    assert "int32[2, 5]" in str(error.value)
    assert "int32[2, 5, 1]" in str(error.value)


def test_a_weight_that_needs_an_unknown_dimension_is_named():
    layer = JaxLayer(
        lambda params, inputs: inputs + params["table"],
        lambda inputs: {"table": jnp.ones(inputs.shape[1:])},
        name="probe",
    )
    with pytest.raises(ValueError, match="'probe'.*`params/table`") as error:
        layer(keras.Input((None, 3)))
    assert "inputs_spec=" in str(error.value)


# Random streams.


def test_a_missing_stream_is_named_with_its_argument():
    layer = FlaxLayer(Noise(), name="probe")
    with pytest.raises(ValueError, match="'probe'.*`rngs=`") as error:
        layer(X, training=True)
    assert "noise" in str(error.value)
    assert "'dropout': 'training'" in str(error.value)


def test_a_stream_missing_at_inference_is_named():
    class Always(nn.Module):
        def __call__(self, inputs):
            return jax.random.normal(self.make_rng("noise"), inputs.shape)

    layer = FlaxLayer(Always(), rngs=("noise",))
    with pytest.raises(ValueError, match="'always'|\"always\""):
        layer(X)


@pytest.mark.parametrize(
    ("rngs", "error"),
    [
        ("noise", TypeError),
        (3, TypeError),
        ((1,), TypeError),
        (("a", "a"), ValueError),
        ({"a": "sometimes"}, ValueError),
    ],
)
def test_bad_streams_are_refused(rngs, error):
    with pytest.raises(error, match="probe.*`rngs"):
        FlaxLayer(Net(), rngs=rngs, name="probe")


@pytest.mark.parametrize(
    ("seed", "error"),
    [
        (-1, ValueError),
        (2**32, ValueError),
        (1.5, TypeError),
        ("7", TypeError),
        (np.zeros(3, np.uint32), TypeError),
        (jax.random.key(0, impl="rbg"), TypeError),
    ],
)
@pytest.mark.parametrize("cls", [FlaxLayer, JaxLayer])
def test_a_bad_seed_is_refused(cls, seed, error):
    model = Net() if cls is FlaxLayer else (lambda inputs: inputs)
    with pytest.raises(error, match=f"{cls.__name__} '?probe'?: `seed`"):
        cls(model, seed=seed, name="probe")


@pytest.mark.parametrize("kernels", ["fast", None, 1])
def test_an_unknown_kernels_policy_is_refused(kernels):
    with pytest.raises(
        (ValueError, TypeError), match="native.*reference|reference.*native"
    ):
        JaxLayer(lambda inputs: inputs, kernels=kernels)


# The state a model returns.


def test_returned_state_of_another_structure_names_the_path():
    layer = JaxLayer(
        lambda params, state, inputs: (inputs, {"b": state["a"]}),
        params={},
        state={"a": 0.0},
        name="probe",
    )
    with pytest.raises(ValueError, match="'probe'.*`state/a`.*`state/b`"):
        layer(X)
    assert float(layer.state["a"].value) == 0.0


def test_a_collection_that_appears_in_a_call_is_named():
    class Growing(nn.Module):
        @nn.compact
        def __call__(self, inputs, training=False):
            if not self.is_initializing() and training:
                self.variable("cache", "last", lambda: inputs)
            return nn.Dense(2)(inputs)

    layer = FlaxLayer(Growing(), name="probe")
    layer(X)
    with pytest.raises(ValueError, match="'probe'.*`collections=`") as error:
        layer(X, training=True)
    assert '"cache"' in str(error.value)
    assert "['params']" in str(error.value)  # What is stored.
    declared = FlaxLayer(Growing(), collections={"cache": "output"})
    outputs, written = declared(X, training=True)
    assert outputs.shape == (2, 2)
    np.testing.assert_array_equal(written["cache"]["last"], X)


# Weights that are set.


def test_set_weights_of_wrong_shapes_changes_nothing(variables):
    layer = FlaxLayer(Net(), variables=variables, name="probe")
    before = values(layer)
    good = [np.zeros(w.shape, np.float32) for w in layer.weights]
    for bad in (good[:-1], [*good[:-1], np.zeros(7)], [np.zeros(2), *good]):
        with pytest.raises(ValueError, match="'probe': `set_weights`"):
            layer.set_weights(bad)
        assert_unchanged(layer, before)
    layer.set_weights(good)
    assert not np.any(layer.params["params"]["Dense_0"]["kernel"].value)


# Configurations that are not ours.


@pytest.mark.parametrize(
    "change",
    [
        {"module": None},
        {"module": {"type": "unknown"}},
        {"method": "_private"},
        {"seed": "7"},
        {"inputs_spec": 3},
    ],
)
def test_a_damaged_config_is_refused_with_the_layers_name(change):
    config = FlaxLayer(Net(), name="probe").get_config()
    json.dumps(config)  # What is written is JSON.
    with pytest.raises(ValueError, match="'probe'"):
        FlaxLayer.from_config({**config, **change})


def test_an_error_of_the_model_is_shown_as_it_is():
    def call_fn(inputs):
        raise ZeroDivisionError("of the model")

    with pytest.raises(ZeroDivisionError, match="of the model"):
        JaxLayer(call_fn)(X)


def test_a_choice_by_value_is_explained_and_names_the_layer():
    def call_fn(inputs):
        return inputs if inputs.sum() > 0 else -inputs

    with pytest.raises(TypeError, match="JaxLayer 'probe'.*[Tt]race"):
        JaxLayer(call_fn, name="probe")(X)


class Flattened(nn.Module):
    """Its weights depend on the size of what it flattens."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(x.reshape(x.shape[0], -1))


def test_a_model_that_looks_at_an_unknown_size_is_found_out():
    layer = FlaxLayer(Flattened(), name="probe")
    with pytest.raises(ValueError, match=r"'probe'.*`params/Dense_0/kernel`"):
        layer.build((2, None, 4))
    with pytest.raises(ValueError, match="not known"):
        FlaxLayer(Flattened())(keras.Input((None, 4)))
    # It is not the batch that matters.
    layer = FlaxLayer(Flattened())
    layer.build((None, 5, 4))
    assert layer.params["params"]["Dense_0"]["kernel"].shape == (20, 3)


# What is no misuse, though it looks like one.


def test_a_layer_may_be_built_again_for_the_same_inputs(variables):
    layer = FlaxLayer(Net(), seed=0)
    layer(X)
    before = values(layer)
    for shape in ((2, 4), (None, 4), [7, 4]):
        layer.build(shape)
        assert_unchanged(layer, before)


def test_a_model_may_be_called_on_inputs_of_any_size():
    layer = JaxLayer(
        lambda params, inputs: inputs * params["a"], params={"a": 2.0}
    )
    layer(X)
    assert layer(X[:, :3]).shape == (2, 3)


@pytest.mark.parametrize("training", [True, np.True_, jnp.array(True), 1, None])
def test_the_mode_may_be_any_boolean(variables, training):
    layer = FlaxLayer(Net(), variables=variables)
    mean = layer.state["batch_stats"]["BatchNorm_0"]["mean"]
    layer(X, training=training)
    assert np.any(mean.value) == bool(training)


def test_a_method_may_be_bound_to_an_equal_module():
    assert FlaxLayer(Net(), method=Net().__call__)(X).shape == (2, 3)


def test_patterns_may_overlap_where_each_decides_of_something():
    layer = FlaxLayer(
        Net(),
        partition={"params/Dense_0": "frozen", "params": "trainable"},
        regularizers={".*/kernel": "l1", "params/.*": "l2"},
    )
    layer(X)
    dense, norm = (
        layer.params["params"][n] for n in ("Dense_0", "BatchNorm_0")
    )
    assert not dense["kernel"].trainable
    assert norm["scale"].trainable
    assert isinstance(dense["kernel"].regularizer, keras.regularizers.L1)
    assert isinstance(dense["bias"].regularizer, keras.regularizers.L2)


def test_an_error_of_the_constructor_is_not_hidden_in_a_config():
    config = FlaxLayer(Net(), name="probe").get_config()
    with pytest.raises(ValueError, match="^FlaxLayer 'probe': `partition"):
        FlaxLayer.from_config({**config, "partition": {"params": 1}})


# What layers are made with.


def product(params, inputs):
    return inputs @ params["w"]


def ones(inputs):
    return {"w": np.ones((inputs.shape[-1], 3), "float32")}


@pytest.mark.parametrize("built", [False, True])
@pytest.mark.parametrize(
    ("make", "name", "value"),
    [
        (lambda: FlaxLayer(Net(), name="probe"), "module", nn.Dense(7)),
        (lambda: FlaxLayer(Net(), name="probe"), "method", "other"),
        (lambda: FlaxLayer(Net(), name="probe"), "training_argument", None),
        (lambda: JaxLayer(product, ones, name="probe"), "call_fn", len),
        (lambda: JaxLayer(product, ones, name="probe"), "init_fn", len),
        (lambda: JaxLayer(product, ones, name="probe"), "rng_impl", "rbg"),
    ],
)
def test_what_a_layer_was_made_with_cannot_be_set(make, name, value, built):
    layer = make()
    if built:
        layer(X)
    before, was = values(layer), getattr(layer, name)
    with pytest.raises(AttributeError, match=f"'probe'.*`{name}`.*another"):
        setattr(layer, name, value)
    assert getattr(layer, name) == was
    assert layer(X).shape == (2, 3)
    if built:
        assert_unchanged(layer, before)


def test_errors_show_no_arguments_that_were_not_given():
    layer = FlaxLayer(Net(), name="probe")
    layer(X)
    with pytest.raises(ValueError, match="'probe'") as error:
        layer(X[:, :3])
    assert "Arguments received by FlaxLayer.call()" in str(error.value)
    assert "inspect._empty" not in str(error.value)
    assert "training=False" in str(error.value)


class Odd(Exception):
    def __init__(self, first, second):
        super().__init__(first, second)


@pytest.mark.parametrize(
    "error", [KeyError("key"), Odd(1, 2), FloatingPointError("nan")]
)
def test_an_error_of_another_kind_stays_what_it_is(error):
    def call_fn(inputs):
        raise error

    layer = FlaxLayer(Net(), method=lambda m, inputs: call_fn(inputs))
    with pytest.raises(type(error)) as raised:
        layer(X)
    assert raised.value is error


def test_an_error_of_a_model_that_is_being_built_names_the_layer():
    def method(module, inputs):
        return inputs.no_such_attribute

    inputs = keras.Input((4,))
    for use in (
        lambda layer: layer(X),
        lambda layer: layer.compute_output_spec(inputs),
    ):
        layer = FlaxLayer(Net(), method=method, name="probe")
        with pytest.raises(AttributeError, match="'probe'.*no_such") as error:
            use(layer)
        assert "module=Net()" in str(error.value)
        assert str(error.value).count("'probe'") == 1


def test_sparse_arrays_reach_models_that_take_them():
    dense = np.eye(4, dtype=np.float32)
    layer = JaxLayer(
        lambda params, inputs: inputs @ params["w"],
        params={"w": np.full((4, 2), 3, np.float32)},
    )
    outputs = layer(sparse.BCOO.fromdense(dense))
    np.testing.assert_array_equal(outputs, np.full((4, 2), 3))


def test_an_empty_input_beside_others_is_passed_on():
    def method(module, extra, inputs):
        return module(inputs) if extra == {} else None

    layer = FlaxLayer(Net(), method=method)
    assert layer({}, X).shape == (2, 3)


@pytest.mark.parametrize(
    "result", [None, 1, 2.5, True, 1j, np.float32(1), X, {"a": (X, None)}]
)
def test_a_model_may_return_numbers_and_arrays(result):
    outputs = JaxLayer(lambda inputs: result)(X)
    for got, want in zip(
        jax.tree.leaves(outputs), jax.tree.leaves(result), strict=True
    ):
        np.testing.assert_array_equal(got, want)
