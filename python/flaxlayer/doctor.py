"""Says what flaxlayer runs on, and how to mend what is off.

`python -m flaxlayer.doctor` has to start where flaxlayer cannot be used, so
everything that may be missing or broken is imported where it is looked at.
"""

import argparse
import importlib
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import platform
import re
import shlex
import sys
import textwrap
import traceback
from types import ModuleType
from typing import Any, NamedTuple

import flaxlayer
from flaxlayer import backend

DESCRIPTION = (
    "Says what flaxlayer runs on: versions, Keras's backend, JAX's devices, "
    "which kernels are in use and why. What is off is followed by a command "
    "that mends it. The exit status is 0 if flaxlayer can be used, also where "
    "it can without its native kernels."
)

_WIDTH = 80
_LABEL = 20

# Shown where there are no metadata to say what is needed.
_MAIN_PACKAGES = ("flax", "jax", "jaxlib", "keras", "numpy")

# Those that there are kernels for, as Linux calls them.
_INSTRUCTION_SETS = ("sse2", "avx2", "avx512f", "asimd")


class _Report:
    """Lines for people.

    Attributes:
        fixes: how many things are off without which flaxlayer is not to be
            used.
    """

    def __init__(self):
        self.fixes = 0
        self._lines: list[str] = []

    def section(self, title: str) -> None:
        self._lines += ["", title]

    def fact(self, label: str, text: object) -> None:
        self._lines += textwrap.wrap(
            " ".join(str(text).split()),
            _WIDTH,
            initial_indent=f"  {label:<{_LABEL}} ",
            subsequent_indent=" " * (3 + _LABEL),
            break_long_words=False,
            break_on_hyphens=False,
        ) or [f"  {label}"]

    def fix(self, command: str, *, needed: bool = True) -> None:
        """Adds a command, on one line, that mends what the line above says."""
        self._lines.append(f"    fix: {command}")
        self.fixes += needed

    def paragraph(self, text: str) -> None:
        self._lines += ["", *textwrap.wrap(text, _WIDTH)]

    def verbatim(self, text: str) -> None:
        self._lines += ["", *text.splitlines()]

    def __str__(self) -> str:
        return "\n".join(self._lines).lstrip("\n")


def run() -> int:
    """Prints the report.

    Returns:
        The exit status: 0 if flaxlayer can be used, with whatever kernels.
    """
    report = _Report()
    failure = _failure()
    _add_installation(report)
    _add_packages(report)
    jax = _add_jax(report)
    _add_kernels(report, jax)
    _add_mesh(report, jax)
    _add_backend(report)
    if failure is not None and not report.fixes:
        # Nothing that is known here, so all there is to say about it.
        report.verbatim("".join(traceback.format_exception(failure)))
    if failure is not None:
        report.paragraph(f"flaxlayer cannot be used: {failure}")
    elif report.fixes:
        report.paragraph("flaxlayer cannot be relied on before this is fixed.")
    else:
        report.paragraph("flaxlayer can be used.")
    print(report)
    return 1 if failure is not None or report.fixes else 0


def _failure() -> BaseException | None:
    """What keeps flaxlayer from being used, None if nothing does."""
    try:
        _ = flaxlayer.FlaxLayer
    except ImportError as error:
        return error.__cause__
    return None


def _add_installation(report: _Report) -> None:
    report.section(f"flaxlayer {flaxlayer.__version__}")
    report.fact("installed in", pathlib.Path(flaxlayer.__file__).parent)
    report.fact(
        "Python",
        f"{platform.python_version()} ({platform.python_implementation()}), "
        f"{sys.executable}",
    )
    report.fact("platform", platform.platform())


class _Need(NamedTuple):
    """A package that flaxlayer needs, or has use for.

    Attributes:
        versions: which, a `packaging.specifiers.SpecifierSet`.
        extras: of flaxlayer, that need it; none if it is always needed.
    """

    versions: Any
    extras: tuple[str, ...]


def _add_packages(report: _Report) -> None:
    report.section("Packages")
    try:
        needs = _needs()
    except importlib.metadata.PackageNotFoundError:
        reason = "pip has not installed flaxlayer"
    except ModuleNotFoundError:
        reason = "the package `packaging` is missing"
    else:
        for name, need in needs.items():
            _add_package(report, name, need)
        return
    for name in _MAIN_PACKAGES:
        version = _version(name)
        report.fact(name, version or "missing")
        if version is None:
            report.fix(_install(name))
    report.fact("", f"Not compared with what is needed: {reason}.")


def _needs() -> dict[str, _Need]:
    """What the metadata of the package say, for this Python.

    Raises:
        importlib.metadata.PackageNotFoundError: there are none.
        ModuleNotFoundError: there is nothing to read them with.
    """
    lines = importlib.metadata.requires("flaxlayer") or []
    # Keras needs it, and so it is missing where Keras is.
    from packaging import requirements, specifiers

    extras = importlib.metadata.metadata("flaxlayer").get_all("Provides-Extra")
    needs: dict[str, _Need] = {}
    for line in lines:
        requirement = requirements.Requirement(line)
        marker = requirement.marker
        always = marker is None or marker.evaluate({"extra": ""})
        asking = tuple(
            extra
            for extra in extras or []
            if not always and marker.evaluate({"extra": extra})
        )
        if not always and not asking:
            continue  # For another Python.
        known = needs.get(
            requirement.name, _Need(specifiers.SpecifierSet(), ())
        )
        needs[requirement.name] = _Need(
            known.versions & requirement.specifier,
            tuple(dict.fromkeys(known.extras + asking)),
        )
    return needs


def _add_package(report: _Report, name: str, need: _Need) -> None:
    version = _version(name)
    wanted = ",".join(sorted(map(str, need.versions)))
    fits = version and need.versions.contains(version, prereleases=True)
    report.fact(
        f"{name:<{_LABEL}} {version or 'missing':<11}",
        f"needs {wanted}"
        + (f" for [{','.join(need.extras)}]" if need.extras else "")
        + ("" if fits or version is None else ": not this version"),
    )
    # What an extra asks for may be missing, but not be another version.
    if not fits and (version or not need.extras):
        report.fix(_install(f"{name}{wanted}"), needed=not need.extras)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _install(requirement: str) -> str:
    return f"python -m pip install {shlex.quote(requirement)}"


def _add_backend(report: _Report) -> None:
    report.section("Keras's backend")
    report.fact("KERAS_BACKEND", backend.ASKED or "not set")
    if backend.ASKED not in (None, "", "jax", "tensorflow"):
        report.fix("export KERAS_BACKEND=jax")
    elif backend.ASKED == "tensorflow" and not backend.is_installed(
        "tensorflow"
    ):
        report.fact("tensorflow", "missing")
        report.fix(_install("flaxlayer[tensorflow]"))
    keras = sys.modules.get("keras")
    if keras is not None:
        report.fact("in use", keras.backend.backend())


def _add_jax(report: _Report) -> ModuleType | None:
    """Returns JAX, if it starts."""
    report.section("JAX")
    for name, value in sorted(os.environ.items()):
        if name.startswith(("JAX_", "XLA_")):
            report.fact(name, value)
    try:
        jax: Any = importlib.import_module("jax")
    except Exception as error:
        report.fact("does not start", _named(error))
        if not report.fixes:  # Otherwise that of a package is the first thing.
            report.fix("python -m pip install --upgrade jax jaxlib")
        return None
    report.fact("jax_enable_x64", jax.config.jax_enable_x64)
    try:
        devices = jax.devices()
    except Exception as error:
        report.fact("does not start", _named(error))
        report.fix(
            "unset JAX_PLATFORMS"
            if "JAX_PLATFORMS" in os.environ
            else "python -m pip install --upgrade jax jaxlib"
        )
        return None
    for kind in dict.fromkeys(device.device_kind for device in devices):
        count = sum(device.device_kind == kind for device in devices)
        report.fact("devices", f"{count} x {kind} ({devices[0].platform})")
    return jax


def _add_kernels(report: _Report, jax: ModuleType | None) -> None:
    report.section("Kernels")
    report.fact("processor has", " ".join(_instruction_sets()) or "not known")
    report.fact("XLA FFI of jaxlib", _written(_jaxlib_ffi()))
    if jax is None:
        return
    try:
        dispatch = importlib.import_module("flaxlayer.ops.dispatch")
        kernels = dispatch.explain_kernels()
    except Exception as error:
        report.fact("not known", _named(error))
        return
    info = kernels.build_info
    if info is not None:
        report.fact("XLA FFI of kernels", _written(info["xla_ffi_api"]))
        report.fact("compiled by", info["compiler"])
        report.fact("instructions used", info["instruction_set"])
    for name, op in kernels.ops.items():
        kernel = op.kernel or "none"
        # The reason is that of all, below, where there are none.
        report.fact(
            name, f"{kernel}: {op.reason}" if kernels.available else kernel
        )
    if kernels.available:
        return
    report.fact("native kernels", f"none: {kernels.unavailable_reason}")
    if info is not None and tuple(info["xla_ffi_api"]) > _jaxlib_ffi():
        report.fix("python -m pip install --upgrade jax jaxlib", needed=False)
    else:
        report.fact(
            "",
            "The others compute the same, some of it slower. To compile these "
            "takes a C++17 compiler.",
        )
        report.fix(_rebuild(), needed=False)


def _add_mesh(report: _Report, jax: Any) -> None:
    """What holds where weights and batches are split over devices."""
    if jax is None:
        return
    report.section("Over a mesh of devices")
    report.fact("processes", jax.process_count())
    report.fact(
        "kernels",
        "those above: each device computes its own part; the reference where "
        "`jax.shard_map` is over some axes only",
    )
    jax_compat = importlib.import_module("flaxlayer.jax_compat")
    report.fact(
        "weights in parts",
        "each device computes its own part"
        if jax_compat.rounds_alike_in_parts()
        else "computed whole on one device and then moved: JAX before 0.8.2 "
        "rounds numbers by their place",
    )


def _rebuild() -> str:
    """Compiles the extension again, from where the package came from."""
    source = "flaxlayer"
    checkout = pathlib.Path(flaxlayer.__file__).resolve().parents[2]
    if (checkout / "setup.py").exists():
        source = f"-e {shlex.quote(str(checkout))}"
    elif _version("flaxlayer"):
        # pip's note of what it was told to install, if that was no name.
        text = importlib.metadata.distribution("flaxlayer").read_text(
            "direct_url.json"
        )
        origin = json.loads(text or "{}")
        if "dir_info" in origin:
            source = shlex.quote(origin["url"])
    return (
        "python -m pip install --force-reinstall --no-deps --no-cache-dir "
        f"{source}"
    )


def _instruction_sets() -> list[str]:
    """What Linux says of the processor; nothing elsewhere."""
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return []
    line = re.search(r"^(?:flags|Features)\s*:(.*)", text, re.MULTILINE)
    flags = line[1].split() if line else []
    return [name for name in _INSTRUCTION_SETS if name in flags]


def _jaxlib_ffi() -> tuple[int, ...]:
    """The version in the headers that jaxlib ships, () if not known."""
    spec = importlib.util.find_spec("jaxlib")
    if spec is None or not spec.submodule_search_locations:
        return ()
    header = pathlib.Path(
        spec.submodule_search_locations[0], "include/xla/ffi/api/c_api.h"
    )
    try:
        text = header.read_text(encoding="utf-8")
    except OSError:
        return ()
    numbers = re.findall(r"#define XLA_FFI_API_M(?:AJ|IN)OR (\d+)", text)
    return tuple(map(int, numbers))


def _named(error: Exception) -> str:
    """An error in one line; the messages of some are empty."""
    return f"{type(error).__name__}: {error}"


def _written(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version)) or "not known"


if __name__ == "__main__":
    argparse.ArgumentParser(
        prog="python -m flaxlayer.doctor", description=DESCRIPTION
    ).parse_args()
    sys.exit(run())
