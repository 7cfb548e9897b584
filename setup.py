"""Compiles flaxlayer._native for pip; everything else is in pyproject.toml.

Bazel is the project's own build. This one serves `pip install .`, and where
the extension cannot be compiled it installs the package without it: every
operation has a pure JAX version. The reason is written into the package, where
flaxlayer.explain_kernels() finds it.
"""

import atexit
import importlib.util
import pathlib
import shutil
import sys
import tempfile

import setuptools
from setuptools.command import build_ext

_ROOT = pathlib.Path(__file__).parent
_NOTE = "_native_unavailable.txt"
_KERNELS = str(pathlib.Path("csrc", "kernels"))
# Nothing is exported but the function that Python calls, and the rest has no
# symbols.
_LINK_ARGS = {
    "linux": [
        "-Wl,--version-script=tools/bazel/pyinit_only.lds",
        "-Wl,--strip-all",
    ],
    "darwin": ["-Wl,-exported_symbol,_PyInit_*", "-Wl,-x"],
}


def _xla_ffi_include() -> str:
    """The folder of xla/ffi/api/ffi.h, which jaxlib ships."""
    spec = importlib.util.find_spec("jaxlib")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("jaxlib, which has the XLA FFI headers")
    return str(pathlib.Path(spec.submodule_search_locations[0], "include"))


class BuildNative(build_ext.build_ext):
    """build_ext that leaves a note where it would otherwise fail."""

    def build_extension(self, ext):
        library = pathlib.Path(self.get_ext_fullpath(ext.name))
        note = library.with_name(_NOTE)
        note.unlink(missing_ok=True)
        try:
            import pybind11

            ext.include_dirs += [pybind11.get_include(), _xla_ffi_include()]
            # Kernels for speed; the rest, which checks operands, for size.
            kernels = [s for s in ext.sources if s.startswith(_KERNELS)]
            ext.extra_objects += self.compiler.compile(
                kernels,
                output_dir=self.build_temp,
                include_dirs=ext.include_dirs,
                extra_postargs=[*ext.extra_compile_args, "-O2"],
                depends=ext.depends,
            )
            ext.sources = [s for s in ext.sources if s not in kernels]
            ext.extra_compile_args += ["-Os"]
            super().build_extension(ext)
        except Exception as error:  # whatever it is, pure JAX still works
            library.unlink(missing_ok=True)
            reason = f"{type(error).__name__}: {error}"
            note.parent.mkdir(parents=True, exist_ok=True)
            note.write_text(reason + "\n", encoding="utf-8")
            print(
                "WARNING: flaxlayer is installed without its native kernels, "
                f"which could not be compiled.\nWARNING: {reason}\n"
                "WARNING: Pure JAX versions are used in their place.",
                file=sys.stderr,
            )


# A fresh folder for each build: a library left over from an earlier one must
# not end up in a wheel, and `build` beside `BUILD` would be one file where
# names ignore case.
_build_base = tempfile.mkdtemp(prefix="flaxlayer-build-")
atexit.register(shutil.rmtree, _build_base, ignore_errors=True)

setuptools.setup(
    cmdclass={"build_ext": BuildNative},
    ext_modules=[
        setuptools.Extension(
            "flaxlayer._native",
            # Every C++ file under csrc is part of the extension; the tests
            # are elsewhere. tests/build compares this with Bazel's list.
            sources=sorted(
                str(path.relative_to(_ROOT))
                for path in _ROOT.glob("csrc/**/*.cc")
            ),
            include_dirs=["."],
            # Of older versions of glibc, which have dlopen there.
            libraries=["dl"] if sys.platform == "linux" else [],
            extra_compile_args=["-std=c++17", "-fvisibility=hidden"],
            extra_link_args=_LINK_ARGS.get(sys.platform, []),
            language="c++",
            optional=True,  # an editable install copies it if it is there
        )
    ],
    options={"build": {"build_base": _build_base}},
)
