"""The one place that knows what TensorFlow does not promise.

Nothing here imports it before it is needed.
"""

import importlib
import sys
from collections.abc import Sequence
from typing import Any

import jax
import jax.export

from flaxlayer import stablehlo_version

_JAX2TF = "jax.experimental.jax2tf.jax2tf"


class NotReadable(RuntimeError):
    """TensorFlow calls no program that JAX can write."""


def calling_convention() -> int:
    """The version of JAX's calling convention that a program is to have.

    Raises:
        NotReadable: TensorFlow knows none of those that JAX writes.
    """
    known = _xla().call_module_maximum_supported_version()
    oldest = jax.export.minimum_supported_calling_convention_version
    newest = jax.export.maximum_supported_calling_convention_version
    if known < oldest:
        tf: Any = importlib.import_module("tensorflow")
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
    public name: `jax.experimental.jax2tf` calls programs by it as well.

    Args:
        program: what is called; its sizes may be symbolic.
        module: it as bytes, in a version that TensorFlow reads.
        arguments: tensors for all of its arguments.
    """
    tf: Any = importlib.import_module("tensorflow")
    return list(
        _xla().call_module(
            [arguments[i] for i in program.module_kept_var_idx],
            module=module,
            version=program.calling_convention_version,
            Tout=[tf.as_dtype(aval.dtype) for aval in program.out_avals],
            Sout=[
                [d if isinstance(d, int) else None for d in aval.shape]
                for aval in program.out_avals
            ],
            platforms=[platform.upper() for platform in program.platforms],
            disabled_checks=[
                str(each) for each in program.disabled_safety_checks
            ],
        )
    )


def make_jax2tf_readable() -> None:
    """Has `jax.experimental.jax2tf` write what any TensorFlow reads.

    It writes what JAX does, which is for readers of the last weeks. Keras
    exports models by it, and an older TensorFlow then cannot read the file.

    Needs `tfxla` of its module, of which it calls `call_module` with the
    program as `module`. Should it go away programs are written as JAX does.
    Nothing is done before the module has been imported.
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
            args, module=stablehlo_version.oldest(module), **attributes
        )


def _xla() -> Any:
    return importlib.import_module("tensorflow.compiler.tf2xla.python.xla")
