"""Names for the sizes of inputs that are not known."""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.export

BATCH = "batch"

# How many letters of the names of inputs and axes are names of sizes.
_LONGEST = 48

# Words of JAX's own in expressions of sizes.
_TAKEN = ("floordiv", "max", "min", "mod", "non_negative")


class Way(NamedTuple):
    """What sizes of inputs are taken for.

    Attributes:
        any_batch: whether the first axis is unknown where its size is known,
            and that of the first input.
        shared: whether all inputs have one unknown size on the same axis.
    """

    any_batch: bool
    shared: bool


def named(
    inputs: Mapping[str, Any], masked: Mapping[str, str], way: Way
) -> dict[str, tuple[int | str, ...]]:
    """Shapes with a name for every size that is not known.

    The first axis is the batch, one for all inputs. Any other is called by its
    input and its place, and is that of the input in its mask.

    Args:
        inputs: what has a shape, by name; `None` and names are unknown sizes.
        masked: for each mask that of the input it is a mask of.
        way: what is taken for unknown.
    """
    batch = next((s.shape[0] for s in inputs.values() if s.shape), None)
    given: dict[tuple[str, int], str] = {}

    def name(owner: str, axis: int, size: Any) -> int | str:
        # One of another size is no batch, but that of a table for one.
        if axis == 0 and (size is None or (way.any_batch and size == batch)):
            return BATCH
        if size is not None:
            return size
        owner = "size" if way.shared else owner
        text = re.sub(r"\W", "_", f"{owner}_{axis}", flags=re.ASCII)
        text = text if re.match("[A-Za-z_]", text) else f"_{text}"
        if (owner, axis) not in given:
            given[owner, axis] = _unused(text, given.values())
        return given[owner, axis]

    return {
        key: tuple(
            name(masked.get(key, key), axis, size)
            for axis, size in enumerate(spec.shape)
        )
        for key, spec in inputs.items()
    }


def _unused(text: str, used: Collection[str]) -> str:
    """A name that is not used, and not too long for a signature."""
    text = text[-_LONGEST:].lstrip("0123456789")
    unique, count = text, 1
    while unique in used:
        unique, count = f"{text}_{count}", count + 1
    return unique


def names_in(shapes: Mapping[str, Sequence[int | str]]) -> list[str]:
    """The names in shapes, in the order in which they come.

    Raises:
        ValueError: a name is none that can be used.
    """
    found = dict.fromkeys(
        size
        for shape in shapes.values()
        for size in shape
        if isinstance(size, str)
    )
    for name in found:
        if not name.isidentifier() or name in _TAKEN or not name.isascii():
            raise ValueError(
                "the name of an unknown size must be a Python identifier other "
                f"than {list(_TAKEN)}. Received: {name!r}."
            )
    return list(found)


def symbolic(
    shapes: Mapping[str, Sequence[int | str]], constraints: Sequence[str]
) -> dict[str, tuple[Any, ...]]:
    """The same with the symbolic dimensions of JAX for names.

    Args:
        shapes: shapes with names in them, by anything.
        constraints: what is true of them, as `jax.export` takes it.
    """
    names = names_in(shapes)
    symbols: dict[str, Any] = {}
    if names:
        made = jax.export.symbolic_shape(
            ", ".join(names), constraints=constraints
        )
        symbols = dict(zip(names, made, strict=True))
    return {
        key: tuple(
            symbols.get(d, d) if isinstance(d, str) else d for d in shape
        )
        for key, shape in shapes.items()
    }


def of_dims(shape: Sequence[Any]) -> tuple[int | str, ...]:
    """A shape with text for its symbolic dimensions."""
    return tuple(d if isinstance(d, int) else str(d) for d in shape)


def hold(constraints: Sequence[str], sizes: Mapping[str, int]) -> bool:
    """Whether constraints are true of sizes, those that speak of them."""
    functions = {
        "floordiv": lambda a, b: a // b,
        "max": max,
        "min": min,
        "mod": lambda a, b: a % b,
    }
    for constraint in constraints:
        try:
            # It is Python, of the caller's own program.
            if not eval(constraint, {"__builtins__": functions}, dict(sizes)):
                return False
        except NameError:
            continue
    return True
