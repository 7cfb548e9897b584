"""What an NNX module is without its values, and how they go back into it."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx

from flaxlayer import jax_compat
from flaxlayer.calls.called import Called
from flaxlayer.nnx import variables
from flaxlayer.nnx.variables import Kinds
from flaxlayer.ops import threefry
from flaxlayer.paths import Path, StructureMismatch, joined
from flaxlayer.weights.partition import Kind

# A place in a tree of weights: the collection, and then the path of NNX.
Place = tuple[Any, ...]

# Plain containers, which Flax hands from one module to the next as they are.
_CONTAINERS = (dict, list, set)


@dataclasses.dataclass(frozen=True)
class Entry:
    """One variable of a module.

    Attributes:
        place: where its value is in the trees of a layer.
        nnx_path: where it is in the module.
        kind: what kind of weight it is.
        key_impl: the implementation of the typed keys it holds, which are
            stored as their data; `None` for other values. Native keys count
            as those of JAX that they stand for.
        axes: the names of its axes, from its metadata; empty without any.
    """

    place: Place
    nnx_path: tuple[Any, ...]
    kind: Kind
    key_impl: Any
    axes: tuple[Any, ...]

    @property
    def path(self) -> Path:
        """The place as strings."""
        return tuple(map(str, self.place))

    @property
    def is_param(self) -> bool:
        """Whether it is among the parameters of the layer."""
        return self.kind != "state"


class Graph:
    """The structure of a module: all of it but its values.

    Args:
        module: the module. It is only read.
        kinds: what kind of weights its variables are.

    Attributes:
        entries: its variables, in the order that NNX has them in.
        frozen: the paths of those that are frozen from the start.
        submodules: the modules in it by their paths, those that hold others
            before these.
    """

    def __init__(self, module: nnx.Module, kinds: Kinds):
        if jax.tree_util.tree_leaves(nnx.state(module, nnx.Intermediate)):
            # Left over from a call.
            module = nnx.clone(module)
            nnx.pop(module, nnx.Intermediate)
        self._graphdef, state = nnx.split(module)
        self.entries: dict[tuple[Any, ...], Entry] = {}
        self.submodules = _submodules(module)
        self._values: dict[tuple[Any, ...], Any] = {}
        for nnx_path, variable in nnx.to_flat_state(state):
            value = variables.value_of(variable)
            collection = variables.collection_of(variable)
            place = (collection, *nnx_path)
            strings = tuple(map(str, place))
            self.entries[nnx_path] = Entry(
                place,
                nnx_path,
                kinds.of(strings, nnx_path, variable),
                threefry.stock_impl(jax_compat.key_impl(value)),
                _axes_of(variable),
            )
            self._values[nnx_path] = value
        self.frozen = frozenset(
            entry.path
            for entry in self.entries.values()
            if entry.kind == "frozen"
        )

    def take_values(self) -> dict[Any, Any]:
        """The values of the module as one tree; it can be asked for them once.

        They may be those of a trace, which must not outlive it.
        """
        values, self._values = self._values, {}
        tree: dict[Any, Any] = {}
        for nnx_path, value in values.items():
            if jax_compat.key_impl(value) is not None:
                value = jax.random.key_data(value)
            _put(tree, self.entries[nnx_path].place, value)
        return tree

    def split(self, tree: Any) -> tuple[dict[Any, Any], dict[Any, Any]]:
        """A tree such as `take_values` returns, as parameters and state."""
        return self.trees(
            {path: _at(tree, e.place) for path, e in self.entries.items()}
        )

    def trees(
        self, values: Mapping[tuple[Any, ...], Any]
    ) -> tuple[dict[Any, Any], dict[Any, Any]]:
        """Values by the paths of NNX, as the trees of a layer.

        Args:
            values: keys are typed or data.
        """
        trees: tuple[dict[Any, Any], dict[Any, Any]] = ({}, {})
        for nnx_path, value in values.items():
            entry = self.entries[nnx_path]
            if jax_compat.key_impl(value) is not None:
                value = jax.random.key_data(value)
            _put(trees[0 if entry.is_param else 1], entry.place, value)
        return trees

    def check_shapes(self, params: Any, state: Any) -> None:
        """Compares values with those that the module was read with.

        Raises:
            StructureMismatch: a shape is another one.
        """
        given = self.values(params, state, key=lambda data, _: data)
        problems = []
        for path, entry in self.entries.items():
            expected = self._values[path]
            if entry.key_impl is not None:
                expected = jax.eval_shape(jax.random.key_data, expected)
            want, have = np.shape(expected), np.shape(given[path])
            if want != have:
                problems.append(
                    f"`{joined(entry.path)}`: expected shape {want}, received "
                    f"{have}"
                )
        if problems:
            raise StructureMismatch("; ".join(problems))

    def values(
        self, params: Any, state: Any, key: Callable[[Any, Any], Any]
    ) -> dict[tuple[Any, ...], Any]:
        """The inverse of `trees`.

        Args:
            params: the parameters.
            state: the state.
            key: makes a key of its data and its implementation.
        """
        values = {}
        for nnx_path, entry in self.entries.items():
            value = _at(params if entry.is_param else state, entry.place)
            if entry.key_impl is not None:
                value = key(value, entry.key_impl)
            values[nnx_path] = value
        return values

    def module(self, values: Mapping[tuple[Any, ...], Any]) -> nnx.Module:
        """A new module with these values, by the paths of NNX."""
        state = nnx.from_flat_state(dict(values))
        module = nnx.merge(self._graphdef, state)
        for _, node, name, value in _static(module):
            if type(value) in _CONTAINERS:
                # Or what a call puts into one would be in all modules.
                vars(node)[name] = value.copy()
        return module


def _put(tree: dict[Any, Any], place: Place, value: Any) -> None:
    *above, last = place
    for step in above:
        tree = tree.setdefault(step, {})
    tree[last] = value


def _at(tree: Any, place: Place) -> Any:
    for step in place:
        tree = tree[step]
    return tree


def _axes_of(variable: Any) -> tuple[Any, ...]:
    if not isinstance(variable, nnx.Variable):
        return ()
    metadata = variable.get_metadata()
    for name in ("out_sharding", "sharding_names", "sharding"):
        names = metadata.get(name)
        if isinstance(names, tuple):
            return tuple(names)
    return ()


def _submodules(module: nnx.Module) -> dict[Path, Called]:
    paths = {
        path: type(node).__name__
        for path, node in nnx.iter_graph(module)
        if isinstance(node, nnx.Module) and path
    }

    def place(path: Any) -> list[tuple[bool, Any]]:
        return [(isinstance(step, str), step) for step in path]

    return {
        tuple(map(str, path)): Called(paths[path])
        for path in sorted(paths, key=place)
    }


def mark_traced_arrays(module: nnx.Module) -> None:
    """Makes bare arrays that were made in a trace leaves of a module.

    Flax tells by their type what are leaves, and up to 0.12.8 at least takes
    tracers for static values.
    """
    for _, node in list(nnx.iter_graph(module)):
        if isinstance(node, nnx.Module):
            for name, value in list(vars(node).items()):
                if isinstance(value, jax.core.Tracer):
                    setattr(node, name, nnx.data(value))


def static_attributes(module: nnx.Module) -> dict[Path, Any]:
    """What a module has besides variables, by path: `blocks/0/deterministic`.

    Containers are copied as far as their first level, so that a change shows.
    """
    return {
        tuple(map(str, (*path, name))): (
            value.copy() if type(value) in _CONTAINERS else value
        )
        for path, _, name, value in _static(module)
    }


def _static(module: nnx.Module) -> list[tuple[Any, nnx.Module, Any, Any]]:
    """Path, node, name and value of each attribute that is no variable."""
    return [
        (path, node, name, value)
        for path, node in nnx.iter_graph(module)
        if isinstance(node, nnx.Module)
        for name, value in vars(node).items()
        if not str(name).startswith(("_pytree__", "_object__"))
        and not isinstance(value, nnx.Variable | nnx.Pytree | jax.Array)
    ]
