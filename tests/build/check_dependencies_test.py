import pytest

from tools.lint import check_dependencies

DISTRIBUTIONS = {
    "jax": ["jax"],
    "jaxlib": ["jaxlib"],
    "orbax": ["orbax-checkpoint", "orbax-export"],
    "rich": ["rich"],
    "sklearn": ["scikit-learn"],
}
SOURCES = {"a.py": "import jax.numpy as jnp\nfrom orbax import checkpoint\n"}
FOLDERS = ("jax", "orbax")


def problems(
    sources=SOURCES,
    dependencies=("jax>=0.8", "jaxlib>=0.8", "orbax_checkpoint>=0.11"),
    extras=(),
    folders=FOLDERS,
    build=('deps = ["//third_party/py/jax", "//third_party/py/orbax"]',),
):
    pyproject = {
        "project": {
            "name": "flaxlayer",
            "dependencies": list(dependencies),
            "optional-dependencies": {"extra": list(extras)},
        }
    }
    return check_dependencies.problems(
        sources, pyproject, folders, build, DISTRIBUTIONS
    )


def test_what_agrees_passes():
    assert problems() == []


def test_imports_are_found_wherever_they_are():
    source = (
        "import os, jax.numpy\n"
        "from . import neighbour\n"
        "from orbax.checkpoint import handlers\n"
        "def f():\n    import rich.table\n"
    )
    assert list(check_dependencies.imports(source)) == [
        "os",
        "jax.numpy",
        "orbax.checkpoint.handlers",
        "rich.table",
    ]


@pytest.mark.parametrize("line", ["import rich.table", "from rich import box"])
def test_an_import_that_pyproject_does_not_state_is_found(line):
    (undeclared, unlabelled) = problems(SOURCES | {"b.py": line})
    assert undeclared.startswith("b.py imports rich, of rich, which is neither")
    assert unlabelled == "b.py imports rich: no third_party/py/rich"


def test_an_extra_need_not_be_installed():
    build = [f"//third_party/py/{name}" for name in ("jax", "orbax")]
    build = [f'"{label}"' for label in (*build, "//third_party/py/tensorflow")]
    arguments = {
        "sources": SOURCES | {"b.py": "import tensorflow as tf"},
        "folders": (*FOLDERS, "tensorflow"),
        "build": build,
    }
    assert problems(**arguments, extras=["TensorFlow>=2.20"]) == []
    (found,) = problems(**arguments)
    assert found == "b.py imports tensorflow, which is not installed"


def test_an_import_may_be_of_an_extra():
    sources = SOURCES | {"b.py": "def f():\n    import sklearn\n"}
    named = (
        '"//third_party/py/jax" "//third_party/py/orbax:orbax" '
        '"//third_party/py/sklearn"'
    )
    arguments = {
        "sources": sources,
        "folders": (*FOLDERS, "sklearn"),
        "build": (named,),
    }
    assert problems(**arguments, extras=["Scikit.Learn>=1.5"]) == []
    assert problems(**arguments)


def test_an_import_of_what_is_not_installed_is_found():
    found = problems(SOURCES | {"b.py": "import nowhere"})
    assert found[0] == "b.py imports nowhere, which is not installed"


def test_the_standard_library_and_the_package_itself_are_no_dependencies():
    own = "import tomllib\nfrom flaxlayer import ops\nimport flaxlayer.ops\n"
    assert problems(SOURCES | {"b.py": own}) == []


def test_a_dependency_without_an_import_is_found():
    found = problems(
        dependencies=("jax", "jaxlib", "orbax-checkpoint", "absl-py>=2.1")
    )
    (problem,) = found
    assert problem.startswith(
        "project.dependencies of pyproject.toml has absl-py"
    )


def test_an_exception_that_is_no_dependency_is_found():
    assert problems(dependencies=("jax", "orbax-checkpoint")) == [
        "project.dependencies of pyproject.toml lacks jaxlib"
    ]


def test_a_folder_that_no_target_names_is_found():
    assert problems(folders=(*FOLDERS, "absl")) == [
        "no BUILD file uses third_party/py/absl"
    ]
