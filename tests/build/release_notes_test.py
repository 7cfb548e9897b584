import pytest

from tools.release import notes

CHANGELOG = """\
# Changelog

## [Unreleased]

## [1.1.0] - unreleased

### Added

- This.

## [1.0.0] - 2026-11-20

### Added

- That.

### Fixed

- The other.

## [0.9.0] - 2026-10-01
"""


def test_sections_are_found_in_their_order():
    found = notes.sections(CHANGELOG)
    assert {version: date for version, (date, _) in found.items()} == {
        "Unreleased": None,
        "1.1.0": "unreleased",
        "1.0.0": "2026-11-20",
        "0.9.0": "2026-10-01",
    }
    assert list(found) == ["Unreleased", "1.1.0", "1.0.0", "0.9.0"]


def test_notes_are_the_text_of_the_section():
    assert notes.notes("v1.0.0", "1.0.0", CHANGELOG) == (
        "### Added\n\n- That.\n\n### Fixed\n\n- The other.\n"
    )


@pytest.mark.parametrize("tag", ["v1.0.1", "1.0.0", "v1.0.0-rc1"])
def test_a_tag_of_another_version_is_refused(tag):
    with pytest.raises(ValueError, match=f"the tag is {tag}, .* has 1.0.0"):
        notes.notes(tag, "1.0.0", CHANGELOG)


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("2.0.0", r"no section \[2.0.0\]; it has Unreleased, 1.1.0, 1.0.0"),
        ("1.1.0", "YYYY-MM-DD` .* is unreleased"),
        ("0.9.0", r"\[0.9.0\] of CHANGELOG.md is empty"),
    ],
)
def test_a_changelog_that_is_not_ready_is_refused(version, message):
    with pytest.raises(ValueError, match=message):
        notes.notes(f"v{version}", version, CHANGELOG)
