"""The kernels for CUDA devices: what they compute, and who calls them."""

import flax.linen as nn
import jax
import jax.export
import jax.extend.random
import numpy as np
import pytest

import flaxlayer
from flaxlayer.ops import dispatch, native, rng_fold, threefry
from tests.python.ops import ptx_machine

KEYS = np.array(
    [[0, 0], [1, 2], [2**32 - 1, 12345], [0x13198A2E, 0x03707344]], np.uint32
)


@pytest.fixture
def text(native_kernels):
    from flaxlayer import _native

    return _native.cuda_kernels()


def computed(text, name, keys, result, data=None, *, grid, block):
    """What a kernel writes: an array as `result`."""
    arrays = [keys, result, *([] if data is None else [data])]
    starts, memory = [], bytearray()
    for array in arrays:
        memory += bytes(-len(memory) % 256)
        starts.append(len(memory))
        memory += array.tobytes()
    per_key = result.size // len(keys)
    if name in ("flaxlayer_fold_in", "flaxlayer_random_split"):
        per_key //= 2
    ptx_machine.Kernel(text, name).run(
        memory,
        [starts[0], starts[1], per_key, len(keys), *starts[2:]],
        grid=grid,
        block=block,
    )
    end = starts[1] + result.nbytes
    written = np.frombuffer(memory[starts[1] : end], result.dtype)
    return written.reshape(result.shape)


def stock(words):
    return jax.random.wrap_key_data(words, impl="threefry2x32")


# One thread for each index and key; fewer, which then take several; and more.
@pytest.mark.parametrize(
    ("grid", "block"),
    [((7, 4), (1, 1)), ((1, 1), (2, 1)), ((2, 3), (3, 2)), ((3, 1), (4, 4))],
)
@pytest.mark.parametrize("bits", [8, 16, 32, 64])
def test_random_bits(text, bits, grid, block):
    with jax.enable_x64(True):
        dtype = np.dtype(f"uint{bits}")
        expected = jax.vmap(lambda key: jax.random.bits(key, (7,), dtype))(
            stock(KEYS)
        )
    words = computed(
        text,
        f"flaxlayer_random_bits{bits}",
        KEYS,
        np.zeros((len(KEYS), 7), dtype),
        grid=grid,
        block=block,
    )
    np.testing.assert_array_equal(words, expected)


@pytest.mark.parametrize(
    ("grid", "block"), [((1, 1), (1, 1)), ((2, 2), (4, 2))]
)
def test_random_split(text, grid, block):
    expected = jax.random.key_data(
        jax.vmap(lambda key: jax.random.split(key, 5))(stock(KEYS))
    )
    keys = computed(
        text,
        "flaxlayer_random_split",
        KEYS,
        np.zeros((len(KEYS), 5, 2), np.uint32),
        grid=grid,
        block=block,
    )
    np.testing.assert_array_equal(keys, expected)


@pytest.mark.parametrize(
    ("grid", "block"), [((1, 1), (1, 1)), ((1, 2), (1, 8))]
)
def test_fold_in(text, grid, block):
    data = np.array([0, 1, 2**32 - 1, 77], np.uint32)
    expected = jax.random.key_data(
        jax.vmap(jax.random.fold_in)(stock(KEYS), data)
    )
    keys = computed(
        text,
        "flaxlayer_fold_in",
        KEYS,
        np.zeros((len(KEYS), 2), np.uint32),
        data,
        grid=grid,
        block=block,
    )
    np.testing.assert_array_equal(keys, expected)


def test_the_upper_half_of_an_index_counts(text):
    kernel = ptx_machine.Kernel(text, "flaxlayer_random_split")
    # Of a thread that begins there. Its result would be beyond what there is to
    # write to, so the address of all results is that of this one less.
    memory = bytearray(KEYS[1].tobytes() + bytes(8))
    kernel.run_thread(
        memory,
        [0, (8 - 8 * 2**32) % 2**64, 2**32 + 1, 1],
        grid=(2**31 - 1, 1),
        block=(2**10, 1),
        at=(2**22, 0, 0, 0),
    )
    written = np.frombuffer(memory[8:], np.uint32)
    lone = np.array([1, 0], np.uint32)  # The words of the index.
    expected = jax.extend.random.threefry_2x32(KEYS[1], lone)
    np.testing.assert_array_equal(written, expected)


def exported_for_cuda(function, *specs):
    allowed = [
        jax.export.DisabledSafetyCheck.custom_call(native.versioned(target))
        for target in native.versions()
    ]
    exported = jax.export.export(
        jax.jit(function), platforms=("cuda",), disabled_checks=allowed
    )(*specs)
    return exported.mlir_module()


@pytest.mark.parametrize("policy", ["auto", "native"])
def test_programs_for_cuda_call_them_by_name_alone(native_kernels, policy):
    choice = dispatch.choose("threefry", policy)
    fold = dispatch.choose("rng_fold", policy)

    def draws(state):
        keys = rng_fold.fold_streams(state, (1, 2), kernel=fold)
        key = threefry.keys_of(keys[0], required=choice.required)
        key, other = jax.random.split(jax.random.fold_in(key, 3))
        return jax.random.bits(other, (4, 5)), jax.random.key_data(key)

    module = exported_for_cuda(draws, jax.ShapeDtypeStruct((2,), np.uint32))
    for target in ("fold_in", "random_split", "random_bits"):
        called = f"@flaxlayer_{target}.v1(" in module
        assert called == (policy == "native")
    # Which is folding.
    assert "@flaxlayer_rng_fold" not in module


def test_layers_call_them_in_programs_for_cuda(native_kernels):
    layer = flaxlayer.FlaxLayer(
        nn.Dropout(0.5, deterministic=False),
        rngs={"dropout": "always"},
        kernels="native",
    )
    layer.build((None, 8))
    state = [variable.value for variable in layer.non_trainable_variables]
    module = exported_for_cuda(
        lambda x: layer.stateless_call([], state, x, training=True)[0],
        jax.ShapeDtypeStruct((2, 8), np.float32),
    )
    assert "@flaxlayer_fold_in.v1(" in module
    assert "@flaxlayer_random_bits.v1(" in module


@pytest.fixture
def cuda():
    reason = native.unavailable_reason("cuda")
    if reason is not None:
        pytest.skip(reason)
    with jax.default_device(jax.devices("cuda")[0]):
        yield


def test_without_a_device_there_are_none(native_kernels):
    try:
        jax.devices("cuda")
    except RuntimeError:
        assert native.unavailable_reason("cuda") == "there is no CUDA device"
    else:
        assert native.unavailable_reason("cuda") is None


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("shape", [(), (257,), (3, 5, 7), (0,), (2**20,)])
def test_words_on_a_device(cuda, shape, compiled):
    keys = {
        impl: jax.random.wrap_key_data(KEYS, impl=impl)
        for impl in ("threefry2x32", threefry.prng_impl(required=True))
    }

    def draws(keys):
        words = [
            jax.vmap(lambda key, d=dtype: jax.random.bits(key, shape, d))(keys)
            for dtype in ("uint8", "uint16", "uint32")
        ]
        split = jax.vmap(lambda key: jax.random.split(key, 3))(keys)
        folded = jax.vmap(lambda key: jax.random.fold_in(key, 7))(keys)
        return [*words, *map(jax.random.key_data, (split, folded))]

    if compiled:
        draws = jax.jit(draws)
    expected, found = map(draws, keys.values())
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    if compiled:
        program = draws.lower(keys[threefry.prng_impl(required=True)])
        assert "@flaxlayer_random_bits(" in program.as_text()
