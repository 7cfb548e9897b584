"""Models that both this package's layers and Keras's own can wrap."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import keras


class Serializable:
    """What Keras's own layer needs of a module to save it."""

    def get_config(self):
        return {}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


@keras.saving.register_keras_serializable(package="parity")
class ConvNet(Serializable, nn.Module):
    """Convolutions, batch statistics, dropout: the usual suspects."""

    @nn.compact
    def __call__(self, inputs, training=False):
        x = nn.Conv(4, (3, 3), use_bias=False)(inputs)
        x = nn.BatchNorm(use_running_average=not training)(x)
        x = nn.relu(x)
        x = nn.avg_pool(x, (2, 2), (2, 2))
        x = x.reshape((x.shape[0], -1))
        x = nn.Dense(16)(x)
        x = nn.BatchNorm(use_running_average=not training, momentum=0.9)(x)
        x = nn.Dropout(0.4, deterministic=not training)(x)
        return nn.Dense(3)(nn.relu(x))


@keras.saving.register_keras_serializable(package="parity")
class Attention(Serializable, nn.Module):
    """A transformer block with dropout in the attention weights as well."""

    @nn.compact
    def __call__(self, inputs, training=False):
        x = nn.Dense(16)(inputs)
        y = nn.LayerNorm()(x)
        x += nn.MultiHeadDotProductAttention(
            num_heads=2, dropout_rate=0.2, deterministic=not training
        )(y, y)
        x = nn.Dropout(0.3, deterministic=not training)(x)
        return nn.Dense(3)(x.mean(axis=1))


@keras.saving.register_keras_serializable(package="parity")
class Counter(Serializable, nn.Module):
    """State and no parameters; the state is an integer."""

    @nn.compact
    def __call__(self, inputs):
        count = self.variable("counts", "calls", jnp.zeros, (), jnp.int32)
        count.value = count.value + 1
        return inputs


@keras.saving.register_keras_serializable(package="parity")
def apply_without_flag(module, inputs, training):
    """A method that is not bound to the module."""
    return module(inputs, training)


@keras.saving.register_keras_serializable(package="parity")
def mlp_init(rng, inputs, training):
    w_rng, b_rng = jax.random.split(rng)
    params = {
        "w": jax.random.normal(w_rng, (inputs.shape[-1], 3)),
        "b": [jax.random.uniform(b_rng, (3,)), 0.5],
    }
    return params, {"steps": jnp.zeros((), jnp.int32), "mean": jnp.zeros(3)}


@keras.saving.register_keras_serializable(package="parity")
def mlp_call(params, state, rng, inputs, training):
    outputs = inputs @ params["w"] + params["b"][0] * params["b"][1]
    if training:
        keep = jax.random.bernoulli(rng, 0.8, outputs.shape)
        outputs = jnp.where(keep, outputs / 0.8, 0)
        state = {
            "steps": state["steps"] + 1,
            "mean": 0.9 * state["mean"] + 0.1 * outputs.mean(axis=0),
        }
    return outputs, state
