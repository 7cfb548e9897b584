"""Reading and writing files as a whole."""

import contextlib
import hashlib
import os
import re
import shutil
import socket
import uuid
from collections.abc import Callable

_CHUNK_BYTES = 16 << 20


def read(path: str, report: Callable[[int], None]) -> bytes:
    """The bytes of a file; `report` is called with how many are read."""
    chunks, done = [], 0
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            chunks.append(chunk)
            done += len(chunk)
            report(done)
    return b"".join(chunks)


def write(path: str, data: bytes, report: Callable[[int], None]) -> None:
    """Writes a file that is there as a whole, or not at all.

    The bytes go to a temporary file beside it, which takes its name when they
    are on the disk. Interrupted before, an old file is as it was. What earlier
    processes have left, which were killed, is removed.

    Args:
        path: the file, which is replaced if it is there.
        data: what it will hold.
        report: is called with how many bytes are written.

    Raises:
        OSError: it cannot be written.
    """
    temporary = beside(path)
    # With the rights that the umask leaves, unlike a file of `tempfile`.
    handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            view = memoryview(data)
            for start in range(0, len(data), _CHUNK_BYTES):
                file.write(view[start : start + _CHUNK_BYTES])
                report(min(start + _CHUNK_BYTES, len(data)))
        put_in_place(temporary, path)
    except BaseException:
        remove(temporary)
        raise


def check_target(path: str, *, overwrite: bool, what: str = "") -> None:
    """Reports a path that nothing can be written to.

    Args:
        path: an absolute one.
        overwrite: whether what is there may be replaced.
        what: what messages begin with.

    Raises:
        FileExistsError: something is there, and `overwrite` is false.
        FileNotFoundError: its folder is not there.
    """
    if os.path.lexists(path) and not overwrite:
        raise FileExistsError(
            f"{what}{path!r} is there already. Pass `overwrite=True` to "
            "replace it."
        )
    if not os.path.isdir(os.path.dirname(path)):
        raise FileNotFoundError(f"{what}there is no folder for {path!r}.")


def put_in_place(temporary: str, path: str) -> None:
    """Gives a file that is complete its name, when it is on the disk.

    Args:
        temporary: the file, in the folder of `path`.
        path: its name, which an old file may have.

    Raises:
        OSError: it cannot be written to the disk, or have that name.
    """
    with open(temporary, "rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_folder(path)
    sweep(path)


def beside(path: str) -> str:
    """A hidden name in the same folder, which nothing else has.

    It says which process writes there, for `sweep`.
    """
    folder, name = os.path.split(path)
    owner = f"{_host()}-{os.getpid()}"
    return os.path.join(folder, f".{name}.{owner}-{uuid.uuid4().hex}")


def sweep(path: str) -> None:
    """Removes what processes that are gone have left beside a path.

    To be called when the path itself is whole: where a process was killed
    between two renames, what it left may have been all there was.
    """
    folder, name = os.path.split(path)
    left = re.compile(
        rf"\.{re.escape(name)}\.{_host()}-(\d+)-[0-9a-f]{{32}}(\..*)?"
    )
    for entry in os.listdir(folder):
        match = left.fullmatch(entry)
        if match and not _is_running(int(match[1])):
            remove(os.path.join(folder, entry))


def remove(path: str) -> None:
    """Removes a file or folder, if it is there and can be."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            os.unlink(path)


def _host() -> str:
    """Tells machines apart that share a file system, in eight characters."""
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # Somebody else's.
        return True
    return True


def sync_folder(path: str) -> None:
    """Makes the name that a file was given last."""
    descriptor = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
