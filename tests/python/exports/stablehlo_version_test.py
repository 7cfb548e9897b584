"""Programs are written in what TensorFlow reads, whatever JAX writes."""

import jax
import jax.numpy as jnp
import numpy as np
import tensorflow as tf
from jax.extend.mlir.dialects import stablehlo

from flaxlayer import stablehlo_version, tensorflow_compat


def exported(function):
    return jax.export.export(jax.jit(function))(
        jax.ShapeDtypeStruct((3,), np.float32)
    )


def version_of(module):
    """What the file says that it is written in."""
    _, _, rest = module.partition(b"StableHLO_v")
    return rest.split(b"\0")[0].decode()


def precise(x):
    # An attribute of version 1.9.
    return jax.lax.exp(x, accuracy=jax.lax.AccuracyMode.HIGHEST)


def test_the_oldest_version_is_written():
    module = exported(jnp.tanh).mlir_module_serialized
    assert version_of(module) != stablehlo.get_minimum_version()
    old = stablehlo_version.oldest(module)
    assert version_of(old) == stablehlo.get_minimum_version()


def test_newer_operations_are_written_in_a_newer_version(capfd):
    module = exported(precise).mlir_module_serialized
    assert version_of(stablehlo_version.oldest(module)) == "1.9.0"
    # Nothing is said of the versions that have not worked.
    assert capfd.readouterr().err == ""


def test_it_is_the_same_program():
    program = exported(lambda x: jax.lax.top_k(x, 2)[0])
    module = stablehlo_version.oldest(program.mlir_module_serialized)
    (result,) = tensorflow_compat.call(
        program, module, [tf.constant([3.0, 1.0, 2.0])]
    )
    assert result.numpy().tolist() == [3, 2]
