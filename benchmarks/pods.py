"""What a step would take on a pod: an estimate, from what was counted.

It is made of the floating-point operations and the collectives of a step on few
devices. A larger mesh is longer on its first axis, and each chip keeps the work
it has. The collectives of the second axis stay as they are, and those of the
first become longer rings over as many bytes.
"""

import math
from collections.abc import Iterable, Sequence

from benchmarks.collectives import Collective

# What is assumed of a chip, and of each chip's part in a ring.
FLOPS_PER_SECOND = 100e12
BYTES_PER_SECOND = 100e9
CHIPS = (8, 64, 256)

ASSUMPTIONS = (
    f"{FLOPS_PER_SECOND / 1e12:.0f} TFLOP/s and {BYTES_PER_SECOND / 1e9:.0f} "
    "GB/s for each chip; rings, of which an all-reduce over n chips takes "
    "2(n-1)/n times its bytes; nothing computed meanwhile; no latency; the "
    "batch grows with the chips, the model axis stays"
)


def computing(flops: float) -> float:
    """The seconds in which a chip computes."""
    return flops / FLOPS_PER_SECOND


def communicating(
    found: Iterable[Collective], mesh: Sequence[int], chips: int
) -> float:
    """The seconds in which a chip waits for collectives.

    Args:
        found: the collectives of a step on the mesh.
        mesh: the sizes of its two axes.
        chips: how many the larger mesh has.
    """
    devices = math.prod(mesh)
    moved = 0.0
    for collective in found:
        group = collective.group or devices
        if group != mesh[1]:
            group = group * chips // devices
        moved += _moved(collective.kind, collective.size, group)
    return moved / BYTES_PER_SECOND


def _moved(kind: str, size: int, group: int) -> float:
    """The bytes a chip sends, if the results have so many."""
    if kind == "collective-permute":
        return size
    if kind == "reduce-scatter":  # Of a part, what all others have of it.
        return (group - 1) * size
    times = 2 if kind == "all-reduce" else 1
    return times * (group - 1) / group * size
