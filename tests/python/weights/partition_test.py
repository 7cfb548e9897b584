"""Which weights are parameters and which are state, by path."""

import pytest

from flaxlayer.weights import partition, path_patterns

VARIABLES = {
    "params": {"encoder": {"kernel": 1, "bias": 2}, "head": {"kernel": 3}},
    "batch_stats": {"encoder": {"mean": 4}},
    "cache": {"pair": (5, 6)},
}


def split(kinds):
    return partition.Partition(kinds, "layer").split(VARIABLES)


def test_parameters_are_what_is_called_so():
    params, state = split(None)
    assert params == {"params": VARIABLES["params"]}
    assert state == {k: VARIABLES[k] for k in ("batch_stats", "cache")}


@pytest.mark.parametrize(
    "kinds",
    [
        {"params/encoder/kernel": "state"},
        {"encoder/kernel": "state"},
        {".*kernel": "state"},
        {"params/head": "state", "batch_stats": "trainable"},
        {".*": "state"},
        {".*": "trainable"},
        {"params/head": "trainable", "params": "state"},
    ],
)
def test_the_parts_are_the_whole(kinds):
    params, state = split(kinds)
    assert partition.merged(params, state) == VARIABLES
    assert partition.merged(state, params) == VARIABLES


def test_the_first_pattern_that_matches_counts():
    rules = partition.Partition(
        {"params/head": "frozen", "params": "state"}, "layer"
    )
    assert rules.kind(("params", "head", "kernel")) == "frozen"
    assert rules.kind(("params", "encoder", "kernel")) == "state"
    assert rules.kind(("cache", "pair")) == "state"
    assert rules.names("params")
    assert not rules.names("cache")


def test_without_a_collection_a_pattern_means_parameters():
    rules = partition.Partition({"encoder": "frozen"}, "layer")
    assert rules.kind(("params", "encoder", "kernel")) == "frozen"
    assert rules.kind(("batch_stats", "encoder", "mean")) == "state"


def test_a_pattern_that_matches_nothing_is_reported():
    paths = (("params", "encoder", "kernel"), ("batch_stats", "mean"))
    for pattern in ("params", "encoder", "encoder/kernel", "batch_stats"):
        partition.Partition({pattern: "state"}, "x").check_patterns(paths, "x")
    rules = partition.Partition({"mean": "frozen"}, "layer 'a'")
    with pytest.raises(ValueError, match="layer 'a'.*'mean' of `partition`"):
        rules.check_patterns(paths, "layer 'a'")


def test_what_is_no_dict_is_one_variable():
    params, state = split({"cache/pair/0": "trainable"})
    assert "cache" not in params
    params, state = split({"cache/pair": "trainable"})
    assert params["cache"] == {"pair": (5, 6)}
    assert "cache" not in state


def test_empty_collections_are_kept():
    rules = partition.Partition(None, "layer")
    assert rules.split({"params": {}, "stats": {}}) == (
        {"params": {}},
        {"stats": {}},
    )
    assert partition.merged(None, None) == {}


@pytest.mark.parametrize(
    ("pattern", "here", "above"),
    [
        ("params/encoder/kernel", True, True),
        ("encoder/kernel", True, False),
        ("params/encoder", False, True),
        ("encoder", False, False),
        ("params", False, True),
        ("kernel", False, False),
        (".*kernel", True, True),
        ("encoder/.*", True, False),
        ("params/enc", False, False),
    ],
)
def test_patterns_match_whole_paths(pattern, here, above):
    path = ("params", "encoder", "kernel")
    assert path_patterns.matches(pattern, path) is here
    assert path_patterns.matches_above(pattern, path) is above


def test_the_first_value_whose_pattern_matches():
    path = ("params", "encoder", "kernel")
    values = {"head/.*": 1, ".*/kernel": 2, "encoder/.*": 3}
    assert path_patterns.first_match(values, path) == 2
    assert path_patterns.first_match({"head": 1}, path) is None
