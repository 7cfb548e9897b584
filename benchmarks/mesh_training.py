"""Training over the devices of a mesh, in Keras and beside a loop by hand.

JAX decides how many devices a processor is when it starts, so that a process of
its own is asked, in which it is eight.
"""

import dataclasses
import functools
import itertools
import json
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from benchmarks import (
    children,
    collectives,
    interleave,
    mesh_steps,
    models,
    pods,
)
from benchmarks.loops import HAND, OURS, REFERENCE
from benchmarks.report import Floor, Section

STEP, LOSSES, BUILD = "step", "losses", "build"
NUMBER, SIZE, ESTIMATE = "collectives", "bytes", "estimate"
IN_KERAS = "Keras's step"

_DEVICES = 8
_MODELS = (models.TRANSFORMER, "transformer-128")
_MESHES = ((8, 1), (2, 4), (4, 2))
_KERNELS = {OURS: "auto", REFERENCE: "reference"}
_COMPUTING = "computing"
_ONE = "one device"
_WIDE = "transformer-1024"
_BUILT_ON = (2, 4)
_FIRST, _AGAIN = "first", "again"
_KINDS = "kinds"


# Names of variants, by the chips of a pod.
_CHIPS = {f"{chips} chips": chips for chips in pods.CHIPS}
_FEWEST, *_MORE = _CHIPS


def case_name(model: str, mesh: Sequence[int]) -> str:
    """What the measures of a model on a mesh are called."""
    return f"{model}, mesh {'x'.join(map(str, mesh))}"


FLOORS = tuple(
    Floor(section, case_name(model, mesh), *rest)
    for section, *rest in (
        (STEP, REFERENCE, OURS, ">=", 1.0, 1.15),
        (LOSSES, REFERENCE, None, "<=", 0),
        (LOSSES, HAND, None, "<=", 0),
        (NUMBER, OURS, HAND, "<=", 1.0),
        (SIZE, OURS, HAND, "<=", 1.0),
    )
    for model, mesh in itertools.product(_MODELS, _MESHES)
) + tuple(
    Floor(BUILD, f"{model}, {which}", _ONE, OURS, ">=", 1.0)
    for model, which in itertools.product((*_MODELS, _WIDE), (_FIRST, _AGAIN))
)

Progress = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is measured how often.

    Attributes:
        models: names of `models.WORKLOADS`.
        meshes: how many parts of the batch, and of the model.
        rounds: how often steps are timed.
        burst: for how many seconds, at least, each time.
        loss_steps: how many losses are compared.
        build_rounds: how often weights are made.
        blocks: makes the models so many blocks long.
    """

    models: Sequence[str] = _MODELS
    meshes: Sequence[Sequence[int]] = _MESHES
    rounds: int = 20
    burst: float = 0.1
    loss_steps: int = 10
    build_rounds: int = 7
    blocks: int | None = None


SMOKE = Settings(
    models=(models.TRANSFORMER,),
    meshes=((2, 4),),
    rounds=2,
    burst=0,
    loss_steps=3,
    build_rounds=1,
    blocks=1,
)


def run(
    settings: Settings, progress: Progress = lambda _: None
) -> dict[str, Section]:
    """Takes the measures that the settings name."""
    progress(f"in a process of {_DEVICES} devices")
    values = children.answer("_mesh", json.dumps(dataclasses.asdict(settings)))
    described = "; ".join(
        f"{name}: {models.WORKLOADS[name].description}"
        for name in settings.models
    )
    of_loops = (
        f"{OURS}, {HAND}: a loop by hand around the layer's `stateless_call`, "
        "and the same around the module, with the same weights, shardings and "
        "keys"
    )
    return {
        STEP: Section(
            f"A training step in Keras, over {_DEVICES} devices of one "
            "processor",
            values[STEP],
            [(REFERENCE, OURS)],
            note=f"{described}; trained with SGD. mesh 2x4: the batch in 2 "
            "parts, the heads and the inner features in 4.",
        ),
        LOSSES: Section(
            f"Losses that are not those of {OURS} to the last bit, of "
            f"{settings.loss_steps} steps",
            values[LOSSES],
            unit="",
            note=f"{REFERENCE}: in Keras. {of_loops}.",
        ),
        BUILD: Section(
            f"Making weights, on one device and in parts on {_DEVICES}",
            values[BUILD],
            [(_ONE, OURS)],
            note=f"{OURS}: over a mesh "
            f"{'x'.join(map(str, _BUILT_ON))}, as above. {_WIDE}: "
            f"{models.WIDE.description}. {_FIRST}: nothing is compiled yet; "
            f"{_AGAIN}: a second layer of the same shapes.",
        ),
        NUMBER: Section(
            "Collectives in the program of a step",
            values[NUMBER],
            [(OURS, HAND)],
            unit="",
            note=f"{of_loops}; {IN_KERAS}: what is timed above. "
            f"Kinds: {', '.join(values[_KINDS])}.",
        ),
        SIZE: Section(
            "Bytes of their results on each device",
            values[SIZE],
            [(OURS, HAND)],
            unit="kB",
        ),
        ESTIMATE: Section(
            "A step on a pod: an estimate, not a measurement",
            values[ESTIMATE],
            [(_FEWEST, chips) for chips in _MORE],
            note=f"Of {OURS}, from the bytes above. Assumed: "
            f"{pods.ASSUMPTIONS}. {_COMPUTING}: the part that is no "
            "collective. The ratios are what is left of the speed of a chip.",
        ),
    }


def measured(
    settings: Settings, progress: Progress = lambda _: None
) -> dict[str, Any]:
    """The values of all sections; in a process of its own.

    Nothing may have started JAX's platforms before.
    """
    children.use_devices(_DEVICES)
    found: dict[str, Any] = {}
    kinds: set[str] = set()
    for model, mesh in itertools.product(settings.models, settings.meshes):
        case = case_name(model, mesh)
        progress(case)
        mesh_steps.distribute(mesh)
        workload = models.sized(model, settings.blocks)
        of_case, programs, flops = _steps(workload, settings)
        of_case |= {
            NUMBER: {name: [len(all_)] for name, all_ in programs.items()},
            SIZE: {
                name: [sum(one.size for one in all_) / 1e3]
                for name, all_ in programs.items()
            },
            ESTIMATE: {_COMPUTING: [pods.computing(flops)]}
            | {
                name: [
                    pods.computing(flops)
                    + pods.communicating(programs[OURS], mesh, chips)
                ]
                for name, chips in _CHIPS.items()
            },
        }
        for section, values in of_case.items():
            found.setdefault(section, {})[case] = values
        kinds |= {one.kind for all_ in programs.values() for one in all_}
    found[BUILD] = {}
    for model in (*settings.models, _WIDE):
        progress(f"{BUILD}: {model}")
        workload = (
            models.WIDE
            if model == _WIDE
            else models.sized(model, settings.blocks)
        )
        for which, times in _builds(workload, settings.build_rounds).items():
            found[BUILD][f"{model}, {which}"] = times
    return found | {_KINDS: sorted(kinds)}


def _steps(
    workload: models.Workload, settings: Settings
) -> tuple[dict[str, Any], dict[str, list[collectives.Collective]], float]:
    """What a case takes and loses, its collectives by program, and its FLOPs.

    The FLOPs are those of the loop by hand: XLA does not see into native calls.
    """
    x, y = workload.data(1)
    # Keras 3.14 places no batch over a mesh that has no weights.
    batch = x, y, np.ones(len(y), np.float32)
    in_keras = {
        name: mesh_steps.in_keras(workload, kernels)
        for name, kernels in _KERNELS.items()
    }
    # Before the layer trains.
    layer = in_keras[OURS].layers[-1]
    placed = mesh_steps.distributed(batch)
    by_hand = {
        OURS: mesh_steps.Loop.of_layer(layer, placed[:2]),
        HAND: mesh_steps.Loop.by_hand(layer, placed[:2]),
    }
    steps = {
        name: functools.partial(model.train_on_batch, *batch)
        for name, model in in_keras.items()
    }
    count = settings.loss_steps
    losses = {
        name: [float(step()) for _ in range(count)]
        for name, step in steps.items()
    }
    of_loops = {name: loop.losses(count) for name, loop in by_hand.items()}
    calls = interleave.calls_within(settings.burst, steps)
    times = interleave.measure(
        interleave.bursts(STEP, steps, calls),
        rounds=settings.rounds,
        warmup=1,
    )
    texts = {name: loop.program for name, loop in by_hand.items()}
    texts[IN_KERAS] = mesh_steps.keras_program(in_keras[OURS], placed)
    return (
        {
            STEP: times[STEP],
            LOSSES: {
                REFERENCE: [_unlike(losses[REFERENCE], losses[OURS])],
                HAND: [_unlike(of_loops[HAND], of_loops[OURS])],
            },
        },
        {name: collectives.found_in(text) for name, text in texts.items()},
        by_hand[HAND].flops,
    )


def _builds(workload: models.Workload, rounds: int) -> Any:
    """Seconds to make weights, by whether they are the first ones."""

    def both(shape: Sequence[int] | None) -> dict[str, float]:
        jax.clear_caches()
        make = functools.partial(mesh_steps.build, workload, shape)
        return {which: interleave.clock(make) for which in (_FIRST, _AGAIN)}

    return interleave.measure(
        {
            _ONE: functools.partial(both, None),
            OURS: functools.partial(both, _BUILT_ON),
        },
        rounds=rounds,
        warmup=1,
    )


def _unlike(some: Sequence[float], others: Sequence[float]) -> int:
    return sum(a != b for a, b in zip(some, others, strict=True))
