"""What the layer is on a GPU: compiling and running a step, and random words.

XLA writes the rounds of the generator out at every fold, split and draw, which
costs compiling. So the program that trains a model with dropout is compiled and
run, in a layer as it is and in one with native kernels, beside the loops of
`train`. Words of several sizes are drawn both ways, alone and for a dropout.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import flaxlayer
from benchmarks import interleave, loops, models, train
from benchmarks.loops import FREE, HAND, OURS, PEER, REFERENCE
from benchmarks.report import Floor, Section
from flaxlayer.ops import threefry

COMPILE, STEP, LOSSES, WORDS = "compile", "step", "losses", "words"
STOCK, NATIVE = "stock JAX", "native"

_SMALL = "transformer-128"
_LARGE = "transformer-512"

WORKLOADS = {
    _SMALL: models.WORKLOADS[_SMALL],
    _LARGE: models.Workload(
        "8 transformer blocks with dropout, d=512, length 128, batch 32",
        models.Transformer(blocks=8, features=512, heads=8),
        (128, 16),
    ),
}

FLOORS = (
    Floor(COMPILE, _SMALL, HAND, NATIVE, ">=", 1.5),
    # It is the same program.
    Floor(STEP, _SMALL, PEER, OURS, ">=", 0.97, 1.0),
    Floor(STEP, _SMALL, PEER, NATIVE, ">=", 1.0),
    Floor(STEP, _SMALL, HAND, NATIVE, ">=", 1.0),
)

Progress = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is measured how often.

    Attributes:
        models: names of `WORKLOADS`.
        parts: keys of `PARTS`.
        rounds: how often steps are timed, and draws.
        burst: for how many seconds, at least, each time.
        cold_rounds: how often steps are compiled.
        loss_steps: how many losses are compared.
        sizes: of draws, as powers of two.
        blocks: makes the models so many blocks long.
    """

    models: Sequence[str] = tuple(WORKLOADS)
    parts: Sequence[str] = (STEP, WORDS)
    rounds: int = 20
    burst: float = 0.05
    cold_rounds: int = 2
    loss_steps: int = 10
    sizes: Sequence[int] = (10, 14, 16, 18, 20, 22, 24, 26)
    blocks: int | None = None


SMOKE = Settings(
    models=(_SMALL,),
    rounds=2,
    burst=0,
    cold_rounds=1,
    loss_steps=3,
    sizes=(4, 6),
    blocks=1,
)


def run(
    settings: Settings, progress: Progress = lambda _: None
) -> dict[str, Section]:
    """Takes the measures that the settings name."""
    sections: dict[str, Section] = {}
    for part in settings.parts:
        sections |= PARTS[part](settings, progress)
    return sections


def _steps(settings: Settings, progress: Progress) -> dict[str, Section]:
    compiled: interleave.Times = {}
    times: interleave.Times = {}
    unlike: interleave.Times = {}
    for name in settings.models:
        workload = WORKLOADS[name]
        if settings.blocks is not None:
            workload = workload.of_blocks(settings.blocks)
        subjects, by_hand = _loops_of(workload)
        batch = workload.data(1)
        # What is compiled first in a process has more to do.
        _native(workload.of_blocks(1)).compile(*batch)
        progress(f"{name}: {COMPILE}")
        compiled[name] = interleave.measure(
            {
                subject: functools.partial(_compile, loop, batch)
                for subject, loop in subjects.items()
            },
            rounds=settings.cold_rounds,
        )[COMPILE]
        by_hand.compile(*batch)
        unlike[name] = loops.unlike_ours(
            {**subjects, HAND: by_hand}, batch, settings.loss_steps
        )
        progress(f"{name}: {STEP}")
        times[name] = loops.step_times(
            subjects, batch, rounds=settings.rounds, burst=settings.burst
        )
    ratios = [(HAND, NATIVE), (PEER, NATIVE), (PEER, OURS), (NATIVE, FREE)]
    described = "; ".join(
        f"{name}: {WORKLOADS[name].description}" for name in settings.models
    )
    return {
        COMPILE: Section(
            "Compiling a training step, traced and lowered as well",
            compiled,
            ratios,
            note=described,
        ),
        STEP: Section("A training step", times, ratios, note=described),
        LOSSES: Section(
            f"Losses that are not those of {OURS} to the last bit, of "
            f"{settings.loss_steps} steps",
            unlike,
            unit="",
            note="docs/guide/gpu.md says what is to be expected.",
        ),
    }


def _loops_of(
    workload: models.Workload,
) -> tuple[dict[str, loops.Loop], loops.Loop]:
    """Those of `train`; on a GPU our layer is the reference already."""
    subjects, by_hand = train.loops_of(workload)
    del subjects[REFERENCE]
    return {**subjects, NATIVE: _native(workload)}, by_hand


def _native(workload: models.Workload) -> loops.Loop:
    def make(module: nn.Module) -> flaxlayer.FlaxLayer:
        return flaxlayer.FlaxLayer(module, kernels="native")

    return loops.Loop.of_layer(train.seeded(make, workload))


def _compile(loop: loops.Loop, batch: Any) -> dict[str, float]:
    jax.clear_caches()
    return {COMPILE: interleave.clock(loop.compile, *batch)}


def _words(settings: Settings, progress: Progress) -> dict[str, Section]:
    progress(WORDS)
    impls = {
        STOCK: "threefry2x32",
        NATIVE: threefry.prng_impl(required=True),
    }
    times: interleave.Times = {}
    for power in settings.sizes:
        array = jnp.ones(2**power, np.float32)
        for what, function in (("words", _draw), ("dropout", _dropout)):
            calls = {
                subject: functools.partial(
                    _wait, jax.jit(functools.partial(function, impl)), array
                )
                for subject, impl in impls.items()
            }
            count = interleave.calls_within(settings.burst, calls)
            times[f"{what}, 2^{power}"] = interleave.measure(
                interleave.bursts(WORDS, calls, count),
                rounds=settings.rounds,
                warmup=1,
            )[WORDS]
    return {
        WORDS: Section(
            "Random words, of 32 bits",
            times,
            [(STOCK, NATIVE)],
            note="words: drawn into memory; dropout: of an array of as many "
            "numbers, with its gradient. Each in a program of its own, of "
            "which the start is a part.",
        )
    }


def _wait(function: Callable[..., Any], array: jax.Array) -> None:
    jax.block_until_ready(function(_KEY, array))


def _draw(impl: Any, words: jax.Array, array: jax.Array) -> jax.Array:
    key = jax.random.wrap_key_data(words, impl=impl)
    return jax.random.bits(key, array.shape)


def _dropout(impl: Any, words: jax.Array, array: jax.Array) -> Any:
    key = jax.random.wrap_key_data(words, impl=impl)

    def loss(array: jax.Array) -> jax.Array:
        kept = jax.random.bernoulli(key, 0.9, array.shape)
        return jnp.tanh(jnp.where(kept, array / 0.9, 0.0)).sum()

    return jax.value_and_grad(loss)(array)


_KEY = np.array([3, 5], np.uint32)

PARTS: dict[str, Callable[[Settings, Progress], dict[str, Section]]] = {
    STEP: _steps,
    WORDS: _words,
}
