"""The two views of a layer's weights: a pytree and named variables."""

from typing import NamedTuple

import flax
import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from flaxlayer.weights import variable_tree


class Linear(NamedTuple):
    w: object
    b: object


@jax.tree_util.register_pytree_with_keys_class
class Scaled:
    """A pytree node of the user's own, with something static beside it."""

    def __init__(self, factor, unit):
        self.factor, self.unit = factor, unit

    def tree_flatten_with_keys(self):
        key = jax.tree_util.GetAttrKey("factor")
        return [(key, self.factor)], self.unit

    @classmethod
    def tree_unflatten(cls, unit, children):
        return cls(children[0], unit)


def make(tree, prefix=("params",), trainable=True, dtype="float32", **kwargs):
    leaves, treedef = variable_tree.describe_leaves(tree, prefix)
    return variable_tree.create(
        leaves,
        treedef,
        trainable=trainable,
        variable_dtype=dtype,
        prefix=prefix,
        **kwargs,
    )


def paths(tree):
    leaves, _ = variable_tree.describe_leaves(tree)
    return [variable_tree.joined(leaf.path) for leaf in leaves]


def test_paths_read_like_the_code_that_reaches_the_leaf():
    tree = {
        "layers": [Linear(1.0, 2.0), (3.0,)],
        "scale": Scaled(4.0, "m"),
    }
    assert paths(tree) == [
        "layers/0/w",
        "layers/0/b",
        "layers/1/0",
        "scale/factor",
    ]


def test_a_slash_in_a_key_is_a_step_of_its_own():
    assert paths({"net/~/linear_1": {"w": 1.0}}) == ["net/~/linear_1/w"]


def test_a_single_leaf_is_at_the_root():
    assert paths(1.0) == ["(root)"]


@pytest.mark.parametrize(
    "given",
    [
        jnp.ones(3),
        jnp.ones(3, jnp.bfloat16),
        jnp.arange(3),
        jax.random.key(3),
        jax.random.split(jax.random.key(3)),
    ],
    ids=["float32", "bfloat16", "int32", "key", "keys"],
)
def test_given_arrays_outlive_a_donation_of_the_variables(given):
    (variable,) = make({"a": given}).variables
    jax.jit(lambda x: x + 1, donate_argnums=0)(variable.value)
    assert variable.value.is_deleted()
    assert not given.is_deleted()
    assert str(given)  # A key is not deleted, but what it is made of.


def test_variables_are_named_by_their_path():
    with keras.name_scope("layer"):
        tree = make({"Dense_0": {"kernel": np.ones((2, 3), np.float32)}})
    (variable,) = tree.variables
    assert variable.path == "layer/params/Dense_0/kernel"
    assert variable.name == "kernel"
    assert tree.paths == (("params", "Dense_0", "kernel"),)
    assert tree.by_path() == {("params", "Dense_0", "kernel"): variable}


def test_variables_start_from_the_values_of_the_tree():
    values = {"a": np.arange(3.0, dtype=np.float32), "b": jnp.ones((2, 2))}
    tree = make(values)
    np.testing.assert_array_equal(tree.variables[0], values["a"])
    np.testing.assert_array_equal(tree.variables[1], values["b"])


def test_a_leaf_known_by_shape_starts_as_zeros():
    tree = make({"a": jax.ShapeDtypeStruct((2,), np.float32)})
    np.testing.assert_array_equal(tree.variables[0], np.zeros(2))


@pytest.mark.parametrize(
    ("number", "dtype"),
    [(1.5, "float32"), (2, "int32"), (True, "bool"), (np.int8(3), "int8")],
)
def test_numbers_are_arrays(number, dtype):
    (variable,) = make([number], trainable=False).variables
    assert variable.dtype == dtype
    assert variable.shape == ()
    assert np.asarray(variable) == number


def test_a_keras_variable_is_taken_by_value():
    old = keras.Variable(np.full((2,), 7.0, np.float32))
    (new,) = make({"a": old}).variables
    assert new is not old
    np.testing.assert_array_equal(new, [7.0, 7.0])


def test_leaves_that_are_no_arrays_have_no_variable_and_stay():
    marker = object()
    values = {"act": "relu", "none": None, "w": 1.0, "marker": marker}
    tree = make(values)
    assert len(tree.variables) == 1
    as_variables = tree.as_variables()
    assert as_variables["act"] == "relu"
    assert as_variables["none"] is None
    assert as_variables["marker"] is marker
    assert as_variables["w"] is tree.variables[0]
    unflattened = tree.unflatten([5.0])
    assert unflattened == {**values, "w": 5.0}


def test_text_in_numpy_is_no_array():
    tree = make({"vocabulary": np.array(["a", "b"]), "w": 1.0})
    assert [path[-1] for path in tree.paths] == ["w"]


def test_containers_come_back_as_they_were():
    values = {
        "linear": Linear(1.0, 2.0),
        "frozen": flax.core.freeze({"a": 3.0}),
        "own": Scaled(4.0, "m"),
        "pair": (5.0, [6.0]),
    }
    tree = make(values)
    back = tree.unflatten(tree.values())
    assert isinstance(back["linear"], Linear)
    assert isinstance(back["frozen"], flax.core.FrozenDict)
    assert isinstance(back["own"], Scaled)
    assert back["own"].unit == "m"
    assert float(back["own"].factor) == 4.0
    assert isinstance(back["pair"], tuple)
    assert isinstance(back["pair"][1], list)


def test_trainable_floats_follow_the_policy_and_are_autocast():
    tree = make({"w": np.ones(2, np.float32)}, dtype="float16")
    (variable,) = tree.variables
    assert variable.dtype == "float16"
    assert variable.trainable
    specs = tree.specs("bfloat16")
    assert specs[0].dtype == jnp.bfloat16
    assert tree.specs(None)[0].dtype == jnp.float16


def test_state_keeps_the_dtype_it_came_with():
    state = {
        "mean": np.ones(2, np.float32),
        "count": np.zeros((), np.int32),
        "half": jnp.ones((), jnp.bfloat16),
    }
    tree = make(state, trainable=False, dtype="float16")
    dtypes = dict(zip([p[-1] for p in tree.paths], tree.variables, strict=True))
    assert dtypes["mean"].dtype == "float32"
    assert dtypes["count"].dtype == "int32"
    assert dtypes["half"].dtype == "bfloat16"
    assert not any(variable.trainable for variable in tree.variables)
    by_name = dict(
        zip(
            [p[-1] for p in tree.paths],
            tree.specs("bfloat16"),
            strict=True,
        )
    )
    assert by_name["mean"].dtype == jnp.float32


def test_integers_among_the_parameters_are_not_trained():
    tree = make({"table": np.arange(3, dtype=np.int32), "w": 1.0})
    by_name = {path[-1]: v for path, v in tree.by_path().items()}
    assert by_name["table"].dtype == "int32"
    assert not by_name["table"].trainable
    assert by_name["w"].trainable


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_a_typed_key_is_stored_as_data_and_comes_back_as_key(impl):
    key = jax.random.key(3, impl=impl)
    tree = make({"key": key}, trainable=False)
    (variable,) = tree.variables
    assert variable.dtype == "uint32"
    back = tree.unflatten(tree.values())["key"]
    assert back.dtype == key.dtype
    assert bool(jnp.all(jax.random.key_data(back) == jax.random.key_data(key)))
    (data,) = tree.flatten({"key": jax.random.split(key)[0]})
    assert data.dtype == np.uint32
    assert data.shape == variable.shape


def test_existing_variables_are_kept():
    old = make({"a": 1.0}).variables[0]
    tree = make({"a": 2.0, "b": 3.0}, existing={("params", "a"): old})
    assert tree.variables[0] is old
    assert float(old.value) == 1.0
    assert float(tree.variables[1].value) == 3.0


def test_an_initializer_is_asked_by_path():
    asked = []

    def initializer(path):
        asked.append(path)
        return lambda shape, dtype=None: jnp.full(shape, len(asked), dtype)

    spec = jax.ShapeDtypeStruct((2,), np.float32)
    tree = make({"a": spec, "b": spec}, initializer=initializer)
    assert asked == [("params", "a"), ("params", "b")]
    np.testing.assert_array_equal(tree.variables[1], [2.0, 2.0])


def test_specs_of_the_tree_have_storage_dtypes():
    tree = make({"w": np.ones((2, 3), np.float32), "n": "x"}, dtype="bfloat16")
    specs = tree.as_specs()
    assert specs["w"] == jax.ShapeDtypeStruct((2, 3), jnp.bfloat16)
    assert specs["n"] == "x"


STATE = {"a": {"mean": np.zeros(2, np.float32)}, "steps": [np.int32(0)]}


@pytest.fixture(scope="module")
def state():
    return make(STATE, prefix=("state",), trainable=False)


def test_flatten_leaves_dtypes_as_they_are(state):
    mean, steps = state.flatten(
        {"a": {"mean": jnp.ones(2, jnp.bfloat16)}, "steps": [1]}
    )
    assert (mean.dtype, steps.dtype) == (jnp.bfloat16, np.int32)
    assert int(steps) == 1


def test_flatten_takes_a_frozen_dict_for_a_dict(state):
    frozen = flax.core.freeze({"a": {"mean": jnp.ones(2)}, "steps": [1]})
    assert len(state.flatten(frozen)) == 2


@pytest.mark.parametrize(
    ("returned", "problem"),
    [
        ({"a": {"mean": np.ones(2)}}, "missing: `state/steps/0`"),
        (
            {"a": {"mean": np.ones(2)}, "steps": [1], "b": 0.0},
            "unexpected: `state/b`",
        ),
        (
            {"a": {"mean": np.ones((2, 1))}, "steps": [1]},
            r"`state/a/mean`: expected shape \(2,\), received \(2, 1\)",
        ),
        ({"a": {"mean": np.ones(2)}, "steps": {"0": 1}}, "containers"),
        (None, "missing: `state/a/mean`, `state/steps/0`"),
    ],
)
def test_flatten_names_every_difference(state, returned, problem):
    with pytest.raises(variable_tree.StructureMismatch, match=problem):
        state.flatten(returned)


def test_a_long_list_of_differences_is_cut():
    expected, _ = variable_tree.describe_leaves(
        {str(i): 0.0 for i in range(20)}
    )
    (problem,) = variable_tree.mismatches(expected=expected, received=[])
    assert problem.endswith("and 12 more")
