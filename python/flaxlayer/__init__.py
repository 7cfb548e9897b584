"""Flax modules and plain JAX models as first-class Keras 3 layers."""

import warnings
from typing import Any

from flaxlayer import backend
from flaxlayer.version import __version__

__all__ = [
    "CallArguments",
    "FlaxLayer",
    "JaxLayer",
    "ModelCheckpoint",
    "OrbaxBackup",
    "PendingSave",
    "__version__",
    "explain_kernels",
    "kernels",
    "layout_map",
    "load_model",
    "load_variables",
    "save_model",
    "save_variables",
    "tabulate",
]

try:
    backend.use_jax()

    from flaxlayer.axis_layouts import layout_map
    from flaxlayer.calls.call_arguments import CallArguments
    from flaxlayer.checkpoints import (
        ModelCheckpoint,
        OrbaxBackup,
        PendingSave,
        load_variables,
        save_model,
        save_variables,
    )
    from flaxlayer.flax_layer import FlaxLayer
    from flaxlayer.jax_layer import JaxLayer
    from flaxlayer.ops.dispatch import explain_kernels, kernels
    from flaxlayer.peer_files import load_model
    from flaxlayer.weight_table import tabulate
# Whatever it is, flaxlayer.doctor has to start: it says how to mend it.
except Exception as error:
    _failure = error
    # Who imports this only to make its layers known to Keras asks for no name.
    warnings.warn(f"flaxlayer cannot be used: {error}", stacklevel=2)

    def __getattr__(name: str) -> Any:
        if name in __all__:
            raise ImportError(
                f"flaxlayer.{name} cannot be used: {_failure} For more, run "
                "`python -m flaxlayer.doctor`."
            ) from _failure
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
