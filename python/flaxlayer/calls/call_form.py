"""What the arguments of a layer's call are."""

import inspect
from collections.abc import Mapping
from typing import Any, Protocol

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


class CallForm(Protocol):
    """How a layer is called, as its model says.

    Attributes:
        signature: the arguments of a call, `training` among them, as Keras
            looks at them.
        takes_mask: whether there is one called `mask`, for the Keras mask of
            the first input.
        transient: the names of arguments that are variable collections, which
            an earlier call has returned.
    """

    signature: inspect.Signature
    takes_mask: bool
    transient: tuple[str, ...]

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
        ...

    def packed(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], layer: str
    ) -> Any:
        """The inputs among them, as one pytree.

        Raises:
            TypeError: what is no array cannot be hashed, and so not be static.
        """
        ...


class Opaque:
    """Arrays that Keras does not look into."""

    def __init__(self, value: Any):
        self.value = value
