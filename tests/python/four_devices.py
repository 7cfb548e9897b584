"""Runs code where JAX has four devices."""

import os
import subprocess
import sys


def output_of(code, *arguments, flags=()):
    """What the code prints, in words; it must not fail.

    The number of devices is fixed when JAX starts, hence a process.
    """
    result = subprocess.run(
        [sys.executable, *flags, "-c", code, *arguments],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    return result.stdout.split()
