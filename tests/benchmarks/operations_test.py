"""Kinds of operations, by their names in a profile."""

import pytest

from benchmarks import operations


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("flaxlayer_random_bits.26", operations.RANDOM),
        ("dot.3", operations.PRODUCTS),
        ("ynn_fusion.72", operations.PRODUCTS),
        ("convolution.1", operations.PRODUCTS),
        ("convert_power_fusion.1", operations.OTHER),
        ("copy.34", operations.COPIES),
        ("multiply_select_fusion.47", operations.OTHER),
    ],
)
def test_kinds(name, kind):
    assert operations.kind(name) == kind
