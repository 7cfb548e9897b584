"""An encoder like BERT: all a saved file of it needs to load."""

import flax.linen as nn
import jax
import jax.numpy as jnp


class EncoderBlock(nn.Module):
    """Attention, then a perceptron, each added and then normalised.

    Attributes:
        heads: how many heads the attention has; they share the features.
        dropout: the share of features that training leaves out.
    """

    heads: int
    dropout: float

    @nn.compact
    def __call__(
        self, x: jax.Array, attended: jax.Array, deterministic: bool
    ) -> jax.Array:
        """`[batch, length, features]`, as `x`.

        Args:
            x: the tokens, `[batch, length, features]`.
            attended: which tokens are looked at, `[batch, 1, 1, length]`.
            deterministic: whether to leave nothing out.
        """
        y = nn.MultiHeadDotProductAttention(
            self.heads, dropout_rate=self.dropout, deterministic=deterministic
        )(x, mask=attended)
        y = nn.Dropout(self.dropout)(y, deterministic=deterministic)
        x = nn.LayerNorm()(x + y)
        y = nn.gelu(nn.Dense(4 * x.shape[-1])(x))
        y = nn.Dense(x.shape[-1])(y)
        y = nn.Dropout(self.dropout)(y, deterministic=deterministic)
        return nn.LayerNorm()(x + y)


class BertClassifier(nn.Module):
    """The encoder of Devlin et al., arXiv:1810.04805, to classify texts.

    What it says of a text is read off the first token, as in BERT.

    Attributes:
        vocabulary: how many tokens there are.
        classes: how many logits come out.
        max_length: of a text, in tokens.
        features: of each token inside the model.
        depth: how many blocks.
        heads: of the attention, a divisor of `features`.
        dropout: the share of features that training leaves out.
    """

    vocabulary: int
    classes: int
    max_length: int = 64
    features: int = 48
    depth: int = 2
    heads: int = 4
    dropout: float = 0.2

    @nn.compact
    def __call__(
        self,
        tokens: jax.Array,
        mask: jax.Array | None = None,
        deterministic: bool = True,
    ) -> jax.Array:
        """Logits `[batch, classes]`.

        Args:
            tokens: `[batch, length]`, integers below `vocabulary`; `length` is
                at most `max_length`.
            mask: `[batch, length]`, whether a token is part of the text rather
                than padding; the first one is. `None` if all are.
            deterministic: whether to leave nothing out.
        """
        if mask is None:
            mask = jnp.ones(tokens.shape, bool)
        positions = jnp.arange(tokens.shape[1])
        x = nn.Embed(self.vocabulary, self.features)(tokens)
        x = x + nn.Embed(self.max_length, self.features)(positions)
        x = nn.Dropout(self.dropout)(
            nn.LayerNorm()(x), deterministic=deterministic
        )
        attended = mask[:, jnp.newaxis, jnp.newaxis, :]
        for _ in range(self.depth):
            x = EncoderBlock(self.heads, self.dropout)(
                x, attended, deterministic
            )
        pooled = nn.tanh(nn.Dense(self.features)(x[:, 0]))
        return nn.Dense(self.classes)(pooled)
