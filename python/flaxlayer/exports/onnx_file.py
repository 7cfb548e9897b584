"""An ONNX file, which onnxruntime and others load."""

import contextlib
import io
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxpr_as_fun

from flaxlayer import jax_compat
from flaxlayer.exports import check, extras, names
from flaxlayer.exports.endpoint import ExportedEndpoint
from flaxlayer.ops import dispatch


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

    def function(*inputs: Any) -> tuple[Any, ...]:
        outputs, _ = endpoint(weights, inputs)
        # One value has one name in a graph, so an input is copied.
        given = {id(value) for value in inputs}
        return tuple(
            jnp.array(output, copy=True) if id(output) in given else output
            for output in outputs
        )

    _, specs = endpoint.specs()
    first: Exception | None = None
    for translated in (_as_called, _as_traced):
        try:
            # It prints what it meets on its way, and warns of it.
            with (
                contextlib.redirect_stdout(io.StringIO()),
                warnings.catch_warnings(),
                dispatch.kernels("reference"),
            ):
                warnings.simplefilter("ignore")
                made = jax2onnx.to_onnx(
                    translated(function, specs),
                    specs,
                    model_name=endpoint.name,
                    input_names=names.plain(endpoint.inputs),
                    output_names=names.plain(endpoint.outputs),
                )
            data = made.SerializeToString()
            break
        # Whatever it meets, it may raise anything.
        except Exception as error:
            first = first or error
    else:
        raise ValueError(
            f'{endpoint.where} cannot be exported as "onnx": '
            f"{type(first).__name__}: {first}"
        ) from first
    with open(path, "wb") as file:
        file.write(data)


def _as_called(
    function: Callable[..., Any], specs: Sequence[Any]
) -> Callable[..., Any]:
    """The function itself, of whose parts jax2onnx knows many as a whole."""
    del specs
    return function


def _as_traced(
    function: Callable[..., Any], specs: Sequence[Any]
) -> Callable[..., Any]:
    """The primitives of JAX that it comes to.

    While it traces a function jax2onnx has others in the place of many of JAX's
    and Flax's, which do not take all that those take. Nor does it leave out
    what nothing depends on.
    """
    traced = jax.make_jaxpr(function)(*specs)
    reduced, _ = jax_compat.without_dead_code(traced, [True] * len(specs))
    return jaxpr_as_fun(reduced)


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
