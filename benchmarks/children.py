"""Processes of their own, for what cannot be measured in this one.

They run `bench.py` with commands that its help does not list. What they answer
is a line of JSON on their standard output.
"""

import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Iterable
from typing import IO, Any

import jax

_SCRIPT = pathlib.Path(__file__).with_name("bench.py")


def _command(arguments: Iterable[object]) -> list[str]:
    return [sys.executable, str(_SCRIPT), *map(str, arguments)]


def environment() -> dict[str, str]:
    """This process's, with the modules where it finds them."""
    paths = os.pathsep.join(path for path in sys.path if path)
    return {**os.environ, "PYTHONPATH": paths}


def answer(*arguments: object) -> Any:
    """What a process answered that was run to its end.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    done = subprocess.run(
        _command(arguments),
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


class Server:
    """A process that answers one question after the other.

    It is a context manager, and lives as long as the block. So what it timed
    and what another one timed can be of the same round.

    Args:
        arguments: the command, which calls `serve`.
    """

    def __init__(self, *arguments: object):
        self._process = subprocess.Popen(
            _command(arguments),
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *exc_info: Any) -> None:
        # At the end of its input it ends.
        self._process.communicate()

    def ask(self, **question: Any) -> Any:
        """Sends a question and waits for the answer.

        Raises:
            RuntimeError: the process ended instead.
        """
        requests, replies = self._process.stdin, self._process.stdout
        assert requests is not None
        assert replies is not None
        print(json.dumps(question), file=requests, flush=True)
        reply = replies.readline()
        if not reply:
            raise RuntimeError(
                f"a process ended with status {self._process.wait()} instead "
                f"of answering {question}"
            )
        return json.loads(reply)


def serve(
    respond: Callable[..., Any],
    requests: IO[str] = sys.stdin,
    replies: IO[str] = sys.stdout,
) -> None:
    """Answers questions, in a `Server`'s process, until there are no more."""
    for line in requests:
        print(json.dumps(respond(**json.loads(line))), file=replies, flush=True)


def peak_memory() -> int:
    """The most memory this process had resident, in bytes.

    That is since its start, or since `forget_peak`.

    Not `ru_maxrss`, which begins with what the process had that started this
    one.

    Raises:
        RuntimeError: the system does not say.
    """
    status = pathlib.Path("/proc/self/status").read_text(encoding="utf-8")
    for line in status.splitlines():
        name, _, value = line.partition(":")
        if name == "VmHWM":
            return int(value.split()[0]) * 1024
    raise RuntimeError("/proc/self/status has no VmHWM")


def forget_peak() -> None:
    """Begins anew with what `peak_memory` tells."""
    pathlib.Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def use_cores(count: int) -> None:
    """Leaves this thread and those it starts later so many cores.

    XLA makes as many threads as there are cores for it when it starts, so this
    has to come before. Nothing else decides about both XLA's own loops and
    native handlers: `--xla_cpu_multi_thread_eigen=false` leaves the latter the
    whole pool.
    """
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])


def use_devices(count: int) -> None:
    """Makes so many devices of this processor, and leaves JAX no other.

    JAX decides it when it starts, so this has to come before.
    """
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", count)
