"""The examples' models: trained by Keras, saved and loaded to the same bits."""

import functools

import keras
import numpy as np
import pytest

from examples.bert import text
from examples.bert.model import BertClassifier
from examples.decoder.model import Decoder
from examples.lora.model import Classifier
from examples.moe.model import MoEClassifier
from examples.unet.model import UNet
from examples.vit.model import ViT
from flaxlayer import FlaxLayer
from tests.examples import small_data

CROSSENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def vit():
    x, y = small_data.stripes()
    module = ViT(classes=2, features=16, depth=1, heads=2, hidden=16)
    return keras.Sequential([FlaxLayer(module, seed=0)]), x, y, CROSSENTROPY


def unet():
    clean, _ = small_data.stripes(noise=0.0)
    noisy, _ = small_data.stripes(noise=0.5)
    layers = [
        keras.Input((None, None, 1)),
        FlaxLayer(UNet(features=(8, 16)), seed=0),
    ]
    return keras.Sequential(layers), noisy, clean, "mse"


def moe():
    x, y = small_data.stripes()
    module = MoEClassifier(classes=2, features=16, experts=4, hidden=8)
    return keras.Sequential([FlaxLayer(module, seed=0)]), x, y, CROSSENTROPY


def lora():
    x, y = small_data.stripes()
    make = functools.partial(Classifier, features=16, depth=1, classes=2)
    return keras.Sequential([FlaxLayer(make, seed=0)]), x, y, CROSSENTROPY


def bert():
    corpus = text.load(length=24)
    module = BertClassifier(corpus.vocabulary, 5, 24, 16, depth=1, heads=2)
    tokens = keras.Input((None,), dtype="int32")
    mask = keras.ops.not_equal(tokens, text.PADDING)
    model = keras.Model(tokens, FlaxLayer(module, seed=0)(tokens, mask=mask))
    some = np.random.default_rng(0).permutation(len(corpus.train.labels))[:256]
    x, y = (array[some] for array in corpus.train)
    return model, x, y, CROSSENTROPY


def decoder():
    tokens = small_data.tokens(length=17)
    module = Decoder(small_data.VOCABULARY, 24, features=16, depth=1, heads=2)
    inputs = keras.Input((None,), dtype="int32")
    layer = FlaxLayer(module, collections={"cache": "transient"}, seed=0)
    logits, cached = layer(inputs)
    assert cached == {"cache": {}}
    model = keras.Model(inputs, logits)
    return model, tokens[:, :-1], tokens[:, 1:], CROSSENTROPY


@pytest.mark.parametrize(
    ("make", "factor"),
    [(vit, 4), (unet, 2), (moe, 5), (lora, 4), (bert, 1.3), (decoder, 1.2)],
)
def test_the_loss_falls_and_a_saved_model_predicts_the_same(
    make, factor, tmp_path
):
    model, x, y, loss = make()
    model.compile(keras.optimizers.Adam(3e-3), loss)
    history = model.fit(x, y, epochs=12, verbose=0, shuffle=False).history
    assert history["loss"][-1] < history["loss"][0] / factor

    outputs = model.predict(x, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), outputs)


def test_a_loaded_model_is_trained_on_to_the_same_weights(tmp_path):
    model, x, y, loss = moe()  # Has dropout, and losses of its own.
    model.compile(keras.optimizers.Adam(3e-3), loss)
    model.fit(x, y, shuffle=False, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for one in (model, loaded):
        one.fit(x, y, epochs=2, shuffle=False, verbose=0)
    for one, other in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(one, other)
