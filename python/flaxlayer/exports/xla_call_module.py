"""Programs of JAX as operations of TensorFlow."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.export
from jax.extend.mlir.dialects import stablehlo
from jax.interpreters import mlir

from flaxlayer.exports import extras


class NotReadable(RuntimeError):
    """TensorFlow reads no version of StableHLO that a program can be in."""


def tensorflow() -> Any:
    """TensorFlow.

    Raises:
        ImportError: it is not installed.
    """
    return extras.imported(
        "tensorflow", extra="tensorflow", what='format="tf_saved_model"'
    )


def calling_convention() -> int:
    """The version of JAX's calling convention that a program is to have.

    Raises:
        NotReadable: TensorFlow knows none of those that JAX writes.
    """
    tf = tensorflow()
    known = _xla().call_module_maximum_supported_version()
    oldest = jax.export.minimum_supported_calling_convention_version
    newest = jax.export.maximum_supported_calling_convention_version
    if known < oldest:
        raise NotReadable(
            f"JAX {jax.__version__} writes programs in the versions {oldest} "
            f"to {newest} of its calling convention; TensorFlow "
            f"{tf.__version__} calls them up to version {known}. Install a "
            "newer TensorFlow or an older JAX."
        )
    return min(known, newest)


def call(
    program: jax.export.Exported, module: bytes, arguments: Sequence[Any]
) -> list[Any]:
    """Calls a program on tensors, eagerly or in a `tf.function`.

    Needs `call_module` of `tensorflow.compiler.tf2xla.python.xla`, which has no
    public name: `jax.experimental.jax2tf` calls programs by it as well, but
    only as JAX itself serializes them, for readers of the last weeks.

    Args:
        program: what is called.
        module: it as bytes, in a version of StableHLO that TensorFlow reads.
        arguments: tensors for all of its arguments.
    """
    tf = tensorflow()
    results = _xla().call_module(
        [arguments[i] for i in program.module_kept_var_idx],
        version=program.calling_convention_version,
        module=module,
        Tout=[tf.as_dtype(aval.dtype) for aval in program.out_avals],
        Sout=[
            [d if isinstance(d, int) else None for d in aval.shape]
            for aval in program.out_avals
        ],
        platforms=[platform.upper() for platform in program.platforms],
        disabled_checks=[str(each) for each in program.disabled_safety_checks],
    )
    return list(results)


def readable(program: jax.export.Exported, arguments: Sequence[Any]) -> bytes:
    """A program in a version of StableHLO that the installed TensorFlow reads.

    JAX writes for readers of the last weeks. TensorFlow does not say what it
    reads, which is also another thing for each operation. So it is asked to
    call the program, in one version after the other, the newest first.

    Args:
        program: the program; for a CPU, or it is taken as JAX has written it.
        arguments: arrays to call it with.

    Raises:
        NotReadable: there is none.
    """
    module = program.mlir_module_serialized
    if "cpu" not in program.platforms:
        return module
    failure = _failure(program, module, arguments)
    if failure is None:
        return module
    major, newest, _ = map(int, stablehlo.get_current_version().split("."))
    for minor in range(newest, -1, -1):
        version = f"{major}.{minor}.0"
        try:
            module = _in_version(program, version)
        except ValueError as error:
            # An operation of it came later.
            failure = error
            break
        if _failure(program, module, arguments) is None:
            return module
    raise NotReadable(
        f"TensorFlow {tensorflow().__version__} reads none of the versions of "
        f"StableHLO that JAX {jax.__version__} can write this program in, "
        f"{version} to {major}.{newest}: {failure}. Install a newer TensorFlow "
        "or an older JAX."
    ) from failure


def _failure(
    program: jax.export.Exported, module: bytes, arguments: Sequence[Any]
) -> Exception | None:
    """What TensorFlow says where it cannot call a program."""
    tf = tensorflow()
    try:
        with tf.device("CPU:0"):
            call(program, module, [tf.constant(each) for each in arguments])
    except tf.errors.OpError as error:
        return error
    return None


def _in_version(program: jax.export.Exported, version: str) -> bytes:
    """A program, serialized for readers of a version of StableHLO.

    Raises:
        ValueError: it has operations that came later.
    """
    with mlir.make_ir_context() as context:
        module = stablehlo.deserialize_portable_artifact(
            context, program.mlir_module_serialized
        )
        return stablehlo.serialize_portable_artifact(module, version)


def _xla() -> Any:
    return extras.imported(
        "tensorflow.compiler.tf2xla.python.xla",
        extra="tensorflow",
        what='format="tf_saved_model"',
    )
