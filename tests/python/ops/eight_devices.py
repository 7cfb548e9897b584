"""Meshes over all devices, for checks of operations."""

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec


def mesh():
    return Mesh(np.array(jax.devices()), ("batch",))


def sharded(*spec):
    return NamedSharding(mesh(), PartitionSpec(*spec))


def shard_map(function):
    """Over the first axes of all arguments and results."""
    try:
        from jax import shard_map as transform
    except ImportError:  # JAX before 0.7
        from jax.experimental.shard_map import shard_map as transform
    spec = PartitionSpec("batch")
    return transform(function, mesh=mesh(), in_specs=spec, out_specs=spec)
