"""Patterns that decide of nothing are reported."""

import pytest

from flaxlayer.weights import path_patterns

PATHS = [
    ("params", "encoder", "Dense_0", "kernel"),
    ("params", "encoder", "Dense_0", "bias"),
    ("params", "head", "kernel"),
]


def check(*patterns, matching=path_patterns.matches):
    path_patterns.check_deciding(
        patterns,
        PATHS,
        matching=matching,
        layer="FlaxLayer 'probe'",
        argument="partition",
    )


def test_patterns_that_each_decide_are_accepted():
    check()
    check(".*/kernel", "params/.*")
    check("params/encoder", "params", matching=path_patterns.matches_above)


def test_a_pattern_without_a_path_is_named_with_the_paths():
    with pytest.raises(ValueError, match="'probe': .*'decoder/") as error:
        check(".*/bias", "decoder/.*")
    assert "`partition` matches no weight" in str(error.value)
    assert "`params/head/kernel`" in str(error.value)


@pytest.mark.parametrize(
    ("patterns", "matching"),
    [
        (("params/.*", "head/.*"), path_patterns.matches),
        ((".*/kernel", ".*/bias", ".*"), path_patterns.matches),
        (("params", "params/head"), path_patterns.matches_above),
    ],
)
def test_a_pattern_behind_others_is_named(patterns, matching):
    with pytest.raises(ValueError, match="decides nothing") as error:
        check(*patterns, matching=matching)
    assert f"the pattern {patterns[-1]!r}" in str(error.value)


@pytest.mark.parametrize(
    ("pattern", "with_collection", "above"),
    [
        ("params/encoder/Dense_0/kernel", True, True),
        ("encoder/Dense_0/kernel", True, False),
        ("params/encoder", False, True),
        ("params", False, True),
        ("encoder", False, False),
        ("", False, False),
    ],
)
def test_a_pattern_matches_a_path_or_what_is_above(
    pattern, with_collection, above
):
    assert path_patterns.matches(pattern, PATHS[0]) == with_collection
    assert path_patterns.matches_above(pattern, PATHS[0]) == above


def test_patterns_are_regular_expressions_in_a_mapping():
    def checked(values):
        return path_patterns.checked_mapping(
            values, layer="FlaxLayer 'probe'", argument="constraints"
        )

    assert checked(None) == {}
    assert checked({".*/kernel": 3}) == {".*/kernel": 3}
    with pytest.raises(ValueError, match="'probe': each key .*: unterminated"):
        checked({"[": 3})
    with pytest.raises(TypeError, match="must be a regular expression"):
        checked({3: 3})
    with pytest.raises(TypeError, match="must be a mapping from patterns"):
        checked([".*"])
