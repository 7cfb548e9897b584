"""load_variables: weights from a file or directory of the Flax world."""

import os
from collections.abc import Callable, Iterable, Mapping

import keras
import numpy as np

from flaxlayer.checkpoints import (
    formats,
    msgpack_files,
    processes,
    progress,
    renaming,
    safetensors_files,
    whole_files,
)
from flaxlayer.checkpoints.orbax_directory import OrbaxDirectory
from flaxlayer.checkpoints.saving import weights_of
from flaxlayer.layer.model_layer import ModelLayer
from flaxlayer.paths import Path
from flaxlayer.weights import assignment

# No number has more bytes than a complex one of double precision, and the rest
# of a file is names.
_MAX_ITEM_BYTES = 16
_MAX_NAMES_BYTES = 128 << 20


def load_variables(
    layer: ModelLayer,
    path: str | os.PathLike[str],
    *,
    rename: Mapping[str, str] | None = None,
) -> None:
    r"""Sets the weights of a layer from a file or directory, or none of them.

    The ending of the path says in which format it is, as for `save_variables`:
    `.msgpack`, `.safetensors`, or a directory of Orbax. What Flax and Orbax
    wrote is read as well as what `save_variables` wrote: the variables of a
    module, `{"params": {...}, "batch_stats": {...}}`; of NNX its state, whole,
    as variables or as a tree of arrays. Arrays of an Orbax
    directory are read straight into the shardings of the weights.

    Args:
        layer: a built `FlaxLayer` or `JaxLayer`.
        path: what to read, on a local file system.
        rename: for files whose names are others: a dict from regular
            expressions to replacements, as `re.fullmatch` and
            `re.Match.expand` take them. They are applied to the paths in the
            file, with slashes between the steps (in a `.safetensors` file dots
            are between them). The first that matches decides, and a path that
            none matches stays as it is. For a file with the parameters alone:
            `{r"(.*)": r"params/\1"}`.

    Raises:
        TypeError: `layer` is neither of these layers, `path` is no path, or
            `rename` is no dict of strings.
        ValueError: the layer was never built; the file is no such file, or is
            damaged; two paths are renamed to one, or a pattern decides of
            none; paths are missing or unexpected; a shape is another one; or a
            value cannot be cast to the dtype of its weight (floating-point
            values may lose precision but not become infinite, all others are
            kept exactly). The message lists the paths; nothing has been
            assigned then.
        FileNotFoundError: there is nothing at `path`.
        ImportError: safetensors is not installed.
    """
    variables = weights_of(layer, "load into")
    aliases = {
        alias: path
        for path in variables
        for alias in layer._model.file_paths(path)
    }
    source = formats.absolute(path, layer._described)
    try:
        shared = processes.together(v.value for v in variables.values())
        with processes.agreeing(shared):
            if not os.path.exists(source):
                raise FileNotFoundError(
                    f"{layer._described}: there is nothing at {source!r}."
                )
            load = (
                _directory(variables, source, rename, aliases)
                if formats.of_path(source) == "orbax"
                else _file(variables, source, rename, aliases)
            )
        load()
    except ValueError as error:
        raise ValueError(
            f"{layer._described}: the weights in {source!r} cannot be loaded; "
            f"nothing was assigned. {error}. Expected the paths and shapes of "
            "`layer.get_layer_variables()`; other paths can be mapped to them "
            "with `rename=`."
        ) from error


def _file(
    variables: Mapping[Path, keras.Variable],
    source: str,
    rename: Mapping[str, str] | None,
    aliases: Mapping[Path, Path],
) -> Callable[[], None]:
    """Reads a file; returns what assigns what is in it."""
    if not os.path.isfile(source):
        # A pipe would be waited for.
        received = "a directory" if os.path.isdir(source) else "a special file"
        raise ValueError(f"expected a file, received {received}")
    size = os.path.getsize(source)
    items = sum(int(np.prod(v.shape)) for v in variables.values())
    if size > _MAX_ITEM_BYTES * items + _MAX_NAMES_BYTES:
        raise ValueError(
            f"it has {size} bytes, too many for the {items} numbers of this "
            "layer"
        )
    data = whole_files.read(source, progress.reporter(size))
    decode = {
        "msgpack": msgpack_files.decode,
        "safetensors": safetensors_files.decode,
    }[formats.of_path(source)]
    stored = decode(data)
    del data
    names = _names([name for name, _ in stored], rename, aliases)
    leaves = [assignment.leaf_of(names[name], x) for name, x in stored]
    assignment.check(variables, leaves)
    return lambda: assignment.assign(variables, leaves)


def _directory(
    variables: Mapping[Path, keras.Variable],
    source: str,
    rename: Mapping[str, str] | None,
    aliases: Mapping[Path, Path],
) -> Callable[[], None]:
    """Reads what a directory says of itself; returns what loads it."""
    directory = OrbaxDirectory(source)
    names = _names(directory.specs, rename, aliases)
    return lambda: directory.load_into(variables, names)


def _names(
    paths: Iterable[Path],
    rename: Mapping[str, str] | None,
    aliases: Mapping[Path, Path],
) -> dict[Path, Path]:
    """The path in the layer for each path in a file."""
    return {
        path: aliases.get(new, new)
        for path, new in renaming.renamed(paths, rename).items()
    }
