"""Representations that fit on a line, whatever is represented.

The `repr` of a Flax module spans lines, names every submodule and prints the
arrays in its fields; that of a layer stands in error messages and logs.
"""

import dataclasses
import functools
import reprlib
from typing import Any

import flax.linen as nn

from flaxlayer.calls.call_arguments import is_array

_LONGEST = 100


def of_layer(layer: Any, *attributes: str) -> str:
    """The form Keras gives its layers, and what the layer is made of.

    Never fails, so that a layer can be shown while it is being constructed:
    what it does not have yet is left out.

    Args:
        layer: a Keras layer.
        *attributes: names of attributes to show unless they are `None`.

    Returns:
        One line, such as
        `<FlaxLayer name=head, built=True, module=Dense(features=3)>`.
    """
    shown = [
        f"{name}={getattr(layer, name)}"
        for name in ("name", "built")
        if _held(layer, name) is not None
    ]
    for name in attributes:
        value = _held(layer, name)
        if value is not None:
            shown.append(f"{name}={of(value)}")
    return f"<{type(layer).__name__} {', '.join(shown)}>".replace(" >", ">")


def of(value: Any) -> str:
    """`repr(value)` on one line of at most 100 characters; never fails."""
    try:
        text = " ".join(_Short().repr(value).split())
    except Exception:
        text = f"<{type(value).__name__}>"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _held(owner: Any, name: str) -> Any:
    try:
        return getattr(owner, name, None)
    except Exception:  # A property of an object that is not complete.
        return None


class _Short(reprlib.Repr):
    """Modules by their fields, arrays by their shapes, functions by name."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxother = _LONGEST

    def repr_instance(self, x: Any, level: int) -> str:
        if isinstance(x, nn.Module):
            return self._repr_module(x, level)
        if is_array(x):
            shape = ",".join(str(size) for size in x.shape)
            return f"{x.dtype}[{shape}]"
        if isinstance(x, type) or callable(x):
            name = getattr(x, "__qualname__", None)
            if name is not None:
                return name.rpartition("<locals>.")[2]
        return super().repr_instance(x, level)

    def repr_partial(self, x: functools.partial, level: int) -> str:
        arguments = [self.repr1(arg, level - 1) for arg in x.args]
        arguments += [
            f"{name}={self.repr1(value, level - 1)}"
            for name, value in x.keywords.items()
        ]
        function = self.repr1(x.func, level - 1)
        return f"partial({', '.join([function, *arguments])})"

    def _repr_module(self, module: nn.Module, level: int) -> str:
        name = type(module).__name__
        if level <= 0:
            return f"{name}(...)"
        fields = [
            f"{field.name}={self.repr1(value, level - 1)}"
            for field, value in _set_fields(module)
        ]
        return f"{name}({', '.join(fields)})"


def _set_fields(module: nn.Module) -> list[tuple[Any, Any]]:
    """The fields of a module that are not at their default."""
    found = []
    for field in dataclasses.fields(module):
        if field.name in ("parent", "name"):
            continue
        value = _held(module, field.name)
        if value is not None and not _same(value, field.default):
            found.append((field, value))
    return found


def _same(value: Any, default: Any) -> bool:
    if value is default:
        return True
    try:
        return type(value) is type(default) and bool(value == default)
    except Exception:  # Arrays have no one answer.
        return False
