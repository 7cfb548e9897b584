"""Reading and writing files as a whole."""

import os
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
    are on the disk. Interrupted before, an old file is as it was.

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
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    sync_folder(path)


def beside(path: str) -> str:
    """A hidden name in the same folder, which nothing else has."""
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.{uuid.uuid4().hex}")


def sync_folder(path: str) -> None:
    """Makes the name that a file was given last."""
    descriptor = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
