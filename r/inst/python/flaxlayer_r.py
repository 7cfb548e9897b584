"""What the R package flaxlayer needs on Python's side of reticulate.

Pytrees cross to R as nested lists. reticulate makes the same of tuples and of
lists, and vectors of lists of numbers, so that a tree that went to R and came
back would have another structure: here sequences are marked by their type.
"""

import inspect
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

# Keys of dicts that stand for something else. No model has weights of the name.
_TUPLE = "__python_tuple__"
_LIST = "__python_list__"

_INTEGERS_OF_R = ("int8", "int16", "int32", "uint8", "uint16")


def marked(tree: Any) -> Any:
    """A tree whose sequences say what they are."""
    if type(tree) is dict:
        return {key: marked(value) for key, value in tree.items()}
    if type(tree) is tuple:
        return {_TUPLE: [marked(value) for value in tree]}
    if type(tree) is list:
        return {_LIST: [marked(value) for value in tree]}
    return tree


def python_function(
    function: Callable[..., Any],
    name: str,
    arguments: Sequence[str],
    optional: Sequence[bool],
    any_thread: bool,
) -> Callable[..., Any]:
    """A function with the arguments that an R function has.

    Args:
        function: the R function, as reticulate gives it to Python.
        name: how it is called in messages.
        arguments: the names of its arguments.
        optional: which of them have a default.
        any_thread: whether reticulate lets other threads wait for R's; it ends
            the process if not.

    Returns:
        A function whose signature can be inspected. It raises a `RuntimeError`
        on a thread on which it may not call R.
    """
    # R lets arguments with a default stand before those without.
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    if sorted(optional) != list(optional):
        kind = inspect.Parameter.KEYWORD_ONLY
    signature = inspect.Signature(
        [
            inspect.Parameter(
                argument,
                kind,
                default=None if has_default else inspect.Parameter.empty,
            )
            for argument, has_default in zip(arguments, optional, strict=True)
        ]
    )

    def call(*args: Any, **kwargs: Any) -> Any:
        thread = threading.current_thread()
        if not any_thread and thread is not threading.main_thread():
            raise RuntimeError(
                f"`{name}` is a function of R, which can be called on R's main "
                f"thread only; reticulate 1.39 lifts that. Received: a call on "
                f"the thread {thread.name!r}."
            )
        given = signature.bind(*args, **kwargs).arguments
        return function(**{key: marked(value) for key, value in given.items()})

    call.__name__ = name
    # One of a closure, which is in no file by its name unless it is registered.
    call.__qualname__ = f"{python_function.__name__}.<locals>.{name}"
    vars(call)["__signature__"] = signature
    return call


def registered(
    function: Callable[..., Any], package: str, name: str
) -> Callable[..., Any]:
    """Registers a function with Keras as `package>name`."""
    # Not before it is needed: who imports Keras first decides its backend.
    import keras

    return keras.saving.register_keras_serializable(package, name)(function)


def array_of(data: bytearray, dtype: str, shape: Sequence[int]) -> np.ndarray:
    """The array whose elements R has written in its order, column by column."""
    return np.frombuffer(data, dtype).reshape(tuple(shape), order="F")


def parts_of(value: Any) -> dict[str, Any]:
    """An array as R reads it.

    Args:
        value: an array of NumPy or JAX, a scalar of theirs, or a Keras
            variable or tensor.

    Returns:
        Its type in R, its shape, and its elements, column by column.

    Raises:
        TypeError: its elements are neither numbers nor booleans.
    """
    array = np.asarray(value)
    if array.dtype == bool:
        kind, dtype = "logical", "<i4"
    elif array.dtype.name in _INTEGERS_OF_R:
        kind, dtype = "integer", "<i4"
    elif array.dtype.kind == "c":
        kind, dtype = "complex", "<c16"
    else:
        kind, dtype = "double", "<f8"
    try:
        elements = array.astype(dtype)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"An array of {array.dtype} cannot be one of R: {error}"
        ) from error
    return {
        "kind": kind,
        "shape": [*array.shape],
        "data": bytearray(elements.tobytes(order="F")),
    }


def is_array(value: Any) -> bool:
    """Whether `parts_of` takes a value."""
    return hasattr(value, "dtype") and hasattr(value, "__array__")
