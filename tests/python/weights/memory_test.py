"""Weights that cannot fit into memory are refused before they are made."""

import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from flaxlayer import FlaxLayer, JaxLayer, jax_compat
from flaxlayer.weights import memory

HUGE = 2**36
F32 = np.dtype(np.float32)


def scale(params, inputs):
    return inputs * params["w"][0]


def kibibytes(monkeypatch, number):
    monkeypatch.setattr(memory, "available", lambda devices=1: number * 1024)


def test_there_is_as_much_as_the_system_says():
    total = int(memory.available())
    assert 2**28 < total < 2**50
    memory.check({"a": jax.ShapeDtypeStruct((total // 4,), F32)})
    with pytest.raises(memory.NotEnoughMemory):
        memory.check({"a": jax.ShapeDtypeStruct((total // 4 + 1,), F32)})


@pytest.mark.parametrize(
    ("groups", "file", "limit"),
    [
        ("0::/a/b\n", "a/memory.max", 12345678),
        ("0::/of/the/host\n", "memory.max", 12345678),
        ("4:cpu,memory:/a\n0::/\n", "memory/a/memory.limit_in_bytes", 12345678),
        ("0::/a\n", "a/memory.max", "max"),
        ("", "memory.max", 12345678),
    ],
)
def test_limits_of_control_groups(monkeypatch, tmp_path, groups, file, limit):
    own, root = tmp_path / "cgroup", tmp_path / "groups"
    own.write_text(groups)
    (root / file).parent.mkdir(parents=True)
    (root / file).write_text(f"{limit}\n")
    monkeypatch.setattr(memory, "_OWN_GROUPS", own)
    monkeypatch.setattr(memory, "_GROUPS", root)
    monkeypatch.setattr(memory, "_MEMORY_INFO", tmp_path / "none")
    limited = groups and limit != "max"
    assert (memory.available() == 12345678) == bool(limited)


def test_swap_is_memory_too(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_OWN_GROUPS", tmp_path / "none")
    monkeypatch.setattr(memory, "_MEMORY_INFO", tmp_path / "none")
    without = memory.available()
    info = tmp_path / "meminfo"
    info.write_text("MemTotal: 9 kB\nSwapTotal:   3 kB\nSwapFree: 1 kB\n")
    monkeypatch.setattr(memory, "_MEMORY_INFO", info)
    assert memory.available() == without + 3 * 1024


@pytest.mark.parametrize("error", [AttributeError, OSError, ValueError])
def test_a_system_that_does_not_say(monkeypatch, error):
    def fails(name):
        raise error(name)

    monkeypatch.setattr(memory.os, "sysconf", fails)
    assert memory.available() is None


def test_what_is_as_large_as_the_memory_fits(monkeypatch):
    kibibytes(monkeypatch, 1)
    memory.check({"w": jax.ShapeDtypeStruct((256,), F32)})
    with pytest.raises(memory.NotEnoughMemory):
        memory.check({"w": jax.ShapeDtypeStruct((257,), F32)})


@pytest.mark.parametrize(
    ("platform", "here"),
    [
        # Two processes of two devices each: these have half of it.
        ("cpu", 0.5),
        # Each device has a memory of its own.
        ("gpu", 0.25),
    ],
)
def test_of_what_is_spread_a_memory_has_its_part(monkeypatch, platform, here):
    class Device:
        def __init__(self):
            self.platform = platform

    class Quarters:
        """A sharding of eight rows in four, in one of two processes."""

        def addressable_devices_indices_map(self, shape):
            return {Device(): (slice(0, 2),), Device(): (slice(2, 4),)}

        def shard_shape(self, shape):
            return (shape[0] // 4, *shape[1:])

    arrays = {"it": np.empty((8, 16), "float32")}
    monkeypatch.setattr(
        memory, "available", lambda devices: arrays["it"].nbytes * here
    )
    memory.check(arrays, shardings={"it": Quarters()})
    with pytest.raises(memory.NotEnoughMemory):
        memory.check(arrays)
    monkeypatch.setattr(
        memory, "available", lambda devices: arrays["it"].nbytes * here - 1
    )
    with pytest.raises(memory.NotEnoughMemory):
        memory.check(arrays, shardings={"it": Quarters()})


def test_what_there_is_is_known_inside_a_trace():
    def traced(x):
        assert memory.available() == expected
        FlaxLayer(nn.Dense(2), seed=0).build((None, 3))
        return x

    expected = memory.available()
    jax.jit(traced)(1.0)


def test_the_limit_of_a_device():
    def device(statistics):
        return types.SimpleNamespace(memory_stats=lambda: statistics)

    assert jax_compat.memory_limit(device({"bytes_limit": 5})) == 5
    assert jax_compat.memory_limit(device({})) is None
    assert jax_compat.memory_limit(device(None)) is None
    assert jax_compat.memory_limit(jax.devices("cpu")[0]) is None


def test_a_weight_is_named_and_nothing_is_left_half_built():
    layer = FlaxLayer(nn.Dense(4), seed=0, name="probe")
    with pytest.raises(
        MemoryError,
        match=r"FlaxLayer 'probe', built for inputs float32\[None, 68719476736"
        r"\], does not fit into memory: `params/kernel` of shape "
        r"\(68719476736, 4\) and dtype float32 takes 1,024\.0 GiB; there are "
        r"[\d,.]+ GiB of memory\. Check the sizes of the inputs",
    ):
        layer.build((None, HUGE))
    assert not layer.built
    assert layer.weights == []
    layer.build((None, 2))
    stock = nn.Dense(4).init(jax.random.key(0), jnp.ones((1, 2)))
    np.testing.assert_array_equal(
        layer.params["params"]["kernel"].value, stock["params"]["kernel"]
    )


def test_a_size_in_a_model_file_is_refused():
    layer = FlaxLayer(nn.Dense(4), name="probe")
    layer.build((None, 3))
    config = keras.saving.serialize_keras_object(layer)
    config["build_config"]["inputs"]["shape"] = [None, HUGE]
    with pytest.raises(MemoryError, match="'probe'.*`params/kernel`"):
        keras.saving.deserialize_keras_object(config)


def test_weights_that_only_together_are_too_large(monkeypatch):
    kibibytes(monkeypatch, 5)
    module = nn.Sequential([nn.Dense(32), nn.Dense(32)])
    layer = FlaxLayer(module)
    with pytest.raises(
        MemoryError, match=r"takes 0\.0 GiB, and all 4 take 0\.0 GiB; there"
    ):
        layer.build((None, 32))
    assert layer.weights == []
    FlaxLayer(nn.Dense(32)).build((None, 32))


@pytest.mark.parametrize("kind", ["params", "state"])
@pytest.mark.parametrize(
    "weight",
    [
        jax.ShapeDtypeStruct((HUGE, 4), F32),
        np.broadcast_to(np.float32(0), (HUGE, 4)),
    ],
    ids=["shape", "view"],
)
def test_given_weights(kind, weight):
    def call_fn(params, state, inputs):
        return inputs, state

    with pytest.raises(
        MemoryError, match=rf"JaxLayer 'probe': the given.*`{kind}/w`.*1,024"
    ):
        JaxLayer(
            call_fn,
            **{"params": {}, "state": {}, kind: {"w": weight}},
            name="probe",
        )


def test_a_shape_in_a_configuration_is_refused():
    spec = {"w": jax.ShapeDtypeStruct((8,), F32)}
    config = JaxLayer(scale, params=spec, name="probe").get_config()
    ((_, written),) = config["params"]["items"]
    written["shape"] = [2**40]
    with pytest.raises(MemoryError, match="`params/w`"):
        JaxLayer.from_config(config)


def test_arrays_that_are_there_are_not_counted(monkeypatch):
    kibibytes(monkeypatch, 1)
    JaxLayer(scale, params={"w": jnp.ones(1000)})


def test_what_an_initialiser_computes_weights_from():
    def init_fn(rng, inputs):
        return {"w": jax.random.normal(rng, (2**20, 2**20))[0, :3]}

    layer = JaxLayer(scale, init_fn, seed=0)
    with pytest.raises(MemoryError, match="an array of the initialiser"):
        layer.build((None, 3))


@pytest.mark.parametrize("with_numpy", [False, True])
def test_inputs_that_an_initialiser_looks_at(with_numpy):
    def init_fn(rng, inputs):
        start = np.asarray(rng).sum() if with_numpy else 0.0
        return {"w": start + inputs.sum() * jnp.ones(3)}

    layer = JaxLayer(scale, init_fn, seed=0)
    with pytest.raises(MemoryError, match="an input of shape"):
        layer.build((HUGE, 4))


def test_a_collection_that_was_not_given():
    class Table(nn.Module):
        @nn.compact
        def __call__(self, x):
            self.variable("table", "rows", jnp.zeros, (HUGE, 4))
            return nn.Dense(2)(x)

    given = nn.Dense(2).init(jax.random.key(0), jnp.ones((1, 3)))
    variables = {"params": {"Dense_0": given["params"]}}
    layer = FlaxLayer(Table(), variables=variables)
    with pytest.raises(MemoryError, match="`table/rows`"):
        layer.build((None, 3))


def test_variables_that_are_spread_have_several_devices(monkeypatch):
    monkeypatch.setattr(memory, "_of_host", lambda: 1024)
    monkeypatch.setattr(jax_compat, "memory_limit", lambda device: 1024)
    assert memory.available(4) == 1024  # A CPU is one memory.
    assert memory.devices_of_distribution() == 1
    devices = keras.distribution.list_devices()[:1]
    mesh = keras.distribution.DeviceMesh((1,), ("batch",), devices)
    keras.distribution.set_distribution(
        keras.distribution.DataParallel(device_mesh=mesh)
    )
    try:
        assert memory.devices_of_distribution() == 1
    finally:
        keras.distribution.set_distribution(None)
