"""From the `seed` of a layer to its generator and the keys of its weights."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np

from flaxlayer import backends, jax_compat, keras_compat
from flaxlayer.ops import dispatch, rng_fold
from flaxlayer.randomness.rng_streams import as_key_of, stream_tag

# As `checked_seed` returns it; an array is the two words of a key.
Seed = int | np.ndarray | None

_THREEFRY = "threefry2x32"


def checked_seed(seed: Any, *, layer: str) -> Seed:
    """A layer's `seed` argument, validated.

    Args:
        seed: an integer of 32 bits, `None`, or one threefry key, typed or raw.
        layer: how error messages call the layer.

    Returns:
        The integer, `None`, or the `uint32[2]` data of the key.

    Raises:
        TypeError: `seed` is something else.
        ValueError: the integer does not fit into 32 bits.
    """
    if seed is None:
        return None
    if isinstance(seed, int | np.integer) and not isinstance(seed, bool):
        if not 0 <= seed < 2**32:
            raise ValueError(
                f"{layer}: `seed` must fit into 32 bits: expected "
                f"0 <= seed < 2**32. Received: {seed}."
            )
        return int(seed)
    if isinstance(seed, jax.Array | np.ndarray):
        impl = jax_compat.key_impl(seed)
        if str(impl) == _THREEFRY and seed.shape == ():
            return np.asarray(jax.random.key_data(seed))
        if impl is None and seed.shape == (2,) and seed.dtype == np.uint32:
            return np.asarray(seed)
        received = f"an array of shape {seed.shape} and dtype {seed.dtype}"
    else:
        received = f"{seed!r} (of type {type(seed).__name__})"
    raise TypeError(
        f"{layer}: `seed` must be an integer, `None`, or one threefry key: "
        "`jax.random.key(n)` or `jax.random.PRNGKey(n)`. Received: "
        f"{received}."
    )


def seed_generator(seed: Seed, name: str) -> keras.random.SeedGenerator:
    """The generator a layer draws its call keys from.

    Args:
        seed: from `checked_seed`; with `None`, Keras draws one, which
            `keras.utils.set_random_seed` governs.
        name: that of the layer. Layers with the same integer have different
            keys by it; layers with the same key have the same ones.
    """
    # The state has to be a value even if the layer is made inside a trace. It
    # is put on the mesh of a distribution when the layer is built: before that
    # nobody has compared what several processes have.
    with backends.current.outside_of_traces(), keras_compat.no_distribution():
        if seed is None:
            return keras.random.SeedGenerator()
        if isinstance(seed, int):
            return keras.random.SeedGenerator(stream_tag(f"{seed}/{name}"))
        generator = keras.random.SeedGenerator(0)
        # Folded, so that calls and initialisation have different keys.
        call_key = rng_fold.reference(jnp.asarray(seed), (stream_tag("call"),))
        generator.state.assign(call_key[0])
        return generator


def init_keys(
    seed: Seed,
    streams: Sequence[str],
    *,
    key_impl: str,
    kernel: dispatch.Choice,
) -> dict[str, jax.Array]:
    """The keys that initialise a layer's weights.

    Without a seed they are drawn from Keras's global generator, one for each
    stream in order, as Keras's own layer draws them. With one, the first stream
    has the very key that stock JAX makes of the seed, so that a layer with
    `seed=7` starts from the weights of `module.init(jax.random.key(7), x)`.

    Args:
        seed: from `checked_seed`.
        streams: names.
        key_impl: the PRNG implementation the model expects keys of.
        kernel: how the tags are folded.

    Returns:
        For each stream a raw key of that implementation.
    """
    if seed is None:
        draw = keras_compat.draw_seed
        keys = {name: backends.current.drawn(draw) for name in streams}
    else:
        # An integer's words are those of jax.random.key(seed).
        words = seed if isinstance(seed, np.ndarray) else [0, seed]
        data = jnp.array(words, jnp.uint32)
        tags = tuple(map(stream_tag, streams[1:]))
        folds = rng_fold.fold_streams(data, tags, kernel=kernel)
        keys = dict(zip(streams, (data, *folds), strict=False))
    return {name: as_key_of(keys[name], key_impl) for name in streams}


def key_spec(key_impl: str) -> jax.ShapeDtypeStruct:
    """Shape and dtype of a raw key of a PRNG implementation."""
    words = jax.ShapeDtypeStruct((2,), np.uint32)
    return jax.eval_shape(lambda data: as_key_of(data, key_impl), words)


def seed_to_config(seed: Seed) -> Any:
    """A `seed` argument as it is saved: a number, or the words of a key."""
    if not isinstance(seed, np.ndarray):
        return seed
    return {"key_data": [int(word) for word in seed]}


def seed_from_config(config: Any, *, layer: str) -> Seed:
    """The `seed` argument that `seed_to_config` saved.

    Raises:
        ValueError: the saved form is neither.
    """
    if config is None or isinstance(config, int):
        return config
    words = config.get("key_data") if isinstance(config, dict) else None
    if (
        isinstance(words, list | tuple)
        and len(words) == 2
        and all(type(w) is int and 0 <= w < 2**32 for w in words)
    ):
        return np.array(words, np.uint32)
    raise ValueError(
        f"{layer}: the saved `seed` is not one this layer writes. Expected a "
        f'number or {{"key_data": [word, word]}}. Received: {config!r}.'
    )
