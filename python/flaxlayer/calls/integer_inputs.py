"""Integers that Keras has made floats of.

Keras takes inputs whose dtype nobody stated to be floats: those of a
`Sequential` model that builds itself, of `keras.Input` without a dtype, of a
layer that is built from a shape. Its own Embedding makes integers of them
again, and so does a layer around a module that takes integers.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import keras

from flaxlayer.calls import input_specs
from flaxlayer.calls.call_arguments import CallArguments

Arguments = tuple[tuple[Any, ...], dict[str, Any]]

# What integers are taken to be where floats are refused.
_DTYPE = "int32"
# float32 holds all integers to 2**24, which are more than any vocabulary has;
# bfloat16 those to 256.
_EXACT_BITS = 32


class Inexact(ValueError):
    """Integers have become floats that cannot hold them."""


def guesses(specs: Any) -> Iterator[Any]:
    """Descriptions with integers in the place of floats, likely ones first.

    Args:
        specs: a pytree of `keras.KerasTensor`s.
    """
    leaves, treedef = jax.tree_util.tree_flatten(specs)
    floats = [i for i, leaf in enumerate(leaves) if is_floating(leaf)]
    choices = [{i} for i in floats]
    if len(floats) > 1:
        choices.append(set(floats))
    for chosen in choices:
        yield treedef.unflatten(
            keras.KerasTensor(leaf.shape, dtype=_DTYPE) if i in chosen else leaf
            for i, leaf in enumerate(leaves)
        )


def restored(args: Any, kwargs: Any, specs: Any, *, arrays: bool) -> Arguments:
    """The arguments of a call, with integers where the model takes them.

    Args:
        args: the positional arguments.
        kwargs: those by name.
        specs: what the model takes: a description of its one input, or
            `CallArguments` of descriptions.
        arrays: whether to cast arrays too. Symbolic inputs always are, by an
            operation in the Keras model that they belong to.

    Raises:
        Inexact: an input to be cast is of half precision.
    """

    def cast(value: Any, spec: keras.KerasTensor) -> Any:
        if not arrays and not isinstance(value, keras.KerasTensor):
            return value
        dtype = keras.backend.standardize_dtype(value.dtype)
        if jnp.finfo(dtype).bits < _EXACT_BITS:
            raise Inexact(
                f"its model takes integers, and {dtype}, which it was given, "
                "cannot hold them. Say what the input is: "
                f'`keras.Input(..., dtype="{spec.dtype}")`'
            )
        return keras.ops.cast(value, spec.dtype)

    return _mapped(cast, args, kwargs, specs)


def described(args: Any, kwargs: Any, specs: Any) -> Arguments:
    """The arguments of a call, with descriptions in the place of such inputs.

    Args:
        args: the positional arguments.
        kwargs: those by name.
        specs: as for `restored`.
    """
    return _mapped(lambda value, spec: spec, args, kwargs, specs)


def _mapped(
    cast: Callable[[Any, Any], Any], args: Any, kwargs: Any, specs: Any
) -> Arguments:
    """Calls `cast` on floats that are integers in `specs`."""
    if not isinstance(specs, CallArguments):
        # What Keras calls the first argument of any layer.
        by_name = not args and "inputs" in kwargs
        specs = CallArguments(inputs=specs) if by_name else CallArguments(specs)
    flat, _ = jax.tree_util.tree_flatten_with_path((specs.args, specs.keywords))
    expected = {_key(path): spec for path, spec in flat}

    def restore(path: Any, value: Any) -> Any:
        spec = expected.get(_key(path))
        if spec is None or is_floating(spec) or not is_floating(value):
            return value
        return cast(value, spec)

    return jax.tree_util.tree_map_with_path(restore, (args, kwargs))


def is_floating(value: Any) -> bool:
    """Whether it is an array, or a description of one, of floats."""
    dtype = input_specs.numpy_dtype(getattr(value, "dtype", None))
    return dtype is not None and jax.dtypes.issubdtype(
        jnp.dtype(dtype) if isinstance(dtype, str) else dtype, jnp.floating
    )


def has_any(specs: Any) -> bool:
    """Whether any of these inputs are integers."""
    return not all(map(is_floating, jax.tree_util.tree_leaves(specs)))


def _key(path: Any) -> tuple[str, ...]:
    # By the strings that steps are shown as: Keras takes a list for a tuple.
    return tuple(jax.tree_util.keystr((step,), simple=True) for step in path)
