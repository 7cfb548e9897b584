"""What pyproject.toml states twice, or another file states as well."""

import pathlib
import re
import tomllib

import pytest
from packaging import specifiers, utils, version

PYPROJECT = tomllib.loads(pathlib.Path("pyproject.toml").read_text())
PYTHONS = [
    match[1]
    for line in PYPROJECT["project"]["classifiers"]
    if (match := re.fullmatch(r"Programming .* :: (3\.\d+)", line))
]
REQUIREMENTS = pathlib.Path("tools/requirements")


def stated(package, requirements):
    """The versions that are required of a package on any Python."""
    pattern = re.compile(rf"{package} *[=>]= *([^;]*)")
    matches = (pattern.fullmatch(requirement) for requirement in requirements)
    return {match[1] for match in matches if match}


def pinned(package, lock):
    """The versions of a package in a lock file."""
    text = (REQUIREMENTS / lock).read_text()
    return set(re.findall(rf"^{package}==(\S+)", text, re.MULTILINE))


def test_the_extension_is_built_against_the_oldest_jaxlib():
    floors = PYPROJECT["project"]["dependencies"]
    oldest = stated("jaxlib", floors)
    assert len(oldest) == 1
    assert stated("jax", floors) == oldest
    assert stated("jaxlib", PYPROJECT["build-system"]["requires"]) == oldest
    assert {min(pinned("jaxlib", "floor.txt"), key=version.Version)} == oldest
    assert pinned("jaxlib", "build.txt") == oldest


def test_the_oldest_dependencies_are_the_floors():
    groups = PYPROJECT["dependency-groups"]
    requirements = [
        *PYPROJECT["project"]["dependencies"],
        *PYPROJECT["project"]["optional-dependencies"]["examples"],
        *groups["build"],
        *groups["test"],
    ]
    for text in requirements:
        name, floor = re.match(r"([\w-]+)>=([\d.]+)", text).groups()
        name = utils.canonicalize_name(name)
        # The first of its series, if there is no release of that number.
        series = specifiers.SpecifierSet(f"=={floor}.*")
        assert any(series.filter(pinned(name, "floor.txt"))), text


def test_pythons_are_stated_without_a_gap():
    minors = [int(python.removeprefix("3.")) for python in PYTHONS]
    assert minors == list(range(minors[0], minors[-1] + 1))
    assert PYPROJECT["project"]["requires-python"] == f">={PYTHONS[0]}"


def test_the_linters_take_the_sources_for_the_oldest_python():
    target = PYPROJECT["tool"]["ruff"]["target-version"]
    assert target == "py" + PYTHONS[0].replace(".", "")
    assert PYPROJECT["tool"]["pyrefly"]["python-version"] == PYTHONS[0]


def test_a_wheel_is_built_for_every_python():
    tags = ["cp" + python.replace(".", "") + "-*" for python in PYTHONS]
    assert PYPROJECT["tool"]["cibuildwheel"]["build"] == tags


@pytest.mark.parametrize(
    "page", ["README.md", "docs/releasing.md", "tools/README.md", "tools/dev"]
)
def test_pages_name_the_pythons_there_are(page):
    ranges = re.findall(r"3\.\d+ to 3\.\d+", pathlib.Path(page).read_text())
    assert set(ranges) == {f"{PYTHONS[0]} to {PYTHONS[-1]}"}


def test_tools_dev_takes_the_pythons_there_are():
    script = pathlib.Path("tools/dev").read_text()
    assert f"\n    {' | '.join(PYTHONS)}) ;;\n" in script
    locks = pathlib.Path("tools/locks.py").read_text()
    assert f'"--python-version", "{PYTHONS[0]}"' in locks
