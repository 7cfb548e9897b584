"""Lets a decoder write on: each next token is the likeliest one."""

from typing import Any

import jax
import jax.numpy as jnp


def with_cache(
    layer: Any, prompt: jax.Array, count: int
) -> tuple[jax.Array, jax.Array]:
    """Gives the layer the prompt, then one token at a time.

    Args:
        layer: a `FlaxLayer` of a `Decoder`, with `collections={"cache":
            "transient"}`.
        prompt: tokens, `[batch, length]`.
        count: how many to write, at least 1; with the prompt, no more than the
            decoder's `max_length`.

    Returns:
        The tokens, `[batch, count]`, and the logits that they were chosen by,
        `[batch, count, vocabulary]`.
    """
    tokens, chosen_by = [], []
    logits, new = layer(prompt, decode=True)
    while True:
        chosen_by.append(logits[:, -1])
        tokens.append(jnp.argmax(logits[:, -1:], axis=-1).astype(prompt.dtype))
        if len(tokens) == count:
            return jnp.concatenate(tokens, axis=1), jnp.stack(chosen_by, axis=1)
        logits, new = layer(tokens[-1], cache=new["cache"], decode=True)


def without_cache(
    layer: Any, prompt: jax.Array, count: int
) -> tuple[jax.Array, jax.Array]:
    """The same by giving the layer the whole text again for each token."""
    length = prompt.shape[1]
    # All calls have one shape, and are compiled once: a token is not changed
    # by those after it.
    text = jnp.pad(prompt, ((0, 0), (0, count)))
    chosen_by = []
    for end in range(length, length + count):
        logits, _ = layer(text)
        chosen_by.append(logits[:, end - 1])
        text = text.at[:, end].set(jnp.argmax(chosen_by[-1], axis=-1))
    return text[:, length:], jnp.stack(chosen_by, axis=1)
