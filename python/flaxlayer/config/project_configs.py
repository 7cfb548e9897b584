"""Configurations of ml_collections and Transformers, as values and back.

Neither library is needed by this package: an object of theirs can only be met
where they are imported, and is only read where they are.
"""

from collections.abc import Mapping
from typing import Any

from flaxlayer.config.imported_names import imported
from flaxlayer.config.public_names import is_subclass

_CONFIG_DICT = "ml_collections:ConfigDict"
_FROZEN_CONFIG_DICT = "ml_collections:FrozenConfigDict"
_TRANSFORMERS_CONFIG = "transformers.configuration_utils:PretrainedConfig"
# Options of a `ConfigDict`, by the names of its properties.
_OPTIONS = {
    "type_safe": "is_type_safe",
    "convert_dict": "convert_dict",
    "allow_dotted_keys": "allow_dotted_keys",
}
_LOCKED = "locked"
FLAGS = (*_OPTIONS, _LOCKED)
# What `to_dict` of Transformers adds: these go without saying, by the class
# and by what is installed.
_ADDED = ("model_type", "transformers_version")


def is_config_dict(value: object) -> bool:
    """Whether it is a `ConfigDict` or `FrozenConfigDict`, not a subclass."""
    classes = (imported(_CONFIG_DICT), imported(_FROZEN_CONFIG_DICT))
    return any(type(value) is cls for cls in classes)


def config_dict_parts(value: Any) -> tuple[bool, list[str], list[Any]]:
    """What a `ConfigDict` consists of.

    References between its fields are followed: they become values.

    Args:
        value: A `ConfigDict` or `FrozenConfigDict`.

    Returns:
        Whether it is frozen, which of `FLAGS` are set, and its items.
    """
    frozen = type(value) is imported(_FROZEN_CONFIG_DICT)
    # The other form remembers what were lists before they were frozen.
    plain = value.as_configdict() if frozen else value
    flags = [
        option
        for option, name in _OPTIONS.items()
        # Asked of the class: any other attribute is a field.
        if hasattr(type(plain), name) and getattr(plain, name)
    ]
    if plain.is_locked:
        flags.append(_LOCKED)
    return frozen, flags, list(plain.items())


def config_dict(
    frozen: bool, flags: list[str], items: Mapping[Any, Any], site: str
) -> Any:
    """Makes a `ConfigDict` of what `config_dict_parts` returned.

    Args:
        frozen: Whether it is a `FrozenConfigDict`.
        flags: Those of `FLAGS` that are set.
        items: Its items.
        site: Where it stands, for messages.

    Returns:
        The `ConfigDict`.

    Raises:
        ValueError: If ml_collections is not imported.
        Exception: If ml_collections does not take one of the items.
    """
    cls, frozen_cls = imported(_CONFIG_DICT), imported(_FROZEN_CONFIG_DICT)
    if cls is None or frozen_cls is None:
        raise ValueError(
            f"{site} is an `ml_collections.ConfigDict`. Import "
            "`ml_collections` before loading."
        )
    options = {
        option: option in flags
        for option, name in _OPTIONS.items()
        if hasattr(cls, name)
    }
    made = cls(**options)
    for key, value in items.items():
        made[key] = value
    if _LOCKED in flags:
        made.lock()
    return frozen_cls(made) if frozen else made


def is_transformers_class(value: object) -> bool:
    """Whether it is a class of configurations of Transformers."""
    base = imported(_TRANSFORMERS_CONFIG)
    return base is not None and is_subclass(value, base)


def transformers_values(config: Any) -> dict[str, Any]:
    """The values of a `PretrainedConfig`, for `from_dict` of its class."""
    return {
        name: value
        for name, value in config.to_dict().items()
        if name not in _ADDED
    }


def transformers_config(cls: Any, values: Mapping[Any, Any], site: str) -> Any:
    """Makes a `PretrainedConfig` of what `transformers_values` returned.

    Args:
        cls: Its class.
        values: The values.
        site: Where it stands, for messages.

    Returns:
        The configuration.

    Raises:
        ValueError: If the name of a value is not one.
        Exception: If the class does not take one of the values.
    """
    for name in values:
        # They become attributes, whatever they are called.
        if not isinstance(name, str) or name.startswith("__"):
            raise ValueError(f"{site} has a value with the name {name!r:.100}.")
    return cls.from_dict(dict(values))
