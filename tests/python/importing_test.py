"""What importing the package imports, and when Keras knows its layers."""

import functools
import os
import subprocess
import sys

import keras
import pytest
from flax import nnx

import flaxlayer

REGISTERED = """
assert keras.saving.get_registered_object("flaxlayer>FlaxLayer")
assert keras.saving.get_registered_object("flaxlayer>JaxLayer")
"""


def run(code):
    """Runs code in a new process, where a warning is an error."""
    return subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code],
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "code",
    [
        # Looking for Keras is not importing it.
        """
import sys, flaxlayer
from importlib.util import find_spec

for name in ("flax", "jax", "keras", "numpy", "tensorflow"):
    assert name not in sys.modules, name
assert find_spec("keras") and find_spec("keras.layers")
import keras
assert type(keras.__loader__) is type(keras.layers.__loader__)
assert keras.__spec__.loader is keras.__loader__
""",
        "import keras, flaxlayer",
        # A module of ours is what imports Keras.
        """
import flaxlayer.layer.model_layer, keras, sys
assert "flaxlayer.checkpoints" not in sys.modules
flaxlayer.FlaxLayer
assert "flaxlayer.checkpoints" in sys.modules
""",
    ],
    ids=["first", "later", "within"],
)
def test_keras_knows_the_layers_whenever_it_is_imported(code):
    result = run(code + REGISTERED)
    assert result.returncode == 0, result.stderr


def test_where_the_layers_cannot_be_imported_importing_keras_warns():
    result = run("""
import sys, warnings
sys.modules["flax"] = None
import flaxlayer
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import keras
(warning,) = caught
assert "flaxlayer cannot be used: import of flax" in str(warning.message)
try:
    flaxlayer.FlaxLayer
except ImportError as error:
    assert "flaxlayer.FlaxLayer cannot be used: import of" in str(error)
    assert isinstance(error.__cause__, ModuleNotFoundError)
""")
    assert result.returncode == 0, result.stderr


def test_several_threads_may_ask_first():
    result = run("""
import concurrent.futures, flaxlayer
with concurrent.futures.ThreadPoolExecutor(4) as threads:
    found = threads.map(lambda _: flaxlayer.FlaxLayer, range(4))
    assert set(found) == {flaxlayer.FlaxLayer}
""")
    assert result.returncode == 0, result.stderr


def test_one_thread_may_load_a_model_while_another_asks(tmp_path):
    result = run(f"""
import threading, flaxlayer
path = {str(tmp_path / "model.keras")!r}
failed = []

def ask():
    flaxlayer.FlaxLayer

def load():
    import keras
    try:
        keras.saving.load_model(path)
    except Exception as error:
        failed.append(str(error))

def save():
    import flax.linen, keras
    keras.Sequential(
        [keras.Input((3,)), flaxlayer.FlaxLayer(flax.linen.Dense(2))]
    ).save(path)

import os
if os.fork() == 0:
    save()
    os._exit(0)
assert os.wait()[1] == 0
threads = [threading.Thread(target=each) for each in (ask, load)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(60)
assert not any(thread.is_alive() for thread in threads)
assert not failed, failed
""")
    assert result.returncode == 0, result.stderr


def test_all_names_are_listed_and_others_are_none():
    assert set(flaxlayer.__all__) <= set(dir(flaxlayer))
    with pytest.raises(AttributeError, match="has no attribute 'Flaxlayer'"):
        _ = flaxlayer.Flaxlayer


def test_every_public_name_is_where_it_is_said_to_be():
    for name in flaxlayer.__all__:
        value = getattr(flaxlayer, name)
        assert value is flaxlayer.__dict__[name]


def test_a_linen_module_needs_nothing_of_nnx_and_files_that_do_get_it(
    tmp_path,
):
    inputs = keras.Input((3,))
    for name, module in {
        "bridged": nnx.bridge.ToLinen(nnx.Linear, args=(3, 2)),
        "class": functools.partial(nnx.Linear, 3, 2),
    }.items():
        layer = flaxlayer.FlaxLayer(module)
        keras.Sequential([inputs, layer]).save(tmp_path / f"{name}.keras")
    result = run(f"""
import pathlib, sys, flax.linen as nn, flaxlayer, keras, numpy as np

folder = pathlib.Path({str(tmp_path)!r})

class Network(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool):
        x = nn.BatchNorm(use_running_average=not train)(x)
        return nn.Dense(2)(nn.Dropout(0.5, deterministic=not train)(x))

layer = flaxlayer.FlaxLayer(Network())
model = keras.Sequential([keras.Input((3,)), layer])
x, y = np.ones((8, 3), "float32"), np.ones((8, 2), "float32")
expected = layer(x)
model.compile("adam", "mse")
model.fit(x, y, verbose=0)
model.save(folder / "linen.keras")
keras.saving.load_model(folder / "linen.keras").predict(x, verbose=0)
flaxlayer.save_variables(layer, folder / "linen.msgpack")
flaxlayer.load_variables(layer, folder / "linen.msgpack")
function = flaxlayer.JaxLayer(lambda inputs: 2 * inputs)
function(x)
try:
    layer.merged()
except TypeError as error:
    assert "one of Linen" in str(error)
for module in ("flax.nnx", "flaxlayer.nnx", "optax", "treescope"):
    assert module not in sys.modules, module

# The name of a class in a file is enough.
for name in ("bridged", "class"):
    loaded = keras.saving.load_model(folder / f"{{name}}.keras")
    assert loaded.predict(x, verbose=0).shape == (8, 2)
assert "flax.nnx" in sys.modules
""")
    assert result.returncode == 0, result.stderr
