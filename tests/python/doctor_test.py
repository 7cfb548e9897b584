"""What the doctor finds, and the commands that it gives."""

import importlib.metadata
import os
import pathlib
import re
import subprocess
import sys
import tomllib
import types

import jax
import pytest

import flaxlayer
from flaxlayer import backend, doctor, jax_compat
from flaxlayer.ops import native

# Imported now, before tests make up what is installed.
_ = flaxlayer.FlaxLayer

REINSTALL = "python -m pip install --force-reinstall --no-deps --no-cache-dir"
PROJECT = tomllib.loads(pathlib.Path("pyproject.toml").read_text())["project"]


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Makes packages look installed: their metadata, before all others."""
    monkeypatch.setattr(backend, "ASKED", None)
    for name in os.environ:
        if name.startswith(("JAX_", "XLA_")):
            monkeypatch.delenv(name)

    def installed(requires=(), **versions):
        extras = PROJECT["optional-dependencies"]
        lines = [f"Provides-Extra: {extra}" for extra in extras]
        lines += [f"Requires-Dist: {line}" for line in requires]
        versions["flaxlayer"] = flaxlayer.__version__
        for name, version in versions.items():
            folder = tmp_path / f"{name}-{version}.dist-info"
            folder.mkdir()
            head = ["Metadata-Version: 2.1", f"Name: {name}"]
            head.append(f"Version: {version}")
            head += lines if name == "flaxlayer" else []
            (folder / "METADATA").write_text("\n".join(head) + "\n")
        monkeypatch.syspath_prepend(tmp_path)

    return installed


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Makes the package lie in a folder that is no checkout."""
    package = tmp_path / "lib/site/flaxlayer"
    package.mkdir(parents=True)
    monkeypatch.setattr(flaxlayer, "__file__", str(package / "__init__.py"))
    return package


@pytest.fixture
def report(capsys):
    """Runs the doctor; its exit status and report."""

    def report():
        status = doctor.run()
        return status, capsys.readouterr().out

    return report


def fixes(text):
    return re.findall(r"^ {4}fix: (.*)$", text, re.MULTILINE)


def section(text, title):
    """The facts of a section by their labels, with runs of spaces as one."""
    _, _, rest = text.partition(f"\n{title}\n")
    facts, label = {}, None
    for line in rest.partition("\n\n")[0].splitlines():
        if match := re.match(r"  (\S.{19,}?) (\S.*)$", line):
            label = match[1].strip()
            facts[label] = " ".join(match[2].split())
        elif label and "fix: " not in line:
            facts[label] += " " + line.strip()
    return facts


def test_an_installation_as_the_metadata_ask_for_it(
    installed, report, native_kernels
):
    lines = list(PROJECT["dependencies"])
    for extra, needed in PROJECT["optional-dependencies"].items():
        for line in needed:
            requirement, _, marker = line.partition(";")
            also = f" and {marker.strip()}" if marker else ""
            lines.append(f"{requirement}; extra == '{extra}'{also}")
    installed(lines)
    status, text = report()
    assert status == 0
    assert fixes(text) == []
    assert text.endswith("\nflaxlayer can be used.\n")
    for line in text.splitlines():
        # Only what is one word, a path, may be longer.
        assert len(line) <= 80 or len(line.split()[-1]) > 80 - 23, line

    packages = section(text, "Packages")
    assert set(packages) == {
        re.split("[<>=;]", line)[0].strip() for line in lines
    }
    keras = importlib.metadata.version("keras")
    assert re.fullmatch(rf"{keras} needs >=[\d.]+", packages["keras"])
    assert packages["safetensors"].endswith(" for [safetensors]")

    assert section(text, "Keras's backend") == {
        "KERAS_BACKEND": "not set",
        "in use": "jax",
    }
    assert section(text, "JAX") == {
        "jax_enable_x64": "False",
        "devices": "1 x cpu (cpu)",
    }
    kernels = section(text, "Kernels")
    assert kernels["rng_fold"] == "native: the extension is loaded"
    info = native.build_info()
    assert kernels["instructions used"] == info["instruction_set"]
    built = tuple(map(int, kernels["XLA FFI of kernels"].split(".")))
    assert built == tuple(info["xla_ffi_api"])
    assert built <= tuple(map(int, kernels["XLA FFI of jaxlib"].split(".")))
    # The kernels use the best of what the processor has.
    sets = kernels["processor has"].split()
    used = {"avx512": "avx512f", "neon": "asimd"}.get(
        info["instruction_set"], info["instruction_set"]
    )
    assert used == sets[-1]


def test_a_version_that_is_too_old_is_off(installed, report):
    installed(["jax>=0.8.0", "numpy>=1"], jax="0.7.2")
    status, text = report()
    assert status == 1
    packages = section(text, "Packages")
    assert packages["jax"] == "0.7.2 needs >=0.8.0: not this version"
    assert fixes(text)[0] == "python -m pip install 'jax>=0.8.0'"
    assert "cannot be relied on before this is fixed" in text


def test_a_package_that_is_missing_is_off(installed, report):
    installed(["never-there>=1.5,<2"])
    status, text = report()
    assert status == 1
    assert section(text, "Packages") == {
        "never-there": "missing needs <2,>=1.5"
    }
    assert fixes(text)[0] == "python -m pip install 'never-there<2,>=1.5'"


def test_what_an_extra_asks_for_may_be_missing_but_not_old(installed, report):
    installed(
        [
            "never-there>=2; extra == 'examples'",
            "safetensors>=9; extra == 'safetensors'",
            "safetensors>=8; extra == 'examples'",
        ],
        safetensors="0.1",
    )
    status, text = report()
    assert status == 0
    packages = section(text, "Packages")
    assert packages["never-there"] == "missing needs >=2 for [examples]"
    assert packages["safetensors"] == (
        "0.1 needs >=8,>=9 for [safetensors,examples]: not this version"
    )
    assert fixes(text)[0] == "python -m pip install 'safetensors>=8,>=9'"


def test_only_what_this_python_needs_counts(installed, report):
    installed(
        [
            "keras>=3",
            "keras>=3.1; python_version >= '3.11'",
            "keras>=99; python_version >= '3.99'",
            "never-there; python_version < '3'",
        ]
    )
    status, text = report()
    assert status == 0
    (keras,) = section(text, "Packages").items()
    assert keras[0] == "keras"
    assert keras[1].endswith(" needs >=3,>=3.1")


def test_without_pip_there_are_no_metadata_to_compare_with(monkeypatch, report):
    def requires(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", requires)
    status, text = report()
    packages = section(text, "Packages")
    assert status == 0
    assert packages["jax"] == jax.__version__
    assert "pip has not installed flaxlayer" in packages["numpy"]


def test_versions_are_shown_where_they_cannot_be_compared(
    installed, report, monkeypatch
):
    installed(["jax>=99"])
    monkeypatch.setitem(sys.modules, "packaging", None)
    status, text = report()
    assert status == 0
    assert section(text, "Packages")["jax"] == jax.__version__
    assert "`packaging` is missing" in section(text, "Packages")["numpy"]


def test_jax_that_finds_no_device_is_off(installed, report, monkeypatch):
    def devices():
        raise AssertionError

    installed()
    monkeypatch.setattr(jax, "devices", devices)
    status, text = report()
    assert status == 1
    assert section(text, "JAX")["does not start"] == "AssertionError:"
    assert fixes(text)[0] == "python -m pip install --upgrade jax jaxlib"
    monkeypatch.setenv("JAX_PLATFORMS", "other")
    status, text = report()
    assert status == 1
    assert section(text, "JAX")["JAX_PLATFORMS"] == "other"
    assert fixes(text)[0] == "unset JAX_PLATFORMS"


def test_devices_are_counted(installed, report, monkeypatch):
    def device(kind):
        return types.SimpleNamespace(device_kind=kind, platform="gpu")

    installed()
    kinds = ["H200", "H200"]
    monkeypatch.setattr(jax, "devices", lambda *_: list(map(device, kinds)))
    _, text = report()
    assert section(text, "JAX")["devices"] == "2 x H200 (gpu)"


@pytest.mark.parametrize("alike", [True, False])
def test_what_holds_on_a_mesh(installed, report, monkeypatch, alike):
    installed()
    monkeypatch.setattr(jax_compat, "rounds_alike_in_parts", lambda: alike)
    status, text = report()
    assert status == 0
    mesh = section(text, "Over a mesh of devices")
    assert mesh["processes"] == "1"
    assert mesh["kernels"].startswith("those above: each device")
    begins = "each device computes" if alike else "computed whole on one"
    assert mesh["weights in parts"].startswith(begins)


def test_without_native_kernels_it_can_be_used(
    site, installed, report, monkeypatch
):
    installed()
    reason = "no compiler found " + "and so on " * 9
    missing = native._Status(None, reason.strip())
    monkeypatch.setattr(native, "_load", lambda: missing)
    status, text = report()
    assert status == 0
    assert text.endswith("\nflaxlayer can be used.\n")
    kernels = section(text, "Kernels")
    assert kernels["threefry"] == "reference"
    assert kernels["native kernels"].startswith(f"none: {missing.reason}")
    assert "The others compute the same" in kernels["native kernels"]
    assert fixes(text) == [f"{REINSTALL} flaxlayer"]


@pytest.mark.parametrize(
    ("origin", "source"),
    [
        ('{"url": "file:///a%20b", "dir_info": {}}', "file:///a%20b"),
        ('{"url": "file:///a.whl", "archive_info": {}}', "flaxlayer"),
    ],
)
def test_kernels_are_compiled_from_where_the_package_came_from(
    origin, source, site, installed, tmp_path
):
    installed()
    (folder,) = tmp_path.glob("flaxlayer-*.dist-info")
    (folder / "direct_url.json").write_text(origin)
    assert doctor._rebuild() == f"{REINSTALL} {source}"


def test_the_kernels_of_a_checkout_are_compiled_in_it(site):
    (site.parents[1] / "setup.py").touch()
    assert doctor._rebuild() == f"{REINSTALL} -e {site.parents[1]}"


def test_kernels_for_a_newer_xla_ask_for_a_newer_jaxlib(
    installed, report, monkeypatch
):
    installed()
    info = {
        "compiler": "C",
        "cpp_standard": 201703,
        "xla_ffi_api": (0, 99),
        "instruction_set": "neon",
    }
    rejected = native._Status(
        types.SimpleNamespace(build_info=lambda: info), "incompatible"
    )
    monkeypatch.setattr(native, "_load", lambda: rejected)
    status, text = report()
    assert status == 0
    assert section(text, "Kernels")["XLA FFI of kernels"] == "0.99"
    assert fixes(text) == ["python -m pip install --upgrade jax jaxlib"]


def in_a_process(code, **environment):
    """Runs the doctor as `python -m` does, after some code."""
    run = "import runpy; runpy.run_module('flaxlayer.doctor', None, '__main__')"
    return subprocess.run(
        [sys.executable, "-c", f"{code}\n{run}"],
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_backend_that_is_not_installed_is_named():
    absent = "import sys; sys.modules['tensorflow'] = None"
    result = in_a_process(absent, KERAS_BACKEND="tensorflow")
    assert result.returncode == 1
    assert fixes(result.stdout) == [
        "python -m pip install 'flaxlayer[tensorflow]'"
    ]
    assert "asks for TensorFlow" in result.stdout


def test_it_starts_with_another_backend():
    result = in_a_process("", KERAS_BACKEND="torch")
    assert result.returncode == 1
    assert section(result.stdout, "Keras's backend") == {
        "KERAS_BACKEND": "torch"
    }
    assert "export KERAS_BACKEND=jax" in fixes(result.stdout)
    assert "rng_fold" in section(result.stdout, "Kernels")
    message = " ".join(result.stdout.split())
    assert "cannot be used: flaxlayer needs the JAX backend of K" in message
    assert "Traceback" not in result.stdout + result.stderr


def test_an_error_that_it_knows_no_remedy_for_is_shown_whole():
    result = in_a_process("import sys; sys.modules['flax'] = None")
    assert result.returncode == 1
    assert "flaxlayer cannot be used: import of flax halted" in result.stdout
    assert re.search(r"^Traceback \(most", result.stdout, re.MULTILINE)
    assert "\nModuleNotFoundError: import of flax" in result.stdout
    assert "Traceback" not in result.stderr
