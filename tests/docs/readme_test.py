"""What the documentation says is run, and what it points to is there."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PAGES = sorted(
    str(path.relative_to(ROOT))
    for path in [ROOT / "README.md", *ROOT.glob("docs/*.md")]
)


def code_of(page):
    """The Python blocks of a page, one after the other, as one program."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return "\n".join(re.findall(r"^```python\n(.*?)^```$", text, re.S | re.M))


def targets_of(page):
    """The files that a page links to, with the text of each link."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for label, target in re.findall(r"\[([^]]+)\]\(([^)\s]+)\)", text):
        if "://" not in target:
            yield label, (ROOT / page).parent / target


def test_all_pages_are_found():
    assert {
        "README.md",
        "docs/architecture.md",
        "docs/performance.md",
        "docs/randomness.md",
        "docs/saving.md",
    } <= set(PAGES)


@pytest.mark.parametrize("page", [page for page in PAGES if code_of(page)])
def test_the_code_of_a_page_runs(page, tmp_path):
    program = tmp_path / "page.py"
    program.write_text(code_of(page), encoding="utf-8")
    path = os.pathsep.join(filter(None, sys.path))
    subprocess.run(
        [sys.executable, "-W", "error::UserWarning", program],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path, "KERAS_BACKEND": "jax"},
        check=True,
    )


@pytest.mark.parametrize("page", [*PAGES, "CONTRIBUTING.md"])
def test_links_lead_somewhere(page):
    missing = [
        str(target) for _, target in targets_of(page) if not target.exists()
    ]
    assert not missing


def test_tests_that_are_named_exist():
    named = [
        (label.strip("`"), target)
        for label, target in targets_of("README.md")
        if label.startswith("`test_")
    ]
    assert len(named) > 10
    for name, target in named:
        assert f"\ndef {name}(" in target.read_text(encoding="utf-8"), name


def test_the_results_are_those_that_were_measured():
    page = (ROOT / "docs/performance.md").read_text(encoding="utf-8")
    results = ROOT / "benchmarks/results/layers.md"
    assert results.read_text(encoding="utf-8") in page


@pytest.mark.parametrize("command", ["train", "kernels"])
def test_the_floors_are_those_that_were_measured(command):
    page = (ROOT / "docs/performance.md").read_text(encoding="utf-8")
    results = ROOT / f"benchmarks/results/{command}.md"
    text = results.read_text(encoding="utf-8")
    machine, _, _ = text.partition("\nSettings: ")
    _, title, floors = text.partition("**Floors**")
    assert machine.count("\n") == 1
    assert f"{machine}\n\n{title}{floors}" in page
