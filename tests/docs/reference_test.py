"""The reference names all that is public, and docstrings describe it."""

import ast
import inspect
import pathlib
import re
import textwrap

import pytest

import flaxlayer

ROOT = pathlib.Path(__file__).parents[2]

NAMES = [name for name in flaxlayer.__all__ if not name.startswith("_")]


def members():
    """Our public classes and functions, and the public members of classes."""
    found = {}
    for name in NAMES:
        value = getattr(flaxlayer, name)
        found[name] = value
        if not inspect.isclass(value):
            continue
        for owner in value.__mro__:
            if not owner.__module__.startswith("flaxlayer."):
                continue
            for attribute, member in vars(owner).items():
                if attribute.startswith("_"):
                    continue
                if isinstance(member, classmethod | staticmethod):
                    member = member.__func__
                if inspect.isfunction(member) or isinstance(member, property):
                    found[f"{owner.__name__}.{attribute}"] = member
    return found


MEMBERS = members()


def function_of(member):
    """The function whose parameters a docstring describes."""
    if inspect.isclass(member):
        return member.__init__
    return member.fget if isinstance(member, property) else member


def section(member, title):
    """The entries of a section of a docstring: names, without stars."""
    text = inspect.getdoc(member) or ""
    match = re.search(rf"^{title}:\n((?: .*\n?|\n)+)", text, re.MULTILINE)
    lines = match[1] if match else ""
    return re.findall(r"^ {4}\**([\w.]+)(?: \(.*\))?:", lines, re.MULTILINE)


def test_the_layers_and_their_methods_are_found():
    assert {"FlaxLayer", "JaxLayer", "load_model"} <= set(NAMES)
    assert {"ModelLayer.call", "FlaxLayer.axis_names"} <= set(MEMBERS)


@pytest.mark.parametrize("name", [*NAMES, "__version__"])
def test_every_public_name_is_in_the_reference(name):
    page = (ROOT / "docs/reference.md").read_text(encoding="utf-8")
    # With nothing below it: no option that would hide a member.
    assert f"\n\n::: flaxlayer.{name}\n\n" in f"{page}\n"


def test_members_of_private_base_classes_are_in_the_reference():
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert "inherited_members: true\n" in settings
    assert 'filters: ["!^_"]\n' in settings


@pytest.mark.parametrize("name", MEMBERS)
def test_a_docstring_describes_every_parameter(name):
    member = MEMBERS[name]
    assert member.__doc__
    parameters = list(inspect.signature(function_of(member)).parameters)
    if parameters[:1] in (["self"], ["cls"]):
        parameters = parameters[1:]
    assert section(member, "Args") == parameters


@pytest.mark.parametrize("name", MEMBERS)
def test_a_docstring_names_the_errors_that_its_function_raises(name):
    function = function_of(MEMBERS[name])
    source = textwrap.dedent(inspect.getsource(function))
    # Those raised by what the function calls are not seen here.
    raised = {
        node.exc.func.id
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Raise)
        and isinstance(node.exc, ast.Call)
        and isinstance(node.exc.func, ast.Name)
    }
    assert raised <= set(section(MEMBERS[name], "Raises"))
