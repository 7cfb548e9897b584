"""What depends on how a process was started: backend and packages."""

import os
import subprocess
import sys
import textwrap


def run(code, **environment):
    """Runs `code` in a Python of its own; returns what it printed.

    Variables of the environment are set, or taken away where they are None.
    """
    code = textwrap.dedent(code)
    paths = [path for path in sys.path if path]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **environment}
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={name: value for name, value in env.items() if value is not None},
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


def test_importing_it_makes_keras_use_jax(tmp_path):
    # What Keras writes there when it is imported for the first time.
    (tmp_path / "keras.json").write_text('{"backend": "tensorflow"}')
    output = run(
        BLOCK_TENSORFLOW
        + """
    import flaxlayer
    import keras

    flaxlayer.FlaxLayer
    print(keras.backend.backend())
    """,
        KERAS_BACKEND=None,
        KERAS_HOME=str(tmp_path),
    )
    assert output == ["jax"]


REFUSED = """
    import sys, warnings

    with warnings.catch_warnings(record=True) as shown:
        import flaxlayer

    def check(error):
        assert EXPECTED in str(error), error
        assert "KERAS_BACKEND=jax" in str(error), error

    (warning,) = shown
    check(warning.message)
    assert warning.filename == "<string>", warning.filename
    for name in flaxlayer.__all__:
        if name == "__version__":
            continue
        try:
            getattr(flaxlayer, name)
        except ImportError as error:
            check(error)
            assert f"flaxlayer.{name} cannot" in str(error), error
            assert "python -m flaxlayer.doctor" in str(error), error
            check(error.__cause__)
        else:
            raise AssertionError(name)
    try:
        from flaxlayer import FlaxLayer
    except ImportError as error:
        check(error)
    assert not hasattr(flaxlayer, "other")
    print(flaxlayer.__version__ and "keras" in sys.modules)
"""


def test_another_backend_is_refused_for_every_name():
    expected = "Received: KERAS_BACKEND='torch'"
    output = run(
        REFUSED.replace("EXPECTED", repr(expected)), KERAS_BACKEND="torch"
    )
    assert output == ["False"]


def test_another_backend_that_keras_has_already_is_refused():
    expected = "Received: backend 'numpy', with which keras is imported"
    output = run(
        "    import keras\n" + REFUSED.replace("EXPECTED", repr(expected)),
        KERAS_BACKEND="numpy",
    )
    assert output == ["True"]


def test_a_package_that_is_missing_is_named():
    output = run(
        """
    import sys, warnings

    sys.modules["flax"] = None
    warnings.simplefilter("ignore")
    import flaxlayer

    try:
        flaxlayer.FlaxLayer
    except ImportError as error:
        assert "import of flax" in str(error), error
        print(type(error.__cause__).__name__)
    """
    )
    assert output == ["ModuleNotFoundError"]


def test_a_layer_trains_the_same_in_the_nnx_mode_of_keras():
    code = """
    import keras, numpy as np
    import flaxlayer
    from flax import nnx
    import flax.linen as nn

    class Linen(nn.Module):
        @nn.compact
        def __call__(self, x, training=False):
            x = nn.BatchNorm(use_running_average=not training)(x)
            return nn.Dense(3)(nn.Dropout(0.5, deterministic=not training)(x))

    class Nnx(nnx.Module):
        def __init__(self, rngs):
            self.norm = nnx.BatchNorm(6, rngs=rngs)
            self.drop = nnx.Dropout(0.5, rngs=rngs)
            self.head = nnx.Linear(6, 3, rngs=rngs)

        def __call__(self, x):
            return self.head(self.drop(self.norm(x)))

    print(issubclass(keras.Layer, nnx.Module))
    x = np.random.RandomState(0).randn(32, 6).astype("float32")
    for module in (Linen(), Nnx):
        layer = flaxlayer.FlaxLayer(module, seed=0, name="net")
        model = keras.Sequential([keras.Input((6,)), layer])
        model.compile("adam", "mse")
        losses = model.fit(
            x, x[:, :3], epochs=3, shuffle=False, verbose=0
        ).history["loss"]
        print(*(loss.hex() for loss in losses))
    """
    off, *plain = run(code, KERAS_BACKEND="jax", KERAS_NNX_ENABLED=None)
    on, *mode = run(code, KERAS_BACKEND="jax", KERAS_NNX_ENABLED="1")
    assert (off, on) == ("False", "True")
    assert len(plain) == 6
    assert mode == plain


def test_an_nnx_module_is_loaded_in_a_new_process(tmp_path):
    (tmp_path / "own_networks.py").write_text(
        textwrap.dedent(
            """
            from flax import nnx

            class Own(nnx.Module):
                def __init__(self, width, *, rngs):
                    self.hidden = nnx.Linear(6, width, rngs=rngs)
                    self.drop = nnx.Dropout(0.5, rngs=rngs)
                    self.head = nnx.Linear(width, 3, rngs=rngs)

                def __call__(self, x):
                    return self.head(self.drop(nnx.relu(self.hidden(x))))
            """
        ),
        encoding="utf-8",
    )
    common = f"""
    import functools, sys
    sys.path.insert(0, {str(tmp_path)!r})
    import flaxlayer, keras, numpy as np
    x = np.random.RandomState(0).randn(32, 6).astype("float32")

    def go_on(model):
        history = model.fit(
            x, x[:, :3], epochs=2, shuffle=False, verbose=0
        ).history["loss"]
        print(*(loss.hex() for loss in history))
    """
    save = """
    import own_networks

    layer = flaxlayer.FlaxLayer(
        functools.partial(own_networks.Own, width=16), seed=0
    )
    model = keras.Sequential([keras.Input((6,)), layer])
    model.compile("adam", "mse")
    model.fit(x, x[:, :3], shuffle=False, verbose=0)
    model.save(sys.path[0] + "/model.keras")
    go_on(model)
    """
    load = """
    try:
        keras.models.load_model(sys.path[0] + "/model.keras")
    except ValueError as error:
        assert "import `own_networks` before" in str(error), error
    import own_networks

    go_on(keras.models.load_model(sys.path[0] + "/model.keras"))
    """
    saved = run(common + save, KERAS_BACKEND="jax")
    loaded = run(common + load, KERAS_BACKEND="jax")
    assert len(saved) == 2
    assert loaded == saved
