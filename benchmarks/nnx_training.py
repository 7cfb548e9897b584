"""NNX modules in a layer, beside the loops that Flax's users write for them."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import keras
import numpy as np
import optax
from flax import nnx

import flaxlayer
from benchmarks import interleave, loops, nnx_models
from benchmarks.loops import OURS, REFERENCE
from benchmarks.report import Floor, Section

STEP, LOSSES, COLD = "step", "losses", "cold"
FUNCTIONAL, JIT = "functional", "nnx.jit"
_TRANSFORMER = "transformer"
_BUILD, _FIRST_STEP = "build", "first step"
_SEED = 7

FLOORS = (
    Floor(STEP, _TRANSFORMER, FUNCTIONAL, OURS, ">=", 1.0, 1.15),
    Floor(STEP, _TRANSFORMER, JIT, OURS, ">=", 1.0, 1.15),
    Floor(LOSSES, _TRANSFORMER, FUNCTIONAL, None, "<=", 0),
    Floor(LOSSES, _TRANSFORMER, JIT, None, "<=", 0),
)

Progress = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is measured how often.

    Attributes:
        rounds: how often steps are timed.
        burst: for how many seconds, at least, each time.
        cold_rounds: how often a module is made and takes its first step.
        loss_steps: how many losses are compared.
        blocks: of the transformer.
    """

    rounds: int = 30
    burst: float = 0.1
    cold_rounds: int = 3
    loss_steps: int = 10
    blocks: int = 6


SMOKE = Settings(rounds=2, burst=0, cold_rounds=1, loss_steps=3, blocks=1)


def run(
    settings: Settings, progress: Progress = lambda _: None
) -> dict[str, Section]:
    """Takes the measures that the settings name."""
    workload = nnx_models.Workload(settings.blocks)
    batch = workload.data()
    progress(f"{_TRANSFORMER}: compiling the steps")
    made = {name: make(workload) for name, make in LOOPS.items()}
    for loop in made.values():
        loop.compile(*batch)
    losses = {
        name: loop.losses(*batch, settings.loss_steps)
        for name, loop in made.items()
    }
    progress(f"{_TRANSFORMER}: step")
    times = loops.step_times(
        made, batch, rounds=settings.rounds, burst=settings.burst
    )
    progress(f"{_TRANSFORMER}: {_BUILD}, {_FIRST_STEP}")
    cold = interleave.measure(
        {
            name: functools.partial(_cold, LOOPS[name], workload)
            for name in (OURS, FUNCTIONAL, JIT)
        },
        rounds=settings.cold_rounds,
    )
    return {
        STEP: Section(
            "A training step of an NNX module",
            {_TRANSFORMER: times},
            [(FUNCTIONAL, OURS), (JIT, OURS), (REFERENCE, OURS)],
            note=f"{_TRANSFORMER}: {settings.blocks} transformer blocks with "
            "dropout, d=64, length 32, batch 32. functional: flat leaves, "
            "split and merged in `jax.jit`; nnx.jit: `nnx.Optimizer`; both by "
            "hand.",
        ),
        LOSSES: Section(
            f"Losses that are not those of {OURS} to the last bit, of "
            f"{settings.loss_steps} steps",
            {
                _TRANSFORMER: {
                    name: [int((losses[name] != losses[OURS]).sum())]
                    for name in (REFERENCE, FUNCTIONAL, JIT)
                }
            },
            unit="",
            note=f"All from `nnx.Rngs({_SEED})`.",
        ),
        COLD: Section(
            "Before the second step of an NNX module",
            {f"{_TRANSFORMER}, {name}": by for name, by in cold.items()},
            [(FUNCTIONAL, OURS), (JIT, OURS)],
            note=f"{_BUILD}: making the module or the layer, with its values; "
            f"{_FIRST_STEP}: traced, lowered, compiled, run; no cache filled.",
        ),
    }


def _cold(
    make: Callable[[nnx_models.Workload], Any], workload: nnx_models.Workload
) -> dict[str, float]:
    jax.clear_caches()
    batch = workload.data()
    made: list[Any] = []
    build = interleave.clock(lambda: made.append(make(workload)))
    first = interleave.clock(lambda: made[0].wait_for_step(*batch))
    return {_BUILD: build, _FIRST_STEP: first}


class JitLoop:
    """The loop of Flax's tutorials: `nnx.jit` around `nnx.Optimizer`.

    Args:
        workload: whose module it trains.
    """

    def __init__(self, workload: nnx_models.Workload):
        module = workload.module(rngs=nnx.Rngs(_SEED))
        module.train()
        self._carried = (
            module,
            nnx.Optimizer(module, optax.adam(1e-3), wrt=nnx.Param),
        )

        def step(module: Any, optimizer: Any, x: Any, y: Any) -> Any:
            def loss_fn(module: Any) -> Any:
                return optax.softmax_cross_entropy_with_integer_labels(
                    module(x), y
                ).mean()

            loss, gradients = nnx.value_and_grad(loss_fn)(module)
            optimizer.update(module, gradients)
            return loss

        self._step = nnx.jit(step, donate_argnums=(0, 1))

    def compile(self, x: Any, y: Any) -> None:
        """The first step compiles it."""

    def step(self, x: Any, y: Any) -> jax.Array:
        """Takes a step; returns its loss, for which it does not wait."""
        return self._step(*self._carried, x, y)

    def wait_for_step(self, x: Any, y: Any) -> None:
        """Takes a step and waits until it is done."""
        self.step(x, y).block_until_ready()

    def losses(self, x: Any, y: Any, steps: int) -> np.ndarray:
        """The losses of so many steps on one batch."""
        return np.array([self.step(x, y) for _ in range(steps)])


def functional(workload: nnx_models.Workload) -> loops.Loop:
    """A loop over flat leaves, with the module split and merged by hand."""
    module = workload.module(rngs=nnx.Rngs(_SEED))
    module.train()
    graphdef, params, state = nnx.split(module, nnx.Param, ...)
    leaves, treedef = jax.tree.flatten(params)
    others, other_treedef = jax.tree.flatten(state)
    are_keys = [
        jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) for x in others
    ]

    def apply(params: Any, state: Any, key: Any, x: Any) -> Any:
        del key  # The module has streams of its own, in the state.
        module = nnx.merge(
            graphdef,
            treedef.unflatten(params),
            other_treedef.unflatten(
                jax.random.wrap_key_data(value) if is_key else value
                for value, is_key in zip(state, are_keys, strict=True)
            ),
            copy=True,
        )
        logits = module(x)
        new = jax.tree.leaves(nnx.split(module, nnx.Param, ...)[2])
        return logits, _data(new, are_keys)

    return loops.Loop(apply, leaves, _data(others, are_keys), loops.Keys.none())


def _data(values: list[Any], are_keys: list[bool]) -> list[Any]:
    """Keys as their words, with which a compiled call is faster."""
    return [
        jax.random.key_data(value) if is_key else value
        for value, is_key in zip(values, are_keys, strict=True)
    ]


def in_layer(
    workload: nnx_models.Workload, kernels: Any = "auto"
) -> loops.Loop:
    """The same loop around a layer."""
    layer: keras.layers.Layer = flaxlayer.FlaxLayer(
        functools.partial(nnx_models.Transformer, workload.blocks),
        seed=_SEED,
        kernels=kernels,
    )
    layer.build((None, *workload.shape))
    return loops.Loop.of_layer(layer)


LOOPS: dict[str, Callable[[nnx_models.Workload], Any]] = {
    OURS: in_layer,
    REFERENCE: functools.partial(in_layer, kernels="reference"),
    FUNCTIONAL: functional,
    JIT: JitLoop,
}
