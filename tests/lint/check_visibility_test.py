import pytest

from tools.lint.check_visibility import problems

PAGE = """
## Public targets

| target | what |
| --- | --- |
| `//a` | the package |

## Others

| `//c` | is no promise |
"""


@pytest.mark.parametrize(
    "build",
    [
        'py_library(name = "a", visibility = ["//visibility:public"])',
        """
        package(default_visibility = ["//visibility:public"])
        py_library(name = "a")
        py_library(name = "b", visibility = ["//a:__pkg__"])
        """,
        'exports_files(["a"])',
        """
        package(default_visibility = ["//visibility:private"])
        config_setting(name = "a")
        """,
    ],
)
def test_public_and_listed(check, build):
    files = {"a/BUILD": build, "docs/monorepo.md": PAGE}
    assert check(problems, files) == []
    files["docs/monorepo.md"] = ""
    assert check(problems, files) == [
        "//a:a is public, and not in docs/monorepo.md"
    ]


@pytest.mark.parametrize(
    "build",
    [
        'py_library(name = "a")',
        'py_library(name = "a", visibility = ["//:__subpackages__"])',
        'exports_files(["a"], visibility = ["//:__subpackages__"])',
        'py_library(name = "b", visibility = ["//visibility:public"])',
    ],
)
def test_listed_and_not_public(check, build):
    files = {"a/BUILD": build, "docs/monorepo.md": PAGE}
    assert "//a:a is in docs/monorepo.md, and not public" in check(
        problems, files
    )
