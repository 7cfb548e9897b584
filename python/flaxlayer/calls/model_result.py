"""What a call of a model leaves: outputs, state, losses and metrics."""

from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from flaxlayer.calls.input_checks import is_iterator, is_numeric

# Of a module: what it sows, or the outputs of all submodules as well.
Intermediates = Literal["sown", "all"]


class Effects(NamedTuple):
    """What a call leaves beside its outputs and its state.

    Attributes:
        losses: one scalar for each array in the collections of losses.
        metrics: scalars by the path below their collection.
    """

    losses: list[jax.Array]
    metrics: dict[str, jax.Array]


class ModelResult(NamedTuple):
    """What a model returns.

    Attributes:
        outputs: any pytree of arrays.
        state: the new state, as a pytree.
        effects: losses and metrics.
        intermediates: what was asked for by `Mode.intermediates`.
    """

    outputs: Any
    state: Any
    effects: Effects = Effects([], {})
    intermediates: Any = None


def check_outputs(outputs: Any, layer: str) -> None:
    """Reports outputs that are no arrays.

    Args:
        outputs: what a model returned.
        layer: how error messages call the layer.

    Raises:
        TypeError: a leaf of it is neither an array of numbers nor a number.
    """
    leaves = jax.tree_util.tree_leaves_with_path(outputs, is_leaf=is_iterator)
    for keys, leaf in leaves:
        if not _is_output(leaf):
            path = jax.tree_util.keystr(keys)
            place = f" at `outputs{path}`" if path else ""
            raise TypeError(
                f"{layer}: the model must return arrays of numbers, numbers, "
                f"or a pytree of such. Received{place}: {leaf!r:.100} (of type "
                f"{type(leaf).__name__})."
            )


def _is_output(leaf: Any) -> bool:
    if isinstance(leaf, np.ma.MaskedArray):
        return False
    if isinstance(leaf, np.ndarray | np.generic):
        return is_numeric(leaf.dtype)
    numbers = jax.Array | bool | int | float | complex
    return isinstance(leaf, numbers) or hasattr(leaf, "__jax_array__")
