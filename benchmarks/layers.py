"""What a layer costs: beside Keras's own, and beside no layer at all.

Three subjects do the same work: `flaxlayer.FlaxLayer` and
`keras.layers.FlaxLayer` inside a `keras.Sequential`, and a training loop
written by hand with Flax and optax, jitted, with donated buffers. All train
with Adam at its default settings on the mean cross entropy.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import keras
import numpy as np
import optax

import flaxlayer
from benchmarks import interleave, models, peer

OURS, PEER, HAND = "flaxlayer", "keras", "hand-written"

BUILD = "build"
FIRST_STEP = "first step"
FIT_STEP = "fit step"
TRAIN_ON_BATCH = "train_on_batch"
OWN_LOOP = "own loop step"
CALL = "eager call"
CALL_ONE = "eager call of one"

MEASURES = {
    BUILD: "making the layer or the variables, with their values; no cache "
    "filled",
    FIRST_STEP: "the first training step: traced, lowered, compiled, run; no "
    "cache filled",
    FIT_STEP: "one epoch of `fit`, divided by its steps; by hand, as many "
    "steps of the loop",
    TRAIN_ON_BATCH: "one step that returns the loss as a Python number",
    OWN_LOOP: "a step of the hand-written loop that calls the layer by "
    "`stateless_call`; by hand, one that calls the module",
    CALL: "`layer(x)` outside of `jax.jit`, in inference; by hand, a jitted "
    "`module.apply`",
    CALL_ONE: "the same for a batch of one, which leaves the model little to "
    "compute",
}

# Measure, whose time is divided by whose, and what the ratio has to be.
FLOORS: tuple[tuple[str, str, str, str, float], ...] = (
    (CALL, PEER, OURS, ">=", 15.0),
    (CALL_ONE, PEER, OURS, ">=", 15.0),
    (FIT_STEP, OURS, HAND, "<=", 1.03),
    (BUILD, PEER, OURS, ">=", 1.0),
)

Timer = Callable[[], float]

# Steps and calls are timed several at a time: the first after another
# subject's finds the caches filled with that one's weights, which is not what
# a program that calls one model sees.
_BURST = 5


class _Hand:
    """A training loop of Flax and optax, and nothing else."""

    def __init__(
        self, workload: models.Workload, steps: int, timer: Timer
    ) -> None:
        self._module = workload.module
        self._timer = timer
        x, y = workload.data(steps)
        self._batches = list(
            zip(np.split(x, steps), np.split(y, steps), strict=True)
        )
        self._device_x = jax.device_put(self._batches[0][0])
        self._one = self._device_x[:1]
        self._state: Any = None

    def cold(self) -> Mapping[str, float]:
        jax.clear_caches()
        x, y = self._batches[0]

        def build() -> None:
            # Under jax.jit this takes longer: it compiles for minutes.
            self._variables = self._module.init(jax.random.PRNGKey(0), x[:1])
            jax.block_until_ready(self._variables)

        def first() -> None:
            self._step, self._state = self._loop(dict(self._variables))
            self._run(x, y)

        return {
            BUILD: interleave.clock(build, timer=self._timer),
            FIRST_STEP: interleave.clock(first, timer=self._timer),
        }

    def _loop(self, variables: dict[str, Any]) -> tuple[Any, Any]:
        def apply(params: Any, state: Any, key: Any, x: Any) -> Any:
            return self._module.apply(
                {"params": params, **state},
                x,
                training=True,
                rngs={"dropout": key},
                mutable=list(state),
            )

        params = jax.tree.map(lambda a: a.copy(), variables.pop("params"))
        state = jax.tree.map(lambda a: a.copy(), variables)
        return _training_loop(apply, params, state)

    def _run(self, x: Any, y: Any) -> float:
        self._state, loss = self._step(self._state, x, y)
        return float(loss)

    def _epoch(self) -> None:
        state = self._state
        for x, y in self._batches:
            state, loss = self._step(state, x, y)
        self._state = state
        loss.block_until_ready()

    def warm(self) -> dict[str, interleave.Variant]:
        apply = jax.jit(self._module.apply)

        def call(x: Any) -> None:
            apply(self._variables, x).block_until_ready()

        def step() -> None:
            self._state, loss = self._step(self._state, *self._batches[0])
            loss.block_until_ready()

        time_of = _Clock(self._timer)
        return {
            FIT_STEP: time_of(FIT_STEP, self._epoch, len(self._batches)),
            TRAIN_ON_BATCH: time_of.burst(
                TRAIN_ON_BATCH, lambda: self._run(*self._batches[0])
            ),
            OWN_LOOP: time_of.burst(OWN_LOOP, step),
            CALL: time_of.burst(CALL, lambda: call(self._device_x)),
            CALL_ONE: time_of.burst(CALL_ONE, lambda: call(self._one)),
        }


class _InKeras:
    """A layer around the module, in a Keras model."""

    def __init__(
        self,
        make_layer: Callable[..., keras.layers.Layer],
        workload: models.Workload,
        steps: int,
        timer: Timer,
    ) -> None:
        self._make_layer = make_layer
        self._workload = workload
        self._timer = timer
        self._steps = steps
        self._data = workload.data(steps)
        self._first = tuple(a[: workload.batch] for a in self._data)
        self._device_x = jax.device_put(self._first[0])
        self._one = self._device_x[:1]

    def cold(self) -> Mapping[str, float]:
        jax.clear_caches()

        def build() -> None:
            self._model = self._new_model()

        def first() -> None:
            self._model.compile(
                "adam",
                keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            )
            self._model.train_on_batch(*self._first)

        return {
            BUILD: interleave.clock(build, timer=self._timer),
            FIRST_STEP: interleave.clock(first, timer=self._timer),
        }

    def _new_model(self) -> keras.Model:
        model = keras.Sequential(
            [
                keras.Input(self._workload.shape),
                self._make_layer(self._workload.module),
            ]
        )
        jax.block_until_ready([v.value for v in model.variables])
        return model

    def _fit(self) -> None:
        self._model.fit(
            *self._data,
            batch_size=self._workload.batch,
            shuffle=False,
            verbose=0,
        )

    def warm(self) -> dict[str, interleave.Variant]:
        layer = self._model.layers[-1]

        def call(x: Any) -> None:
            layer(x).block_until_ready()

        own = _OwnLoop(self._new_model().layers[-1], self._first)
        time_of = _Clock(self._timer)
        return {
            FIT_STEP: time_of(FIT_STEP, self._fit, self._steps),
            TRAIN_ON_BATCH: time_of.burst(
                TRAIN_ON_BATCH,
                lambda: self._model.train_on_batch(*self._first),
            ),
            OWN_LOOP: time_of.burst(OWN_LOOP, own.step),
            CALL: time_of.burst(CALL, lambda: call(self._device_x)),
            CALL_ONE: time_of.burst(CALL_ONE, lambda: call(self._one)),
        }


class _OwnLoop:
    """The hand-written loop around a layer."""

    def __init__(self, layer: keras.layers.Layer, batch: tuple[Any, ...]):
        def apply(params: Any, state: Any, key: Any, x: Any) -> Any:
            del key  # The layer has a seed of its own, in the state.
            return layer.stateless_call(params, state, x, training=True)

        params, state = (
            [jax.numpy.array(v.value, copy=True) for v in variables]
            for variables in (
                layer.trainable_variables,
                layer.non_trainable_variables,
            )
        )
        self._step, self._state = _training_loop(apply, params, state)
        self._batch = batch

    def step(self) -> None:
        self._state, loss = self._step(self._state, *self._batch)
        loss.block_until_ready()


def _training_loop(apply: Any, params: Any, state: Any) -> tuple[Any, Any]:
    """A step function with donated buffers, and what it starts from."""
    optimizer = optax.adam(1e-3)

    def step(carried: Any, x: Any, y: Any) -> Any:
        params, state, moments, key = carried
        key, call_key = jax.random.split(key)

        def loss_fn(params: Any) -> Any:
            logits, new_state = apply(params, state, call_key, x)
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, y)
            return losses.mean(), new_state

        (loss, state), gradients = jax.value_and_grad(loss_fn, has_aux=True)(
            params
        )
        updates, moments = optimizer.update(gradients, moments, params)
        params = optax.apply_updates(params, updates)
        return (params, state, moments, key), loss

    carried = (params, state, optimizer.init(params), jax.random.PRNGKey(1))
    return jax.jit(step, donate_argnums=0), carried


class _Clock:
    """Makes variants that time one measure each."""

    def __init__(self, timer: Timer):
        self._timer = timer

    def __call__(
        self, measure: str, fn: Callable[[], Any], steps: int = 1
    ) -> interleave.Variant:
        return lambda: {
            measure: interleave.clock(fn, timer=self._timer) / steps
        }

    def burst(self, measure: str, fn: Callable[[], Any]) -> interleave.Variant:
        def several() -> None:
            for _ in range(_BURST):
                fn()

        return self(measure, several, _BURST)


def run(
    workload: models.Workload,
    *,
    cold_rounds: int,
    rounds: int,
    fit_rounds: int,
    steps: int,
    timer: Timer = time.perf_counter,
    progress: Callable[[str], None] = lambda _: None,
) -> interleave.Times:
    """Takes all measures of one workload.

    Args:
        workload: the model.
        cold_rounds: how often a layer is built and takes its first step.
        rounds: how often single steps and calls are timed.
        fit_rounds: how often an epoch of `fit` is.
        steps: how many an epoch has.
        timer: `time.process_time` counts the processor's time instead.
        progress: is told what is measured now.
    """
    subjects: dict[str, _InKeras | _Hand] = {
        OURS: _InKeras(flaxlayer.FlaxLayer, workload, steps, timer)
    }
    if peer.unavailable_reason() is None:
        subjects[PEER] = _InKeras(peer.flax_layer, workload, steps, timer)
    subjects[HAND] = _Hand(workload, steps, timer)

    progress(f"{BUILD}, {FIRST_STEP}")
    times = interleave.measure(
        {name: subject.cold for name, subject in subjects.items()},
        rounds=cold_rounds,
    )
    warm = {name: subject.warm() for name, subject in subjects.items()}
    for measure in (FIT_STEP, TRAIN_ON_BATCH, OWN_LOOP, CALL, CALL_ONE):
        progress(measure)
        times |= interleave.measure(
            {name: variants[measure] for name, variants in warm.items()},
            rounds=fit_rounds if measure == FIT_STEP else rounds,
            warmup=2,
        )
    return times
