"""What the layer costs on the demo's model, and what is gained by it.

It is timed beside itself with the reference kernels and beside
`keras.layers.FlaxLayer`. A short version of `benchmarks/bench.py layers`, which
has more models, more measures and a hand-written training loop.
"""

import dataclasses
import functools
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
# What is measured: how it is called, and in which unit it is printed.
_ROWS = (
    ("build", "build", 1, "s"),
    ("first training step", "first_step", 1, "s"),
    ("training step", "step", 1e3, "ms"),
)


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
    """Measures the layers, in turn, and says what came out.

    Args:
        module: the model.
        images: one batch.
        labels: of it.
        compile_model: gives a Keras model its loss and optimizer.
    """
    layers: dict[str, Callable[..., Any]] = {"flaxlayer": flaxlayer.FlaxLayer}
    if flaxlayer.explain_kernels().available:
        layers["reference"] = functools.partial(
            flaxlayer.FlaxLayer, kernels="reference"
        )
    if peer := keras_compat.peer_flax_layer():
        layers["keras.layers"] = peer
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
    ours, *others = times
    lines = [f"{'':<19}{ours:>13}" + "".join(f"{x:>20}" for x in others)]
    for label, field, scale, unit in _ROWS:
        seconds = {name: getattr(of, field) for name, of in times.items()}
        line = f"{label:<19}"
        for name, measured in seconds.items():
            line += f"{statistics.median(measured) * scale:>10.2f} {unit:<2}"
            if name != ours:
                line += f"{_gain(seconds[ours], measured):>7}"
        lines.append(line)
    lines.append(
        f"Medians: {_COLD_ROUNDS} cold repetitions, {_STEPS} steps of "
        "train_on_batch, in turn. 2.00x: flaxlayer\ntakes half of that time; "
        "alike: no difference that can be told."
    )
    if "reference" in times:
        lines.append("The reference is flaxlayer with operations of JAX alone.")
    else:
        lines.append("Without native kernels there is nothing gained by them.")
    if "keras.layers" not in times:
        lines.append("keras.layers.FlaxLayer is not available here.")
    return "\n".join(lines)


def _gain(ours: list[float], theirs: list[float]) -> str:
    """How many times as fast ours is, if that can be told."""
    # Of one round each, so that what slows both down is in neither.
    ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
    if len(ratios) > 1:
        low, ratio, high = statistics.quantiles(ratios, method="inclusive")
    else:
        low = ratio = high = ratios[0]
    text = f"{ratio:.2f}x"
    return "alike" if low <= 1 <= high or text == "1.00x" else text
