"""The version of StableHLO that the installed TensorFlow reads.

JAX writes a version that is some weeks old, which a TensorFlow that is older
still does not read. What it reads it does not say, so it is tried.
"""

import functools

import jax
import numpy as np
import tensorflow as tf
from jax.extend.mlir import ir
from jax.extend.mlir.dialects import stablehlo

from flaxlayer.backends import tensorflow_compat


def readable(exported: jax.export.Exported) -> bytes:
    """The serialized module of an export, in a version that can be read.

    Raises:
        ImportError: the installed TensorFlow reads no version that the
            installed JAX writes.
        ValueError: the module has operations that the version has not.
    """
    target = _target()
    module = exported.mlir_module_serialized
    if target is None:
        return module
    try:
        return written_as(module, target)
    except Exception as error:
        raise ValueError(
            "the model has operations that TensorFlow "
            f"{tf.__version__} does not know: it reads StableHLO {target}, and "
            f"JAX {jax.__version__} writes {stablehlo.get_current_version()}. "
            "Use a newer TensorFlow or an older JAX."
        ) from error


def written_as(module: bytes, version: str) -> bytes:
    """A serialized module in an older version of StableHLO.

    Args:
        module: a portable artifact.
        version: such as `"1.9.0"`.
    """
    with ir.Context() as context:
        stablehlo.register_dialect(context)
        parsed = stablehlo.deserialize_portable_artifact(context, module)
        return stablehlo.serialize_portable_artifact(parsed, version)


@functools.cache
def _target() -> str | None:
    """The newest version that can be read; `None` for what JAX writes."""
    exported = jax.export.export(jax.jit(lambda x: x + x), platforms=["cpu"])(
        jax.ShapeDtypeStruct((), np.float32)
    )
    if _is_read(exported, exported.mlir_module_serialized):
        return None
    version = stablehlo.get_current_version()
    major, minor, _ = map(int, version.split("."))
    for older in range(minor - 1, -1, -1):
        version = f"{major}.{older}.0"
        if _is_read(
            exported, written_as(exported.mlir_module_serialized, version)
        ):
            return version
    raise ImportError(
        f"TensorFlow {tf.__version__} reads no version of StableHLO that JAX "
        f"{jax.__version__} writes. Install a newer TensorFlow, or an older "
        "JAX."
    )


def _is_read(exported: jax.export.Exported, module: bytes) -> bool:
    run = tensorflow_compat.operation(exported, module)
    with tf.init_scope(), tf.device("CPU"):
        try:
            (result,) = run([tf.constant(1.0)])
        except tf.errors.InvalidArgumentError:
            return False
        return bool(result.numpy() == 2.0)
