"""The training loop that is measured: around a module, or around a layer.

It is the one a user of plain JAX would write: a jitted step with donated
buffers, Adam at its default settings, the mean cross entropy. Around a layer
it calls `stateless_call`, and is otherwise the same.
"""

import dataclasses
import functools
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.extend.random
import jax.numpy as jnp
import keras
import numpy as np
import optax

import flaxlayer
from benchmarks import interleave, models, peer

OURS, REFERENCE, FREE = "flaxlayer", "reference", "free bits"
PEER, HAND = "keras", "hand-written"

# `apply(params, state, key, x)` returns the logits and the new state.
Apply = Callable[[Any, Any, Any, Any], tuple[Any, Any]]


def layer_makers() -> dict[str, Callable[..., keras.layers.Layer]]:
    """The layers that are measured; Keras's own only where it can be."""
    makers: dict[str, Callable[..., keras.layers.Layer]] = {
        OURS: flaxlayer.FlaxLayer
    }
    if peer.unavailable_reason() is None:
        makers[PEER] = peer.flax_layer
    return makers


def built(
    make_layer: Callable[..., keras.layers.Layer], workload: models.Workload
) -> keras.layers.Layer:
    """A layer around the workload's module, with weights."""
    layer = make_layer(workload.module)
    layer.build((None, *workload.shape))
    return layer


@dataclasses.dataclass(frozen=True)
class Keys:
    """Where the keys of a loop's steps come from.

    Attributes:
        start: what the loop carries from step to step, as plain arrays: typed
            keys that go in and out of a compiled function make calling it
            slower, in every loop that has them.
        draw: makes of it what the next step carries, and the key of this one.
    """

    start: Any
    draw: Callable[[Any], tuple[Any, Any]]

    @classmethod
    def split(cls, impl: Hashable = "threefry2x32") -> "Keys":
        """A key that each step splits in two, of some implementation."""

        def draw(words: jax.Array) -> tuple[jax.Array, jax.Array]:
            key = jax.random.wrap_key_data(words, impl=impl)
            key, call_key = jax.random.split(key)
            return jax.random.key_data(key), call_key

        key = jax.random.key(1, impl=impl)
        return cls(jax.random.key_data(key), draw)

    @classmethod
    def counting(cls, words: jax.Array) -> "Keys":
        """The keys a layer uses: its seed and a counter, as they are."""
        return cls(
            jnp.array(words), lambda words: (words + jnp.uint32([0, 1]), words)
        )

    @classmethod
    def none(cls) -> "Keys":
        """For a loop around a layer, whose state has a seed of its own."""
        return cls(None, lambda carried: (carried, None))


class Loop:
    """A jitted training step and what it carries from step to step.

    Args:
        apply: the model.
        params: the parameters it starts from; they are copied.
        state: all that the model changes, likewise.
        keys: where the keys of the steps come from.
    """

    def __init__(self, apply: Apply, params: Any, state: Any, keys: Keys):
        optimizer = optax.adam(1e-3)

        def step(carried: Any, x: Any, y: Any) -> Any:
            params, state, moments, random = carried
            random, key = keys.draw(random)

            def loss_fn(params: Any) -> Any:
                logits, new_state = apply(params, state, key, x)
                losses = optax.softmax_cross_entropy_with_integer_labels(
                    logits, y
                )
                return losses.mean(), new_state

            (loss, state), gradients = jax.value_and_grad(
                loss_fn, has_aux=True
            )(params)
            updates, moments = optimizer.update(gradients, moments, params)
            params = optax.apply_updates(params, updates)
            return (params, state, moments, random), loss

        # Donated buffers must not be those of a layer or of another loop.
        params, state, random = jax.tree.map(
            lambda array: jnp.array(array, copy=True),
            (params, state, keys.start),
        )
        self._carried = (params, state, optimizer.init(params), random)
        self._jitted = jax.jit(step, donate_argnums=0)
        self._step: Callable[..., Any] = self._jitted

    @classmethod
    def of_module(cls, module: nn.Module, variables: Any, keys: Keys) -> "Loop":
        """A loop written by hand, around `module.apply`."""

        def apply(params: Any, state: Any, key: Any, x: Any) -> Any:
            return module.apply(
                {"params": params, **state},
                x,
                training=True,
                rngs={"dropout": key},
                mutable=list(state),
            )

        state = {k: v for k, v in variables.items() if k != "params"}
        return cls(apply, variables["params"], state, keys)

    @classmethod
    def of_layer(cls, layer: keras.layers.Layer) -> "Loop":
        """The same loop around a layer that is built."""

        def apply(params: Any, state: Any, key: Any, x: Any) -> Any:
            del key  # The layer has a seed of its own, in the state.
            return layer.stateless_call(params, state, x, training=True)

        params, state = (
            [variable.value for variable in variables]
            for variables in (
                layer.trainable_variables,
                layer.non_trainable_variables,
            )
        )
        return cls(apply, params, state, Keys.none())

    def compile(self, x: Any, y: Any) -> None:
        """Traces, lowers and compiles the step, which then stays compiled.

        `jax.clear_caches` does not take it away, as it does what calls
        compile.
        """
        self._step = self._jitted.lower(self._carried, x, y).compile()

    def step(self, x: Any, y: Any) -> jax.Array:
        """Takes a step; returns its loss, for which it does not wait."""
        self._carried, loss = self._step(self._carried, x, y)
        return loss

    def wait_for_step(self, x: Any, y: Any) -> None:
        """Takes a step and waits until it is done."""
        self.step(x, y).block_until_ready()

    def losses(self, x: Any, y: Any, steps: int) -> np.ndarray:
        """The losses of so many steps on one batch."""
        return np.array([self.step(x, y) for _ in range(steps)])


def unlike_ours(
    loops: Mapping[str, Loop], batch: Sequence[Any], steps: int
) -> dict[str, list[int]]:
    """How many losses are not those of our layer to the last bit.

    Args:
        loops: by name, of which `OURS` is one; that of `FREE` is left out.
        batch: inputs and labels.
        steps: how many each of them takes.
    """
    losses = {
        name: loop.losses(*batch, steps)
        for name, loop in loops.items()
        if name != FREE
    }
    ours = losses.pop(OURS)
    return {name: [int((of != ours).sum())] for name, of in losses.items()}


def step_times(
    loops: Mapping[str, Any],
    batch: Sequence[Any],
    *,
    rounds: int,
    burst: float,
) -> dict[str, list[float]]:
    """The seconds of a step of each loop, which are compiled.

    Args:
        loops: by name; each has `wait_for_step`.
        batch: inputs and labels.
        rounds: how often steps are timed.
        burst: for how many seconds, at least, each time.
    """
    steps = {
        name: functools.partial(loop.wait_for_step, *batch)
        for name, loop in loops.items()
    }
    calls = interleave.calls_within(burst, steps)
    variants = interleave.bursts("step", steps, calls)
    return interleave.measure(variants, rounds=rounds, warmup=1)["step"]


@functools.cache
def free_bits() -> Hashable:
    """A PRNG implementation whose random bits cost nothing.

    All bits under one key are one word, made of the key, and XLA computes that
    where it is used. Training with it is worth nothing; it shows how fast a
    step would be with the fastest random numbers there can be.
    """

    def fold_in(key: jax.Array, data: Any) -> jax.Array:
        return key + jnp.asarray(data, np.uint32)

    def split(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return jnp.broadcast_to(key, (*shape, *key.shape))

    def random_bits(
        key: jax.Array, bit_width: int, shape: tuple[int, ...]
    ) -> jax.Array:
        return jnp.broadcast_to(key[0].astype(f"uint{bit_width}"), shape)

    return jax.extend.random.define_prng_impl(
        key_shape=(1,),
        seed=lambda seed: jnp.asarray(seed, np.uint32).reshape(1),
        split=split,
        random_bits=random_bits,
        fold_in=fold_in,
        name="free_bits",
        tag="free",
    )


def variables_of(layer: flaxlayer.FlaxLayer) -> dict[str, Any]:
    """Its module's variables, as the module takes them."""
    return jax.tree.map(
        lambda variable: variable.value, {**layer.params, **layer.state}
    )
