"""Programs are written in what the installed TensorFlow reads."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf
from jax.extend.mlir.dialects import stablehlo

import flaxlayer
from flaxlayer.backends import stablehlo_version, tensorflow_compat


@pytest.fixture(autouse=True)
def asked_anew():
    stablehlo_version._target.cache_clear()
    yield
    stablehlo_version._target.cache_clear()


def exported(function=jnp.tanh):
    return jax.export.export(jax.jit(function))(
        jax.ShapeDtypeStruct((3,), np.float32)
    )


def version_of(module):
    """What the file says that it is written in."""
    _, _, rest = module.partition(b"StableHLO_v")
    numbers = rest.split(b"\0")[0].split(b".")
    return tuple(int(number) for number in numbers[:2])


def reading_up_to(minor, monkeypatch):
    """A TensorFlow that reads no newer minor version of StableHLO."""
    operation = tensorflow_compat.operation

    def older(exported, module):
        run = operation(exported, module)

        def call(tensors):
            if version_of(module) > (1, minor):
                raise tf.errors.InvalidArgumentError(
                    None, None, "cannot deserialize"
                )
            return run(tensors)

        return call

    monkeypatch.setattr(tensorflow_compat, "operation", older)


def test_what_is_read_is_left_as_it_is():
    program = exported()
    module = stablehlo_version.readable(program)
    (result,) = tensorflow_compat.operation(program, module)([tf.ones(3)])
    np.testing.assert_allclose(result, np.tanh(np.ones(3)), 1e-6)


def test_the_newest_version_that_is_read_is_written(monkeypatch):
    reading_up_to(9, monkeypatch)
    assert version_of(exported().mlir_module_serialized) > (1, 9)
    assert version_of(stablehlo_version.readable(exported())) == (1, 9)
    layer = flaxlayer.JaxLayer(lambda inputs: 2 * inputs)
    x = tf.ones(3)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
    assert tape.gradient(y, x).numpy().tolist() == [2, 2, 2]


def test_a_tensorflow_that_reads_none_is_reported(monkeypatch):
    reading_up_to(-1, monkeypatch)
    with pytest.raises(ImportError, match="Install a newer TensorFlow") as e:
        stablehlo_version.readable(exported())
    assert tf.__version__ in str(e.value)
    assert jax.__version__ in str(e.value)


def test_operations_that_a_version_lacks_are_reported(monkeypatch):
    reading_up_to(0, monkeypatch)

    def newer(x):
        # A dtype of version 1.8.
        return x.astype("float8_e3m4").astype("float32")

    with pytest.raises(ValueError, match=r"reads StableHLO 1\.0\.0") as error:
        stablehlo_version.readable(exported(newer))
    assert stablehlo.get_current_version() in str(error.value)


def test_a_calling_convention_that_is_not_known_is_reported(monkeypatch):
    newest = "call_module_maximum_supported_version"
    monkeypatch.setattr(tensorflow_compat.xla, newest, lambda: 3)
    with pytest.raises(ImportError, match="conventions of exports up to 3"):
        tensorflow_compat.operation(exported(), b"")
