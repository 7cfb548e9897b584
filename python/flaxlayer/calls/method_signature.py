"""How a method of a module is called: inputs, mode, mask, collections.

A layer is called as its module is: with the module's own arguments, by
position or by name. Only the word for the mode is Keras's: whatever a module
calls it, a Keras layer is called with `training`.
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flaxlayer.calls import parameters as user_parameters

# What modules call the mode, and whether they mean its opposite by it.
_WORDS_FOR_TRAINING = {
    "training": False,
    "train": False,
    "is_training": False,
    "deterministic": True,
    "use_running_average": True,
}
# The same, where the argument is a boolean; else it may be something else.
_BOOLEAN_WORDS_FOR_TRAINING = {
    "enable_dropout": False,
    "is_train": False,
    "inference": True,
}
_NOT = "not "
_TRAINING = "training"
_MASK = "mask"
_KEYWORD = inspect.Parameter.KEYWORD_ONLY
_BY_POSITION = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
)
_VAR_KEYWORD = inspect.Parameter.VAR_KEYWORD
_NO_DEFAULT = inspect.Parameter.empty


@dataclasses.dataclass(frozen=True)
class MethodSignature:
    """The arguments of a method, as a layer sees them.

    Attributes:
        inputs: the parameters that callers give, without the module and
            without those that say the mode.
        modes: the parameters that say the mode, with whether each means that
            it is not training.
        declared: all parameters in the order in which the method has them.
        booleans: the inputs that are booleans: one of them may be the mode,
            under a name of its own.
    """

    inputs: tuple[inspect.Parameter, ...]
    modes: tuple[tuple[str, bool], ...]
    declared: tuple[inspect.Parameter, ...] = ()
    booleans: tuple[str, ...] = ()

    def mode_arguments(self, training: bool) -> dict[str, bool]:
        """What the method is given for the mode."""
        return {name: training != negated for name, negated in self.modes}

    def bound(
        self,
        args: Sequence[Any],
        keywords: Mapping[str, Any],
        *,
        modes_by_name: bool = False,
    ) -> tuple[list[Any], dict[str, Any]]:
        """The arguments of a call, each passed the way the method declares it.

        By position as far as there is a value for each: transformations such
        as `nn.remat` tell static arguments by their position.

        Args:
            args: the inputs by position, without the mode.
            keywords: all else, the mode included.
            modes_by_name: whether to leave the mode, and what is declared
                after it, to their names.
        """
        rest, keywords, bound = [*args], dict(keywords), []
        if rest and self._names_its_first_input:
            keywords[self.inputs[0].name] = rest.pop(0)
        modes = dict(self.modes)
        positional = [p for p in self.declared if p.kind in _BY_POSITION]
        last = max(
            (i for i, p in enumerate(positional) if p.name in keywords),
            default=-1,
        )
        by_name = False
        for i, parameter in enumerate(positional):
            name = parameter.name
            by_name |= modes_by_name and name in modes
            if rest and name not in modes:
                keywords[name] = rest.pop(0)
            elif name not in keywords:
                if i > last or parameter.default is _NO_DEFAULT:
                    break
                keywords[name] = parameter.default
            if not by_name:
                bound.append(keywords.pop(name))
        return bound + rest, keywords

    @property
    def _names_its_first_input(self) -> bool:
        """Whether all inputs go by name, the first one included."""
        return bool(self.inputs) and self.inputs[0].kind is _KEYWORD

    @property
    def takes_mask(self) -> bool:
        """Whether it has an argument for the mask of its first input."""
        return any(parameter.name == _MASK for parameter in self.inputs[1:])

    def without_mask(self, num_args: int) -> dict[str, None]:
        """What it is given where there is no mask, besides its inputs.

        Args:
            num_args: how many inputs are given by position.
        """
        required = any(
            p.name == _MASK
            and p.default is inspect.Parameter.empty
            and (p.kind == _KEYWORD or i >= num_args)
            for i, p in enumerate(self.inputs)
            if i > 0
        )
        return {_MASK: None} if required else {}

    def of_layer(self, collections: Sequence[str]) -> inspect.Signature:
        """The signature of a layer's `call`.

        Args:
            collections: those that are passed with each call, by name.
        """
        extra = [
            inspect.Parameter(name, _KEYWORD, default=None)
            for name in collections
        ]
        extra.append(inspect.Parameter(_TRAINING, _KEYWORD, default=False))
        # Keras gives it, or there is none.
        inputs = [
            p.replace(default=None) if p.name == _MASK and i > 0 else p
            for i, p in enumerate(self.inputs)
        ]
        if (
            self._names_its_first_input
        ):  # A layer is called with it all the same.
            inputs[0] = inputs[0].replace(kind=_BY_POSITION[1])
        variadic = [p for p in inputs if p.kind is _VAR_KEYWORD]
        inputs = [p for p in inputs if p not in variadic]
        return inspect.Signature([*inputs, *extra, *variadic])


def takes_one(signature: inspect.Signature) -> bool:
    """Whether one argument by position is all that it needs."""
    try:
        signature.bind(None)
    except TypeError:
        return False
    return True


def of_method(
    method: Callable[..., Any],
    module: Any,
    *,
    bound: bool,
    training_argument: str | None,
    collections: Sequence[str],
    layer: str,
) -> MethodSignature:
    """Reads the signature of a module's method.

    Args:
        method: a method, bound or not, or a function that takes the module
            first, as `methods.resolved` returns it.
        module: whose method it is. What it has as an attribute already is
            not looked for among the arguments.
        bound: whether `method` has its module.
        training_argument: what it calls the mode: `"auto"` to look for the
            usual words; a name, or `"not "` and a name; or `None`.
        collections: the names of collections that calls are given.
        layer: how error messages call the layer.

    Raises:
        TypeError: `training_argument` is neither a string nor `None`, or the
            method is no function.
        ValueError: the method takes no inputs, has no argument with the name
            in `training_argument`, or has one with the name of one of the
            `collections` or of Keras's `training` that is not the mode.
    """
    parameters = dict(
        user_parameters.parameters_of(method, layer=layer, argument="method")
    )
    shown = user_parameters.described(parameters)
    positional = [
        p
        for p in parameters.values()
        if p.kind in (*_BY_POSITION, inspect.Parameter.VAR_POSITIONAL)
    ]
    if (
        not bound
        and positional
        and (positional[0].kind != inspect.Parameter.VAR_POSITIONAL)
    ):
        parameters.pop(positional.pop(0).name)  # The module.
    modes = _modes(parameters, module, training_argument, shown, layer)
    words = dict(modes)
    inputs = tuple(_input(p) for n, p in parameters.items() if n not in words)
    if not any(p.kind is not _VAR_KEYWORD for p in inputs):
        raise ValueError(
            f"{layer}: missing required argument in `method`: `inputs`. "
            f"Expected {'(inputs' if bound else '(module, inputs'}"
            f"[, ...]). Received: a function with the signature {shown}."
        )
    for name in (_TRAINING, *collections):
        if any(parameter.name == name for parameter in inputs):
            meaning = (
                "Keras's word for the mode. Pass `training_argument=None` only "
                "for a method without that argument"
                if name == _TRAINING
                else "a collection that calls are given, by `collections=`"
            )
            raise ValueError(
                f"{layer}: the argument `{name}` of `method` has the name of "
                f"{meaning}. Received: a function with the signature {shown}."
            )
    return MethodSignature(
        inputs,
        modes,
        declared=tuple(map(_input, parameters.values())),
        booleans=tuple(
            name
            for name, parameter in parameters.items()
            if name not in words and _is_boolean(parameter)
        ),
    )


def _modes(
    parameters: dict[str, inspect.Parameter],
    module: Any,
    training_argument: Any,
    shown: str,
    layer: str,
) -> tuple[tuple[str, bool], ...]:
    if training_argument is None:
        return ()
    if not isinstance(training_argument, str):
        raise TypeError(
            f"{layer}: `training_argument` must be the name of an argument, "
            '`"not "` and a name, `"auto"` or `None`. Received: '
            f"{training_argument!r} (of type "
            f"{type(training_argument).__name__})."
        )
    if training_argument == "auto":
        return tuple(
            (name, negated)
            for name, negated in (
                _WORDS_FOR_TRAINING | _BOOLEAN_WORDS_FOR_TRAINING
            ).items()
            # A module that has it as a field already, such as
            # nn.Dropout(0.5, deterministic=True), does not want it twice.
            if name in parameters
            and getattr(module, name, None) is None
            and (name in _WORDS_FOR_TRAINING or _is_boolean(parameters[name]))
        )
    name = training_argument.removeprefix(_NOT)
    if name not in parameters:
        raise ValueError(
            f"{layer}: `training_argument` names no argument of `method`. "
            f"Expected one of {list(parameters)}, with or without "
            f"{_NOT!r} before it. Received: {training_argument!r} for a "
            f"function with the signature {shown}."
        )
    return ((name, training_argument.startswith(_NOT)),)


def _is_boolean(parameter: inspect.Parameter) -> bool:
    """Whether it is annotated as a boolean, or has one as its default."""
    # As text: the module may postpone the evaluation of annotations.
    annotation = getattr(parameter.annotation, "__name__", parameter.annotation)
    return isinstance(parameter.default, bool) or annotation == "bool"


def _input(parameter: inspect.Parameter) -> inspect.Parameter:
    # Keras reads the signature: annotations have no meaning to it, and the
    # module's own types may not be resolvable.
    return parameter.replace(annotation=inspect.Parameter.empty)
