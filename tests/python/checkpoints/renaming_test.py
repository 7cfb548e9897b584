"""The paths of a file under the names that a layer has for them."""

import pytest

from flaxlayer.checkpoints import nested, renaming

PATHS = [("encoder", "kernel"), ("encoder", "bias"), ("head", "kernel")]


def renamed(rename):
    return list(renaming.renamed(PATHS, rename).values())


def test_nothing_is_renamed_unasked():
    assert renamed(None) == PATHS
    assert renamed({}) == PATHS


def test_groups_are_filled_in():
    assert renamed({r"encoder/(.*)": r"params/encoder/\1"}) == [
        ("params", "encoder", "kernel"),
        ("params", "encoder", "bias"),
        ("head", "kernel"),
    ]


def test_the_first_that_matches_decides():
    rename = {r"encoder/(.*)": r"a/\1", r".*/(kernel|bias)": r"b/\1"}
    assert renamed(rename) == [("a", "kernel"), ("a", "bias"), ("b", "kernel")]


@pytest.mark.parametrize("pattern", ["encoder", "kernel", "decoder/.*"])
def test_a_pattern_has_to_match_a_whole_path(pattern):
    with pytest.raises(ValueError, match="matches no whole path") as error:
        renamed({r"head/(.*)": r"x/\1", pattern: "y"})
    assert repr(pattern) in str(error.value)
    assert "`encoder/kernel`, `encoder/bias`" in str(error.value)


def test_a_pattern_that_comes_too_late_is_refused():
    with pytest.raises(ValueError, match="'head/.*' has no effect: all paths"):
        renamed({r"(.*)": r"x/\1", r"head/.*": "y"})


def test_dicts_are_nested_and_flattened():
    values = {("a", "b"): 1, ("a", "c", "d"): 2, ("e",): 3}
    tree = nested.nest(values)
    assert tree == {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
    assert dict(nested.flatten(tree)) == values


def test_a_path_cannot_go_on_below_a_value():
    for paths in ([("a",), ("a", "b")], [("a", "b"), ("a",)]):
        with pytest.raises(ValueError, match="`a` and `a/b` cannot be in one"):
            nested.nest(dict.fromkeys(paths, 1))
