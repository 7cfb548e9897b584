"""The method of a module that a layer calls."""

import inspect
from collections.abc import Callable
from typing import Any


def resolved(
    method: Any, module: Any, base: type, layer: str
) -> tuple[Callable[..., Any], bool]:
    """The method as a function, and whether it already has its module.

    Args:
        method: a function, the name of a method, or `None` for `__call__`.
        module: whose method it is.
        base: the class that all such modules have, `flax.linen.Module`.
        layer: how error messages call the layer.

    Raises:
        TypeError: `method` is something else.
        ValueError: there is no method of that name, or it is bound to another
            module.
    """
    if method is None:
        method = "__call__"
    if not isinstance(method, str):
        if not callable(method):
            raise TypeError(
                f"{layer}: `method` must be a function, the name of a method, "
                f"or `None` for `__call__`. Received: {method!r} (of type "
                f"{type(method).__name__})."
            )
        owner = getattr(method, "__self__", None)
        if isinstance(owner, base) and not _equal(owner, module):
            raise ValueError(
                f"{layer}: `method` is bound to another module than `module`, "
                "whose fields Flax would not use. Pass its name, "
                f"{method.__name__!r}. Received: a method of another "
                f"{type(owner).__name__}."
            )
        return method, hasattr(method, "__self__")
    check_name(method, type(module), base, layer)
    return getattr(module, method), True


def check_name(method: str, cls: type, base: type, layer: str) -> None:
    """Reports the name of a method that a class of modules does not define.

    Raises:
        ValueError: it does not, or the method is that of every module.
    """
    # Any class can be called, so `getattr` alone would find a `__call__`.
    defined = any(method in vars(owner) for owner in cls.__mro__)
    found = getattr(cls, method) if defined else None
    # `init`, `apply` and the like are those of every module.
    if not callable(found) or found is getattr(base, method, None):
        raise ValueError(
            f"{layer}: `method` must be the name of a method that "
            f"{cls.__name__} defines, a function, or `None` for "
            f"`__call__`. Received: {method!r}, of the methods "
            f"{_names(cls, base)}."
        )


def _names(cls: type, base: type) -> list[str]:
    """The public methods that a class of modules defines, and `__call__`."""
    found = {
        name
        for owner in cls.__mro__
        if owner not in base.__mro__
        for name, value in vars(owner).items()
        if inspect.isfunction(value)
        and (name == "__call__" or not name.startswith("_"))
    }
    return sorted(found - {"setup"})


def _equal(a: Any, b: Any) -> bool:
    try:
        return a is b or bool(a == b)
    except ValueError:  # Arrays among the fields.
        return False
