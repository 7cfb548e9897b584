"""What errors of building a layer mean for someone who uses it."""

from typing import Any

from flaxlayer.calls import input_specs, model_errors
from flaxlayer.paths import StructureMismatch
from flaxlayer.weights import initialization, memory
from flaxlayer.weights.layouts import LayoutMismatch


def explain(
    error: Exception, specs: Any, *, assumed: bool, layer: str, shown: str
) -> None:
    """Raises a clearer error than the one that building raised, if there is.

    Args:
        error: what it raised.
        specs: the inputs the layer was built for.
        assumed: whether their dtypes were.
        layer: how error messages call the layer.
        shown: the layer, with what it is made of.
    """
    match error:
        case initialization.UnknownDimensions():
            raise ValueError(
                f"{layer}: {error}. Pass `inputs_spec=` with the "
                "size of that dimension, or call the layer on data first."
            ) from error
        case StructureMismatch() | LayoutMismatch():
            raise ValueError(f"{layer}: {error}") from error
        case memory.NotEnoughMemory():
            raise MemoryError(
                f"{layer}, built for inputs "
                f"{input_specs.described(specs)}, does not fit into memory: "
                f"{error}. Check the sizes of the inputs, or use a machine "
                "with more memory."
            ) from error
    if not assumed:
        model_errors.raise_named(error, layer, shown, specs)
        return
    raise ValueError(
        f"{layer} was built from a shape alone, so its "
        f"inputs were taken to be {input_specs.described(specs)}, and "
        f"the model failed on these: {error}. If they have another "
        "dtype, pass `inputs_spec=`, such as "
        '`jax.ShapeDtypeStruct(shape, "int32")`.'
    ) from error
