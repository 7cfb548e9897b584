"""Runs code where JAX has several devices, all of which are the CPU.

Their number is fixed when JAX starts, so it takes a process. What it does is
either given as code, or a test file with several checks, functions
`check_...`, is started as a script:

    @pytest.fixture(scope="module")
    def failures(native_kernels):
        return forced_devices.failures_of(__file__)

    @pytest.mark.parametrize("check", forced_devices.checks(globals()))
    def test_with_eight_devices(failures, check):
        assert failures[check] is None, failures[check]

    if __name__ == "__main__":
        forced_devices.run_checks(globals())
"""

import json
import os
import subprocess
import sys
import traceback

import jax

NUM_DEVICES = 8


def output_of(code, *arguments, devices=NUM_DEVICES, flags=()):
    """What the code prints, in words; it must not fail."""
    return _run([*flags, "-c", code, *arguments], devices).split()


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


def failures_of(file, *, flags=()):
    """What `run_checks` prints in a process that has the devices."""
    return json.loads(_run([*flags, file], NUM_DEVICES).splitlines()[-1])


def _run(arguments, devices):
    result = subprocess.run(
        [sys.executable, *arguments],
        env={
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "KERAS_BACKEND": "jax",
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    return result.stdout
