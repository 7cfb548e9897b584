"""What Bazel and pip make of the C++ sources."""

import os
import pathlib
import re
import runpy
import subprocess

import setuptools
from setuptools.command import build_ext

LINKER_SCRIPT = "tools/bazel/pyinit_only.lds"


class Compiler:
    """Stands in for setuptools' compiler: remembers what it was told."""

    def __init__(self):
        self.flags = {}  # of each source

    def compile(self, sources, *, extra_postargs, **_):
        self.flags |= dict.fromkeys(sources, extra_postargs)
        return [source + ".o" for source in sources]


def compiled_by_pip(monkeypatch, tmp_path):
    """The extension of setup.py, and the flags of each of its sources."""
    kept = {}
    monkeypatch.setattr(setuptools, "setup", lambda **setup: kept.update(setup))
    runpy.run_path("setup.py")
    (extension,) = kept["ext_modules"]
    compiler = Compiler()

    monkeypatch.setattr(
        build_ext.build_ext,
        "build_extension",
        lambda _, ext: compiler.compile(
            ext.sources, extra_postargs=ext.extra_compile_args
        ),
    )
    command = kept["cmdclass"]["build_ext"](setuptools.Distribution())
    command.compiler = compiler
    command.build_lib = command.build_temp = str(tmp_path)
    command.extensions, command.inplace, command.package = [extension], 0, None
    command.build_extension(extension)
    notes = list(tmp_path.rglob("_native_unavailable.txt"))
    assert not notes, notes[0].read_text()
    return extension, compiler.flags


def bazelrc(option):
    """The values of an option of every Bazel build."""
    text = pathlib.Path(".bazelrc").read_text()
    lines = [line for line in text.splitlines() if line.startswith("build ")]
    return re.findall(rf" --{option}=(\S+)", "\n".join(lines))


def test_bazel_compiles_every_file_that_pip_compiles(monkeypatch, tmp_path):
    # setup.py takes every .cc file below csrc; so does this test's data.
    on_disk = {str(path) for path in pathlib.Path("csrc").glob("**/*.cc")}
    listing = pathlib.Path(os.environ["NATIVE_SOURCES"]).read_text()
    labels = (line.removeprefix("//") for line in listing.split())
    compiled = {label.replace(":", "/") for label in labels}
    assert compiled
    assert compiled == on_disk
    _, flags = compiled_by_pip(monkeypatch, tmp_path)
    assert flags.keys() == compiled


def test_both_optimise_each_file_alike(monkeypatch, tmp_path):
    _, flags = compiled_by_pip(monkeypatch, tmp_path)
    assert bazelrc("compilation_mode") == ["opt"]  # which is -O2
    ((pattern, flag),) = (v.split("@") for v in bazelrc("per_file_copt"))
    for source, given in flags.items():
        expected = flag if re.search(pattern, source) else "-O2"
        assert [f for f in given if f.startswith("-O")] == [expected], source
    assert {"-O2", "-Os"} <= {f for given in flags.values() for f in given}


def test_both_compile_the_same_language_and_hide_symbols(monkeypatch, tmp_path):
    _, flags = compiled_by_pip(monkeypatch, tmp_path)
    (standard,) = bazelrc("cxxopt")
    rule = pathlib.Path("tools/bazel/pybind_extension.bzl").read_text()
    assert '"-fvisibility=hidden"' in rule
    for source, given in flags.items():
        assert {standard, "-fvisibility=hidden"} <= set(given), source


def test_both_link_with_the_same_script(monkeypatch, tmp_path):
    extension, _ = compiled_by_pip(monkeypatch, tmp_path)
    script = f"-Wl,--version-script={LINKER_SCRIPT}"
    assert extension.extra_link_args == [script, "-Wl,--strip-all"]
    rule = pathlib.Path("tools/bazel/pybind_extension.bzl").read_text()
    label = "//" + ":".join(LINKER_SCRIPT.rsplit("/", 1))
    assert f'exports = "{label}"' in rule
    assert '"-Wl,--version-script=$(location {})".format(exports)' in rule
    assert '["-Wl,--strip-all"]' in rule
    assert LINKER_SCRIPT in pathlib.Path("MANIFEST.in").read_text()


def test_extension_exports_its_init_function_only():
    symbols = subprocess.run(
        ["nm", "--dynamic", "--extern-only", "--defined-only", "--just-symbols"]
        + [os.environ["NATIVE_SO"]],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    assert symbols == ["PyInit__native"]
