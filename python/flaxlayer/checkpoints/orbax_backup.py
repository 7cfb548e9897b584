"""OrbaxBackup: goes on with a training run that was interrupted."""

import os
import warnings
from typing import Any

import keras

from flaxlayer import backends, keras_compat
from flaxlayer.checkpoints import (
    optimizer_identity,
    orbax_directory,
    processes,
)
from flaxlayer.paths import Path, StructureMismatch

_OPTIMIZER = "optimizer"


class OrbaxBackup(keras.callbacks.Callback):
    """Keeps the state of a run in a directory, and goes on from there.

    After each epoch it writes everything that `fit` changes: all weights and
    state of the model, those of all random generators in it, and the variables
    of the optimizer. It does so in the background, by Orbax, while the next
    epoch trains; each process of a distributed run writes what it holds. When
    the same program is run again, `fit` continues after the last epoch that
    was written whole. With data that come in the same order the weights at the
    end are those of a run without the interruption, bit for bit. It may be run
    again in another number of processes, or on another mesh.

    The backup stays when `fit` ends: run again with more `epochs`, training
    goes on. So each call of `fit` in a program needs a directory of its own.

    `keras.callbacks.BackupAndRestore` does the same in one HDF5 file, which
    training waits for. `keras.callbacks.OrbaxCheckpoint` finds variables by
    names that Keras numbers through, and passes over those it does not find:
    up to Keras 3.15.1 a model that it loads may have none of its weights.

    Example:
        ```python
        model.fit(x, y, epochs=90, callbacks=[flaxlayer.OrbaxBackup("run_1")])
        ```

    Args:
        directory: where backups are, on a local file system; made if it is
            not there. The newest backup is kept.

    Warns:
        UserWarning: when `fit` begins, if the backup is one of a run that has
            as many epochs already.

    Raises:
        NotADirectoryError: when `fit` begins, if `directory` is a file.
        ValueError: when `fit` begins, if the backup cannot be read, is one of
            another model, or of an optimizer of another class, with other
            settings or variables; nothing has been assigned then. A learning
            rate that is a number may be another one: the backup's counts.
    """

    def __init__(self, directory: str | os.PathLike[str]):
        super().__init__()
        self.directory = os.path.abspath(os.fspath(directory))
        self._manager: Any = None

    def on_train_begin(self, logs: Any = None) -> None:
        """Restores the newest backup, if there is one.

        Args:
            logs: not used.

        Raises:
            NotADirectoryError: `directory` is a file.
            NotImplementedError: the backend of Keras is not JAX.
            ValueError: the backup cannot be read, is one of another model or
                optimizer, or is not the same for all processes; nothing has
                been assigned then.
        """
        if not backends.current.HOLDS_JAX:
            raise NotImplementedError(
                f"{self._described} keeps arrays of JAX, and the variables of "
                f"this backend of Keras, {keras.backend.backend()}, hold none. "
                "Use `keras.callbacks.BackupAndRestore`."
            )
        self._close()  # Of a `fit` that has failed.
        model: Any = self.model
        optimizer = model.optimizer
        if optimizer is not None and not optimizer.built:
            optimizer.build(model.trainable_variables)
        if os.path.lexists(self.directory) and not os.path.isdir(
            self.directory
        ):
            raise NotADirectoryError(
                f"{self._described}: expected a folder, or a name for one. "
                "Received: the path of a file."
            )
        self._manager = _manager(self.directory)
        epoch = self._manager.latest_step()
        try:
            shared = processes.together(v.value for v in model.variables)
            processes.check_same(str(epoch), "newest epoch", shared)
        except ValueError as error:
            raise ValueError(f"{self._described}: {error}.") from error
        if epoch is None:
            return
        self._restore(epoch)
        keras_compat.start_at_epoch(model, epoch)
        epochs = (self.params or {}).get("epochs")
        if epochs is not None and epoch >= epochs:
            warnings.warn(
                f"{self._described}: `fit` has nothing to do. The backup is of "
                f"epoch {epoch}, and `epochs` is {epochs}: pass more to go on, "
                "or another directory for another run.",
                stacklevel=2,
            )

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Begins to write a backup.

        Args:
            epoch: the number of the epoch that has ended, from 0.
            logs: not used.
        """
        import orbax.checkpoint

        values = {path: v.value for path, v in self._variables().items()}
        # Named by the number of epochs that are done. It waits for the last
        # backup, and returns when the arrays are copied from their devices.
        self._manager.save(
            epoch + 1,
            args=orbax.checkpoint.args.Composite(
                variables=orbax_directory.save_args(values),
                optimizer=orbax.checkpoint.args.JsonSave(
                    self._optimizer_identity()
                ),
            ),
            force=True,
        )

    def on_train_end(self, logs: Any = None) -> None:
        """Waits until the last backup is written.

        Args:
            logs: not used.
        """
        keras_compat.start_at_epoch(self.model, None)
        self._close()

    @property
    def _described(self) -> str:
        return f"OrbaxBackup {self.directory!r}"

    def _close(self) -> None:
        if self._manager is not None:
            manager, self._manager = self._manager, None
            manager.wait_until_finished()
            manager.close()

    def _variables(self) -> dict[Path, keras.Variable]:
        """Everything that training changes, by paths that a rerun has too."""
        # Paths in Keras have the names of layers in them, which are numbered
        # through the process, and differ between a model and one loaded.
        model: Any = self.model
        variables: dict[Path, keras.Variable] = {
            ("model", f"{i:05}", optimizer_identity.unnumbered(v.name)): v
            for i, v in enumerate(model.variables)
        }
        if model.optimizer is not None:
            names = optimizer_identity.variable_names(
                model.optimizer, model.trainable_variables
            )
            variables |= {
                (_OPTIMIZER, f"{i:05}", name): v
                for i, (name, v) in enumerate(
                    zip(names, model.optimizer.variables, strict=True)
                )
            }
        return variables

    def _optimizer_identity(self) -> dict[str, Any]:
        model: Any = self.model
        return optimizer_identity.described(model.optimizer)

    def _saved_identity(self, epoch: int) -> dict[str, Any]:
        import orbax.checkpoint

        restore = orbax.checkpoint.args.JsonRestore()
        try:
            return self._manager.restore(
                epoch, args=orbax.checkpoint.args.Composite(optimizer=restore)
            )[_OPTIMIZER]
        except Exception as error:
            # Orbax raises whatever reading its files does.
            raise ValueError(
                f"{self._described}: the backup of epoch {epoch} cannot be "
                "read: it does not say which optimizer it is one of; nothing "
                "was assigned. Remove its folder to begin anew."
            ) from error

    def _restore(self, epoch: int) -> None:
        variables = self._variables()
        differences = optimizer_identity.differences(
            self._saved_identity(epoch), self._optimizer_identity()
        )
        if differences:
            raise ValueError(
                f"{self._described}: the backup of epoch {epoch} is one of "
                "another optimizer; nothing was assigned. "
                f"{'; '.join(differences)}. Use another directory for another "
                "run."
            )
        try:
            backup = orbax_directory.OrbaxDirectory(
                os.path.join(self.directory, str(epoch))
            )
            backup.load_into(variables, {path: path for path in backup.specs})
        except StructureMismatch as error:
            raise ValueError(
                f"{self._described}: the backup of epoch {epoch} is one of "
                f"another model or optimizer; nothing was assigned. {error}. "
                "Use another directory for another run."
            ) from error
        except ValueError as error:
            raise ValueError(
                f"{self._described}: the backup of epoch {epoch} cannot be "
                f"read; nothing was assigned. {error}. Remove its folder to "
                "begin anew."
            ) from error


def _manager(directory: str) -> Any:
    import orbax.checkpoint

    return orbax.checkpoint.CheckpointManager(
        directory,
        options=orbax.checkpoint.CheckpointManagerOptions(
            max_to_keep=1, create=True
        ),
    )
