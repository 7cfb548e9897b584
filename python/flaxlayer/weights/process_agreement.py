"""Whether the processes of a program build the same layer.

Under a `keras.distribution` over several processes each of them builds every
layer, and has a part of its weights. Nothing else would notice that two of them
have built different ones, but for a program that never ends, or numbers that
are wrong. Here they tell each other what they are about to build, by way of the
service that JAX starts them with: unlike a sum over devices it can be waited
for with a time limit.
"""

import collections
import hashlib
import itertools
import json
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import keras
import numpy as np

from flaxlayer import jax_compat
from flaxlayer.paths import joined
from flaxlayer.weights.variable_tree import Leaf

# What is compared, in this order, and how it is in one process.
Parts = Mapping[str, str]

# As long as JAX waits for processes to start.
LIMIT_SECONDS = 300.0

# Rounds among the same processes, by which they find each other's messages.
_rounds: Any = collections.defaultdict(itertools.count)


class Disagreement(ValueError):
    """Processes build different layers, or not all of them build one."""


def check(parts: Callable[[], Parts], layer: str) -> None:
    """Compares a layer with what other processes build.

    Args:
        parts: returns what to compare; called if there are other processes.
        layer: how error messages call the layer.

    Raises:
        Disagreement: another process builds another layer, or none for
            `LIMIT_SECONDS`. All of the processes that compare raise it.
    """
    client = jax_compat.coordination_client()
    members = () if client is None else _members()
    if len(members) > 1:
        number = next(_rounds[members])
        room = f"flaxlayer/build/{zlib.crc32(repr(members).encode())}/{number}"
        compare(client, room, members, jax.process_index(), parts(), layer)


def described(leaves: Iterable[Leaf]) -> Parts:
    """What is compared of weights.

    Args:
        leaves: those that have values are compared by these as well, if this
            process has all of them.
    """
    return {
        f"`{joined(leaf.path)}`": f"{leaf.spec.dtype.name}"
        f"[{', '.join(map(str, leaf.spec.shape))}]{_numbers(leaf)}"
        for leaf in leaves
        if leaf.spec is not None
    }


def compare(
    client: Any,
    room: str,
    members: Sequence[int],
    me: int,
    parts: Parts,
    layer: str,
) -> None:
    """Tells other processes of a layer, and waits until all have been told.

    The first of them compares, so that there are few messages for each.

    Args:
        client: that of the service by which they exchange messages.
        room: what these messages have in their names, and no other ones.
        members: which processes.
        me: which of them this is.
        parts: what to compare.
        layer: how error messages call the layer.

    Raises:
        Disagreement: as `check` says.
    """
    first, *others = members
    digest = hashlib.sha256(json.dumps(list(parts.items())).encode())
    client.key_value_set(f"{room}/{me}", digest.hexdigest())
    if me == first:
        deadline = time.monotonic() + LIMIT_SECONDS
        missing, different = [], []
        for process in others:
            left = max(0.0, deadline - time.monotonic())
            theirs = _received(client, f"{room}/{process}", left)
            if theirs is None:
                missing.append(process)
            elif theirs != digest.hexdigest():
                different.append(process)
        client.key_value_set(f"{room}/said", json.dumps([missing, different]))
    # The first may have come when this one had waited for its time already.
    said = _received(client, f"{room}/said", 2 * LIMIT_SECONDS)
    missing, different = ([first], []) if said is None else json.loads(said)
    if missing:
        raise Disagreement(
            f"{layer}: process {missing[0]} did not build it within "
            f"{LIMIT_SECONDS:g} seconds of process {first} (this is process "
            f"{me} of {len(members)}). All processes of a distribution have to "
            "build the same layers in the same order."
        )
    if different:
        other = different[0]
        if me in (first, other):
            client.key_value_set(f"{room}/{me}/parts", json.dumps(parts))
        here, there = (
            json.loads(
                _received(client, f"{room}/{process}/parts", LIMIT_SECONDS)
                or "{}"
            )
            for process in (first, other)
        )
        raise Disagreement(
            f"{layer}: process {other} builds another layer than process "
            f"{first} (this is process {me} of {len(members)}). "
            f"{_difference(here, there, first, other)}"
        )


def _difference(here: Parts, there: Parts, first: int, other: int) -> str:
    what = next(x for x in {**here, **there} if here.get(x) != there.get(x))
    hint = (
        "Pass the same `seed=` in all of them; or, for layers without one, "
        "call `keras.utils.set_random_seed` with the same number, or "
        "`keras.distribution.initialize`, before any layer is made."
        if what == "seed"
        else "All processes of a distribution have to build the same layers in "
        "the same order."
    )
    return (
        f"In process {first} its {what} is {here.get(what, 'not there')}, in "
        f"process {other} {there.get(what, 'not there')}. {hint}"
    )


def _received(client: Any, key: str, seconds: float) -> str | None:
    """A message that may not have come yet; `None` if it does not come."""
    try:
        return client.blocking_key_value_get(key, int(seconds * 1000))
    except jax.errors.JaxRuntimeError as error:
        if "DEADLINE_EXCEEDED" not in str(error):
            raise
        return None


def _members() -> tuple[int, ...]:
    """The processes that build a layer under the distribution that is set."""
    distribution = keras.distribution.distribution()
    if distribution is None:
        return ()
    devices = distribution.device_mesh.backend_mesh.devices.flat
    return tuple(sorted({device.process_index for device in devices}))


def _numbers(leaf: Leaf) -> str:
    value = leaf.value
    if value is None or isinstance(value, jax.core.Tracer):
        return ""
    if isinstance(value, jax.Array):
        if not (value.is_fully_addressable or value.is_fully_replicated):
            return ""
        if leaf.key_impl is not None:
            value = jax.random.key_data(value)
    numbers = np.asarray(value, leaf.spec.dtype).tobytes()  # type: ignore[union-attr]
    return f" with the CRC-32 {zlib.crc32(numbers):08x}"
