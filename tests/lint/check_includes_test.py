import pytest

from tools.lint.check_includes import problems

KERNELS = {
    "csrc/BUILD": """
        cc_library(name = "words", hdrs = ["words.h"], deps = [":threefry"])
        cc_library(name = "threefry", hdrs = ["threefry.h"])
        cc_library(name = "main", srcs = ["main.cc"])
        """,
    "csrc/words.h": '#include <cstddef>\n\n#include "csrc/threefry.h"\n',
    "csrc/threefry.h": "",
    "csrc/main.cc": "",
}


def a_test(code, *deps, rule="cc_test"):
    listed = ", ".join(f'"{dep}"' for dep in deps)
    return KERNELS | {
        "tests/BUILD": (
            f'{rule}(name = "a_test", srcs = ["a_test.cc"], deps = [{listed}])'
        ),
        "tests/a_test.cc": code,
    }


def test_what_is_complete_is_left_alone(check):
    files = a_test('#include "csrc/words.h"', "//csrc:words", "//csrc:main")
    assert check(problems, files) == []


def test_a_library_among_sources_is_no_file(check):
    files = a_test("") | {
        "lib/BUILD": """
            cc_binary(name = "libit.so.1", srcs = ["it.cc"])
            cc_library(name = "it", srcs = [":libit.so.1"], hdrs = ["it.h"])
            """,
        "lib/it.cc": '#include "csrc/gone.h"',
        "lib/it.h": "",
    }
    [problem] = check(problems, files)
    assert "//lib:libit.so.1: lib/it.cc includes csrc/gone.h" in problem


def test_a_header_that_another_includes_has_to_be_in_deps(check):
    code = '#include "csrc/words.h"\n#include "csrc/threefry.h"'
    assert check(problems, a_test(code, "//csrc:words")) == [
        "//tests:a_test: tests/a_test.cc includes csrc/threefry.h of "
        "//csrc:threefry, not in deps"
    ]


@pytest.mark.parametrize(
    "header",
    ['"gtest/gtest.h"', "<pybind11/pybind11.h>", '"xla/ffi/api/ffi.h"'],
)
def test_headers_of_others_have_to_be_in_deps(check, header):
    [problem] = check(problems, a_test(f"#include {header}"))
    assert "//third_party/" in problem


def test_a_header_of_no_target_is_found(check):
    [problem] = check(problems, a_test('#include "csrc/gone.h"'))
    assert "includes csrc/gone.h of no target" in problem


def test_what_is_not_included_is_unused(check):
    assert check(problems, a_test("", "//csrc:words")) == [
        "//tests:a_test: //csrc:words is in deps and not included"
    ]


def test_pybind11_is_added_to_extensions(check):
    code = "#include <pybind11/pybind11.h>"
    assert check(problems, a_test(code, rule="pybind_extension")) == []
