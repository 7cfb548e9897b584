"""Models that are exported, each with something that an export may lose."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import keras
import numpy as np
from flax import nnx

import flaxlayer


def data(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


class Images(nn.Module):
    @nn.compact
    def __call__(self, x, training=False):
        x = nn.Conv(4, (3, 3))(x)
        x = nn.BatchNorm(use_running_average=not training)(x)
        x = nn.Dropout(0.5, deterministic=not training)(nn.relu(x))
        return nn.Dense(3)(x.mean((1, 2)))


def images():
    """Convolutions, Dropout, and BatchNorm that has seen something."""
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), flaxlayer.FlaxLayer(Images(), seed=0)]
    )
    model.compile("sgd", "mse")
    model.fit(data(8, 8, 8, 1), data(8, 3), verbose=0)
    return model


class Mean(nn.Module):
    """The mean of the steps that count."""

    @nn.compact
    def __call__(self, x, mask):
        weights = mask[..., jnp.newaxis].astype(x.dtype)
        return nn.Dense(2)((x * weights).sum(1) / (weights.sum(1) + 1))


def tokens():
    """Integers of an unknown length, whose mask Keras makes."""
    ids = keras.Input((None,), dtype="int32", name="ids")
    x = keras.layers.Embedding(5, 3, mask_zero=True)(ids)
    return keras.Model(ids, flaxlayer.FlaxLayer(Mean(), seed=0)(x))


def masked():
    """A layer that is built for any length, and is given the mask."""
    spec = keras.KerasTensor((None, None, 3))
    mask = keras.KerasTensor((None, None), dtype="bool")
    layer = flaxlayer.FlaxLayer(
        Mean(), seed=0, inputs_spec=flaxlayer.CallArguments(spec, mask=mask)
    )
    layer.build(spec.shape)
    return layer


class Pair(nn.Module):
    @nn.compact
    def __call__(self, a, b, *, scale):
        joined = nn.Dense(2)(jnp.concatenate([a, b], -1))
        return {"sum": joined * scale, "each": (a + 1, b.astype(jnp.bfloat16))}


def pair():
    """Several inputs and outputs, and a dtype that NumPy has no name for."""
    layer = flaxlayer.FlaxLayer(Pair(), seed=0, dtype="mixed_bfloat16")
    layer(data(2, 4), data(2, 3), scale=data())
    return layer


def added():
    """A functional model of a dict, whose inputs must have one length."""
    inputs = {k: keras.Input((None, 3), name=k) for k in ("second", "first")}
    layer = flaxlayer.JaxLayer(
        lambda params, inputs: inputs["first"] @ params + inputs["second"],
        lambda rng, inputs: jax.random.normal(rng, (3, 3)),
        seed=0,
    )
    return keras.Model(inputs, [layer(inputs), inputs["first"]])


class Linear(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.dense = nnx.Linear(3, 2, rngs=rngs)
        self.norm = nnx.BatchNorm(2, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.dropout(self.norm(self.dense(x)))


def of_nnx():
    layer = flaxlayer.FlaxLayer(Linear, seed=0)
    layer(data(2, 3))
    return layer


class Recurrent(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.RNN(nn.LSTMCell(4))(x)


def recurrent():
    """A loop over a length that is not known."""
    layer = flaxlayer.FlaxLayer(Recurrent(), seed=0)
    return keras.Sequential([keras.Input((None, 3)), layer])


class Noisy(nn.Module):
    @nn.compact
    def __call__(self, x):
        noise = jax.random.normal(self.make_rng("noise"), x.shape)
        return nn.Dense(3)(x) + noise


def noisy(kernels="auto"):
    """Draws random numbers in inference, and other ones in each call."""
    layer = flaxlayer.FlaxLayer(
        Noisy(), seed=0, rngs={"noise": "always"}, kernels=kernels
    )
    layer.build((None, 3))
    return layer


class Autoencoder(nn.Module):
    def setup(self):
        self.encoder = nn.Dense(2)
        self.decoder = nn.Dense(4)

    def encode(self, x):
        return self.encoder(x)

    def decode(self, code):
        return self.decoder(code)

    def __call__(self, x):
        return self.decode(self.encode(x))


def autoencoder():
    """Methods of one trained module: its layer, and one for each."""
    whole = flaxlayer.FlaxLayer(Autoencoder(), seed=0)
    whole(data(2, 4))
    trained = whole.get_layer_variables()["params"]
    layers = {"whole": whole}
    for method, part, shape in (
        ("encode", "encoder", (2, 4)),
        ("decode", "decoder", (2, 2)),
    ):
        layers[method] = flaxlayer.FlaxLayer(
            Autoencoder(),
            method=method,
            variables={"params": {part: trained[part]}},
        )
        layers[method](data(*shape))
    return layers


class Decoder(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.MultiHeadDotProductAttention(2, decode=True)(x)


STEPS = 5


def decoder():
    """A step with a cache, its empty cache, and what it is called with."""
    sequence = data(2, STEPS, 8)
    layer = flaxlayer.FlaxLayer(
        Decoder(), seed=0, collections={"cache": "transient"}
    )
    layer.build(sequence.shape)
    made = jax.eval_shape(Decoder().init, jax.random.key(0), sequence)["cache"]
    cache = jax.tree_util.tree_map(
        lambda spec: jnp.zeros(spec.shape, spec.dtype), made
    )
    specs = jax.tree_util.tree_map(
        lambda spec: jax.ShapeDtypeStruct(
            ("batch", *spec.shape[1:]) if spec.shape else (), spec.dtype
        ),
        made,
    )
    step = keras.KerasTensor((None, 1, 8))
    return layer, cache, flaxlayer.CallArguments(step, cache=specs)


def of_all_kinds():
    """Models of all kinds that change nothing, by the names of endpoints."""
    return {
        "images": images(),
        "tokens": tokens(),
        "masked": masked(),
        "pair": pair(),
        "added": added(),
        "nnx": of_nnx(),
        "recurrent": recurrent(),
        "step": decoder()[0],
        **autoencoder(),
    }
