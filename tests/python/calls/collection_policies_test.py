"""The policies of collections, and what they make of what is written."""

import jax.numpy as jnp
import numpy as np

from flaxlayer.calls.collection_policies import CollectionPolicies


def policies(**declared):
    return CollectionPolicies(declared, "layer")


def test_the_usual_names_have_the_usual_policies():
    usual = policies()
    assert usual.of("intermediates") == "drop"
    assert usual.of("losses") == "loss"
    assert usual.of("metrics") == "metric"
    assert usual.of("batch_stats", {"norm": {"mean": 1}}) == "state"
    assert policies(losses="output").of("losses") == "output"


def test_what_looks_sown_is_dropped_unless_it_is_declared():
    sown = {"block": {"load": (jnp.ones(2),)}}
    assert policies().of("moe", sown) == "drop"
    assert policies(moe="state").of("moe", sown) == "state"
    assert policies().of("cache", {"pair": (1, 2)}) == "state"
    assert policies().of("empty", {}) == "state"


def test_only_what_is_wanted_is_mutable():
    assert set(policies().mutable) == {"losses", "metrics"}
    declared = policies(
        losses="drop", cache="transient", aux="output", stats="state"
    )
    assert set(declared.mutable) == {"losses", "metrics", "cache", "aux"}
    assert set(declared.returned) == {"cache", "aux"}
    assert declared.named("transient") == ("cache",)


def test_losses_are_summed_and_metrics_averaged():
    written = {
        "losses": {"a": (jnp.ones((2, 3)),), "b": {"c": (jnp.full(2, 5.0),)}},
        "metrics": {
            "top": (jnp.float32(2.0), jnp.full((2, 2), 4.0)),
            "block": {"load": jnp.array([1, 2], jnp.int32)},
            "nothing": (),
        },
        "other": {"x": (jnp.ones(()),)},
    }
    losses, metrics = policies().effects(written)
    np.testing.assert_array_equal(losses, [6.0, 10.0])
    assert metrics == {"top": 3.0, "block/load": 1.5}
    assert policies().effects({}) == ([], {})
