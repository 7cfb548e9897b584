"""The state merge in programs over several devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxlayer.ops import dispatch, state_merge
from tests.python import forced_devices
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


def check_sharded_leaves_are_decided_on_together():
    # XLA selects what a device has; it would not know whether to.
    function = jax.jit(functools.partial(merge, policy="native"))
    for spoilt in (None, 0, 1):
        arguments = on_eight_devices(leaves(spoilt), "batch")
        compiled = function.lower(*arguments).compile()
        # Only the verdict is shared, once for all of the leaves.
        assert "all-gather" not in compiled.as_text()
        assert compiled.as_text().count(" all-reduce(") == 1
        merged = compiled(*arguments)
        assert not any(leaf.sharding.is_fully_replicated for leaf in merged)
        assert_merged(merged, spoilt)


def check_leaves_of_which_one_is_sharded():
    for spoilt in (None, 0, 1):
        old, new = leaves(spoilt)
        arguments = [
            [
                jax.device_put(leaf, sharded(*("batch",) * (i == 1)))
                for i, leaf in enumerate(part)
            ]
            for part in (old, new)
        ]
        function = jax.jit(merge)
        text = function.lower(*arguments).compile().as_text()
        assert "all-gather" not in text
        assert text.count(" all-reduce(") == 1
        assert_merged(function(*arguments), spoilt)


def check_replicated_leaves_are_merged_by_every_device():
    for spoilt in (None, 0):
        function = jax.jit(
            merge, in_shardings=sharded(), out_shardings=sharded()
        )
        arguments = leaves(spoilt)
        text = function.lower(*arguments).compile().as_text()
        assert state_merge.TARGET in text
        assert "all-gather" not in text
        assert "all-reduce" not in text
        assert_merged(function(*arguments), spoilt)


def check_a_batch_of_merges_is_decided_one_by_one():
    old, new = ([jnp.stack([leaf] * 4) for leaf in part] for part in leaves())
    new[0] = new[0].at[2, 13].set(jnp.nan)
    results = [
        jax.jit(jax.vmap(functools.partial(merge, policy=policy)))(
            *on_eight_devices((old, new), None, "batch")
        )
        for policy in ("native", "reference")
    ]
    for native, reference in zip(*results, strict=True):
        np.testing.assert_array_equal(native, reference)
    kept = [not leaf.any() for leaf in np.asarray(results[0][1])]
    assert kept == [False, False, True, False]


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


@pytest.fixture(scope="module")
def failures(native_kernels):
    return forced_devices.failures_of(__file__)


@pytest.mark.parametrize("check", forced_devices.checks(globals()))
def test_with_eight_devices(failures, check):
    assert failures[check] is None, failures[check]


if __name__ == "__main__":
    forced_devices.run_checks(globals())
