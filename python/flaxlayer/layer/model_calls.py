"""The calls of a layer: its variables are read, its model called."""

import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from flaxlayer import backends
from flaxlayer.calls import input_specs, model_errors
from flaxlayer.calls.model_result import Intermediates
from flaxlayer.layer import layer_mesh, pure_call
from flaxlayer.layer.collection_metrics import CollectionMetrics
from flaxlayer.layer.layer_inputs import LayerInputs
from flaxlayer.layer.layer_keys import LayerKeys
from flaxlayer.layer.layer_weights import LayerWeights
from flaxlayer.layer.pure_call import Mode, PureCall, Results
from flaxlayer.model import Model
from flaxlayer.weights import variable_tree

NonfiniteState = Literal["propagate", "keep"]

_SEED_STATE = jax.ShapeDtypeStruct((2,), np.uint32)


class ModelCalls:
    """Calls a model on the weights of a layer, and keeps what calls leave.

    Args:
        model: what is called.
        weights: on which weights.
        keys: with which keys.
        inputs: what is known of its inputs.
        metrics: where metrics are kept.
        nonfinite_state: the `nonfinite_state` argument.
        platforms: the `native_serialization_platforms` argument.
        layer: how error messages call the layer.
        shown: returns what the layer is made of, for messages.

    Attributes:
        lock: held while the layer is built, and by calls that change it.

    Raises:
        ValueError: `nonfinite_state` is another word.
    """

    def __init__(
        self,
        model: Model,
        weights: LayerWeights,
        keys: LayerKeys,
        inputs: LayerInputs,
        metrics: CollectionMetrics,
        *,
        nonfinite_state: NonfiniteState,
        platforms: Sequence[str] | None,
        layer: str,
        shown: Callable[[], str],
    ):
        if nonfinite_state not in get_args(NonfiniteState):
            raise ValueError(
                f"{layer}: `nonfinite_state` must be one of "
                f"{get_args(NonfiniteState)}. Received: {nonfinite_state!r}."
            )
        self._guards_state = nonfinite_state == "keep"
        self.lock = threading.RLock()
        self._model = model
        self._weights = weights
        self._keys = keys
        self._inputs = inputs
        self._metrics = metrics
        self._layer = layer
        self._shown = shown
        self._pure = PureCall(model, weights, layer)
        self._caller = backends.current.Caller(self._pure, layer, platforms)
        # The modes in which a call has been seen to assign nothing.
        self._assigning_nothing: set[Mode] = set()

    def call(
        self,
        inputs: Any,
        *,
        training: Any,
        remat: bool = False,
        intermediates: Intermediates | None = None,
    ) -> Results:
        """Calls the model and assigns the state and the seed it leaves.

        Args:
            inputs: the one input, or `CallArguments`.
            training: the mode; may be traced.
            remat: whether the model is rematerialised.
            intermediates: which of them to capture; nothing is assigned then.

        Raises:
            TypeError: `training` is no boolean.
            ValueError: the model failed on these inputs, or returned another
                state than it was given.
        """
        self._check_training(training)
        undecided = isinstance(training, jax.core.Tracer)
        mode = self._mode(True if undecided else training, intermediates)
        # The state is read and assigned by one thread at a time, or what
        # another one assigns in between is lost. Calls that assign nothing
        # need not wait for each other.
        results = None
        if mode in self._assigning_nothing:
            results = self._results(inputs, mode, training, remat)
        if results is None or results.assigns:
            with self.lock:
                results = self._results(inputs, mode, training, remat)
                self._assign(results)
            if not results.assigns:
                self._assigning_nothing.add(mode)
        return results

    def repeated(self, inputs: Any, scope: pure_call.Scope) -> Results | None:
        """A call in inference that is expected to leave nothing but outputs.

        Args:
            inputs: the one input.
            scope: what it is traced in, if it has to be.

        Returns:
            `None` if it cannot be traced, or leaves anything; nothing has
            happened then.
        """
        mode = self._mode(False)
        if mode not in self._assigning_nothing:
            return None
        caller: Any = self._caller  # That of JAX.
        token = pure_call.TRACED_WITHIN.set(scope)
        try:
            results = caller.compiled(mode, *self._arrays(inputs, mode))
        except jax.errors.JaxRuntimeError as error:
            # It has been run, and perhaps called back: not once more.
            error.add_note(f"It was raised by a call of {self._layer}.")
            raise
        except Exception:  # An ordinary call explains it.
            return None
        finally:
            pure_call.TRACED_WITHIN.reset(token)
        return None if results.assigns or results.effects.losses else results

    def _check_training(self, training: Any) -> None:
        if isinstance(training, bool | int | None):
            return
        if getattr(training, "shape", None) == ():
            # A boolean of NumPy or JAX, perhaps a traced one.
            backends.current.check_decided(training, self._layer)
            return
        raise TypeError(
            f"{self._layer}: `training` must be a boolean. Received: "
            f"{training!r:.200} (of type {type(training).__name__})."
        )

    def _mode(
        self, training: Any, intermediates: Intermediates | None = None
    ) -> Mode:
        kernels, keys = self._keys.choose()
        streams = self._model.streams
        return Mode(
            training=bool(training),
            streams=streams.active(bool(training)),
            advances=streams.advances(bool(training)),
            keys=keys,
            kernels=kernels,
            guards_state=self._guards_state,
            kept_state=self._weights.rules.kept_state,
            intermediates=intermediates,
            compute_dtype=None,
        )

    def _results(
        self, inputs: Any, mode: Mode, training: Any, remat: bool
    ) -> Results:
        arrays = self._arrays(inputs, mode)
        apply, traced = self._caller.function(arrays)
        undecided = isinstance(training, jax.core.Tracer)
        dtype = backends.current.compute_dtype()
        if traced or undecided:
            # In a program of others, which casts them as Keras's layers do.
            params, *others = arrays
            arrays = (self._weights.params.cast(params, dtype), *others)
        else:
            # One by one takes longer than many a model.
            mode = mode._replace(compute_dtype=dtype)
        if undecided:
            apply = functools.partial(self._either, training)
        if remat:
            apply = jax.checkpoint(apply, static_argnums=0)
        try:
            return self._keys.usable(
                lambda keys: apply(mode._replace(keys=keys), *arrays), mode.keys
            )
        except Exception as error:
            if not traced:
                layer_mesh.explain(
                    error, inputs, self._weights.variables, self._layer
                )
            self._explain(error, inputs)
            raise

    def _arrays(self, inputs: Any, mode: Mode) -> tuple[Any, ...]:
        # A model without random streams has no generator.
        generator = self._keys.generator if mode.streams else None
        return (
            self._weights.params.values(),
            self._weights.state.values(),
            None
            if generator is None
            else backends.current.seed_words(generator.state.value),
            inputs,
        )

    def _either(self, training: Any, mode: Mode, *arrays: Any) -> Results:
        inference = self._mode(False)._replace(keys=mode.keys)
        return self._pure.either(training, (mode, inference), *arrays)

    def _assign(self, results: Results) -> None:
        """Assigns what a call has changed."""
        for variable, value in zip(
            self._weights.state.variables, results.state, strict=False
        ):
            if value is not None:
                variable.assign(value)
        if self._keys.generator is not None and results.next_seed is not None:
            self._keys.generator.state.assign(results.next_seed)
        if results.effects.metrics:
            self._metrics.update(results.effects.metrics)

    def _explain(self, error: Exception, inputs: Any) -> None:
        """Raises a clearer error than the one the model raised, if there is."""
        received, built = self._inputs.described(inputs), self._inputs.built
        model_errors.explain(
            error, received, built, layer=self._layer, shown=self._shown()
        )

    # Shapes without values.

    def output_specs(
        self,
        specs: Any,
        *,
        training: bool,
        built: bool,
        compute_dtype: str | None,
    ) -> Any:
        """The outputs as `keras.KerasTensor`s.

        Args:
            specs: the inputs.
            training: the mode.
            built: whether the layer is built. If it is not, the weights are
                those that an initialisation would make.
            compute_dtype: what weights are cast to, if they are.
        """
        if self._inputs.declared is not None:
            specs = input_specs.refined(specs, self._inputs.declared)
        mode = self._mode(training)
        known = built or self._weights.given or not self._model.initializes
        outputs = self._known_outputs if known else self._unknown_outputs
        try:
            found = self._keys.usable(
                lambda keys: input_specs.output_specs(
                    functools.partial(
                        outputs, mode._replace(keys=keys), compute_dtype
                    ),
                    specs,
                ),
                mode.keys,
            )
        except Exception as error:
            self._explain(error, specs)
            raise
        self._metrics.create(sorted(self._model.metric_paths))
        return found

    def _known_outputs(
        self, mode: Mode, compute_dtype: str | None, inputs: Any
    ) -> Any:
        """The outputs on weights of the shapes there are; for tracing only."""
        params, state = (
            _zeros(tree.specs(compute_dtype))
            for tree in (self._weights.params, self._weights.state)
        )
        return self._pure(
            mode, params, state, _seed_state(mode), inputs
        ).outputs

    def _unknown_outputs(
        self, mode: Mode, compute_dtype: str | None, inputs: Any
    ) -> Any:
        """The same on weights that are made for these inputs."""
        raw_keys = _zeros(self._keys.initial_specs(mode.keys))
        made = self._keys.initialized(mode.keys, raw_keys, inputs)
        params, state = self._model.split(made)
        if compute_dtype is not None:
            params = _cast_default(params, compute_dtype)
        result, _ = self._pure.run(
            mode, params, state, _seed_state(mode), inputs
        )
        return result.outputs


def _seed_state(mode: Mode) -> Any:
    return _zeros(_SEED_STATE) if mode.streams else None


def _zeros(specs: Any) -> Any:
    return jax.tree_util.tree_map(
        lambda spec: jnp.zeros(spec.shape, spec.dtype), specs
    )


def _cast_default(tree: Any, dtype: str) -> Any:
    def cast(leaf: Any) -> Any:
        if isinstance(leaf, jax.Array) and variable_tree.is_default(leaf):
            return leaf.astype(dtype)
        return leaf

    return jax.tree_util.tree_map(cast, tree)
