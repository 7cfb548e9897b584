"""Models that are trained on both backends of Keras, each in its process."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import keras
import numpy as np
from flax import nnx

import flaxlayer

RNG = np.random.RandomState(0)
VECTORS = RNG.randn(30, 6).astype("float32")
TOKENS = RNG.randint(0, 12, (30, 5)).astype("int32")
LABELS = RNG.randint(0, 3, 30).astype("int32")


class Normalised(nn.Module):
    """Has parameters, batch statistics and dropout, and sows a loss."""

    @nn.compact
    def __call__(self, x, training=False):
        x = nn.Dense(16)(x)
        x = nn.BatchNorm(use_running_average=not training)(x)
        x = nn.Dropout(0.3, deterministic=not training)(nn.relu(x))
        self.sow("losses", "size", 1e-3 * jnp.mean(x**2))
        self.sow("metrics", "mean", jnp.mean(x))
        return nn.Dense(3)(x)


class Noisy(nn.Module):
    """Has a random stream besides dropout."""

    @nn.compact
    def __call__(self, x, training=False):
        x = nn.Dense(8)(x)
        if training:
            x += jax.random.normal(self.make_rng("noise"), x.shape)
        return nn.Dense(3)(nn.Dropout(0.2, deterministic=not training)(x))


class Attention(nn.Module):
    """Takes integers and a mask."""

    @nn.compact
    def __call__(self, ids, mask=None, training=False):
        x = nn.Embed(12, 8)(ids)
        x = nn.MultiHeadDotProductAttention(2, dropout_rate=0.2)(
            x,
            mask=None if mask is None else nn.make_attention_mask(mask, mask),
            deterministic=not training,
        )
        return nn.Dense(3)(x.mean(1))


class NnxNet(nnx.Module):
    def __init__(self, rngs):
        self.linear = nnx.Linear(6, 8, rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.dropout = nnx.Dropout(0.3, rngs=rngs)
        self.out = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        return self.out(self.dropout(self.norm(self.linear(x))))


@keras.saving.register_keras_serializable()
def init_fn(rng, inputs):
    kernel = jax.random.normal(rng, (inputs.shape[-1], 3)) / 4
    return {"kernel": kernel, "bias": jnp.zeros(3)}, {"calls": jnp.zeros(())}


@keras.saving.register_keras_serializable()
def call_fn(params, state, rng, inputs, training):
    if training:
        kept = jax.random.bernoulli(rng, 0.8, inputs.shape)
        inputs = jnp.where(kept, inputs / 0.8, 0)
        state = {"calls": state["calls"] + 1}
    return inputs @ params["kernel"] + params["bias"], state


@keras.saving.register_keras_serializable()
def doubled(inputs):
    return 2 * inputs


def normalised(**kwargs):
    return flaxlayer.FlaxLayer(Normalised(), name="layer", **kwargs)


# What makes a layer, and its inputs.
CASES = {
    "dropout": (lambda: normalised(seed=7), VECTORS),
    "key": (lambda: normalised(seed=np.array([3, 5], "uint32")), VECTORS),
    "no_seed": (normalised, VECTORS),
    "bfloat16": (lambda: normalised(seed=7, dtype="mixed_bfloat16"), VECTORS),
    "streams": (
        lambda: flaxlayer.FlaxLayer(
            Noisy(), rngs=("dropout", "noise"), seed=2, name="layer"
        ),
        VECTORS,
    ),
    "rbg": (
        lambda: flaxlayer.JaxLayer(
            call_fn, init_fn, seed=4, rng_impl="rbg", name="layer"
        ),
        VECTORS,
    ),
    "integers": (
        lambda: flaxlayer.FlaxLayer(Attention(), seed=1, name="layer"),
        TOKENS,
    ),
    "functions": (
        lambda: flaxlayer.JaxLayer(call_fn, init_fn, seed=4, name="layer"),
        VECTORS,
    ),
    "nnx": (lambda: flaxlayer.FlaxLayer(NnxNet, seed=5, name="layer"), VECTORS),
}

# Six steps; the last of each epoch has another batch size.
BATCH, EPOCHS = 12, 2


class StepLosses(keras.callbacks.Callback):
    """Notes what `fit` reports, the mean since the epoch has begun."""

    def __init__(self):
        super().__init__()
        self.losses = []

    def on_train_batch_end(self, batch, logs=None):
        self.losses.append(float(logs["loss"]))


def built(name):
    """The model of a case, not trained."""
    make, inputs = CASES[name]
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)
    layer = make()
    model = keras.Sequential(
        [keras.Input(inputs.shape[1:], dtype=inputs.dtype), layer], name="model"
    )
    model.compile(
        keras.optimizers.SGD(0.05),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model, layer, inputs


def weights(layer):
    """By path, with the state of the seed."""
    found = {
        "/".join(path): np.array(variable.value, copy=True)
        for path, variable in layer._weights.by_path().items()
    }
    if layer.seed_generator is not None:
        state = np.array(layer.seed_generator.state.value, copy=True)
        found["seed"] = state.astype("uint32")
    return found


def train(name, **fit):
    """A trained model, and all that is to be the same on both backends."""
    model, layer, inputs = built(name)
    results = {f"initial/{k}": v for k, v in weights(layer).items()}
    losses = StepLosses()
    history = model.fit(
        inputs,
        LABELS,
        batch_size=BATCH,
        epochs=EPOCHS,
        shuffle=False,
        verbose=0,
        callbacks=[losses],
        **fit,
    ).history
    results |= {f"trained/{k}": v for k, v in weights(layer).items()}
    results |= {f"history/{k}": np.array(v) for k, v in history.items()}
    results["losses"] = np.array(losses.losses)
    predictions = model.predict(inputs, batch_size=7, verbose=0)
    results["predictions"] = predictions.astype("float32")
    return model, results
