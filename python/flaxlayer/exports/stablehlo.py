"""A folder of programs of `jax.export`, with the weights beside them."""

import hashlib
import os
from collections.abc import Sequence
from typing import Any

import jax
import jax.export

from flaxlayer import jax_compat
from flaxlayer.exports import check
from flaxlayer.exports.endpoint import ExportedEndpoint
from flaxlayer.exports.weights import SharedWeights
from flaxlayer.ops import native
from flaxlayer.serving import array_file, signature
from flaxlayer.serving.signature import Array, Endpoint, Signature, StoredFile
from flaxlayer.version import __version__

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def write(
    folder: str,
    endpoints: Sequence[ExportedEndpoint],
    platforms: Sequence[str],
) -> None:
    """Writes what `flaxlayer.serving.load` reads.

    Args:
        folder: where; it is made.
        endpoints: the functions.
        platforms: what they are lowered for, as JAX calls platforms.

    Raises:
        ValueError: a function has an operation that cannot be exported.
    """
    os.mkdir(folder)
    weights = SharedWeights(endpoints)
    described = {}
    for endpoint in endpoints:
        program = exported(endpoint, platforms)
        data = bytes(program.serialize())
        name = signature.program_file(endpoint.name)
        with open(os.path.join(folder, name), "wb") as file:
            file.write(data)
        described[endpoint.name] = Endpoint(
            endpoint.inputs,
            endpoint.arguments,
            endpoint.outputs,
            endpoint.results,
            tuple(weights.names[endpoint.name]),
            tuple(weights.state[endpoint.name]),
            handlers_of(program),
            tuple(endpoint.constraints),
        )
    array_file.write(
        os.path.join(folder, signature.WEIGHTS_FILE), weights.values
    )
    text = signature.to_json(
        Signature(
            described,
            {
                name: Array(name, value.shape, value.dtype.name)
                for name, value in weights.values.items()
            },
            tuple(platforms),
            {"flaxlayer": __version__, "jax": jax.__version__},
            {
                name: _stored(folder, name)
                for name in sorted(os.listdir(folder))
            },
        )
    )
    signature.from_json(text)  # What the reader will say of it, now.
    with open(
        os.path.join(folder, signature.FILE), "w", encoding="utf-8"
    ) as file:
        file.write(text)


def compare(
    folder: str,
    endpoints: Sequence[ExportedEndpoint],
    platforms: Sequence[str],
) -> dict[str, Any]:
    """Compares what was written, as `ExportReport` has it.

    On a CPU there is no difference. Other processors may sum in another order
    each time that a program is compiled.

    Raises:
        check.CheckFailed: it cannot be loaded, or computes something else.
    """
    here = jax.export.default_export_platform()
    # One process has all of a TPU.
    platform = here if here in platforms and here != "tpu" else "cpu"
    if platform not in platforms:
        note = f"nothing was compared: {here!r} is none of these platforms"
        return {"note": note}
    with jax.default_device(jax.devices(platform)[0]):
        compared = check.run(
            folder,
            "run_stablehlo",
            endpoints,
            tolerance=0.0 if platform == "cpu" else 1e-5,
            environment={
                "JAX_PLATFORMS": platform,
                "JAX_ENABLE_X64": str(_has_64_bits()),
                # Else the last line of an error is not what it is.
                "JAX_TRACEBACK_FILTERING": "off",
                "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
            },
        )
    others = [each for each in platforms if each != platform]
    return {
        "reader": f"JAX {jax.__version__} on {platform}",
        "compared": compared,
        "note": f"not compared on {', '.join(others)}" if others else "",
    }


def exported(
    endpoint: ExportedEndpoint,
    platforms: Sequence[str],
    *,
    handlers: bool = True,
    calling_convention: int | None = None,
) -> jax.export.Exported:
    """The program of a function.

    Its arguments are the weights and then the inputs, its results the outputs
    and then what is changed; all of them flat.

    Args:
        endpoint: the function.
        platforms: what it is lowered for.
        handlers: whether it may call native handlers, which its reader has.
        calling_convention: the version of JAX's that it has; `None` for the
            one that JAX would use.

    Raises:
        ValueError: it has an operation that cannot be exported.
    """
    weights, inputs = endpoint.specs()
    count = len(weights)

    def program(*arrays: Any) -> list[Any]:
        outputs, changed = endpoint(arrays[:count], arrays[count:])
        return [*outputs, *changed]

    program.__name__ = program.__qualname__ = endpoint.name
    allowed = [
        jax.export.DisabledSafetyCheck.custom_call(native.versioned(target))
        for target in (native.versions() if handlers else ())
    ]
    try:
        with jax_compat.calling_convention(calling_convention):
            return jax.export.export(
                jax.jit(program), platforms=platforms, disabled_checks=allowed
            )(*weights, *inputs)
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        # JAX says of these only that it failed.
        if _calls_python(program, [*weights, *inputs]):
            why = (
                "it calls back to Python (`jax.pure_callback`, `io_callback` "
                "or `jax.debug`), which is not there where it is loaded. Leave "
                "that out in inference"
            )
        raise ValueError(
            f"{endpoint.where} cannot be exported for the platforms "
            f"{list(platforms)}: {why}"
        ) from error


def _calls_python(program: Any, specs: Sequence[Any]) -> bool:
    try:
        return "_callback" in str(jax.make_jaxpr(program)(*specs))
    except Exception:  # It was not lowering that failed.
        return False


def handlers_of(program: jax.export.Exported) -> dict[str, int]:
    """The native handlers that a program calls, with their versions."""
    text = program.mlir_module()
    return native.called(
        native.versioned(target)
        for target in native.versions()
        if f"@{native.versioned(target)}(" in text
        or f'@"{native.versioned(target)}"(' in text
    )


def _has_64_bits() -> bool:
    return jax.dtypes.canonicalize_dtype(float).itemsize == 8


def _stored(folder: str, name: str) -> StoredFile:
    path = os.path.join(folder, name)
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return StoredFile(digest, os.path.getsize(path))
