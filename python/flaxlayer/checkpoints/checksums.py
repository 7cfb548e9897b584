"""Checksums of arrays, for formats that do not notice a changed bit.

They go where a format has room for what others pass over, so that these read
the same files, and files without any are read here. Each is the CRC-32 of
zlib, of ISO 3309, in eight hexadecimal digits: of the dtype and shape as text
and of the numbers in C order.
"""

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from flaxlayer.paths import Path, joined
from flaxlayer.weights import weight_files

# What they are called in a file.
NAME = "flaxlayer.crc32"


def of_arrays(arrays: Mapping[Path, Any]) -> dict[str, str]:
    """The checksum of each array, by the name `store_key` gives it.

    Args:
        arrays: of NumPy or JAX. Those that this process has only a part of
            have no checksum.
    """
    return {
        weight_files.store_key(path): _checksum(array)
        for path, array in arrays.items()
        if getattr(array, "is_fully_addressable", True)
        or array.is_fully_replicated
    }


def check(stored: object, arrays: Mapping[Path, Any]) -> None:
    """Compares arrays that were read with the checksums in their file.

    Args:
        stored: what the file has under `NAME`; None for nothing.
        arrays: as `of_arrays` takes them. Those without a stored checksum are
            not compared.

    Raises:
        ValueError: it is no dict of checksums, or some of them differ.
    """
    if stored is None:
        return
    if not isinstance(stored, Mapping):
        raise ValueError(
            f"expected checksums by name under `{NAME}`, received "
            f"{stored!r:.200}"
        )
    damaged = [
        joined(weight_files.path_of_key(name))
        for name, found in of_arrays(arrays).items()
        if found != stored.get(name, found)
    ]
    if damaged:
        raise ValueError(
            f"it is damaged: the numbers of {damaged} are not those that were "
            "written, by their checksums"
        )


def _checksum(array: Any) -> str:
    array = np.asarray(array)
    described = f"{array.dtype.name}{list(array.shape)}".encode()
    # Dtypes of ml_dtypes have no buffers of their own.
    numbers = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    return f"{zlib.crc32(numbers, zlib.crc32(described)):08x}"
