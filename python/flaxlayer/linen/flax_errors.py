"""What Flax's errors mean for someone who uses a module as a Keras layer."""

from collections.abc import Mapping
from typing import get_args

import flax

from flaxlayer.linen.collection_policies import Policy
from flaxlayer.weights import variable_tree


def explained(
    error: flax.errors.FlaxError,
    *,
    layer: str,
    streams: Mapping[str, str],
    stored: tuple[variable_tree.Path, ...],
) -> ValueError:
    """An error in terms of the layer's arguments, with Flax's text in it.

    Args:
        error: what Flax raised.
        layer: how the message calls the layer.
        streams: the random streams of the layer and their policies.
        stored: the paths of its weights.
    """
    match error:
        case flax.errors.InvalidRngError():
            advice = (
                "The module asks for a random stream that the layer does not "
                "give it. Declare it: `rngs=` takes the names of the streams "
                'given in training, or a mapping such as {"noise": "always"}. '
                f"Declared now: {dict(streams)}."
            )
        case (
            flax.errors.ScopeCollectionNotFound()
            | flax.errors.ModifyScopeVariableError()
        ):
            advice = (
                "The module reads or writes a variable collection that the "
                "layer does not have among its weights. A state has to be made "
                "when the module is initialised, as `self.variable` does; for "
                "what is only there in calls, `collections=` says what becomes "
                f"of it: a mapping from names to one of {get_args(Policy)}. "
                "The collections of the weights are "
                f"{sorted({path[0] for path in stored})}."
            )
        case (
            flax.errors.ScopeParamShapeError()
            | flax.errors.ScopeParamNotFoundError()
            | flax.errors.ScopeVariableNotFoundError()
        ):
            advice = (
                "The weights do not fit the module on these inputs. They were "
                "built for other inputs, or given as `variables=` for another "
                "module."
            )
        case _:
            return ValueError(f"{layer}: {error}")
    return ValueError(f"{layer}: {advice} Flax says: {error}")
