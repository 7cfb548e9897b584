import pytest

from tools.docs import links

PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "docs/saving.md": "saving.md",
    "docs/call.svg": "call.svg",
    "docs/guide/names.md": "guide/names.md",
}


@pytest.fixture
def for_site(tmp_path):
    for name in ("src/layer.py", "LICENSE"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()

    def for_site(markdown, source="README.md"):
        return links.for_site(markdown, source, pages=PAGES, root=tmp_path)

    return for_site


def test_a_link_leads_to_where_the_site_has_the_page(for_site):
    assert for_site("[a](docs/saving.md)") == "[a](saving.md)"
    assert for_site("[a](../README.md)", "docs/saving.md") == "[a](index.md)"
    text = for_site("[a](../../CHANGELOG.md)", "docs/guide/names.md")
    assert text == "[a](../changelog.md)"


def test_a_link_keeps_its_anchor(for_site):
    text = for_site("[a](../saving.md#in-a-file)", "docs/guide/names.md")
    assert text == "[a](../saving.md#in-a-file)"
    assert for_site("[a](#below)") == "[a](#below)"


def test_a_picture_is_found(for_site):
    assert for_site("![a call](docs/call.svg)") == "![a call](call.svg)"


def test_the_name_of_a_file_that_is_not_on_the_site_becomes_its_path(for_site):
    for label in ("layer.py", "`layer.py`", "src/layer.py"):
        assert for_site(f"see [{label}](src/layer.py).") == (
            "see `src/layer.py`."
        )
    text = for_site("[layer.py](../../src/layer.py)", "docs/guide/names.md")
    assert text == "`src/layer.py`"


def test_another_text_stays_without_its_link(for_site):
    assert for_site("its [license](LICENSE)") == "its license"
    assert for_site("| [`test_it`](src/layer.py) |") == "| `test_it` |"


def test_the_rest_of_the_web_stays_linked(for_site):
    assert for_site("[a](https://keras.io/x)") == "[a](https://keras.io/x)"


def test_what_is_nowhere_is_left_for_the_build_to_warn_of(for_site):
    for text in ("[a](docs/none.md)", "![a](src/none.svg)"):
        assert for_site(text) == text


def test_code_is_left_alone(for_site):
    block = "```python\nx[0](LICENSE)\n```\n"
    assert for_site(block + "`[a](LICENSE)` [a](LICENSE)") == (
        block + "`[a](LICENSE)` a"
    )
