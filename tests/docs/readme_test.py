"""What the documentation says is run, and what it points to is there."""

import pathlib
import re

import pytest

from tests.docs import page_process

ROOT = pathlib.Path(__file__).parents[2]
PAGES = sorted(
    str(path.relative_to(ROOT))
    for path in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]
)


def code_of(page):
    """The Python blocks of a page, one after the other, as one program."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return "\n".join(re.findall(r"^```python\n(.*?)^```$", text, re.S | re.M))


def outputs_of(page):
    """What a page says that its code prints."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(r"^```output\n(.*?)^```$", text, re.S | re.M)


def targets_of(page):
    """The files that a page links to, with the text of each link."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for label, target in re.findall(r"\[([^]]+)\]\(([^)\s]+)\)", text):
        if "://" not in target:
            path, _, _ = target.partition("#")
            yield label, (ROOT / page).parent / path


def test_all_pages_are_found():
    assert {
        "README.md",
        "docs/architecture.md",
        "docs/guide/calling.md",
        "docs/guide/introspection.md",
        "docs/guide/checkpoints.md",
        "docs/guide/randomness.md",
        "docs/guide/saving.md",
        "docs/performance.md",
        "docs/reference.md",
    } <= set(PAGES)


@pytest.mark.parametrize("page", [page for page in PAGES if code_of(page)])
def test_the_code_of_a_page_runs(page, tmp_path):
    program = tmp_path / "page.py"
    program.write_text(code_of(page), encoding="utf-8")
    status, printed = page_process.run(program)
    assert status == 0, printed
    printed = "\n".join(line.rstrip() for line in printed.splitlines())
    for output in outputs_of(page):
        assert output.rstrip() in printed, printed


def test_the_code_of_the_readme_runs_on_eight_devices(tmp_path):
    program = tmp_path / "page.py"
    program.write_text(
        code_of("README.md")
        + """
kernel = block.params["params"]["Dense_0"]["kernel"].value
assert kernel.sharding.shard_shape(kernel.shape) == (64, 32), kernel.sharding
query = block.params["params"]["MultiHeadDotProductAttention_0"]["query"]
assert query["kernel"].value.sharding.spec[1] == "model"
""",
        encoding="utf-8",
    )
    status, printed = page_process.run(program, devices=8)
    assert status == 0, printed


@pytest.mark.parametrize("page", [*PAGES, "CONTRIBUTING.md"])
def test_links_lead_somewhere(page):
    missing = [
        str(target) for _, target in targets_of(page) if not target.exists()
    ]
    assert not missing


@pytest.mark.parametrize("page", [*PAGES, "CONTRIBUTING.md", "CHANGELOG.md"])
def test_the_site_sees_the_lists_that_a_code_host_sees(page):
    # Python-Markdown asks for four spaces before a list in a list, and for an
    # empty line between a paragraph and a list.
    text = (ROOT / page).read_text(encoding="utf-8")
    text = re.sub(r"^```.*?^```$", "", text, flags=re.S | re.M)
    item = r"(?:[-*+]|\d+\.) "
    assert not re.findall(rf"^ {{1,3}}{item}.*", text, re.M)
    assert not re.findall(rf"^(?! |{item}|\n).+\n{item}.*", text, re.M)


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


@pytest.mark.parametrize(
    "command", ["train", "kernels", "nnx", "mesh", "exports"]
)
def test_the_floors_are_those_that_were_measured(command):
    page = (ROOT / "docs/performance.md").read_text(encoding="utf-8")
    results = ROOT / f"benchmarks/results/{command}.md"
    text = results.read_text(encoding="utf-8")
    machine, _, _ = text.partition("\nSettings: ")
    _, title, floors = text.partition("**Floors**")
    assert machine.count("\n") == 1
    assert f"{machine}\n\n{title}{floors}" in page
