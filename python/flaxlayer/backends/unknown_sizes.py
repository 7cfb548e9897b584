"""Sizes that TensorFlow does not know where it traces, as symbols of JAX.

All first dimensions are one symbol, the batch. What else is equal nobody says:
each unknown size is a symbol of its own, but that those of a mask are those of
its input. A model that relies on more, such as an addition of two sequences, is
traced with one symbol for each dimension that all inputs share.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax

Shape = tuple[int | None, ...]


def resolved(
    trace: Callable[[list[jax.ShapeDtypeStruct]], Any],
    treedef: Any,
    shapes: Sequence[Shape],
    dtypes: Sequence[Any],
    *,
    layer: str,
) -> Any:
    """Traces with the most general symbols that the traced function allows.

    Args:
        trace: called with shapes and dtypes; sizes may be symbolic.
        treedef: how the arrays are nested.
        shapes: of each array; unknown sizes are `None`.
        dtypes: of each array.
        layer: how error messages call the layer.

    Returns:
        What `trace` returned.

    Raises:
        ValueError: it fails on unknown sizes and not on known ones.
    """
    if not any(None in shape for shape in shapes):
        return trace(_specs(shapes, dtypes))
    first_error: Exception | None = None
    for names in _choices(treedef, shapes):
        try:
            return trace(_specs(names, dtypes))
        except Exception as error:
            first_error = first_error or error
    assert first_error is not None
    try:
        trace(_specs(_sized(shapes), dtypes))
    except Exception:
        # It is not because of the unknown sizes.
        raise first_error from None
    raise ValueError(
        f"{layer}: the model cannot be traced without knowing the sizes of its "
        f"inputs. Received: inputs of shape {_unknown(shapes)}. Make them "
        "known: `keras.Input(shape, batch_size=n)`, "
        "`dataset.batch(n, drop_remainder=True)`, `tf.ensure_shape`, or the "
        f"`input_signature` of a tf.function. JAX says: {first_error}"
    ) from first_error


def _choices(
    treedef: Any, shapes: Sequence[Shape]
) -> Iterator[list[tuple[Any, ...]]]:
    """Shapes with names in the place of unknown sizes, general ones first."""
    owners = _owners(treedef)
    yield [
        tuple(
            size if size is not None else _name(owner, axis)
            for axis, size in enumerate(shape)
        )
        for owner, shape in zip(owners, shapes, strict=True)
    ]
    yield [
        tuple(
            size if size is not None else _name("all", axis)
            for axis, size in enumerate(shape)
        )
        for shape in shapes
    ]


def _name(owner: Any, axis: int) -> str:
    return "batch" if axis == 0 else f"size_{axis}_of_{owner}"


def _owners(treedef: Any) -> list[int]:
    """For each leaf the one whose unknown sizes it has: of a mask its input."""
    indexed = treedef.unflatten(range(treedef.num_leaves))
    flat, _ = jax.tree_util.tree_flatten_with_path(indexed)
    paths = [
        tuple(jax.tree_util.keystr((step,), simple=True) for step in path)
        for path, _ in flat
    ]
    places = {path: i for i, path in enumerate(paths)}

    def owner(i: int) -> int:
        for start, step in enumerate(paths[i]):
            if step == "mask" and paths[i][start - 1] == "keywords":
                first = (*paths[i][: start - 1], "args", "0")
                return places.get((*first, *paths[i][start + 1 :]), i)
        return i

    return [owner(i) for i in range(len(paths))]


def _sized(shapes: Sequence[Shape]) -> list[tuple[int, ...]]:
    return [
        tuple(16 if size is None else size for size in shape)
        for shape in shapes
    ]


def _unknown(shapes: Sequence[Shape]) -> str:
    return ", ".join(str(shape) for shape in shapes if None in shape)


def _specs(
    shapes: Sequence[tuple[Any, ...]], dtypes: Sequence[Any]
) -> list[jax.ShapeDtypeStruct]:
    scope = jax.export.SymbolicScope()
    specs = []
    for shape, dtype in zip(shapes, dtypes, strict=True):
        if any(isinstance(size, str) for size in shape):
            text = ", ".join(map(str, shape))
            shape = jax.export.symbolic_shape(f"({text},)", scope=scope)
        specs.append(jax.ShapeDtypeStruct(shape, dtype))
    return specs
