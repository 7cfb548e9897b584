"""What a layer knows of its inputs before it sees any: shapes and dtypes.

Keras hands `build` nothing but shapes, with `None` for what is not known. A
model needs dtypes as well (an embedding takes integers), and needs unknown
dimensions to stay unknown: a weight whose shape depends on one cannot be
created. So inputs are described by pytrees of `keras.KerasTensor`s, and traced
with JAX's symbolic dimensions in the place of `None`.
"""

from collections.abc import Callable
from typing import Any

import jax
import keras

from flaxlayer import jax_compat
from flaxlayer.calls.call_arguments import CallArguments, first_input

# Two sizes for unknown dimensions, for models that cannot be traced with a
# symbolic one. What differs between them depends on the unknown. They are
# powers of two, since strides and pooling windows mostly divide those.
CONCRETE_SIZES = (16, 32)


def of_arrays(inputs: Any, floating: str | None = None) -> Any:
    """The description of arrays, `KerasTensor`s or `ShapeDtypeStruct`s.

    Args:
        inputs: a pytree of them.
        floating: the dtype that floating-point inputs are cast to.
    """

    def describe(x: Any) -> keras.KerasTensor:
        shape = tuple(d if isinstance(d, int) else None for d in x.shape)
        # NumPy's 64-bit types become what JAX makes of them.
        dtype = jax.dtypes.canonicalize_dtype(numpy_dtype(x.dtype))
        if floating is not None and jax.numpy.issubdtype(
            dtype, jax.numpy.floating
        ):
            dtype = floating
        return keras.KerasTensor(
            shape, dtype=keras.backend.standardize_dtype(dtype)
        )

    return jax.tree_util.tree_map(describe, inputs)


def numpy_dtype(dtype: Any) -> Any:
    """The dtype of an array of any library as one that JAX knows."""
    # TensorFlow has its own, of which JAX knows nothing.
    return getattr(dtype, "as_numpy_dtype", dtype)


def of_declared(spec: Any, layer: str, floating: str | None = None) -> Any:
    """The description that an `inputs_spec` argument is, or `None` for none.

    Args:
        spec: the argument.
        layer: how error messages call the layer.
        floating: as in `of_arrays`.

    Raises:
        TypeError: it is no pytree of what has a shape and a dtype.
    """
    if spec is None:
        return None
    leaves = jax.tree_util.tree_leaves(spec)
    if not leaves or not all(
        isinstance(getattr(leaf, "shape", None), tuple)
        and getattr(leaf, "dtype", None) is not None
        for leaf in leaves
    ):
        raise TypeError(
            f"{layer}: `inputs_spec` must be a pytree of "
            "`jax.ShapeDtypeStruct`s, `keras.KerasTensor`s or arrays, such as "
            '`jax.ShapeDtypeStruct((1, 16), "int32")`. Received: '
            f"{spec!r:.200} (of type {type(spec).__name__})."
        )
    return of_arrays(spec, floating)


def check_shapes(shapes: Any, layer: str) -> None:
    """Reports what Keras would not pass around as shapes.

    Raises:
        TypeError: it is no shape or structure of shapes.
        ValueError: a size is negative.
    """
    if is_shape(shapes):
        if any(size is not None and size < 0 for size in shapes):
            raise ValueError(
                f"{layer}: sizes in `input_shape` must not be negative; "
                f"`None` is an unknown one. Received: {shapes!r:.200}."
            )
    elif isinstance(shapes, dict | list | tuple):
        for each in shapes.values() if isinstance(shapes, dict) else shapes:
            if each is not None:
                check_shapes(each, layer)
    else:
        raise TypeError(
            f"{layer}: `input_shape` must be a shape, such as `(None, 4)`, or "
            "a dict, list or tuple of shapes. Received: "
            f"{shapes!r:.200} (of type {type(shapes).__name__})."
        )


def of_shapes(shapes: Any, dtype: str, known: Any = None) -> Any:
    """The description of inputs with `shapes`.

    Args:
        shapes: a shape or a structure of shapes.
        dtype: the dtype of all of them;
        known: if it is a description with as many leaves, its dtypes are used
            instead.
    """
    specs = _with_dtype(shapes, dtype)
    leaves, treedef = jax.tree_util.tree_flatten(specs)
    dtypes = [spec.dtype for spec in jax.tree_util.tree_leaves(known)]
    if len(dtypes) != len(leaves):
        return specs
    return treedef.unflatten(
        keras.KerasTensor(spec.shape, dtype=dtype)
        for spec, dtype in zip(leaves, dtypes, strict=True)
    )


def _with_dtype(shapes: Any, dtype: str) -> Any:
    if is_shape(shapes):
        return keras.KerasTensor(tuple(shapes), dtype=dtype)
    if isinstance(shapes, dict):
        return {key: _with_dtype(shape, dtype) for key, shape in shapes.items()}
    if isinstance(shapes, list | tuple):
        return type(shapes)(_with_dtype(shape, dtype) for shape in shapes)
    return shapes


def shapes(specs: Any) -> Any:
    """The structure of shapes that Keras passes around for `specs`.

    Of several arguments it is that of the first.
    """
    specs = first_input(specs)
    return jax.tree_util.tree_map(lambda spec: spec.shape, specs)


def same_ranks(a: Any, b: Any, *, dtypes: bool = False) -> bool:
    """Whether two descriptions have one structure, and the same ranks in it.

    Args:
        a: a description.
        b: another one.
        dtypes: whether the dtypes have to be the same as well.
    """
    # By paths: a list and a tuple are the same to Keras.
    flat_a, flat_b = (
        jax.tree_util.tree_flatten_with_path(specs)[0] for specs in (a, b)
    )
    return len(flat_a) == len(flat_b) and all(
        path_a == path_b
        and len(spec_a.shape) == len(spec_b.shape)
        and (not dtypes or spec_a.dtype == spec_b.dtype)
        for (path_a, spec_a), (path_b, spec_b) in zip(
            flat_a, flat_b, strict=True
        )
    )


def same_shapes(a: Any, b: Any) -> bool:
    """Whether two structures of shapes may be those of the same inputs.

    The first dimension is the batch, and any size of it will do.
    """
    if is_shape(a) and is_shape(b):
        return len(a) == len(b) and all(
            None in sizes or len(set(sizes)) == 1
            for sizes in zip(a[1:], b[1:], strict=True)
        )
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same_shapes(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(same_shapes, a, b))
    return a is None and b is None


def same_sizes(a: Any, b: Any) -> bool:
    """Whether two descriptions of the same ranks have the same known sizes.

    But for the first dimension, which is the batch.
    """
    return all(
        None in sizes or len(set(sizes)) == 1
        for spec_a, spec_b in zip(
            jax.tree_util.tree_leaves(a),
            jax.tree_util.tree_leaves(b),
            strict=True,
        )
        for sizes in zip(spec_a.shape[1:], spec_b.shape[1:], strict=True)
    )


def refined(specs: Any, declared: Any) -> Any:
    """`specs` with the sizes of `declared` where it has none.

    But for the first dimension: that is the batch, and any size will do.
    """
    if not same_ranks(specs, declared):
        return specs
    leaves, treedef = jax.tree_util.tree_flatten(specs)
    return treedef.unflatten(
        keras.KerasTensor(
            spec.shape[:1]
            + tuple(
                known if size is None else size
                for size, known in zip(
                    spec.shape[1:], more.shape[1:], strict=True
                )
            ),
            dtype=spec.dtype,
        )
        for spec, more in zip(
            leaves, jax.tree_util.tree_leaves(declared), strict=True
        )
    )


def batched(specs: Any, batch: tuple[int | None, ...]) -> Any:
    """`specs` with `batch` for the first dimension of each, if it has one."""
    return jax.tree_util.tree_map(
        lambda spec: keras.KerasTensor(
            batch + spec.shape[1:] if spec.shape else (), dtype=spec.dtype
        ),
        specs,
    )


def to_config(specs: Any, layer: str) -> Any:
    """A description as JSON-compatible values.

    Args:
        specs: the description.
        layer: how error messages call the layer.

    Raises:
        TypeError: it has a container other than dicts, lists and tuples, or a
            static argument that is not of a type that JSON has.
    """
    if isinstance(specs, keras.KerasTensor):
        return {"shape": list(specs.shape), "dtype": specs.dtype}
    if isinstance(specs, CallArguments):
        return {
            "arguments": [to_config(arg, layer) for arg in specs.args],
            "keywords": {
                k: to_config(v, layer) for k, v in specs.keywords.items()
            },
            "static": {k: _plain(k, v, layer) for k, v in specs.static.items()},
        }
    if isinstance(specs, dict):
        return {"dict": {k: to_config(v, layer) for k, v in specs.items()}}
    # A named tuple would come back as a list, without its names.
    if isinstance(specs, list | tuple) and not hasattr(specs, "_fields"):
        return {"list": [to_config(value, layer) for value in specs]}
    if specs is None:
        return None
    raise TypeError(
        f"{layer}: inputs in a container of type {type(specs).__name__} cannot "
        "be saved as what the layer was built for; use dicts, lists and tuples."
    )


def from_config(config: Any, layer: str) -> Any:
    """The description that `to_config` wrote.

    Raises:
        ValueError: it is not one.
    """
    match config:
        case None:
            return None
        case {"shape": [*shape], "dtype": str(dtype)} if is_shape(shape):
            if all(d is None or d >= 0 for d in shape):
                return keras.KerasTensor(tuple(shape), dtype=dtype)
        case {
            "arguments": [*args],
            "keywords": dict(keywords),
            "static": dict(static),
        }:
            described = {k: from_config(v, layer) for k, v in keywords.items()}
            args = [from_config(arg, layer) for arg in args]
            return CallArguments(*args, **described, **static)
        case {"dict": dict(items)}:
            return {k: from_config(v, layer) for k, v in items.items()}
        case {"list": [*items]}:
            return [from_config(v, layer) for v in items]
    raise ValueError(
        f"{layer}: the saved description of the inputs is not one this layer "
        f"writes. Received: {config!r:.200}."
    )


def _plain(name: str, value: Any, layer: str) -> Any:
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise TypeError(
        f"{layer}: the static argument `{name}` cannot be saved as a part of "
        "what the layer was built for. Expected `None`, a boolean, a number or "
        f"text. Received: {value!r:.200} (of type {type(value).__name__})."
    )


def is_shape(value: Any) -> bool:
    """Whether `value` is one shape rather than a structure of shapes."""
    return isinstance(value, list | tuple) and all(
        d is None or isinstance(d, int) for d in value
    )


def has_unknown(specs: Any) -> bool:
    """Whether any dimension is not known."""
    return any(None in spec.shape for spec in jax.tree_util.tree_leaves(specs))


def symbolic(specs: Any) -> Any:
    """`ShapeDtypeStruct`s with one symbolic dimension for every unknown one.

    One symbol stands for all of them, as in Keras's own shape inference:
    models may rely on unknown dimensions being equal, such as the batch sizes
    of two inputs.
    """
    if not has_unknown(specs):
        return concrete(specs)
    # At least 2, or nothing could be said about broadcasting.
    dimension = jax_compat.symbolic_dimension("unknown", at_least=2)
    return _filled(specs, dimension)


def concrete(specs: Any, size: int = 1) -> Any:
    """`ShapeDtypeStruct`s with `size` for every unknown dimension."""
    return _filled(specs, size)


def _filled(specs: Any, dimension: Any) -> Any:
    return jax.tree_util.tree_map(
        lambda spec: jax.ShapeDtypeStruct(
            tuple(dimension if d is None else d for d in spec.shape),
            spec.dtype,
        ),
        specs,
    )


def output_specs(fn: Callable[[Any], Any], specs: Any) -> Any:
    """Traces `fn` on described inputs and describes what it returns.

    Args:
        fn: a function of one pytree of arrays; it is traced, not run.
        specs: a pytree of `keras.KerasTensor`s.

    Returns:
        A pytree of `keras.KerasTensor`s; dimensions that depend on an unknown
        one are `None`.
    """
    try:
        return of_arrays(jax.eval_shape(fn, symbolic(specs)))
    except Exception:
        if not has_unknown(specs):
            raise
        # Not every model can be traced with a symbolic dimension: it may
        # compare sizes, or loop over one. Whether the failure came from that
        # shows when concrete sizes work; if they do not, the first error is
        # the one to see.
        try:
            small, large = (
                jax.eval_shape(fn, concrete(specs, size))
                for size in CONCRETE_SIZES
            )
        except Exception:
            small = large = None
        if small is None:
            raise
    return jax.tree_util.tree_map(_common, small, large)


def _common(small: Any, large: Any) -> keras.KerasTensor:
    shape = tuple(
        a if a == b else None
        for a, b in zip(small.shape, large.shape, strict=True)
    )
    return keras.KerasTensor(
        shape, dtype=keras.backend.standardize_dtype(small.dtype)
    )


def described(specs: Any) -> str:
    """Shapes and dtypes as error messages show them."""
    return str(
        jax.tree_util.tree_map(
            lambda s: _Text(f"{s.dtype}{list(s.shape)}".replace("'", "")),
            specs,
        )
    )


class _Text(str):
    """A string that shows itself without quotes inside containers."""

    def __repr__(self) -> str:
        return str(self)
