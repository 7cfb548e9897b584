"""Weights in a directory of Orbax.

Written as `orbax.checkpoint.StandardCheckpointer` writes a pytree, one file or
more for each array and each host, see
https://orbax.readthedocs.io/en/latest/guides/checkpoint/checkpoint_format.html.
Of its own it notices no changed number; the custom metadata of the pytree hold
checksums.
"""

import contextlib
import gc
import logging
import os
import pathlib
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import keras
import numpy as np

from flaxlayer import backends, jax_compat
from flaxlayer.checkpoints import checksums, nested, processes, whole_files
from flaxlayer.paths import Path, joined, path_of
from flaxlayer.weights import assignment
from flaxlayer.weights.variable_tree import Leaf

_METADATA = "_METADATA"


class OrbaxDirectory:
    """A directory that is there, and what it says it holds.

    Args:
        path: its absolute path.

    Raises:
        ValueError: it is no directory of Orbax, or its description cannot be
            read or names something outside of it.

    Attributes:
        specs: shapes and dtypes of all arrays, by path. Nothing has compared
            them with the arrays.
    """

    def __init__(self, path: str):
        self._item = _item(path)
        try:
            described = _described(self._item)
            custom = described.custom_metadata or {}
            self._checksums = custom.get(checksums.NAME)
            leaves, self._treedef = jax.tree_util.tree_flatten_with_path(
                described.tree
            )
            specs = {
                path_of(keys): jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
                for keys, leaf in leaves
            }
        except Exception as error:  # Of JSON, of tensorstore, of types.
            raise _unreadable(error) from error
        for name in specs:
            # Without a database of its own, steps are names of folders.
            if any(step in ("", ".", "..") for step in name):
                raise ValueError(
                    f"the directory names `{joined(name)}`, which is no path "
                    "in it"
                )
        if len(specs) < len(leaves):
            raise ValueError("the directory has two arrays at one path")
        self.specs = specs

    def load_into(
        self,
        variables: Mapping[Path, keras.Variable],
        names: Mapping[Path, Path],
    ) -> None:
        """Assigns all variables, or none of them.

        Each array is read straight into the sharding of its variable.

        Args:
            variables: what to assign, by path.
            names: for each path in `specs` the one among `variables`.

        Raises:
            StructureMismatch: as `assignment.assign` says.
            ValueError: the arrays cannot be read, or do not have the shapes
                or checksums that the directory declares.
        """
        # Compared before anything of the size that it declares is read.
        assignment.check(
            variables,
            [Leaf(names[path], spec) for path, spec in self.specs.items()],
        )
        current = [
            backends.current.value_of(variables[names[path]])
            for path in self.specs
        ]
        target = self._treedef.unflatten(
            _target(spec, x.sharding)
            for spec, x in zip(self.specs.values(), current, strict=True)
        )
        with processes.agreeing(processes.together(current)):
            try:
                with _one_error():
                    restored = _restored(self._item, target)
            except Exception as error:
                raise _unreadable(error) from error
            # Of a typed key Orbax restores one, whatever it is asked for.
            values = [
                value
                if jax_compat.key_impl(value) is None
                else jax.random.key_data(value)
                for value in self._treedef.flatten_up_to(restored)
            ]
            checksums.check(
                self._checksums, dict(zip(self.specs, values, strict=True))
            )
        leaves = [
            # Orbax commits to devices, and weights that were on none in
            # particular shall stay so.
            assignment.leaf_of(
                names[path], value if x.committed else np.asarray(value)
            )
            for path, value, x in zip(self.specs, values, current, strict=True)
        ]
        assignment.assign(variables, leaves)


def _target(spec: jax.ShapeDtypeStruct, sharding: Any) -> Any:
    """What tells Orbax how to restore an array."""
    if jax.dtypes.canonicalize_dtype(spec.dtype) != spec.dtype:
        # JAX has no 64 bits unless it is told to: on a device, large numbers
        # would become others. As NumPy's they are compared when they are cast.
        return np.zeros(spec.shape, spec.dtype)
    return jax.ShapeDtypeStruct(spec.shape, spec.dtype, sharding=sharding)


def start_saving(
    path: str,
    arrays: Mapping[Path, jax.Array],
    *,
    overwrite: bool,
    shared: bool,
) -> Callable[[], None]:
    """Copies the arrays off their devices and begins to write them.

    Args:
        path: the absolute path of the directory.
        arrays: what it will hold.
        overwrite: whether it may replace a directory of Orbax.
        shared: whether several processes write it together.

    Returns:
        A function that returns when everything is written. An old directory
        gives way only then.

    Raises:
        ValueError: two paths cannot be in one nested dict; an array has no
            elements, or there is none.
        FileExistsError: what is to be replaced is no directory of Orbax.
    """
    # Orbax would find out when it has begun to write.
    if not arrays:
        raise ValueError("it has no weights, and Orbax writes no empty tree")
    empty = [joined(path) for path, array in arrays.items() if not array.size]
    if empty:
        raise ValueError(
            f"Orbax writes no arrays without elements, as those at {empty}"
        )
    writes = processes.writes(shared)
    with processes.agreeing(shared):
        if writes and overwrite and os.path.lexists(path):
            _check_replaceable(path)
        args = save_args(arrays)  # Reads all numbers.
    target = whole_files.beside(path)
    if shared:  # One directory, which has to have one name.
        target = processes.from_writer(target)
    checkpointer = _writer()

    def finish() -> None:
        with _whole_or_gone(target, path, checkpointer, clears=writes):
            checkpointer.wait_until_finished()
            if writes:
                _put_in_place(target, path)
        checkpointer.close()

    with _whole_or_gone(target, path, checkpointer, clears=writes):
        checkpointer.save(target, args=args)
    return finish


def save_args(arrays: Mapping[Path, jax.Array]) -> Any:
    """What tells Orbax to write arrays as one pytree, with their checksums.

    Raises:
        ValueError: two paths cannot be in one nested dict.
    """
    import orbax.checkpoint

    custom: Any = {checksums.NAME: checksums.of_arrays(arrays)}
    return orbax.checkpoint.args.StandardSave(
        nested.nest(arrays), custom_metadata=custom
    )


@contextlib.contextmanager
def _whole_or_gone(
    target: str, path: str, checkpointer: Any, *, clears: bool
) -> Iterator[None]:
    """Leaves nothing of a directory whose writing fails.

    Args:
        target: the directory that is written.
        path: what it is to become.
        checkpointer: what writes it; closed if that fails.
        clears: whether this process removes what is left, or another does.

    Raises:
        OSError: it cannot be written, which Orbax says in exceptions of many
            kinds.
    """
    try:
        yield
    except BaseException as error:
        with contextlib.suppress(Exception):  # It may fail once more.
            checkpointer.close()
        folder, name = os.path.split(target)
        for entry in os.listdir(folder) if clears else ():
            # Orbax writes below another name, and renames last.
            if entry == name or entry.startswith(f"{name}.orbax-checkpoint"):
                whole_files.remove(os.path.join(folder, entry))
        if isinstance(error, OSError) or not isinstance(error, Exception):
            raise
        raise OSError(f"{path!r} cannot be written: {error!s:.500}") from error


def _check_replaceable(path: str) -> None:
    try:
        _item(path)
    except ValueError as error:
        raise FileExistsError(
            f"{path!r} is there and is not replaced: {error}."
        ) from error


def _put_in_place(new: str, path: str) -> None:
    old = None
    if os.path.lexists(path):
        # Directories cannot be exchanged in one step: between these two there
        # is no `path`, and both the old and the new one are whole.
        old = whole_files.beside(path)
        os.rename(path, old)
    try:
        os.rename(new, path)
    except BaseException:
        if old is not None:
            os.rename(old, path)
        raise
    whole_files.sync_folder(path)
    if old is not None:
        whole_files.remove(old)
    whole_files.sweep(path)


def _item(path: str) -> str:
    """The part of a directory that holds the pytree.

    It may be the directory itself; a checkpoint manager and the second
    interface of Orbax have a folder in it, whose name depends on the version.
    """
    parts = [path]
    if os.path.isdir(path):
        parts += [entry.path for entry in os.scandir(path)]
    items = [x for x in parts if os.path.isfile(os.path.join(x, _METADATA))]
    if path in items:
        return path
    if len(items) > 1:
        raise ValueError(
            "the directory holds several pytrees; pass the path of one: "
            f"{sorted(items)}"
        )
    if not items:
        raise ValueError(
            f"expected a directory of Orbax, with a file `{_METADATA}`; the "
            "path of a file has to end in `.msgpack` or `.safetensors`"
        )
    return items[0]


def _unreadable(error: BaseException) -> ValueError:
    # What tensorstore says, which Orbax tells in words of its own.
    *_, error = _causes(error)
    problem = str(error).partition(" [tensorstore_spec=")[0]
    if problem.startswith("NOT_FOUND"):
        problem = f"arrays are not there: {problem}"
    return ValueError(
        "expected a readable directory of Orbax: "
        f"{type(error).__name__}: {problem:.500}"
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and what each is raised from; the first one comes last."""
    while error is not None:
        yield error
        error = error.__cause__


@contextlib.contextmanager
def _one_error() -> Iterator[None]:
    """Lets Orbax raise what is wrong with one array, and say no more.

    It reads arrays side by side; asyncio logs the errors of all others, with
    their specifications, hundreds of lines each, when they are collected.
    """

    def kept(record: logging.LogRecord) -> bool:
        # Of tasks that have failed or are cancelled, by what they run; of what
        # gathers them, by where the error was raised.
        error = record.exc_info[1] if record.exc_info else None
        raised = "".join(traceback.format_exception(error) if error else [])
        return "orbax" not in record.msg + raised

    logger = logging.getLogger("asyncio")
    logger.addFilter(kept)
    try:
        yield
    except BaseException as error:
        # Their frames hold the tasks of the others.
        for cause in _causes(error):
            traceback.clear_frames(cause.__traceback__)
        gc.collect()
        raise
    finally:
        logger.removeFilter(kept)


def _described(item: str) -> Any:
    """What the directory of a pytree says of it.

    The handler is asked, and no checkpointer, which warns where it finds no
    metadata of a whole step, as in a part of one.
    """
    import orbax.checkpoint

    handler: Any = orbax.checkpoint.StandardCheckpointHandler()
    return handler.metadata(pathlib.Path(item))


def _restored(item: str, target: Any) -> Any:
    """Reads the pytree of a directory.

    By the handler, for a checkpointer waits for all processes in the end: for
    one that has failed they would wait for good.
    """
    # Takes a second to import, and most programs do without.
    import orbax.checkpoint

    handler: Any = orbax.checkpoint.StandardCheckpointHandler()
    return handler.restore(
        pathlib.Path(item), args=orbax.checkpoint.args.StandardRestore(target)
    )


def _writer() -> Any:
    import orbax.checkpoint

    # A StandardCheckpointer takes no metadata for the pytree itself.
    return orbax.checkpoint.AsyncCheckpointer(
        orbax.checkpoint.StandardCheckpointHandler()
    )
