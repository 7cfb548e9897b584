"""A causal transformer with a key-value cache: all a saved file needs to load.

Called on whole texts it is trained; called with `decode=True` it takes a text
piece by piece, down to one token at a time, and keeps the keys and values of
the pieces before in the collection `"cache"`.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp


class CachedAttention(nn.Module):
    """Causal self-attention that can go on from where a text was left.

    Attributes:
        heads: how many; they share the features.
        max_length: how many tokens the cache has room for.
        dropout: the share of attention weights that training leaves out.
    """

    heads: int
    max_length: int
    dropout: float

    @nn.compact
    def __call__(
        self, x: jax.Array, *, deterministic: bool, decode: bool
    ) -> jax.Array:
        """`[batch, length, features]`, as `x`.

        With `decode`, `"cache"` has the keys and values so far, two arrays
        `[batch, max_length, heads, features / heads]`, and their number.
        """
        split = (self.heads, x.shape[-1] // self.heads)
        query, key, value = (
            nn.DenseGeneral(split, name=name)(x)
            for name in ("query", "key", "value")
        )
        rows = jnp.arange(x.shape[1])
        if decode:
            key, value, start = self._cached(key, value)
            rows = rows + start
        visible = jnp.arange(key.shape[1]) <= rows[:, jnp.newaxis]
        x = nn.dot_product_attention(
            query,
            key,
            value,
            mask=visible,
            dropout_rng=None if deterministic else self.make_rng("dropout"),
            dropout_rate=self.dropout,
            deterministic=deterministic,
        )
        return nn.DenseGeneral(split[0] * split[1], axis=(-2, -1), name="out")(
            x
        )

    def _cached(
        self, key: jax.Array, value: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """All keys and values with these after those so far, and how many."""
        batch, length, *split = key.shape
        shape = (batch, self.max_length, *split)
        keys = self.variable("cache", "keys", jnp.zeros, shape, key.dtype)
        values = self.variable("cache", "values", jnp.zeros, shape, value.dtype)
        used = self.variable("cache", "used", jnp.zeros, (), jnp.int32)
        start = used.value
        if self.is_initializing():  # The cache is made, and stays empty.
            return keys.value, values.value, start
        keys.value = jax.lax.dynamic_update_slice_in_dim(
            keys.value, key, start, axis=1
        )
        values.value = jax.lax.dynamic_update_slice_in_dim(
            values.value, value, start, axis=1
        )
        used.value = start + length
        return keys.value, values.value, start


class DecoderBlock(nn.Module):
    """Attention, then a perceptron, each normalised first and added.

    Attributes:
        heads: of the attention.
        max_length: of the attention's cache.
        dropout: the share of features that training leaves out.
    """

    heads: int
    max_length: int
    dropout: float

    @nn.compact
    def __call__(
        self, x: jax.Array, *, deterministic: bool, decode: bool
    ) -> jax.Array:
        """`[batch, length, features]`, as `x`."""
        y = CachedAttention(self.heads, self.max_length, self.dropout)(
            nn.LayerNorm()(x), deterministic=deterministic, decode=decode
        )
        x = x + nn.Dropout(self.dropout)(y, deterministic=deterministic)
        y = nn.gelu(nn.Dense(4 * x.shape[-1])(nn.LayerNorm()(x)))
        y = nn.Dense(x.shape[-1])(y)
        return x + nn.Dropout(self.dropout)(y, deterministic=deterministic)


class Decoder(nn.Module):
    """A language model: of each token, which one follows.

    Attributes:
        vocabulary: how many tokens there are.
        max_length: of a text, in tokens.
        features: of each token inside the model.
        depth: how many blocks.
        heads: of the attention, a divisor of `features`.
        dropout: the share of features that training leaves out.
    """

    vocabulary: int
    max_length: int = 128
    features: int = 64
    depth: int = 2
    heads: int = 4
    dropout: float = 0.2

    @nn.compact
    def __call__(
        self,
        tokens: jax.Array,
        *,
        deterministic: bool = True,
        decode: bool = False,
    ) -> jax.Array:
        """Logits `[batch, length, vocabulary]` of the next tokens.

        Args:
            tokens: `[batch, length]`, integers below `vocabulary`; a text, or
                with `decode` its next piece. `length`, and with `decode` the
                sum over the pieces, is at most `max_length`: what goes beyond
                it is not checked, and wrong.
            deterministic: whether to leave nothing out.
            decode: whether to go on from `"cache"`, and keep this piece there.
                Without that collection a text begins, in an empty cache.
        """
        positions = jnp.arange(tokens.shape[1])
        if decode:
            used = self.variable("cache", "used", jnp.zeros, (), jnp.int32)
            positions = positions + used.value
            if not self.is_initializing():
                used.value = used.value + tokens.shape[1]
        embedding = nn.Embed(self.vocabulary, self.features)
        x = embedding(tokens)
        x = x + nn.Embed(self.max_length, self.features)(positions)
        x = nn.Dropout(self.dropout)(x, deterministic=deterministic)
        for _ in range(self.depth):
            x = DecoderBlock(self.heads, self.max_length, self.dropout)(
                x, deterministic=deterministic, decode=decode
            )
        return embedding.attend(nn.LayerNorm()(x))
