"""What belongs into a wheel."""

import os
import shutil
import subprocess
import zipfile

import pytest

from tools.wheels import check_wheel

NAME = "flaxlayer-1.2.3-cp311-cp311-manylinux_2_28_x86_64.whl"
EXTENSION = "flaxlayer/_native.cpython-311-x86_64-linux-gnu.so"


@pytest.fixture
def sources(monkeypatch, tmp_path):
    """A package of two files beside one that is no part of it."""
    package = tmp_path / "python" / "flaxlayer"
    (package / "ops").mkdir(parents=True)
    for name in ("__init__.py", "ops/native.py", "py.typed", "BUILD"):
        (package / name).write_text(name)
    monkeypatch.setattr(check_wheel, "_PACKAGE", package)
    return package


@pytest.fixture
def library(tmp_path):
    """Compiles C into a shared library; returns what is in the file."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")

    def compiled(code, *flags):
        source, result = tmp_path / "code.c", tmp_path / "library.so"
        source.write_text(code)
        subprocess.run(
            ["cc", "-O0", "-shared", "-fPIC", *flags, "-o", result, source],
            check=True,
        )
        return result.read_bytes()

    return compiled


@pytest.fixture
def contents(sources, library):
    """The files of a wheel that is as it should be, by their names."""
    files = {
        f"flaxlayer/{name}": (sources / name).read_bytes()
        for name in ("__init__.py", "ops/native.py", "py.typed")
    }
    files[EXTENSION] = library("int PyInit__native(void) { return 0; }", "-s")
    for name in check_wheel._METADATA:
        files[f"flaxlayer-1.2.3.dist-info/{name}"] = b""
    return files


def problems(tmp_path, contents, name=NAME):
    wheel = tmp_path / name
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in contents.items():
            archive.writestr(path, data)
    return list(check_wheel.problems(wheel))


def test_wheel_as_it_should_be(tmp_path, contents, capsys):
    assert problems(tmp_path, contents) == []
    assert check_wheel.main([str(tmp_path / NAME)]) == 0
    assert "bytes" in capsys.readouterr().out


def test_missing_and_other_files(tmp_path, contents, capsys):
    del contents["flaxlayer/ops/native.py"]
    contents["flaxlayer/BUILD"] = b""
    assert problems(tmp_path, contents) == [
        "flaxlayer/ops/native.py is missing",
        "flaxlayer/BUILD does not belong there",
    ]
    assert check_wheel.main([str(tmp_path / NAME)]) == 1
    assert f"{NAME}: flaxlayer/BUILD does not" in capsys.readouterr().out


def test_number_of_extensions(tmp_path, contents):
    data = contents.pop(EXTENSION)
    assert problems(tmp_path, contents) == [
        "it must have one extension. Received: []"
    ]
    contents[EXTENSION] = data
    contents[EXTENSION.replace("311", "312")] = data
    (problem,) = problems(tmp_path, contents)
    assert "one extension" in problem
    assert "312" in problem


def test_size(tmp_path, contents):
    contents["flaxlayer/py.typed"] = os.urandom(check_wheel._MAX_BYTES)
    (problem,) = problems(tmp_path, contents)
    assert "must have less than 500000" in problem


def test_wheel_that_was_not_repaired(tmp_path, contents):
    name = NAME.replace("manylinux_2_28", "linux")
    (problem,) = problems(tmp_path, contents, name)
    assert "this machine's Linux" in problem


def test_symbols_of_the_extension(tmp_path, contents, library):
    contents[EXTENSION] = library(
        "static int hidden(void) { return 1; }\n"
        "int PyInit__native(void) { return hidden(); }\n"
        "int other(void) { return 2; }\n"
    )
    exported, local = problems(tmp_path, contents)
    assert "PyInit__native alone" in exported
    assert "other" in exported
    assert "not stripped" in local
