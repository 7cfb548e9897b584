"""The state merge in programs over several devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxlayer.ops import dispatch, state_merge
from tests.python.ops import eight_devices
from tests.python.ops.eight_devices import shard_map, sharded


def merge(old, new, policy="auto"):
    kernel = dispatch.choose("state_merge", policy)
    return state_merge.merge(old, new, kernel=kernel, guard=True)


def leaves(spoilt=None):
    """Old leaves, and new ones of which one has a NaN in a later shard."""
    old = [jnp.zeros((16, 3)), jnp.zeros(16, jnp.bfloat16), jnp.zeros(8, int)]
    new = [leaf + 1 for leaf in old]
    if spoilt is not None:
        new[spoilt] = new[spoilt].at[13].set(jnp.nan)
    return old, new


def on_eight_devices(tree, *spec):
    return jax.device_put(tree, sharded(*spec))


def assert_merged(merged, spoilt=None):
    for leaf, expected in zip(merged, leaves()[spoilt is None], strict=True):
        assert leaf.dtype == expected.dtype
        np.testing.assert_array_equal(leaf, expected)


def text(function, *args):
    return function.lower(*args).as_text()


def check_sharded_leaves_use_the_reference():
    function = jax.jit(merge)
    for spoilt in (None, 0, 1):
        arguments = on_eight_devices(leaves(spoilt), "batch")
        assert state_merge.TARGET not in text(function, *arguments)
        compiled = function.lower(*arguments).compile()
        # Only the verdict is shared, not the leaves.
        assert "all-gather" not in compiled.as_text()
        merged = compiled(*arguments)
        assert not any(leaf.sharding.is_fully_replicated for leaf in merged)
        assert_merged(merged, spoilt)


def check_replicated_leaves_use_the_reference():
    for spoilt in (None, 0):
        function = jax.jit(
            merge, in_shardings=sharded(), out_shardings=sharded()
        )
        arguments = leaves(spoilt)
        assert state_merge.TARGET not in text(function, *arguments)
        compiled = function.lower(*arguments).compile()
        assert "all-gather" not in compiled.as_text()
        assert_merged(function(*arguments), spoilt)


def check_one_device_of_many_uses_native():
    function = jax.jit(merge)
    for spoilt in (None, 1):
        arguments = leaves(spoilt)
        assert state_merge.TARGET in text(function, *arguments)
        assert_merged(function(*arguments), spoilt)
    # The same trace, lowered once for one device and once for eight.
    spread = on_eight_devices(leaves(), "batch")
    assert state_merge.TARGET not in text(function, *spread)
    assert state_merge.TARGET in text(function, *leaves())


def check_shard_map_uses_native_on_each_device():
    function = jax.jit(shard_map(merge))
    arguments = on_eight_devices(leaves(), "batch")
    assert state_merge.TARGET in text(function, *arguments)
    compiled = function.lower(*arguments).compile()
    assert "all-gather" not in compiled.as_text()
    assert_merged(compiled(*arguments))


def check_shard_map_guards_each_device_by_itself():
    results = [
        shard_map(functools.partial(merge, policy=policy))(
            *on_eight_devices(leaves(spoilt=1), "batch")
        )
        for policy in ("native", "reference")
    ]
    for native, reference in zip(*results, strict=True):
        np.testing.assert_array_equal(native, reference)
    # The NaN is in the seventh of eight shards.
    taken = results[0][1].reshape(8, 2) == 1
    np.testing.assert_array_equal(taken.all(axis=1), np.arange(8) != 6)


def check_native_by_name_raises_for_a_mesh():
    arguments = on_eight_devices(leaves(), "batch")
    function = jax.jit(functools.partial(merge, policy="native"))
    with pytest.raises(RuntimeError, match="partition it over several"):
        function.lower(*arguments)
    assert_merged(function(*leaves()))


@pytest.fixture(scope="module")
def failures(native_kernels):
    return eight_devices.failures_of(__file__)


@pytest.mark.parametrize("check", eight_devices.checks(globals()))
def test_with_eight_devices(failures, check):
    assert failures[check] is None, failures[check]


if __name__ == "__main__":
    eight_devices.run_checks(globals())
