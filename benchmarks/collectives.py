"""The collectives in a compiled program, read from its text.

Each device has the same program, so the bytes are those of one device.
"""

import dataclasses
import math
import re

KINDS = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "collective-permute",
    "all-to-all",
)

# No string comes before the name of the operation: one in the metadata is none.
_INSTRUCTION = re.compile(
    r"\s*(?:ROOT )?%?(?P<name>[\w.-]+) = (?P<result>[^\"]*?) "
    rf"(?P<kind>{'|'.join(KINDS)})(?P<half>-start|-done)?\((?P<rest>.*)"
)
_OPERAND = re.compile(r"%([\w.-]+)\)")
_ARRAY = re.compile(r"\b[a-z]+(\d*)\w*\[([\d,]*)\]")
# `{{0,1},{2,3}}`, `[2,2]<=[4]` and `mesh['a'=2,'b'=2] {'b'}` are the same.
_LISTED = re.compile(r"replica_groups=\{\{([\d,]*)\}")
_COUNTED = re.compile(r"replica_groups=\[\d+,(\d+)\]<=")
_OF_MESH = re.compile(r"replica_groups=mesh\[(.*?)\]\s*\{(.*?)\}")
_ALL = "replica_groups={}"


@dataclasses.dataclass(frozen=True)
class Collective:
    """One of them.

    Attributes:
        kind: one of `KINDS`.
        size: the bytes of its results.
        group: how many devices take part, or None if all do, or if it is a
            `collective-permute`, which has pairs.
    """

    kind: str
    size: int
    group: int | None


def found_in(text: str) -> list[Collective]:
    """All collectives of a program, in the order of its text.

    Those that start in one place and are done in another count once.

    Args:
        text: the text of an HLO module, as `as_text` of a compiled function.

    Raises:
        ValueError: it does not say which devices take part in one of them.
    """
    found = []
    started: dict[str, int | None] = {}
    for line in text.splitlines():
        match = _INSTRUCTION.match(line)
        if match is None:
            continue
        kind, rest = match["kind"], match["rest"]
        if match["half"] == "-done":
            (operand,) = _OPERAND.findall(rest)[:1]
            group = started[operand]
        else:
            pairs = kind == "collective-permute"
            group = None if pairs else _group_size(rest)
        if match["half"] == "-start":
            # Its result has the operands, too.
            started[match["name"]] = group
        else:
            found.append(Collective(kind, _bytes(match["result"]), group))
    return found


def _bytes(result: str) -> int:
    """Of an array, or of a tuple of arrays."""
    bits = 0
    for width, sizes in _ARRAY.findall(result):
        # Only `pred` and `token` have no number in their names.
        bits += int(width or 8) * math.prod(
            int(size) for size in sizes.split(",") if size
        )
    return math.ceil(bits / 8)


def _group_size(attributes: str) -> int | None:
    if match := _LISTED.search(attributes):
        return len(match[1].split(","))
    if match := _COUNTED.search(attributes):
        return int(match[1])
    if match := _OF_MESH.search(attributes):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", match[1]))
        axes = re.findall(r"'(\w+)'(?::\(\d+\)(\d+))?", match[2])
        return math.prod(int(part or sizes[axis]) for axis, part in axes)
    if _ALL in attributes:
        return None
    raise ValueError(f"no groups of devices: {attributes}")
