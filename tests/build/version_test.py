"""Facts that are stated in two files must agree."""

import pathlib
import re
import tomllib

from flaxlayer import version

PYPROJECT = tomllib.loads(pathlib.Path("pyproject.toml").read_text())


def floors(package, requirements):
    """The lowest version of a package for each marker."""
    pattern = re.compile(rf"{package}[=>]=([\w.]+)(?:; *(.*))?")
    matches = (pattern.fullmatch(requirement) for requirement in requirements)
    return {match[2]: match[1] for match in matches if match}


def test_module_has_the_packages_version():
    module = pathlib.Path("MODULE.bazel").read_text()
    stated = re.search(r'^    version = "(.*)",', module, re.MULTILINE)
    assert stated[1] == version.__version__


def test_jax_and_jaxlib_have_the_same_floors():
    dependencies = PYPROJECT["project"]["dependencies"]
    assert floors("jax", dependencies) == floors("jaxlib", dependencies)


def test_extension_is_built_against_the_oldest_jaxlib():
    # One pin for each Python: the markers exclude each other, while those of
    # the floors add to a line without one.
    built = floors("jaxlib", PYPROJECT["build-system"]["requires"])
    oldest = floors("jaxlib", PYPROJECT["project"]["dependencies"])
    assert set(built.values()) == set(oldest.values())
