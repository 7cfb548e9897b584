"""From the state of a layer's seed to the keys of each stream of a call.

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
from typing import Literal, get_args

import jax
import jax.numpy as jnp

from flaxlayer.ops import dispatch, rng_fold

When = Literal["training", "always", "never"]

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
        keys = {name: as_key_of(keys[name], key_impl) for name in active}
        return keys, seed_state + jnp.array([0, 1], seed_state.dtype)


def stream_tag(name: str) -> int:
    """The 32 bits that stand for the name of a stream, or for a text."""
    digest = hashlib.sha256(name.encode()).digest()
    return int.from_bytes(digest[:4], "big")


def as_key_of(data: jax.Array, impl: str) -> jax.Array:
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
