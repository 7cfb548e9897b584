"""Which arguments a user's function takes, and whether a layer can give them.

The documented contract names the arguments of `call_fn`, `init_fn` and of a
Linen method. Everything here happens once, when the layer is constructed, so
that a wrong signature is reported there and not from inside a trace.
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

CALL_FN_ARGUMENTS = ("params", "state", "rng", "inputs", "training")
INIT_FN_ARGUMENTS = ("rng", "inputs", "training")

_POSITIONAL = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
)
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


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
        TypeError: `fn` is not callable.
        ValueError: its signature cannot be read, lacks `inputs`, or has an
            argument that is not in `allowed`.
    """
    parameters = _parameters(fn, layer=layer, argument=argument)
    supported = ", ".join(f"`{name}`" for name in allowed)
    if "inputs" not in parameters:
        raise ValueError(
            f"{layer}: missing required argument in `{argument}`: `inputs`. "
            f"Received: `{argument}` with the signature "
            f"{_described(parameters)}; expected some of {supported}, and "
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


def method_takes_training(
    method: Callable[..., Any], *, layer: str, bound: bool
) -> bool:
    """Whether a Linen method takes `training`, after checking its signature.

    A method is called with the inputs as its one positional argument (after
    the module, where it is not bound to one) and `training` as a keyword.

    Args:
        method: the bound method, or a function that takes the module first.
        layer: how error messages call the layer.
        bound: whether `method` already has its module.

    Raises:
        ValueError: it takes no inputs, or has further required arguments.
    """
    parameters = dict(_parameters(method, layer=layer, argument="method"))
    given = 1 if bound else 2
    positional = [p for p in parameters.values() if p.kind in _POSITIONAL]
    takes_any = any(
        p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters.values()
    )
    if len(positional) < given and not takes_any:
        raise ValueError(
            f"{layer}: missing required argument in `method`: `inputs`. "
            f"Expected {'(inputs' if bound else '(module, inputs'}"
            "[, training]). Received: a function with the signature "
            f"{_described(parameters)}."
        )
    for parameter in positional[:given]:
        del parameters[parameter.name]
    for name, parameter in parameters.items():
        required = parameter.default is inspect.Parameter.empty
        if required and name != "training" and parameter.kind not in _VARIADIC:
            raise ValueError(
                f"{layer}: unsupported argument in `method`: `{name}`. The "
                "method is called with the inputs as one positional argument, "
                "and `training` where it takes it; every other argument needs "
                "a default. Pass a function `method(module, inputs, training)` "
                "that calls the module as it wants to be called."
            )
    return "training" in parameters


def _parameters(
    fn: Callable[..., Any], *, layer: str, argument: str
) -> Mapping[str, inspect.Parameter]:
    if not callable(fn):
        raise TypeError(
            f"{layer}: `{argument}` must be a function. Received: {fn!r} (of "
            f"type {type(fn).__name__})."
        )
    try:
        return inspect.signature(fn).parameters
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{layer}: the arguments of `{argument}` cannot be read from "
            f"{fn!r}: {error}. Wrap it in a Python function."
        ) from error


def _described(parameters: Mapping[str, inspect.Parameter]) -> str:
    return f"({', '.join(str(p) for p in parameters.values())})"
