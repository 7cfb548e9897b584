"""Every misuse is refused as docs/bad_inputs.md says.

The page is made of the lists of misuses. To make it anew, from the top of the
repository:

    PYTHONPATH=python KERAS_BACKEND=jax \
        tools/dev python -m tests.docs.bad_inputs_test
"""

import functools
import pathlib
import re
from typing import Any

import pytest

from tests.docs import (
    misuses_made,
    misuses_of_files,
    misuses_of_meshes,
    misuses_of_nnx,
    misuses_used,
)
from tests.docs.misuse import Misuse, changed

PAGE = pathlib.Path(__file__).parents[2] / "docs/bad_inputs.md"

GROUPS: dict[str, list[Misuse]] = {
    "The module": misuses_made.MODULE,
    "A module of NNX": misuses_of_nnx.NNX,
    "Its method": misuses_made.METHOD,
    "Given variables": misuses_made.VARIABLES,
    "Random streams and seeds": misuses_made.RANDOMNESS,
    "Collections, and what is trained": misuses_made.COLLECTIONS,
    "Regularizers and constraints": misuses_made.WEIGHTS,
    "Other arguments of layers": misuses_made.OTHERS,
    "The functions of a JaxLayer": misuses_made.FUNCTIONS,
    "Building": misuses_used.BUILD,
    "Calling": misuses_used.CALLS,
    "What a model returns": misuses_used.RETURNED,
    "Freezing": misuses_used.FREEZING,
    "Setting weights": misuses_used.SET_WEIGHTS,
    "Loading weights": misuses_of_files.STORES,
    "Variables, and files of them": misuses_of_files.VARIABLES,
    "Loading models": misuses_of_files.FILES,
    "Configurations": misuses_of_files.CONFIGS,
    "Saving": misuses_of_files.SAVING,
    "Functions": misuses_of_files.FUNCTIONS,
    "Exports": misuses_of_files.EXPORTS,
    "Layouts over a mesh": misuses_of_meshes.LAYOUTS,
}

_INTRODUCTION = """\
# Bad inputs

What people get wrong, and what they are told. Each line is a test
([bad_inputs_test.py](../tests/docs/bad_inputs_test.py)), which also sees that
no weight has changed by it, and makes this page. The layer is called `probe`
here; before it has its name, a message has only what was given as `name=`.
Three dots stand for what other libraries add, which differs from version to
version.
"""

CASES = [
    pytest.param(misuse, id=f"{group}: {misuse.title}")
    for group, misuses in GROUPS.items()
    for misuse in misuses
]


@functools.cache
def outcome(misuse: Misuse) -> tuple[Exception | None, list[Any]]:
    """What a misuse raises, and which layers it changes; it is done once."""
    return misuse.raised(), changed()


@pytest.mark.parametrize("misuse", CASES)
def test_a_misuse_is_refused(misuse):
    error, layers = outcome(misuse)
    assert type(error) is misuse.error
    for words in misuse.says:
        assert words in str(error)
    assert not layers


def test_no_two_lines_are_the_same():
    for misuses in GROUPS.values():
        titles = [misuse.title for misuse in misuses]
        assert len(set(titles)) == len(titles)


def test_the_page_is_made_of_the_misuses():
    assert PAGE.read_text(encoding="utf-8") == page()


def test_the_page_has_nothing_of_the_machine_it_was_made_on():
    text = PAGE.read_text(encoding="utf-8")
    for pattern in ("0x[0-9a-f]{4}", "\x1b", "site-packages", "/tmp", "/home"):
        assert not re.search(pattern, text)


def page() -> str:
    """The text of the page."""
    parts = [_INTRODUCTION]
    for group, misuses in GROUPS.items():
        lines = [
            f"## {group}",
            "",
            "| what is done | message |",
            "| --- | --- |",
        ]
        for misuse in misuses:
            error, _ = outcome(misuse)
            assert error is not None, misuse.title
            message = cell(misuse.message(error))
            name = misuse.error.__name__
            lines.append(f"| {misuse.title} | `{name}`: {message} |")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def cell(message: str) -> str:
    """A message as Markdown, with its backticks as they are."""
    parts = message.split("`")
    if len(parts) % 2 == 0:  # One of them has no partner.
        parts = [message.replace("`", "'")]
    for i in range(0, len(parts), 2):
        parts[i] = re.sub(r"([\\*_\[\]])", r"\\\1", parts[i])
        parts[i] = parts[i].replace("<", "&lt;")
    return "`".join(parts).replace("|", r"\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
