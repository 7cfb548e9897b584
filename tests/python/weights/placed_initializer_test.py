"""Values that Keras asks for in each of its ways."""

import contextlib

import jax
import jax.numpy as jnp
import keras
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from flaxlayer.weights.placed_initializer import (
    CompilableInitializer,
    PlacedInitializer,
    for_keras,
    placed,
)

SPEC = PartitionSpec(None, "model")


def counting(shape, dtype=None):
    return jnp.arange(np.prod(shape), dtype=dtype).reshape(shape)


EXPECTED = np.arange(6, dtype=np.float32).reshape(2, 3)


def mesh():
    return Mesh(np.array(jax.devices()[:1]), ("model",))


def test_without_a_layout_the_value_is_as_it_was_computed():
    value = PlacedInitializer(counting)((2, 3), dtype="float32")
    np.testing.assert_array_equal(value, EXPECTED)
    assert value.sharding == jnp.zeros(()).sharding


def test_a_value_is_put_where_it_is_wanted():
    sharding = NamedSharding(mesh(), SPEC)
    value = placed(jnp.asarray(EXPECTED), sharding)
    assert value.sharding == sharding
    np.testing.assert_array_equal(value, EXPECTED)


def test_a_bound_call_can_be_compiled():
    sharding = NamedSharding(mesh(), SPEC)
    compiled = jax.jit(
        CompilableInitializer(counting).__call__,
        out_shardings=sharding,
        static_argnames=["shape", "dtype"],
    )
    value = compiled(shape=(2, 3), dtype="float32")
    np.testing.assert_array_equal(value, EXPECTED)
    assert value.sharding == sharding


def test_a_layout_says_where_and_the_value_is_computed_on_no_mesh():
    meshes = []

    def initialize(shape, dtype):
        meshes.append(jax.sharding.get_abstract_mesh())
        return counting(shape, dtype)

    distribution = keras.distribution.ModelParallel(
        layout_map=keras.distribution.LayoutMap(
            keras.distribution.DeviceMesh(
                (1,), ("model",), keras.distribution.list_devices()[:1]
            )
        )
    )
    with distribution.scope(), jax.set_mesh(mesh()):

        @jax.sharding.explicit_axes
        def placed():
            layout = NamedSharding(jax.sharding.get_abstract_mesh(), SPEC)
            return PlacedInitializer(initialize)(
                (2, 3), dtype="float32", layout=layout
            )

        value = placed(in_sharding=None)
    np.testing.assert_array_equal(value, EXPECTED)
    assert isinstance(value.sharding.mesh, Mesh)
    assert [found.empty for found in meshes] == [True]


def test_a_variable_is_made_of_its_value():
    value = for_keras(counting, "kernel", (2, 3), "float32")
    np.testing.assert_array_equal(value, EXPECTED)


def test_where_values_come_later_there_are_layouts_but_on_one_device():
    devices = np.array(keras.distribution.list_devices()[:1])
    alone = keras.distribution.DataParallel(devices=devices)
    for scope in (contextlib.nullcontext(), alone.scope()):
        with scope, keras.StatelessScope():
            made_of = for_keras(counting, "kernel", (2, 3), "float32")
            assert type(made_of) is CompilableInitializer
