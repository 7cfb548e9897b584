"""`flaxlayer.export`: a model as files that are served without Keras."""

import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import jax.export
import keras

from flaxlayer import backends, keras_compat, short_repr
from flaxlayer.exports import inputs as layer_inputs
from flaxlayer.exports import onnx_file, stablehlo, tf_saved_model
from flaxlayer.exports.endpoint import ExportedEndpoint
from flaxlayer.exports.report import ExportReport
from flaxlayer.layer.model_layer import ModelLayer
from flaxlayer.serving.signature import NAME

Format = Literal["stablehlo", "tf_saved_model", "onnx"]

_FORMATS: dict[Format, Any] = {
    "stablehlo": stablehlo,
    "tf_saved_model": tf_saved_model,
    "onnx": onnx_file,
}

# One of these is in every folder that is an export, and nothing else.
_MARKS = frozenset({"signature.json", "saved_model.pb"})
_PARTS = re.compile(
    r"signature\.json|weights\.npz|\w+\.jax_export"
    r"|saved_model\.pb|fingerprint\.pb|variables|assets"
)


def export(
    model: Any,
    path: str | os.PathLike[str],
    *,
    format: Format = "stablehlo",
    inputs: Any = None,
    constraints: Sequence[str] = (),
    platforms: Sequence[str] | None = None,
    check: bool = True,
    overwrite: bool = False,
) -> ExportReport:
    """Writes a model, for inference, as files that are served without Keras.

    Args:
        model: a layer of flaxlayer, or a Keras model or layer, with such layers
            in it or not, that is built; or a mapping from names of endpoints to
            these, whose shared weights are stored once. A single one is the
            endpoint `"serve"`.
        path: where to write it.
        format: `"stablehlo"`, a folder for `flaxlayer.serving.load`;
            `"tf_saved_model"`, a folder for TensorFlow; or `"onnx"`, a file for
            onnxruntime, of one endpoint.
        inputs: what the model is called with, where it is not known or is to be
            another: a pytree of `jax.ShapeDtypeStruct`s or
            `keras.KerasTensor`s, or a `flaxlayer.CallArguments` of these; for
            several endpoints a mapping from their names. A size that is not
            known is `None` in a `keras.KerasTensor`; in a
            `jax.ShapeDtypeStruct` it is a name, which stands for one size
            wherever it is. The first axis is the batch.
        constraints: what is true of sizes that are not known, for models that
            rely on it, such as `["length <= 512"]`, in the words of
            `jax.export.symbolic_shape`.
        platforms: what the programs are for, such as `("cpu", "cuda", "tpu")`,
            which need not be here; by default the platform that JAX has here.
        check: whether the files are loaded in a new process, which has only
            what serves them, and compared with the model on new data.
        overwrite: whether to replace what is at `path`.

    Returns:
        What was written and compared; `print` it to read it.

    Raises:
        CheckFailed: what was written cannot be loaded or computes something
            else; there is nothing new at `path` then.
        FileExistsError: `path` is there, and `overwrite` is not set.
        RuntimeError: Keras has another backend than JAX.
        TypeError: `model` or `inputs` is none of the above.
        ImportError: what the format needs is not installed.
        ValueError: the model is not built, its inputs are not known, or it has
            something that the format has no word for; the message says where.
    """
    if not backends.current.HOLDS_JAX:
        raise RuntimeError(
            "`flaxlayer.export` needs the JAX backend of Keras. Received: "
            f"{keras.backend.backend()!r}. Use `model.export(path, "
            'format="tf_saved_model")`; or save the model as a `.keras` file, '
            "and load and export it with KERAS_BACKEND=jax."
        )
    target = os.path.abspath(os.fspath(path))
    if format not in get_args(Format):
        raise ValueError(
            f"`format` must be one of {get_args(Format)}. Received: {format!r}."
        )
    _check_place(target, format, overwrite=overwrite)
    lowered_for = _platforms(platforms, format)
    endpoints = _endpoints(model, inputs, constraints)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    # Beside its place, which it takes when it is whole and has been compared.
    with tempfile.TemporaryDirectory(
        prefix=f".{os.path.basename(target)}.", dir=os.path.dirname(target)
    ) as work:
        made = os.path.join(work, os.path.basename(target))
        module = _FORMATS[format]
        module.write(made, endpoints, lowered_for)
        compared = module.compare(made, endpoints, lowered_for) if check else {}
        report = ExportReport(
            target, format, lowered_for, _size(made), **compared
        )
        _put(made, target, work, format, overwrite=overwrite)
    return report


def _platforms(given: Sequence[str] | None, format: Format) -> tuple[str, ...]:
    if format == "onnx":
        if given is not None:
            raise ValueError(
                "an ONNX file is for no platform; `platforms` must be `None` "
                f"for it. Received: {given!r}."
            )
        return ()
    if given is None:
        return (jax.export.default_export_platform(),)
    known = stablehlo.PLATFORMS
    if isinstance(given, str) or not given or not set(given) <= set(known):
        raise ValueError(
            f"`platforms` must be a sequence of some of {known}. Received: "
            f"{given!r}."
        )
    return tuple(dict.fromkeys(given))


def _endpoints(
    model: Any, inputs: Any, constraints: Sequence[str]
) -> list[ExportedEndpoint]:
    if isinstance(constraints, str):
        raise TypeError(
            "`constraints` must be a sequence of texts. Received: "
            f"{constraints!r}."
        )
    if not isinstance(model, Mapping):
        where = _described(model)
        return [_endpoint("serve", model, inputs, where, constraints)]
    given = {} if inputs is None else inputs
    if not isinstance(given, Mapping) or not given.keys() <= model.keys():
        raise TypeError(
            "`inputs` of several endpoints must be a mapping from some of "
            f"their names, {list(model)}. Received: "
            f"{short_repr.of(inputs)} (of type {type(inputs).__name__})."
        )
    if not model:
        raise ValueError(
            "there must be an endpoint. Received: an empty mapping."
        )
    for name in model:
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise ValueError(
                "the name of an endpoint must have letters, digits and "
                f"underscores, and begin with a letter. Received: {name!r}."
            )
    return [
        _endpoint(
            name,
            layer,
            given.get(name),
            f"{_described(layer)} (the endpoint {name!r})",
            constraints,
        )
        for name, layer in model.items()
    ]


def _endpoint(
    name: str, layer: Any, inputs: Any, where: str, constraints: Sequence[str]
) -> ExportedEndpoint:
    if not isinstance(layer, keras.layers.Layer):
        raise TypeError(
            "`export` takes a Keras layer or model, or a mapping from names to "
            f"these. Received: {short_repr.of(layer)} (of type "
            f"{type(layer).__name__})."
        )
    for part in [layer, *keras_compat.flattened_layers(layer)]:
        if not part.built and (part is layer or isinstance(part, ModelLayer)):
            raise ValueError(
                f"{where} cannot be exported: {_described(part)} was never "
                "built. Build it or call it on data first."
            )
    found = layer_inputs.of(layer, inputs, where)
    return ExportedEndpoint(name, layer, found, where, constraints)


def _described(layer: Any) -> str:
    return f"{type(layer).__name__} '{getattr(layer, 'name', '?')}'"


def _check_place(target: str, format: Format, *, overwrite: bool) -> None:
    if not os.path.lexists(target):
        return
    if not overwrite:
        raise FileExistsError(
            f"{target!r} is there already. Pass `overwrite=True` to replace it."
        )
    kind = "file" if format == "onnx" else "folder"
    if os.path.isdir(target) != (kind == "folder"):
        raise FileExistsError(
            f"{target!r} is no {kind}, as {format!r} writes one, and is not "
            "replaced. Export to another path."
        )
    if kind == "file":
        return
    names = os.listdir(target)
    if not _MARKS.intersection(names):
        raise FileExistsError(
            f"{target!r} is a folder that no export is in, and is not replaced."
        )
    others = sorted(name for name in names if not _PARTS.fullmatch(name))
    if others:
        raise FileExistsError(
            f"{target!r} is a folder with more in it than an export, and is "
            f"not replaced: {others!r:.200}. Move that elsewhere, or export "
            "to another path."
        )


def _put(
    made: str, target: str, work: str, format: Format, *, overwrite: bool
) -> None:
    """Moves what was made to its place."""
    _check_place(target, format, overwrite=overwrite)
    replaced = os.path.join(work, "replaced")
    if os.path.lexists(target):
        os.rename(target, replaced)
    try:
        os.rename(made, target)
    except BaseException:
        if os.path.lexists(replaced):
            os.rename(replaced, target)
        raise


def _size(path: str) -> int:
    if os.path.isfile(path):
        return os.path.getsize(path)
    return sum(
        os.path.getsize(os.path.join(folder, name))
        for folder, _, names in os.walk(path)
        for name in names
    )
