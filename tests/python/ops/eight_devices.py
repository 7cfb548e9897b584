"""Checks of operations in programs over several devices.

The number of devices is fixed when JAX starts, so the checks run in a process
of their own: a test file, started as a script. It has functions `check_...`,
and

    @pytest.fixture(scope="module")
    def failures(native_kernels):
        return eight_devices.failures_of(__file__)

    @pytest.mark.parametrize("check", eight_devices.checks(globals()))
    def test_with_eight_devices(failures, check):
        assert failures[check] is None, failures[check]

    if __name__ == "__main__":
        eight_devices.run_checks(globals())
"""

import json
import os
import subprocess
import sys
import traceback

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

NUM_DEVICES = 8


def mesh():
    return Mesh(np.array(jax.devices()), ("batch",))


def sharded(*spec):
    return NamedSharding(mesh(), PartitionSpec(*spec))


def shard_map(function):
    """Over the first axes of all arguments and results."""
    try:
        from jax import shard_map as transform
    except ImportError:  # JAX before 0.7
        from jax.experimental.shard_map import shard_map as transform
    spec = PartitionSpec("batch")
    return transform(function, mesh=mesh(), in_specs=spec, out_specs=spec)


def checks(names):
    """The names of the checks among those of a module."""
    return [name for name in names if name.startswith("check_")]


def run_checks(names):
    """Prints what went wrong in each check, null for nothing, as JSON."""
    assert len(jax.devices()) == NUM_DEVICES
    failures = {}
    for name in checks(names):
        try:
            names[name]()
            failures[name] = None
        except Exception:
            failures[name] = traceback.format_exc()
    print(json.dumps(failures))


def failures_of(file):
    """What `run_checks` prints in a process that has the devices."""
    flag = f"--xla_force_host_platform_device_count={NUM_DEVICES}"
    result = subprocess.run(
        [sys.executable, file],
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
