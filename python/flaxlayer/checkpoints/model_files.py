"""save_model and ModelCheckpoint: Keras's files, written as a whole.

Keras writes over the file that is there. If the disk is full, or the program is
killed, the old one is lost, and the new one is not there yet.
"""

import os
from typing import Any

import keras

from flaxlayer import keras_compat
from flaxlayer.checkpoints import processes, whole_files

_ENDINGS = (".weights.h5", ".keras")


def save_model(
    model: keras.Model,
    filepath: str | os.PathLike[str],
    *,
    overwrite: bool = False,
) -> None:
    """Writes a model, or its weights, to a file that is there whole or not.

    As `model.save` and `model.save_weights`, which write over an old file: if
    they are interrupted, or the disk is full, it is lost. Here the new file is
    written beside the old one and takes its name when it is on the disk.

    In a program of several processes, all of them save a model that is spread
    over them, with the same arguments; Keras itself saves none whose weights
    are sharded. One process writes the file, and gets the weights from the
    others one after the other. What one process raises all do.

    Args:
        model: the model; one that is built.
        filepath: the file, on a local file system. Its ending says what is
            written: `.keras`, the model with all weights, the optimizer and
            the random state; or `.weights.h5`, the weights alone.
        overwrite: whether to replace a file that is there.

    Raises:
        TypeError: `model` is no Keras model.
        ValueError: `filepath` has another ending; and what Keras raises for a
            model that cannot be saved.
        FileExistsError: `filepath` is there, and `overwrite` is not set.
        FileNotFoundError: the folder is not there.
        OSError: it cannot be written; an old file is as it was.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(
            "save_model takes a Keras model; for the weights of a layer there "
            f"is `flaxlayer.save_variables`. Received: {model!r:.200} (of type "
            f"{type(model).__name__})."
        )
    target = os.path.abspath(os.fspath(filepath))
    ending = next((e for e in _ENDINGS if target.endswith(e)), None)
    if ending is None:
        raise ValueError(
            f"`filepath` must end in {' or '.join(map(repr, _ENDINGS))}. "
            f"Received: {target!r}."
        )
    optimizer = getattr(model, "optimizer", None)
    variables = [*model.variables, *getattr(optimizer, "variables", ())]
    shared = processes.together(v.value for v in variables)
    with processes.agreeing(shared):
        if processes.writes(shared):
            whole_files.check_target(target, overwrite=overwrite)
    if not shared:
        _write(model, target, ending)
        return
    values = processes.gathered(
        {(str(i),): v.value for i, v in enumerate(variables)}, shared
    )
    with processes.agreeing(shared):
        if processes.writes(shared):
            with (
                keras_compat.no_distribution(),
                keras_compat.holding(variables, list(values.values())),
            ):
                _write(model, target, ending)


def _write(model: keras.Model, target: str, ending: str) -> None:
    # Keras asks for the ending.
    temporary = whole_files.beside(target) + ending
    try:
        if ending == ".keras":
            model.save(temporary)
        else:
            model.save_weights(temporary)
        whole_files.put_in_place(temporary, target)
    except BaseException:
        whole_files.remove(temporary)
        raise


class ModelCheckpoint(keras.callbacks.ModelCheckpoint):
    """`keras.callbacks.ModelCheckpoint`, whose files are written as a whole.

    An old file is whole until the new one is on the disk, as `save_model` has
    it. Otherwise it is Keras's callback, with the same arguments.

    Example:
        ```python
        checkpoint = flaxlayer.ModelCheckpoint(
            "best.keras", monitor="val_loss", save_best_only=True
        )
        model.fit(x, y, validation_split=0.1, callbacks=[checkpoint])
        ```

    Args:
        *args: those of `keras.callbacks.ModelCheckpoint`.
        **kwargs: the same, by name.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)

    @property
    def model(self) -> Any:
        """The model that is trained; what it saves it saves as a whole."""
        model = super().model
        return model if model is None else _SavedWhole(model)


class _SavedWhole:
    """A model, but for its two ways of saving."""

    def __init__(self, model: keras.Model):
        self._model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def save(self, filepath: Any, overwrite: bool = True) -> None:
        save_model(self._model, filepath, overwrite=overwrite)

    save_weights = save
