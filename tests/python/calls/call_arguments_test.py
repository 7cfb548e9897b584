"""Several inputs as one pytree, with what is static in its structure."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from flaxlayer import CallArguments
from flaxlayer.calls import input_specs
from flaxlayer.calls.call_arguments import first_input, with_first_input

X = np.ones((2, 3), np.float32)


def test_arrays_are_leaves_and_the_rest_is_structure():
    arguments = CallArguments(X, (X, X), context={"a": X}, steps=3, name="n")
    assert arguments.args[0] is X
    assert set(arguments.keywords) == {"context"}
    assert arguments.static == {"steps": 3, "name": "n"}
    leaves, structure = jax.tree_util.tree_flatten(arguments)
    assert len(leaves) == 4
    again = structure.unflatten([leaf + 1 for leaf in leaves])
    assert again.static == arguments.static
    np.testing.assert_array_equal(again.keywords["context"]["a"], X + 1)
    other = CallArguments(X, (X, X), context={"a": X}, steps=4, name="n")
    assert structure != jax.tree_util.tree_structure(other)
    # Equal numbers of two types are two values.
    each_type = [CallArguments(X, steps=steps) for steps in (1, 1.0, True)]
    structures = [jax.tree_util.tree_structure(x) for x in each_type]
    assert len(set(structures)) == 3


def test_jit_compiles_once_for_each_static_value():
    traces = []

    @jax.jit
    def call(arguments):
        traces.append(arguments.static["steps"])
        return jnp.sum(arguments.args[0]) * arguments.static["steps"]

    assert call(CallArguments(X, steps=2)) == 12
    assert call(CallArguments(X * 2, steps=2)) == 24
    assert call(CallArguments(X, steps=3)) == 18
    assert traces == [2, 3]


def test_any_name_can_be_a_keyword():
    arguments = CallArguments(X, self=X, args=1, keywords="k")
    assert arguments.all_keywords() == {"self": X, "args": 1, "keywords": "k"}


def test_one_input_is_plain():
    assert CallArguments(X).is_plain
    assert CallArguments((X, X)).is_plain
    assert not CallArguments(X, X).is_plain
    assert not CallArguments(X, steps=1).is_plain


def test_the_first_input():
    assert first_input(X) is X
    assert first_input(CallArguments(X, 2 * X)) is X
    assert first_input(CallArguments(context=X)) is None
    replaced = with_first_input(CallArguments(X, X, steps=1), 2 * X)
    np.testing.assert_array_equal(replaced.args[0], 2 * X)
    assert replaced.static == {"steps": 1}
    assert with_first_input(X, None) is None


def test_its_text_is_a_call():
    spec = input_specs.of_arrays(CallArguments(X, context=X, steps=3))
    assert input_specs.described(spec) == (
        "(float32[2, 3], context=float32[2, 3], steps=3)"
    )


def test_descriptions_go_through_json():
    spec = CallArguments(
        keras.KerasTensor((None, 3)),
        {"ids": keras.KerasTensor((None,), dtype="int32")},
        context=keras.KerasTensor((None, 4)),
        steps=3,
        mode="train",
        flag=None,
    )
    again = input_specs.from_config(
        input_specs.to_config(spec, "layer"), "layer"
    )
    assert input_specs.same_ranks(spec, again, dtypes=True)
    assert again.static == spec.static
    with pytest.raises(TypeError, match="`sizes` cannot be saved"):
        input_specs.to_config(CallArguments(sizes=(1, 2)), "layer")
