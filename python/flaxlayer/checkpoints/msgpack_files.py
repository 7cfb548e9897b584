"""Weights in a file of `flax.serialization`.

The format is msgpack with extension types for arrays, described in
https://flax.readthedocs.io/en/latest/api_reference/flax.serialization.html:
what `flax.serialization.to_bytes` writes and `from_bytes` and
`msgpack_restore` read.
"""

from collections.abc import Mapping

import flax
import numpy as np

from flaxlayer.checkpoints import formats, nested
from flaxlayer.paths import Path


def encode(arrays: Mapping[Path, np.ndarray]) -> bytes:
    """The bytes of a file.

    Raises:
        ValueError: two paths cannot be in one nested dict.
    """
    return flax.serialization.msgpack_serialize(nested.nest(arrays))


def decode(data: bytes) -> list[tuple[Path, object]]:
    """What a file holds: arrays, and whatever else, by path.

    Raises:
        ValueError: it is no such file.
    """
    try:
        tree = flax.serialization.msgpack_restore(data)
        if not isinstance(tree, dict):
            raise TypeError(f"it holds a {type(tree).__name__} and no dict")
        return list(nested.flatten(tree))
    except Exception as error:
        # msgpack, NumPy and Flax raise a dozen kinds on bytes that are not
        # theirs: of types, keys, lengths, recursion, even assertions.
        if other := formats.recognised(data):
            problem = f"it is {other}"
        elif type(error).__name__ in ("RecursionError", "StackError"):
            # The second is of msgpack, which only Flax depends on.
            problem = "it holds dicts or lists in each other, too deep to read"
        else:
            problem = f"{type(error).__name__}: {error!s:.300}"
        raise ValueError(
            f"expected a file of `flax.serialization`: {problem}"
        ) from error
