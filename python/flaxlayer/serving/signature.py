"""What an exported model is: its endpoints, its weights, what wrote it.

It is a file of JSON beside the programs, `signature.json`. It is written by
`flaxlayer.export` and read where there is neither Keras nor Flax, and nothing
in it is believed before it has been compared.
"""

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any

FORMAT = "flaxlayer-stablehlo"
VERSION = 1
FILE = "signature.json"
WEIGHTS_FILE = "weights.npz"

# Larger ones are no signature of ours.
MAX_BYTES = 64 * 2**20

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_DIMENSION = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_DTYPE = re.compile(r"[a-z][a-z0-9_]{0,31}")
_SHA256 = re.compile(r"[0-9a-f]{64}")

Shape = tuple[int | str, ...]


class BadExport(ValueError):
    """What was read is no exported model, or one that cannot be served here."""


@dataclasses.dataclass(frozen=True)
class Array:
    """An array that an endpoint takes or returns, or a weight.

    Attributes:
        name: that of the argument, the output or the weight.
        shape: sizes; a name stands for one that is not known, and for the same
            one wherever it is. Of outputs it may be an expression of these.
        dtype: the name of its dtype.
    """

    name: str
    shape: Shape
    dtype: str


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """A function of the model.

    Attributes:
        inputs: all arrays that it takes, in the model's order.
        arguments: how they are nested in its arguments: `{"args": [...],
            "kwargs": {...}}`.
        outputs: all arrays that it returns.
        results: how these are nested.
        weights: the names of the weights that its program takes, in order.
        state: those of them that a call changes; the program returns their new
            values behind the outputs.
        handlers: the custom calls in its program, and their versions.
        constraints: what the program takes to be true of sizes.
    """

    inputs: tuple[Array, ...]
    arguments: Mapping[str, Any]
    outputs: tuple[Array, ...]
    results: Any
    weights: tuple[str, ...]
    state: tuple[str, ...]
    handlers: Mapping[str, int]
    constraints: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class StoredFile:
    """What is to be found in a file.

    Attributes:
        sha256: its checksum, in hexadecimal digits.
        size: how many bytes it has.
    """

    sha256: str
    size: int


@dataclasses.dataclass(frozen=True)
class Signature:
    """All that is said of an exported model.

    Attributes:
        endpoints: by name.
        weights: by name; `name` of each is its key.
        platforms: those that the programs are for, as JAX calls them.
        written_by: the versions of `"jax"` and `"flaxlayer"` that wrote it.
        files: the other files, by name.
    """

    endpoints: Mapping[str, Endpoint]
    weights: Mapping[str, Array]
    platforms: tuple[str, ...]
    written_by: Mapping[str, str]
    files: Mapping[str, StoredFile]


def program_file(endpoint: str) -> str:
    """The name of the file with the program of an endpoint."""
    return f"{endpoint}.jax_export"


def to_json(signature: Signature) -> str:
    """A signature as text, one that people can read."""
    plain = {
        "format": FORMAT,
        "version": VERSION,
        **dataclasses.asdict(signature),
    }
    return json.dumps(plain, indent=2) + "\n"


def from_json(text: str) -> Signature:
    """The signature that a text is.

    Raises:
        BadExport: it is none; the message says where.
    """
    try:
        # Numbers that are none, such as NaN, have no place in it.
        plain = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadExport(f"{FILE} is no JSON: {error}") from error
    top = _mapping(plain, "the file")
    if top.get("format") != FORMAT:
        raise BadExport(
            f'{FILE}: "format" must be {FORMAT!r}. Received: '
            f"{top.get('format')!r:.100}."
        )
    if top.get("version") != VERSION:
        raise BadExport(
            f'{FILE}: "version" must be {VERSION}, which is what this version '
            f"of flaxlayer reads. Received: {top.get('version')!r:.100}."
        )
    weights = {
        name: _array(value, f"weights[{name!r}]", expressions=False)
        for name, value in _mapping(top.get("weights"), "weights").items()
    }
    for name, weight in weights.items():
        if weight.name != name or not all(
            isinstance(size, int) for size in weight.shape
        ):
            raise _bad(f"weights[{name!r}]", "a weight of this name", weight)
    endpoints = {
        name: _endpoint(name, value, weights)
        for name, value in _mapping(top.get("endpoints"), "endpoints").items()
    }
    if not endpoints:
        raise _bad("endpoints", "at least one endpoint", {})
    files = {
        name: _stored(value, f"files[{name!r}]")
        for name, value in _mapping(top.get("files"), "files").items()
    }
    expected = {WEIGHTS_FILE, *map(program_file, endpoints)}
    if files.keys() != expected:
        raise _bad("files", f"the files {sorted(expected)}", sorted(files))
    written_by = _mapping(top.get("written_by"), "written_by")
    return Signature(
        endpoints,
        weights,
        _texts(top.get("platforms"), "platforms"),
        {k: _text(v, f"written_by[{k!r}]") for k, v in written_by.items()},
        files,
    )


def _endpoint(name: str, value: Any, weights: Mapping[str, Array]) -> Endpoint:
    where = f"endpoints[{name!r}]"
    if not NAME.fullmatch(name):
        raise _bad("endpoints", "names of letters and digits", name)
    plain = _mapping(value, where)
    inputs = _arrays(plain.get("inputs"), f"{where}.inputs")
    outputs = _arrays(
        plain.get("outputs"), f"{where}.outputs", expressions=True
    )
    arguments = _mapping(plain.get("arguments"), f"{where}.arguments")
    if arguments.keys() != {"args", "kwargs"}:
        raise _bad(f"{where}.arguments", "args and kwargs", arguments)
    taken: list[int] = []
    _check_structure({"tuple": arguments["args"]}, f"{where}.arguments", taken)
    _check_structure({"dict": arguments["kwargs"]}, f"{where}.arguments", taken)
    if sorted(taken) != list(range(len(inputs))):
        raise _bad(f"{where}.arguments", "each input once", arguments)
    returned: list[int] = []
    _check_structure(plain.get("results"), f"{where}.results", returned)
    if sorted(returned) != list(range(len(outputs))):
        raise _bad(f"{where}.results", "each output once", plain.get("results"))
    needed = _texts(plain.get("weights"), f"{where}.weights")
    state = _texts(plain.get("state"), f"{where}.state")
    if not weights.keys() >= set(needed) >= set(state):
        raise _bad(f"{where}.weights", "names of weights", needed)
    handlers = _mapping(plain.get("handlers"), f"{where}.handlers")
    for handler, version in handlers.items():
        _number(version, f"{where}.handlers[{handler!r}]")
    return Endpoint(
        inputs,
        arguments,
        outputs,
        plain.get("results"),
        needed,
        state,
        handlers,
        _texts(plain.get("constraints"), f"{where}.constraints"),
    )


def _check_structure(
    value: Any, where: str, leaves: list[int], depth: int = 0
) -> None:
    """Reports what is no description of a tree; collects its leaves."""
    if value is None and depth < 100:
        return
    if type(value) is int:
        leaves.append(value)
        return
    items: Any = None
    if isinstance(value, dict) and len(value) == 1 and depth < 100:
        ((kind, items),) = value.items()
        if kind == "dict" and isinstance(items, dict):
            items = list(items.values())
        elif kind not in ("list", "tuple") or not isinstance(items, list):
            items = None
    if items is None:
        raise _bad(where, "a description of a tree", value)
    for item in items:
        _check_structure(item, where, leaves, depth + 1)


def _arrays(
    value: Any, where: str, *, expressions: bool = False
) -> tuple[Array, ...]:
    if not isinstance(value, list):
        raise _bad(where, "a list", value)
    return tuple(
        _array(item, f"{where}[{i}]", expressions=expressions)
        for i, item in enumerate(value)
    )


def _array(value: Any, where: str, *, expressions: bool) -> Array:
    plain = _mapping(value, where)
    shape = plain.get("shape")
    if not isinstance(shape, list) or len(shape) > 64:
        raise _bad(f"{where}.shape", "a list of sizes", shape)
    for size in shape:
        named = isinstance(size, str) and (
            len(size) <= 1000
            if expressions
            else _DIMENSION.fullmatch(size) is not None
        )
        if not named:
            _number(size, f"{where}.shape")
    dtype = _text(plain.get("dtype"), f"{where}.dtype")
    if not _DTYPE.fullmatch(dtype):
        raise _bad(f"{where}.dtype", "the name of a dtype", dtype)
    return Array(_text(plain.get("name"), f"{where}.name"), (*shape,), dtype)


def _stored(value: Any, where: str) -> StoredFile:
    plain = _mapping(value, where)
    sha256 = _text(plain.get("sha256"), f"{where}.sha256")
    if not _SHA256.fullmatch(sha256):
        raise _bad(f"{where}.sha256", "64 hexadecimal digits", sha256)
    return StoredFile(sha256, _number(plain.get("size"), f"{where}.size"))


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _bad(where, "an object", value)
    return value


def _texts(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise _bad(where, "a list of texts", value)
    return tuple(_text(item, where) for item in value)


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise _bad(where, "a text", value)
    return value


def _number(value: Any, where: str) -> int:
    if type(value) is not int or not 0 <= value < 2**62:
        raise _bad(where, "a number that is not negative", value)
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _bad(where: str, expected: str, received: Any) -> BadExport:
    return BadExport(
        f"{FILE}: {where} must be {expected}. Received: {received!r:.200}."
    )
