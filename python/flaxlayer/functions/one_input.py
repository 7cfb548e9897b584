"""The calls of a layer whose model takes one pytree of inputs."""

import inspect
from collections.abc import Mapping
from typing import Any

from flaxlayer.calls.call_form import Arguments

_BY_POSITION = inspect.Parameter.POSITIONAL_OR_KEYWORD


class OneInput:
    """The call form of a `call_fn`: `inputs` and `training`."""

    signature = inspect.Signature(
        [
            inspect.Parameter("inputs", _BY_POSITION),
            inspect.Parameter("training", _BY_POSITION, default=False),
        ]
    )
    takes_mask = False
    transient: tuple[str, ...] = ()

    def bindable(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], layer: str
    ) -> Arguments:
        """The arguments of a call, after checking that they can be bound.

        Args:
            args: the arguments by position.
            kwargs: those by name.
            layer: how error messages call the layer.

        Raises:
            TypeError: there is not exactly one input, or an argument of
                another name.
        """
        unknown = sorted(kwargs.keys() - {"inputs", "training"})
        if len(args) + ("inputs" in kwargs) != 1 or unknown:
            raise TypeError(
                f"{layer} takes one array or pytree of arrays, and "
                f"`training` by name. Received: {len(args)} by position and "
                f"{sorted(kwargs)} by name."
            )
        return args, kwargs

    def packed(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], layer: str
    ) -> Any:
        """The one input of a call."""
        return args[0] if args else kwargs.get("inputs")
