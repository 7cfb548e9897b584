"""Arrays by name in one file, a `.npz` of NumPy without pickles.

NumPy has no names for the dtypes of ml_dtypes, such as bfloat16. Arrays of
these are stored as unsigned integers of their size: what they are is said
elsewhere.
"""

import math
import os
import zipfile
from collections.abc import Iterable, Mapping

import ml_dtypes  # noqa: F401  NumPy knows its dtypes by name then.
import numpy as np

from flaxlayer.serving.signature import Array, BadExport


def write(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray]):
    """Writes arrays.

    Args:
        path: of the file; it is replaced if it is there.
        arrays: by name.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy")  # The same bytes every time.
            with file.open(entry, "w", force_zip64=True) as stream:
                np.lib.format.write_array(
                    stream,
                    _storable(array),
                    version=(1, 0),
                    allow_pickle=False,
                )


def read(
    path: str | os.PathLike[str], expected: Iterable[Array]
) -> dict[str, np.ndarray]:
    """Reads arrays, all those that are expected and no others.

    Args:
        path: of the file.
        expected: their names, shapes and dtypes.

    Raises:
        BadExport: it has others, or is no such file.
    """
    wanted = {array.name: array for array in expected}
    name = os.path.basename(path)
    try:
        with zipfile.ZipFile(path) as file:
            entries = {
                info.filename.removesuffix(".npy"): info
                for info in file.infolist()
            }
            if entries.keys() != wanted.keys():
                differing = sorted(entries.keys() ^ wanted.keys())
                raise BadExport(
                    f"{name} does not have the arrays that the signature "
                    f"names. Differing: {differing!r:.300}."
                )
            return {
                key: _read(file, entries[key], wanted[key], name)
                for key in wanted
            }
    except BadExport:
        raise
    # Whatever the bytes are, zipfile and NumPy may raise anything.
    except Exception as error:
        raise BadExport(f"{name} cannot be read: {error}") from error


def _read(
    file: zipfile.ZipFile, entry: zipfile.ZipInfo, wanted: Array, name: str
) -> np.ndarray:
    dtype = dtype_of(wanted)
    sizes = tuple(int(size) for size in wanted.shape)
    count = math.prod(sizes) * dtype.itemsize
    # Before any memory is taken for it; a header has less than 10 KB.
    if (
        entry.compress_type != zipfile.ZIP_STORED
        or not count <= entry.file_size <= count + 10_000
    ):
        raise BadExport(
            f"{name}: {wanted.name!r} must have {count} bytes, which are not "
            f"compressed. Received: {entry.file_size}."
        )
    stored = storage_dtype(dtype)
    with file.open(entry) as stream:
        if np.lib.format.read_magic(stream) != (1, 0):
            raise BadExport(f"{name}: {wanted.name!r} is no array of NumPy.")
        header = np.lib.format.read_array_header_1_0(stream)
        if header != (sizes, False, stored):
            shape, _, received = header
            raise BadExport(
                f"{name}: {wanted.name!r} must be {stored}{list(sizes)}. "
                f"Received: {received}{list(shape)}."
            )
        data = stream.read()
    if len(data) != count:
        raise BadExport(f"{name}: {wanted.name!r} ends too early or too late.")
    return np.frombuffer(data, stored).view(dtype).reshape(sizes)


def dtype_of(array: Array) -> np.dtype:
    """The dtype that a description names.

    Raises:
        BadExport: there is none of this name, or it is no number.
    """
    try:
        dtype = np.dtype(array.dtype)
    except TypeError:
        dtype = None
    if dtype is None or dtype.hasobject or dtype.kind in "SUMm" or dtype.names:
        raise BadExport(
            f"{array.name!r}: the dtype must be one of numbers that NumPy or "
            f"ml_dtypes has. Received: {array.dtype!r}."
        )
    return dtype


def storage_dtype(dtype: np.dtype) -> np.dtype:
    """What a dtype is stored as: itself, where NumPy can say what it is."""
    own = dtype.isbuiltin == 1
    return dtype if own else np.dtype(f"u{dtype.itemsize}")


def _storable(array: np.ndarray) -> np.ndarray:
    stored = storage_dtype(array.dtype)
    array = np.ascontiguousarray(array).reshape(array.shape)
    return array if stored == array.dtype else array.view(stored)
