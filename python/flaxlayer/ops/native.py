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
from typing import Any, NamedTuple

import jax

_MODULE = "flaxlayer._native"

# Written by the pip build into the package directory where compiling failed.
_BUILD_NOTE = "_native_unavailable.txt"


class _Status(NamedTuple):
    """What became of loading; exactly one of the last two is None if usable."""

    module: types.ModuleType | None
    reason: str | None


def available() -> bool:
    """Whether the native handlers are loaded and registered with XLA.

    The first call imports the extension and starts JAX's platforms, so in a
    program over several processes it comes after
    `jax.distributed.initialize`. Later calls return what the first found.
    """
    return _load().reason is None


def unavailable_reason() -> str | None:
    """Why the native handlers cannot be used, or None if they can."""
    return _load().reason


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
        for target, handler in module.registrations().items():
            jax.ffi.register_ffi_target(target, handler, platform="cpu")
    except Exception as error:
        return _Status(module, f"its handlers were not registered: {error}")
    return _Status(module, None)


def _build_note() -> str | None:
    """The text that the pip build left, if it did."""
    path = pathlib.Path(__file__).parent.parent / _BUILD_NOTE
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except OSError:
        return None
