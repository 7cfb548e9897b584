"""BERT does not look at padding; its texts are kept apart for the test."""

import keras
import numpy as np

from examples.bert import text
from examples.bert.model import BertClassifier
from flaxlayer import FlaxLayer

MODULE = BertClassifier(100, 5, max_length=16, features=16, depth=2, heads=2)
TOKENS = np.array([[1, 5, 6, 7, 0, 0], [1, 8, 9, 0, 0, 0]], np.int32)


def classified(layer, tokens):
    mask = tokens != text.PADDING
    return np.asarray(layer(tokens, mask=mask))


def test_padding_changes_nothing():
    layer = FlaxLayer(MODULE, seed=0)
    logits = classified(layer, TOKENS)
    longer = classified(layer, np.pad(TOKENS, ((0, 0), (0, 6))))
    np.testing.assert_allclose(longer, logits, rtol=1e-5, atol=1e-6)
    # Without the mask it is looked at.
    assert np.abs(np.asarray(layer(TOKENS)) - logits).max() > 1e-3


def test_the_mask_of_a_keras_layer_is_the_one_that_is_used():
    given = FlaxLayer(MODULE, seed=0)
    logits = classified(given, TOKENS)
    inputs = keras.Input((None,), dtype="int32")
    masked = keras.layers.Masking(text.PADDING)
    tokens = keras.ops.expand_dims(inputs, -1)
    mask = masked.compute_mask(tokens)
    model = keras.Model(inputs, FlaxLayer(MODULE, seed=0)(inputs, mask=mask))
    np.testing.assert_allclose(
        model.predict(TOKENS, verbose=0), logits, rtol=1e-5, atol=1e-6
    )


def test_training_leaves_features_out_and_prediction_does_not():
    layer = FlaxLayer(MODULE, seed=0)
    np.testing.assert_array_equal(
        classified(layer, TOKENS), classified(layer, TOKENS)
    )
    first, second = (np.asarray(layer(TOKENS, training=True)) for _ in range(2))
    assert not np.array_equal(first, second)


def test_no_line_of_the_test_is_in_the_training():
    corpus = text.load()
    assert set(corpus.train.labels) == set(corpus.test.labels) == set(range(5))
    assert corpus.train.tokens.max() == corpus.vocabulary - 1
    assert corpus.test.tokens.max() < corpus.vocabulary
    train = {tuple(row) for row in corpus.train.tokens}
    assert not [row for row in corpus.test.tokens if tuple(row) in train]
    assert (corpus.train.tokens[:, 0] == corpus.test.tokens[0, 0]).all()
