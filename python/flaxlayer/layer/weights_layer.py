"""WeightsLayer: the weights of a layer, as its users read and set them."""

from collections.abc import Mapping
from typing import Any

import keras

from flaxlayer import backends
from flaxlayer.layer import weight_lists
from flaxlayer.layer.layer_weights import LayerWeights
from flaxlayer.model import Model
from flaxlayer.paths import StructureMismatch
from flaxlayer.weights import assignment, weight_files

_SEED_KEY = "seed_generator_state"


class WeightsLayer(keras.layers.Layer):
    """What can be done with the weights of a `ModelLayer` as a whole.

    Whatever sets them is compared with what the layer has before the first of
    them is assigned. No call of the layer passes through here.
    """

    _model: Model
    _weights: LayerWeights

    @property
    def params(self) -> Any:
        """The trainable parameters: the pytree with Keras variables in it."""
        return self._weights.params.as_variables()

    @property
    def state(self) -> Any:
        """The non-trainable state: the pytree with Keras variables in it."""
        return self._weights.state.as_variables()

    @property
    def _described(self) -> str:
        return f"{type(self).__name__} '{self.name}'"

    @classmethod
    def _named_by(cls, kwargs: Mapping[str, Any]) -> str:
        """What `_described` will be, as far as a constructor knows it."""
        name = kwargs.get("name")
        return f"{cls.__name__} {name!r}" if name else cls.__name__

    def _track_weights(self) -> None:
        # Keras makes weights of the variables it finds in an attribute.
        self._params_variables = self._weights.params.variables
        self._state_variables = self._weights.state.variables
        self._weights.apply_freezing()

    def _check_there(self, purpose: str) -> None:
        self._weights.check_there(purpose, built=self.built)

    # Freezing.

    @property
    def trainable(self) -> bool:
        """Whether training changes the layer: its parameters and its state.

        Setting it to `True` leaves what `freeze` has frozen as it is.
        """
        # A property of the base class is there, and has both functions.
        return keras.layers.Layer.trainable.fget(self)  # type: ignore[not-callable]

    @trainable.setter
    def trainable(self, value: bool) -> None:
        keras.layers.Layer.trainable.fset(self, value)  # type: ignore[not-callable]
        if hasattr(self, "_weights"):
            self._weights.set_trainable(self.trainable)

    def freeze(self, pattern: str) -> None:
        """Keeps weights as they are: parameters and state.

        Parameters are not trained, and no gradients are computed for them;
        state, such as batch statistics, is not updated by calls. The mode
        stays that of the call: a normalisation that should use the kept
        statistics is called with `training=False`.

        A model that is compiled has to be compiled again. What is frozen is
        saved with the layer.

        Args:
            pattern: a regular expression that matches the whole path of a
                weight, such as `"params/encoder/.*"`, or all of it below the
                collection: `"encoder/.*"`. Of several calls the last one whose
                pattern matches decides.

        Raises:
            TypeError: `pattern` is not a string.
            ValueError: it is no regular expression, or it matches no weight
                (of an unbuilt layer: raised when it is built).
        """
        self._weights.set_freezing(
            pattern, frozen=True, argument="freeze", built=self.built
        )

    def unfreeze(self, pattern: str) -> None:
        """Undoes `freeze` for all weights that the pattern matches.

        It does not make weights trainable while `trainable` is `False`, nor
        integers and booleans, which have no gradients.

        Args:
            pattern: as that of `freeze`.

        Raises:
            TypeError: `pattern` is not a string.
            ValueError: as `freeze`.
        """
        self._weights.set_freezing(
            pattern, frozen=False, argument="unfreeze", built=self.built
        )

    # Files, and all of them at once.

    def save_own_variables(self, store: Any) -> None:
        """Writes the weights and the seed's state into a Keras weights file.

        Each is stored under its path.

        Args:
            store: the layer's part of the file, a mapping to arrays.
        """
        weight_files.save(self._weights.paths, self._weights.variables, store)
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
            self._check_there("load into")
        paths, variables = self._weights.paths, self._weights.variables
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
        arrays = weight_lists.checked(
            weights, self.weights, layer=self._described
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
        self._check_there("return")
        return self._model.to_variables(
            *(
                tree.unflatten(
                    [backends.current.value_of(v) for v in tree.variables]
                )
                for tree, _ in self._weights.trees()
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
        self._check_there("set")
        try:
            parts = self._model.from_variables(variables)
            received = [
                leaf
                for (tree, prefix), part in zip(
                    self._weights.trees(), parts, strict=True
                )
                for leaf in assignment.leaves_for(tree, part, prefix)
            ]
            assignment.assign(self._weights.by_path(), received)
        except StructureMismatch as error:
            raise ValueError(
                f"{self._described}: these are not the variables of this "
                f"layer; nothing was assigned. {error}. Expected the structure "
                "and shapes that `get_layer_variables()` returns."
            ) from error
