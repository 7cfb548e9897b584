"""Sdists of one commit are the same, whoever builds them."""

import os
import pathlib
import tarfile

from tools.wheels import build_sdist


def checkout(folder, mode):
    """A project of one file, with modes and times of its own."""
    (folder / "package").mkdir(parents=True)
    (folder / "pyproject.toml").write_text(
        '[project]\nname = "example"\nversion = "1.2"\n'
        '[tool.setuptools]\npackages = ["package"]\n'
    )
    code = folder / "package" / "__init__.py"
    code.write_text("")
    code.chmod(mode)
    os.utime(code, (mode, mode))
    return folder


def test_only_the_sources_and_the_time_decide(tmp_path, monkeypatch):
    sdists = []
    for name, mode in [("one", 0o600), ("two", 0o664)]:
        monkeypatch.chdir(checkout(tmp_path / name, mode))
        (pathlib.Path("dist")).mkdir()
        sdists.append(build_sdist.build(pathlib.Path("dist").resolve(), 10**9))
    one, two = sdists
    assert one.name == "example-1.2.tar.gz"
    assert one.read_bytes() == two.read_bytes()

    with tarfile.open(one) as archive:
        members = {member.name: member for member in archive}
    code = members["example-1.2/package/__init__.py"]
    assert (code.mode, code.mtime, code.uid, code.uname) == (
        *(0o644, 10**9, 0, ""),
    )
