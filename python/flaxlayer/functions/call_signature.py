"""Which arguments a user's function takes, and whether a layer can give them.

The documented contract names the arguments of `call_fn` and `init_fn`; those
of a method of a module are its own, see `calls/method_signature.py`. Everything
here happens once, when the layer is constructed, so that a wrong signature is
reported there and not from inside a trace.
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from flaxlayer.calls.parameters import described, parameters_of

CALL_FN_ARGUMENTS = ("params", "state", "rng", "inputs", "training")
INIT_FN_ARGUMENTS = ("rng", "inputs", "training")


@dataclasses.dataclass(frozen=True)
class CallSignature:
    """The arguments a function takes, in its own order.

    Attributes:
        names: all argument names.
        positional_only: how many of them, from the first, have to be given by
            position.
    """

    names: tuple[str, ...]
    positional_only: int

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def call(self, fn: Callable[..., Any], values: Mapping[str, Any]) -> Any:
        """Calls `fn` with those of `values` that it takes."""
        head = [values[name] for name in self.names[: self.positional_only]]
        rest = {
            name: values[name] for name in self.names[self.positional_only :]
        }
        return fn(*head, **rest)


def of_model_function(
    fn: Callable[..., Any],
    *,
    layer: str,
    argument: str,
    allowed: tuple[str, ...],
) -> CallSignature:
    """The signature of `call_fn` or `init_fn`.

    Args:
        fn: the user's function.
        layer: how error messages call the layer.
        argument: `"call_fn"` or `"init_fn"`.
        allowed: the argument names the contract has; `inputs` is required.

    Raises:
        TypeError: `fn` is not callable, or returns a generator or a coroutine.
        ValueError: its signature cannot be read, lacks `inputs`, or has an
            argument that is not in `allowed`.
    """
    parameters = parameters_of(fn, layer=layer, argument=argument)
    supported = ", ".join(f"`{name}`" for name in allowed)
    if "inputs" not in parameters:
        raise ValueError(
            f"{layer}: missing required argument in `{argument}`: `inputs`. "
            f"Received: `{argument}` with the signature "
            f"{described(parameters)}; expected some of {supported}, and "
            "always `inputs`."
        )
    for name in parameters:
        if name not in allowed:
            raise ValueError(
                f"{layer}: unsupported argument in `{argument}`: `{name}`. "
                f"Supported arguments are {supported}. Wrap the function in "
                "one that takes only these."
            )
    return CallSignature(
        names=tuple(parameters),
        positional_only=sum(
            parameter.kind is inspect.Parameter.POSITIONAL_ONLY
            for parameter in parameters.values()
        ),
    )
