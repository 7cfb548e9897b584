"""Whether arrays that are to be made fit into the memory that there is.

XLA ends the process where an allocation fails inside of a program. So what can
never fit is refused before anything is computed. What there is, is taken to be
all of the memory, not what is free of it at the moment.
"""

import math
import os
import pathlib
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import keras
import numpy as np

from flaxlayer import jax_compat

_GIB = 2**30
_MEMORY_INFO = pathlib.Path("/proc/meminfo")
_OWN_GROUPS = pathlib.Path("/proc/self/cgroup")
_GROUPS = pathlib.Path("/sys/fs/cgroup")


class NotEnoughMemory(MemoryError):
    """Arrays are larger than all of the memory."""


def check(
    arrays: Mapping[str, Any],
    *,
    devices: int = 1,
    shardings: Mapping[str, jax.sharding.NamedSharding] = MappingProxyType({}),
) -> None:
    """Reports arrays that do not fit, one of them or all together.

    Args:
        arrays: what has a shape and a dtype, under what messages call it.
        devices: over how many devices they may be spread.
        shardings: of those of which no device has the whole, under the same
            names.

    Raises:
        NotEnoughMemory: they do not; the message has sizes, and names no layer.
    """
    sizes = {
        name: round(size_of(array) * _share(array.shape, shardings.get(name)))
        for name, array in arrays.items()
    }
    limit = available(devices)
    if limit is None or sum(sizes.values()) <= limit:
        return
    largest = max(sizes, key=lambda name: sizes[name])
    array = arrays[largest]
    message = (
        f"{largest} of shape {tuple(array.shape)} and dtype {array.dtype} "
        f"takes {_gib(sizes[largest])}"
    )
    if sizes[largest] <= limit:
        message += f", and all {len(sizes)} take {_gib(sum(sizes.values()))}"
    where = "of memory" if devices == 1 else f"on {devices} devices"
    raise NotEnoughMemory(f"{message}; there are {_gib(limit)} {where}")


def check_each(arrays: Iterable[Any], name: str) -> None:
    """Reports an array that alone does not fit.

    Args:
        arrays: what has a shape and a dtype; those with a symbolic dimension
            are of no known size.
        name: what messages call any of them.

    Raises:
        NotEnoughMemory: there is one.
    """
    known = [
        array
        for array in arrays
        if all(isinstance(size, int) for size in array.shape)
    ]
    if known:
        check({name: max(known, key=size_of)})


def size_of(array: Any) -> int:
    """The bytes of what has a shape and a dtype."""
    return math.prod(array.shape) * array.dtype.itemsize


def _share(shape: Any, sharding: jax.sharding.NamedSharding | None) -> float:
    """How much of an array is in one memory of this process."""
    if sharding is None:
        return 1
    parts = sharding.addressable_devices_indices_map(tuple(shape))
    device = next(iter(parts))
    distinct = {str(index) for index in parts.values()}
    # A CPU's devices share its memory.
    here = len(distinct) if device.platform == "cpu" else 1
    part = math.prod(sharding.shard_shape(tuple(shape)))
    return here * part / max(1, math.prod(shape))


def available(devices: int = 1) -> int | None:
    """The memory for what JAX makes now, in bytes; `None` if not known.

    Args:
        devices: how many devices there are to hold it, of the kind of the
            default one. Those that are a CPU share its memory.
    """
    with jax.ensure_compile_time_eval():  # A layer may be built in a trace.
        (device,) = jax.device_put(np.float32(0)).devices()
    if device.platform == "cpu":
        return _of_host()
    limit = jax_compat.memory_limit(device)
    return None if limit is None else devices * limit


def devices_of_distribution() -> int:
    """Over how many devices Keras may spread a variable."""
    distribution = keras.distribution.distribution()
    if distribution is None:
        return 1
    return int(np.prod(distribution.device_mesh.shape))


def _of_host() -> int | None:
    try:
        pages, page = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # Not on every system.
        return None
    return min(pages * page, *_limits_of_groups()) + _swap()


def _limits_of_groups() -> list[int]:
    """The limits of the control groups that the process is in, on Linux."""
    limits = [2**63]
    for line in _text(_OWN_GROUPS).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, file = _GROUPS, "memory.max"
        elif "memory" in controllers.split(","):
            root, file = _GROUPS / "memory", "memory.limit_in_bytes"
        else:
            continue
        group = root / path.strip("/")
        # In a container the path may be that of the host, and not be there.
        for folder in (group, *group.parents):
            if folder.is_relative_to(root):
                text = _text(folder / file).strip()
                limits += [int(text)] if text.isdigit() else []
    return limits


def _swap() -> int:
    for line in _text(_MEMORY_INFO).splitlines():
        if line.startswith("SwapTotal:"):
            return int(line.split()[1]) * 1024
    return 0


def _text(path: pathlib.Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _gib(size: int) -> str:
    return f"{size / _GIB:,.1f} GiB"
