"""An ONNX file, which onnxruntime and others load."""

import contextlib
import io
import warnings
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flaxlayer.exports import check, extras, names
from flaxlayer.exports.endpoint import ExportedEndpoint


def write(
    path: str,
    endpoints: Sequence[ExportedEndpoint],
    platforms: Sequence[str],
) -> None:
    """Writes it, with the weights as constants.

    Raises:
        ImportError: jax2onnx is not installed.
        ValueError: there are several endpoints, one changes weights, or has an
            operation that jax2onnx has no word for.
    """
    del platforms  # A graph is for none of them.
    jax2onnx = extras.imported("jax2onnx", extra="onnx", what='format="onnx"')
    if len(endpoints) != 1:
        raise ValueError(
            "an ONNX file has one function. Received: the endpoints "
            f"{[endpoint.name for endpoint in endpoints]}. Export each of them "
            "to a file of its own."
        )
    (endpoint,) = endpoints
    endpoint.check_stateless("onnx")
    weights = [np.asarray(variable.value) for variable in endpoint.weights]

    # A plain function: what jax2onnx makes of a model depends on how it is
    # called, which it takes to be with one array.
    def function(*inputs: Any) -> tuple[Any, ...]:
        outputs, _ = endpoint(weights, inputs)
        # One value has one name in a graph, so an input is copied.
        given = {id(value) for value in inputs}
        return tuple(
            jnp.array(output, copy=True) if id(output) in given else output
            for output in outputs
        )

    specs = [
        jax.ShapeDtypeStruct(array.shape, jnp.dtype(array.dtype))
        for array in endpoint.inputs
    ]
    try:
        # It prints what it meets on its way, and warns of it.
        with (
            contextlib.redirect_stdout(io.StringIO()),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            made = jax2onnx.to_onnx(
                function,
                specs,
                model_name=endpoint.name,
                input_names=names.plain(endpoint.inputs),
                output_names=names.plain(endpoint.outputs),
            )
        data = made.SerializeToString()
    # Whatever it meets, it may raise anything.
    except Exception as error:
        raise ValueError(
            f'{endpoint.where} cannot be exported as "onnx": '
            f"{type(error).__name__}: {error}"
        ) from error
    with open(path, "wb") as file:
        file.write(data)


def compare(
    path: str,
    endpoints: Sequence[ExportedEndpoint],
    platforms: Sequence[str],
) -> dict[str, Any]:
    """Compares what was written, as `ExportReport` has it.

    Raises:
        ImportError: onnxruntime is not installed.
        check.CheckFailed: it cannot be loaded, or computes something else.
    """
    del platforms
    runtime = extras.imported(
        "onnxruntime", extra="onnx", what='the check of format="onnx"'
    )
    compared = check.run(
        path,
        "run_onnx",
        endpoints,
        tolerance=1e-5,
        environment={"CUDA_VISIBLE_DEVICES": "-1"},
    )
    return {
        "reader": f"onnxruntime {runtime.__version__}",
        "compared": compared,
    }
