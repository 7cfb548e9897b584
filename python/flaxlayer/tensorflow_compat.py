"""The one place that knows what TensorFlow does not promise.

Nothing here imports it before it is needed.
"""

import importlib
import sys
from collections.abc import Sequence
from typing import Any

import jax
import jax.export
from jax.extend.mlir.dialects import stablehlo
from jax.interpreters import mlir

_JAX2TF = "jax.experimental.jax2tf.jax2tf"


class NotReadable(RuntimeError):
    """TensorFlow reads nothing that JAX can write a program as."""


def calling_convention() -> int:
    """The version of JAX's calling convention that a program is to have.

    Raises:
        NotReadable: TensorFlow knows none of those that JAX writes.
    """
    known = _xla().call_module_maximum_supported_version()
    oldest = jax.export.minimum_supported_calling_convention_version
    newest = jax.export.maximum_supported_calling_convention_version
    if known < oldest:
        raise NotReadable(
            f"JAX {jax.__version__} writes programs in the versions {oldest} "
            f"to {newest} of its calling convention; TensorFlow {_version()} "
            f"calls them up to version {known}. Install a newer TensorFlow or "
            "an older JAX."
        )
    return min(known, newest)


def call(
    program: jax.export.Exported, module: bytes, arguments: Sequence[Any]
) -> list[Any]:
    """Calls a program on tensors, eagerly or in a `tf.function`.

    Needs `call_module` of `tensorflow.compiler.tf2xla.python.xla`, which has no
    public name: `jax.experimental.jax2tf` calls programs by it as well.

    Args:
        program: what is called.
        module: it as bytes, as `readable` returns them.
        arguments: tensors for all of its arguments.
    """
    return list(
        _xla().call_module(
            [arguments[i] for i in program.module_kept_var_idx],
            module=module,
            **_attributes(program),
        )
    )


def readable(program: jax.export.Exported) -> bytes:
    """A program in a version of StableHLO that the installed TensorFlow reads.

    Raises:
        NotReadable: there is none.
    """
    return _readable(program.mlir_module_serialized, _attributes(program))


def make_jax2tf_readable() -> None:
    """Has `jax.experimental.jax2tf` write what the installed TensorFlow reads.

    It writes what JAX does, which is for readers of the last weeks. Keras
    exports models by it, and an older TensorFlow then cannot read the file.

    Needs `tfxla` of its module, of which it calls `call_module` with the
    program as `module`. Should it go away programs are written as JAX does.
    Nothing is done before the module has been imported, or where TensorFlow
    reads what is written.
    """
    jax2tf: Any = sys.modules.get(_JAX2TF)
    xla = getattr(jax2tf, "tfxla", None)
    if xla is not None and not isinstance(xla, _Readable):
        jax2tf.tfxla = _Readable(xla)


class _Readable:
    """The module of TensorFlow by which programs are called, with a change."""

    def __init__(self, xla: Any):
        self._xla = xla

    def __getattr__(self, name: str) -> Any:
        return getattr(self._xla, name)

    def call_module(
        self, args: Any, *, module: bytes, **attributes: Any
    ) -> Any:
        return self._xla.call_module(
            args, module=_readable(module, attributes), **attributes
        )


def _readable(module: bytes, attributes: dict[str, Any]) -> bytes:
    """A program in the newest version of StableHLO that TensorFlow reads."""
    if _reads(module, attributes):
        return module
    major, newest, _ = map(int, stablehlo.get_current_version().split("."))
    reason = "it read none of them"
    for minor in range(newest, -1, -1):
        version = f"{major}.{minor}.0"
        try:
            written = _in_version(module, version)
        # An operation of it came later.
        except Exception as error:
            reason = f"in {version} it cannot be written: {error}"
            break
        if _reads(written, attributes):
            return written
    raise NotReadable(
        f"TensorFlow {_version()} does not read the program in any of the "
        f"versions of StableHLO that JAX {jax.__version__} writes, up to "
        f"{major}.{newest}: {reason}. Install a newer TensorFlow or an older "
        "JAX."
    )


def _reads(module: bytes, attributes: dict[str, Any]) -> bool:
    """Whether TensorFlow reads a program.

    It does not say which versions it reads, and that depends on the operations
    as well. So it is asked to call the program with no arguments: it reads it
    before it counts them.

    Needs its error to say that it is about deserializing. Should it say
    something else, the program is taken to be read.
    """
    tf: Any = importlib.import_module("tensorflow")
    platforms = {"platforms": ["CPU"]} if "platforms" in attributes else {}
    try:
        with tf.init_scope(), tf.device("CPU:0"):
            _xla().call_module([], module=module, **{**attributes, **platforms})
    except tf.errors.OpError as error:
        return "deserialize" not in error.message
    return True


def _in_version(module: bytes, version: str) -> bytes:
    """A program, serialized for readers of a version of StableHLO."""
    with mlir.make_ir_context() as context:
        return stablehlo.serialize_portable_artifact(
            stablehlo.deserialize_portable_artifact(context, module), version
        )


def _attributes(program: jax.export.Exported) -> dict[str, Any]:
    tf: Any = importlib.import_module("tensorflow")
    return {
        "version": program.calling_convention_version,
        "Tout": [tf.as_dtype(aval.dtype) for aval in program.out_avals],
        "Sout": [
            [d if isinstance(d, int) else None for d in aval.shape]
            for aval in program.out_avals
        ],
        "platforms": [platform.upper() for platform in program.platforms],
        "disabled_checks": [
            str(each) for each in program.disabled_safety_checks
        ],
    }


def _xla() -> Any:
    return importlib.import_module("tensorflow.compiler.tf2xla.python.xla")


def _version() -> str:
    tf: Any = importlib.import_module("tensorflow")
    return tf.__version__
