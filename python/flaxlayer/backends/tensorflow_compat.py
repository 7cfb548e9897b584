"""The one place that touches what TensorFlow does not promise."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import tensorflow as tf
from tensorflow.compiler.tf2xla.python import xla


def operation(
    exported: jax.export.Exported, module: bytes
) -> Callable[[Sequence[tf.Tensor]], Sequence[tf.Tensor]]:
    """What calls an exported function as an operation of TensorFlow.

    Needs `call_module` of `tensorflow.compiler.tf2xla.python.xla`, which
    `jax.experimental.jax2tf` and Keras import as well, with the parameters that
    are passed to it here; and of JAX the configuration option that says how
    exports are partitioned, which is documented but has no accessor.

    Args:
        exported: the function; its sizes may be symbolic.
        module: its serialized module.

    Returns:
        A function of a list of tensors, one for each argument.

    Raises:
        ImportError: TensorFlow does not know how JAX's exports are called.
    """
    newest = xla.call_module_maximum_supported_version()
    if exported.calling_convention_version > newest:
        raise ImportError(
            f"TensorFlow {tf.__version__} knows the calling conventions of "
            f"exports up to {newest}; JAX {jax.__version__} uses "
            f"{exported.calling_convention_version}. Install a newer "
            "TensorFlow, or set JAX_EXPORT_CALLING_CONVENTION_VERSION="
            f"{newest}."
        )
    config: Any = jax.config
    attributes: dict[str, Any] = {
        "version": exported.calling_convention_version,
        "module": module,
        "platforms": [name.upper() for name in exported.platforms],
        "Tout": [tf.as_dtype(aval.dtype) for aval in exported.out_avals],
        "Sout": [
            [size if isinstance(size, int) else None for size in aval.shape]
            for aval in exported.out_avals
        ],
        "use_shardy_partitioner": config.jax_use_shardy_partitioner,
    }
    kept = exported.module_kept_var_idx

    def call(tensors: Sequence[tf.Tensor]) -> Sequence[tf.Tensor]:
        return xla.call_module([tensors[i] for i in kept], **attributes)

    return call
