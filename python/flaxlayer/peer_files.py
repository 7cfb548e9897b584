"""Model files that were written with Keras's own FlaxLayer and JaxLayer.

A `.keras` file names the class of every layer in its `config.json`. Reading
such a file as ours means to name our classes there instead; the weights, which
Keras's layers number, are understood by ours (see `weight_files`). The file
itself is left as it is.
"""

import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from typing import Any

import keras

from flaxlayer import flax_layer, jax_layer

_PEER_MODULE = "keras.layers"
_OURS = {
    cls.__name__: cls for cls in (flax_layer.FlaxLayer, jax_layer.JaxLayer)
}
_CONFIG = "config.json"
# An architecture is small; arrays are in the weights.
_MAX_CONFIG_BYTES = 1 << 28
# The limits Keras has for the weights in such an archive.
_MAX_UNPACKED_BYTES = 1 << 32
_MAX_EXPANSION = 1000


def load_model(
    filepath: str | os.PathLike[str],
    custom_objects: Mapping[str, Any] | None = None,
    compile: bool = True,
    safe_mode: bool = True,
) -> keras.Model:
    """Loads a `.keras` file, with this package's layers for Keras's own.

    As `keras.models.load_model`, which loads models that were saved with this
    package just as well. This function also turns every
    `keras.layers.FlaxLayer` and `keras.layers.JaxLayer` in the file into a
    `flaxlayer.FlaxLayer` or `flaxlayer.JaxLayer` with the same weights.

    Args:
        filepath: a `.keras` file.
        custom_objects: classes and functions the file may name, by name.
        compile: whether to compile the model as it was when it was saved.
        safe_mode: whether to refuse what could run code from the file.

    Returns:
        The model.

    Raises:
        TypeError: `filepath` is no path, or `custom_objects` no mapping.
        FileNotFoundError: there is no such file.
        ValueError: the file is no `.keras` archive, or `config.json` in it is
            no model configuration; and all that loading a layer raises.
    """
    if not isinstance(filepath, str | os.PathLike):
        raise TypeError(
            "`filepath` must be the path of a `.keras` file. Received: "
            f"{filepath!r:.200} (of type {type(filepath).__name__})."
        )
    if not isinstance(custom_objects, Mapping | None):
        raise TypeError(
            "`custom_objects` must be a mapping from names to classes and "
            f"functions. Received: {custom_objects!r:.200} (of type "
            f"{type(custom_objects).__name__})."
        )
    path = os.fspath(filepath)
    if not os.path.exists(path):
        raise FileNotFoundError(
            f"There is no file {path!r}. Expected one that `model.save` has "
            "written."
        )
    options = {
        "custom_objects": dict(custom_objects or {}),
        "compile": compile,
        "safe_mode": safe_mode,
    }
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"{path!r} is not a `.keras` file: expected a zip archive. For "
            "weights alone, build the model and call `model.load_weights`."
        )
    with zipfile.ZipFile(path) as archive:
        config = _read_config(archive, path)
        if not _names_peer_layers(config):
            return keras.models.load_model(path, **options)
        _check_expansion(archive, path)
        with tempfile.TemporaryDirectory() as folder:
            # Keras loads by path only, and by this ending.
            copy = os.path.join(folder, "converted.keras")
            _copy_with_config(archive, copy, _with_our_layers(config))
            return keras.models.load_model(copy, **options)


def _read_config(archive: zipfile.ZipFile, path: str) -> Any:
    try:
        info = archive.getinfo(_CONFIG)
        if info.file_size > _MAX_CONFIG_BYTES:
            raise ValueError(f"it declares {info.file_size} bytes")
        return json.loads(archive.read(info))
    except (KeyError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{path!r}: expected `{_CONFIG}`, a JSON model configuration, in "
            f"the archive: {error}"
        ) from error


def _is_peer_layer(config: Any) -> bool:
    return (
        isinstance(config, dict)
        and config.get("module") == _PEER_MODULE
        and config.get("class_name") in _OURS
    )


def _names_peer_layers(config: Any) -> bool:
    if _is_peer_layer(config):
        return True
    children = config.values() if isinstance(config, dict) else config
    return isinstance(config, dict | list) and any(
        _names_peer_layers(child) for child in children
    )


def _with_our_layers(config: Any) -> Any:
    if isinstance(config, list):
        return [_with_our_layers(child) for child in config]
    if not isinstance(config, dict):
        return config
    converted = {key: _with_our_layers(x) for key, x in config.items()}
    if _is_peer_layer(config):
        ours = _OURS[config["class_name"]]
        converted["module"] = ours.__module__
        converted["registered_name"] = keras.saving.get_registered_name(ours)
    return converted


def _check_expansion(archive: zipfile.ZipFile, path: str) -> None:
    """Refuses archives that would fill the disk: the copy is not lazy."""
    size = sum(info.file_size for info in archive.infolist())
    packed = sum(info.compress_size for info in archive.infolist())
    if size > _MAX_UNPACKED_BYTES and size > _MAX_EXPANSION * packed:
        raise ValueError(
            f"{path!r} holds {packed} bytes that unpack to {size}; weights do "
            "not compress like this, so it is refused."
        )


def _copy_with_config(
    archive: zipfile.ZipFile, target: str, config: Any
) -> None:
    with zipfile.ZipFile(target, "w") as copy:
        for info in archive.infolist():
            if info.filename == _CONFIG:
                copy.writestr(info, json.dumps(config))
                continue
            with archive.open(info) as source, copy.open(info, "w") as sink:
                shutil.copyfileobj(source, sink)
