"""Facts that are stated in two files must agree."""

import pathlib
import re
import tomllib

from flaxlayer import version

PYPROJECT = tomllib.loads(pathlib.Path("pyproject.toml").read_text())


def stated(package, requirements):
    """The versions that are required of a package, with their markers."""
    pattern = re.compile(rf"{package} *[=>]= *(.*)")
    matches = (pattern.fullmatch(requirement) for requirement in requirements)
    return {match[1] for match in matches if match}


def test_module_has_the_packages_version():
    module = pathlib.Path("MODULE.bazel").read_text()
    number = re.search(r'^    version = "(.*)",', module, re.MULTILINE)[1]
    assert number == version.__version__


def test_extension_is_built_against_the_oldest_jaxlib():
    floors = PYPROJECT["project"]["dependencies"]
    oldest = stated("jaxlib", floors)
    assert oldest
    assert stated("jax", floors) == oldest
    assert stated("jaxlib", PYPROJECT["build-system"]["requires"]) == oldest
