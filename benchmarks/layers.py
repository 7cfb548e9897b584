"""What a layer costs: beside Keras's own, and beside no layer at all.

Three subjects do the same work: `flaxlayer.FlaxLayer` and
`keras.layers.FlaxLayer` inside a `keras.Sequential`, and a training loop
written by hand with Flax and optax, jitted, with donated buffers. All train
with Adam at its default settings on the mean cross entropy.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import keras
import numpy as np

from benchmarks import interleave, loops, models
from benchmarks.loops import HAND, OURS, PEER
from benchmarks.report import Floor, Section

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

MODELS = (models.TRANSFORMER, models.RESNET)

FLOORS = tuple(
    Floor(model, *rest)
    for model in MODELS
    for rest in (
        # Not beside Keras's layer: most of it is the model, for both.
        (CALL, OURS, HAND, "<=", 1.05, 1.0),
        (CALL_ONE, PEER, OURS, ">=", 15.0),
        (CALL_ONE, OURS, HAND, "<=", 1.15),
        (FIT_STEP, OURS, HAND, "<=", 1.03),
        (BUILD, PEER, OURS, ">=", 1.0),
    )
)

# How many steps or calls are timed together.
_BURST = 5


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is measured how often.

    Attributes:
        models: some of `MODELS`.
        cold_rounds: how often a layer is built and takes its first step.
        rounds: how often single steps and calls are timed.
        fit_rounds: how often an epoch of `fit` is.
        steps: how many an epoch has.
        clock: which one; `"processor"` counts the time of all threads of this
            process, and not what other processes take.
        blocks: makes the models so many blocks long.
    """

    models: Sequence[str] = MODELS
    cold_rounds: int = 3
    rounds: int = 30
    fit_rounds: int = 15
    steps: int = 32
    clock: str = "wall"
    blocks: int | None = None


SMOKE = Settings(cold_rounds=1, rounds=2, fit_rounds=2, steps=2, blocks=1)

TIMERS: dict[str, interleave.Timer] = {
    "wall": time.perf_counter,
    "processor": time.process_time,
}


class Hand:
    """A training loop of Flax and optax, and nothing else."""

    def __init__(
        self,
        workload: models.Workload,
        steps: int = 1,
        timer: interleave.Timer = time.perf_counter,
    ) -> None:
        self._module = workload.module
        self._timer = timer
        x, y = workload.data(steps)
        self._batches = list(
            zip(np.split(x, steps), np.split(y, steps), strict=True)
        )
        self._device_x = jax.device_put(self._batches[0][0])

    def cold(self) -> Mapping[str, float]:
        """Makes the variables and takes the first step."""
        jax.clear_caches()

        def build() -> None:
            # Under jax.jit this takes longer: it compiles for minutes.
            self._variables = self._module.init(
                jax.random.PRNGKey(0), self._batches[0][0][:1]
            )
            jax.block_until_ready(self._variables)

        def first() -> None:
            self._loop = loops.Loop.of_module(
                self._module, self._variables, loops.Keys.split()
            )
            self._step()

        return {
            BUILD: interleave.clock(build, timer=self._timer),
            FIRST_STEP: interleave.clock(first, timer=self._timer),
        }

    def _step(self) -> float:
        return float(self._loop.step(*self._batches[0]))

    def _epoch(self) -> None:
        losses = [self._loop.step(x, y) for x, y in self._batches]
        losses[-1].block_until_ready()

    def warm(self) -> dict[str, Callable[[], Any]]:
        """What is timed when all is compiled."""
        apply = jax.jit(self._module.apply)
        one = self._device_x[:1]
        return {
            FIT_STEP: self._epoch,
            TRAIN_ON_BATCH: self._step,
            OWN_LOOP: lambda: self._loop.wait_for_step(*self._batches[0]),
            CALL: lambda: apply(
                self._variables, self._device_x
            ).block_until_ready(),
            CALL_ONE: lambda: apply(self._variables, one).block_until_ready(),
        }


class InKeras:
    """A layer around the module, in a Keras model."""

    def __init__(
        self,
        make_layer: Callable[..., keras.layers.Layer],
        workload: models.Workload,
        steps: int = 1,
        timer: interleave.Timer = time.perf_counter,
        steps_per_execution: int = 1,
    ) -> None:
        self._steps_per_execution = steps_per_execution
        self._make_layer = make_layer
        self._workload = workload
        self._timer = timer
        self._data = workload.data(steps)
        self._first = tuple(a[: workload.batch] for a in self._data)
        self._device_x = jax.device_put(self._first[0])

    def cold(self) -> Mapping[str, float]:
        """Builds the model and takes the first step."""
        jax.clear_caches()

        def build() -> None:
            self._model = self._new_model()

        def first() -> None:
            self._model.compile(
                "adam",
                keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                steps_per_execution=self._steps_per_execution,
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

    def warm(self) -> dict[str, Callable[[], Any]]:
        """What is timed when all is compiled."""
        layer = self._model.layers[-1]
        one = self._device_x[:1]
        loop = loops.Loop.of_layer(self._new_model().layers[-1])
        return {
            FIT_STEP: self._fit,
            TRAIN_ON_BATCH: lambda: self._model.train_on_batch(*self._first),
            OWN_LOOP: lambda: loop.wait_for_step(*self._first),
            CALL: lambda: layer(self._device_x).block_until_ready(),
            CALL_ONE: lambda: layer(one).block_until_ready(),
        }


def run(
    settings: Settings, progress: Callable[[str], None] = lambda _: None
) -> dict[str, Section]:
    """Takes all measures of the models that the settings name.

    Args:
        settings: what is measured how often.
        progress: is told what is measured now.
    """
    sections = {}
    for name in settings.models:
        workload = models.WORKLOADS[name]
        sized = models.sized(name, settings.blocks)
        times = _measured(
            sized, settings, lambda what, name=name: progress(f"{name}: {what}")
        )
        others = [v for v in times[BUILD] if v != OURS]
        sections[name] = Section(
            workload.description, times, [(other, OURS) for other in others]
        )
    return sections


def _measured(
    workload: models.Workload,
    settings: Settings,
    progress: Callable[[str], None],
) -> interleave.Times:
    timer = TIMERS[settings.clock]
    subjects: dict[str, InKeras | Hand] = {
        name: InKeras(make, workload, settings.steps, timer)
        for name, make in loops.layer_makers().items()
    }
    subjects[HAND] = Hand(workload, settings.steps, timer)

    progress(f"{BUILD}, {FIRST_STEP}")
    times = interleave.measure(
        {name: subject.cold for name, subject in subjects.items()},
        rounds=settings.cold_rounds,
    )
    warm = {name: subject.warm() for name, subject in subjects.items()}
    for measure in (FIT_STEP, TRAIN_ON_BATCH, OWN_LOOP, CALL, CALL_ONE):
        progress(measure)
        fit = measure == FIT_STEP
        variants = interleave.bursts(
            measure,
            {name: fns[measure] for name, fns in warm.items()},
            1 if fit else _BURST,
            timer=timer,
        )
        times |= interleave.measure(
            variants,
            rounds=settings.fit_rounds if fit else settings.rounds,
            warmup=2,
        )
    times[FIT_STEP] = {
        name: [epoch / settings.steps for epoch in epochs]
        for name, epochs in times[FIT_STEP].items()
    }
    return times
