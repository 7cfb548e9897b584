"""A Flax module, a function or a pytree as a plain configuration, and back.

A module is a dataclass, so its class and those of its fields that are not at
their default say all of it. A model file is untrusted input: reading one
imports nothing and runs nothing but the constructors of module classes, see
`name_resolution` for what a name in it may mean.
"""

import functools
import types
from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from flaxlayer.config.decoder import Decoder
from flaxlayer.config.encoder import Config, Encoder
from flaxlayer.config.name_resolution import FUNCTION, WAY_OUT, resolve
from flaxlayer.config.public_names import is_class, is_function


def encode_module(module: nn.Module, *, where: str) -> Config:
    """Writes a Linen module as a configuration.

    Only fields that differ from their default are written. A class with
    `get_config` and `from_config` of its own is written by those.

    Args:
        module: The module. What it is bound to is not written.
        where: The layer and argument it belongs to, for messages.

    Returns:
        Nested dicts, lists and plain values, for JSON and `decode_module`.

    Raises:
        TypeError: If it is no Linen module, or if a field holds what has no
            form that could be read back, such as a lambda.
        ValueError: If a field is too large, or nested too deeply.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"{where} is no `flax.linen.Module`: {module!r:.100}")
    encoder = Encoder(where, type(module).__name__)
    return encoder.encode(module, type(module).__name__)


def decode_module(config: object, *, where: str) -> nn.Module:
    """Reads what `encode_module`, or `keras.layers.FlaxLayer`, wrote.

    Args:
        config: The configuration; it is not changed.
        where: The layer and argument it belongs to, for messages.

    Returns:
        A module that equals the one that was written.

    Raises:
        ValueError: If it is damaged, names what may not be used here, or does
            not fit its classes.
    """
    name = ""
    if isinstance(config, Mapping):
        name = str(config.get("class", config.get("class_name", "")))
    root = name.replace(":", ".").rpartition(".")[2] or "module"
    module = Decoder(config, where, root).decode(config, root)
    if not isinstance(module, nn.Module):
        raise ValueError(
            f"{where} should be a Flax module and is {module!r:.100}"
        )
    return module


def encode_method(method: Any, module: nn.Module, *, where: str) -> Any:
    """Writes the method of a module that a layer calls.

    Args:
        method: A method of the module, its name, a function that takes the
            module, or None.
        module: The module.
        where: The layer and argument it belongs to, for messages.

    Returns:
        The name of the method, or what `encode_function` returns.

    Raises:
        TypeError: If it is a function that cannot be found again by name.
        ValueError: If it is a string and the module has no such method.
    """
    if method is None:
        return None
    if isinstance(method, str):
        _method(method, module, where)
        return method
    function = getattr(method, "__func__", method)
    name = getattr(function, "__name__", None)
    if isinstance(name, str) and _methods(module).get(name) is function:
        return name
    return encode_function(function, where=where)


def decode_method(config: object, module: nn.Module, *, where: str) -> Any:
    """Reads what `encode_method`, or `keras.layers.FlaxLayer`, wrote.

    Args:
        config: The configuration; it is not changed.
        module: The module.
        where: The layer and argument it belongs to, for messages.

    Returns:
        A method bound to the module, a function, or None.

    Raises:
        ValueError: If it is damaged, or names what may not be used here.
    """
    if config is None:
        return None
    if isinstance(config, str):
        return types.MethodType(_method(config, module, where), module)
    return decode_function(config, where=where)


def encode_function(function: Any, *, where: str) -> Any:
    """Writes a function by its name.

    Here a closure is a function like any other, since libraries that turn a
    model into two functions return closures. Reading it in another process
    takes `custom_objects`, by the name it has in its source.

    Args:
        function: A function, a `functools.partial` of one, or None.
        where: The layer and argument it belongs to, for messages.

    Returns:
        The configuration for `decode_function`.

    Raises:
        TypeError: If it is a lambda or not a function.
        ValueError: If an argument of a partial is too large or nested too
            deeply.
    """
    if function is None:
        return None
    if is_function(function) or type(function) is functools.partial:
        return Encoder(where, "", closures=True).encode(function, "")
    raise TypeError(f"{where} is {function!r:.200}, not a function. {WAY_OUT}")


def decode_function(config: object, *, where: str) -> Any:
    """Reads what `encode_function`, or `keras.layers.JaxLayer`, wrote.

    A function of the user's own is found if it is registered with Keras, in
    `custom_objects`, or was written by this process.

    Args:
        config: The configuration; it is not changed.
        where: The layer and argument it belongs to, for messages.

    Returns:
        The function, or None.

    Raises:
        ValueError: If it is damaged, or names what may not be used here.
    """
    if config is None:
        return None
    if isinstance(config, str):
        return resolve(config, FUNCTION, where)
    function = Decoder(config, where, "").decode(config, "")
    if not callable(function) or is_class(function):
        raise ValueError(f"{where} should be a function: {function!r:.100}")
    return function


def encode_tree(tree: Any, *, where: str) -> Any:
    """Writes the structure of a pytree, with arrays by shape and dtype.

    Args:
        tree: Nested dicts, lists, tuples and named tuples of arrays and of
            static leaves, which are written as they are.
        where: The layer and argument it belongs to, for messages.

    Returns:
        The configuration for `decode_tree`.

    Raises:
        TypeError: If it holds a pytree node of another class, or a leaf that
            cannot be written.
        ValueError: If it is nested too deeply.
    """
    return Encoder(where, "", tree=True).encode(tree, "")


def decode_tree(config: object, *, where: str) -> Any:
    """Reads what `encode_tree` wrote.

    Args:
        config: The configuration; it is not changed.
        where: The layer and argument it belongs to, for messages.

    Returns:
        The pytree, with a `jax.ShapeDtypeStruct` for each array.

    Raises:
        ValueError: If it is damaged, or names what may not be used here.
    """
    return Decoder(config, where, "").decode(config, "")


def _methods(module: nn.Module) -> dict[str, types.FunctionType]:
    """The methods of a module's class that are not those of every module."""
    methods: dict[str, types.FunctionType] = {}
    for cls in reversed(type(module).__mro__):
        if cls not in nn.Module.__mro__:
            for name, value in vars(cls).items():
                # An override that is no method hides the method.
                methods.pop(name, None)
                if isinstance(value, types.FunctionType):
                    methods[name] = value
    return methods


def _method(name: str, module: nn.Module, where: str) -> types.FunctionType:
    method = _methods(module).get(name)
    if method is None or (name.startswith("__") and name != "__call__"):
        raise ValueError(
            f"{where} names {name!r:.100}, which is no method that "
            f"`{type(module).__name__}` defines."
        )
    return method
