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
