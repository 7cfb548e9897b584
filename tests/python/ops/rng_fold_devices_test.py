"""The RNG fold in programs over several devices."""

import functools

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from flaxlayer.ops import dispatch, rng_fold
from tests.python import forced_devices
from tests.python.ops.eight_devices import shard_map, sharded

TAGS = (1, 2, 3)


def fold(states, policy="auto"):
    kernel = dispatch.choose("rng_fold", policy)
    return rng_fold.fold_streams(states, TAGS, kernel=kernel)


def states():
    rng = np.random.default_rng(0)
    return rng.integers(0, 2**32, (16, 2), dtype=np.uint32)


def assert_keys(keys):
    expected = rng_fold.reference(states(), TAGS)
    np.testing.assert_array_equal(keys, expected)


def check_sharded_states_are_folded_where_they_are():
    function = jax.jit(lambda states: fold(states, "native"))
    argument = jax.device_put(states(), sharded("batch"))
    compiled = function.lower(argument).compile()
    assert rng_fold.TARGET in compiled.as_text()
    assert "all-gather" not in compiled.as_text()
    keys = compiled(argument)
    assert not keys.sharding.is_fully_replicated
    assert_keys(keys)


def check_replicated_states_are_folded_by_every_device():
    function = jax.jit(fold, in_shardings=sharded(), out_shardings=sharded())
    text = function.lower(states()).compile().as_text()
    assert rng_fold.TARGET in text
    assert "all-gather" not in text
    assert_keys(function(states()))


def check_one_device_of_many_uses_native():
    function = jax.jit(fold)
    assert rng_fold.TARGET in function.lower(states()).as_text()
    assert_keys(function(states()))
    # The same trace, lowered once for one device and once for eight, where the
    # call is made when XLA has split the program.
    argument = jax.device_put(states(), sharded("batch"))
    assert rng_fold.TARGET not in function.lower(argument).as_text()
    assert rng_fold.TARGET in function.lower(states()).as_text()


def check_shard_map_uses_native_on_each_device():
    function = jax.jit(shard_map(fold))
    argument = jax.device_put(states(), sharded("batch"))
    assert rng_fold.TARGET in function.lower(argument).as_text()
    compiled = function.lower(argument).compile()
    assert "all-gather" not in compiled.as_text()
    assert_keys(compiled(argument))


def check_native_by_name_raises_where_axes_are_manual_in_part():
    mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ("batch", "model"))
    spec = PartitionSpec("batch")
    argument = jax.device_put(states(), NamedSharding(mesh, spec))
    for policy in ("auto", "native"):
        function = jax.jit(
            jax.shard_map(
                functools.partial(fold, policy=policy),
                mesh=mesh,
                in_specs=spec,
                out_specs=spec,
                axis_names={"batch"},
            )
        )
        if policy == "native":
            with pytest.raises(RuntimeError, match="partition it over several"):
                function.lower(argument)
        else:
            assert_keys(function(argument))


@pytest.fixture(scope="module")
def failures(native_kernels):
    return forced_devices.failures_of(__file__)


@pytest.mark.parametrize("check", forced_devices.checks(globals()))
def test_with_eight_devices(failures, check):
    assert failures[check] is None, failures[check]


if __name__ == "__main__":
    forced_devices.run_checks(globals())
