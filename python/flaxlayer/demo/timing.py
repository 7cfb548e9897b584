"""What the layer costs on the demo's model, beside keras.layers.FlaxLayer.

A short version of `benchmarks/bench.py layers`, which has more models, more
measures and a hand-written training loop.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import keras
import numpy as np

import flaxlayer
from flaxlayer import keras_compat

_COLD_ROUNDS = 3
_STEPS = 60


@dataclasses.dataclass
class Times:
    """Seconds, one for each repetition."""

    build: list[float] = dataclasses.field(default_factory=list)
    first_step: list[float] = dataclasses.field(default_factory=list)
    step: list[float] = dataclasses.field(default_factory=list)


def table(
    module: nn.Module,
    images: np.ndarray,
    labels: np.ndarray,
    compile_model: Callable[[keras.Model], None],
) -> str:
    """Measures both layers, in turn, and says what came out.

    Args:
        module: the model.
        images: one batch.
        labels: of it.
        compile_model: gives a Keras model its loss and optimizer.
    """
    layers: dict[str, Callable[..., Any]] = {"flaxlayer": flaxlayer.FlaxLayer}
    if peer := keras_compat.peer_flax_layer():
        layers["keras"] = peer
    times = {name: Times() for name in layers}
    models = {}
    for _ in range(_COLD_ROUNDS):
        for name, layer in layers.items():
            models[name] = _cold(
                layer, module, images, labels, compile_model, times[name]
            )
    for _ in range(_STEPS):
        for name, model in models.items():
            _timed(times[name].step, model.train_on_batch, images, labels)
    return _written(times)


def _cold(
    layer: Callable[..., Any],
    module: nn.Module,
    images: np.ndarray,
    labels: np.ndarray,
    compile_model: Callable[[keras.Model], None],
    times: Times,
) -> keras.Model:
    jax.clear_caches()

    def build() -> keras.Model:
        model = keras.Sequential([keras.Input(images.shape[1:]), layer(module)])
        jax.block_until_ready([v.value for v in model.variables])
        return model

    model = _timed(times.build, build)
    compile_model(model)
    _timed(times.first_step, model.train_on_batch, images, labels)
    return model


def _timed(times: list[float], fn: Callable[..., Any], *args: Any) -> Any:
    start = time.perf_counter()
    result = fn(*args)  # Keras waits for the loss, so this is all of it.
    times.append(time.perf_counter() - start)
    return result


def _written(times: dict[str, Times]) -> str:
    ours, peer = times["flaxlayer"], times.get("keras")
    lines = [f"{'':<22}{'flaxlayer':>12}{'keras.layers':>15}"]
    for label, field, scale, unit in (
        ("build", "build", 1, "s"),
        ("first training step", "first_step", 1, "s"),
        ("training step", "step", 1e3, "ms"),
    ):
        line = f"{label:<22}{_median(ours, field) * scale:>9.2f} {unit:<2}"
        if peer:
            line += f"{_median(peer, field) * scale:>12.2f} {unit:<2}"
        lines.append(line)
    lines.append(
        f"Medians: {_COLD_ROUNDS} cold repetitions, {_STEPS} steps of "
        "train_on_batch, in turn."
    )
    if not peer:
        lines.append("keras.layers.FlaxLayer is not available here.")
    return "\n".join(lines)


def _median(times: Times, field: str) -> float:
    return statistics.median(getattr(times, field))
