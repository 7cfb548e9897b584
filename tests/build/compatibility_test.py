"""The table of versions on which the tests passed."""

import importlib.metadata
import pathlib
import platform
import tomllib

import pytest
from packaging import requirements, specifiers, version

from tools import compatibility

PAGE = pathlib.Path("docs/compatibility.md").read_text()
PYPROJECT = tomllib.loads(pathlib.Path("pyproject.toml").read_text())
PACKAGES = slice(2, 2 + len(compatibility.PACKAGES))


def floors():
    """The oldest version of each package that any Python may have."""
    stated = map(requirements.Requirement, PYPROJECT["project"]["dependencies"])
    return {
        requirement.name: version.Version(specifier.version)
        for requirement in reversed(list(stated))
        for specifier in requirement.specifier
    }


def test_table_is_in_order():
    assert compatibility.write(PAGE, compatibility.read(PAGE)) == PAGE


def test_oldest_versions_were_run():
    oldest = tuple(str(floors()[name]) for name in compatibility.PACKAGES)
    requires = version.Version(PYPROJECT["project"]["requires-python"][2:])
    rows = [
        row
        for row in compatibility.read(PAGE)
        if row[1] == "oldest" and row[0].startswith(f"{requires}.")
    ]
    assert [row[PACKAGES] for row in rows] == [oldest]


def test_no_version_is_older_than_the_floor():
    for row in compatibility.read(PAGE):
        assert version.Version(row[0]) in specifiers.SpecifierSet(
            PYPROJECT["project"]["requires-python"]
        )
        for name, number in zip(
            compatibility.PACKAGES, row[PACKAGES], strict=True
        ):
            assert version.Version(number) >= floors()[name]


@pytest.fixture
def page(monkeypatch, tmp_path):
    page = tmp_path / "compatibility.md"
    page.write_text(compatibility.write(PAGE, []))
    monkeypatch.setattr(compatibility, "PAGE", page)
    return page


def test_passing_run_is_recorded(page):
    compatibility.main("newest", "1234", "0", "5")
    (row,) = compatibility.read(page.read_text())
    assert row[:2] == (platform.python_version(), "newest")
    assert row[PACKAGES] == tuple(
        importlib.metadata.version(name) for name in compatibility.PACKAGES
    )
    assert "1,234 passed, 5 skipped" in row


def test_next_run_replaces_its_row_only(page):
    compatibility.main("newest", "1", "0", "0")
    compatibility.main("oldest", "2", "0", "0")
    compatibility.main("newest", "3", "0", "0")
    rows = compatibility.read(page.read_text())
    assert [(row[1], row[8]) for row in rows] == [
        ("newest", "3 passed, 0 skipped"),
        ("oldest", "2 passed, 0 skipped"),
    ]


@pytest.mark.parametrize("counts", [("9", "1", "0"), ("0", "0", "0")])
def test_failing_run_removes_the_row(page, counts):
    compatibility.main("newest", "1", "0", "0")
    compatibility.main("newest", *counts)
    assert compatibility.read(page.read_text()) == []


def test_rows_are_by_python_then_dependencies():
    rows = [
        (python, dependencies, *compatibility.HEADER[2:])
        for python, dependencies in [
            ("3.12.1", "newest"),
            ("3.9.18", "oldest"),
            ("3.9.18", "newest"),
        ]
    ]
    table = compatibility.read(compatibility.write(PAGE, rows))
    assert table == [rows[2], rows[1], rows[0]]
