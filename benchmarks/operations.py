"""Where the time of a training step goes, by kind of operation.

JAX's profiler says when each operation of a compiled step began and ended, on
each thread. What is summed here is processor time: operations that run at the
same time on two threads both count.
"""

import collections
import pathlib
import tempfile
from collections.abc import Iterator, Mapping

import jax

from benchmarks import interleave, loops, models
from benchmarks.report import Section

OPERATIONS = "operations"

RANDOM = "random words"
PRODUCTS = "products and convolutions"
COPIES = "copies"
OTHER = "everything else"

# By what XLA's names of operations begin with. YNN is the library that it
# gives products to.
_KINDS: Mapping[str, str] = {
    "flaxlayer_": RANDOM,
    "dot": PRODUCTS,
    "convolution": PRODUCTS,
    "conv": PRODUCTS,
    "ynn_": PRODUCTS,
    "copy": COPIES,
}


def kind(operation: str) -> str:
    """The kind of the operation that XLA gave this name."""
    for prefix, found in _KINDS.items():
        # `convert_add_fusion` is no convolution.
        if operation.startswith(prefix) and not operation.startswith("conver"):
            return found
    return OTHER


def run(names: list[str], *, steps: int, blocks: int | None) -> Section:
    """Profiles the training steps of a layer around some models."""
    values: interleave.Times = {}
    for name in names:
        workload = models.sized(name, blocks)
        layer = loops.built(loops.layer_makers()[loops.OURS], workload)
        loop = loops.Loop.of_layer(layer)
        batch = workload.data(1)
        loop.compile(*batch)
        for _ in range(3):
            loop.wait_for_step(*batch)
        found = dict.fromkeys((RANDOM, PRODUCTS, COPIES, OTHER), 0.0)
        with tempfile.TemporaryDirectory() as folder:
            with jax.profiler.trace(folder):
                for _ in range(steps):
                    loop.wait_for_step(*batch)
            for operation, seconds in _operations(pathlib.Path(folder)):
                found[kind(operation)] += seconds / steps
        values[name] = {what: [seconds] for what, seconds in found.items()}
    return Section(
        "Processor time of the operations in a step",
        values,
        note=f"Of {loops.OURS}, by JAX's profiler, over {steps} steps, added "
        "up over all threads.",
    )


def _operations(folder: pathlib.Path) -> Iterator[tuple[str, float]]:
    """The operations that were recorded, each by its name and its seconds."""
    (path,) = folder.rglob("*.xplane.pb")
    profile = jax.profiler.ProfileData.from_file(str(path))
    totals: dict[str, float] = collections.defaultdict(float)
    for plane in profile.planes:
        for line in plane.lines:
            for event in line.events:
                if any(name == "hlo_op" for name, _ in event.stats):
                    totals[event.name] += event.duration_ns * 1e-9
    yield from totals.items()
