"""ModelLayer: calling a pure model from Keras."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from flaxlayer import jax_compat, short_repr
from flaxlayer.calls import input_specs, integer_inputs
from flaxlayer.calls.call_arguments import first_input, with_first_input
from flaxlayer.calls.model_result import (
    Effects,
    Intermediates,
    ModelResult,
    check_outputs,
)
from flaxlayer.ops import dispatch, state_merge
from flaxlayer.randomness import key_form, rng_streams
from flaxlayer.stored_layer import StoredLayer
from flaxlayer.weights import variable_tree, weight_rules

NonfiniteState = Literal["propagate", "keep"]

_SEED_STATE = jax.ShapeDtypeStruct((2,), np.uint32)


class Mode(NamedTuple):
    """What a call is compiled for; all of it is static under `jax.jit`."""

    training: bool
    streams: tuple[str, ...]
    advances: bool
    keys: key_form.KeyForm
    kernels: dispatch.Kernels
    guards_state: bool
    kept_state: frozenset[int]
    intermediates: Intermediates | None


class _Results(NamedTuple):
    """What a call of the pure function returns.

    Of the new state and the next seed, what stays as it was is `None`: it need
    not be computed, copied or assigned.
    """

    outputs: Any
    state: list[jax.Array | None]
    next_seed: jax.Array | None
    effects: Effects
    intermediates: Any

    @property
    def assigns(self) -> bool:
        """Whether there is anything to assign."""
        return (
            self.next_seed is not None
            or bool(self.effects.metrics)
            or any(value is not None for value in self.state)
        )


class _PureModes:
    """The modes in which a call has been seen to assign nothing.

    An object, since Keras looks into whatever is put into a set.
    """

    def __init__(self) -> None:
        self.modes: set[Mode] = set()


class ModelLayer(StoredLayer):
    """What `JaxLayer` and `FlaxLayer` have in common.

    The way of one call, from top to bottom: Keras calls `call(inputs,
    training)`; the variables are read as pytrees; `_apply`, a pure function
    that is compiled where nothing else compiles it, draws the keys, calls the
    model and flattens the state it returns; outputs go back, state and seed
    are assigned.

    Args:
        nonfinite_state: the `nonfinite_state` argument.
        **kwargs: the arguments of `WeightedLayer`.
    """

    def __init__(self, *, nonfinite_state: NonfiniteState, **kwargs: Any):
        super().__init__(**kwargs)
        if nonfinite_state not in get_args(NonfiniteState):
            raise ValueError(
                f"{self._described}: `nonfinite_state` must be one of "
                f"{get_args(NonfiniteState)}. Received: {nonfinite_state!r}."
            )
        self.nonfinite_state: NonfiniteState = nonfinite_state
        self._compiled_apply = jax.jit(self._apply, static_argnums=0)
        self._pure = _PureModes()

    # What the model is, for subclasses to say.

    # The attributes that tell which model it is, for its representation.
    _shown: tuple[str, ...] = ()

    def _call_model(
        self, params: Any, state: Any, rng: Any, inputs: Any, mode: Mode
    ) -> ModelResult:
        """Calls the model."""
        raise NotImplementedError

    def _update_metrics(self, metrics: dict[str, jax.Array]) -> None:
        """Keeps the metrics that a call has left."""
        raise NotImplementedError

    def _model_config(self) -> dict[str, Any]:
        """The part of the config that says what the model is."""
        raise NotImplementedError

    @classmethod
    def _decode_model(cls, config: dict[str, Any], where: str) -> None:
        """Replaces what `_model_config` returned by what it stands for."""
        raise NotImplementedError

    # Calling the model.

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Calls the model and keeps the state and the seed it leaves.

        Args:
            inputs: an array or a pytree of arrays.
            training: whether to call it in training mode. Inside `jax.jit` it
                may be a traced boolean: the program has both modes then.

        Returns:
            What the model returns.

        Raises:
            ValueError: the state it returns has another structure, other
                shapes, or dtypes that those of the one it got do not hold; or
                the inputs have another structure, rank or dtype than the layer
                was built with and the model failed on them.
        """
        # Wrappers such as TimeDistributed call this method, not the layer.
        (inputs,), _ = self._with_integers((inputs,), {})
        return self._forward(inputs, training=training)

    def _forward(
        self,
        inputs: Any,
        *,
        training: bool,
        remat: bool = False,
        intermediates: Intermediates | None = None,
    ) -> Any:
        self._check_training(training)
        undecided = isinstance(training, jax.core.Tracer)
        mode = self._mode(True if undecided else training, intermediates)
        # The state is read and assigned by one thread at a time, or what
        # another one assigns in between is lost. Calls that assign nothing
        # need not wait for each other.
        results = None
        if mode in self._pure.modes:
            results = self._results(inputs, mode, training, remat)
        if results is None or results.assigns:
            with self._call_lock:
                results = self._results(inputs, mode, training, remat)
                self._assign(results)
            if not results.assigns:
                self._pure.modes.add(mode)
        if intermediates is not None:
            return results.outputs, results.intermediates
        for loss in results.effects.losses:
            self.add_loss(loss)
        return results.outputs

    def _check_training(self, training: Any) -> None:
        if isinstance(training, bool | int | None):
            return
        if getattr(training, "shape", None) == ():
            return  # A boolean of NumPy or JAX, perhaps a traced one.
        raise TypeError(
            f"{self._described}: `training` must be a boolean. Received: "
            f"{training!r:.200} (of type {type(training).__name__})."
        )

    def _results(
        self, inputs: Any, mode: Mode, training: bool, remat: bool
    ) -> _Results:
        # A model without random streams has no generator.
        generator = self.seed_generator if mode.streams else None
        arrays = (
            self._params.values(),
            self._state.values(),
            None if generator is None else generator.state.value,
            inputs,
        )
        # Inside a trace the model is called as it is, so that the program is
        # the one a plain JAX loop would have; outside of one it is compiled.
        traced = jax_compat.is_staged(arrays)
        apply = self._apply if traced else self._compiled_apply
        if isinstance(training, jax.core.Tracer):
            apply = functools.partial(self._apply_either, training)
        if remat:
            apply = jax.checkpoint(apply, static_argnums=0)
        try:
            return self._with_usable_keys(
                lambda keys: apply(mode._replace(keys=keys), *arrays), mode.keys
            )
        except Exception as error:
            self._explain(error, inputs)
            raise

    def _assign(self, results: _Results) -> None:
        """Assigns what a call has changed."""
        for variable, value in zip(
            self._state.variables, results.state, strict=False
        ):
            if value is not None:
                variable.assign(value)
        if self.seed_generator is not None and results.next_seed is not None:
            self.seed_generator.state.assign(results.next_seed)
        if results.effects.metrics:
            self._update_metrics(results.effects.metrics)

    def _mode(
        self, training: bool, intermediates: Intermediates | None = None
    ) -> Mode:
        kernels, keys = self._choose_kernels()
        return Mode(
            training=bool(training),
            streams=self._streams.active(bool(training)),
            advances=self._streams.advances(bool(training)),
            keys=keys,
            kernels=kernels,
            guards_state=self.nonfinite_state == "keep",
            kept_state=self._rules.kept_state,
            intermediates=intermediates,
        )

    def _apply(
        self,
        mode: Mode,
        params: list[jax.Array],
        state: list[jax.Array],
        seed_state: jax.Array | None,
        inputs: Any,
    ) -> _Results:
        """The layer as a pure function of arrays; `jax.jit` compiles this."""
        result, next_seed = self._run(
            mode,
            self._params.unflatten(params),
            self._state.unflatten(state),
            seed_state,
            inputs,
        )
        if mode.intermediates is not None:
            # A look at the model: it leaves no trace.
            return _Results(
                outputs=result.outputs,
                state=[],
                next_seed=None,
                effects=Effects([], {}),
                intermediates=result.intermediates,
            )
        return _Results(
            outputs=result.outputs,
            state=self._changed(mode, state, self._state_leaves(result.state)),
            next_seed=next_seed if mode.advances else None,
            effects=result.effects,
            intermediates=None,
        )

    def _changed(
        self,
        mode: Mode,
        state: Sequence[jax.Array],
        new_state: Sequence[jax.Array],
    ) -> list[jax.Array | None]:
        """What becomes of the state; `None` for what stays as it was."""
        changed = [
            i
            for i, (old, new) in enumerate(zip(state, new_state, strict=True))
            if new is not old and i not in mode.kept_state
        ]
        merged = state_merge.merge(
            [state[i] for i in changed],
            [new_state[i] for i in changed],
            kernel=mode.kernels.state_merge,
            guard=mode.guards_state,
        )
        result: list[jax.Array | None] = [None] * len(state)
        for i, value in zip(changed, merged, strict=True):
            result[i] = value
        return result

    def _apply_either(
        self, training: jax.Array, mode: Mode, *arrays: Any
    ) -> _Results:
        """`_apply` for a traced `training`; `mode` is that of training."""

        def branch(mode: Mode, *arrays: Any) -> _Results:
            _, state, seed_state, _ = arrays
            results = self._apply(mode, *arrays)
            # Both branches have to return all of it.
            full_state = [
                old if new is None else new
                for old, new in zip(state, results.state, strict=True)
            ]
            if results.next_seed is not None:
                seed_state = results.next_seed
            return results._replace(state=full_state, next_seed=seed_state)

        return jax.lax.cond(
            training,
            functools.partial(branch, mode),
            functools.partial(
                branch, self._mode(False)._replace(keys=mode.keys)
            ),
            *arrays,
        )

    def _run(
        self,
        mode: Mode,
        params: Any,
        state: Any,
        seed_state: jax.Array | None,
        inputs: Any,
    ) -> tuple[ModelResult, jax.Array | None]:
        """Draws the keys and calls the model on pytrees."""
        keys, next_seed = self._streams.draw(
            seed_state,
            mode.streams,
            key_impl=mode.keys.impl,
            kernel=mode.kernels.rng_fold,
        )
        keys = {name: mode.keys.given(key) for name, key in keys.items()}
        result = self._call_model(
            params, state, self._rng_argument(keys), inputs, mode
        )
        check_outputs(result.outputs, self._described)
        return mode.keys.returned(result), next_seed

    def _state_leaves(self, new_state: Any) -> list[jax.Array]:
        try:
            return self._state.flatten(new_state)
        except variable_tree.StructureMismatch as error:
            raise ValueError(
                f"{self._described}: the state that the model returned does "
                f"not have the structure of the state it was given: {error}."
            ) from error

    def _explain(self, error: Exception, inputs: Any) -> None:
        """Raises a clearer error than the one the model raised, if there is."""
        received, built = self._as_specs(inputs), self._inputs.built
        named = str(error).startswith(self._described)
        if built is not None and received is not None:
            fits = input_specs.same_ranks(received, built, dtypes=True)
            # Many models take inputs of any size, and fail for other reasons.
            if fits and type(error) in (TypeError, ValueError) and not named:
                fits = input_specs.same_sizes(received, built)
            if not fits:
                problem = str(error).removeprefix(f"{self._described}: ")
                raise ValueError(
                    f"{self._described} was built for inputs "
                    f"{input_specs.described(built)} and failed on "
                    f"{input_specs.described(received)}: {problem}"
                ) from error
        if isinstance(error, jax.errors.JAXTypeError):
            # Keras makes exceptions anew from their message alone, which fails
            # for JAX's and would hide this one.
            raise TypeError(f"{self._described}: {error}") from error
        if built is None:
            self._name_in(error, received)

    def rematerialized_call(
        self, layer_call: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Callable[..., Any]:
        """What Keras calls in a `keras.RematScope`.

        Only the model itself is rematerialised. Drawing keys and assigning
        the state stay outside, and `training` stays a Python value.

        Args:
            layer_call: this layer's `call`.
            *args: the call's arguments, by which Keras decides.
            **kwargs: its keyword arguments.
        """
        wrapped = super().rematerialized_call(layer_call, *args, **kwargs)
        if wrapped is layer_call:  # Keras decided against it.
            return layer_call

        def call(*args: Any, training: bool = False, **kwargs: Any) -> Any:
            inputs = self._packed(args, kwargs)
            return self._forward(inputs, training=training, remat=True)

        return call

    # Shapes without values.

    def compute_output_spec(
        self, *args: Any, training: bool = False, **kwargs: Any
    ) -> Any:
        """Shapes and dtypes of the outputs, as `keras.KerasTensor`s.

        Args:
            *args: `keras.KerasTensor`s, or structures of them, for the arrays
                that `call` takes; dimensions may be unknown.
            training: whether for training mode.
            **kwargs: the same, by name.
        """
        known = self._inputs.known
        if known is not None:
            args, kwargs = integer_inputs.described(args, kwargs, known)
        specs = self._as_specs(self._packed(args, kwargs))
        return self._output_specs(specs, training)

    def _output_specs(self, specs: Any, training: bool) -> Any:
        if self._inputs.declared is not None:
            specs = input_specs.refined(specs, self._inputs.declared)
        mode = self._mode(training)
        try:
            return self._with_usable_keys(
                lambda keys: input_specs.output_specs(
                    functools.partial(
                        self._abstract_outputs, mode._replace(keys=keys)
                    ),
                    specs,
                ),
                mode.keys,
            )
        except Exception as error:
            self._explain(error, specs)
            raise

    def _abstract_outputs(self, mode: Mode, inputs: Any) -> Any:
        """The outputs on weights of the right shapes; for tracing only."""
        zeros = functools.partial(jax.tree_util.tree_map, _zeros)
        seed_state = zeros(_SEED_STATE) if mode.streams else None
        if self.built or self._given or not self._initializes:
            params, state = (
                zeros(tree.specs(self.compute_dtype if self.autocast else None))
                for tree in (self._params, self._state)
            )
            return self._apply(mode, params, state, seed_state, inputs).outputs
        keys = zeros(self._init_key_specs(mode.keys))
        params, state = self._partition(
            self._initialized(mode.keys, keys, inputs)
        )
        if self.autocast:
            params = _cast_default(params, self.compute_dtype)
        return self._run(mode, params, state, seed_state, inputs)[0].outputs

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape of the outputs for a first input of this shape.

        Args:
            input_shape: a shape, or a structure of shapes, with `None` for
                what is not known.

        Raises:
            TypeError: `input_shape` is no structure of shapes.
        """
        known = self._inputs.declared
        if known is None:
            known = self._inputs.built
        input_specs.check_shapes(input_shape, self._described)
        first = input_specs.of_shapes(
            input_shape, self.input_dtype, first_input(known)
        )
        # The other inputs have the size of this batch.
        batch = jax.tree_util.tree_leaves(first)[0].shape[:1]
        specs = with_first_input(input_specs.batched(known, batch), first)
        return input_specs.shapes(self._output_specs(specs, training=False))

    def __repr__(self) -> str:
        return short_repr.of_layer(self, *self._shown)

    # Saving.

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments as JSON-compatible values.

        Raises:
            TypeError: the model holds something that cannot be saved by name
                or by value; the message says what, where, and what to do.
        """
        config = super().get_config()
        config.update(self._model_config())
        config["seed"] = rng_streams.seed_to_config(self._seed)
        config["kernels"] = self.kernels
        config["nonfinite_state"] = self.nonfinite_state
        config.update(self._rules.to_config(self._described))
        if self._inputs.declared is not None:
            config["inputs_spec"] = input_specs.to_config(
                self._inputs.declared, self._described
            )
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "ModelLayer":
        """Makes a layer from what `get_config` returned.

        Names in it are resolved only in modules that are imported already, and
        only to what a model may hold; see `docs/guide/saving.md`.

        Args:
            config: what `get_config` returned.

        Raises:
            TypeError: it is no dict.
            ValueError: a name cannot be resolved, or may not be; and all that
                the constructor raises.
        """
        if not isinstance(config, dict):
            raise TypeError(
                f"{cls.__name__}.from_config takes the dict that `get_config` "
                f"returned. Received: {config!r:.200} (of type "
                f"{type(config).__name__})."
            )
        config = dict(config)
        where = f"{cls.__name__} {config.get('name')!r}"
        # Of no meaning on this backend; Keras's own layer writes it.
        config.pop("native_serialization_platforms", None)
        cls._decode_model(config, where)
        config["seed"] = rng_streams.seed_from_config(
            config.get("seed"), layer=where
        )
        if config.get("inputs_spec") is not None:
            config["inputs_spec"] = input_specs.from_config(
                config["inputs_spec"], where
            )
        freezing = weight_rules.freezing_from_config(
            config.pop("freezing", ()), layer=where
        )
        try:
            layer = super().from_config(config)
        except TypeError as error:
            # Keras shows the whole config with any error of the constructor.
            raise error.__context__ or error from None
        for pattern, frozen in freezing:
            layer._set_freezing(pattern, frozen=frozen, argument="freezing")
        return layer


def _zeros(spec: jax.ShapeDtypeStruct) -> jax.Array:
    return jnp.zeros(spec.shape, spec.dtype)


def _cast_default(tree: Any, dtype: str) -> Any:
    def cast(leaf: Any) -> Any:
        if isinstance(leaf, jax.Array) and variable_tree.is_default(leaf):
            return leaf.astype(dtype)
        return leaf

    return jax.tree_util.tree_map(cast, tree)
