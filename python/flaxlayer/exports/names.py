"""Names of arrays for formats that take letters, digits and underscores."""

import keyword
import re
from collections.abc import Sequence

from flaxlayer.serving.signature import Array


def plain(arrays: Sequence[Array]) -> list[str]:
    """A name for each, which no other has."""
    found: list[str] = []
    for array in arrays:
        name = re.sub(r"\W", "_", array.name, flags=re.ASCII)
        name = name if re.match("[A-Za-z]", name) else f"x{name}"
        # TensorFlow has parameters of functions of these names.
        if keyword.iskeyword(name) or name == "self":
            name = f"{name}_"
        unique, count = name, 1
        while unique in found:
            unique, count = f"{name}_{count}", count + 1
        found.append(unique)
    return found
