"""Reads an exported model: everything is compared before any of it is used."""

import hashlib
import os
import stat
from typing import Any

import jax
import jax.export

from flaxlayer.ops import native
from flaxlayer.serving import array_file, signature
from flaxlayer.serving.served import Served, ServedEndpoint, State
from flaxlayer.serving.signature import BadExport, Endpoint, Signature

# A program without its weights is hardly ever larger than a few megabytes.
_MAX_PROGRAM_BYTES = 2**31


def load(path: str | os.PathLike[str]) -> Served:
    """Reads a model that `flaxlayer.export` has written as `"stablehlo"`.

    It needs neither Keras nor Flax nor the code of the model. The programs in
    the file are code: checksums tell that it is whole, not who has written it.
    Load only what comes from where you would take a program from.

    Args:
        path: the folder.

    Returns:
        The model: called as it was called before. With several endpoints each
        of them is in `endpoints`.

    Raises:
        FileNotFoundError: there is no such folder.
        BadExport: it is no exported model, is not whole, or cannot be served
            here: it is for other platforms, calls handlers of other versions,
            or was written by a version of JAX that this one does not read.
    """
    path = os.fspath(path)
    try:
        return _load(path)
    except BadExport as error:
        raise BadExport(f"{path!r} cannot be served: {error}") from error


def _load(path: str) -> Served:
    text = _bytes(path, signature.FILE, signature.MAX_BYTES)
    try:
        found = signature.from_json(text.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise BadExport(f"{signature.FILE} is no text: {error}") from error
    _check_platform(found)
    for endpoint in found.endpoints.values():
        _check_handlers(endpoint)
        _check_bits(endpoint, found)
    for name, stored in found.files.items():
        _check_file(path, name, stored)
    programs = {
        name: _program(path, name, endpoint, found)
        for name, endpoint in found.endpoints.items()
    }
    arrays = array_file.read(
        os.path.join(path, signature.WEIGHTS_FILE), found.weights.values()
    )
    state = State({k: jax.device_put(v) for k, v in arrays.items()})
    return Served(
        found,
        {
            name: ServedEndpoint(name, endpoint, programs[name], state)
            for name, endpoint in found.endpoints.items()
        },
    )


def _bytes(path: str, name: str, most: int) -> bytes:
    """The contents of a file that is no larger than that."""
    if not os.path.isdir(path):
        raise FileNotFoundError(
            f"there is no folder {path!r}; `flaxlayer.export` writes one."
        )
    try:
        _check_regular(path, name)
        with open(os.path.join(path, name), "rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise BadExport(f"{name} cannot be read: {error}") from error
    if len(data) > most:
        raise BadExport(f"{name} has more than {most} bytes.")
    return data


def _check_regular(path: str, name: str) -> None:
    """Reports what is no file: reading a pipe would wait for its writer."""
    if not stat.S_ISREG(os.stat(os.path.join(path, name)).st_mode):
        raise BadExport(f"{name} is no file.")


def _check_platform(found: Signature) -> None:
    platform = jax.default_backend()
    known = (*found.platforms,)
    if "cuda" in known or "rocm" in known:
        known += ("gpu",)  # What JAX calls either of them where it runs.
    if platform not in known:
        raise BadExport(
            f"it was exported for the platforms {list(found.platforms)}. "
            f"Received: {platform!r}, the one that JAX has here. Export it "
            "with `platforms=`, or set JAX_PLATFORMS."
        )


def _check_handlers(endpoint: Endpoint) -> None:
    """Reports that handlers are missing; registers those that there are."""
    if not endpoint.handlers:
        return
    platform = "cuda" if jax.default_backend() == "gpu" else "cpu"
    reason = native.unavailable_reason(platform)
    if reason is not None:
        raise BadExport(
            f"it calls the native handlers {sorted(endpoint.handlers)}, which "
            f"cannot be used here: {reason}. Install a wheel that has them, or "
            'export the model with `kernels="auto"`.'
        )
    known = native.versions()
    for name, version in endpoint.handlers.items():
        if known.get(name) != version:
            raise BadExport(
                f"it calls version {version} of the native handler {name!r}. "
                f"Received: version {known.get(name)}, which this flaxlayer "
                "has. Export the model again with this one, or serve it with "
                "the one that exported it."
            )


def _check_bits(endpoint: Endpoint, found: Signature) -> None:
    """Reports numbers of 64 bits where JAX has none."""
    weights = (found.weights[name] for name in endpoint.weights)
    for array in (*endpoint.inputs, *weights):
        dtype = array_file.dtype_of(array)
        if jax.dtypes.canonicalize_dtype(dtype) != dtype:
            raise BadExport(
                f"{array.name!r} is of dtype {array.dtype}, which JAX has here "
                "no arrays of. Set JAX_ENABLE_X64=1, or call "
                '`jax.config.update("jax_enable_x64", True)` first.'
            )


def _check_file(path: str, name: str, stored: signature.StoredFile) -> None:
    try:
        _check_regular(path, name)
        size = os.path.getsize(os.path.join(path, name))
        if size != stored.size:
            raise BadExport(
                f"{name} must have {stored.size} bytes. Received: {size}."
            )
        with open(os.path.join(path, name), "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadExport(f"{name} cannot be read: {error}") from error
    if digest != stored.sha256:
        raise BadExport(
            f"{name} is not what was written: its SHA-256 must be "
            f"{stored.sha256}. Received: {digest}."
        )


def _program(path: str, name: str, endpoint: Endpoint, found: Signature) -> Any:
    """The function that a program file has, if it is the one described."""
    file = signature.program_file(name)
    data = _bytes(path, file, _MAX_PROGRAM_BYTES)
    try:
        exported = jax.export.deserialize(bytearray(data))
    # Whatever the bytes are, JAX may raise anything.
    except Exception as error:
        writer = found.written_by.get("jax", "unknown")
        raise BadExport(
            f"{file} cannot be read by JAX {jax.__version__}: "
            f"{type(error).__name__}: {error}. It was written by JAX {writer}; "
            "JAX reads what versions of the last six months have written."
        ) from error
    taken = [
        *(found.weights[weight] for weight in endpoint.weights),
        *endpoint.inputs,
    ]
    returned = [
        *endpoint.outputs,
        *(found.weights[weight] for weight in endpoint.state),
    ]
    for what, avals, arrays in (
        ("takes", exported.in_avals, taken),
        ("returns", exported.out_avals, returned),
    ):
        has = [([str(d) for d in a.shape], str(a.dtype)) for a in avals]
        said = [([str(d) for d in a.shape], a.dtype) for a in arrays]
        if has != said:
            raise BadExport(
                f"{file} {what} other arrays than {signature.FILE} says. "
                f"Expected: {said!r:.300}. Received: {has!r:.300}."
            )
    if tuple(exported.platforms) != found.platforms:
        raise BadExport(
            f"{file} is for the platforms {list(exported.platforms)}, not for "
            f"those of {signature.FILE}, {list(found.platforms)}."
        )
    return exported
