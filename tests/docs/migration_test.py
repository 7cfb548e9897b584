"""The programs of docs/guide/migration.md do the same before and after.

The page has what differs between them. To put it there anew, from the top of
the repository:

    PYTHONPATH=python tools/dev python -m tests.docs.migration_test
"""

import difflib
import pathlib
import re

import numpy as np
import pytest

from tests.docs import page_process

ROOT = pathlib.Path(__file__).parents[2]
PAGE = ROOT / "docs/guide/migration.md"
PROGRAMS = ROOT / "examples/migration"
CASES = sorted(
    path.stem.removesuffix("_before") for path in PROGRAMS.glob("*_before.py")
)

# Keras's layer asks TensorFlow a question that has to be answered without it.
_PRELUDE = """\
from flaxlayer import keras_compat
assert keras_compat.peer_flax_layer()
"""


def source(name):
    return (PROGRAMS / f"{name}.py").read_text(encoding="utf-8")


def with_differences(text):
    """A page with what differs between programs, after the name of each."""

    def difference(match):
        case = match[1]
        before, after = (
            source(f"{case}_{when}").splitlines()
            for when in ("before", "after")
        )
        # All lines, so that each is a whole program.
        longest = max(len(before), len(after))
        lines = list(difflib.unified_diff(before, after, n=longest))[3:]
        # An empty line that stays has a space for its mark.
        body = "\n".join(line.rstrip() for line in lines)
        return f"<!-- {case} -->\n\n```diff\n{body}\n```\n"

    return re.sub(
        r"^<!-- (\w+) -->\n(?:\n```diff\n.*?^```\n)?",
        difference,
        text,
        flags=re.S | re.M,
    )


def losses_of(name, folder, prelude=""):
    """What a program prints: the mean loss of each epoch."""
    program = folder / f"{name}.py"
    program.write_text(prelude + source(name), encoding="utf-8")
    status, printed = page_process.run(program)
    assert status == 0, printed
    return np.array([float(word) for word in printed.split()])


def test_the_page_has_each_case():
    text = PAGE.read_text(encoding="utf-8")
    assert sorted(re.findall(r"^<!-- (\w+) -->$", text, re.M)) == CASES
    assert len(CASES) == 4


def test_the_page_has_what_differs():
    text = PAGE.read_text(encoding="utf-8")
    assert with_differences(text) == text


@pytest.mark.parametrize("case", CASES)
def test_both_programs_train_the_same(case, tmp_path):
    of_keras = case == "keras_layer"
    prelude = _PRELUDE if of_keras else ""
    before = losses_of(f"{case}_before", tmp_path, prelude)
    after = losses_of(f"{case}_after", tmp_path)
    assert len(before) == 3
    assert before[-1] < before[0]
    # Means of float32 and of float64.
    np.testing.assert_allclose(after, before, rtol=0 if of_keras else 1e-6)


if __name__ == "__main__":
    PAGE.write_text(
        with_differences(PAGE.read_text(encoding="utf-8")), encoding="utf-8"
    )
