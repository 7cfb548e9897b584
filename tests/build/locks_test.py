"""The check of lock files, with an index of three packages."""

import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig
import zipfile

import pytest

SCRIPTS = sysconfig.get_path("scripts")
LOCKS = pathlib.Path("tools/locks.py").resolve()
PYPROJECT = """\
[build-system]
requires = ["builder"]
[project]
name = "layers"
version = "1"
dependencies = ["numbers-of>=2.0"]
[dependency-groups]
test = ["tester>=1"]
"""

pytestmark = pytest.mark.skipif(
    not shutil.which("uv", path=SCRIPTS), reason="of the linters"
)


def run(folder, *arguments):
    """Runs locks.py in a repository; its status and what it prints."""
    done = subprocess.run(
        [sys.executable, LOCKS, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        env={"PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}"},
    )
    assert not done.stderr
    return done.returncode, done.stdout


@pytest.fixture(scope="module")
def locked(tmp_path_factory):
    """A repository with lock files."""
    folder = tmp_path_factory.mktemp("repository")
    for name, version in (
        ("builder", "1.0"),
        ("numbers_of", "2.0"),
        ("numbers_of", "2.1"),
        ("tester", "1.0"),
    ):
        stem = f"{name}-{version}"
        wheel = folder / f"{stem}-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            metadata = (
                f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
            )
            archive.writestr(f"{stem}.dist-info/METADATA", metadata)
            archive.writestr(f"{stem}.dist-info/RECORD", "")
            archive.writestr(
                f"{stem}.dist-info/WHEEL",
                "Wheel-Version: 1.0\nTag: py3-none-any\n",
            )
    requirements = folder / "tools/requirements"
    requirements.mkdir(parents=True)
    (folder / "pyproject.toml").write_text(PYPROJECT)
    (folder / "uv.toml").write_text(
        'no-index = true\nfind-links = ["."]\ncache-dir = "cache"\n'
    )
    (requirements / "sources").write_text(
        "# What is locked.\nbuild -\ndev pyproject.toml --group test\n"
        "floor pyproject.toml --resolution lowest-direct\n"
    )
    assert run(folder) == (0, "")
    assert "numbers-of==2.1 " in (requirements / "dev.txt").read_text()
    assert "numbers-of==2.0 " in (requirements / "floor.txt").read_text()
    return folder


@pytest.fixture
def repository(locked, tmp_path):
    return shutil.copytree(locked, tmp_path / "copy")


def check(repository, name, old, new):
    """What the check prints after one text was replaced by another."""
    assert run(repository, "--check") == (0, "")
    path = repository / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    status, printed = run(repository, "--check")
    assert status == 1
    assert printed.endswith("Run tools/dev lock.\n")
    return printed


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('of>=2.0"', 'of>=2.0", "builder"', "+builder==1.0 "),
        ('"numbers-of>=2.0"', "", "-numbers-of==2.1 "),
        ("of>=2.0", "of>=2.1", "+numbers-of==2.1 "),
        ('["builder"]', '["tester"]', "+tester==1.0 "),
        ("test =", "lint =", "dev.txt: error: The dependency group 'test'"),
    ],
)
def test_a_changed_requirement_is_found(repository, old, new, expected):
    printed = check(repository, "pyproject.toml", old, new)
    assert expected in printed


def test_a_version_edited_by_hand_is_found(repository):
    name = "tools/requirements/dev.txt"
    printed = check(repository, name, "tester==1.0", "tester==0.9")
    assert "-tester==0.9 " in printed
    assert name in printed


def test_a_newer_version_elsewhere_changes_nothing(repository):
    lock = repository / "tools/requirements/dev.txt"
    text = lock.read_text()
    lock.write_text(text.replace("of==2.1", "of==2.0"))
    assert run(repository, "--check") == (0, "")


def test_a_file_that_nothing_is_resolved_into_is_found(repository):
    sources = "tools/requirements/sources"
    printed = check(repository, sources, "build -\n", "")
    assert printed.startswith("tools/requirements/build.txt: not in ")


def test_a_file_that_is_missing_is_found(repository):
    sources = "tools/requirements/sources"
    printed = check(repository, sources, "build -\n", "build -\nwheel -\n")
    assert "+builder==1.0 " in printed
