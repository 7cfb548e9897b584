"""Exported models: how long an export takes, how large it is, how fast it is.

TensorFlow and onnxruntime are measured where they are installed, as they are in
the environment of `tools/dev bench exports`.
"""

import dataclasses
import functools
import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np

import flaxlayer
import flaxlayer.serving
from benchmarks import children, interleave, models, package
from benchmarks.report import Floor, Section

WRITTEN, SIZE, LATENCY = "written", "size", "latency"
START, IMPORT = "start", "import"
PREDICT, CALL, JITTED = "predict", "model(x)", "jax.jit"
SERVED, TENSORFLOW, ONNX = "stablehlo", "tf_saved_model", "onnx"

_FORMATS = {SERVED: "jax", TENSORFLOW: "tensorflow", ONNX: "onnxruntime"}
_MODELS = (models.TRANSFORMER, models.RESNET)
_BATCHES = (1, 32)
_WEIGHTS = "weights alone"
_SERVING, _JAX = "import flaxlayer.serving", "import jax"


def case_name(model: str, batch: int) -> str:
    """The name of the measure of a model on batches of that size."""
    return f"{model}, batch {batch}"


FLOORS = (
    *(
        Floor(LATENCY, case_name(model, batch), PREDICT, SERVED, ">=", 1.0)
        for model in _MODELS
        for batch in _BATCHES
    ),
    *(
        Floor(LATENCY, case_name(model, batch), SERVED, JITTED, "<=", 1.3, 1.1)
        for model in _MODELS
        for batch in _BATCHES
    ),
    Floor(START, models.TRANSFORMER, PREDICT, SERVED, ">=", 1.5, 2.0),
    Floor(IMPORT, _JAX, package.ADDED, None, "<=", 1000.0, 100.0),
)

Progress = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is measured how often.

    Attributes:
        rounds: how often calls are timed.
        burst: for how many seconds, at least, each time.
        export_rounds: how often a model is exported.
        start_rounds: how often a process is started that answers once.
        blocks: of the models; `None` for as many as they have elsewhere.
    """

    rounds: int = 30
    burst: float = 0.05
    export_rounds: int = 3
    start_rounds: int = 5
    blocks: int | None = None


SMOKE = Settings(rounds=2, burst=0, export_rounds=1, start_rounds=1, blocks=1)


def run(
    settings: Settings, progress: Progress = lambda _: None
) -> dict[str, Section]:
    """Takes the measures that the settings name."""
    formats = [
        name
        for name, reader in _FORMATS.items()
        if importlib.util.find_spec(reader) is not None
    ]
    written: interleave.Times = {}
    sizes: dict[str, dict[str, list[float]]] = {}
    latency: interleave.Times = {}
    start: interleave.Times = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in _MODELS:
            workload = models.WORKLOADS[name]
            if settings.blocks is not None:
                workload = workload.of_blocks(settings.blocks)
            model = _model(workload)
            paths = {
                format: os.path.join(folder, f"{name}.{format}")
                for format in formats
            }
            progress(f"{name}: exports")
            times, sizes[name] = _written(
                name, model, paths, settings.export_rounds
            )
            written |= times
            calls = _calls(model, paths)
            for batch in _BATCHES:
                progress(case_name(name, batch))
                latency |= _latency(name, workload, batch, calls, settings)
            if name == models.TRANSFORMER:
                progress(f"{name}: processes that start")
                start |= _start(name, model, paths, workload, folder, settings)
    return {
        WRITTEN: Section(
            "`flaxlayer.export(model, path, check=False)`",
            written,
            [(TENSORFLOW, SERVED), (ONNX, SERVED)] if len(formats) == 3 else [],
            note="; ".join(
                f"{name}: {models.WORKLOADS[name].description}"
                for name in _MODELS
            ),
        ),
        SIZE: Section("What is on the disk", sizes, unit="bytes"),
        LATENCY: Section(
            "A call, from an array of NumPy to one",
            latency,
            [
                (PREDICT, SERVED),
                (CALL, SERVED),
                (SERVED, JITTED),
                *(
                    (PREDICT, name)
                    for name in (TENSORFLOW, ONNX)
                    if name in formats
                ),
            ],
            note=f"{PREDICT}: `model.predict_on_batch`; {JITTED}: the Keras "
            "model compiled by hand, its weights as arguments; the rest are "
            "the files of that format: `flaxlayer.serving.load`, the signature "
            "of `tf.saved_model.load`, `onnxruntime.InferenceSession`.",
        ),
        START: Section(
            "A process from its start to its first answer",
            start,
            [(PREDICT, SERVED)],
            note=f"{PREDICT}: a `.keras` file and `predict_on_batch`; "
            f"{SERVED}: `flaxlayer.serving` alone.",
        ),
        IMPORT: _imports(settings.start_rounds, progress),
    }


def _model(workload: models.Workload) -> keras.Model:
    inputs = keras.Input(workload.shape)
    layer: keras.layers.Layer = flaxlayer.FlaxLayer(workload.module, seed=0)
    return keras.Model(inputs, layer(inputs))


def _written(
    name: str, model: keras.Model, paths: Mapping[str, str], rounds: int
) -> tuple[interleave.Times, dict[str, list[float]]]:
    """How long exports take, and the bytes of each, beside the weights."""
    weights = sum(np.asarray(weight).nbytes for weight in model.weights)
    sizes: dict[str, list[float]] = {_WEIGHTS: [weights]}

    def write(format: Any) -> None:
        report = flaxlayer.export(
            model, paths[format], format=format, check=False, overwrite=True
        )
        sizes[format] = [report.size]

    def export(format: str) -> dict[str, float]:
        return {name: interleave.clock(write, format)}

    times = interleave.measure(
        {format: functools.partial(export, format) for format in paths},
        rounds=rounds,
        warmup=1,  # It imports TensorFlow and the like.
    )
    # As the paths were given, not as the first round was drawn.
    return times, {which: sizes[which] for which in (_WEIGHTS, *paths)}


def _calls(
    model: keras.Model, paths: Mapping[str, str]
) -> dict[str, Callable[[np.ndarray], Any]]:
    """What answers, by name, for an array of NumPy."""

    @jax.jit
    def jitted(trainable: Any, state: Any, x: Any) -> Any:
        return model.stateless_call(trainable, state, x, training=False)[0]

    # Copies: Keras donates those of the model to its own step.
    trainable, state = (
        [jnp.array(variable.value) for variable in variables]
        for variables in (
            model.trainable_variables,
            model.non_trainable_variables,
        )
    )
    served = flaxlayer.serving.load(paths[SERVED])
    calls: dict[str, Callable[[np.ndarray], Any]] = {
        PREDICT: model.predict_on_batch,
        CALL: lambda x: np.asarray(model(x)),
        JITTED: lambda x: np.asarray(jitted(trainable, state, x)),
        SERVED: lambda x: np.asarray(served(x)),
    }
    if TENSORFLOW in paths:
        calls[TENSORFLOW] = _tensorflow(paths[TENSORFLOW])
    if ONNX in paths:
        calls[ONNX] = _onnx(paths[ONNX])
    return calls


def _tensorflow(path: str) -> Callable[[np.ndarray], Any]:
    import tensorflow as tf

    loaded = tf.saved_model.load(path)
    signature = loaded.signatures["serving_default"]
    (name,) = signature.structured_input_signature[1]
    (output,) = signature.structured_outputs

    def call(x: np.ndarray) -> Any:
        return signature(**{name: tf.constant(x)})[output].numpy()

    call.loaded = loaded  # type: ignore[attr-defined]  # Which keeps it alive.
    return call


def _onnx(path: str) -> Callable[[np.ndarray], Any]:
    import onnxruntime

    session = onnxruntime.InferenceSession(
        path, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    return lambda x: session.run(None, {name: x})[0]


def _latency(
    name: str,
    workload: models.Workload,
    batch: int,
    calls: Mapping[str, Callable[[np.ndarray], Any]],
    settings: Settings,
) -> interleave.Times:
    x = workload.data(1)[0][:batch]
    fns = {which: functools.partial(call, x) for which, call in calls.items()}
    count = interleave.calls_within(settings.burst, fns, most=100)
    return interleave.measure(
        interleave.bursts(case_name(name, batch), fns, count),
        rounds=settings.rounds,
        warmup=1,
    )


def _imports(rounds: int, progress: Progress) -> Section:
    progress(_SERVING)
    return Section(
        "In a new interpreter",
        package.import_times(_JAX, _SERVING, rounds),
        unit="ms",
        note=f"Processor time. Added is that of `{_SERVING}` after it.",
    )


_ANSWERS = {
    SERVED: """\
import sys, numpy as np
import flaxlayer.serving
model = flaxlayer.serving.load(sys.argv[1])
np.asarray(model(np.load(sys.argv[2])))
""",
    PREDICT: """\
import sys, numpy as np
import flaxlayer, keras
import benchmarks.models
model = keras.models.load_model(sys.argv[1])
model.predict_on_batch(np.load(sys.argv[2]))
""",
}


def _start(
    name: str,
    model: keras.Model,
    paths: Mapping[str, str],
    workload: models.Workload,
    folder: str,
    settings: Settings,
) -> interleave.Times:
    inputs = os.path.join(folder, "x.npy")
    np.save(inputs, workload.data(1)[0])
    keras_file = os.path.join(folder, f"{name}.keras")
    model.save(keras_file)
    files = {SERVED: paths[SERVED], PREDICT: keras_file}

    def answer(which: str) -> dict[str, float]:
        return {
            name: interleave.clock(
                lambda: subprocess.run(
                    [
                        sys.executable,
                        "-c",
                        _ANSWERS[which],
                        files[which],
                        inputs,
                    ],
                    env=children.environment(),
                    check=True,
                )
            )
        }

    return interleave.measure(
        {which: functools.partial(answer, which) for which in files},
        rounds=settings.start_rounds,
    )
