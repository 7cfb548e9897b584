"""The arguments of a layer that speak of a Linen module, validated."""

from typing import Any

import flax
import flax.linen as nn
import jax

from flaxlayer.paths import joined, path_of


def checked_module(module: Any, layer: str) -> nn.Module:
    """The `module` argument, validated.

    Raises:
        TypeError: it is no instance of a Linen module, and so no module: what
            NNX has is not asked for here.
    """
    if isinstance(module, nn.Module):
        return module
    hint = (
        "Pass an instance of a `flax.linen.Module` subclass, or of NNX an "
        "instance, a class, or a `functools.partial` of a class."
    )
    if isinstance(module, type) and issubclass(module, nn.Module):
        hint = f"Pass an instance: `{module.__name__}(...)`, not the class."
    raise TypeError(
        f"{layer}: `module` must be a Flax module. {hint} Received: "
        f"{module!r:.200} (of type {type(module).__name__})."
    )


def checked_variables(variables: Any, layer: str) -> dict[str, Any]:
    """The `variables` argument as plain dicts, validated.

    Raises:
        TypeError: it is not a dict of dicts.
    """
    mappings = (dict, flax.core.FrozenDict)
    if isinstance(variables, mappings) and all(
        isinstance(name, str) and isinstance(collection, mappings)
        for name, collection in variables.items()
    ):
        return dict(flax.core.unfreeze(variables))
    received = (
        {name: type(value).__name__ for name, value in variables.items()}
        if isinstance(variables, mappings)
        else type(variables).__name__
    )
    raise TypeError(
        f"{layer}: `variables` must be a dict from collection names to nested "
        'dicts, as `module.init` returns it: {"params": {...}, ...}. '
        f"Received: {received}."
    )


def check_values(variables: dict[str, Any], layer: str) -> None:
    """Reports shapes in the place of arrays.

    Raises:
        TypeError: there are some.
    """
    for keys, leaf in jax.tree_util.tree_leaves_with_path(variables):
        if isinstance(leaf, jax.ShapeDtypeStruct):
            raise TypeError(
                f"{layer}: `variables` must hold arrays, as `module.init` "
                "makes them; `jax.eval_shape` makes only their shapes. "
                f"Received: `{joined(path_of(keys))}` is a ShapeDtypeStruct."
            )
