"""Flax modules and plain JAX models as first-class Keras 3 layers.

Importing this imports neither Keras nor Flax: a process that serves an exported
model needs only `flaxlayer.serving`. The layers are imported when somebody asks
for one of the names below, or once Keras is imported, which has to know them
when it reads a file.
"""

import functools
import importlib
import warnings
from typing import TYPE_CHECKING, Any

from flaxlayer import backend, keras_import
from flaxlayer.version import __version__

if TYPE_CHECKING:
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
    from flaxlayer.exports.export import export
    from flaxlayer.flax_layer import FlaxLayer
    from flaxlayer.jax_layer import JaxLayer
    from flaxlayer.ops.dispatch import explain_kernels, kernels
    from flaxlayer.peer_files import load_model
    from flaxlayer.weight_picture import plot_weights
    from flaxlayer.weight_table import tabulate

__all__ = [
    "CallArguments",
    "FlaxLayer",
    "JaxLayer",
    "ModelCheckpoint",
    "OrbaxBackup",
    "PendingSave",
    "__version__",
    "explain_kernels",
    "export",
    "kernels",
    "layout_map",
    "load_model",
    "load_variables",
    "plot_weights",
    "save_model",
    "save_variables",
    "tabulate",
]

# Where each name is, but for `__version__`.
_MODULES = {
    "CallArguments": "calls.call_arguments",
    "FlaxLayer": "flax_layer",
    "JaxLayer": "jax_layer",
    "ModelCheckpoint": "checkpoints",
    "OrbaxBackup": "checkpoints",
    "PendingSave": "checkpoints",
    "explain_kernels": "ops.dispatch",
    "export": "exports.export",
    "kernels": "ops.dispatch",
    "layout_map": "axis_layouts",
    "load_model": "peer_files",
    "load_variables": "checkpoints",
    "plot_weights": "weight_picture",
    "save_model": "checkpoints",
    "save_variables": "checkpoints",
    "tabulate": "weight_table",
}


@functools.cache
def _failure() -> Exception | None:
    """What keeps the layers from being used; `None` if nothing does."""
    try:
        backend.use_jax()
        # First, and without the lock of a module of ours: another thread may
        # be importing Keras, which then waits for these.
        importlib.import_module("keras")
        for module in sorted(set(_MODULES.values())):
            importlib.import_module(f"flaxlayer.{module}")
    # Whatever it is, flaxlayer.doctor has to start: it says how to mend it.
    except Exception as error:
        return error
    return None


def _keras_is_there() -> None:
    # A module of ours that imports Keras is not done, and others need it.
    if keras_import.is_importing(__name__):
        return
    # Who imports this only to make its layers known to Keras asks for no name.
    if (failure := _failure()) is not None:
        warnings.warn(f"flaxlayer cannot be used: {failure}", stacklevel=3)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if (failure := _failure()) is not None:
        raise ImportError(
            f"flaxlayer.{name} cannot be used: {failure} For more, run "
            "`python -m flaxlayer.doctor`."
        ) from failure
    module = importlib.import_module(f"flaxlayer.{_MODULES[name]}")
    globals()[name] = value = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


try:
    backend.use_jax()
except ImportError:
    _keras_is_there()
else:
    keras_import.when_imported(_keras_is_there)
