"""A SavedModel, which TensorFlow and TensorFlow Serving load."""

from collections.abc import Sequence
from typing import Any

from flaxlayer import stablehlo_version, tensorflow_compat
from flaxlayer.exports import check, extras, names, stablehlo
from flaxlayer.exports.endpoint import ExportedEndpoint
from flaxlayer.exports.weights import SharedWeights
from flaxlayer.serving import structures

# What a SavedModel has under these names is no endpoint.
_TAKEN = ("all_variables", "graph_debug_info", "signatures")


def write(
    folder: str,
    endpoints: Sequence[ExportedEndpoint],
    platforms: Sequence[str],
) -> None:
    """Writes it: each weight as a variable, each endpoint as a signature.

    Raises:
        ImportError: TensorFlow is not installed.
        NotReadable: TensorFlow is too old for what JAX writes.
        ValueError: an endpoint changes weights, has an operation that cannot
            be exported, or a name that means something else here.
    """
    tf = _tensorflow()
    for endpoint in endpoints:
        endpoint.check_stateless("tf_saved_model")
        _check_name(tf, endpoint, endpoints[0])
    weights = SharedWeights(endpoints)
    root = tf.Module()
    with tf.device("CPU:0"):
        variables = {
            name: tf.Variable(
                value,
                trainable=weights.variables[name].trainable,
                name=name,
            )
            for name, value in weights.values.items()
        }
    root.all_variables = list(variables.values())
    signatures: dict[str, Any] = {}
    for endpoint in endpoints:
        function, signature = _functions(
            tf,
            endpoint,
            [variables[name] for name in weights.names[endpoint.name]],
            platforms,
        )
        setattr(root, endpoint.name, function)
        signatures[endpoint.name] = signature
    first = endpoints[0].name
    signatures["serving_default"] = signatures[first]
    tf.saved_model.save(root, folder, signatures=signatures)


def _check_name(
    tf: Any, endpoint: ExportedEndpoint, first: ExportedEndpoint
) -> None:
    name = endpoint.name
    if (
        name in _TAKEN
        or hasattr(tf.Module, name)
        or (name == "serving_default" and endpoint is not first)
    ):
        raise ValueError(
            f"{endpoint.where} cannot be exported as 'tf_saved_model' under "
            f"the name {name!r}, which is that of something else in a "
            "SavedModel (`serving_default` is the first endpoint). Call it "
            "something else."
        )


def _functions(
    tf: Any,
    endpoint: ExportedEndpoint,
    variables: Sequence[Any],
    platforms: Sequence[str],
) -> tuple[Any, Any]:
    """An endpoint as functions of TensorFlow.

    Returns:
        One that takes all arrays one after the other and returns what the model
        does; and one that takes and returns them by name.
    """
    program = stablehlo.exported(
        endpoint,
        platforms,
        handlers=False,
        calling_convention=tensorflow_compat.calling_convention(),
    )
    module = stablehlo_version.oldest(program.mlir_module_serialized)
    specs = [
        tf.TensorSpec(
            [d if isinstance(d, int) else None for d in array.shape],
            tf.as_dtype(array.dtype),
            name=name,
        )
        for array, name in zip(
            endpoint.inputs, names.plain(endpoint.inputs), strict=True
        )
    ]
    returned = names.plain(endpoint.outputs)

    def flat(*inputs: Any) -> list[Any]:
        return tensorflow_compat.call(program, module, [*variables, *inputs])

    def nested(*inputs: Any) -> Any:
        return structures.built(endpoint.results, flat(*inputs))

    def by_name(*inputs: Any) -> dict[str, Any]:
        return dict(zip(returned, flat(*inputs), strict=True))

    return (
        tf.function(nested, input_signature=specs, autograph=False),
        tf.function(by_name, input_signature=specs, autograph=False),
    )


def compare(
    folder: str,
    endpoints: Sequence[ExportedEndpoint],
    platforms: Sequence[str],
) -> dict[str, Any]:
    """Compares what was written, as `ExportReport` has it.

    Raises:
        check.CheckFailed: it cannot be loaded, or computes something else.
    """
    if "cpu" not in platforms:
        return {"note": "nothing was compared: that is done on a CPU"}
    compared = check.run(
        folder,
        "run_saved_model",
        endpoints,
        tolerance=1e-5,
        environment={
            "CUDA_VISIBLE_DEVICES": "-1",
            "TF_CPP_MIN_LOG_LEVEL": "3",
        },
    )
    others = [each for each in platforms if each != "cpu"]
    return {
        "reader": f"TensorFlow {_tensorflow().__version__}",
        "compared": compared,
        "note": f"not compared on {', '.join(others)}" if others else "",
    }


def _tensorflow() -> Any:
    return extras.imported(
        "tensorflow", extra="tensorflow", what='format="tf_saved_model"'
    )
