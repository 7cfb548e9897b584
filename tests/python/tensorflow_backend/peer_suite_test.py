"""The tests that Keras has of its FlaxLayer and JaxLayer, run with ours."""

import importlib.util
import pathlib
import re

import pytest

SUITE = importlib.util.find_spec("keras.src.utils.jax_layer_test").origin

# Of its own ways: shapes given to layers, and optimizers that are not built.
pytestmark = pytest.mark.filterwarnings("default")

source, replaced = re.subn(
    r"^from keras\.src\.utils\.jax_layer import ",
    "from flaxlayer import ",
    pathlib.Path(SUITE).read_text(encoding="utf-8"),
    flags=re.M,
)
assert replaced == 2
exec(compile(source, SUITE, "exec"))
