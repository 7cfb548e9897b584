"""Whatever an initialiser computes, weights have the bits of stock JAX."""

import dataclasses
import os
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from flaxlayer import FlaxLayer, JaxLayer

# More by hand: FLAXLAYER_EXAMPLES=5000.
EXAMPLES = int(os.environ.get("FLAXLAYER_EXAMPLES", "20"))
POLICIES = ["native", "reference"]
# One matrix, so that most programs are compiled once.
SHAPE = (16, 16)
initializers = nn.initializers

SAMPLERS = {
    "normal": jax.random.normal,
    "uniform": jax.random.uniform,
    "truncated_normal": lambda *args: jax.random.truncated_normal(
        args[0], -2, 2, *args[1:]
    ),
    "bernoulli": lambda key, shape, dtype: jax.random.bernoulli(
        key, 0.3, shape
    ).astype(dtype),
    "laplace": jax.random.laplace,
    "rademacher": jax.random.rademacher,
    "split": lambda key, shape, dtype: sum(
        jax.random.normal(k, shape, dtype) for k in jax.random.split(key)
    ),
    "ones": initializers.ones,
    "constant": initializers.constant(0.3),
    "identity": lambda key, shape, dtype: jnp.eye(*shape, dtype=dtype),
    "range": lambda key, shape, dtype: jnp.linspace(
        -1, 1, shape[0] * shape[1], dtype=dtype
    ).reshape(shape),
    "scaled_normal": initializers.normal(0.02),
    "scaled_uniform": initializers.uniform(0.3),
    "scaled_truncated_normal": initializers.truncated_normal(0.1),
    "lecun_normal": initializers.lecun_normal(),
    "he_uniform": initializers.he_uniform(),
    "glorot_normal": initializers.glorot_normal(),
    "untruncated": initializers.variance_scaling(1.0, "fan_in", "normal"),
    "fan_avg": initializers.variance_scaling(0.7, "fan_avg", "uniform"),
    "orthogonal": initializers.orthogonal(),
    "scaled_orthogonal": initializers.orthogonal(2**0.5),
}
IN_32_BITS_ONLY = {"orthogonal", "scaled_orthogonal"}

NUMBERS = {
    "3": lambda: 3,
    "0.3": lambda: 0.3,
    "float32(0.3)": lambda: np.float32(0.3),
    "sqrt(5)": lambda: np.sqrt(5),
    "jnp.float32(0.3)": lambda: jnp.float32(0.3),
    "jnp.sqrt(8)": lambda: jnp.sqrt(8),
    "jnp.full": lambda: jnp.full(SHAPE, 0.3),
}

ARITHMETIC = {
    "x + c": lambda x, c: x + c,
    "x - c": lambda x, c: x - c,
    "c - x": lambda x, c: c - x,
    "x * c": lambda x, c: x * c,
    "x / c": lambda x, c: x / c,
    "c / x": lambda x, c: c / (1.5 + jnp.abs(x)),
    "x / c of its dtype": lambda x, c: x / jnp.asarray(c).astype(x.dtype),
    "x / sqrt(c)": lambda x, c: x / jnp.sqrt(c),
    "x * rsqrt(c)": lambda x, c: x * jax.lax.rsqrt(jnp.float32(c)),
    "x * c + x": lambda x, c: x * c + x,
    "lax.div": lambda x, c: jax.lax.div(
        x, jnp.broadcast_to(c, x.shape).astype(x.dtype)
    ),
    "jit": jax.jit(lambda x, c: x * c - x / c),
    "jit, inlined": jax.jit(lambda x, c: x * c + x / c, inline=True),
    "abs(x) ** c": lambda x, c: jnp.abs(x) ** c,
    "x % c": lambda x, c: x % c,
    "clip": lambda x, c: jnp.clip(x, -c, c),
    "maximum": lambda x, c: jnp.maximum(x, -c),
    "where": lambda x, c: jnp.where(x > 0, x, c * x),
    "at": lambda x, c: x.at[0].multiply(
        jnp.asarray(c).ravel()[0].astype(x.dtype)
    ),
}


@jax.custom_jvp
def cubed_over_three(x):
    return x * x * x / 3 + x


cubed_over_three.defjvp(
    lambda primals, tangents: (cubed_over_three(*primals), tangents[0])
)


@jax.custom_vjp
def shifted(x):
    return (x + 0.1) / 0.7


shifted.defvjp(lambda x: (shifted(x), None), lambda _, g: (g,))


@jax.jit
def twice_and_norm(x):
    y = x * 1.1 + x / 3
    return y, jnp.sqrt((y * y).sum())


STEPS = {
    "standardised": lambda x: (x - x.mean()) / (x.std() + 1e-6),
    "columns standardised": lambda x: (
        (x - x.mean(0, keepdims=True)) / jnp.sqrt(x.var(0) + 1e-5)
    ),
    "normalised": lambda x: x / jnp.linalg.norm(x),
    "rows normalised": lambda x: (
        x / (1e-3 + jnp.linalg.norm(x, axis=1, keepdims=True))
    ),
    "rows normalised, mapped": jax.vmap(
        lambda row: row / (1 + jnp.linalg.norm(row))
    ),
    "over largest": lambda x: x / (0.1 + jnp.abs(x).max()),
    "softmax": jax.nn.softmax,
    "squared": lambda x: x**2,
    "cubed": lambda x: x ** jnp.int32(3),
    "square root": lambda x: jnp.abs(x) ** 0.5,
    "sqrt": lambda x: jnp.sqrt(jnp.abs(x)),
    "inverse square root": lambda x: (1 + jnp.abs(x)) ** -0.5,
    "reciprocal": lambda x: 1 / (1 + jnp.abs(x)),
    "negative": lambda x: -x,
    "exp": lambda x: jnp.exp(-jnp.abs(x)),
    "log": lambda x: jnp.log(0.1 + jnp.abs(x)),
    "tanh": jnp.tanh,
    "softplus": jax.nn.softplus,
    "gelu": jax.nn.gelu,
    "product": lambda x: x @ x.T,
    "cumulative": lambda x: jnp.cumsum(x, axis=0),
    "sorted": lambda x: jnp.sort(x, axis=None).reshape(x.shape),
    "tiny": lambda x: x * 1e-38,
    "of tiny": lambda x: x / 1e30 / 1e10,
    "rounded": lambda x: jnp.round(x, 2),
    "through bfloat16": lambda x: x.astype(jnp.bfloat16).astype(x.dtype),
    "through float16": lambda x: (x.astype(jnp.float16) / 3).astype(x.dtype),
    "own derivative": cubed_over_three,
    "own gradient": shifted,
    "derivative": jax.grad(lambda x: (jnp.sin(x) * x / 3).sum()),
    "one of two": lambda x: twice_and_norm(x)[0],
    "loop": lambda x: jax.lax.fori_loop(
        0, jnp.int32(3), lambda i, x: 0.7 * x + x[::-1] / 3, x
    ),
    "checkpointed": jax.checkpoint(lambda x: jnp.sin(x) * 0.3 + x / 7),
}


@dataclasses.dataclass(frozen=True)
class Generated:
    """An initialiser, described by how it is put together."""

    sampler: str
    steps: tuple[tuple[str, ...], ...]

    def __call__(self, key: Any, shape: Any, dtype: Any) -> Any:
        x = SAMPLERS[self.sampler](key, shape, dtype)
        for name, *number in self.steps:
            if number:
                x = ARITHMETIC[name](x, NUMBERS[number[0]]())
            else:
                x = STEPS[name](x)
        return x.astype(dtype)


steps = st.one_of(
    st.tuples(
        st.sampled_from(list(ARITHMETIC)), st.sampled_from(list(NUMBERS))
    ),
    st.tuples(st.sampled_from(list(STEPS))),
)
generated = st.builds(
    Generated,
    st.sampled_from(list(SAMPLERS)),
    st.lists(steps, min_size=1, max_size=4).map(tuple),
)
dtypes = st.sampled_from(["float32"] * 3 + ["bfloat16", "float16"])


def from_linen(initialiser: Generated, seed: int, dtype: str, kernels: Any):
    """Kernels of a Linen module: ours, and those of stock Flax."""
    rows, columns = SHAPE
    module = nn.Dense(
        columns, use_bias=False, kernel_init=initialiser, param_dtype=dtype
    )
    layer = FlaxLayer(module, seed=seed, kernels=kernels)
    layer.build((None, rows))
    variables = module.init(jax.random.key(seed), jnp.ones((1, rows)))
    return layer.weights[0].value, variables["params"]["kernel"]


def from_jax(initialiser: Generated, seed: int, dtype: str, kernels: Any):
    """Weights of a `JaxLayer`: ours, and what `init_fn` returns."""

    def init_fn(rng, inputs):
        return {"w": initialiser(rng, SHAPE, dtype)}

    def call_fn(params, inputs):
        return inputs @ params["w"]

    layer = JaxLayer(call_fn, init_fn, seed=seed, kernels=kernels)
    layer.build((None, SHAPE[0]))
    return layer.weights[0].value, init_fn(jax.random.PRNGKey(seed), None)["w"]


def assert_bits(actual: Any, expected: Any) -> None:
    assert actual.dtype == expected.dtype
    actual, expected = np.asarray(actual), np.asarray(expected)
    unsigned = f"u{actual.itemsize}"
    differ = (actual.view(unsigned) != expected.view(unsigned)) & ~(
        # Which NaN it is, is not defined.
        np.isnan(actual) & np.isnan(expected)
    )
    assert not differ.any(), (actual[differ], expected[differ])


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=EXAMPLES < 100,
    # Each example compiles: what is found is not made smaller.
    phases=[Phase.explicit, Phase.generate],
)
@given(
    generated,
    st.integers(0, 2**31 - 1),
    dtypes,
    st.sampled_from([from_linen, from_jax]),
    st.sampled_from(POLICIES),
)
def test_generated_initialisers(
    initialiser: Generated,
    seed: int,
    dtype: str,
    of: Callable[..., tuple[Any, Any]],
    kernels: str,
):
    if initialiser.sampler in IN_32_BITS_ONLY:
        dtype = "float32"
    assert_bits(*of(initialiser, seed, dtype, kernels))


@pytest.mark.parametrize("kernels", POLICIES)
@pytest.mark.parametrize("of", [from_linen, from_jax])
def test_what_is_divided_by_a_number(of: Callable[..., Any], kernels: str):
    # XLA multiplies by the reciprocal, which is another number.
    initialiser = Generated(
        "untruncated", (("x / c of its dtype", "jnp.sqrt(8)"),)
    )
    assert_bits(*of(initialiser, 0, "float32", kernels))


@pytest.mark.parametrize("name", STEPS)
def test_each_step(name: str):
    for sampler in ("normal", "uniform"):
        initialiser = Generated(sampler, ((name,),))
        assert_bits(*from_linen(initialiser, 1, "float32", "auto"))
