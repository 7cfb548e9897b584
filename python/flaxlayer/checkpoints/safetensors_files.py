"""Weights in a safetensors file.

The format is described in https://github.com/huggingface/safetensors: a JSON
header of names, dtypes, shapes and offsets, and the arrays. Names here are the
steps of a path with dots between them, `params.Dense_0.kernel`. Of its own the
format notices no changed number; the metadata in the header, which is text by
name, hold checksums as JSON.
"""

import json
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np

from flaxlayer.checkpoints import checksums
from flaxlayer.paths import Path, joined
from flaxlayer.weights import weight_files

# The dtypes that have a name in the header. The package's own reader into NumPy
# leaves out those of ml_dtypes.
_DTYPES = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype(np.uint8),
    "U16": np.dtype(np.uint16),
    "U32": np.dtype(np.uint32),
    "U64": np.dtype(np.uint64),
    "I8": np.dtype(np.int8),
    "I16": np.dtype(np.int16),
    "I32": np.dtype(np.int32),
    "I64": np.dtype(np.int64),
    "C64": np.dtype(np.complex64),
    "F16": np.dtype(np.float16),
    "F32": np.dtype(np.float32),
    "F64": np.dtype(np.float64),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
}


def encode(arrays: Mapping[Path, np.ndarray]) -> bytes:
    """The bytes of a file.

    Raises:
        ImportError: the package safetensors is not installed.
        ValueError: the format has no form for the dtype of an array.
    """
    package = _package()
    for path, array in arrays.items():
        if array.dtype not in _DTYPES.values():
            raise ValueError(
                f"`{joined(path)}` has the dtype {array.dtype.name}, which "
                "safetensors has no form for; save it to an Orbax directory"
            )
    try:
        return package.numpy.save(
            {
                # It takes the memory of an array as it is.
                weight_files.store_key(path): np.require(array, None, "C")
                for path, array in arrays.items()
            },
            metadata={checksums.NAME: json.dumps(checksums.of_arrays(arrays))},
        )
    except package.SafetensorError as error:  # A dtype, in older versions.
        raise ValueError(f"safetensors cannot write it: {error}") from error


def decode(data: bytes) -> list[tuple[Path, object]]:
    """The arrays that a file holds, by path.

    Raises:
        ImportError: the package safetensors is not installed.
        ValueError: it is no such file, an array has a dtype that NumPy has no
            form for, or another checksum than the file says.
    """
    package = _package()
    try:
        # Checks all lengths before it makes anything of them.
        tensors = package.deserialize(data)
    except package.SafetensorError as error:
        raise ValueError(
            f"expected a safetensors file: {error!s:.300}"
        ) from error
    arrays: list[tuple[Path, object]] = [
        (weight_files.path_of_key(name), _array(name, tensor))
        for name, tensor in tensors
    ]
    checksums.check(_stored_checksums(data), dict(arrays))
    return arrays


def _stored_checksums(data: bytes) -> object:
    # The package's reader of bytes leaves the metadata out. The header has been
    # read by it: its length is in the first eight bytes.
    end = 8 + int.from_bytes(data[:8], "little")
    stored = json.loads(data[8:end]).get("__metadata__", {}).get(checksums.NAME)
    try:
        return stored if stored is None else json.loads(stored)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"it is damaged: its checksums cannot be read: {error!s:.200}"
        ) from error


def _array(name: str, tensor: Mapping[str, Any]) -> np.ndarray:
    dtype = _DTYPES.get(tensor["dtype"])
    if dtype is None:
        raise ValueError(
            f"`{name}` has the dtype {tensor['dtype']}; expected one of "
            f"{', '.join(_DTYPES)}"
        )
    return np.frombuffer(tensor["data"], dtype).reshape(tensor["shape"])


def _package() -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError(
            "A `.safetensors` file needs the package safetensors: "
            '`pip install "flaxlayer[safetensors]"`.'
        ) from error
    return safetensors
