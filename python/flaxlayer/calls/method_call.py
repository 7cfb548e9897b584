"""The calls of a layer whose model is called by a method of its own."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from flaxlayer.calls import method_signature
from flaxlayer.calls.call_arguments import CallArguments
from flaxlayer.calls.call_form import Arguments, Opaque
from flaxlayer.calls.method_signature import MethodSignature

_TRAINING = "training"


class MethodCall:
    """The call form of a method: its own arguments, and Keras's `training`.

    Args:
        method: the arguments of the method.
        transient: the collections that calls are given by their names.

    Attributes:
        signature: as `call_form.CallForm` says.
        takes_mask: as there.
        transient: as there.
    """

    def __init__(self, method: MethodSignature, transient: Sequence[str]):
        self.transient = tuple(transient)
        self.signature = method.of_layer(transient)
        self.takes_mask = method.takes_mask
        self._modes = dict(method.modes)
        self._takes_one = method_signature.takes_one(self.signature)

    def bindable(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], layer: str
    ) -> Arguments:
        """The arguments of a call, after checking that they can be bound.

        Args:
            args: the arguments by position.
            kwargs: those by name.
            layer: how error messages call the layer.

        Raises:
            TypeError: there are too many or too few, or one of another name.
        """
        if len(args) == 1 and self._takes_one and kwargs.keys() <= {_TRAINING}:
            return args, kwargs  # As most calls: there is nothing to find.
        if "inputs" in kwargs and "inputs" not in self.signature.parameters:
            # What Keras calls the first argument of any layer.
            args, kwargs = (kwargs["inputs"], *args), {**kwargs}
            del kwargs["inputs"]
        try:
            self.signature.bind(*args, **kwargs)
        except TypeError as error:
            hint = "".join(
                f" Say `training=`: the layer hands it on as `{name}`."
                for name in kwargs
                if name in self._modes
            )
            raise TypeError(
                f"{layer}: {error}. Expected the arguments "
                f"{self.signature}. Received: {len(args)} by position and "
                f"{sorted(kwargs)} by name.{hint}"
            ) from error
        return args, kwargs

    def packed(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], layer: str
    ) -> Any:
        """The one input of a call, or its `CallArguments`.

        Raises:
            TypeError: what is no array cannot be hashed, and so not be static.
        """
        if len(args) == 1 and kwargs.keys() <= {_TRAINING}:
            return args[0]
        parameters = self.signature.parameters
        given = {
            name: value.value if isinstance(value, Opaque) else value
            for name, value in kwargs.items()
            if name != _TRAINING
            # A mask that Keras looked for and did not find, for one.
            and not (_is_empty(value) and _is_optional(parameters.get(name)))
        }
        arguments = CallArguments(*args, **given)
        for name, value in arguments.static.items():
            try:
                hash(value)
            except TypeError as error:
                raise TypeError(
                    f"{layer}: the argument `{name}` is no array, so "
                    "it is static, and has to be hashable; pass a tuple for a "
                    f"list. Received: {value!r:.200} (of type "
                    f"{type(value).__name__})."
                ) from error
        return args[0] if arguments.is_plain else arguments


def _is_empty(value: Any) -> bool:
    return not jax.tree_util.tree_leaves(value)


def _is_optional(parameter: inspect.Parameter | None) -> bool:
    return parameter is not None and parameter.default is None
