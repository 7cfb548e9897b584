"""FlaxLayer: where Keras masks come from, and where they go on."""

import flax.linen as nn
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from flaxlayer import FlaxLayer

IDS = np.array([[3, 1, 0, 0], [2, 0, 0, 0], [4, 4, 1, 2]], np.int32)
LABELS = np.array([0, 1, 1], np.int32)


class Mean(nn.Module):
    """The mean of the steps that count."""

    @nn.compact
    def __call__(self, x, mask):
        weights = mask[..., jnp.newaxis].astype(x.dtype)
        mean = (x * weights).sum(1) / weights.sum(1)
        return nn.Dense(2)(mean)


class Steps(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(2)(x)


class Last(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(4)(x[:, -1])


def embedded():
    """Tokens, and their embeddings with a mask of those that are not 0."""
    ids = keras.Input((None,), dtype="int32")
    return ids, keras.layers.Embedding(5, 3, mask_zero=True)(ids)


def test_a_module_gets_the_mask_of_its_input():
    ids, x = embedded()
    model = keras.Model(ids, FlaxLayer(Mean(), seed=0)(x))
    whole, padded = model.predict(IDS[:1, :2]), model.predict(IDS[:1])
    np.testing.assert_allclose(whole, padded, rtol=1e-5, atol=1e-6)


def test_a_mask_may_be_given():
    ids = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(5, 3)(ids)
    mask = keras.ops.not_equal(ids, 0)
    model = keras.Model(ids, FlaxLayer(Mean(), seed=0)(x, mask=mask))
    whole, padded = model.predict(IDS[:1, :2]), model.predict(IDS[:1])
    np.testing.assert_allclose(whole, padded, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("module", [Mean(), Last()])
def test_outputs_without_steps_have_no_mask(module):
    ids, x = embedded()
    outputs = FlaxLayer(module)(x)
    assert getattr(outputs, "_keras_mask", None) is None
    model = keras.Model(ids, outputs)
    model.compile(
        "sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    # With a mask of another shape the loss would fail; here are as many steps
    # as `Last` has logits, and it would be another one.
    unmasked = model.compute_loss(
        y=LABELS, y_pred=np.asarray(model.predict(IDS))
    )
    assert model.evaluate(IDS, LABELS) == pytest.approx(float(unmasked))
    model.fit(IDS, LABELS, verbose=0)


def test_outputs_with_steps_hand_the_mask_on():
    ids, x = embedded()
    steps = FlaxLayer(Steps(), seed=0)(x)
    pooled = keras.layers.GlobalAveragePooling1D()(steps)
    model = keras.Model(ids, pooled)
    np.testing.assert_allclose(
        model.predict(IDS[:1, :2]), model.predict(IDS[:1]), rtol=1e-5, atol=1e-6
    )
