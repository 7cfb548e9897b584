import os
import subprocess
import sys
import types

import jax
import pytest

from flaxlayer.ops import native


@pytest.fixture(autouse=True)
def fresh():
    """Loads the extension anew in the test, and once more after it."""
    native._load.cache_clear()
    yield
    native._load.cache_clear()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Stands in for the installed package's directory."""
    (tmp_path / "ops").mkdir()
    monkeypatch.setattr(native, "__file__", str(tmp_path / "ops/native.py"))
    return tmp_path


def fake_import(monkeypatch, outcome):
    def import_module(name):
        assert name == "flaxlayer._native"
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    # Not importlib's own function: pytest uses that too.
    fake = types.SimpleNamespace(import_module=import_module)
    monkeypatch.setattr(native, "importlib", fake)


def not_built():
    return ModuleNotFoundError(
        "No module named 'flaxlayer._native'", name="flaxlayer._native"
    )


def test_extension_that_was_not_built(monkeypatch, package):
    fake_import(monkeypatch, not_built())
    assert native.unavailable_reason() is not None
    assert native.unavailable_reason() == "the extension was not built"
    assert native.build_info() is None


def test_note_of_the_build(monkeypatch, package):
    (package / "_native_unavailable.txt").write_text("no compiler found\n")
    fake_import(monkeypatch, not_built())
    assert native.unavailable_reason() == "no compiler found"


def test_empty_note_of_the_build(monkeypatch, package):
    (package / "_native_unavailable.txt").write_text("\n")
    fake_import(monkeypatch, not_built())
    assert native.unavailable_reason() == "the extension was not built"


@pytest.mark.parametrize(
    "error",
    [
        ImportError("undefined symbol: _ZN3xla"),
        ModuleNotFoundError("No module named 'other'", name="other"),
        SystemError("initialization failed"),
    ],
)
def test_extension_that_cannot_be_imported(monkeypatch, package, error):
    (package / "_native_unavailable.txt").write_text("a note of before")
    fake_import(monkeypatch, error)
    reason = native.unavailable_reason()
    assert reason == f"importing flaxlayer._native failed: {error}"


def test_extension_that_is_rejected(monkeypatch):
    info = {"compiler": "C", "cpp_standard": 201703, "xla_ffi_api": (0, 99)}
    fake = types.SimpleNamespace(
        registrations=lambda: {"flaxlayer_test": object()},
        versions=lambda: {"flaxlayer_test": 1},
        build_info=lambda: info,
    )
    fake_import(monkeypatch, fake)

    def reject(*args, **kwargs):
        raise RuntimeError("incompatible API version")

    monkeypatch.setattr(jax.ffi, "register_ffi_target", reject)
    assert native.unavailable_reason() is not None
    assert native.unavailable_reason() == (
        "its handlers were not registered: incompatible API version"
    )
    assert native.build_info() == info


def test_imports_once(monkeypatch):
    imports = []
    fake_import(monkeypatch, not_built())
    load = native.importlib.import_module
    fake = types.SimpleNamespace(
        import_module=lambda name: imports.append(name) or load(name)
    )
    monkeypatch.setattr(native, "importlib", fake)
    native.unavailable_reason()
    native.unavailable_reason()
    native.build_info()
    assert len(imports) == 1


def test_build_info(native_kernels):
    info = native.build_info()
    assert set(info) == {
        "compiler",
        "cpp_standard",
        "instruction_set",
        "xla_ffi_api",
    }
    assert info["compiler"]
    assert info["cpp_standard"] >= 201703
    assert len(info["xla_ffi_api"]) == 2
    assert info["instruction_set"] in ("avx512", "avx2", "sse2", "neon")


def test_the_extension_offers_nothing_else(native_kernels):
    from flaxlayer import _native

    public = {name for name in dir(_native) if not name.startswith("_")}
    assert public == {
        "build_info",
        "cuda_kernels",
        "cuda_registrations",
        "load_cuda_kernels",
        "registrations",
        "versions",
    }
    assert set(_native.cuda_registrations()) == {
        "flaxlayer_fold_in",
        "flaxlayer_random_bits",
        "flaxlayer_random_split",
    }
    assert set(_native.versions()) == set(_native.registrations())
    assert set(_native.registrations()) == {
        "flaxlayer_fold_in",
        "flaxlayer_random_bits",
        "flaxlayer_random_block",
        "flaxlayer_random_split",
        "flaxlayer_rng_fold",
        "flaxlayer_state_merge",
    }


# A handler that says it was built for XLA FFI 99.0, made in Python, offered as
# the extension's before JAX has started.
REJECTED_BY_XLA = """
import ctypes, sys, types
import jax

@ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
def handler(call_frame):
    # XLA_FFI_CallFrame.extension_start -> XLA_FFI_Metadata_Extension.metadata
    # -> XLA_FFI_Metadata.api_version.{major,minor}_version
    extension = ctypes.c_void_p.from_address(call_frame + 8).value
    metadata = ctypes.c_void_p.from_address(extension + 24).value
    ctypes.c_int.from_address(metadata + 24).value = 99
    ctypes.c_int.from_address(metadata + 28).value = 0

extension = types.ModuleType("flaxlayer._native")
extension.registrations = lambda: {"flaxlayer_test": jax.ffi.pycapsule(handler)}
extension.versions = lambda: {"flaxlayer_test": 1}
extension.build_info = lambda: {}
sys.modules["flaxlayer._native"] = extension

from flaxlayer.ops import native

assert native.unavailable_reason() is not None
assert "99.0" in native.unavailable_reason(), native.unavailable_reason()
assert int(jax.numpy.int32(2) + 3) == 5
"""


def test_extension_for_a_newer_xla_leaves_jax_alone():
    result = subprocess.run(
        [sys.executable, "-c", REJECTED_BY_XLA],
        env={
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "KERAS_BACKEND": "jax",
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
