"""A layer made of its configuration."""

from collections.abc import Callable
from typing import Any

from flaxlayer.calls import input_specs
from flaxlayer.randomness import seeds
from flaxlayer.weights import weight_rules


def made(
    cls: Any,
    config: Any,
    decode: Callable[[dict[str, Any], str], None],
    construct: Callable[[dict[str, Any]], Any],
) -> Any:
    """A layer from what its `get_config` returned.

    Args:
        cls: the class of the layer.
        config: the configuration.
        decode: replaces, in a copy of it, what a model wrote by what it stands
            for; it is also given how error messages call the layer.
        construct: Keras's own `from_config` of the class.

    Raises:
        TypeError: `config` is no dict.
        ValueError: a name in it cannot be resolved, or may not be; and all
            that the constructor raises.
    """
    if not isinstance(config, dict):
        raise TypeError(
            f"{cls.__name__}.from_config takes the dict that `get_config` "
            f"returned. Received: {config!r:.200} (of type "
            f"{type(config).__name__})."
        )
    config = dict(config)
    where = f"{cls.__name__} {config.get('name')!r}"
    decode(config, where)
    config["seed"] = seeds.seed_from_config(config.get("seed"), layer=where)
    if config.get("inputs_spec") is not None:
        config["inputs_spec"] = input_specs.from_config(
            config["inputs_spec"], where
        )
    freezing = weight_rules.freezing_from_config(
        config.pop("freezing", ()), layer=where
    )
    try:
        layer = construct(config)
    except TypeError as error:
        # Keras shows the whole config with any error of the constructor.
        raise error.__context__ or error from None
    for pattern, frozen in freezing:
        layer._weights.set_freezing(
            pattern, frozen=frozen, argument="freezing", built=layer.built
        )
    return layer
