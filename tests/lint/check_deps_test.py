import pytest

from tools.lint.check_deps import problems

LAYERS = {
    "python/flaxlayer/BUILD": """
        py_library(
            name = "flaxlayer",
            srcs = ["__init__.py"],
            deps = ["//python/flaxlayer/ops"],
        )
        """,
    "python/flaxlayer/__init__.py": "from flaxlayer.ops import fold",
    "python/flaxlayer/ops/BUILD": """
        py_library(
            name = "ops",
            srcs = ["__init__.py", "fold.py", "split.py"],
            deps = ["//third_party/py/jax"],
        )
        """,
    "python/flaxlayer/ops/__init__.py": "",
    "python/flaxlayer/ops/fold.py": "import os\nimport jax.numpy as jnp\n",
    "python/flaxlayer/ops/split.py": "from flaxlayer.ops import fold\n",
    "third_party/py/jax/BUILD": 'label_flag(name = "jax")',
}


def a_test(code, *deps, rule="pytest_test"):
    listed = ", ".join(f'"{dep}"' for dep in deps)
    return LAYERS | {
        "tests/BUILD": (
            f'{rule}(name = "a_test", srcs = ["a_test.py"], deps = [{listed}])'
        ),
        "tests/a_test.py": code,
    }


def test_what_is_complete_is_left_alone(check):
    assert check(problems, LAYERS) == []
    files = a_test(
        "import sys, jax, flaxlayer.ops.fold",
        "//python/flaxlayer",
        "//python/flaxlayer/ops:ops",
        "//third_party/py/jax",
    )
    assert check(problems, files) == []


def test_a_package_that_is_imported_has_to_be_in_deps(check):
    assert check(problems, a_test("def f():\n  from jax import numpy\n")) == [
        "//tests:a_test: tests/a_test.py imports jax of "
        "//third_party/py/jax:jax, not in deps"
    ]


@pytest.mark.parametrize(
    "code",
    [
        "import flaxlayer.ops.split",
        "from flaxlayer.ops import split",
        "from flaxlayer.ops.split import fold",
    ],
)
def test_a_target_that_another_depends_on_has_to_be_in_deps(check, code):
    [problem] = check(problems, a_test(code, "//python/flaxlayer"))
    assert "of //python/flaxlayer/ops:ops, not in deps" in problem


def test_the_package_around_a_module_has_to_be_in_deps(check):
    code = "from flaxlayer.ops import split"
    [problem] = check(problems, a_test(code, "//python/flaxlayer/ops"))
    assert "of //python/flaxlayer:flaxlayer, not in deps" in problem


@pytest.mark.parametrize(
    "code", ["import flaxlayer", "from flaxlayer import FlaxLayer"]
)
def test_a_part_of_the_package_may_use_the_whole(check, code):
    files = LAYERS | {
        "python/flaxlayer/demo/BUILD": """
            py_library(
                name = "demo",
                srcs = ["demo.py"],
                deps = ["//python/flaxlayer"],
            )
            """,
        "python/flaxlayer/demo/demo.py": code,
    }
    assert check(problems, files) == []
    files["python/flaxlayer/demo/BUILD"] = (
        'py_library(name = "demo", srcs = ["demo.py"])'
    )
    [problem] = check(problems, files)
    assert "of //python/flaxlayer:flaxlayer, not in deps" in problem


def test_what_is_not_imported_is_unused(check):
    files = a_test("import os", "//python/flaxlayer/ops")
    assert check(problems, files) == [
        "//tests:a_test: //python/flaxlayer/ops:ops is in deps and is not "
        "imported"
    ]


def test_what_is_not_there_is_said_to_be(check):
    assert check(problems, a_test("", "//python/gone")) == [
        "//tests:a_test: //python/gone:gone is in deps and does not exist"
    ]


@pytest.mark.parametrize(
    "code",
    [
        'pytest.importorskip("jax")',
        'PROGRAM = """\nimport jax\n"""',
        'PROGRAM = """\nif True:\n    from jax import numpy\n"""',
    ],
)
def test_what_a_string_names_may_be_in_deps(check, code):
    assert check(problems, a_test(code)) == []
    assert check(problems, a_test(code, "//third_party/py/jax")) == []


def test_a_word_in_a_sentence_is_no_import(check):
    files = a_test('"""We use jax here."""', "//third_party/py/jax")
    assert len(check(problems, files)) == 1


def test_pytest_is_added_to_its_own_tests_only(check):
    assert check(problems, a_test("import pytest")) == []
    assert len(check(problems, a_test("import pytest", rule="py_test"))) == 1


def test_pytest_loads_conftest(check):
    files = a_test("", "//:conftest") | {
        "BUILD": 'py_library(name = "conftest", srcs = ["conftest.py"])',
        "conftest.py": "",
    }
    assert check(problems, files) == []


def test_a_script_imports_from_its_folder(check):
    files = {
        "examples/BUILD": """
            py_library(name = "model", srcs = ["model.py"])
            py_binary(name = "train", srcs = ["train.py"], deps = [])
            """,
        "examples/model.py": "",
        "examples/train.py": "import model",
    }
    [problem] = check(problems, files)
    assert "imports model of //examples:model, not in deps" in problem


def test_a_list_that_is_computed_is_refused(check):
    files = {"BUILD": 'py_library(name = "a", deps = [x for x in y])'}
    with pytest.raises(ValueError, match="expected a list, `select`, `glob`"):
        check(problems, files)


def test_a_package_that_no_target_has_in_deps_is_found(check):
    files = LAYERS | {"third_party/py/rich/BUILD": 'label_flag(name = "rich")'}
    assert check(problems, files) == [
        "//third_party/py/rich:rich: no target has it in deps"
    ]


def test_a_package_without_a_label_does_not_exist(check):
    files = a_test("import rich", "//third_party/py/rich")
    assert check(problems, files) == [
        "//tests:a_test: //third_party/py/rich:rich is in deps and does not "
        "exist"
    ]
