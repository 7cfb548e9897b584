"""What Flax's errors mean for someone who uses a module as a Keras layer."""

from collections.abc import Mapping, Sequence
from typing import get_args

import flax
import flax.linen as nn

from flaxlayer.calls.collection_policies import Policy


def explained(
    error: flax.errors.FlaxError,
    *,
    layer: str,
    streams: Mapping[str, str],
    collections: Sequence[str],
    booleans: Sequence[str],
) -> ValueError:
    """An error in terms of the layer's arguments, with Flax's text in it.

    Args:
        error: what Flax raised.
        layer: how the message calls the layer.
        streams: the random streams of the layer and their policies.
        collections: those of its weights.
        booleans: the boolean arguments of its method that are not the mode.
    """
    match error:
        case flax.errors.InvalidRngError():
            advice = (
                "The module asks for a random stream that the layer does not "
                f"give it. {_switches(booleans)}Declare a stream that it needs "
                "by `rngs=`: the names of those given in training, or a "
                'mapping such as {"noise": "always"}, which draws in '
                f"prediction as well. Declared now: {dict(streams)}."
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
                f"{sorted(collections)}."
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


def _switches(booleans: Sequence[str]) -> str:
    if not booleans:
        return ""
    names = " or ".join(f"`{name}`" for name in booleans)
    return (
        f"If its argument {names} decides whether it draws, that is its word "
        f'for the mode: pass `training_argument="{booleans[0]}"`, or '
        f'`"not {booleans[0]}"` if it means the opposite of training, and '
        "predictions stay free of it. "
    )


def of_axis(error: NameError, *, layer: str) -> ValueError | None:
    """What a name of an axis that is not bound means; `None` for others.

    Args:
        error: what JAX raised where the module uses the name, as in
            `nn.BatchNorm(axis_name="batch")`.
        layer: how the message calls the layer.
    """
    if "unbound axis name" not in str(error):
        return None
    module = _innermost_module(error)
    where = "The module"
    if module is not None:
        where = f"`{'/'.join(module.path) or type(module).__name__}`"
        where += f", a {type(module).__name__},"
    return ValueError(
        f"{layer}: {where} refers to an axis by a name that only `jax.pmap`, "
        "`jax.vmap` or `jax.shard_map` around the call would bind. Keras calls "
        "a layer on the whole batch, whatever devices it is on, so that its "
        "mean is that of all of them: leave `axis_name=` out. JAX says: "
        f"{error}"
    )


def _innermost_module(error: BaseException) -> nn.Module | None:
    found, traceback = None, error.__traceback__
    while traceback is not None:
        owner = traceback.tb_frame.f_locals.get("self")
        if isinstance(owner, nn.Module):
            found = owner
        traceback = traceback.tb_next
    return found
