"""What belongs into an sdist."""

import io
import tarfile

import pytest

from tools.wheels import check_sdist

FILES = (
    "csrc/ffi/handler.cc",
    "pyproject.toml",
    "python/flaxlayer/__init__.py",
    "python/flaxlayer/py.typed",
)
MADE = ("PKG-INFO", "python/flaxlayer.egg-info/SOURCES.txt", "setup.cfg")


@pytest.fixture
def checkout(monkeypatch, tmp_path):
    folder = tmp_path / "checkout"
    for name in (*FILES, "csrc/ffi/BUILD", "tests/some_test.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    monkeypatch.setattr(check_sdist, "_CHECKOUT", folder)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (FILES, []),
        (FILES[1:], ["csrc/ffi/handler.cc is missing"]),
        (
            (*FILES, "tests/some_test.py", "csrc/ffi/BUILD"),
            [
                "csrc/ffi/BUILD does not belong there",
                "tests/some_test.py does not belong there",
            ],
        ),
        ((*FILES, "a/PKG-INFO"), ["a/PKG-INFO does not belong there"]),
    ],
)
def test_files(checkout, tmp_path, files, expected, capsys):
    sdist = tmp_path / "flaxlayer-1.2.tar.gz"
    with tarfile.open(sdist, "w:gz") as archive:
        for name in (*files, *MADE):
            archive.addfile(
                tarfile.TarInfo(f"flaxlayer-1.2/{name}"), io.BytesIO()
            )
    assert list(check_sdist.problems(sdist)) == expected
    assert check_sdist.main(str(sdist)) == bool(expected)
    assert len(capsys.readouterr().out.splitlines()) == len(expected)
