"""Which optimizer a backup belongs to: its class, settings and variables."""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import keras

# Numbered through the process, or part of what training changes: the rate is a
# variable, and a callback may have set it.
_CHANGING = ("name", "learning_rate")


def described(optimizer: Any) -> dict[str, Any]:
    """An optimizer's class and settings, as JSON-compatible values.

    Args:
        optimizer: a Keras optimizer, or `None`.

    Returns:
        A dict from names such as `"class"`, `"momentum"` and, of a wrapped
        optimizer, `"inner_optimizer.class"`, to values. Learning rates are in
        it if they are schedules.
    """
    if optimizer is None:
        return {"class": None}
    try:
        config = keras.saving.serialize_keras_object(optimizer)
    except NotImplementedError:  # A class of the user's without `get_config`.
        config = {"class_name": type(optimizer).__name__, "config": {}}
    # As they will be read: tuples become lists.
    return json.loads(json.dumps(dict(_settings(config)), default=str))


def _settings(config: dict[str, Any], prefix: str = "") -> Iterator[Any]:
    yield f"{prefix}class", config["class_name"]
    for name, value in config["config"].items():
        if isinstance(value, dict) and "class_name" in value:
            yield from _settings(value, f"{prefix}{name}.")
        elif name not in _CHANGING:
            yield f"{prefix}{name}", value


def differences(stored: dict[str, Any], current: dict[str, Any]) -> list[str]:
    """What differs between two descriptions, a phrase for each setting."""
    if stored.get("class") != current.get("class"):  # Then much else does.
        names = ["class"]
    else:
        names = sorted(stored.keys() | current.keys())
    return [
        f"`optimizer.{name}` was {stored.get(name)!r} and is "
        f"{current.get(name)!r}"
        for name in names
        if stored.get(name) != current.get(name)
    ]


def variable_names(
    optimizer: Any, trained: Sequence[keras.Variable]
) -> list[str]:
    """A name for each of an optimizer's variables that a rerun has too.

    Keras names a slot by the path of its weight, in which layers are numbered
    through the process. Here the weight's place among those that are trained
    is in that place.

    Args:
        optimizer: it is built.
        trained: the weights it was built for, in its order.
    """
    places = {
        f"{v.path.replace('/', '_')}_": f"{i:05}_{v.name}_"
        for i, v in enumerate(trained)
    }

    def name_of(variable: keras.Variable) -> str:
        prefixes = [p for p in places if variable.name.startswith(p)]
        if not prefixes:
            return unnumbered(variable.name)
        prefix = max(prefixes, key=len)
        return places[prefix] + variable.name.removeprefix(prefix)

    return [name_of(variable) for variable in optimizer.variables]


def unnumbered(name: str) -> str:
    """A name without the number that Keras makes it unique by."""
    return re.sub(r"_\d+$", "", name)
