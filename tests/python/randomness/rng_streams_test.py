"""From a seed to the keys of each stream of each call."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from flaxlayer.ops import dispatch
from flaxlayer.randomness import rng_streams

WHERE = "FlaxLayer 'probe'"


def streams(names, base="dropout"):
    return rng_streams.RngStreams(names, base=base, layer=WHERE)


def draw(names, active, state=(7, 3), impl="threefry2x32"):
    return streams(names).draw(
        jnp.array(state, jnp.uint32),
        active,
        key_impl=impl,
        kernel=dispatch.choose("rng_fold", "reference"),
    )


def init_keys(seed, names, impl="threefry2x32"):
    return rng_streams.init_keys(
        seed,
        names,
        base="params",
        key_impl=impl,
        kernel=dispatch.choose("rng_fold", "reference"),
    )


def words(key):
    return tuple(int(word) for word in np.asarray(key))


def test_named_streams_are_given_in_training_only():
    declared = streams(("dropout", "noise"))
    assert declared.active(training=True) == ("dropout", "noise")
    assert declared.active(training=False) == ()


def test_a_stream_may_always_be_given():
    declared = streams({"dropout": "training", "noise": "always"})
    assert declared.active(training=True) == ("dropout", "noise")
    assert declared.active(training=False) == ("noise",)


def test_a_stream_may_never_be_given():
    declared = streams({"dropout": "never", "noise": "training"})
    assert declared.active(training=True) == ("noise",)
    assert declared.active(training=False) == ()


def test_the_base_stream_gets_the_state_itself():
    keys, _ = draw(("dropout", "noise"), ("dropout", "noise"))
    assert words(keys["dropout"]) == (7, 3)


def test_another_stream_gets_its_tag_folded_into_the_state():
    keys, _ = draw(("dropout", "noise"), ("dropout", "noise"))
    state = jax.random.wrap_key_data(jnp.array([7, 3], jnp.uint32))
    tag = np.uint32(rng_streams.stream_tag("noise"))
    folded = jax.random.fold_in(state, tag)
    assert words(keys["noise"]) == words(jax.random.key_data(folded))


def test_a_streams_keys_do_not_depend_on_the_other_streams():
    alone, _ = draw(("noise",), ("noise",))
    among, _ = draw(("a", "noise", "b", "dropout"), ("a", "noise", "b"))
    assert words(alone["noise"]) == words(among["noise"])


def test_keys_come_in_the_declared_order():
    keys, _ = draw(("noise", "dropout"), ("noise", "dropout"))
    assert list(keys) == ["noise", "dropout"]


def test_a_draw_advances_the_counter_by_one():
    _, state = draw(("dropout", "a", "b"), ("dropout", "a", "b"))
    assert words(state) == (7, 4)
    assert state.dtype == np.uint32


def test_no_active_stream_draws_nothing():
    keys, state = draw(("dropout",), ())
    assert keys == {}
    assert words(state) == (7, 3)


def test_keys_of_another_implementation_have_its_size():
    (key,) = draw(("dropout",), ("dropout",), impl="rbg")[0].values()
    other = draw(("dropout",), ("dropout",), (7, 4), impl="rbg")[0]["dropout"]
    assert key.shape == jax.random.key_data(jax.random.key(0, impl="rbg")).shape
    assert words(key) != words(other)
    jax.random.wrap_key_data(key, impl="rbg")  # It is one.


def test_a_tag_depends_on_the_name_only():
    # Stored models depend on it: it must never change.
    assert rng_streams.stream_tag("noise") == 0xEFE2A5C0
    assert rng_streams.stream_tag("Noise") != 0xEFE2A5C0


@pytest.mark.parametrize("value", [None, 0, 2**32 - 1, np.int64(5)])
def test_integers_and_none_are_seeds(value):
    assert rng_streams.checked_seed(value, layer=WHERE) == value


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
    seed = rng_streams.checked_seed(key, layer=WHERE)
    assert words(seed) == (0, 5)


@pytest.mark.parametrize("value", [-1, 2**32])
def test_an_integer_of_more_than_32_bits_is_refused(value):
    with pytest.raises(ValueError, match=rf"{WHERE}: `seed`.*{value}"):
        rng_streams.checked_seed(value, layer=WHERE)


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
        rng_streams.checked_seed(value, layer=WHERE)


@pytest.mark.parametrize("seed", [None, 5, np.array([1, 2], np.uint32)])
def test_a_seed_survives_its_config(seed):
    config = rng_streams.seed_to_config(seed)
    back = rng_streams.seed_from_config(config, layer=WHERE)
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
        rng_streams.seed_from_config(config, layer=WHERE)


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
    assert key.shape == rng_streams.key_spec(impl).shape == (size,)


def generator_words(seed, name="probe"):
    return words(rng_streams.seed_generator(seed, name).state)


def test_the_generator_of_an_integer_has_the_name_folded_in():
    tag = rng_streams.stream_tag("9/probe")
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


@pytest.mark.parametrize(
    ("names", "error", "problem"),
    [
        ("dropout", TypeError, "sequence of stream names.*'dropout'"),
        (3, TypeError, "sequence of stream names.*int"),
        (("a", "a"), ValueError, "named twice"),
        ((1,), TypeError, "must be strings.*1"),
        (("",), TypeError, "must be strings"),
        ({"a": "often"}, ValueError, r"`rngs\['a'\]`.*'often'"),
        ({"a": True}, ValueError, r"`rngs\['a'\]`.*True"),
    ],
)
def test_bad_declarations_say_what_is_expected(names, error, problem):
    with pytest.raises(error, match=f"{WHERE}.*{problem}"):
        streams(names)


def test_two_names_of_one_tag_are_refused(monkeypatch):
    monkeypatch.setattr(rng_streams, "stream_tag", lambda name: 1)
    with pytest.raises(ValueError, match="same 32-bit tag"):
        streams(("a", "b"))
