"""Values that Keras asks for in each of its ways."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from flaxlayer.weights.placed_initializer import PlacedInitializer

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


def test_a_bound_call_can_be_compiled():
    sharding = NamedSharding(mesh(), SPEC)
    compiled = jax.jit(
        PlacedInitializer(counting).__call__,
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

    with jax.set_mesh(mesh()):

        @jax.sharding.explicit_axes
        def placed():
            layout = NamedSharding(jax.sharding.get_abstract_mesh(), SPEC)
            return PlacedInitializer(initialize)(
                (2, 3), dtype="float32", layout=layout
            )

        value = placed(in_sharding=None)
    np.testing.assert_array_equal(value, EXPECTED)
    assert value.sharding == NamedSharding(mesh(), SPEC)
    assert [found.empty for found in meshes] == [True]
