"""`flax.nnx`, where a program has imported it.

The import takes longer than that of this package, and a module of Linen needs
none of it. Nobody can have a module of NNX who has not imported it.
"""

import importlib
import sys


def module_classes() -> tuple[type, ...]:
    """`flax.nnx.Module`, or no class where `flax.nnx` is not imported."""
    # Another thread may be importing it.
    found = getattr(sys.modules.get("flax.nnx"), "Module", None)
    return () if found is None else (found,)


def import_for(name: str) -> None:
    """Imports `flax.nnx` for a name in it.

    Args:
        name: `module:Class`, as files have it.
    """
    module = name.partition(":")[0]
    if f"{module}.".startswith("flax.nnx."):
        importlib.import_module("flax.nnx")
