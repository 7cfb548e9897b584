"""One program of a sampler serves many shapes, with the bits of stock JAX."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxlayer import JaxLayer, jax_compat
from flaxlayer.ops import dispatch, threefry
from flaxlayer.weights import samplers

initializers = nn.initializers
DTYPES = ["float32", "bfloat16", "float16"]
KEYS = ["auto", "reference"]

INITIALIZERS = {
    "zeros": initializers.zeros,
    "ones": initializers.ones,
    "constant": initializers.constant(0.3),
    "uniform": initializers.uniform(0.7),
    "normal": initializers.normal(),
    "truncated_normal": initializers.truncated_normal(0.02, lower=-1.5),
    "xavier_uniform": initializers.xavier_uniform(),
    "xavier_normal": initializers.xavier_normal(),
    "glorot_uniform": initializers.glorot_uniform(),
    "glorot_normal": initializers.glorot_normal(),
    "lecun_uniform": initializers.lecun_uniform(),
    "lecun_normal": initializers.lecun_normal(),
    "he_uniform": initializers.he_uniform(),
    "he_normal": initializers.he_normal(),
    "kaiming_uniform": initializers.kaiming_uniform(),
    "kaiming_normal": initializers.kaiming_normal(),
    **{
        f"variance_scaling {mode} {distribution}": (
            initializers.variance_scaling(0.3, mode, distribution)
        )
        for mode in ("fan_in", "fan_out", "fan_avg")
        for distribution in ("truncated_normal", "normal", "uniform")
    },
}
IN_32_BITS_ONLY = {
    "orthogonal": initializers.orthogonal(),
    "delta_orthogonal": initializers.delta_orthogonal(),
}
SHAPES = [(3, 3, 3, 16), (64, 5), (17, 241), (1, 7), (64, 65), (16, 2)]

# From few elements to more than a program has: such that do not fill a vector
# of the processor, that fill some, and that have one left over.
COUNTS = [2, 3, 7, 16, 17, 33, 255, 4095, 4097, 65535]
SAMPLERS = {
    "uniform": jax.random.uniform,
    "uniform between": lambda *args: jax.random.uniform(*args, -0.3, 0.7),
    "normal": jax.random.normal,
    "truncated_normal": lambda key, *args: jax.random.truncated_normal(
        key, -1.3, 2, *args
    ),
    "laplace": jax.random.laplace,
    "gumbel": jax.random.gumbel,
    "exponential": jax.random.exponential,
}

serves_shapes = pytest.mark.skipif(
    not jax_compat.rounds_alike_in_parts(),
    reason="This version of XLA rounds elements by their place.",
)


def key_of(kernel):
    data = jnp.array([1, 2], jnp.uint32)
    # Asking registers the kernels, without which no compiled program is read.
    chosen = dispatch.choose("threefry", "auto")
    if kernel == chosen.kernel == "native":
        return threefry.keys_of(data, required=False)
    return jax.random.wrap_key_data(data, impl="threefry2x32")


def call_of(function, *arguments):
    """The equation that calls a jitted function, and its operands."""
    jaxpr = jax_compat.trace_of_calls(function, *arguments)
    *before, call = jaxpr.jaxpr.eqns
    assert not before
    values = dict(zip(jaxpr.jaxpr.invars, arguments, strict=True))
    return call, [
        atom.val if hasattr(atom, "val") else values[atom]
        for atom in call.invars
    ]


def evaluated(function, *arguments):
    call, operands = call_of(function, *arguments)
    return samplers.evaluate(call, operands)


def assert_bits(actual, expected):
    expected = np.asarray(expected)
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    np.testing.assert_array_equal(
        *(
            np.asarray(x).view(f"u{x.dtype.itemsize}")
            for x in (actual, expected)
        )
    )


@pytest.mark.parametrize("kernels", KEYS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_all_initializers_have_the_bits_of_stock_jax(dtype, kernels):
    kinds = INITIALIZERS | (IN_32_BITS_ONLY if dtype == "float32" else {})

    def init_fn(rng, inputs):
        return {
            f"{name} {shape}": kind(jax.random.fold_in(rng, i), shape, dtype)
            for i, shape in enumerate(SHAPES[:4])
            for name, kind in kinds.items()
            if name != "delta_orthogonal" or len(shape) == 4
        }

    layer = JaxLayer(
        lambda params, inputs: inputs, init_fn, seed=3, kernels=kernels
    )
    layer.build((None, 1))
    stock = init_fn(jax.random.PRNGKey(3), None)
    weights = [w.value for w in layer.weights]
    for actual, name in zip(weights, sorted(stock), strict=True):
        assert_bits(actual, stock[name])


@serves_shapes
@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_have_the_bits_of_stock_jax_for_any_count(name):
    for dtype in DTYPES:
        for count in COUNTS:
            actual = evaluated(
                lambda key, count=count, dtype=dtype: SAMPLERS[name](
                    key, (count,), dtype
                ),
                key_of("native"),
            )
            assert_bits(
                actual, SAMPLERS[name](key_of("reference"), (count,), dtype)
            )


@serves_shapes
def test_shapes_share_a_program(caplog):
    key = key_of("native")
    jax.clear_caches()
    with jax.log_compiles():
        for shape in SHAPES:
            evaluated(
                lambda key, shape=shape: jax.random.laplace(key, shape), key
            )
    compiled = [r for r in caplog.messages if r.startswith("Compiling")]
    assert len(compiled) == 2, compiled  # Up to 4096 elements, and above.


@serves_shapes
def test_results_are_not_parts_of_others():
    drawn = evaluated(
        lambda key: jax.random.normal(key, (6,)), key_of("native")
    )
    assert drawn.base is None
    assert drawn.flags.writeable


@jax.jit
def _normal(key):
    return jnp.cumsum(jax.random.normal(key, (7,)))


@jax.jit
def _uniform(key):
    return key[:7] * 2


@jax.jit
def _gumbel(key):
    return jnp.zeros((5,)) + jax.random.uniform(key, (1,))


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (lambda key: jax.random.normal(key, ()), (key_of("native"),)),
        (lambda key: jax.random.normal(key, (1, 1)), (key_of("native"),)),
        (lambda key: jax.random.normal(key, (2**17,)), (key_of("native"),)),
        (lambda key: jax.random.bernoulli(key, 0.3, (7,)), (key_of("native"),)),
        (_normal, (key_of("native"),)),
        (_uniform, (jnp.arange(9.0),)),
        (_gumbel, (key_of("native"),)),
        (jax.jit(lambda x: x * 2), (jnp.arange(9.0),)),
    ],
)
def test_the_rest_is_left_to_xla(function, arguments):
    assert evaluated(function, *arguments) is None


def test_words_that_depend_on_the_shape_are_left_to_xla():
    key = jax.random.key(0, impl="rbg")
    assert evaluated(lambda key: jax.random.normal(key, (7,)), key) is None

    def draw(key):
        with jax.threefry_partitionable(False):
            return jax.random.normal(key, (7,))

    assert evaluated(draw, key_of("reference")) is None
