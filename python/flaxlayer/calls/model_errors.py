"""Errors of a model, with the layer in them."""

from typing import Any

import jax
import keras

from flaxlayer.calls import input_specs

# Those that are made of a message alone. Others are for who knows them.
_PLAIN = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    IndexError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
    ZeroDivisionError,
)


def named(error: Exception, layer: str, shown: str, inputs: Any) -> Exception:
    """An error of a model that is being built, with the layer in it.

    Args:
        error: what the model raised.
        layer: how error messages call the layer.
        shown: the layer, with what it is made of.
        inputs: the description of what it was built for.

    Returns:
        An error of the same type; or the same one, where it says which layer
        it is, or is none of Python's usual ones.
    """
    if type(error) not in _PLAIN or layer in str(error):
        return error
    advice = ""
    if any(map(_is_sparse, jax.tree_util.tree_leaves(inputs, _is_sparse))):
        advice = (
            " Sparse arrays of JAX are handed on as they are; for a model that "
            "does not take them, make them dense, by `x.todense()`."
        )
    return type(error)(
        f"{layer}: the model failed on inputs {_described(inputs)}.{advice} "
        f"Check what the layer was made with: {shown}. The model says: {error}"
    )


def _described(inputs: Any) -> str:
    # Pytrees, of which their own `repr` cannot show a description.
    return input_specs.described(
        jax.tree_util.tree_map(
            lambda x: (
                keras.KerasTensor(x.shape, x.dtype) if _is_sparse(x) else x
            ),
            inputs,
            is_leaf=_is_sparse,
        )
    )


def _is_sparse(value: Any) -> bool:
    return hasattr(value, "todense")


def explain(
    error: Exception, received: Any, built: Any, *, layer: str, shown: str
) -> None:
    """Raises a clearer error than the one a call of a model raised, if any.

    Args:
        error: what it raised.
        received: the description of its inputs; `None` where there is none.
        built: what it was built for; `None` if it is not built.
        layer: how error messages call the layer.
        shown: the layer, with what it is made of.
    """
    named_already = str(error).startswith(layer)
    if built is not None and received is not None:
        fits = input_specs.same_ranks(received, built, dtypes=True)
        # Many models take inputs of any size, and fail for other reasons.
        if (
            fits
            and type(error) in (TypeError, ValueError)
            and (not named_already)
        ):
            fits = input_specs.same_sizes(received, built)
        if not fits:
            problem = str(error).removeprefix(f"{layer}: ")
            raise ValueError(
                f"{layer} was built for inputs "
                f"{input_specs.described(built)} and failed on "
                f"{input_specs.described(received)}: {problem}"
            ) from error
    if isinstance(error, jax.errors.JAXTypeError):
        # Keras makes exceptions anew from their message alone, which fails
        # for JAX's and would hide this one.
        raise TypeError(f"{layer}: {error}") from error
    if built is None:
        raise_named(error, layer, shown, received)


def raise_named(error: Exception, layer: str, shown: str, inputs: Any) -> None:
    """Raises an error of a model with the layer in it, if it has none."""
    found = named(error, layer, shown, inputs)
    if found is not error:
        raise found from error
