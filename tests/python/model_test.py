"""Models know neither Keras nor each other, and the layer knows no model."""

import ast
import pathlib

import pytest

import flaxlayer

PACKAGE = pathlib.Path(flaxlayer.__file__).parent
MODELS = ("functions", "linen", "nnx")


def imports(folder):
    """What the files of a folder import, as dotted names."""
    found = set()
    for path in (PACKAGE / folder).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                found.update(f"{node.module}.{a.name}" for a in node.names)
    return found


def names(found, *modules):
    return {
        name
        for name in found
        if any(f"{name}.".startswith(f"{module}.") for module in modules)
    }


@pytest.mark.parametrize("folder", MODELS)
def test_a_model_imports_nothing_of_keras(folder):
    found = imports(folder)
    assert names(found, "flaxlayer.calls")
    assert not names(
        found, "keras", "flaxlayer.keras_compat", "flaxlayer.layer"
    )


@pytest.mark.parametrize("folder", MODELS)
def test_a_model_imports_no_other_kind(folder):
    others = [f"flaxlayer.{name}" for name in MODELS if name != folder]
    assert not names(imports(folder), *others)


def test_the_layer_imports_no_model():
    found = imports("layer")
    assert names(found, "flaxlayer.model")
    assert not names(found, *(f"flaxlayer.{name}" for name in MODELS))
