"""Runs code in several processes that are one program to JAX."""

import dataclasses
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time

# What comes before the code. Gloo, which the processes talk through, prints to
# the standard output as it likes, in the middle of a line too. And a process
# that has failed would wait for the others, which wait for it, before it ends.
# The alarm is for when nobody is left to kill it.
_START = """
import os, signal, sys

sys.stdout = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

def fail(*error):
    sys.__excepthook__(*error)
    sys.stdout.flush()
    os._exit(1)

sys.excepthook = fail

import jax

address, processes, process, timeout = (sys.argv.pop(1) for _ in range(4))
signal.alarm(int(timeout) + 10)
if int(processes) > 1:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(
        address,
        num_processes=int(processes),
        process_id=int(process),
        initialization_timeout=60,
        heartbeat_timeout_seconds=10,
    )
"""


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a process has ended.

    Attributes:
        returncode: that of `subprocess.Popen`, negative for a signal.
        output: what it has printed.
        errors: what it has written to its standard error.
        seconds: when it has ended, from the start of all.
    """

    returncode: int
    output: str
    errors: str
    seconds: float


def outputs_of(code, *arguments, processes=2, devices=1, timeout=300):
    """What the code prints in each process, in words; none may fail.

    When one fails the others, which may wait for it, are killed.
    """
    ended = run(
        code,
        *arguments,
        processes=processes,
        devices=devices,
        timeout=timeout,
        until_one_fails=True,
    )
    assert not any(process.returncode for process in ended), "\n".join(
        f"process {i} ended with {process.returncode}:\n"
        f"{process.output[-1000:]}\n{process.errors[-4000:]}"
        for i, process in enumerate(ended)
    )
    return [process.output.split() for process in ended]


def run(
    code,
    *arguments,
    processes=2,
    devices=1,
    timeout=300,
    until_one_fails=False,
):
    """Runs code in several processes; returns how each of them has ended.

    Args:
        code: begins where JAX knows of all processes.
        *arguments: what `sys.argv` has behind its first.
        processes: how many there are; one is a program without any others.
        devices: how many each of them has.
        timeout: after so many seconds those that are left are killed.
        until_one_fails: whether they are killed when one has failed, too.
    """
    address = [f"localhost:{_free_port()}", str(processes)]
    with tempfile.TemporaryDirectory() as folder:
        paths = [pathlib.Path(folder, str(i)) for i in range(processes)]
        began = time.monotonic()
        running = []
        seconds = {}
        try:
            for i, path in enumerate(paths):
                with (
                    path.with_suffix(".out").open("w") as output,
                    path.with_suffix(".err").open("w") as errors,
                ):
                    words = [*address, i, timeout, *arguments]
                    running.append(
                        subprocess.Popen(
                            [sys.executable, "-c", _START + code]
                            + [str(word) for word in words],
                            env=_environment(devices),
                            stdout=output,
                            stderr=errors,
                        )
                    )
            now = 0.0
            while len(seconds) < processes:
                now = time.monotonic() - began
                for i, process in enumerate(running):
                    if i not in seconds and process.poll() is not None:
                        seconds[i] = now
                failed = any(running[i].returncode for i in seconds)
                if now > timeout or (failed and until_one_fails):
                    break
                time.sleep(0.02)
        finally:
            for process in running:
                process.kill()
                process.wait()
        return [
            Ended(
                process.returncode,
                path.with_suffix(".out").read_text(),
                path.with_suffix(".err").read_text(),
                seconds.get(i, now),
            )
            for i, (process, path) in enumerate(
                zip(running, paths, strict=True)
            )
        ]


def _environment(devices):
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }


def _free_port():
    with socket.socket() as opened:
        opened.bind(("localhost", 0))
        return opened.getsockname()[1]
