"""Names in a configuration: which object a name may mean, and back.

A model file is untrusted, and a name in it is the only way it has of reaching
code. So a name is looked up, never imported, and the lookup runs no code: it
reads the dictionaries of modules and classes. Only `flax.nnx` is imported for
names in it, a part of Flax, which is there. In this order:

1. custom objects and objects registered with Keras, by the whole name and,
   outside the namespaces in `PUBLIC`, by its last component;
2. the harmless functions of JAX, Flax and NumPy, see `public_names`;
3. modules that are imported already, for Flax module classes, configurations
   of Transformers, and classes that only hold values, see `value_classes` (for
   anything of the right kind when the user has disabled safe mode);
4. objects this very process has given the name to.
"""

import dataclasses
import enum
import inspect
import re
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import keras

from flaxlayer import imported_nnx
from flaxlayer.config import project_configs
from flaxlayer.config.imported_names import imported
from flaxlayer.config.public_names import (
    PUBLIC,
    is_class,
    is_function,
    is_subclass,
    public_name,
    public_object,
)
from flaxlayer.config.value_classes import own_code
from flaxlayer.keras_compat import in_safe_mode


def _is_callable_object(value: object) -> bool:
    return not is_class(value) and callable(value)


@dataclasses.dataclass(frozen=True)
class Kind:
    """What a name has to mean at the place where it stands.

    Attributes:
        label: The words for it in a message.
        matches: Whether an object is of this kind.
        accepts: The same for objects the user passes or registers.
        importable: Whether an object of this kind may be found in any imported
            module under safe mode; None if none may be.
    """

    label: str
    matches: Callable[[object], bool]
    accepts: Callable[[object], bool]
    importable: Callable[[object], bool] | None = None

    def has_instance(self, value: object) -> bool:
        """Whether `value` is an instance of a class of this kind."""
        return self.matches(type(value))


def _holds_values(cls: object) -> bool:
    return own_code(cls) is None


def _kind(
    label: str,
    matches: Callable[[object], bool],
    importable: Callable[[object], bool] = _holds_values,
) -> Kind:
    return Kind(label, matches, matches, importable)


MODULE_CLASS = _kind(
    "a `flax.linen.Module` class",
    lambda value: is_subclass(value, nn.Module),
    importable=lambda cls: True,
)
NNX_CLASS = _kind(
    "a `flax.nnx.Module` class",
    lambda value: is_subclass(value, *imported_nnx.module_classes()),
    importable=lambda cls: True,
)
TRANSFORMERS_CONFIG = _kind(
    "a `transformers.PretrainedConfig` class",
    project_configs.is_transformers_class,
    importable=lambda cls: True,
)
FUNCTION = Kind("a function", is_function, _is_callable_object)
ENUM_CLASS = _kind("an enum", lambda value: is_subclass(value, enum.Enum))
DATACLASS = _kind(
    "a dataclass",
    lambda value: (
        is_class(value)
        and dataclasses.is_dataclass(value)
        and not is_subclass(value, nn.Module)
    ),
)
NAMED_TUPLE = _kind(
    "a named tuple class",
    lambda value: is_subclass(value, tuple) and hasattr(value, "_fields"),
)

# Classes and functions that this process has itself put into a configuration,
# so that it can read what it wrote: a class defined in a function, a function
# that is registered nowhere. Only the running program adds to this, by making
# a layer of the object, so a file cannot reach anything new through it. What a
# name means elsewhere is up to the order of lookup above.
_named_here: weakref.WeakValueDictionary[str, Any] = (
    weakref.WeakValueDictionary()
)

WAY_OUT = (
    "Use a module-level function, registered with "
    "`keras.saving.register_keras_serializable()`, or a `functools.partial` "
    "of one, or give the module class `get_config` and `from_config`."
)


def name_of(value: Any, kind: Kind, site: str, closures: bool = False) -> str:
    """The name to write for `value`, for `resolve` to find it by.

    A registered name, a public import path such as `jax.nn:relu`, or the
    import path by its own account. Two classes of one path, such as those
    that two runs of the same function define, are told apart in this process
    by `#2`, `#3`; elsewhere that ending means nothing.

    Args:
        value: A class or function.
        kind: Its kind.
        site: Where it stands, for messages.
        closures: Whether a closure is named as well. Its name does not say
            what it has captured, so reading it elsewhere is up to
            `custom_objects`.

    Returns:
        The name.

    Raises:
        TypeError: If it is a lambda or a closure, or has no name at all.
    """
    registered = registered_name(value)
    if registered is not None:
        return registered
    public = public_name(value)
    if public is not None:
        return public
    module = getattr(value, "__module__", None)
    qualname = getattr(value, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(qualname, str):
        raise TypeError(
            f"{site} is {kind.label} without a name, {value!r}. {WAY_OUT}"
        )
    name = f"{module}:{qualname}"
    if imported(name) is value:
        _named_here[name] = value
        return name
    if kind is FUNCTION:
        _refuse_anonymous(value, qualname, site, closures)
    return _remember(name, value)


def resolve(name: object, kind: Kind, site: str) -> Any:
    """The object that a name in a configuration means.

    Args:
        name: The name, as the configuration has it.
        kind: What it has to be.
        site: Where it stands, for messages.

    Returns:
        The object.

    Raises:
        ValueError: If it is no name, or means nothing that is allowed here.
    """
    if not isinstance(name, str) or not 0 < len(name) <= 500:
        raise ValueError(f"{site} should name {kind.label}, not {name!r:.100}.")
    plain = re.sub(r"#\d+$", "", name)
    # What is in Flax is found, whichever part of it is imported.
    imported_nnx.import_for(plain)
    for value in _candidates(name, plain, kind):
        if value is not None:
            return value
    module, _, _ = plain.rpartition(":")
    short = _short(plain)
    advice = f"pass it as `custom_objects={{{short!r}: ...}}`"
    found = _of_kind(imported(plain), kind)
    why = ""
    if found is not None and kind.importable is _holds_values:
        why = (
            f"`{short}` is imported, and has code of its own that a file could "
            f"run, `{own_code(found)}`. "
        )
    elif kind.importable is not None and module not in ("", "__main__"):
        advice = f"import `{module}` before loading, or {advice}"
    register = "register it with `keras.saving.register_keras_serializable()`"
    if kind is FUNCTION:
        advice += f", or {register}"
    elif kind in (MODULE_CLASS, NNX_CLASS):
        # Keras registers no class without.
        advice += f", or give it `get_config` and `from_config` and {register}"
    raise ValueError(
        f"{site} names {name!r}, which is not {kind.label} that may be used "
        "here. A file may only name what the program has already imported, "
        "registered or passed, and of JAX, Flax and NumPy only functions that "
        f"cannot do harm. {why}If you trust it and it is your own, {advice}."
    )


def registered_name(value: Any) -> str | None:
    """The name under which Keras has `value` registered, if it has."""
    try:
        name = keras.saving.get_registered_name(value)
    except (AttributeError, TypeError):  # No name, or not hashable.
        return None
    # Without a registration Keras answers with the plain Python name.
    registered = keras.saving.get_custom_objects().get(name)
    return name if registered is value and ">" in name else None


def name_here(name: str, value: Any) -> None:
    """Lets `name` mean `value` in this process, if it means nothing else."""
    _named_here[name] = value


def _candidates(name: str, plain: str, kind: Kind) -> Iterator[Any]:
    yield _custom(plain, kind)
    if name != plain:
        yield _of_kind(_named_here.get(name), kind)
    yield _of_kind(public_object(plain), kind)
    found = _of_kind(imported(plain), kind)
    if found is not None and (
        (kind.importable is not None and kind.importable(found))
        or not in_safe_mode()
    ):
        yield found
    yield _of_kind(_named_here.get(plain), kind)


def _of_kind(value: Any, kind: Kind) -> Any:
    return value if value is not None and kind.matches(value) else None


def _custom(name: str, kind: Kind) -> Any:
    keys = [name]
    # An entry "relu" is not meant to replace the one of JAX.
    if name.partition(":")[0] not in PUBLIC:
        keys.append(_short(name))
    for key in keys:
        value = keras.saving.get_registered_object(key)
        if value is not None and kind.accepts(value):
            return value
    return None


def _short(name: str) -> str:
    return re.split("[.:>]", name)[-1]


def _refuse_anonymous(
    function: Any, qualname: str, site: str, closures: bool
) -> None:
    if qualname.rpartition(".")[2] == "<lambda>":
        raise TypeError(f"{site} is a lambda. {WAY_OUT}")
    inner = inspect.unwrap(function)
    captured = getattr(getattr(inner, "__code__", None), "co_freevars", ())
    if captured and not closures:
        raise TypeError(
            f"{site} is a closure, {function!r}: a function made by another, "
            f"which holds on to {', '.join(f'`{n}`' for n in captured)}. "
            f"{WAY_OUT}"
        )


def _remember(name: str, value: Any) -> str:
    slot, number = name, 1
    # The slot of an object that is gone is taken again, so that a class
    # defined anew goes by the plain name.
    while (other := _named_here.get(slot)) is not None and other is not value:
        number += 1
        slot = f"{name}#{number}"
    _named_here[slot] = value
    return slot
