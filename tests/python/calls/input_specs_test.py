"""What is known of inputs before there are any."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from flaxlayer.calls import input_specs


def spec(shape, dtype="float32"):
    return keras.KerasTensor(shape, dtype=dtype)


class Pair(NamedTuple):
    a: Any
    b: Any


def seen(specs):
    """Shapes and dtypes, to compare descriptions by."""
    return jax.tree_util.tree_map(lambda s: (s.shape, s.dtype), specs)


def test_arrays_are_described_by_shape_and_dtype():
    described = input_specs.of_arrays(
        {"x": np.ones((2, 3), np.float32), "ids": [jnp.ones(4, jnp.int8)]}
    )
    assert seen(described) == {
        "x": ((2, 3), "float32"),
        "ids": [((4,), "int8")],
    }


def test_64_bit_arrays_become_what_jax_makes_of_them():
    described = input_specs.of_arrays([np.ones(2), np.arange(2)])
    assert seen(described) == [((2,), "float32"), ((2,), "int32")]


def test_only_floats_take_the_dtype_of_the_layer():
    arrays = [np.ones(2, np.float32), np.ones(2, np.int32), np.ones(2, bool)]
    described = input_specs.of_arrays(arrays, floating="bfloat16")
    assert [d.dtype for d in described] == ["bfloat16", "int32", "bool"]


def test_unknown_dimensions_stay_unknown():
    described = input_specs.of_arrays(spec((None, 3)))
    assert described.shape == (None, 3)


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        ((None, 2), ((None, 2), "float16")),
        ([2, 3], ((2, 3), "float16")),
        ((), ((), "float16")),
        (
            {"a": (1, 2), "b": [(3,), (None,)]},
            {
                "a": ((1, 2), "float16"),
                "b": [((3,), "float16"), ((None,), "float16")],
            },
        ),
    ],
)
def test_structures_of_shapes_are_told_from_shapes(shapes, expected):
    assert seen(input_specs.of_shapes(shapes, "float16")) == expected


def test_shapes_take_the_dtypes_that_are_known():
    known = {"a": spec((None,), "int32"), "b": spec((None,), "bool")}
    described = input_specs.of_shapes({"a": (2,), "b": (3,)}, "float32", known)
    assert seen(described) == {"a": ((2,), "int32"), "b": ((3,), "bool")}
    other = input_specs.of_shapes((2,), "float32", known)
    assert other.dtype == "float32"


def test_same_ranks_compares_structure_rank_and_dtype():
    a = {"x": spec((None, 2)), "y": (spec((3,)),)}
    assert input_specs.same_ranks(a, {"x": spec((5, 7)), "y": [spec((None,))]})
    assert not input_specs.same_ranks(a, {"x": spec((2,)), "y": [spec((3,))]})
    assert not input_specs.same_ranks(a, {"x": spec((5, 7))})
    assert not input_specs.same_ranks(a, {"z": spec((1, 1)), "y": [spec((3,))]})
    ints = {"x": spec((1, 2), "int32"), "y": [spec((3,))]}
    assert input_specs.same_ranks(a, ints)
    assert not input_specs.same_ranks(a, ints, dtypes=True)


def test_unknown_sizes_are_taken_from_what_was_declared():
    declared = {"x": spec((8, 5, 3))}
    refined = input_specs.refined({"x": spec((None, None, 3))}, declared)
    assert refined["x"].shape == (None, 5, 3)  # Any batch will do.
    known = input_specs.refined({"x": spec((2, 7, 3), "int32")}, declared)
    assert seen(known) == {"x": ((2, 7, 3), "int32")}
    other = input_specs.refined(spec((None, None)), declared)
    assert other.shape == (None, None)


@pytest.mark.parametrize(
    "specs",
    [
        spec((None, 2), "int32"),
        {"a": spec((2,)), "b": [spec(()), spec((None, None), "bool")]},
        [],
        None,
    ],
)
def test_a_description_survives_its_config(specs):
    config = input_specs.to_config(specs, "JaxLayer 'probe'")
    back = input_specs.from_config(config, "JaxLayer 'probe'")
    assert seen(back) == seen(specs)


def test_a_tuple_of_inputs_comes_back_as_a_sequence():
    config = input_specs.to_config((spec((1,)), spec((2,))), "JaxLayer 'probe'")
    back = input_specs.from_config(config, "JaxLayer 'probe'")
    assert [s.shape for s in back] == [(1,), (2,)]


def test_a_named_tuple_is_not_saved_as_a_list():
    specs = Pair(spec((1,)), spec((2,)))
    with pytest.raises(TypeError, match="'probe': .* type Pair"):
        input_specs.to_config({"a": specs}, "JaxLayer 'probe'")


@pytest.mark.parametrize(
    "declared",
    [
        (None, 4),
        "int32",
        np.int32,
        [],
        {"a": spec((1,)), "b": 3},
        keras.InputSpec(shape=(None, 4)),
    ],
)
def test_what_describes_no_arrays_is_no_spec(declared):
    with pytest.raises(TypeError, match="'probe': `inputs_spec` must be"):
        input_specs.of_declared(declared, "JaxLayer 'probe'")


def test_a_declared_spec_is_a_description():
    assert input_specs.of_declared(None, "JaxLayer 'probe'") is None
    made = input_specs.of_declared([np.ones((2, 3))], "JaxLayer 'probe'")
    assert seen(made) == seen([spec((2, 3))])


@pytest.mark.parametrize(
    "shapes", [(), (None, 4), [2, 3], {"a": (1,), "b": [None]}, [(1,), None]]
)
def test_structures_of_shapes_are_shapes(shapes):
    input_specs.check_shapes(shapes, "JaxLayer 'probe'")


@pytest.mark.parametrize(
    ("shapes", "error"),
    [
        (None, TypeError),
        (3, TypeError),
        ("34", TypeError),
        ((1.0, 2), TypeError),
        ({"a": "b"}, TypeError),
        ((None, -1), ValueError),
    ],
)
def test_other_things_are_no_shapes(shapes, error):
    with pytest.raises(error, match="'probe': .*`input_shape`"):
        input_specs.check_shapes(shapes, "JaxLayer 'probe'")


def test_shapes_are_the_same_whatever_the_batch():
    assert input_specs.same_shapes((2, 3), [None, 3])
    assert input_specs.same_shapes({"a": (2, None)}, {"a": (4, 3)})
    assert not input_specs.same_shapes((2, 3), (2, 4))
    assert not input_specs.same_shapes((2, 3), (2, 3, 1))
    assert not input_specs.same_shapes({"a": (2, 3)}, {"b": (2, 3)})
    assert not input_specs.same_shapes([(2, 3)], (2, 3))


def test_sizes_are_the_same_where_they_are_known():
    assert input_specs.same_sizes([spec((2, None))], [spec((3, 4))])
    assert not input_specs.same_sizes([spec((2, 5))], [spec((2, 4))])


def test_a_container_that_cannot_be_saved_is_refused():
    with pytest.raises(TypeError, match="'probe': .* set cannot be saved"):
        input_specs.to_config({1, 2}, "JaxLayer 'probe'")


@pytest.mark.parametrize(
    "config",
    [
        3,
        {"shape": [-1], "dtype": "float32"},
        {"shape": ["a"], "dtype": "float32"},
        {"shape": [1], "dtype": 3},
        {"list": {"shape": [1]}},
        {"class_name": "InputSpec"},
    ],
)
def test_a_damaged_config_names_the_layer(config):
    with pytest.raises(ValueError, match="JaxLayer 'probe'.*Received"):
        input_specs.from_config(config, "JaxLayer 'probe'")


def test_outputs_keep_what_depends_on_nothing_unknown():
    def fn(inputs):
        return {"sum": inputs.sum(0), "wide": jnp.tile(inputs, (1, 2))}

    outputs = input_specs.output_specs(fn, spec((None, 3)))
    assert seen(outputs) == {
        "sum": ((3,), "float32"),
        "wide": ((None, 6), "float32"),
    }


def test_unknown_dimensions_of_two_inputs_may_be_equal():
    outputs = input_specs.output_specs(
        lambda xs: xs[0] + xs[1], [spec((None, 3)), spec((None, 3))]
    )
    assert outputs.shape == (None, 3)


def test_a_model_that_counts_its_batch_is_traced_with_sizes():
    def fn(inputs):
        rows = [inputs[i] for i in range(inputs.shape[0])]  # Needs a number.
        return jnp.stack(rows), jnp.ones((4, 4))

    outputs = input_specs.output_specs(fn, spec((None, 3)))
    assert [o.shape for o in outputs] == [(None, 3), (4, 4)]


def test_the_first_error_is_shown_when_no_size_helps():
    def fn(inputs):
        raise RuntimeError("broken model")

    with pytest.raises(RuntimeError, match="broken model"):
        input_specs.output_specs(fn, spec((None, 3)))


def test_known_shapes_are_traced_once():
    calls = []

    def fn(inputs):
        calls.append(inputs.shape)
        return inputs

    assert input_specs.output_specs(fn, spec((2, 3))).shape == (2, 3)
    assert calls == [(2, 3)]


def test_descriptions_are_readable():
    text = input_specs.described({"x": spec((None, 2)), "y": spec((), "int32")})
    assert text == "{'x': float32[None, 2], 'y': int32[]}"
