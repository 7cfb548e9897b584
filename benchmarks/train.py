"""What training takes: a step, the first one, building, and memory.

The step is that of `loops.Loop`, around the module by hand, around Keras's own
layer, and around ours, with native kernels and without. One more loop by hand
has random bits that cost nothing: no kernel could make a step faster than it.
"""

import dataclasses
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import keras

import flaxlayer
from benchmarks import (
    children,
    growth,
    interleave,
    layers,
    loops,
    models,
    operations,
    short_steps,
)
from benchmarks.loops import FREE, HAND, OURS, PEER, REFERENCE
from benchmarks.report import Floor, Section

STEP, LOSSES, COLD, MEMORY = "step", "losses", "cold", "memory"

_SEED = 7
# The first step and the build have floors for these.
_FIRST_STEP = f"{models.TRANSFORMER}, {layers.FIRST_STEP}"
_BUILD = f"{models.RESNET}, {layers.BUILD}"

# What the step should be, beside the hand-written one and Keras's layer.
_AIMS = {
    models.TRANSFORMER: 1.3,
    "transformer-128": 1.3,
    "mlp-24x64": 1.6,
    "mlp-48x32": 1.5,
}

FLOORS = (
    *(
        Floor(STEP, model, *rest)
        for model, aim in _AIMS.items()
        for rest in (
            (HAND, OURS, ">=", 1.2, aim),
            (PEER, OURS, ">=", 1.2, aim),
            (OURS, FREE, "<=", 1.12, 1.05),
        )
    ),
    Floor(STEP, models.RESNET, HAND, OURS, ">=", 0.98, 1.0),
    *(
        Floor(LOSSES, model, other, None, "<=", 0)
        for model in models.WORKLOADS
        for other in (PEER, HAND)
    ),
    *(
        Floor(MEMORY, f"{model}, {stage}", OURS, HAND, "<=", 1.05, 1.0)
        for model in models.WORKLOADS
        for stage in (layers.BUILD, layers.FIRST_STEP, STEP)
    ),
    Floor(COLD, _FIRST_STEP, PEER, OURS, ">=", 2.8, 3.0),
    Floor(COLD, _BUILD, PEER, OURS, ">=", 12.0, 20.0),
    *growth.FLOORS,
    *short_steps.FLOORS,
)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is measured how often.

    Attributes:
        models: names of `models.WORKLOADS`.
        parts: keys of `PARTS`.
        rounds: how often steps are timed.
        burst: for how many seconds, at least, each time.
        cold_rounds: how often a layer is built and takes its first step.
        loss_steps: how many losses are compared.
        sizes: of the growing model, in blocks.
        most_of_peer: up to how many blocks Keras's layer has them.
        growth_rounds: how often its steps are timed.
        growth_cold_rounds: how often they are compiled.
        memory_rounds: how many processes there are for each subject.
        memory_steps: how many steps each of them takes.
        short_rounds: how often epochs of short steps are timed.
        short_steps: how many an epoch has.
        profiled_steps: how many steps are profiled.
        blocks: makes the models so many blocks long.

    Raises:
        ValueError: there are less than two sizes.
    """

    models: Sequence[str] = tuple(models.WORKLOADS)
    parts: Sequence[str] = (
        STEP,
        COLD,
        growth.GROWTH,
        MEMORY,
        short_steps.SHORT,
        operations.OPERATIONS,
    )
    rounds: int = 30
    burst: float = 0.1
    cold_rounds: int = 3
    loss_steps: int = 10
    sizes: Sequence[int] = (4, 8, 16, 32, 64, 96)
    most_of_peer: int = 32
    growth_rounds: int = 10
    growth_cold_rounds: int = 1
    memory_rounds: int = 1
    memory_steps: int = 20
    short_rounds: int = 15
    short_steps: int = 64
    profiled_steps: int = 20
    blocks: int | None = None

    def __post_init__(self) -> None:
        # Said now, and not after all the rest was measured.
        if len(set(self.sizes)) < 2:
            raise ValueError(
                f"growth needs two sizes or more. Received: {self.sizes}"
            )


SMOKE = Settings(
    models=(models.TRANSFORMER, models.RESNET),
    rounds=2,
    burst=0,
    cold_rounds=1,
    loss_steps=3,
    sizes=(1, 2),
    growth_rounds=2,
    memory_steps=2,
    short_rounds=1,
    short_steps=2,
    profiled_steps=2,
    blocks=1,
)

Progress = Callable[[str], None]


def run(
    settings: Settings, progress: Progress = lambda _: None
) -> dict[str, Section]:
    """Takes the measures that the settings name."""
    sections: dict[str, Section] = {}
    for part in settings.parts:
        sections |= PARTS[part](settings, progress)
    return sections


def _steps(settings: Settings, progress: Progress) -> dict[str, Section]:
    times: interleave.Times = {}
    unlike: interleave.Times = {}
    for name in settings.models:
        workload = models.sized(name, settings.blocks)
        progress(f"{name}: compiling the steps")
        subjects, by_hand = loops_of(workload)
        batch = workload.data(1)
        for loop in (*subjects.values(), by_hand):
            loop.compile(*batch)

        # Of steps that are not timed; what is timed goes on from there.
        unlike[name] = loops.unlike_ours(
            {**subjects, HAND: by_hand}, batch, settings.loss_steps
        )

        progress(f"{name}: step")
        times[name] = loops.step_times(
            subjects, batch, rounds=settings.rounds, burst=settings.burst
        )
    return {
        STEP: Section(
            "A training step",
            times,
            [(HAND, OURS), (PEER, OURS), (OURS, FREE), (REFERENCE, OURS)],
            note=_described(settings.models),
        ),
        LOSSES: Section(
            f"Losses that are not those of {OURS} to the last bit, of "
            f"{settings.loss_steps} steps",
            unlike,
            unit="",
            note="From the same weights, with the same seed in the layers, and "
            "by hand with the keys that a layer makes of it.",
        ),
    }


def seeded(
    make: Callable[..., keras.layers.Layer], workload: models.Workload
) -> keras.layers.Layer:
    """A layer that is built; one seed decides its weights and its own seed."""
    keras.utils.set_random_seed(_SEED)
    return loops.built(make, workload)


def loops_of(
    workload: models.Workload,
) -> tuple[dict[str, loops.Loop], loops.Loop]:
    """The loops that are timed; and the one by hand that has a layer's keys."""

    def reference(module: nn.Module) -> flaxlayer.FlaxLayer:
        return flaxlayer.FlaxLayer(module, kernels="reference")

    made = {
        name: seeded(make, workload)
        for name, make in {
            **loops.layer_makers(),
            REFERENCE: reference,
        }.items()
    }
    ours = made[OURS]
    variables = loops.variables_of(ours)

    def by_hand(keys: loops.Keys) -> loops.Loop:
        return loops.Loop.of_module(workload.module, variables, keys)

    found = {name: loops.Loop.of_layer(layer) for name, layer in made.items()}
    found[HAND] = by_hand(loops.Keys.split())
    found[FREE] = by_hand(loops.Keys.split(loops.free_bits()))
    order = (OURS, REFERENCE, FREE, PEER, HAND)
    with_layer_keys = loops.Keys.counting(ours.seed_generator.state.value)
    return (
        {name: found[name] for name in order if name in found},
        by_hand(with_layer_keys),
    )


def _cold(settings: Settings, progress: Progress) -> dict[str, Section]:
    times: interleave.Times = {}
    names = [name for name in layers.MODELS if name in settings.models]
    for name in names:
        progress(f"{name}: {layers.BUILD}, {layers.FIRST_STEP}")
        subjects = {
            subject: layers.InKeras(make, models.sized(name, settings.blocks))
            for subject, make in loops.layer_makers().items()
        }
        measured = interleave.measure(
            {subject: made.cold for subject, made in subjects.items()},
            rounds=settings.cold_rounds,
        )
        for measure, by_variant in measured.items():
            times[f"{name}, {measure}"] = by_variant
    if not names:
        return {}
    return {
        COLD: Section(
            "Before the second step, in a Keras model",
            times,
            [(PEER, OURS)],
            note="; ".join(
                f"{measure}: {layers.MEASURES[measure]}"
                for measure in (layers.BUILD, layers.FIRST_STEP)
            )
            + ".",
        )
    }


def _growth(settings: Settings, progress: Progress) -> dict[str, Section]:
    return growth.run(
        settings.sizes,
        most_of_peer=settings.most_of_peer,
        rounds=settings.growth_rounds,
        cold_rounds=settings.growth_cold_rounds,
        burst=settings.burst,
        progress=progress,
    )


def _memory(settings: Settings, progress: Progress) -> dict[str, Section]:
    sizes: interleave.Times = {}

    def variant(name: str, subject: str) -> interleave.Variant:
        arguments = ["_memory", name, subject, settings.memory_steps]
        if settings.blocks is not None:
            arguments.append(settings.blocks)

        def measured() -> dict[str, float]:
            peaks = children.answer(*arguments)
            return {f"{name}, {stage}": n / 1e6 for stage, n in peaks.items()}

        return measured

    for name in settings.models:
        progress(f"{name}: memory")
        sizes |= interleave.measure(
            {
                subject: variant(name, subject)
                for subject in (*loops.layer_makers(), HAND)
            },
            rounds=settings.memory_rounds,
        )
    return {
        MEMORY: Section(
            "The most memory a process had",
            sizes,
            [(PEER, OURS), (HAND, OURS)],
            unit="MB",
            note="Each time from there on: it builds the model, takes the "
            f"first step, which is compiled, and {settings.memory_steps} "
            "more.",
        )
    }


def _short(settings: Settings, progress: Progress) -> dict[str, Section]:
    return short_steps.run(
        rounds=settings.short_rounds,
        steps=settings.short_steps,
        blocks=settings.blocks,
        progress=progress,
    )


def _operations(settings: Settings, progress: Progress) -> dict[str, Section]:
    progress(operations.OPERATIONS)
    section = operations.run(
        list(settings.models),
        steps=settings.profiled_steps,
        blocks=settings.blocks,
    )
    return {operations.OPERATIONS: section}


def peak_memory(
    name: str, subject: str, steps: int, blocks: int | None
) -> dict[str, int]:
    """What training takes in this process, in bytes; in a process of its own.

    Args:
        name: of the model.
        subject: `HAND`, or one of `loops.layer_makers`.
        steps: how many it takes after the first one.
        blocks: makes the model so many blocks long.

    Returns:
        The most it had by stage: in building, the first step, and those after.
    """
    workload = models.sized(name, blocks)
    batch = workload.data(1)
    peaks = {}
    children.forget_peak()
    if subject == HAND:
        variables = workload.module.init(jax.random.key(_SEED), batch[0][:1])
        jax.block_until_ready(variables)
    else:
        layer = loops.built(loops.layer_makers()[subject], workload)
        jax.block_until_ready([v.value for v in layer.variables])
    peaks[layers.BUILD] = children.peak_memory()

    children.forget_peak()
    if subject == HAND:
        keys = loops.Keys.split()
        loop = loops.Loop.of_module(workload.module, variables, keys)
    else:
        loop = loops.Loop.of_layer(layer)
    loop.wait_for_step(*batch)
    peaks[layers.FIRST_STEP] = children.peak_memory()

    children.forget_peak()
    for _ in range(steps):
        loop.wait_for_step(*batch)
    peaks[STEP] = children.peak_memory()
    return peaks


PARTS: dict[str, Callable[[Settings, Progress], dict[str, Section]]] = {
    STEP: _steps,
    COLD: _cold,
    growth.GROWTH: _growth,
    MEMORY: _memory,
    short_steps.SHORT: _short,
    operations.OPERATIONS: _operations,
}


def _described(names: Sequence[str]) -> str:
    return (
        "; ".join(
            f"{name}: {models.WORKLOADS[name].description}" for name in names
        )
        + "."
    )
