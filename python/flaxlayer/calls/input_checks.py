"""What may be passed to a layer as an input, and what to do with the rest."""

import itertools
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Iterator,
    Mapping,
    Sequence,
)
from typing import Any

import jax
import keras
import numpy as np

from flaxlayer import jax_compat
from flaxlayer.calls.call_arguments import is_array

_SYMBOLIC = (jax.Array, jax.ShapeDtypeStruct, keras.KerasTensor, keras.Variable)


def check(args: Sequence[Any], keywords: Mapping[str, Any], layer: str) -> None:
    """Reports inputs that are no arrays of numbers.

    Args:
        args: the inputs by position.
        keywords: those by name. What is no array of NumPy is static there, or
            up to JAX.
        layer: how error messages call the layer.

    Raises:
        TypeError: an input is a typed key; one by position is no pytree of
            arrays of numbers; one by name holds an array of NumPy that JAX
            does not take; or the first is `None`; or there is no array among
            those by position.
    """
    leaves = jax.tree_util.tree_leaves(args, is_leaf=is_iterator)
    named = {
        name: jax.tree_util.tree_leaves(value, is_leaf=is_iterator)
        for name, value in keywords.items()
    }
    for leaf in (*leaves, *itertools.chain(*named.values())):
        if jax_compat.key_impl(leaf) is not None:
            raise TypeError(
                f"{layer}: an input is a typed key, which Keras cannot pass "
                "on. Random numbers of a model are the layer's part: of a "
                "module's streams (`rngs=`), of the `rng` of a `call_fn`. A "
                "key of your own goes by its data: pass "
                "`jax.random.key_data(key)`, and `jax.random.wrap_key_data` "
                f"makes the key again. Received: {leaf!r:.80}."
            )
    for leaf in leaves:
        if not _is_input(leaf):
            raise TypeError(
                f"{layer}: inputs by position must be arrays of numbers or "
                "pytrees of such; lists become one by `numpy.array` (rows of "
                "different lengths are padded first), static arguments are "
                f"passed by name.{_advice(leaf)} Received: {leaf!r:.200} (of "
                f"type {type(leaf).__name__})."
            )
    for name, values in named.items():
        for leaf in values:
            if isinstance(leaf, np.ndarray) and not _is_input(leaf):
                raise TypeError(
                    f"{layer}: the input `{name}` must be an array of numbers "
                    f"or a pytree of such.{_advice(leaf)} Received: "
                    f"{leaf!r:.200} (of type {type(leaf).__name__})."
                )
    if args and (args[0] is None or not leaves):
        raise TypeError(
            f"{layer}: the first input must be an array or a pytree of "
            f"arrays. Received: {args[0]!r:.200}."
        )


def _is_input(leaf: Any) -> bool:
    if isinstance(leaf, _SYMBOLIC):
        return True
    if not is_array(leaf) or isinstance(leaf, np.ma.MaskedArray):
        return False
    if isinstance(leaf, np.ndarray | np.generic):
        return is_numeric(leaf.dtype)
    # Those of other libraries say how they become one of NumPy. Sparse ones
    # do not.
    return hasattr(leaf, "__array__")


def is_numeric(dtype: np.dtype) -> bool:
    """Whether it is one of numbers or booleans: no text, object or record."""
    return dtype.kind == "b" or bool(jax.numpy.issubdtype(dtype, np.number))


def _advice(leaf: Any) -> str:
    if isinstance(leaf, np.ma.MaskedArray):
        return (
            " JAX has no masked arrays: pass `x.filled(0)`, and what is masked "
            "as another input, such as `mask=`."
        )
    if hasattr(leaf, "toarray"):
        return " Make a sparse matrix a dense one, by `x.toarray()`."
    if hasattr(leaf, "to_tensor"):
        return " Make a ragged tensor a dense one, by `x.to_tensor()`."
    if hasattr(leaf, "dense_shape"):
        return " Make a sparse tensor a dense one, by `tf.sparse.to_dense(x)`."
    if getattr(getattr(leaf, "dtype", None), "names", None):
        return (
            " Pass the fields of a structured array as a dict of arrays, "
            "`{name: x[name] for name in x.dtype.names}`."
        )
    return ""


def is_iterator(value: Any) -> bool:
    """Whether it gives its values one by one, or later: JAX takes no such."""
    return isinstance(value, Iterator | AsyncIterator | Awaitable)
