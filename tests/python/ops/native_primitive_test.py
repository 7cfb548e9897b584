"""Primitives with a native handler: results typed as the reference's are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from flaxlayer.ops import native_primitive

X = np.ones((4, 2), np.float32)
SPEC = PartitionSpec("batch")


def doubled(x):
    return x + x


def doubled_and_signs(x):
    return [x + x, x > 0]


single = native_primitive.define(
    "flaxlayer_test_single",
    reference=doubled,
    result=lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype),
)
several = native_primitive.define(
    "flaxlayer_test_several",
    reference=doubled_and_signs,
    result=lambda x: [
        jax.ShapeDtypeStruct(x.shape, x.dtype),
        jax.ShapeDtypeStruct(x.shape, np.bool_),
    ],
    multiple_results=True,
    tangents=lambda results, *tangents: list(tangents) * 2,
)
CASES = [(single, doubled), (several, doubled_and_signs)]


def traced_types(primitive, reference, x, transform=lambda function: function):
    """Of the results in a trace, of those of the reference, and of `x`."""
    seen = []

    def function(x):
        for results in (primitive.bind(x, required=False), reference(x), x):
            seen.append(list(map(jax.typeof, jax.tree.leaves(results))))
        return x

    jax.make_jaxpr(transform(function))(x)
    return seen


@pytest.mark.parametrize(("primitive", "reference"), CASES)
def test_on_no_mesh(primitive, reference):
    found, expected, _ = traced_types(primitive, reference, X)
    assert found == expected


@pytest.mark.parametrize(("primitive", "reference"), CASES)
def test_manual_axes_of_a_mesh_are_kept(primitive, reference):
    mesh = Mesh(np.array(jax.devices()[:1]), ("batch",))
    found, expected, operand = traced_types(
        primitive,
        reference,
        X,
        lambda function: jax.shard_map(
            function, mesh=mesh, in_specs=SPEC, out_specs=SPEC
        ),
    )
    assert found == expected
    # The axis is a part of the type, or this would show nothing.
    assert operand != [jax.typeof(jnp.asarray(X))]


@pytest.mark.parametrize(("primitive", "reference"), CASES)
def test_explicit_axes_of_a_mesh_are_kept(primitive, reference):
    devices = np.array(jax.devices()[:1])
    mesh = Mesh(devices, ("batch",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(mesh):
        x = jax.device_put(X, NamedSharding(mesh, SPEC))
        found, expected, operand = traced_types(primitive, reference, x)
    assert found == expected
    assert operand != [jax.typeof(jnp.asarray(X))]
