"""What depends on how a process was started: backend, packages, devices."""

import os
import subprocess
import sys
import textwrap

import pytest


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


@pytest.mark.parametrize("kernels", ["auto"])
def test_weights_are_sharded_by_their_paths(kernels):
    output = run(
        f"""
    import flax.linen as nn, jax, keras, numpy as np
    import flaxlayer

    class Net(nn.Module):
        @nn.compact
        def __call__(self, inputs, training=False):
            x = nn.Dense(8, name="up")(inputs)
            x = nn.Dropout(0.5, deterministic=not training)(x)
            return nn.Dense(4, name="down")(x)

    x = np.ones((8, 4), "float32")

    def trained(shape, axes):
        devices = keras.distribution.list_devices()
        mesh = keras.distribution.DeviceMesh(
            shape, ("batch", "model"), devices[: shape[0] * shape[1]]
        )
        layouts = keras.distribution.LayoutMap(mesh)
        layouts[".*/params/up/kernel"] = axes
        keras.distribution.set_distribution(
            keras.distribution.ModelParallel(
                layout_map=layouts, batch_dim_name="batch"
            )
        )
        layer = flaxlayer.FlaxLayer(Net(), seed=0, kernels={kernels!r})
        model = keras.Sequential([keras.Input((4,)), layer])
        model.compile("sgd", "mse")
        losses = [float(model.train_on_batch(x, x)) for _ in range(3)]
        return losses, layer.params["params"]["up"]["kernel"].value

    losses, kernel = trained((2, 2), (None, "model"))
    assert kernel.sharding.shard_shape(kernel.shape) == (4, 4), kernel.sharding
    alone, whole = trained((1, 1), (None, None))
    np.testing.assert_allclose(losses, alone, rtol=1e-5)
    np.testing.assert_allclose(kernel, whole, rtol=1e-4, atol=1e-5)
    print("sharded")
    """,
        XLA_FLAGS="--xla_force_host_platform_device_count=4",
    )
    assert output == ["sharded"]
