"""Which format a path stands for."""

import os
from typing import Literal

Format = Literal["msgpack", "safetensors", "orbax"]


def of_path(path: str) -> Format:
    """The format of a path: by its ending, or a directory of Orbax."""
    # Not all file systems, nor all people, tell cases apart.
    match os.path.splitext(path)[1].lower():
        case ".msgpack":
            return "msgpack"
        case ".safetensors":
            return "safetensors"
        case _:
            return "orbax"


def absolute(path: object, described: str) -> str:
    """An absolute path, from what a user has passed as one.

    Args:
        path: what was passed.
        described: whose argument it is.

    Raises:
        TypeError: it is no string and no `os.PathLike` of one.
    """
    name = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(name, str):
        raise TypeError(
            f"{described}: expected a path, as a string or an `os.PathLike`. "
            f"Received: {path!r:.200} (of type {type(path).__name__})."
        )
    return os.path.abspath(name)


def recognised(data: bytes) -> str | None:
    """What the first bytes of a file are those of, if it is told by them."""
    if data.startswith(b"\x89HDF"):
        return "an HDF5 file; read it with `load_weights`"
    if data.startswith(b"PK\x03\x04"):
        return "a zip archive; `load_model` reads a `.keras` file"
    # The length of a header in JSON, in eight bytes, and the header.
    if data[8:9] == b"{" and int.from_bytes(data[:8], "little") <= len(data):
        return "a safetensors file; its name has to end in `.safetensors`"
    return None
