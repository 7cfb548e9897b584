"""Values that hold no other values, as JSON and back.

What JSON has no word for becomes a dict with a `type`. Each sort of value is
one row of `LEAVES`, both directions together.
"""

import base64
import binascii
import dataclasses
import math
import types
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

PLAIN = (types.NoneType, bool, int, str)
# An array in a configuration is a constant of the model, not its weights.
MAX_ARRAY_BYTES = 1 << 20
# Of an array that is only described. A file must not get one allocated that
# no machine could hold.
MAX_ELEMENTS = 1 << 40
_MAX_RANK = 32

_JAX_SCALAR: type = type(jnp.float32)
_JAX_DTYPES = {
    name: value
    for name, value in vars(jnp).items()
    if issubclass(type(value), _JAX_SCALAR) and value.dtype.name == name
}
_DTYPES: dict[str, np.dtype] = {
    name: value.dtype for name, value in _JAX_DTYPES.items()
}
_PYTHON_DTYPES: dict[str, Any] = {
    value.__name__: value for value in (bool, int, float, complex)
}


@dataclasses.dataclass(frozen=True)
class Leaf:
    """How one sort of value is written.

    Attributes:
        type: The tag it is written with.
        matches: Whether a value is of this sort.
        encode: From the value and where it stands to the rest of the dict.
        decode: The inverse; takes the dict and where it stands.
    """

    type: str
    matches: Callable[[Any], bool]
    encode: Callable[[Any, str], dict[str, Any]]
    decode: Callable[[Mapping[str, Any], str], Any]


def take(node: Mapping[str, Any], key: str, kind: Any, site: str) -> Any:
    """The entry `key` of a dict in a configuration, of the type it should be.

    Args:
        node: The dict.
        key: The key.
        kind: The type, or tuple of types.
        site: Where it stands, for messages.

    Returns:
        The entry.

    Raises:
        ValueError: If it is missing or of another type.
    """
    value = node.get(key)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ValueError(
            f"{site}: this configuration is damaged, it has {value!r:.100} as "
            f"{key!r} of {dict(node)!s:.200}"
        )
    return value


def encode_spec(value: Any, site: str) -> dict[str, Any]:
    """Writes the shape and dtype of an array.

    Args:
        value: Anything with a `shape` and a `dtype`.
        site: Where it stands, for messages.

    Returns:
        The dict for `decode_spec`.

    Raises:
        TypeError: If the dtype is not a number's.
    """
    dtype = value.dtype
    if isinstance(dtype, str):  # As variables of Keras have it.
        dtype = _DTYPES.get(dtype, dtype)
    return {
        "type": "spec",
        "shape": [int(size) for size in value.shape],
        "dtype": _dtype_name(dtype, site),
    }


def decode_spec(node: Mapping[str, Any], site: str) -> jax.ShapeDtypeStruct:
    """Reads what `encode_spec` wrote; allocates nothing.

    Args:
        node: The dict.
        site: Where it stands, for messages.

    Returns:
        The shape and dtype.

    Raises:
        ValueError: If either is not valid, or the shape is larger than any
            machine could hold.
    """
    return jax.ShapeDtypeStruct(_shape(node, site), _named_dtype(node, site))


def _shape(node: Mapping[str, Any], site: str) -> tuple[int, ...]:
    shape = take(node, "shape", (list, tuple), site)
    if len(shape) > _MAX_RANK or not all(
        type(size) is int and 0 <= size <= MAX_ELEMENTS for size in shape
    ):
        raise ValueError(f"{site} has an invalid shape, {shape!r:.100}.")
    if math.prod(shape) > MAX_ELEMENTS:
        raise ValueError(
            f"{site} has the shape {shape!r:.100}, which is more than "
            f"{MAX_ELEMENTS} elements."
        )
    return tuple(shape)


def _dtype_name(dtype: Any, site: str) -> str:
    # By equality as well, which tells byte orders apart.
    name = getattr(dtype, "name", None)
    if not isinstance(name, str) or _DTYPES.get(name) != dtype:
        raise TypeError(
            f"{site} has the dtype {dtype!r}, and only numbers in native byte "
            "order can be written to a configuration."
        )
    return name


def _named_dtype(node: Mapping[str, Any], site: str) -> np.dtype:
    name = take(node, "dtype", str, site)
    if name not in _DTYPES:
        raise ValueError(f"{site} has an unknown dtype, {name!r:.100}.")
    return _DTYPES[name]


_FLOATS = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}


def _decode_float(node: Mapping[str, Any], site: str) -> float:
    text = take(node, "value", str, site)
    if text not in _FLOATS:
        raise ValueError(f"{site} has an invalid number, {text!r:.100}.")
    return _FLOATS[text]


def _decode_complex(node: Mapping[str, Any], site: str) -> complex:
    try:
        return complex(take(node, "value", str, site))
    except ValueError:
        raise ValueError(f"{site} has an invalid complex number.") from None


def _encode_bytes(value: bytes, site: str) -> dict[str, Any]:
    if len(value) > MAX_ARRAY_BYTES:
        raise ValueError(
            f"{site} holds {len(value)} bytes, more than the "
            f"{MAX_ARRAY_BYTES} a configuration may hold. Weights belong in "
            "the variables of the layer."
        )
    return {"data": base64.b64encode(value).decode("ascii")}


def _decode_bytes(node: Mapping[str, Any], site: str) -> bytes:
    text = take(node, "data", str, site)
    if len(text) > 2 * MAX_ARRAY_BYTES:
        raise ValueError(f"{site} holds more data than a configuration may.")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"{site} holds data that is not base64.") from None


def _encode_slice(value: slice, site: str) -> dict[str, Any]:
    parts = [value.start, value.stop, value.step]
    if not all(part is None or type(part) is int for part in parts):
        raise TypeError(f"{site} is a slice of something else than integers.")
    return {"parts": parts}


def _decode_slice(node: Mapping[str, Any], site: str) -> slice:
    parts = take(node, "parts", (list, tuple), site)
    if len(parts) != 3 or not all(
        part is None or type(part) is int for part in parts
    ):
        raise ValueError(f"{site} has an invalid slice, {parts!r:.100}.")
    return slice(*parts)


def _is_dtype(value: Any) -> bool:
    return (
        isinstance(value, np.dtype)
        or issubclass(type(value), _JAX_SCALAR)
        or (issubclass(type(value), type) and issubclass(value, np.generic))
        or any(value is dtype for dtype in _PYTHON_DTYPES.values())
    )


def _encode_dtype(value: Any, site: str) -> dict[str, Any]:
    # A module may tell `jnp.float32` from `np.float32` and from its dtype, so
    # each comes back as what it was.
    if any(value is dtype for dtype in _PYTHON_DTYPES.values()):
        return {"form": "python", "dtype": value.__name__}
    if issubclass(type(value), _JAX_SCALAR):
        return {"form": "jax", "dtype": _dtype_name(value.dtype, site)}
    if isinstance(value, np.dtype):
        return {"form": "dtype", "dtype": _dtype_name(value, site)}
    for name, dtype in _DTYPES.items():
        if dtype.type is value:
            return {"form": "numpy", "dtype": name}
    raise TypeError(f"{site} is {value!r}, which is no dtype of JAX.")


def _decode_dtype(node: Mapping[str, Any], site: str) -> Any:
    form = take(node, "form", str, site)
    name = take(node, "dtype", str, site)
    forms: dict[str, Mapping[str, Any]] = {
        "python": _PYTHON_DTYPES,
        "jax": _JAX_DTYPES,
        "dtype": _DTYPES,
        "numpy": {name: dtype.type for name, dtype in _DTYPES.items()},
    }
    dtype = forms.get(form, {}).get(name)
    if dtype is None:
        raise ValueError(f"{site} has an unknown dtype, {name!r:.100}.")
    return dtype


def _encode_array(value: Any, site: str) -> dict[str, Any]:
    if isinstance(value, jax.core.Tracer):
        raise TypeError(f"{site} is a traced value, and has no value yet.")
    node: dict[str, Any] = {"form": "numpy"}
    if isinstance(value, np.generic):
        node["form"] = "numpy_scalar"
    elif isinstance(value, jax.Array):
        node["form"] = "jax"
        if getattr(value, "weak_type", False):
            # One number of that kind can be made again, an array cannot.
            if value.ndim:
                raise TypeError(
                    f"{site} is a weakly typed array. Give it a dtype, with "
                    "`jnp.asarray(value, dtype=...)`."
                )
            node["form"] = "jax_weak"
    spec = encode_spec(value, site)
    data = np.ascontiguousarray(np.asarray(value)).tobytes()
    spec.pop("type")
    return {**spec, **node, **_encode_bytes(data, site)}


def _decode_array(node: Mapping[str, Any], site: str) -> Any:
    form = take(node, "form", str, site)
    shape, dtype = _shape(node, site), _named_dtype(node, site)
    data = _decode_bytes(node, site)
    if math.prod(shape) * dtype.itemsize != len(data):
        raise ValueError(
            f"{site} has the shape {list(shape)} and the dtype {dtype.name}, "
            f"which {len(data)} bytes do not fill."
        )
    array = np.frombuffer(data, dtype).reshape(shape).copy()
    if form == "numpy":
        return array
    if form == "numpy_scalar" and not shape:
        return array[()]
    if form == "jax" or (form == "jax_weak" and not shape):
        return _jax_array(array, form == "jax_weak", site)
    raise ValueError(f"{site} has an unknown form of array, {form!r:.100}.")


def _jax_array(array: np.ndarray, weak: bool, site: str) -> jax.Array:
    if jax.dtypes.canonicalize_dtype(array.dtype) != array.dtype:
        raise ValueError(
            f"{site} is a JAX array of {array.dtype.name}, which needs "
            '`jax.config.update("jax_enable_x64", True)`.'
        )
    if weak:
        result = jnp.asarray(array.item())
        if result.dtype == array.dtype:
            return result
    return jnp.asarray(array)


def _encode_partition_spec(value: Any, site: str) -> dict[str, Any]:
    axes = [list(axis) if type(axis) is tuple else axis for axis in value]
    if (
        getattr(value, "unreduced", None)
        or getattr(value, "reduced", None)
        or not all(_is_axis(axis) for axis in axes)
    ):
        raise TypeError(
            f"{site} is {value!r}; a configuration has room only for axis "
            "names, tuples of them and None."
        )
    return {"axes": axes}


def _decode_partition_spec(node: Mapping[str, Any], site: str) -> Any:
    axes = take(node, "axes", (list, tuple), site)
    if not all(_is_axis(axis) for axis in axes):
        raise ValueError(f"{site} has invalid axes, {axes!r:.100}.")
    return jax.sharding.PartitionSpec(
        *(tuple(axis) if isinstance(axis, list) else axis for axis in axes)
    )


def _is_axis(axis: object) -> bool:
    if isinstance(axis, list):
        return all(isinstance(name, str) for name in axis)
    return axis is None or isinstance(axis, str)


LEAVES = (
    Leaf(
        "float",
        lambda value: type(value) is float,
        lambda value, site: {"value": str(value)},
        _decode_float,
    ),
    Leaf(
        "complex",
        lambda value: type(value) is complex,
        lambda value, site: {"value": str(value)},
        _decode_complex,
    ),
    Leaf(
        "bytes",
        lambda value: type(value) is bytes,
        _encode_bytes,
        _decode_bytes,
    ),
    Leaf(
        "slice",
        lambda value: type(value) is slice,
        _encode_slice,
        _decode_slice,
    ),
    Leaf(
        "ellipsis",
        lambda value: value is ...,
        lambda value, site: {},
        lambda node, site: ...,
    ),
    Leaf("dtype", _is_dtype, _encode_dtype, _decode_dtype),
    Leaf(
        "array",
        lambda value: isinstance(value, np.ndarray | np.generic | jax.Array),
        _encode_array,
        _decode_array,
    ),
    Leaf(
        "partition_spec",
        lambda value: isinstance(value, jax.sharding.PartitionSpec),
        _encode_partition_spec,
        _decode_partition_spec,
    ),
)
