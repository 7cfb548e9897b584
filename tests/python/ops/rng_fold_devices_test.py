"""The RNG fold in programs over several devices.

The number of devices is fixed when JAX starts, so the checks run in a process
of their own: this file, started as a script.
"""

import json
import os
import subprocess
import sys
import traceback

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from flaxlayer.ops import dispatch, rng_fold

TAGS = (1, 2, 3)
NUM_DEVICES = 8


def fold(states, policy="auto"):
    kernel = dispatch.choose("rng_fold", policy)
    return rng_fold.fold_streams(states, TAGS, kernel=kernel)


def states():
    rng = np.random.default_rng(0)
    return rng.integers(0, 2**32, (16, 2), dtype=np.uint32)


def mesh():
    return Mesh(np.array(jax.devices()), ("batch",))


def sharded(*spec):
    return NamedSharding(mesh(), PartitionSpec(*spec))


def assert_keys(keys):
    expected = rng_fold.reference(states(), TAGS)
    np.testing.assert_array_equal(keys, expected)


def check_sharded_arguments_use_the_reference():
    function = jax.jit(fold)
    argument = jax.device_put(states(), sharded("batch"))
    assert rng_fold.TARGET not in function.lower(argument).as_text()
    compiled = function.lower(argument).compile()
    assert "all-gather" not in compiled.as_text()
    keys = compiled(argument)
    assert not keys.sharding.is_fully_replicated
    assert_keys(keys)


def check_a_mesh_with_replicated_arguments_uses_the_reference():
    function = jax.jit(fold, in_shardings=sharded(), out_shardings=sharded())
    assert rng_fold.TARGET not in function.lower(states()).as_text()
    assert "all-gather" not in function.lower(states()).compile().as_text()
    assert_keys(function(states()))


def check_one_device_of_many_uses_native():
    function = jax.jit(fold)
    assert rng_fold.TARGET in function.lower(states()).as_text()
    assert_keys(function(states()))
    # The same trace, lowered once for one device and once for eight.
    argument = jax.device_put(states(), sharded("batch"))
    assert rng_fold.TARGET not in function.lower(argument).as_text()
    assert rng_fold.TARGET in function.lower(states()).as_text()


def shard_map(function):
    try:
        from jax import shard_map as transform
    except ImportError:  # JAX before 0.7
        from jax.experimental.shard_map import shard_map as transform
    return transform(
        function,
        mesh=mesh(),
        in_specs=PartitionSpec("batch"),
        out_specs=PartitionSpec("batch"),
    )


def check_shard_map_uses_native_on_each_device():
    function = jax.jit(shard_map(fold))
    argument = jax.device_put(states(), sharded("batch"))
    assert rng_fold.TARGET in function.lower(argument).as_text()
    compiled = function.lower(argument).compile()
    assert "all-gather" not in compiled.as_text()
    assert_keys(compiled(argument))


def check_native_by_name_raises_for_a_mesh():
    argument = jax.device_put(states(), sharded("batch"))
    function = jax.jit(lambda states: fold(states, "native"))
    with pytest.raises(RuntimeError, match="partition it over several"):
        function.lower(argument)
    assert_keys(function(states()))


CHECKS = [name for name in list(globals()) if name.startswith("check_")]


def run_checks():
    """Prints what went wrong in each check, null for nothing, as JSON."""
    assert len(jax.devices()) == NUM_DEVICES
    failures = {}
    for name in CHECKS:
        try:
            globals()[name]()
            failures[name] = None
        except Exception:
            failures[name] = traceback.format_exc()
    print(json.dumps(failures))


@pytest.fixture(scope="module")
def failures(native_kernels):
    flag = f"--xla_force_host_platform_device_count={NUM_DEVICES}"
    result = subprocess.run(
        [sys.executable, __file__],
        env={
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "KERAS_BACKEND": "jax",
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "XLA_FLAGS": flag,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.parametrize("check", CHECKS)
def test_with_eight_devices(failures, check):
    assert failures[check] is None, failures[check]


if __name__ == "__main__":
    run_checks()
