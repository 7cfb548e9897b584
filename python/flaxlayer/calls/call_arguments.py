"""The arguments of one call of a module, as one pytree."""

from typing import Any

import jax


@jax.tree_util.register_pytree_with_keys_class
class CallArguments:
    """What a module is called with, where that is more than one input.

    Arrays are leaves of this pytree. Keywords that are not arrays, such as
    `num_steps=3`, are part of its structure: they are static under `jax.jit`.

    As `inputs_spec=` of a layer it describes several inputs:

        ```python
        flaxlayer.CallArguments(
            jax.ShapeDtypeStruct((1, 16), "int32"),
            context=keras.KerasTensor((None, 8)),
        )
        ```

    Args:
        *args: the positional inputs, each an array or a pytree of arrays.
        **keywords: inputs that are given by keyword, and static values.

    Attributes:
        args: the positional inputs.
        keywords: the keyword inputs that are pytrees of arrays.
        static: all other keywords.
    """

    def __init__(self, /, *args: Any, **keywords: Any):
        arrays = {k: v for k, v in keywords.items() if _is_arrays(v)}
        self.args = args
        self.keywords = arrays
        self.static = {k: v for k, v in keywords.items() if k not in arrays}

    @property
    def is_plain(self) -> bool:
        """Whether this is nothing but one positional input."""
        return len(self.args) == 1 and not self.keywords and not self.static

    def all_keywords(self) -> dict[str, Any]:
        """Array and static keywords together."""
        return {**self.keywords, **self.static}

    def tree_flatten_with_keys(self) -> Any:
        """The arrays as children, static keywords as the structure."""
        key = jax.tree_util.GetAttrKey
        children = ((key("args"), self.args), (key("keywords"), self.keywords))
        # With the types: 1, 1.0 and True are equal.
        static = tuple(
            (name, type(value), value)
            for name, value in sorted(self.static.items())
        )
        return children, static

    @classmethod
    def tree_unflatten(cls, static: Any, children: Any) -> "CallArguments":
        """The inverse of flattening.

        Args:
            static: the structure.
            children: the children, with anything in the place of arrays.
        """
        made = cls.__new__(cls)
        made.args, made.keywords = children
        made.static = {name: value for name, _, value in static}
        return made

    def __repr__(self) -> str:
        args = [repr(arg) for arg in self.args]
        named = [f"{k}={v!r}" for k, v in self.all_keywords().items()]
        return f"({', '.join(args + named)})"


def first_input(inputs: Any) -> Any:
    """The first positional input, of `CallArguments` or of a plain input."""
    if not isinstance(inputs, CallArguments):
        return inputs
    return inputs.args[0] if inputs.args else None


def with_first_input(inputs: Any, first: Any) -> Any:
    """The same arguments with another first input."""
    if not isinstance(inputs, CallArguments) or not inputs.args:
        return first
    return CallArguments(first, *inputs.args[1:], **inputs.all_keywords())


def is_array(value: Any) -> bool:
    """Whether it has a shape and a dtype: an array, or a description of one."""
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _is_arrays(value: Any) -> bool:
    leaves = jax.tree_util.tree_leaves(value)
    return bool(leaves) and all(map(is_array, leaves))
