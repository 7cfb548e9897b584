"""The weights of a layer: two trees of variables, and what is said of them."""

from collections.abc import Mapping
from typing import Any

import jax
import keras

from flaxlayer import backends
from flaxlayer.model import Model
from flaxlayer.paths import Path, StructureMismatch, joined
from flaxlayer.weights import (
    given_weights,
    initialization,
    layouts,
    memory,
    path_patterns,
    process_agreement,
    variable_tree,
    weight_rules,
)
from flaxlayer.weights.variable_tree import VariableTree

_KINDS = ("params", "state")


class LayerWeights:
    """The parameters and the state of a layer.

    Variables are named by the Keras name scope that they are made in. None of
    them is frozen before `apply_freezing` is called.

    Args:
        model: what they are weights of.
        rules: regularizers, constraints, and what is frozen.
        trainable: whether the layer is.
        layer: how error messages call the layer.

    Attributes:
        params: what is trained, as a tree of variables.
        state: what is not.
        given: of `"params"` and `"state"` those that the user has given.
        rules: regularizers, constraints, and what is frozen.
    """

    def __init__(
        self,
        model: Model,
        rules: weight_rules.WeightRules,
        *,
        trainable: bool,
        layer: str,
    ):
        self._model = model
        self._trainable = trainable
        self._layer = layer
        self.rules = rules
        self.params: VariableTree = variable_tree.EMPTY
        self.state: VariableTree = variable_tree.EMPTY
        self.given: frozenset[str] = frozenset()

    @property
    def paths(self) -> tuple[Path, ...]:
        """Those of all variables: first the parameters, then the state."""
        return self.params.paths + self.state.paths

    @property
    def variables(self) -> tuple[keras.Variable, ...]:
        """All of them, in the order of `paths`."""
        return self.params.variables + self.state.variables

    def by_path(self) -> dict[Path, keras.Variable]:
        """All variables under their paths."""
        return {**self.params.by_path(), **self.state.by_path()}

    def present(self) -> list[variable_tree.Leaf]:
        """All variables with their present values, as leaves."""
        return [
            variable_tree.Leaf(
                path,
                jax.ShapeDtypeStruct(tuple(v.shape), v.dtype),
                backends.current.value_of(v),
            )
            for path, v in self.by_path().items()
        ]

    def trees(self) -> tuple[tuple[VariableTree, Path], ...]:
        """The two trees, and what the paths in each start with."""
        return tuple(
            zip((self.params, self.state), self._model.prefixes, strict=True)
        )

    def check_there(self, purpose: str, *, built: bool) -> None:
        """Reports that there are none yet.

        Args:
            purpose: what they are wanted for.
            built: whether the layer is built.

        Raises:
            ValueError: the layer was never built.
        """
        if not built and self._model.initializes and not self.given:
            raise ValueError(
                f"{self._layer} has no weights to {purpose}: it was never "
                "built. Build it or call it on data first."
            )

    # Making them.

    def take(self, params: Any, state: Any, variable_dtype: str) -> None:
        """Makes variables of given values; `None` is no value.

        Raises:
            MemoryError: shapes, or arrays that are not of JAX, are larger than
                all of the memory.
            ValueError: a value cannot be cast to the dtype it is stored in;
                the layout that a distribution has for one does not fit; or
                over several processes another one has other values.
        """
        given = dict(zip(_KINDS, (params, state), strict=True))
        self.given = frozenset(k for k, x in given.items() if x is not None)
        self._check_memory(params, state)
        trees = {
            kind: variable_tree.describe_leaves(tree, self._prefix(kind))
            for kind, tree in given.items()
        }
        if self.given:
            process_agreement.check(
                lambda: process_agreement.described(
                    leaf for leaves, _ in trees.values() for leaf in leaves
                ),
                self._layer,
            )
        try:
            for kind, (leaves, treedef) in trees.items():
                self._create(kind, leaves, treedef, variable_dtype)
        except StructureMismatch as error:
            raise ValueError(
                f"{self._layer}: the given weights cannot be stored. {error}."
            ) from error
        except layouts.LayoutMismatch as error:
            raise ValueError(f"{self._layer}: {error}") from error

    def make(
        self, init: initialization.Initialization, variable_dtype: str
    ) -> None:
        """Makes those that were not given.

        Args:
            init: where their values come from.
            variable_dtype: that of the layer's dtype policy.

        Raises:
            memory.NotEnoughMemory: the memory cannot hold them.
            StructureMismatch: what was given does not fit them.
        """
        if self.given:
            given_weights.check(
                self.params.array_leaves() + self.state.array_leaves(),
                init.leaves,
            )
        init.check_memory()
        made = self._model.split(init.treedef.unflatten(init.leaves))
        for kind, tree in zip(_KINDS, made, strict=True):
            existing = self._tree(kind).by_path() if self.given else None
            if existing is not None and not (
                set(tree) - {path[0] for path in existing}
            ):
                continue
            leaves, treedef = jax.tree_util.tree_flatten(tree)
            self._create(kind, leaves, treedef, variable_dtype, init, existing)

    def _create(
        self,
        kind: str,
        leaves: list[variable_tree.Leaf],
        treedef: Any,
        variable_dtype: str,
        init: initialization.Initialization | None = None,
        existing: Mapping[Path, keras.Variable] | None = None,
    ) -> None:
        created = variable_tree.create(
            leaves,
            treedef,
            trainable=kind == "params",
            variable_dtype=variable_dtype,
            prefix=self._prefix(kind),
            initializer=None if init is None else init.initializer,
            existing=existing,
        )
        if kind == "params":
            self.params = created
            self.rules.regularize(created)
        else:
            self.state = created

    def _tree(self, kind: str) -> VariableTree:
        return self.params if kind == "params" else self.state

    def _prefix(self, kind: str) -> Path:
        return self._model.prefixes[_KINDS.index(kind)]

    def _check_memory(self, *given: Any) -> None:
        """Reports given shapes, and arrays of others, that do not fit."""
        arrays = {
            f"`{joined(leaf.path)}`": leaf.spec
            for tree, prefix in zip(given, self._model.prefixes, strict=True)
            for leaf in variable_tree.describe_leaves(tree, prefix)[0]
            # Where arrays of JAX fit, copies of them are made beside.
            if leaf.spec is not None and not isinstance(leaf.value, jax.Array)
        }
        try:
            memory.check(arrays, devices=memory.devices_of_distribution())
        except memory.NotEnoughMemory as error:
            raise MemoryError(
                f"{self._layer}: the given weights do not fit into memory: "
                f"{error}. Check their shapes, or use a machine with more "
                "memory."
            ) from error

    def check_patterns(self) -> None:
        """Reports patterns that have no effect on the weights there are.

        Raises:
            ValueError: there is one.
        """
        self._model.check_paths(self.paths, self._layer)
        self.rules.check_patterns(
            self.params.paths, self.state.paths, layer=self._layer
        )

    # Freezing.

    def set_trainable(self, trainable: bool) -> None:
        """Whether the layer is trainable, whatever is frozen in it."""
        self._trainable = trainable
        self.apply_freezing()

    def set_freezing(
        self, pattern: str, *, frozen: bool, argument: str, built: bool
    ) -> None:
        """Freezes or unfreezes what a pattern matches.

        Args:
            pattern: a regular expression for paths.
            frozen: whether it freezes.
            argument: what the user has called.
            built: whether the layer has all of its weights.

        Raises:
            TypeError: `pattern` is not a string.
            ValueError: it is no regular expression, or it matches no weight.
        """
        path_patterns.checked(
            pattern, layer=self._layer, argument=f"`{argument}`"
        )
        if built:
            weight_rules.check_pattern(
                pattern, self.paths, layer=self._layer, argument=argument
            )
        self.rules.set_freezing(pattern, frozen)
        self.apply_freezing()

    def apply_freezing(self) -> None:
        """Tells variables whether they are trained.

        Not before the layer has them as attributes: Keras sorts variables by
        what they are when it meets them.
        """
        for path, variable in self.params.by_path().items():
            variable.trainable = not self._is_frozen(
                path
            ) and variable_tree.is_differentiable(variable)
        self.rules.kept_state = frozenset(
            i
            for i, path in enumerate(self.state.paths)
            if self._is_frozen(path)
        )

    def _is_frozen(self, path: Path) -> bool:
        return not self._trainable or self.rules.is_frozen(
            path, initially=self._model.starts_frozen(path)
        )
