"""What a layer or model takes, as it is to be exported."""

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any

import jax
import keras

from flaxlayer.calls.call_arguments import CallArguments
from flaxlayer.exports import dimensions
from flaxlayer.layer.model_layer import ModelLayer
from flaxlayer.serving import structures
from flaxlayer.serving.signature import Array

_HOW = (
    "Pass `inputs=`: a `jax.ShapeDtypeStruct` or `keras.KerasTensor` for each "
    "array, in the structure that it is called with, or a "
    "`flaxlayer.CallArguments` of these"
)


@dataclasses.dataclass(frozen=True)
class Inputs:
    """The arguments of an endpoint.

    Attributes:
        arguments: how its arrays are nested, as `serving.signature` has it.
        arrays: the arrays in it, by name, as what has a shape and a dtype.
        masks: for each that is a mask, the input that it is a mask of.
        static: keywords that are no arrays.
        seen: whether the sizes of the first axis are those of the batch that
            it was built by, of which any size will do.
    """

    arguments: Mapping[str, Any]
    arrays: Mapping[str, Any]
    masks: Mapping[str, str]
    static: Mapping[str, Any]
    seen: bool

    @property
    def ways(self) -> list[dimensions.Way]:
        """What the sizes may be taken for, the most general first.

        A model may take two unknown sizes to be equal; and the first axis may
        be no batch.
        """
        return [
            dimensions.Way(any_batch, shared)
            for any_batch in ((True, False) if self.seen else (False,))
            for shared in (False, True)
        ]

    def described(self, way: dimensions.Way) -> tuple[Array, ...]:
        """The arrays with names for sizes; see `dimensions.named`."""
        shapes = dimensions.named(self.arrays, self.masks, way)
        return tuple(
            Array(name, shapes[name], _dtype(spec))
            for name, spec in self.arrays.items()
        )

    def call(self, leaves: list[Any]) -> tuple[list[Any], dict[str, Any]]:
        """The arguments of a call, by position and by name."""
        args = structures.built({"list": self.arguments["args"]}, leaves)
        named = structures.built({"dict": self.arguments["kwargs"]}, leaves)
        return args, {**named, **self.static}


def of(layer: keras.layers.Layer, given: Any, where: str) -> Inputs:
    """The inputs of a layer or model.

    Args:
        layer: the layer or model.
        given: the `inputs` argument for it, or `None`.
        where: what messages call it.

    Raises:
        TypeError: `given` is no description of inputs.
        ValueError: they are not known, or have a mode.
    """
    named = False
    if given is not None:
        specs = given
    elif isinstance(layer, ModelLayer):
        specs = _as_given(layer)
        if specs is None:
            raise ValueError(
                f"{where} has no inputs yet: it was never built. Build it or "
                "call it on data first."
            )
    else:
        specs, named = _of_model(layer)
        if specs is None:
            raise ValueError(
                f"the inputs of {where} are not known: it is neither a layer "
                f"of flaxlayer nor a functional or Sequential model. {_HOW}."
            )
    if not isinstance(specs, CallArguments):
        specs = CallArguments(specs)
    if "training" in specs.all_keywords():
        raise ValueError(
            f"the inputs of {where} have `training`, which is always False in "
            "an export. Leave it out."
        )
    parameters = _parameters(layer, len(specs.args))
    try:
        return _described(specs, parameters, named=named, seen=given is None)
    except TypeError as error:
        raise TypeError(f"the inputs of {where}: {error} {_HOW}.") from error


def _as_given(layer: ModelLayer) -> Any:
    """What the layer was built for, in the dtypes that its callers have.

    Keras casts floating-point inputs to the compute dtype, in which the layer
    has seen them.
    """
    usual = keras.config.floatx()
    if layer._inputs.built is None or not layer.autocast:
        return layer._inputs.built

    def describe(spec: keras.KerasTensor) -> keras.KerasTensor:
        dtype = usual if spec.dtype == layer.input_dtype else spec.dtype
        return keras.KerasTensor(spec.shape, dtype=dtype)

    built = jax.tree_util.tree_map(describe, layer._inputs.built)
    transient = layer._model.call_form.transient
    if isinstance(built, CallArguments) and transient:
        # Collections are not cast.
        seen = layer._inputs.built.keywords
        built.keywords = {
            k: seen[k] if k in transient else v
            for k, v in built.keywords.items()
        }
    return built


def _of_model(model: Any) -> tuple[Any, bool]:
    """The inputs of a functional or Sequential model.

    Returns:
        They; and whether each is called by its own name.
    """
    try:
        flat = list(model.inputs or ())
    except (AttributeError, ValueError):
        return None, False
    if not flat:
        return None, False
    structure = flat[0] if isinstance(model, keras.Sequential) else model.input
    return structure, not isinstance(structure, Mapping)


def _parameters(layer: keras.layers.Layer, count: int) -> list[str]:
    """The names of the arguments that a call takes by position."""
    if isinstance(layer, ModelLayer):
        signature = layer._model.call_form.signature
    else:
        signature = inspect.signature(layer.call)
    names = [
        name
        for name, parameter in signature.parameters.items()
        if parameter.kind
        in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    return [*names, *(f"input_{i}" for i in range(len(names), count))][:count]


def _described(
    specs: CallArguments,
    parameters: list[str],
    *,
    named: bool,
    seen: bool,
) -> Inputs:
    whole = {
        **dict(zip(parameters, specs.args, strict=True)),
        **specs.keywords,
    }
    arrays: dict[str, Any] = {}
    nested: dict[str, Any] = {}
    of_argument: dict[str, list[str]] = {}
    for argument, tree in whole.items():
        structure, leaves = structures.described(tree, argument)
        own = {leaf.name: leaf for leaf in leaves.values()} if named else {}
        if len(own) == len(leaves):
            leaves = own
        nested[argument] = _moved(structure, len(arrays))
        of_argument[argument] = []
        for name, leaf in leaves.items():
            unique = name if name not in arrays else f"{argument}/{name}"
            arrays[unique] = leaf
            of_argument[argument].append(unique)
    first = of_argument[parameters[0]] if parameters else []
    masks = of_argument.get("mask", [])
    return Inputs(
        {
            "args": [nested[name] for name in parameters],
            "kwargs": {name: nested[name] for name in specs.keywords},
        },
        arrays,
        dict(zip(masks, first, strict=False)),
        specs.static,
        seen,
    )


def _moved(structure: Any, by: int) -> Any:
    """A structure whose leaves are counted from another number."""
    match structure:
        case int():
            return structure + by
        case {"dict": items}:
            return {"dict": {k: _moved(v, by) for k, v in items.items()}}
        case {"list": items}:
            return {"list": [_moved(v, by) for v in items]}
        case {"tuple": items}:
            return {"tuple": [_moved(v, by) for v in items]}
    return structure


def _dtype(spec: Any) -> str:
    # NumPy's 64-bit types become what JAX makes of them.
    return jax.dtypes.canonicalize_dtype(spec.dtype).name
