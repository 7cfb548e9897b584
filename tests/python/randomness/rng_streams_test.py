"""From the state of a seed to the keys of each stream of a call."""

import jax
import jax.numpy as jnp
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
