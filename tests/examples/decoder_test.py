"""The decoder writes the same with its cache, and as Flax alone would."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from examples.decoder import generation
from examples.decoder.model import Decoder
from flaxlayer import FlaxLayer
from tests.examples import small_data

MODULE = Decoder(small_data.VOCABULARY, 24, features=16, depth=2, heads=2)
PROMPTS = jnp.asarray(small_data.tokens(length=9, count=2))
COUNT = 15  # All that there is room for.


@pytest.fixture(scope="module")
def trained():
    """A layer that has seen some text."""
    tokens = small_data.tokens(length=17)
    layer = FlaxLayer(MODULE, collections={"cache": "transient"}, seed=0)
    inputs = keras.Input((None,), dtype="int32")
    model = keras.Model(inputs, layer(inputs)[0])
    model.compile(
        keras.optimizers.Adam(1e-2),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(tokens[:, :-1], tokens[:, 1:], epochs=40, verbose=0)
    return model, layer


def test_it_writes_the_same_with_the_cache_as_without(trained):
    _, layer = trained
    tokens, logits = generation.with_cache(layer, PROMPTS, COUNT)
    whole_tokens, whole_logits = generation.without_cache(layer, PROMPTS, COUNT)
    assert tokens.shape == (2, COUNT)
    assert len(np.unique(tokens)) > 2
    np.testing.assert_array_equal(tokens, whole_tokens)
    np.testing.assert_allclose(logits, whole_logits, rtol=1e-4, atol=1e-4)


def test_a_call_with_the_cache_is_one_of_flax(trained):
    _, layer = trained
    params = layer.get_layer_variables()

    @jax.jit
    def apply(variables, tokens):
        return MODULE.apply(variables, tokens, decode=True, mutable=["cache"])

    variables, cached = params, {}
    for piece in (PROMPTS, PROMPTS[:, :1], PROMPTS[:, :3]):
        expected, written = apply(variables, piece)
        logits, new = layer(piece, decode=True, **cached)
        np.testing.assert_array_equal(logits, expected)
        jax.tree_util.tree_map(
            np.testing.assert_array_equal, new["cache"], written["cache"]
        )
        variables, cached = {**params, **written}, {"cache": new["cache"]}
    assert int(new["cache"]["used"]) == 13


def test_a_cache_is_no_weight_and_no_state(trained):
    _, layer = trained
    paths = [weight.path for weight in layer.weights]
    assert not [path for path in paths if "cache" in path]
    first, _ = layer(PROMPTS, decode=True)
    again, _ = layer(PROMPTS, decode=True)
    np.testing.assert_array_equal(first, again)


def test_a_loaded_decoder_writes_the_same(trained, tmp_path):
    model, layer = trained
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    again = loaded.get_layer(layer.name)
    expected = generation.with_cache(layer, PROMPTS, 4)
    for values, other in zip(
        generation.with_cache(again, PROMPTS, 4), expected, strict=True
    ):
        np.testing.assert_array_equal(values, other)


def test_initialising_with_a_cache_leaves_it_empty():
    made = MODULE.init(jax.random.key(0), PROMPTS, decode=True)["cache"]
    assert not any(np.any(leaf) for leaf in jax.tree_util.tree_leaves(made))
