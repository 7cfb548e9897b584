"""From a layer's seed to the random keys of each stream of each call.

A layer owns one Keras `SeedGenerator`, whose state is two 32-bit words: the
seed and a counter that each call with randomness advances by one. Those two
words are a threefry key as they are, and Keras's own layer hands them to the
model. So does this one, for its base stream (`"dropout"` in a Linen module,
the `rng` argument of a `call_fn`), which is why both draw the same bits. Every
other stream gets the state with the stream's tag folded into it, and so a
stream's keys depend on nothing but the seed, the counter and its own name.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import keras
import numpy as np

from flaxlayer import jax_compat, keras_compat
from flaxlayer.ops import dispatch, rng_fold

When = Literal["training", "always", "never"]
# As `checked_seed` returns it; an array is the two words of a key.
Seed = int | np.ndarray | None

_THREEFRY = "threefry2x32"


class RngStreams:
    """The random streams of a layer and when each of them is given.

    Args:
        streams: the names, which are then given in training only; or a mapping
            from each name to `"training"`, `"always"` or `"never"`.
        base: the stream that gets the seed state itself.
        layer: how error messages call the layer.
        counts_inference: whether inference calls that get keys advance the
            counter, so that each has keys of its own.

    Raises:
        TypeError: `streams` is neither a sequence of names nor such a mapping.
        ValueError: a policy is another word, a name is given twice, or two
            names have the same tag.
    """

    def __init__(
        self,
        streams: Sequence[str] | Mapping[str, When],
        *,
        base: str,
        layer: str,
        counts_inference: bool = True,
    ):
        policies = _policies(streams, layer)
        self.base = base
        self.counts_inference = counts_inference
        self.policies = policies
        tags = {name: stream_tag(name) for name in policies}
        if len(set(tags.values())) < len(tags):
            raise ValueError(
                f"{layer}: two of the streams in `rngs` have the same 32-bit "
                f"tag, so their keys would be equal: {tags}. Rename one."
            )

    def active(self, training: bool) -> tuple[str, ...]:
        """The streams given in a call in this mode."""
        return tuple(
            name
            for name, when in self.policies.items()
            if when == "always" or (training and when == "training")
        )

    def advances(self, training: bool) -> bool:
        """Whether a call in this mode moves the counter."""
        return bool(self.active(training)) and (
            training or self.counts_inference
        )

    def draw(
        self,
        seed_state: jax.Array | None,
        active: tuple[str, ...],
        *,
        key_impl: str,
        kernel: dispatch.Choice,
    ) -> tuple[dict[str, jax.Array], jax.Array | None]:
        """The keys of the active streams, and the seed state of the next call.

        Args:
            seed_state: `uint32[2]`, the state of the layer's seed generator;
                may be `None` where no stream is active.
            active: names, from `active()`.
            key_impl: the PRNG implementation the model expects raw keys of.
            kernel: how the tags are folded.

        Returns:
            A raw key for each stream, `uint32[2]` for threefry; and the next
            `uint32[2]` state, the same one where no stream is active.
        """
        if seed_state is None or not active:
            return {}, seed_state
        folded = [name for name in active if name != self.base]
        tags = tuple(stream_tag(name) for name in folded)
        folds = rng_fold.fold_streams(seed_state, tags, kernel=kernel)
        keys = {name: folds[i] for i, name in enumerate(folded)}
        if self.base in active:
            keys[self.base] = seed_state
        # In the declared order, which is the order the model sees.
        keys = {name: _as_key_of(keys[name], key_impl) for name in active}
        return keys, seed_state + jnp.array([0, 1], seed_state.dtype)


def stream_tag(name: str) -> int:
    """The 32 bits that stand for the name of a stream, or for a text."""
    digest = hashlib.sha256(name.encode()).digest()
    return int.from_bytes(digest[:4], "big")


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
    # The state has to be a value even if the layer is made inside a trace.
    with jax.ensure_compile_time_eval():
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
    base: str,
    key_impl: str,
    kernel: dispatch.Choice,
) -> dict[str, jax.Array]:
    """The keys that initialise a layer's weights.

    Without a seed they are drawn from Keras's global generator, one for each
    stream in order, as Keras's own layer draws them. With one, the base stream
    has the very key that stock JAX makes of the seed, so that a layer with
    `seed=7` starts from the weights of `module.init(jax.random.key(7), x)`.

    Args:
        seed: from `checked_seed`.
        streams: names, the base stream among them.
        base: the stream that gets the seed's own key.
        key_impl: the PRNG implementation the model expects keys of.
        kernel: how the tags are folded.

    Returns:
        For each stream a raw key of that implementation.
    """
    if seed is None:
        keys = {name: keras_compat.draw_seed() for name in streams}
    else:
        # An integer's words are those of jax.random.key(seed).
        words = seed if isinstance(seed, np.ndarray) else [0, seed]
        data = jnp.array(words, jnp.uint32)
        tags = {n: stream_tag(n) for n in streams if n != base}
        folds = rng_fold.fold_streams(data, tuple(tags.values()), kernel=kernel)
        keys = {base: data, **dict(zip(tags, folds, strict=True))}
    return {name: _as_key_of(keys[name], key_impl) for name in streams}


def key_spec(key_impl: str) -> jax.ShapeDtypeStruct:
    """Shape and dtype of a raw key of a PRNG implementation."""
    words = jax.ShapeDtypeStruct((2,), np.uint32)
    return jax.eval_shape(lambda data: _as_key_of(data, key_impl), words)


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


def _as_key_of(data: jax.Array, impl: str) -> jax.Array:
    """Makes a raw key of implementation `impl` from threefry key data."""
    if impl == _THREEFRY:
        return data
    # Other implementations have keys of other sizes: seed them with the first
    # word and fold the counter in, which every implementation can do.
    key = jax.random.fold_in(jax.random.key(data[0], impl=impl), data[1])
    return jax.random.key_data(key)


def _policies(
    streams: Sequence[str] | Mapping[str, When], layer: str
) -> dict[str, When]:
    if isinstance(streams, str) or not isinstance(streams, Sequence | Mapping):
        raise TypeError(
            f"{layer}: `rngs` must be a sequence of stream names, or a mapping "
            'from names to "training", "always" or "never". Received: '
            f"{streams!r} (of type {type(streams).__name__})."
        )
    policies: dict[str, When]
    if isinstance(streams, Mapping):
        policies = dict(streams)
    else:
        policies = dict.fromkeys(streams, "training")
        if len(policies) < len(streams):
            raise ValueError(
                f"{layer}: a stream is named twice in `rngs`: {streams!r}."
            )
    for name, when in policies.items():
        if not isinstance(name, str) or not name:
            raise TypeError(
                f"{layer}: the stream names in `rngs` must be strings. "
                f"Received: {name!r} (of type {type(name).__name__})."
            )
        if not isinstance(when, str) or when not in get_args(When):
            # Perhaps a key, as `module.apply` takes them.
            raise ValueError(
                f"{layer}: `rngs[{name!r}]` says when the stream is given: "
                f"expected one of {get_args(When)}. Keys are drawn by the "
                f"layer, from `seed`. Received: {when!r}."
            )
    return policies
