"""From the seed of a layer to its generator and the keys of its weights."""

import jax
import keras
import numpy as np
import pytest

from flaxlayer.ops import dispatch
from flaxlayer.randomness import seeds
from flaxlayer.randomness.rng_streams import stream_tag

WHERE = "FlaxLayer 'probe'"


def init_keys(seed, names, impl="threefry2x32"):
    return seeds.init_keys(
        seed,
        names,
        key_impl=impl,
        kernel=dispatch.choose("rng_fold", "reference"),
    )


def words(key):
    return tuple(int(word) for word in np.asarray(key))


@pytest.mark.parametrize("value", [None, 0, 2**32 - 1, np.int64(5)])
def test_integers_and_none_are_seeds(value):
    assert seeds.checked_seed(value, layer=WHERE) == value


@pytest.mark.parametrize(
    "key",
    [
        jax.random.key(5),
        jax.random.PRNGKey(5),
        np.array([0, 5], np.uint32),
    ],
    ids=["typed", "raw", "numpy"],
)
def test_a_threefry_key_is_a_seed(key):
    seed = seeds.checked_seed(key, layer=WHERE)
    assert words(seed) == (0, 5)


@pytest.mark.parametrize("value", [-1, 2**32])
def test_an_integer_of_more_than_32_bits_is_refused(value):
    with pytest.raises(ValueError, match=rf"{WHERE}: `seed`.*{value}"):
        seeds.checked_seed(value, layer=WHERE)


@pytest.mark.parametrize(
    "value",
    [
        1.0,
        "7",
        True,
        np.zeros(3, np.uint32),
        np.zeros(2, np.int32),
        jax.random.key(0, impl="rbg"),
        jax.random.split(jax.random.key(0)),
        keras.random.SeedGenerator(0),
    ],
    ids=[
        "float",
        "text",
        "bool",
        "3-words",
        "signed",
        "rbg",
        "2-keys",
        "generator",
    ],
)
def test_anything_else_is_no_seed(value):
    with pytest.raises(TypeError, match=f"{WHERE}: `seed` must be .*Received"):
        seeds.checked_seed(value, layer=WHERE)


@pytest.mark.parametrize("seed", [None, 5, np.array([1, 2], np.uint32)])
def test_a_seed_survives_its_config(seed):
    config = seeds.seed_to_config(seed)
    back = seeds.seed_from_config(config, layer=WHERE)
    np.testing.assert_equal(back, seed)


@pytest.mark.parametrize(
    "config",
    [
        "7",
        {"key_data": [1]},
        {"key_data": [1, 2**32]},
        {"key_data": [1, "2"]},
        {"class_name": "SeedGenerator"},
    ],
)
def test_a_damaged_seed_is_refused(config):
    with pytest.raises(ValueError, match=f"{WHERE}: the saved `seed`"):
        seeds.seed_from_config(config, layer=WHERE)


def test_init_keys_with_a_seed_are_those_of_stock_jax():
    keys = init_keys(7, ("params", "dropout"))
    assert words(keys["params"]) == words(jax.random.PRNGKey(7))
    assert words(keys["dropout"]) != words(keys["params"])


def test_init_keys_of_a_key_are_that_key():
    seed = np.array([1, 2], np.uint32)
    keys = init_keys(seed, ("params",))
    assert words(keys["params"]) == (1, 2)


def test_init_keys_without_a_seed_are_drawn_from_keras():
    def drawn():
        keys = init_keys(None, ("params", "noise"))
        return [words(key) for key in keys.values()]

    keras.utils.set_random_seed(3)
    first, second = drawn(), drawn()
    keras.utils.set_random_seed(3)
    assert drawn() == first
    assert first != second
    assert first[0] != first[1]


@pytest.mark.parametrize(("impl", "size"), [("threefry2x32", 2), ("rbg", 4)])
def test_init_keys_are_of_the_implementation(impl, size):
    (key,) = init_keys(7, ("params",), impl).values()
    assert key.shape == seeds.key_spec(impl).shape == (size,)


def generator_words(seed, name="probe"):
    return words(seeds.seed_generator(seed, name).state)


def test_the_generator_of_an_integer_has_the_name_folded_in():
    tag = stream_tag("9/probe")
    assert generator_words(9) == (tag, 0)
    assert generator_words(9) != generator_words(9, "other")
    assert generator_words(9) != generator_words(8)


def test_the_generator_without_a_seed_is_that_of_keras():
    keras.utils.set_random_seed(9)
    ours = generator_words(None)
    keras.utils.set_random_seed(9)
    assert ours == words(keras.random.SeedGenerator().state)


def test_the_generator_of_a_key_differs_from_its_initial_key():
    seed, other = (np.array([1, n], np.uint32) for n in (2, 3))
    assert generator_words(seed) != (1, 2)
    assert generator_words(seed) != generator_words(other)
    assert generator_words(seed) == generator_words(seed, "other")
