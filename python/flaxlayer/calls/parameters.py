"""The parameters of a function that a user wrote."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

_NO_RESULT: tuple[tuple[Callable[[Any], bool], str], ...] = (
    (inspect.iscoroutinefunction, "which returns a coroutine"),
    (inspect.isasyncgenfunction, "which returns an asynchronous generator"),
    (inspect.isgeneratorfunction, "which returns a generator"),
)


def parameters_of(
    fn: Callable[..., Any], *, layer: str, argument: str
) -> Mapping[str, inspect.Parameter]:
    """The parameters of a user's function.

    Raises:
        TypeError: it is not callable, or returns a generator or a coroutine.
        ValueError: its signature cannot be read.
    """
    if not callable(fn):
        raise TypeError(
            f"{layer}: `{argument}` must be a function. Received: {fn!r} (of "
            f"type {type(fn).__name__})."
        )
    inner = inspect.unwrap(fn)
    for is_one, what in _NO_RESULT:
        if is_one(inner):
            raise TypeError(
                f"{layer}: `{argument}` must return its result. Received: "
                f"{getattr(inner, '__qualname__', inner)}, {what}. JAX traces "
                "plain functions: leave out `async`, return instead of `yield`."
            )
    try:
        return inspect.signature(fn).parameters
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{layer}: the arguments of `{argument}` cannot be read from "
            f"{fn!r}: {error}. Wrap it in a Python function."
        ) from error


def described(parameters: Mapping[str, inspect.Parameter]) -> str:
    """A signature as error messages show it."""
    return f"({', '.join(str(p) for p in parameters.values())})"
