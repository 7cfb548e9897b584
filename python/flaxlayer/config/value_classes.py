"""Classes that only hold values: no code of theirs runs by itself.

A file may name such a class wherever it is imported from, since all it gets by
that is a tuple or an object with the fields it says. Anything with code that
runs unasked is another matter: a `__post_init__` runs when a file is read, and
an object with a `__call__` could stand where a file may not put a function.
"""

import abc
import enum
import inspect
import types
from typing import Any

# What the standard library compiles for dataclasses and named tuples comes
# from no file. Should that change, they are refused.
_GENERATED = "<string>"
_STANDARD = ("builtins", "dataclasses", "enum", "typing")
_METACLASSES = (type, abc.ABCMeta, enum.EnumMeta)
# For comparing, showing, copying and deriving classes.
_HARMLESS = frozenset(
    {
        "__annotate__",
        "__annotate_func__",
        "__class_getitem__",
        "__copy__",
        "__deepcopy__",
        "__eq__",
        "__format__",
        "__ge__",
        "__getnewargs__",
        "__getstate__",
        "__gt__",
        "__hash__",
        "__init_subclass__",
        "__le__",
        "__lt__",
        "__ne__",
        "__reduce__",
        "__reduce_ex__",
        "__replace__",
        "__repr__",
        "__setstate__",
        "__sizeof__",
        "__str__",
    }
)
# The members of an enum were made when it was defined.
_HARMLESS_IN_ENUMS = frozenset({"__init__", "__new__", "__new_member__"})


def own_code(cls: Any) -> str | None:
    """What keeps a class from being one that only holds values.

    Args:
        cls: A dataclass, a named tuple class or an enum.

    Returns:
        The name of a method, or of a field whose assignment runs code; None
        if there is neither. Methods that somebody has to call do not count.
    """
    if type(cls) not in _METACLASSES:
        return type(cls).__name__
    harmless = _HARMLESS
    if issubclass(cls, enum.Enum):
        harmless |= _HARMLESS_IN_ENUMS
    for name, value in _attributes(cls).items():
        special = name.startswith("__") and name.endswith("__")
        if special and name not in harmless and _is_code(value):
            return name
    for name in getattr(cls, "__dataclass_fields__", ()):
        kind = type(inspect.getattr_static(cls, name, None))
        if hasattr(kind, "__set__") and kind is not types.MemberDescriptorType:
            return name
    return None


def _attributes(cls: type) -> dict[str, Any]:
    """What the class has that is not of the standard library's bases."""
    attributes: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if base.__module__ not in _STANDARD:
            attributes.update(vars(base))
    return attributes


def _is_code(value: Any) -> bool:
    if isinstance(value, staticmethod | classmethod):
        value = value.__func__
    if isinstance(value, property):
        return True
    if isinstance(value, types.FunctionType):
        return (
            value.__code__.co_filename != _GENERATED
            and value.__module__ not in _STANDARD
        )
    return callable(value)
