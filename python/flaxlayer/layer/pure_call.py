"""A call of a layer as a pure function of arrays."""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax

from flaxlayer.calls.model_result import (
    Effects,
    Intermediates,
    ModelResult,
    check_outputs,
)
from flaxlayer.layer.layer_weights import LayerWeights
from flaxlayer.model import Model
from flaxlayer.ops import dispatch, state_merge
from flaxlayer.paths import StructureMismatch
from flaxlayer.randomness.key_form import KeyForm


class Mode(NamedTuple):
    """What a call is compiled for; all of it is static under `jax.jit`.

    Attributes:
        compute_dtype: what it casts parameters to that follow the policy;
            `None` where they come as the model takes them.
    """

    training: bool
    streams: tuple[str, ...]
    advances: bool
    keys: KeyForm
    kernels: dispatch.Kernels
    guards_state: bool
    kept_state: frozenset[int]
    intermediates: Intermediates | None
    compute_dtype: str | None


class Results(NamedTuple):
    """What a call returns.

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


Scope = Callable[[], contextlib.AbstractContextManager[Any]]

# What a call is traced within, if it has to be: most find a program that is
# compiled, and need not pay for it.
TRACED_WITHIN: contextvars.ContextVar[Scope | None] = contextvars.ContextVar(
    "traced_within", default=None
)


class PureCall:
    """Draws the keys, calls the model, and merges the state it returns.

    Args:
        model: what is called.
        weights: how its arrays are nested.
        layer: how error messages call the layer.
    """

    def __init__(self, model: Model, weights: LayerWeights, layer: str):
        self._model = model
        self._weights = weights
        self._layer = layer

    def __call__(
        self,
        mode: Mode,
        params: list[jax.Array],
        state: list[jax.Array],
        seed_state: jax.Array | None,
        inputs: Any,
    ) -> Results:
        """The call of one mode; `jax.jit` compiles this."""
        scope = TRACED_WITHIN.get()
        if scope is not None:
            TRACED_WITHIN.set(None)
            with scope():
                return self(mode, params, state, seed_state, inputs)
        if mode.compute_dtype is not None:
            params = self._weights.params.cast(params, mode.compute_dtype)
            # A compiler may leave out a cast there and back again, and so
            # round otherwise than who is given parameters that are cast.
            params = jax.lax.optimization_barrier(params)
        result, next_seed = self.run(
            mode,
            self._weights.params.unflatten(params),
            self._weights.state.unflatten(state),
            seed_state,
            inputs,
        )
        if mode.intermediates is not None:
            # A look at the model: it leaves no trace.
            return Results(
                outputs=result.outputs,
                state=[],
                next_seed=None,
                effects=Effects([], {}),
                intermediates=result.intermediates,
            )
        return Results(
            outputs=result.outputs,
            state=_changed(mode, state, self._state_leaves(result.state)),
            next_seed=next_seed if mode.advances else None,
            effects=result.effects,
            intermediates=None,
        )

    def either(
        self, training: jax.Array, modes: tuple[Mode, Mode], *arrays: Any
    ) -> Results:
        """The call where the mode is only known when it runs.

        Args:
            training: a traced boolean.
            modes: that of training, and that of inference.
            *arrays: as those of a call.
        """

        def branch(mode: Mode, *arrays: Any) -> Results:
            _, state, seed_state, _ = arrays
            results = self(mode, *arrays)
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
            *(functools.partial(branch, mode) for mode in modes),
            *arrays,
        )

    def run(
        self,
        mode: Mode,
        params: Any,
        state: Any,
        seed_state: jax.Array | None,
        inputs: Any,
    ) -> tuple[ModelResult, jax.Array | None]:
        """Draws the keys and calls the model on pytrees."""
        keys, next_seed = self._model.streams.draw(
            seed_state,
            mode.streams,
            key_impl=mode.keys.impl,
            kernel=mode.kernels.rng_fold,
        )
        result = self._model.apply(
            params,
            state,
            {name: mode.keys.given(key) for name, key in keys.items()},
            inputs,
            training=mode.training,
            form=mode.keys,
            intermediates=mode.intermediates,
            layer=self._layer,
        )
        check_outputs(result.outputs, self._layer)
        return mode.keys.returned(result), next_seed

    def _state_leaves(self, new_state: Any) -> list[jax.Array]:
        try:
            return self._weights.state.flatten(new_state)
        except StructureMismatch as error:
            raise ValueError(
                f"{self._layer}: the state that the model returned does "
                f"not have the structure of the state it was given: {error}."
            ) from error


def _changed(
    mode: Mode, state: Sequence[jax.Array], new_state: Sequence[jax.Array]
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
