"""Which mutants the tests of a small package let pass."""

import json
import os
import pathlib
import subprocess
import sys
import textwrap

import pytest

from tools.mutants import run, running

SOURCE = """
def smaller(a: int | None, b: int) -> int:
    while a > b:
        a -= 1
    return a
"""
TESTS = """
from flaxlayer.some import numbers


def test_smaller():
    assert numbers.smaller(4, 2) == 2
    assert numbers.__doc__ is None
"""
PATH = pathlib.PurePath("python/flaxlayer/some/numbers.py")
OWN = "tests/python/some/numbers_test.py"

# In a process of its own, since it forks.
DRIVER = """
import json, pathlib, sys
from tools.mutants import run
root = pathlib.Path(sys.argv[1])
mutants = [
    run.Mutant(pathlib.PurePath(path), text)
    for path, text in json.loads(sys.argv[2])
]
tests = sys.argv[3:]
for mutant, outcome in run.outcomes(mutants, tests, root, jobs=2, grace=1):
    print(json.dumps([mutant.text, outcome]))
"""


@pytest.fixture
def root(tmp_path):
    for name, text in {
        "python/flaxlayer/__init__.py": "",
        "python/flaxlayer/some/__init__.py": "",
        str(PATH): SOURCE,
        OWN: TESTS,
        "tests/python/some/other_test.py": "def test(): pass",
        "tests/python/top_test.py": "def test(): pass",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def outcomes(root, *texts, tests=(OWN,)):
    mutants = json.dumps([(str(PATH), text) for text in texts])
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, root, mutants, *tests],
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join([str(root / "python"), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return dict(json.loads(line) for line in done.stdout.splitlines())


def test_mutants_are_told_apart(root):
    late = SOURCE.replace("a -= 1", "a -= 0")
    killed = SOURCE.replace("return a", "return -a")
    broken = SOURCE.replace("return a", "return undefined")
    survives = SOURCE.replace("a > b", "a != b")
    found = outcomes(root, late, killed, broken, survives)
    assert found == {
        late: "endless",
        killed: "killed",
        broken: "killed",
        survives: "survived",
    }
    assert (root / PATH).read_text() == SOURCE


def test_tests_that_fail_anyway_are_an_error(root):
    (root / OWN).write_text(TESTS.replace("== 2", "== 3"))
    with pytest.raises(RuntimeError, match="(?s)without a mutation.*assert 2 "):
        outcomes(root, SOURCE)


def test_a_source_has_tests_of_its_own_and_of_its_folder(root):
    others = ["tests/python/some/other_test.py"]
    assert run.tests_of(PATH, root) == [[OWN], others]
    assert run.tests_of(PATH.with_name("texts.py"), root) == [[OWN, *others]]
    # All tests of the package itself would take too long for what has its own.
    top = pathlib.PurePath("python/flaxlayer/top.py")
    assert run.tests_of(top, root) == [["tests/python/top_test.py"]]
    below = pathlib.PurePath("python/flaxlayer/empty/below.py")
    assert run.tests_of(below, root) == [["tests/python/top_test.py"]]


def test_a_mutant_is_shown_by_what_differs(root):
    mutant = run.Mutant(PATH, SOURCE.replace("a -= 1", "a -= 2"))
    assert mutant.module == "flaxlayer.some.numbers"
    assert run.Mutant(PATH.with_name("__init__.py"), "").module == (
        "flaxlayer.some"
    )
    lines = mutant.difference(root).splitlines()
    assert [x for x in lines if x[:1] in "+-"][2:] == [
        "-        a -= 1",
        "+        a -= 2",
    ]


@pytest.mark.parametrize(
    ("mutant", "alike"),
    [
        (SOURCE.replace("int | None", "int & None"), True),
        (SOURCE.replace("-> int", "-> -int"), True),
        (SOURCE.replace("a > b", "(a) > b"), True),
        (SOURCE.replace("b: int", "/, b: int"), True),
        (SOURCE.replace("b: int", "b: int = 1"), False),
        (SOURCE.replace("a > b", "a < b"), False),
    ],
)
def test_what_is_not_run_does_not_count(mutant, alike):
    assert (running.running(mutant) == running.running(SOURCE)) == alike
    assert running.running("def f(:") is None


def test_annotated_values_count():
    one, other = (f"x: int = {n}\nclass A:\n    y: int = 3\n" for n in (1, 2))
    assert running.running(one) != running.running(other)
    assert running.running(one) == running.running(
        textwrap.dedent(one).replace("y: int", "y: str")
    )
