"""Prints the release notes of a tag: its section of CHANGELOG.md.

    python3 tools/release/notes.py v1.2.3

Fails unless the tag is that of the version in python/flaxlayer/version.py and
the section has a date, so that nothing is published by a mistaken tag. Uses
the standard library only: a release starts with it, before anything is
installed.
"""

import pathlib
import re
import sys

_ROOT = pathlib.Path(__file__).parents[2]

_VERSION = re.compile(r'^__version__ = "(?P<version>.*)"$', re.MULTILINE)
_HEADING = re.compile(r"^## \[(?P<version>.*)\](?: - (?P<date>.*))?$")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


def sections(changelog: str) -> dict[str, tuple[str | None, str]]:
    """The sections of a changelog.

    Args:
        changelog: the text, in the format of Keep a Changelog.

    Returns:
        The date, if any, and the text of each section, by versions and as they
        follow each other in the file; "Unreleased" may be one of them.
    """
    found: dict[str, tuple[str | None, str]] = {}
    version, date, lines = None, None, []
    for line in [*changelog.splitlines(), "## []"]:
        if heading := _HEADING.match(line):
            if version is not None:
                found[version] = date, "\n".join(lines).strip() + "\n"
            version, date, lines = heading["version"], heading["date"], []
        else:
            lines.append(line)
    return found


def notes(tag: str, version: str, changelog: str) -> str:
    """The notes of a release.

    Args:
        tag: the tag that is released.
        version: the version of the package.
        changelog: the text of CHANGELOG.md.

    Returns:
        The section of the version, without its heading.

    Raises:
        ValueError: the tag is not that of the version, or the changelog has no
            section of it, or one without a date or without text.
    """
    if tag != f"v{version}":
        raise ValueError(
            f"the tag is {tag}, and python/flaxlayer/version.py has {version}; "
            f"expected the tag v{version}: tag the commit that has the version"
        )
    found = sections(changelog)
    if version not in found:
        raise ValueError(
            f"CHANGELOG.md has no section [{version}]; it has "
            f"{', '.join(found) or 'none'}"
        )
    date, text = found[version]
    if date is None or not _DATE.fullmatch(date):
        raise ValueError(
            f"expected `## [{version}] - YYYY-MM-DD` in CHANGELOG.md; the date "
            f"is {date or 'missing'}"
        )
    if not text.strip():
        raise ValueError(f"the section [{version}] of CHANGELOG.md is empty")
    return text


def main() -> int:
    """Prints the notes, or what is wrong; returns the exit status."""
    if len(sys.argv) != 2:
        print("usage: tools/release/notes.py TAG", file=sys.stderr)
        return 2
    stated = (_ROOT / "python/flaxlayer/version.py").read_text(encoding="utf-8")
    version = _VERSION.search(stated)
    if version is None:
        print("version.py states no __version__", file=sys.stderr)
        return 1
    changelog = (_ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    try:
        print(notes(sys.argv[1], version["version"], changelog), end="")
    except ValueError as error:
        print(f"tools/release/notes.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
