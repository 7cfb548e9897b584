"""Several processes that save or load the same weights.

JAX has programs of several processes, see `jax.distributed.initialize`, and
arrays that none of them has the whole of. All processes then do the same with
these. What one does for all, because there is one file, must not leave the
others waiting when it fails.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping

import jax
import numpy as np
from jax.experimental import multihost_utils

from flaxlayer.paths import Path

# As much of a message as all processes are told.
_MESSAGE_BYTES = 4096
# What saving and loading raises; the narrow ones come first.
_KINDS = (
    FileExistsError,
    FileNotFoundError,
    NotADirectoryError,
    OSError,
    ImportError,
    MemoryError,
    TypeError,
    ValueError,
)


def together(arrays: Iterable[jax.Array]) -> bool:
    """Whether arrays are spread over the processes of a program.

    Those that are on devices of this process alone are nobody else's matter.

    Raises:
        ValueError: they are spread over some of the processes only.
    """
    owners = set()
    for array in arrays:
        # Those of other libraries are of this process.
        if not getattr(array, "is_fully_addressable", True):
            owners |= {x.process_index for x in array.sharding.device_set}
    if owners and len(owners) < jax.process_count():
        raise ValueError(
            f"the weights are spread over the processes {sorted(owners)} of "
            f"{jax.process_count()}; expected one process, or all of them"
        )
    return bool(owners)


def writes(shared: bool) -> bool:
    """Whether this process does what one does for all.

    Args:
        shared: whether they act together; otherwise each does it.
    """
    return not shared or jax.process_index() == 0


@contextlib.contextmanager
def agreeing(shared: bool) -> Iterator[None]:
    """Has all processes go on when all are ready, or raise what one raises.

    No process may wait for others inside.

    Args:
        shared: whether they act together; otherwise it does nothing.
    """
    if not shared:
        yield
        return
    raised = None
    try:
        yield
    except Exception as error:
        raised = error
    messages = _from_all("" if raised is None else _described(raised))
    if raised is not None:
        raise raised
    for process, message in enumerate(messages):
        if message:
            raise _error(process, message)


def from_writer(text: str) -> str:
    """What the process that writes has passed."""
    return _from_all(text)[0]


def check_same(found: str, what: str, shared: bool) -> None:
    """Reports what processes that act together have found differently.

    Args:
        found: what this one has found.
        what: what it has looked for, in a folder that all should have.
        shared: whether they act together; otherwise it does nothing.

    Raises:
        ValueError: it is not the same for all; raised in all of them.
    """
    everywhere = _from_all(found) if shared else [found]
    for process, other in enumerate(everywhere):
        if other != everywhere[0]:
            raise ValueError(
                f"the processes do not find the same {what}: process 0 finds "
                f"{everywhere[0]}, process {process} {other}. Use a folder of "
                "a file system that all of them share"
            )


def gathered(
    arrays: Mapping[Path, jax.Array], shared: bool
) -> dict[Path, np.ndarray]:
    """Whole arrays on the host of the process that writes.

    The others help with one after the other, and are left with none.

    Args:
        arrays: what to gather, in the same order in all processes.
        shared: whether they act together; otherwise each has its own arrays.
    """
    whole = {}
    for path, array in arrays.items():
        # Nothing has to be fetched from others where each has all of it.
        if array.is_fully_addressable or array.is_fully_replicated:
            if writes(shared):
                whole[path] = np.asarray(array)
            continue
        value = multihost_utils.process_allgather(array, tiled=True)
        if writes(shared):
            whole[path] = value
    return whole


def _from_all(text: str) -> list[str]:
    """What each process has passed, in the order of processes."""
    data = text.encode()[:_MESSAGE_BYTES]
    padded = np.zeros(_MESSAGE_BYTES, np.uint8)
    padded[: len(data)] = np.frombuffer(data, np.uint8)
    return [
        row.tobytes().rstrip(b"\0").decode(errors="ignore")
        for row in multihost_utils.process_allgather(padded)
    ]


def _described(error: Exception) -> str:
    kind = next(k for k in (*_KINDS, Exception) if isinstance(error, k))
    return f"{kind.__name__}:{error}"


def _error(process: int, described: str) -> Exception:
    name, _, message = described.partition(":")
    kinds = {kind.__name__: kind for kind in _KINDS}
    return kinds.get(name, RuntimeError)(
        f"{message} (raised in process {process} of {jax.process_count()}, "
        "and so in all of them)"
    )
