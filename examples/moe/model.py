"""A mixture of experts: all a saved file of it needs to load."""

import flax.linen as nn
import jax
import jax.numpy as jnp


class MixtureOfExperts(nn.Module):
    """The switch layer of Fedus et al., arXiv:2101.03961, without capacities.

    A router sends each token to one of several perceptrons. Left to itself it
    soon favours a few of them, which then learn more and are favoured more. A
    loss that is least when all have the same load works against that.

    Every expert is computed for every token here, and one is taken: that
    needs no dispatch, and is fast enough for a few small experts.

    It sows

    - `"losses"`, `"balance"`: the loss of section 2.2 of the paper, times
      `balance`; a scalar;
    - `"metrics"`, `"busiest"`: the share of the tokens that the expert with
      the most of them has; a scalar, `1 / experts` at its best;
    - `"intermediates"`, `"expert"`: the expert of each token, int32.

    Attributes:
        experts: how many.
        hidden: the features inside each of them.
        balance: the weight of the loss.
    """

    experts: int
    hidden: int
    balance: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[tokens, features]`, as `x`."""
        probabilities = nn.softmax(
            nn.Dense(self.experts, use_bias=False, name="router")(x)
        )
        expert = jnp.argmax(probabilities, axis=-1)
        chosen = jax.nn.one_hot(expert, self.experts, dtype=x.dtype)

        load = chosen.mean(0)
        balance = self.experts * jnp.sum(load * probabilities.mean(0))
        self.sow("losses", "balance", self.balance * balance)
        self.sow("metrics", "busiest", load.max())
        self.sow("intermediates", "expert", expert)

        init = nn.initializers.lecun_normal(batch_axis=0)
        features = x.shape[-1]
        first = self.param("first", init, (self.experts, features, self.hidden))
        second = self.param(
            "second", init, (self.experts, self.hidden, features)
        )
        y = nn.relu(jnp.einsum("tf,efh->teh", x, first.astype(x.dtype)))
        y = jnp.einsum("teh,ehf->tef", y, second.astype(x.dtype))
        # The gate is what the router learns by.
        gate = probabilities * chosen
        return jnp.einsum("tef,te->tf", y, gate)


class MoEClassifier(nn.Module):
    """Classifies images, each of which is one token to the experts.

    Attributes:
        classes: how many logits come out.
        features: of an image inside the model.
        experts: of the mixture, as are the next two.
        hidden: see `MixtureOfExperts`.
        balance: see `MixtureOfExperts`.
        dropout: the share of the last features that training leaves out.
    """

    classes: int = 10
    features: int = 128
    experts: int = 8
    hidden: int = 32
    balance: float = 0.01
    dropout: float = 0.1

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Logits `[batch, classes]` for images `[batch, height, width]`."""
        x = images.reshape(images.shape[0], -1)
        x = nn.relu(nn.Dense(self.features)(x))
        x = x + MixtureOfExperts(
            self.experts, self.hidden, self.balance, name="mixture"
        )(nn.LayerNorm()(x))
        x = nn.Dropout(self.dropout, deterministic=not train)(nn.LayerNorm()(x))
        return nn.Dense(self.classes)(x)
