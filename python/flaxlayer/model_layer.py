"""ModelLayer: calling a pure model from Keras."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from flaxlayer import (
    input_specs,
    jax_compat,
    key_form,
    rng_streams,
    variable_tree,
)
from flaxlayer.ops import dispatch, state_merge
from flaxlayer.weighted_layer import WeightedLayer

NonfiniteState = Literal["propagate", "keep"]

_SEED_STATE = jax.ShapeDtypeStruct((2,), np.uint32)


class _Mode(NamedTuple):
    """What a call is compiled for; all of it is static under `jax.jit`."""

    training: bool
    streams: tuple[str, ...]
    advances: bool
    keys: key_form.KeyForm
    kernels: dispatch.Kernels
    guards_state: bool


class ModelLayer(WeightedLayer):
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

    # What the model is, for subclasses to say.

    def _call_model(
        self, params: Any, state: Any, rng: Any, inputs: Any, training: bool
    ) -> tuple[Any, Any]:
        """Calls the model; returns its outputs and its new state."""
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
            ValueError: the state it returns has another structure, or other
                shapes, than the one it got; or the inputs have another
                structure, rank or dtype than the layer was built with and the
                model failed on them.
        """
        return self._forward(inputs, training=training, remat=False)

    def _forward(self, inputs: Any, *, training: bool, remat: bool) -> Any:
        undecided = isinstance(training, jax.core.Tracer)
        mode = self._mode(True if undecided else training)
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
        if undecided:
            apply = functools.partial(self._apply_either, training)
        if remat:
            apply = jax.checkpoint(apply, static_argnums=0)
        try:
            outputs, new_state, next_seed = self._with_usable_keys(
                lambda keys: apply(mode._replace(keys=keys), *arrays), mode.keys
            )
        except Exception as error:
            self._explain(error, inputs)
            raise
        for variable, value in zip(
            self._state.variables, new_state, strict=True
        ):
            if value is not None:
                variable.assign(value)
        if generator is not None and next_seed is not None:
            generator.state.assign(next_seed)
        return outputs

    def _mode(self, training: bool) -> _Mode:
        kernels, keys = self._choose_kernels()
        return _Mode(
            training=bool(training),
            streams=self._streams.active(bool(training)),
            advances=self._streams.advances(bool(training)),
            keys=keys,
            kernels=kernels,
            guards_state=self.nonfinite_state == "keep",
        )

    def _apply(
        self,
        mode: _Mode,
        params: list[jax.Array],
        state: list[jax.Array],
        seed_state: jax.Array | None,
        inputs: Any,
    ) -> tuple[Any, list[jax.Array | None], jax.Array | None]:
        """The layer as a pure function of arrays; `jax.jit` compiles this.

        Of the new state and the next seed, what stays as it was is `None`: it
        need not be computed, copied or assigned.
        """
        outputs, new_state, next_seed = self._run(
            mode,
            self._params.unflatten(params),
            self._state.unflatten(state),
            seed_state,
            inputs,
        )
        changed = self._changed(mode, state, self._state_leaves(new_state))
        return outputs, changed, next_seed if mode.advances else None

    def _changed(
        self,
        mode: _Mode,
        state: Sequence[jax.Array],
        new_state: Sequence[jax.Array],
    ) -> list[jax.Array | None]:
        """What becomes of the state; `None` for what the model left alone."""
        changed = [
            i
            for i, (old, new) in enumerate(zip(state, new_state, strict=True))
            if new is not old
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
        self, training: jax.Array, mode: _Mode, *arrays: Any
    ) -> tuple[Any, list[jax.Array], jax.Array | None]:
        """`_apply` for a traced `training`; `mode` is that of training."""

        def branch(mode: _Mode, *arrays: Any) -> Any:
            _, state, seed_state, _ = arrays
            outputs, new_state, next_seed = self._apply(mode, *arrays)
            # Both branches have to return all of it.
            full_state = [
                old if new is None else new
                for old, new in zip(state, new_state, strict=True)
            ]
            seed_state = seed_state if next_seed is None else next_seed
            return outputs, full_state, seed_state

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
        mode: _Mode,
        params: Any,
        state: Any,
        seed_state: jax.Array | None,
        inputs: Any,
    ) -> tuple[Any, Any, jax.Array | None]:
        """Draws the keys and calls the model on pytrees."""
        keys, next_seed = self._streams.draw(
            seed_state,
            mode.streams,
            key_impl=mode.keys.impl,
            kernel=mode.kernels.rng_fold,
        )
        keys = {name: mode.keys.given(key) for name, key in keys.items()}
        result = self._call_model(
            params, state, self._rng_argument(keys), inputs, mode.training
        )
        outputs, new_state = mode.keys.returned(result)
        return outputs, new_state, next_seed

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
        if (
            built is not None
            and received is not None
            and not input_specs.same_ranks(received, built, dtypes=True)
        ):
            raise ValueError(
                f"{self._described} was built for inputs "
                f"{input_specs.described(built)} and failed on "
                f"{input_specs.described(received)}: {error}"
            ) from error
        if isinstance(error, jax.errors.JAXTypeError):
            # Keras makes exceptions anew from their message alone, which fails
            # for JAX's and would hide this one.
            raise TypeError(f"{self._described}: {error}") from error

    def rematerialized_call(
        self, layer_call: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Callable[..., Any]:
        """What Keras calls in a `keras.RematScope`.

        Only the model itself is rematerialised. Drawing keys and assigning
        the state stay outside, and `training` stays a Python value.
        """
        wrapped = super().rematerialized_call(layer_call, *args, **kwargs)
        if wrapped is layer_call:  # Keras decided against it.
            return layer_call

        def call(inputs: Any, training: bool = False) -> Any:
            return self._forward(inputs, training=training, remat=True)

        return call

    # Shapes without values.

    def compute_output_spec(self, inputs: Any, training: bool = False) -> Any:
        """Shapes and dtypes of the outputs, as `keras.KerasTensor`s.

        Args:
            inputs: a `keras.KerasTensor` or a structure of them; dimensions
                may be unknown.
            training: whether for training mode.
        """
        specs = self._as_specs(inputs)
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

    def _abstract_outputs(self, mode: _Mode, inputs: Any) -> Any:
        """The outputs on weights of the right shapes; for tracing only."""
        zeros = functools.partial(jax.tree_util.tree_map, _zeros)
        seed_state = zeros(_SEED_STATE) if mode.streams else None
        if self.built or self._given or not self._initializes:
            params, state = (
                zeros(tree.specs(self.compute_dtype if self.autocast else None))
                for tree in (self._params, self._state)
            )
            return self._apply(mode, params, state, seed_state, inputs)[0]
        keys = zeros(self._init_key_specs(mode.keys))
        params, state = self._partition(
            self._initialized(mode.keys, keys, inputs)
        )
        if self.autocast:
            params = _cast_floating(params, self.compute_dtype)
        return self._run(mode, params, state, seed_state, inputs)[0]

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape of the outputs for inputs of this shape."""
        known = self._inputs.declared or self._inputs.built
        specs = input_specs.of_shapes(input_shape, self.input_dtype, known)
        return input_specs.shapes(self.compute_output_spec(specs))

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
        if self._inputs.declared is not None:
            config["inputs_spec"] = input_specs.to_config(self._inputs.declared)
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "ModelLayer":
        """Makes a layer from what `get_config` returned.

        Names in it are resolved only in modules that are imported already, and
        only to what a model may hold; see `docs/saving.md`.

        Raises:
            ValueError: a name cannot be resolved, or may not be.
        """
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
        return super().from_config(config)


def _zeros(spec: jax.ShapeDtypeStruct) -> jax.Array:
    return jnp.zeros(spec.shape, spec.dtype)


def _cast_floating(tree: Any, dtype: str) -> Any:
    def cast(leaf: Any) -> Any:
        floating = isinstance(leaf, jax.Array) and jnp.issubdtype(
            leaf.dtype, jnp.floating
        )
        return leaf.astype(dtype) if floating else leaf

    return jax.tree_util.tree_map(cast, tree)
