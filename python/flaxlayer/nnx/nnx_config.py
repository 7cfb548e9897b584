"""An NNX module as a configuration: its class, and what it is made with."""

from collections.abc import Mapping
from typing import Any

from flax import nnx

from flaxlayer.config import module_config
from flaxlayer.nnx import recipe


def encode(
    module: Any, method: Any, options: Mapping[str, Any], where: str
) -> dict[str, Any]:
    """Writes the arguments of a layer that say what its module is.

    Args:
        module: a class or a partial.
        method: the `method` argument.
        options: `collections`, `partition` and `training_argument`; those at
            their default are left out.
        where: how error messages call the layer.

    Raises:
        TypeError: the module is an instance, or something in it cannot be
            saved.
    """
    if isinstance(module, nnx.Module):
        name = type(module).__name__
        raise TypeError(
            f"{where}: `module` is an instance of {name}, of which nobody "
            "knows what it was made with, and cannot be saved with its "
            "code. Give the layer the class and its arguments, "
            f"`functools.partial({name}, ...)`, and what is in it as "
            "`variables=nnx.state(module)`; or save weights alone, "
            "with `save_weights` or `flaxlayer.save_variables`."
        )
    for pattern in options["partition"]:
        if not isinstance(pattern, str):
            raise TypeError(
                f"{where}: `partition` has the filter {pattern!r}, which "
                "cannot be saved. Use a regular expression for the paths "
                "that it matches."
            )
    config: dict[str, Any] = {
        "module": module_config.encode_factory(
            module, where=f"{where}: `module`"
        ),
        "method": module_config.encode_method(
            method, recipe.class_of(module), where=f"{where}: `method`"
        ),
    }
    for name in ("collections", "partition"):
        if options[name]:
            config[name] = dict(options[name])
    if options["training_argument"] != "auto":
        config["training_argument"] = options["training_argument"]
    return config


def decode(config: dict[str, Any], where: str) -> None:
    """Replaces what `encode` wrote by what it stands for.

    Raises:
        ValueError: a name cannot be resolved, or may not be.
    """
    config["module"] = module_config.decode_factory(
        config.get("module"), where=f"{where}: `module`"
    )
    config["method"] = module_config.decode_method_of_class(
        config.get("method"),
        recipe.class_of(config["module"]),
        where=f"{where}: `method`",
    )
