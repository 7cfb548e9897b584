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
