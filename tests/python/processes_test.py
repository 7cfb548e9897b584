"""What depends on how a process was started: backend and packages."""

import os
import subprocess
import sys
import textwrap


def run(code, **environment):
    """Runs `code` in a Python of its own; returns what it printed."""
    code = textwrap.dedent(code)
    paths = [path for path in sys.path if path]
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(paths),
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    return result.stdout.split()


BLOCK_TENSORFLOW = """
    import importlib.abc, sys

    class Absent(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] in ("tensorflow", "jax2tf"):
                tried.append(name)
                raise ModuleNotFoundError(name=name)

    tried = []
    sys.meta_path.insert(0, Absent())
"""


def test_no_step_of_a_models_life_needs_tensorflow(tmp_path):
    output = run(
        BLOCK_TENSORFLOW
        + """
    import flax.linen as nn, keras, numpy as np
    import flaxlayer

    tried.clear()  # Keras itself looks for it when it is imported.

    class Net(nn.Module):
        @nn.compact
        def __call__(self, inputs, training=False):
            x = nn.BatchNorm(use_running_average=not training)(inputs)
            return nn.Dense(2)(nn.Dropout(0.5, deterministic=not training)(x))

    layer = flaxlayer.FlaxLayer(Net(), seed=0)
    x = np.ones((4, 3), "float32")
    model = keras.Sequential([keras.Input((3,)), layer])
    model.compile("sgd", "mse")
    model.fit(x, x[:, :2], verbose=0)
    expected = model.predict(x, verbose=0)
    path = sys.argv[1] if len(sys.argv) > 1 else PATH
    model.save(path)
    again = keras.models.load_model(path, custom_objects={"Net": Net})
    assert np.array_equal(again.predict(x, verbose=0), expected)
    loaded = [m for m in sys.modules if m.partition(".")[0] == "tensorflow"]
    ours = [name for name in tried if "jax2tf" in name]
    print("tensorflow" in sys.modules, len(loaded), len(ours))
    """.replace("PATH", repr(str(tmp_path / "model.keras")))
    )
    assert output == ["False", "0", "0"]


def test_another_backend_is_refused_when_a_layer_is_made():
    output = run(
        """
    import flaxlayer, keras, flax.linen as nn

    assert keras.backend.backend() == "numpy"
    for make in (
        lambda: flaxlayer.FlaxLayer(nn.Dense(2), name="probe"),
        lambda: flaxlayer.JaxLayer(lambda inputs: inputs, name="probe"),
    ):
        try:
            make()
        except ValueError as error:
            assert "'numpy'" in str(error), error
            assert 'KERAS_BACKEND="jax"' in str(error), error
            print(str(error).split()[0])
    """,
        KERAS_BACKEND="numpy",
    )
    assert output == ["FlaxLayer", "JaxLayer"]
