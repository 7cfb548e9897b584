"""The version is stated once; the files that need it as well must agree."""

import datetime
import pathlib
import re

from packaging.version import Version

from flaxlayer import version
from tools.release import notes

CHANGELOG = notes.sections(pathlib.Path("CHANGELOG.md").read_text())
NUMBERED = [name for name in CHANGELOG if name != "Unreleased"]


def test_the_version_is_as_packaging_would_write_it():
    assert str(Version(version.__version__)) == version.__version__


def test_the_module_has_the_packages_version():
    module = pathlib.Path("MODULE.bazel").read_text()
    number = re.search(r'^    version = "(.*)",', module, re.MULTILINE)[1]
    assert number == version.__version__


def test_the_newest_section_of_the_changelog_is_the_packages_version():
    assert NUMBERED[0] == version.__version__


def test_the_sections_of_the_changelog_follow_each_other():
    if "Unreleased" in CHANGELOG:
        assert next(iter(CHANGELOG)) == "Unreleased"
    versions = [Version(name) for name in NUMBERED]
    assert versions == sorted(set(versions), reverse=True)


def test_what_was_released_has_a_date_and_only_the_newest_may_lack_one():
    for name in NUMBERED:
        date, text = CHANGELOG[name]
        assert text.strip(), name
        if name == NUMBERED[0] and date == "unreleased":
            assert "Unreleased" not in CHANGELOG, "one of them is enough"
            continue
        datetime.date.fromisoformat(date)


def test_a_tag_of_the_version_has_notes():
    date, text = CHANGELOG[version.__version__]
    released = pathlib.Path("CHANGELOG.md").read_text()
    heading = f"## [{version.__version__}] - "
    assert heading + date in released
    released = released.replace(heading + date, heading + "2026-01-01")
    tag = f"v{version.__version__}"
    assert notes.notes(tag, version.__version__, released) == text
