"""The form in which Keras writes an object, read without trusting it.

`{"module", "class_name", "config", "registered_name"}` is what Keras makes of
a registered object, and what `keras.layers.FlaxLayer` writes. Keras's own
reader may import a module that such a dict names, anywhere inside it, so all
of it is looked through first.
"""

import copy
import sys
from collections.abc import Mapping
from typing import Any

import keras

from flaxlayer.config.name_resolution import (
    FUNCTION,
    MODULE_CLASS,
    Kind,
    name_here,
    registered_name,
    resolve,
)
from flaxlayer.config.public_names import is_class, public_object
from flaxlayer.keras_compat import in_safe_mode

# Where Keras keeps small objects a module may be configured with. Not layers
# and models, some of which read files.
_NAMESPACES = (
    "keras.constraints",
    "keras.dtype_policies",
    "keras.initializers",
    "keras.losses",
    "keras.metrics",
    "keras.quantizers",
    "keras.random",
    "keras.regularizers",
)
_VALUES = ("__bytes__", "__ellipsis__", "__numpy__", "__slice__", "__tensor__")


def has_own_config(value: Any) -> bool:
    """Whether the class of `value` says itself how it is configured."""
    return all(
        callable(getattr(type(value), name, None))
        for name in ("get_config", "from_config")
    )


def is_keras_form(config: Mapping[str, Any]) -> bool:
    """Whether Keras would take this dict for an object."""
    return "class_name" in config and "config" in config


def encode_module(module: Any) -> dict[str, Any]:
    """Writes a Flax module by its own `get_config`, as Keras does."""
    # Keras has no other name for a class that is not registered.
    cls = type(module)
    name_here(f"{cls.__module__}:{cls.__name__}", cls)
    return keras.saving.serialize_keras_object(module)


def encode_object(value: Any) -> dict[str, Any] | None:
    """Writes an object of Keras or a registered class; None if it is neither.

    Args:
        value: Any object.

    Returns:
        The dict Keras makes of it, or None.
    """
    if not has_own_config(value):
        return None
    node = keras.saving.serialize_keras_object(value)
    known = registered_name(type(value)) or _builtin(node) is not None
    return node if known else None


def decode_function(form: Mapping[str, Any], site: str) -> Any:
    """Reads a function in Keras's form.

    Args:
        form: A dict whose `class_name` is `function` or `__lambda__`.
        site: Where it stands, for messages.

    Returns:
        The function.

    Raises:
        ValueError: If it is a lambda and safe mode is on, or names no function
            that may be used.
    """
    if form["class_name"] == "__lambda__":
        _refuse_lambda(site)
        return keras.saving.deserialize_keras_object(
            dict(form), safe_mode=False
        )
    module, name = form.get("module"), form["config"]
    names = [name, form.get("registered_name")]
    if module in ("builtins", "keras.activations"):
        names.append(f"keras.activations:{name}")
    return _first([*names, f"{module or '__main__'}:{name}"], FUNCTION, site)


def decode_object(form: Mapping[str, Any], site: str) -> Any:
    """Reads an object in Keras's form.

    Args:
        form: A dict for which `is_keras_form` holds.
        site: Where it stands, for messages.

    Returns:
        The object.

    Raises:
        ValueError: If it, or anything inside it, is of a class that may not be
            used, or if its `from_config` fails.
    """
    _check_names(form, site)
    if form["class_name"] in ("function", "__lambda__"):
        return decode_function(form, site)
    cls = _module_class(form, site)
    _check(form if cls is None else form["config"], site)
    try:
        if cls is not None:
            return cls.from_config(copy.deepcopy(form["config"]))
        return keras.saving.deserialize_keras_object(
            copy.deepcopy(dict(form)), safe_mode=in_safe_mode()
        )
    except Exception as error:
        raise ValueError(
            f"{site} is a {form['class_name']!r:.100} that cannot be made of "
            f"its configuration: {error}"
        ) from error


def _module_class(form: Mapping[str, Any], site: str) -> Any:
    """The Flax module class it is an instance of; None if it is none."""
    # Keras itself knows no class that is only imported.
    module, name = form.get("module"), form["class_name"]
    names = [form.get("registered_name"), f"{module or '__main__'}:{name}"]
    try:
        cls = _first(names, MODULE_CLASS, site)
    except ValueError:
        if _is_known(form):
            return None
        raise
    if not callable(getattr(cls, "from_config", None)):
        raise ValueError(
            f"{site} was written by `{cls.__name__}.get_config`, and the class "
            "has no `from_config` now."
        )
    return cls


def _first(names: list[Any], kind: Kind, site: str) -> Any:
    *others, last = [name for name in names if name is not None]
    for name in others:
        try:
            return resolve(name, kind, site)
        except ValueError:
            continue
    return resolve(last, kind, site)


def _check(config: Any, site: str) -> None:
    """Refuses whatever would make Keras import a module or run other code."""
    pending = [config]
    while pending:
        part = pending.pop()
        if isinstance(part, list | tuple):
            pending.extend(part)
        if not isinstance(part, Mapping):
            continue
        pending.extend(part.values())
        if is_keras_form(part):
            _check_names(part, site)
            if part["class_name"] == "__lambda__":
                _refuse_lambda(site)
            elif not _is_known(part):
                raise ValueError(
                    f"{site} holds {part['class_name']!r:.100} "
                    f"{part['config']!r:.100} of {part.get('module')!r:.100}, "
                    "which is neither registered with Keras, nor in "
                    "`custom_objects`, nor something that Keras configures "
                    "other objects with."
                )


def _check_names(form: Mapping[str, Any], site: str) -> None:
    optional = (form.get("module"), form.get("registered_name"))
    if not isinstance(form["class_name"], str) or not all(
        name is None or isinstance(name, str) for name in optional
    ):
        raise ValueError(f"{site} is damaged: {dict(form)!s:.200}")


def _is_known(form: Mapping[str, Any]) -> bool:
    """Whether Keras finds what this names without looking into modules.

    The lookup has to be the one of Keras, and under the same key: Keras goes
    on to import the module it is in where that fails.
    """
    module, name = form.get("module"), form["class_name"]
    if name in _VALUES:
        return True
    if name == "function":
        function = form["config"]
        return isinstance(function, str) and (
            keras.saving.get_registered_object(function) is not None
            or (
                module in ("builtins", "keras.activations")
                and public_object(f"keras.activations:{function}") is not None
            )
        )
    key = form.get("registered_name", name)
    return (
        keras.saving.get_registered_object(key) is not None
        or _builtin(form) is not None
    )


def _builtin(form: Mapping[str, Any]) -> Any:
    module, name = form.get("module"), form["class_name"]
    if module not in _NAMESPACES or module not in sys.modules:
        return None
    value = vars(sys.modules[module]).get(name)
    usable = is_class(value) and callable(getattr(value, "from_config", None))
    return value if usable else None


def _refuse_lambda(site: str) -> None:
    if in_safe_mode():
        raise ValueError(
            f"{site} is a lambda, whose code comes with the file. It is read "
            "only with `safe_mode=False`."
        )
