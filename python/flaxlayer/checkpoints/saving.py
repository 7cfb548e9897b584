"""save_variables: the weights of a layer in a format of the Flax world."""

import os
from collections.abc import Callable

import jax
import keras

from flaxlayer import backends
from flaxlayer.checkpoints import (
    formats,
    msgpack_files,
    orbax_directory,
    processes,
    progress,
    safetensors_files,
    whole_files,
)
from flaxlayer.checkpoints.pending_save import PendingSave
from flaxlayer.layer.model_layer import ModelLayer
from flaxlayer.paths import Path


def save_variables(
    layer: ModelLayer,
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    block: bool = True,
) -> PendingSave:
    """Writes the weights of a layer to a file or directory that Flax reads.

    The ending of the path says in which format:

    - `.msgpack`: one file of `flax.serialization`. Flax reads it with
      `flax.serialization.from_bytes` or `msgpack_restore`.
    - `.safetensors`: one file, with names such as `params.Dense_0.kernel`.
      Needs the package safetensors, `pip install "flaxlayer[safetensors]"`.
    - anything else: a directory of Orbax, which
      `orbax.checkpoint.StandardCheckpointer().restore` reads. Each process
      writes the parts of arrays that it holds, so it is the one for weights
      that are sharded over processes or do not fit in the memory of the host.

    It holds what `layer.get_layer_variables()` returns and nothing else, typed
    keys as their `uint32` data. For a module of NNX that is its state: Orbax
    restores it into what `nnx.state(module)` returns, and a file holds the
    nested dicts of `nnx.to_pure_dict`. The seed of the layer's random streams
    is no variable of Flax and is not in it; to go on with a run that was
    interrupted use `flaxlayer.OrbaxBackup`, `keras.callbacks.BackupAndRestore`
    or a `.keras` file, which have it and the optimizer.

    A file is written beside `path` and renamed when it is on the disk: an old
    one is whole until then. Saving 256 MiB or more to a file shows a progress
    bar, where `keras.config.is_interactive_logging_enabled()`.

    In a program of several processes, all of them save weights that are spread
    over them, with the same arguments. One process writes a file, and gets the
    weights from the others one after the other. What one process raises all do.

    Args:
        layer: a built `FlaxLayer` or `JaxLayer`.
        path: where to write, on a local file system; the folder must be there.
        overwrite: whether to replace what is there. Of directories, only those
            of Orbax are replaced.
        block: whether to return when everything is written. Otherwise it
            returns as soon as the weights are copied from their devices, and
            writes in the background.

    Returns:
        A handle; with `block=False`, call its `wait()` before you rely on what
        was written.

    Raises:
        TypeError: `layer` is neither of these layers, or `path` is no path.
        ValueError: it was never built, or the format has no form for one of
            its weights.
        FileExistsError: `path` is there, and `overwrite` is not set or would
            remove something else than a checkpoint.
        FileNotFoundError: the folder is not there.
        ImportError: safetensors is not installed.
        OSError: it cannot be written.
    """
    variables = weights_of(layer, "save")
    target = formats.absolute(path, layer._described)
    # Those of Orbax come last.
    form = -1 if formats.of_path(target) == "orbax" else 0
    values = {
        layer._model.file_paths(path)[form]: backends.current.value_of(variable)
        for path, variable in variables.items()
    }
    try:
        shared = processes.together(values.values())
        with processes.agreeing(shared):
            if processes.writes(shared):
                whole_files.check_target(
                    target, overwrite=overwrite, what=f"{layer._described}: "
                )
        finish = _start(
            target, values, overwrite=overwrite, quiet=not block, shared=shared
        )
    except ValueError as error:
        raise ValueError(
            f"{layer._described} cannot be saved to {target!r}: {error}."
        ) from error
    pending = PendingSave(finish, target, shared=shared)
    if block:
        pending.wait()
    return pending


def weights_of(layer: ModelLayer, purpose: str) -> dict[Path, keras.Variable]:
    """The variables of a layer by path, for saving and loading.

    Raises:
        TypeError: it is no layer of this package.
        ValueError: it was never built.
    """
    if not isinstance(layer, ModelLayer):
        raise TypeError(
            "Expected a `FlaxLayer` or a `JaxLayer`; of a model pass its "
            "layer, `model.get_layer(name)`. Received: "
            f"{layer!r:.200} (of type {type(layer).__name__})."
        )
    layer._check_there(purpose)
    return layer._weights.by_path()


def _start(
    path: str,
    values: dict[Path, jax.Array],
    *,
    overwrite: bool,
    quiet: bool,
    shared: bool,
) -> Callable[[], None]:
    """Copies the values; returns what writes them."""
    form = formats.of_path(path)
    if form == "orbax":
        return orbax_directory.start_saving(
            path, values, overwrite=overwrite, shared=shared
        )
    encode = {
        "msgpack": msgpack_files.encode,
        "safetensors": safetensors_files.encode,
    }[form]
    arrays = processes.gathered(values, shared)
    data = b""
    with processes.agreeing(shared):
        if processes.writes(shared):
            data = encode(arrays)
    if not processes.writes(shared):
        return lambda: None
    # A bar that moves while the program prints other things is of no use.
    report = progress.reporter(0 if quiet else len(data))
    return lambda: whole_files.write(path, data, report)
