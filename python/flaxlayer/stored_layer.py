"""StoredLayer: all weights of a layer, read and set at once."""

from collections.abc import Sequence
from typing import Any

import jax
import keras
import numpy as np

from flaxlayer import jax_compat, short_repr
from flaxlayer.calls.input_checks import is_numeric
from flaxlayer.weighted_layer import WeightedLayer
from flaxlayer.weights import (
    assignment,
    casting,
    variable_tree,
    weight_files,
)

_SEED_KEY = "seed_generator_state"


class StoredLayer(WeightedLayer):
    """A layer whose weights are written, read, returned and set as a whole.

    Whatever sets them is compared with what the layer has before the first of
    them is assigned.
    """

    def save_own_variables(self, store: Any) -> None:
        """Writes the weights and the seed's state into a Keras weights file.

        Each is stored under its path.

        Args:
            store: the layer's part of the file, a mapping to arrays.
        """
        weight_files.save(*self._paths_and_variables(), store)
        if self.seed_generator is not None:
            # Keras does not save seed generators; without its counter a
            # reloaded layer would repeat the random numbers of its first steps.
            store[_SEED_KEY] = self.seed_generator.state

    def load_own_variables(self, store: Any) -> None:
        """Reads the weights from a Keras weights file.

        Files of Keras's own layers, which number their weights, are read too.

        Args:
            store: the layer's part of the file, a mapping to arrays.

        Raises:
            ValueError: the layer was never built, or weights are missing,
                unexpected or of another shape; nothing has been assigned then.
        """
        # A layer that was not built when it was saved has no weights either.
        if not {_SEED_KEY}.issuperset(store.keys()):
            self._check_has_weights("load into")
        paths, variables = self._paths_and_variables()
        # Keras's own layers do not have it in their files.
        if self.seed_generator is not None and _SEED_KEY in set(store.keys()):
            paths = (*paths, (_SEED_KEY,))
            variables = (*variables, self.seed_generator.state)
        weight_files.load(paths, variables, store, layer=self._described)

    def set_weights(self, weights: list[Any]) -> None:
        """Sets all weights from a list of arrays, or none of them.

        Args:
            weights: arrays, in the order of `self.weights`.

        Raises:
            TypeError: `weights` is no list, or something in it is no array of
                numbers.
            ValueError: their number or a shape is not that of `self.weights`,
                or a value cannot be cast to the dtype of its weight, as for
                `set_layer_variables`.
        """
        if not isinstance(weights, Sequence) or isinstance(weights, str):
            raise TypeError(
                f"{self._described}: `set_weights` takes a list of arrays, in "
                "the order of `self.weights`; nothing was assigned. Received: "
                f"{short_repr.of(weights)} (of type {type(weights).__name__})."
            )
        shapes = [np.shape(weight) for weight in weights]
        expected = [tuple(variable.shape) for variable in self.weights]
        if shapes != expected:
            hint = "" if expected else " It has none before it is built."
            raise ValueError(
                f"{self._described}: `set_weights` got other shapes than the "
                f"layer has; nothing was assigned. Expected {expected} for "
                f"{[v.path for v in self.weights]}. Received: {shapes}.{hint}"
            )
        arrays, problems = [], []
        for variable, weight in zip(self.weights, weights, strict=True):
            plain = isinstance(weight, jax.Array) and (
                jax_compat.key_impl(weight) is None
            )
            array = weight if plain else np.asarray(weight)
            if not is_numeric(array.dtype):
                raise TypeError(
                    f"{self._described}: `set_weights` takes arrays of "
                    "numbers; nothing was assigned. Received: dtype "
                    f"{array.dtype} for `{variable.path}`."
                )
            try:
                arrays.append(casting.cast(array, variable.dtype))
            except casting.Refused as error:
                problems.append(f"`{variable.path}`: {error}")
        if problems:
            raise ValueError(
                f"{self._described}: `set_weights` got values that its "
                "weights cannot hold; nothing was assigned. "
                f"{'; '.join(problems)}."
            )
        assignment.assign_values(self.weights, arrays)

    def get_layer_variables(self) -> dict[str, Any]:
        """The weights as the model takes them.

        Example:
            ```python
            module.apply(layer.get_layer_variables(), inputs)
            ```

        Returns:
            Of a `FlaxLayer` the variables of its module, `{"params": {...},
            "batch_stats": {...}}`, in nested dicts; of a `JaxLayer`
            `{"params": params, "state": state}`, each in its own containers.
            The leaves are the arrays that the Keras variables hold, and no
            copies: `fit`, `evaluate` and `predict` of Keras donate the buffers
            to XLA, so arrays that were taken before are deleted by them. Use
            `jax.tree.map(jnp.copy, ...)` for a snapshot. Typed keys come back
            as typed keys.

        Raises:
            ValueError: the layer was never built.
        """
        self._check_has_weights("return")
        return self._to_layer_variables(
            *(
                tree.unflatten([v.value for v in tree.variables])
                for tree in (self._params, self._state)
            )
        )

    def set_layer_variables(self, variables: Any) -> None:
        """Sets all weights from what the model takes, or none of them.

        Args:
            variables: the structure that `get_layer_variables` returns, with
                arrays as its leaves. Dicts and `FrozenDict`s are the same
                thing; for a `FlaxLayer` Flax's metadata boxes are taken off.
                Arrays that have the dtype and the sharding of their variable
                are not copied: the next `fit`, `evaluate` or `predict` of Keras
                donates their buffers, and with that deletes them for the
                caller as well. Pass `jax.tree.map(jnp.copy, variables)` to
                keep them.

        Raises:
            ValueError: the layer was never built; or paths are missing or
                unexpected, a shape is another one, or a value cannot be cast
                to the dtype of its weight. Floating-point values may lose
                precision but not become infinite; all others are kept exactly.
                The message lists the paths; nothing has been assigned then.
        """
        self._check_has_weights("set")
        try:
            received = self._described_variables(variables)
            assignment.assign(self._weights_by_path(), received)
        except variable_tree.StructureMismatch as error:
            raise ValueError(
                f"{self._described}: these are not the variables of this "
                f"layer; nothing was assigned. {error}. Expected the structure "
                "and shapes that `get_layer_variables()` returns."
            ) from error

    def _to_layer_variables(self, params: Any, state: Any) -> dict[str, Any]:
        """What `get_layer_variables` returns, of its two parts."""
        raise NotImplementedError

    def _from_layer_variables(self, variables: Any) -> tuple[Any, Any]:
        """The two parts of what `_to_layer_variables` returns.

        Raises:
            StructureMismatch: it has other parts.
        """
        raise NotImplementedError

    def _described_variables(self, variables: Any) -> list[variable_tree.Leaf]:
        """The leaves of layer variables, keys as their data."""
        received = []
        parts = self._from_layer_variables(variables)
        for kind, part in zip(("params", "state"), parts, strict=True):
            tree = getattr(self, f"_{kind}")
            prefix = self._path_prefix(kind)
            ours, _ = variable_tree.describe_leaves(tree.as_specs(), prefix)
            static = {leaf.path for leaf in ours if not leaf.is_array}
            impls = {leaf.path: leaf.key_impl for leaf in tree.array_leaves()}
            leaves, _ = variable_tree.describe_leaves(part, prefix)
            for leaf in leaves:
                impl = impls.get(leaf.path)
                if not leaf.is_array and leaf.path in static:
                    continue  # It belongs to the model, which has it.
                if leaf.key_impl is None:
                    received.append(leaf)
                elif impl is None or impl == leaf.key_impl:
                    data = jax.random.key_data(leaf.value)
                    received.append(assignment.leaf_of(leaf.path, data))
                else:
                    raise variable_tree.StructureMismatch(
                        f"`{variable_tree.joined(leaf.path)}`: expected a key "
                        f"of {impl}, received one of {leaf.key_impl}"
                    )
        return received

    def _check_has_weights(self, purpose: str) -> None:
        if not self.built and self._initializes and not self._given:
            raise ValueError(
                f"{self._described} has no weights to {purpose}: it was never "
                "built. Build it or call it on data first."
            )

    def _weights_by_path(self) -> dict[variable_tree.Path, keras.Variable]:
        return {**self._params.by_path(), **self._state.by_path()}

    def _paths_and_variables(self) -> tuple[Any, Any]:
        return (
            self._params.paths + self._state.paths,
            self._params.variables + self._state.variables,
        )
