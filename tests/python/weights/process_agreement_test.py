"""Processes that compare what they build; here they are threads."""

import concurrent.futures
import threading

import flax.linen as nn
import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from flaxlayer import FlaxLayer, JaxLayer, jax_compat
from flaxlayer.weights import process_agreement, variable_tree


class Service:
    """What the client of JAX's service does, in one process."""

    def __init__(self):
        self.messages = {}
        self.changed = threading.Condition()

    def key_value_set(self, key, value):
        with self.changed:
            assert key not in self.messages
            self.messages[key] = value
            self.changed.notify_all()

    def blocking_key_value_get(self, key, milliseconds):
        with self.changed:
            there = self.changed.wait_for(
                lambda: key in self.messages, milliseconds / 1000
            )
            if not there:
                raise jax.errors.JaxRuntimeError("DEADLINE_EXCEEDED: no key")
            return self.messages[key]


def errors_of(parts, members=(0, 1, 2), service=None):
    """What each process raises that has parts; `None` for nothing."""
    service = Service() if service is None else service

    def compare(me):
        try:
            process_agreement.compare(
                service, "room", members, me, parts[me], "FlaxLayer 'net'"
            )
        except process_agreement.Disagreement as error:
            return str(error)

    with concurrent.futures.ThreadPoolExecutor() as pool:
        return dict(zip(parts, pool.map(compare, parts), strict=True))


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(process_agreement, "LIMIT_SECONDS", 0.3)


SAME = {"name": "'net'", "seed": "0", "`params/kernel`": "float32[2, 3]"}


def test_processes_that_build_the_same_go_on():
    assert errors_of(dict.fromkeys(range(3), SAME)) == dict.fromkeys(range(3))
    parts = dict.fromkeys((1, 5), SAME)
    assert errors_of(parts, (1, 5)) == {1: None, 5: None}


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (
            SAME | {"seed": "1"},
            "In process 0 its seed is 0, in process 2 1. Pass the same `seed=`",
        ),
        (SAME | {"name": "'b'"}, "its name is 'net', in process 2 'b'. All"),
        (
            SAME
            | {"`params/kernel`": "float32[2, 4]", "`params/x`": "int32[]"},
            "its `params/kernel` is float32[2, 3], in process 2 float32[2, 4]",
        ),
        (
            {"name": "'net'", "seed": "0"},
            "its `params/kernel` is float32[2, 3], in process 2 not there",
        ),
        (
            SAME | {"`params/x`": "int32[]"},
            "its `params/x` is not there, in process 2 int32[]",
        ),
    ],
)
def test_all_processes_say_what_differs(other, expected):
    errors = errors_of({0: SAME, 1: SAME, 2: other})
    for process, error in errors.items():
        assert error.startswith(
            "FlaxLayer 'net': process 2 builds another layer than process 0 "
            f"(this is process {process} of 3). "
        )
        assert expected in error


def test_a_process_that_builds_nothing_is_waited_for_so_long(short):
    service = Service()
    errors = errors_of({0: SAME, 2: SAME}, service=service)
    for process, error in errors.items():
        assert (
            "process 1 did not build it within 0.3 seconds of process 0 (this "
            f"is process {process} of 3)" in error
        )
    # The others have given up when it comes.
    (error,) = errors_of({1: SAME}, service=service).values()
    assert "process 1 did not build it" in error
    # The one that compares does not come.
    (error,) = errors_of({2: SAME}).values()
    assert "process 0 did not build it" in error


def test_other_errors_of_the_service_are_passed_on():
    service = Service()

    def fail(*_):
        raise jax.errors.JaxRuntimeError("UNAVAILABLE: the leader has died")

    service.blocking_key_value_get = fail
    with pytest.raises(jax.errors.JaxRuntimeError, match="leader has died"):
        process_agreement.compare(service, "r", (0, 1), 0, SAME, "layer")


def test_nothing_is_asked_in_a_program_of_one_process(monkeypatch):
    def fail(*_):
        raise AssertionError("asked")

    assert jax_compat.coordination_client() is None
    for name in ("process_index", "process_count", "devices"):
        monkeypatch.setattr(jax, name, fail)
    process_agreement.check(fail, "layer")


def test_processes_with_layers_of_their_own_are_not_compared(monkeypatch):
    monkeypatch.setattr(jax_compat, "coordination_client", Service)

    def fail():
        raise AssertionError("asked")

    process_agreement.check(fail, "layer")
    mesh = keras.distribution.DeviceMesh(
        (1,), ("batch",), keras.distribution.list_devices()[:1]
    )
    distribution = keras.distribution.DataParallel(device_mesh=mesh)
    with distribution.scope():
        process_agreement.check(fail, "layer")


def described(tree):
    leaves, _ = variable_tree.describe_leaves(tree)
    return process_agreement.described(leaves)


def test_weights_are_compared_by_path_shape_and_dtype():
    tree = {
        "a": {"b": jax.ShapeDtypeStruct((2, 3), "float32")},
        "c": jax.ShapeDtypeStruct((), "int8"),
        "d": "no array",
    }
    assert described(tree) == {"`a/b`": "float32[2, 3]", "`c`": "int8[]"}


@pytest.mark.parametrize(
    "made",
    [
        lambda seed: np.full(2, seed, "float32"),
        lambda seed: jnp.full(2, seed, "bfloat16"),
        lambda seed: float(seed),
        jax.random.key,
    ],
)
def test_weights_that_were_given_are_compared_by_their_numbers(made):
    (one,), (same,), (other,) = (
        described({"w": made(seed)}).values() for seed in (1, 1, 2)
    )
    assert "] with the CRC-32 " in one
    assert one == same
    assert one != other


def test_numbers_of_a_trace_are_not_compared():
    @jax.jit
    def traced(x):
        assert described({"w": x}) == {"`w`": "float32[2]"}
        return x

    traced(np.ones(2, "float32"))


def test_a_seed_is_compared_as_far_as_it_is_used():
    keras.utils.set_random_seed(0)
    weights = {"params": {"w": jnp.ones(3)}, "state": {}}
    for layer, states in [
        (FlaxLayer(nn.Dense(2)), 2),  # Of calls, and for the weights.
        (JaxLayer(lambda params, state, rng, inputs: 0, **weights), 1),
        (JaxLayer(lambda params, inputs: 0, params=weights["params"]), 0),
    ]:
        seed = layer._parts()["seed"]
        assert seed.startswith("None, with [" if states else "None")
        assert seed.count("0]") == states
    assert FlaxLayer(nn.Dense(2), seed=7)._parts()["seed"] == "7"
