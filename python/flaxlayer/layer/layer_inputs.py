"""What a layer knows of its inputs, and what it makes of those it is given."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import keras

from flaxlayer.calls import input_specs, integer_inputs
from flaxlayer.calls.call_arguments import (
    CallArguments,
    first_input,
    is_array,
    with_first_input,
)
from flaxlayer.calls.call_form import Arguments


class LayerInputs:
    """Descriptions of inputs: pytrees of `keras.KerasTensor`s, or `None`.

    Args:
        declared: the `inputs_spec` argument.
        floating: returns the dtype that Keras casts floating-point inputs to,
            or `None` where it leaves them as they are.
        layer: how error messages call the layer.

    Attributes:
        declared: what `inputs_spec` says.
        seen: the inputs of the call that is about to build the layer.
        built: what the layer was built for.
        guessed: whether that some of these are integers has shown in what the
            model takes, and nobody has said or shown it.

    Raises:
        TypeError: `declared` is no pytree of what has a shape and a dtype.
    """

    def __init__(
        self, declared: Any, floating: Callable[[], str | None], layer: str
    ):
        self._floating = floating
        self._layer = layer
        self.declared = input_specs.of_declared(declared, layer, floating())
        self.seen: Any = None
        self.built: Any = None
        self.guessed = False
        self._asked: tuple[Any, bool] = (None, False)

    @property
    def known(self) -> Any:
        """The inputs the model takes, as far as they are known."""
        return self.declared if self.built is None else self.built

    @property
    def _has_integers(self) -> bool:
        """Whether it is known that the model takes any integers."""
        # Asked in every call, and answered once for each description.
        known = self.known
        if known is not self._asked[0]:
            answer = known is not None and integer_inputs.has_any(known)
            self._asked = known, answer
        return self._asked[1]

    def may_cast(self, value: Any) -> bool:
        """Whether `with_integers` may make another array of this one."""
        return self._has_integers and integer_inputs.is_floating(value)

    def with_integers(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Arguments:
        """The arguments of a call with integers where the model takes them.

        Raises:
            ValueError: a number is no integer; of symbolic inputs a
                NotImplementedError.
        """
        if not self._has_integers:
            return args, dict(kwargs)
        # Whether floats are taken for what Keras has made of integers.
        arrays = self.declared is not None or self.guessed
        try:
            return integer_inputs.restored(
                args, kwargs, self.known, arrays=arrays
            )
        except integer_inputs.Inexact as error:
            # What makes a Sequential model hand on its inputs as they are.
            kind = (
                NotImplementedError
                if has_symbols((args, kwargs))
                else ValueError
            )
            raise kind(f"{self._layer}: {error}.") from error

    def described(self, inputs: Any) -> Any:
        """Describes inputs with the dtypes that `call` gets them in."""
        if inputs is None:
            return None
        leaves = jax.tree_util.tree_leaves(inputs)
        if not all(map(is_array, leaves)):
            return None
        return input_specs.of_arrays(inputs, floating=self._floating())

    def to_build_for(self, input_shape: Any, dtype: str) -> tuple[Any, bool]:
        """The inputs to build for, and whether their dtypes were assumed.

        Args:
            input_shape: what Keras passes to `build`.
            dtype: what is assumed.

        Raises:
            TypeError: `input_shape` is needed and is no structure of shapes.
            ValueError: the inputs that were seen are not those declared.
        """
        declared, seen = self.declared, self.seen
        if declared is None and seen is not None:
            return seen, False
        if declared is None:
            input_specs.check_shapes(input_shape, self._layer)
            return input_specs.of_shapes(input_shape, dtype), True
        if seen is None:
            return declared, False
        # What is declared of the first input may say nothing of the others.
        partial = not isinstance(declared, CallArguments)
        compared = first_input(seen) if partial else seen
        if not input_specs.same_ranks(compared, declared):
            raise ValueError(
                f"{self._layer}: the inputs do not have the structure "
                "and ranks of `inputs_spec`. Expected "
                f"{input_specs.described(declared)}. Received: "
                f"{input_specs.described(compared)}."
            )
        if partial:
            return with_first_input(seen, declared), False
        return declared, False

    def check_built(self, input_shape: Any) -> None:
        """Reports shapes that the layer was not built for.

        Raises:
            ValueError: it was built for others.
        """
        # Lists and tuples are the same here, as Keras has it.
        if self.built is not None and not input_specs.same_shapes(
            input_shape, input_specs.shapes(self.built)
        ):
            raise ValueError(
                f"{self._layer} is built already, for inputs "
                f"{input_specs.described(self.built)}, and has weights for "
                "these. Make another layer for others. Received: "
                f"{input_shape!r}."
            )

    def with_first(self, input_shape: Any, dtype: str) -> Any:
        """The description of all inputs where the first is of a shape.

        Args:
            input_shape: of the first one; sizes may be `None`.
            dtype: what is assumed where its dtypes are not known.

        Raises:
            TypeError: `input_shape` is no structure of shapes.
        """
        known = self.declared if self.declared is not None else self.built
        input_specs.check_shapes(input_shape, self._layer)
        first = input_specs.of_shapes(input_shape, dtype, first_input(known))
        # The other inputs have the size of this batch.
        batch = jax.tree_util.tree_leaves(first)[0].shape[:1]
        return with_first_input(input_specs.batched(known, batch), first)

    def to_config(self) -> dict[str, Any] | None:
        """What the layer was built for, as JSON; `None` if it is not."""
        if self.built is None:
            return None
        config = {"inputs": input_specs.to_config(self.built, self._layer)}
        return {**config, "guessed": True} if self.guessed else config

    def see_config(self, config: Mapping[str, Any]) -> Any:
        """Takes what `to_config` wrote for seen; returns its shapes."""
        self.seen = input_specs.from_config(config["inputs"], self._layer)
        self.guessed = config.get("guessed") is True
        return input_specs.shapes(self.seen)


def has_symbols(tree: Any) -> bool:
    """Whether a leaf of it is a `keras.KerasTensor`."""
    return any(
        isinstance(leaf, keras.KerasTensor)
        for leaf in jax.tree_util.tree_leaves(tree)
    )
