"""Attributes of a layer that are set once, by its constructor."""

from typing import Any


def shown(cls: type) -> list[str]:
    """Those attributes of a class that tell what a layer of it is."""
    return [
        name
        for owner in cls.__mro__
        for name, value in vars(owner).items()
        if isinstance(value, Fixed) and value._shown
    ]


class Fixed:
    """An attribute that says what a layer is made of.

    Weights, signatures and compiled calls belong to the one that the layer
    was made with; another one would be used by some of these and not by all.

    Args:
        shown: whether a layer is shown with it.
    """

    def __init__(self, *, shown: bool = False):
        self._shown = shown

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, layer: Any, owner: type | None = None) -> Any:
        if layer is None:
            return self
        try:
            return vars(layer)[self._name]
        except KeyError:
            raise AttributeError(self._name) from None

    def __set__(self, layer: Any, value: Any) -> None:
        if self._name in vars(layer):
            raise AttributeError(
                f"{layer._described}: `{self._name}` is what the layer was "
                "made with, and cannot be set. Make another layer; "
                "`set_layer_variables` takes the weights over. Received: "
                f"{value!r:.200}."
            )
        vars(layer)[self._name] = value
