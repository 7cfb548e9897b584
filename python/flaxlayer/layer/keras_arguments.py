"""What a call is given besides what its caller has written."""

from collections.abc import Mapping
from typing import Any

import jax

from flaxlayer import keras_compat
from flaxlayer.calls.call_arguments import first_input
from flaxlayer.calls.call_form import CallForm, Opaque
from flaxlayer.layer.layer_inputs import has_symbols

_MASK = "mask"


def with_mask(
    args: tuple[Any, ...], kwargs: dict[str, Any], form: CallForm, layer: str
) -> dict[str, Any]:
    """The keywords of a call, with the Keras mask of its first input."""
    if not form.takes_mask or kwargs.get(_MASK) is not None:
        return kwargs
    # Keras looks for one only if there is one input, and not before it has
    # built the layer.
    mask = keras_compat.mask_of(first_input(form.packed(args, kwargs, layer)))
    found = bool(jax.tree_util.tree_leaves(mask))
    return {**kwargs, _MASK: mask} if found else kwargs


def with_opaque(
    kwargs: dict[str, Any], form: CallForm, layer: str
) -> dict[str, Any]:
    """The keywords of a call, with its collections hidden from Keras.

    Raises:
        TypeError: what is given for a collection is none.
    """
    for name in form.transient:
        value = kwargs.get(name)
        if value is not None and not isinstance(value, Mapping):
            raise TypeError(
                f"{layer}: `{name}` must be the collection that "
                "an earlier call returned, a dict, or `None` to start "
                f"anew. Received: {value!r:.200} (of type "
                f"{type(value).__name__})."
            )
        if name in kwargs and not has_symbols(value):
            # So that Keras does not cast it to the compute dtype.
            kwargs = {**kwargs, name: Opaque(value)}
    return kwargs
