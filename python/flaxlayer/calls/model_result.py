"""What a call of a model leaves: outputs, state, losses and metrics."""

from typing import Any, Literal, NamedTuple

import jax

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
