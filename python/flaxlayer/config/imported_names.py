"""What a name means in the modules that are imported already."""

import sys
import types
from collections.abc import Mapping
from typing import Any

from flaxlayer.config.public_names import is_class

_MODULE_DICT = vars(types.ModuleType)["__dict__"]
_CLASS_DICT = vars(type)["__dict__"]


def imported(name: str) -> Any:
    """What `module:Class.attribute` is now, without running any code.

    `getattr` would run a module's `__getattr__`, which is how modules import
    their parts lazily, properties and descriptors. `vars` would do so for a
    module whose import is itself lazy.
    """
    module_name, _, path = name.partition(":")
    value: Any = sys.modules.get(module_name)
    if not issubclass(type(value), types.ModuleType):
        return None
    attributes: Mapping[str, Any] = _MODULE_DICT.__get__(value)
    for part in path.split("."):
        if part.startswith("__") or part not in attributes:
            return None
        value = attributes[part]
        # Only classes are walked through: a module's modules have a name of
        # their own.
        attributes = _CLASS_DICT.__get__(value) if is_class(value) else {}
    return value
