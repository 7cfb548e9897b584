"""Loads the compiled extension and registers its XLA FFI handlers.

The extension is optional. Whatever keeps it from loading, a build without a
compiler, a file for another Python, a jaxlib older than the headers it was
built with, is recorded as a reason and never raised: the reference
implementations stay in use.
"""

from __future__ import annotations

import functools
import importlib
import pathlib
import types
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax

_MODULE = "flaxlayer._native"

# Written by the pip build into the package directory where compiling failed.
_BUILD_NOTE = "_native_unavailable.txt"


class _Status(NamedTuple):
    """What became of loading; exactly one of the last two is None if usable."""

    module: types.ModuleType | None
    reason: str | None


def unavailable_reason(platform: str = "cpu") -> str | None:
    """Why the native handlers cannot be used, or None if they can.

    The first call imports the extension and starts JAX's platforms, so in a
    program over several processes it comes after
    `jax.distributed.initialize`. Later calls return what the first found.

    Args:
        platform: "cpu" or "cuda".
    """
    return _load_cuda() if platform == "cuda" else _load().reason


def build_info() -> dict[str, Any] | None:
    """What the extension was built with.

    Returns:
        A dict with `compiler` (str), `cpp_standard` (int, the value of
        `__cplusplus`), `xla_ffi_api` (the major and minor version of the
        headers) and `instruction_set` (str, what the kernels use on this
        machine, such as "avx2"), or None if the extension could not be
        imported. It is also there for an extension that was imported but
        rejected by XLA.
    """
    module = _load().module
    return None if module is None else module.build_info()


def versions() -> dict[str, int]:
    """The version of each handler, by the name of its target; {} for none."""
    module = _load().module
    return {} if module is None else module.versions()


def versioned(target: str) -> str:
    """What a handler is called in exported programs: with its version.

    Such a program may be loaded by another version of flaxlayer, whose handler
    takes something else. By this name XLA does not find it there.
    """
    return _versioned(target, versions()[target])


def called(targets: Iterable[str]) -> dict[str, int]:
    """The handlers, and their versions, among the targets of custom calls.

    Args:
        targets: as exported programs call them.
    """
    ours = {_versioned(name, v): (name, v) for name, v in versions().items()}
    return dict(ours[target] for target in targets if target in ours)


def _versioned(target: str, version: int) -> str:
    return f"{target}.v{version}"


@functools.cache
def _load() -> _Status:
    """Imports and registers once in a process.

    Two threads that come here first at the same time may both register; XLA
    takes the same handler under the same name twice.
    """
    try:
        module = importlib.import_module(_MODULE)
    except ModuleNotFoundError as error:
        if error.name != _MODULE:
            return _Status(None, f"importing {_MODULE} failed: {error}")
        return _Status(None, _build_note() or "the extension was not built")
    # An extension can raise anything while it is imported.
    except Exception as error:
        return _Status(None, f"importing {_MODULE} failed: {error}")
    try:
        # A handler that is registered before the platform is up is only
        # looked at when it comes up, and one that XLA then rejects, as it does
        # those built for a newer version, leaves JAX without a CPU. Registered
        # afterwards it is an error here.
        jax.devices("cpu")
        known = module.versions()
        for target, handler in module.registrations().items():
            for name in (target, _versioned(target, known[target])):
                jax.ffi.register_ffi_target(name, handler, platform="cpu")
    except Exception as error:
        return _Status(module, f"its handlers were not registered: {error}")
    return _Status(module, None)


@functools.cache
def _load_cuda() -> str | None:
    """As `_load`, for CUDA devices: why there are no handlers, or None."""
    module, reason = _load()
    if module is None:
        return reason
    try:
        jax.devices("cuda")
    except RuntimeError:
        return "there is no CUDA device"
    # Now, and not when a kernel is first called: XLA may be recording a graph.
    reason = module.load_cuda_kernels()
    if reason:
        return f"loading the kernels for CUDA failed: {reason}"
    known = module.versions()
    try:
        for target, handler in module.cuda_registrations().items():
            for name in (target, _versioned(target, known[target])):
                jax.ffi.register_ffi_target(name, handler, platform="CUDA")
    except Exception as error:
        return f"its handlers for CUDA were not registered: {error}"
    return None


def _build_note() -> str | None:
    """The text that the pip build left, if it did."""
    path = pathlib.Path(__file__).parent.parent / _BUILD_NOTE
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except OSError:
        return None
