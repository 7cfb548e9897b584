"""Native words in programs over several devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from flaxlayer.ops import dispatch, threefry
from tests.python import forced_devices

BLOCK = "flaxlayer_random_block"
BITS = "flaxlayer_random_bits"
SPLIT = "flaxlayer_random_split"
FOLD = "flaxlayer_fold_in"
DATA = np.array([3, 2**31 + 5], np.uint32)
SHAPE = (16, 6, 8)
SPECS = [
    (),
    ("data",),
    ("data", "model"),
    (None, "model", "data"),
    (("data", "model"),),
    (("model", "data"),),
    (None, None, "model"),
]


def sharded(*spec):
    mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ("data", "model"))
    return NamedSharding(mesh, PartitionSpec(*spec))


def native(data):
    assert dispatch.choose("threefry", "native").required  # Registers it.
    return threefry.keys_of(data, required=True)


def stock(data):
    return jax.random.wrap_key_data(data, impl="threefry2x32")


def compared(function, *arguments, **options):
    """The compiled text; the results are those of stock keys, bit for bit."""
    compiled, expected = (
        jax.jit(lambda *x, keys=keys: function(keys, *x), **options).lower(
            *arguments
        )
        for keys in (native, stock)
    )
    compiled, expected = compiled.compile(), expected.compile()
    for a, b in zip(
        jax.tree.leaves(compiled(*arguments)),
        jax.tree.leaves(expected(*arguments)),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
    text = compiled.as_text()
    for collective in ("all-gather(", "all-to-all(", "collective-permute("):
        found = text.count(collective)
        assert found <= expected.as_text().count(collective), collective
    return text


def check_each_device_computes_its_part_of_the_words():
    for spec in SPECS:
        for bits in (8, 16, 32):
            text = compared(
                lambda keys, data, bits=bits: jax.random.bits(
                    keys(data), SHAPE, f"uint{bits}"
                ),
                DATA,
                out_shardings=sharded(*spec),
            )
            assert (BLOCK if spec else BITS) in text
            assert "all-gather" not in text


def check_words_of_64_bits():
    with jax.enable_x64(True):
        text = compared(
            lambda keys, data: jax.random.bits(keys(data), SHAPE, "uint64"),
            DATA,
            out_shardings=sharded("data", None, "model"),
        )
    assert BLOCK in text


def dropped(key, x):
    return jnp.where(jax.random.bernoulli(key, 0.5, x.shape), x, 0)


def check_the_sharding_is_that_of_what_uses_the_words():
    x = np.random.default_rng(0).normal(size=SHAPE).astype("float32")

    def function(keys, data, x):
        return jax.value_and_grad(
            lambda x: (dropped(keys(data), x).sum(-1) ** 2).sum()
        )(x)

    for spec in SPECS[1:]:
        argument = jax.device_put(x, sharded(*spec))
        text = compared(function, DATA, argument)
        assert BLOCK in text
        sizes = ",".join(map(str, sharded(*spec).shard_shape(SHAPE)))
        assert f"u32[{sizes}]" in text
        assert f"u32[{','.join(map(str, SHAPE))}]" not in text


def check_sizes_that_do_not_divide():
    x = np.random.default_rng(0).normal(size=(16, 7)).astype("float32")

    def function(keys, data, x):
        x = jnp.concatenate([dropped(keys(data), x)] * 3, axis=1)[:10]
        return dropped(keys(data + 1), jnp.sin(x))

    argument = jax.device_put(x, sharded("data"))
    compared(function, DATA, argument)


def check_keys_are_split_and_folded_on_each_device():
    def function(keys, data):
        parts = jax.random.split(keys(data), 16)
        return jax.random.key_data(
            jax.vmap(jax.random.fold_in)(parts, jnp.arange(16))
        )

    for spec in ((), ("data",), (("data", "model"),)):
        text = compared(function, DATA, out_shardings=sharded(*spec))
        assert SPLIT in text
        assert FOLD in text


def check_a_batch_of_keys_is_sharded_with_what_they_are_for():
    x = np.random.default_rng(0).normal(size=SHAPE).astype("float32")
    data = np.arange(32, dtype=np.uint32).reshape(16, 2)

    def function(keys, data, x):
        return jax.vmap(lambda data, x: dropped(keys(data), x))(data, x)

    for spec in (("data",), ("data", "model"), (None, "model")):
        argument = jax.device_put(x, sharded(*spec))
        placed = jax.device_put(data, sharded(*spec[:1]))
        text = compared(function, placed, argument)
        assert "flaxlayer_random_b" in text
        assert "all-gather" not in text


def check_loops_and_checkpoints():
    x = np.random.default_rng(0).normal(size=(16, 8)).astype("float32")

    def function(keys, data, x):
        @jax.checkpoint
        def step(x, i):
            return dropped(jax.random.fold_in(keys(data), i), jnp.sin(x)), None

        def loss(x):
            return (jax.lax.scan(step, x, jnp.arange(3))[0] ** 2).sum()

        return jax.grad(loss)(x)

    argument = jax.device_put(x, sharded("data", "model"))
    assert BLOCK in compared(function, DATA, argument)


def check_axes_that_are_manual_in_part_use_the_reference():
    def function(x):
        key = threefry.keys_of(DATA, required=False)
        return dropped(key, x)

    mesh = sharded().mesh
    partly = jax.shard_map(
        function,
        mesh=mesh,
        in_specs=PartitionSpec("data"),
        out_specs=PartitionSpec("data"),
        axis_names={"data"},
        check_vma=False,
    )
    x = jax.device_put(np.ones(SHAPE, "float32"), sharded("data", "model"))
    text = jax.jit(partly).lower(x).compile().as_text()
    assert "flaxlayer_random" not in text


def check_a_mesh_of_one_device_uses_the_plain_kernel():
    text = compared(lambda keys, data: jax.random.bits(keys(data), SHAPE), DATA)
    assert BITS in text
    assert BLOCK not in text


@pytest.fixture(scope="module")
def failures(native_kernels):
    return forced_devices.failures_of(__file__)


@pytest.mark.parametrize("check", forced_devices.checks(globals()))
def test_with_eight_devices(failures, check):
    assert failures[check] is None, failures[check]


if __name__ == "__main__":
    forced_devices.run_checks(globals())
