"""Programs of one operation each, by XLA and by a native kernel."""

import functools
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.loops import OURS
from flaxlayer.ops import dispatch, rng_fold, state_merge, threefry

XLA, UNGUARDED = "XLA", "unguarded"

# Makes a key of two words.
Wrap = Callable[[jax.Array], jax.Array]


class Program(NamedTuple):
    """A function to be compiled, and what it is called with.

    Attributes:
        function: of the arguments.
        arguments: arrays.
        replaces: whether its result takes the place of the first argument,
            whose buffers are donated.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    replaces: bool = False


class Runner:
    """Compiles a program and calls it."""

    def __init__(self, program: Program):
        donated = 0 if program.replaces else None
        self._jitted = jax.jit(program.function, donate_argnums=donated)
        self._compiled: Callable[..., Any] = self._jitted
        self._arguments = program.arguments
        self._replaces = program.replaces

    def compile(self) -> None:
        """Traces, lowers and compiles it anew."""
        self._compiled = self._jitted.lower(*self._arguments).compile()

    def __call__(self) -> Any:
        """Calls it and waits; returns what it returned."""
        result = self._compiled(*self._arguments)
        if self._replaces:
            self._arguments = (result, *self._arguments[1:])
        return jax.block_until_ready(result)


def implementations() -> dict[str, Hashable]:
    """The PRNG implementations that are compared.

    Raises:
        RuntimeError: there are no native kernels.
    """
    dispatch.choose("threefry", "native")
    return {XLA: "threefry2x32", OURS: threefry.prng_impl(required=True)}


def of_keys(make: Callable[..., Program], *sizes: int) -> dict[str, Program]:
    """A program with the keys of each implementation."""
    return {
        name: make(
            functools.partial(jax.random.wrap_key_data, impl=impl), *sizes
        )
        for name, impl in implementations().items()
    }


def of_op(
    op: str, make: Callable[..., Program], *sizes: int
) -> dict[str, Program]:
    """A program with each kernel of an operation.

    Raises:
        RuntimeError: there are no native kernels.
    """
    policies: dict[str, dispatch.Policy] = {XLA: "reference", OURS: "native"}
    return {
        name: make(dispatch.choose(op, policy), *sizes)
        for name, policy in policies.items()
    }


# Keys go in and out as their words, as a layer has them.


def random_words(wrap: Wrap, count: int) -> Program:
    """So many words of 32 bits."""
    return Program(
        lambda words: jax.random.bits(wrap(words), (count,)), (_words(),)
    )


def fold_in(wrap: Wrap, count: int) -> Program:
    """So many numbers, each known when it is compiled, folded into a key."""

    def function(words: jax.Array) -> jax.Array:
        key = wrap(words)
        return jnp.stack(
            [
                jax.random.key_data(jax.random.fold_in(key, number))
                for number in range(count)
            ]
        )

    return Program(function, (_words(),))


def split(wrap: Wrap, count: int) -> Program:
    """A key split into so many."""
    return Program(
        lambda words: jax.random.key_data(jax.random.split(wrap(words), count)),
        (_words(),),
    )


def fold_streams(kernel: dispatch.Choice, count: int) -> Program:
    """The keys of so many random streams."""
    return Program(
        functools.partial(
            rng_fold.fold_streams, tags=tuple(range(count)), kernel=kernel
        ),
        (_words(),),
    )


def merge(kernel: dispatch.Choice, count: int, size: int) -> Program:
    """Running averages, which stay as they are if one is not finite."""

    def function(old: Sequence[jax.Array], batch: Sequence[jax.Array]) -> Any:
        new = _averages(old, batch)
        if kernel.kernel == "native":
            return state_merge.merge(old, new, kernel=kernel, guard=True)
        # As a user of JAX writes it. Our reference has a barrier in it, which
        # XLA compiles much faster.
        finite = jnp.stack([jnp.isfinite(leaf).all() for leaf in new]).all()
        return [
            jnp.where(finite, leaf, kept)
            for kept, leaf in zip(old, new, strict=True)
        ]

    return Program(function, _states(count, size), replaces=True)


def unguarded(count: int, size: int) -> Program:
    """The same averages whatever is in them: no merge could be faster."""
    return Program(_averages, _states(count, size), replaces=True)


def _averages(
    old: Sequence[jax.Array], batch: Sequence[jax.Array]
) -> list[jax.Array]:
    return [0.9 * a + 0.1 * b for a, b in zip(old, batch, strict=True)]


def _states(count: int, size: int) -> tuple[list[jax.Array], list[jax.Array]]:
    random = np.random.default_rng(0)
    old, batch = (
        [jnp.array(leaf) for leaf in random.random((count, size), np.float32)]
        for _ in range(2)
    )
    return old, batch


def _words() -> jax.Array:
    return jnp.array([1, 2], jnp.uint32)
