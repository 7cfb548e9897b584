"""Weights in a file: by path, all or nothing, and the peer's numbers."""

import keras
import numpy as np
import pytest

from flaxlayer.weights import weight_files

PATHS = (("params", "Dense_0", "kernel"), ("params", "Dense_0", "bias"))


@pytest.fixture
def variables():
    return (
        keras.Variable(np.arange(6.0, dtype=np.float32).reshape(2, 3)),
        keras.Variable(np.full(3, 7.0, np.float32)),
    )


def load(store, variables, paths=PATHS):
    weight_files.load(paths, variables, store, layer="FlaxLayer 'probe'")


def stored(variables):
    store = {}
    weight_files.save(PATHS, variables, store)
    return {key: np.array(v.value) for key, v in store.items()}


def test_weights_are_stored_under_their_paths(variables):
    assert list(stored(variables)) == [
        "params.Dense_0.kernel",
        "params.Dense_0.bias",
    ]


def test_text_is_no_weight(variables):
    before = stored(variables)
    store = {**before, "params.Dense_0.bias": np.full(3, "x")}
    with pytest.raises(
        ValueError, match="`params/Dense_0/bias`: expected an array"
    ):
        load(store, variables)
    for key, value in stored(variables).items():
        np.testing.assert_array_equal(value, before[key])


def test_steps_with_separators_stay_apart():
    paths = [("a.b",), ("a", "b"), ("a/b",), ("a%2Eb",)]
    keys = [weight_files.store_key(path) for path in paths]
    assert len(set(keys)) == len(keys)
    assert all("/" not in key for key in keys)
    assert [weight_files.path_of_key(key) for key in keys] == paths


def test_what_was_saved_is_loaded_whatever_its_order(variables):
    store = stored(variables)
    backwards = dict(reversed(store.items()))
    expected = [np.array(v.value) for v in variables]
    for variable in variables:
        variable.assign(np.zeros_like(variable))
    load(backwards, variables)
    for variable, value in zip(variables, expected, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_running_numbers_are_read_in_order(variables):
    load({"0": np.ones((2, 3)), "1": np.zeros(3)}, variables)
    np.testing.assert_array_equal(variables[0], np.ones((2, 3)))
    np.testing.assert_array_equal(variables[1], np.zeros(3))


@pytest.mark.parametrize(
    ("store", "problem"),
    [
        (
            {"params.Dense_0.kernel": np.ones((2, 3))},
            "missing: `params/Dense_0/bias`",
        ),
        (
            {
                "params.Dense_1.kernel": np.ones((2, 3)),
                "params.Dense_1.bias": np.ones(3),
            },
            "unexpected: `params/Dense_1/kernel`",
        ),
        (
            {
                "params.Dense_0.kernel": np.ones((2, 3)),
                "params.Dense_0.bias": np.ones(4),
            },
            r"`params/Dense_0/bias`: expected shape \(3,\), received \(4,\)",
        ),
        ({"0": np.ones((2, 3))}, "numbers 1 weights.*this layer has 2"),
        (
            {"0": np.ones(3), "1": np.ones((2, 3))},
            r"`params/Dense_0/kernel`: expected shape \(2, 3\)",
        ),
        ({}, "missing"),
    ],
)
def test_another_layers_file_is_refused_and_nothing_assigned(
    variables, store, problem
):
    before = [np.array(v.value) for v in variables]
    with pytest.raises(ValueError, match=problem) as error:
        load(store, variables)
    assert "FlaxLayer 'probe'" in str(error.value)
    for variable, value in zip(variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_weights_whose_paths_are_numbers_are_no_running_numbers():
    # A list of parameters [b, a]: the file is by path, not by position.
    variables = [keras.Variable(np.float32(0)) for _ in range(2)]
    load({"1": np.float32(1), "0": np.float32(10)}, variables, [("1",), ("0",)])
    assert [float(v.value) for v in variables] == [1.0, 10.0]
