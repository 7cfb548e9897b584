"""Many variables at once: compared, cast and placed before one changes."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from flaxlayer.paths import StructureMismatch
from flaxlayer.weights import assignment

A, B = ("params", "a"), ("params", "b")


def variables(dtype="float32"):
    return {
        A: keras.Variable(np.zeros(3), dtype=dtype),
        B: keras.Variable(np.zeros(()), dtype=dtype),
    }


def assign(targets, a, b=1):
    received = [assignment.leaf_of(A, a), assignment.leaf_of(B, b)]
    assignment.assign(targets, received)


def refused(targets, problem, a, b=1):
    before = [v.value for v in targets.values()]
    with pytest.raises(StructureMismatch, match=problem):
        assign(targets, a, b)
    assert all(
        v.value is x for v, x in zip(targets.values(), before, strict=True)
    )


def test_values_of_the_same_dtype_are_not_copied():
    targets = variables()
    value = jnp.arange(3.0)
    assign(targets, value)
    assert targets[A].value is value


def test_arrays_of_the_caller_are_not_shared():
    targets = variables()
    value = np.arange(3, dtype=np.float32)
    assign(targets, value)
    value[:] = 9
    np.testing.assert_array_equal(targets[A], [0, 1, 2])


@pytest.mark.parametrize("make", [np.asarray, jnp.asarray])
@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("bfloat16", np.float32([0.1, -2, 3])),
        ("float32", jnp.array([0.1, np.inf, np.nan], jnp.bfloat16)),
        ("float32", np.int32([1, -2, 3])),
        ("int32", np.float32([1, -2, 3])),
        ("uint32", np.int32([1, 2, 3])),
        ("bool", np.int32([1, 0, 1])),
        ("complex64", np.int32([1, -2, 3])),
    ],
)
def test_values_are_cast_where_nothing_is_lost_but_precision(
    make, dtype, value
):
    targets = variables(dtype)
    assign(targets, make(value))
    assert targets[A].dtype == dtype
    np.testing.assert_array_equal(
        np.array(targets[A].value), np.asarray(value).astype(dtype)
    )


def test_complex_numbers_that_are_real_are_cast():
    targets = variables()
    assign(targets, np.complex64([1, -2, 3]))
    np.testing.assert_array_equal(targets[A], [1, -2, 3])


@pytest.mark.parametrize("make", [np.asarray, jnp.asarray])
@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("float16", np.float32([1, 1e30, 3])),
        ("int32", np.float32([1, 2.5, 3])),
        ("int32", np.float32([1, np.nan, 3])),
        ("int32", np.uint32([1, 2**32 - 1, 3])),
        ("uint32", np.int32([1, -1, 3])),
        ("uint8", np.int32([1, 256, 3])),
        ("float32", np.int32([1, 2**24 + 1, 3])),
        ("float32", np.complex64([1, 2j, 3])),
        ("bool", np.int32([1, 2, 0])),
    ],
)
def test_a_cast_that_loses_more_is_refused(make, dtype, value):
    refused(variables(dtype), f"params/a`: .*{dtype} can hold", make(value))


@pytest.mark.parametrize(
    ("a", "problem"),
    [
        (np.ones(4), r"`params/a`: expected shape \(3,\), received \(4,\)"),
        ("text", "`params/a`: expected an array, received 'text' .of type str"),
        (np.array(["x"] * 3), "`params/a`: expected an array"),
        (np.array([None] * 3), "`params/a`: expected an array"),
    ],
)
def test_what_does_not_fit_is_named(a, problem):
    refused(variables(), problem, a)


def test_missing_and_unexpected_paths_are_named():
    targets = variables()
    received = [assignment.leaf_of(path, np.ones(3)) for path in [A, ("c",)]]
    with pytest.raises(StructureMismatch, match="params/b`; unexpected: `c`"):
        assignment.assign(targets, received)
    np.testing.assert_array_equal(targets[A], np.zeros(3))


def test_a_path_that_is_there_twice_is_named():
    leaf = assignment.leaf_of(A, np.ones(3))
    with pytest.raises(StructureMismatch, match="a`: expected once, received"):
        assignment.assign({A: variables()[A]}, [leaf, leaf])


def test_nothing_is_assigned_if_a_value_cannot_be_placed(monkeypatch):
    targets = variables()
    device = jax.devices()[0]
    for variable in targets.values():
        variable.assign(jax.device_put(variable.value, device))
    put = jax.device_put
    calls = []

    def out_of_memory(value, sharding):
        calls.append(value)
        if len(calls) == 2:
            raise MemoryError
        return put(value, sharding)

    monkeypatch.setattr(jax, "device_put", out_of_memory)
    with pytest.raises(MemoryError):
        assign(targets, np.ones(3))
    np.testing.assert_array_equal(targets[A], np.zeros(3))


def test_a_weight_that_is_committed_stays_so_and_others_do_not():
    targets = variables()
    device = jax.devices()[0]
    targets[A].assign(jax.device_put(targets[A].value, device))
    assign(targets, np.ones(3))
    assert targets[A].value.committed
    assert not targets[B].value.committed
