"""A Flax module, a function or a pytree as a plain configuration, and back.

A module is a dataclass, so its class and those of its fields that are not at
their default say all of it. A model file is untrusted input: reading one
imports nothing but NNX and runs nothing but constructors of module classes, see
`name_resolution` for what a name in it may mean. Building the layer afterwards
traces a method of the module, see `name_method` for which.
"""

import functools
import inspect
import types
import weakref
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import keras

from flaxlayer import imported_nnx
from flaxlayer.config.decoder import Decoder
from flaxlayer.config.encoder import Config, Encoder
from flaxlayer.config.name_resolution import (
    FUNCTION,
    WAY_OUT,
    registered_name,
    resolve,
)
from flaxlayer.config.public_names import is_class, is_function
from flaxlayer.keras_compat import in_safe_mode

_CALL = "__call__"
# The methods that the program itself has made layers of, by class.
_named_methods: weakref.WeakKeyDictionary[type, set[str]] = (
    weakref.WeakKeyDictionary()
)
# The forms in which a function is written. Objects that can be called are
# more than functions, and would be run by their own `__call__`.
_FUNCTION_FORMS = ("function", "initializer", "partial")


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


def encode_factory(factory: Any, *, where: str) -> Config:
    """Writes a class of NNX modules, or a partial of one.

    Args:
        factory: What makes the module, but for its `rngs`.
        where: The layer and argument it belongs to, for messages.

    Returns:
        Nested dicts, lists and plain values, for JSON and `decode_factory`.

    Raises:
        TypeError: If an argument has no form that could be read back.
        ValueError: If one is too large, or nested too deeply.
    """
    return Encoder(where, "module").encode(factory, "module")


def is_factory(config: object) -> bool:
    """Whether a configuration is one that `encode_factory` wrote."""
    while isinstance(config, Mapping) and config.get("type") == "partial":
        config = config.get("function")
    return isinstance(config, Mapping) and config.get("type") == "nnx_class"


def decode_factory(config: object, *, where: str) -> Any:
    """Reads what `encode_factory` wrote.

    Args:
        config: The configuration; it is not changed.
        where: The layer and argument it belongs to, for messages.

    Returns:
        A class, or a partial of one.

    Raises:
        ValueError: If it is damaged, or names what may not be used here.
    """
    if not is_factory(config):
        raise ValueError(
            f"{where} should be a class of NNX modules, or a partial of one, "
            f"and is {config!r:.100}"
        )
    return Decoder(config, where, "module").decode(config, "module")


def encode_method(method: Any, cls: type, *, where: str) -> Any:
    """Writes the method of a module that a layer calls.

    Args:
        method: A method of the module, its name, a function that takes the
            module, or None.
        cls: The class of the module.
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
        _method(method, cls, where)
        return method
    name = _own_name(method, cls)
    if name is not None:
        return name
    return encode_function(getattr(method, "__func__", method), where=where)


def name_method(method: Any, cls: type) -> None:
    """Lets files name a method for modules of this class.

    Building a layer runs the method that its file names. Any class that is
    imported may be named, and a class may have methods that were never meant
    to be run on what a file says; so all but `__call__` are the program's to
    name: by making a layer of the class with the method, which is noted here,
    by registering it with Keras, or by passing it as a custom object.

    Args:
        method: A method of the module, its name, a function that takes the
            module, or None.
        cls: The class of the module.
    """
    name = method if isinstance(method, str) else _own_name(method, cls)
    if name is not None:
        _named_methods.setdefault(cls, set()).add(name)


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
    if isinstance(config, str):
        decode_method_of_class(config, type(module), where=where)
        return types.MethodType(_method(config, type(module), where), module)
    return decode_method_of_class(config, type(module), where=where)


def decode_method_of_class(config: object, cls: type, *, where: str) -> Any:
    """Reads what `encode_method` wrote, where there is no module yet.

    Args:
        config: The configuration; it is not changed.
        cls: The class of the module.
        where: The layer and argument it belongs to, for messages.

    Returns:
        The name of a method, a function, or None.

    Raises:
        ValueError: If it is damaged, or names what may not be used here.
    """
    if config is None:
        return None
    if isinstance(config, str):
        method = _method(config, cls, where)
        if in_safe_mode() and not _may_be_named(config, method, cls):
            name = f"{cls.__name__}.{config}"
            raise ValueError(
                f"{where} names `{name}`, which would be run to build the "
                "layer. Of an imported class a file may only name `__call__`, "
                "and methods that the program has named itself. If you trust "
                "it, register the method, with "
                "`@keras.saving.register_keras_serializable()` before its "
                "`def`, or pass it as "
                f"`custom_objects={{{config!r}: {name}}}`, or load with "
                "`safe_mode=False`."
            )
        return config
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
    function = None
    if not isinstance(config, Mapping) or _is_function_form(config):
        function = Decoder(config, where, "").decode(config, "")
    if not callable(function) or is_class(function):
        raise ValueError(f"{where} should be a function: {config!s:.200}")
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


def _methods(cls: type) -> dict[str, types.FunctionType]:
    """The methods of a class of modules that are not those of every module."""
    bases = {
        base
        for module in (nn.Module, *imported_nnx.module_classes())
        for base in module.__mro__
    }
    methods: dict[str, types.FunctionType] = {}
    for owner in reversed(cls.__mro__):
        if owner not in bases:
            for name, value in vars(owner).items():
                # An override that is no method hides the method.
                methods.pop(name, None)
                if isinstance(value, types.FunctionType):
                    methods[name] = value
    return methods


def _own_name(method: Any, cls: type) -> str | None:
    """The name of a method of the class; None if it is none."""
    function = getattr(method, "__func__", method)
    name = getattr(function, "__name__", None)
    found = isinstance(name, str) and _methods(cls).get(name) is function
    return name if found else None


def _may_be_named(name: str, method: types.FunctionType, cls: type) -> bool:
    if name == _CALL or name in _named_methods.get(cls, ()):
        return True
    # Flax wraps methods: what was registered in the class is inside.
    function = inspect.unwrap(method)
    if registered_name(method) or registered_name(function):
        return True
    custom = keras.saving.get_registered_object(name)
    return custom is not None and inspect.unwrap(custom) is function


def _is_function_form(config: Mapping[str, Any]) -> bool:
    return config.get("type") in _FUNCTION_FORMS or config.get(
        "class_name"
    ) in ("function", "__lambda__")


def _method(name: str, cls: type, where: str) -> types.FunctionType:
    method = _methods(cls).get(name)
    if method is None or (name.startswith("__") and name != _CALL):
        raise ValueError(
            f"{where} names {name!r:.100}, which is no method that "
            f"`{cls.__name__}` defines."
        )
    return method
