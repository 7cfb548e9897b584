"""Loads what was exported in a new process, and compares what it computes."""

import dataclasses
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from flaxlayer.exports import dimensions, names
from flaxlayer.exports.endpoint import ExportedEndpoint
from flaxlayer.exports.report import Comparison
from flaxlayer.serving import array_file
from flaxlayer.serving.signature import Array

_READERS = pathlib.Path(__file__).parent / "readers"

# Sizes of the batch, and of whatever else is not known, the first that the
# model takes: long enough for the windows of most, and then ever shorter.
_SIZES = ((1, (16, 8, 4, 2)), (3, (23, 7, 3, 1)), (8, (16, 8, 4, 2)))


class CheckFailed(RuntimeError):
    """What was exported does not compute what it was exported from."""


@dataclasses.dataclass(frozen=True)
class _Call:
    endpoint: ExportedEndpoint
    sizes: dict[str, int]
    inputs: list[np.ndarray]
    expected: list[np.ndarray]


def run(
    path: str,
    reader: str,
    endpoints: Sequence[ExportedEndpoint],
    *,
    tolerance: float,
    environment: Mapping[str, str],
) -> tuple[Comparison, ...]:
    """Compares calls on new random data.

    Args:
        path: what was exported.
        reader: the program that loads it, in `readers`.
        endpoints: what it was exported from.
        tolerance: the difference allowed, in parts of the largest number.
        environment: variables for the reader.

    Raises:
        CheckFailed: the reader cannot load or call it, or an output differs.
    """
    calls = _calls(endpoints)
    with tempfile.TemporaryDirectory() as folder:
        results = iter(_results(path, reader, calls, folder, environment))
    compared = []
    for call in calls:
        largest = 0.0
        allowed = tolerance
        for spec, expected in zip(
            call.endpoint.outputs, call.expected, strict=True
        ):
            received = next(results)
            if received.dtype != expected.dtype:
                received = received.view(expected.dtype)
            limit = _limit(expected.dtype, tolerance)
            difference = _difference(received, expected)
            if not difference <= limit:
                raise CheckFailed(
                    f"{call.endpoint.where}: the output {spec.name!r} is not "
                    f"what it is here, for {_shown(call.sizes)}. Expected a "
                    f"difference of at most {limit:.0e}. Received: "
                    f"{difference:.1e}, shape {received.shape} for "
                    f"{expected.shape}."
                )
            largest, allowed = max(largest, difference), max(allowed, limit)
        compared.append(
            Comparison(call.endpoint.name, call.sizes, largest, allowed)
        )
    return tuple(compared)


def _calls(endpoints: Sequence[ExportedEndpoint]) -> list[_Call]:
    """Calls of each endpoint, and what they return here."""
    random = np.random.default_rng(0)
    calls = []
    # On one device; and as a server's, what one call changes is there in the
    # next.
    values = {
        id(v): np.asarray(v.value) for each in endpoints for v in each.weights
    }
    for endpoint in endpoints:
        compute = jax.jit(endpoint.__call__)
        for sizes, *others in filter(None, _sizes(endpoint)):
            weights = [values[id(v)] for v in endpoint.weights]
            while True:
                inputs = [_random(a, sizes, random) for a in endpoint.inputs]
                try:
                    outputs, changed = compute(weights, inputs)
                    break
                except Exception:
                    # Perhaps more than the model has positions for, or fewer
                    # than a window has.
                    if not others:
                        raise
                    sizes = others.pop(0)
            values.update(zip(map(id, endpoint.state), changed, strict=True))
            expected = [np.asarray(output) for output in outputs]
            calls.append(_Call(endpoint, sizes, inputs, expected))
    return calls


def _sizes(endpoint: ExportedEndpoint) -> list[list[dict[str, int]]]:
    """For each call what names of sizes stand for; the first that will do."""
    names_ = dimensions.names_in({a.name: a.shape for a in endpoint.inputs})
    if not names_:
        return [[{}]]
    found = []
    for batch, lengths in _SIZES:
        tried = [
            {n: batch if n == dimensions.BATCH else other for n in names_}
            for other in lengths
        ]
        found.append(
            [
                sizes
                for i, sizes in enumerate(tried)
                if sizes not in tried[:i]
                and dimensions.hold(endpoint.constraints, sizes)
            ]
        )
    return found


def _random(
    array: Array, sizes: Mapping[str, int], random: np.random.Generator
) -> np.ndarray:
    """New data: integers are 0 or 1, which every vocabulary has."""
    shape = tuple(sizes[d] if isinstance(d, str) else d for d in array.shape)
    dtype = jnp.dtype(array.dtype)
    if jnp.issubdtype(dtype, jnp.floating):
        return random.normal(size=shape).astype(dtype)
    if jnp.issubdtype(dtype, jnp.complexfloating):
        return (random.normal(size=shape) + 0j).astype(dtype)
    return random.integers(0, 2, shape).astype(dtype)


def _results(
    path: str,
    reader: str,
    calls: Sequence[_Call],
    folder: str,
    environment: Mapping[str, str],
) -> list[np.ndarray]:
    """All outputs that the reader's process makes of the calls, in order."""
    described = [
        {
            "endpoint": call.endpoint.name,
            "inputs": names.plain(call.endpoint.inputs),
            "outputs": names.plain(call.endpoint.outputs),
        }
        for call in calls
    ]
    arrays = [
        array.view(array_file.storage_dtype(array.dtype))
        for call in calls
        for array in call.inputs
    ]
    given, results = (
        os.path.join(folder, name) for name in ("calls.npz", "results.npz")
    )
    np.savez(given, np.array(json.dumps(described)), *arrays)
    done = subprocess.run(
        [sys.executable, str(_READERS / f"{reader}.py"), path, given, results],
        env={
            **os.environ,
            # What can be imported here can be there.
            "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path),
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise CheckFailed(
            f"{path!r} was written, and could not be loaded and called by its "
            f"reader in a new process: {_error_in(done.stderr)}"
        ) from RuntimeError(done.stderr[-10_000:])
    with np.load(results, allow_pickle=False) as file:
        return list(file.values())


def _error_in(text: str) -> str:
    """The error that a process has ended by, which may have several lines."""
    lines = text.strip().splitlines() or ["no message"]
    first = [i for i, s in enumerate(lines) if re.match(r"[A-Za-z_.]+: ", s)]
    return " ".join(" ".join(lines[first[-1] if first else -1 :]).split())


def _difference(received: np.ndarray, expected: np.ndarray) -> float:
    if received.shape != expected.shape:
        return float("inf")
    kind = np.complex128 if expected.dtype.kind == "c" else np.float64
    a, b = received.astype(kind), expected.astype(kind)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    if same.all():
        return 0.0
    finite = np.abs(b[np.isfinite(b)])
    scale = max(1.0, finite.max() if finite.size else 0.0)
    return float(np.abs(a - b)[~same].max() / scale)


def _limit(dtype: np.dtype, tolerance: float) -> float:
    """The difference allowed: what rounding once does to a narrow dtype."""
    if not tolerance or not jnp.issubdtype(dtype, jnp.floating):
        return tolerance
    return max(tolerance, 4 * float(jnp.finfo(dtype).eps))


def _shown(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{k}={v}" for k, v in sizes.items()) or "its only sizes"
