"""What is logged about kernels: at verbosity 1, and each line once."""

import logging

import jax
import keras
import numpy as np
import pytest
from absl import logging as absl_logging
from flax import linen as nn

from flaxlayer import FlaxLayer
from flaxlayer.ops import log, native_primitive

X = np.ones((2, 3), np.float32)
primitive = native_primitive.define(
    "flaxlayer_test_logged",
    reference=lambda x: x + x,
    result=lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype),
)


@pytest.fixture
def lines():
    """What absl logs, whatever handlers it has; a list that grows."""
    found = []

    class Handler(logging.Handler):
        def emit(self, record):
            found.append(record.getMessage())

    handler = Handler(logging.DEBUG)
    logger = absl_logging.get_absl_logger()
    before = absl_logging.get_verbosity()
    logger.addHandler(handler)
    absl_logging.set_verbosity(1)
    log._log.cache_clear()
    yield found
    absl_logging.set_verbosity(before)
    logger.removeHandler(handler)


def own(lines):
    return [line for line in lines if "kernel" in line]


def test_a_layer_says_once_what_it_uses_and_why(lines):
    layer = FlaxLayer(nn.Dense(2), kernels="reference", name="probe")
    layer(X)
    layer(X)
    (line,) = own(lines)
    assert line.startswith("FlaxLayer 'probe' uses these kernels: rng_fold ")
    assert 'state_merge reference (the policy is "reference")' in line


def test_another_choice_is_another_line(lines):
    layer = FlaxLayer(nn.Dense(2), kernels="reference", name="first")
    other = FlaxLayer(nn.Dense(2), kernels="reference", name="second")
    keras.Sequential([layer, other])(X)
    assert ["'first'" in line for line in own(lines)] == [True, False]


def test_an_export_says_once_what_it_falls_back_to(lines):
    for _ in range(2):
        function = jax.jit(lambda x: primitive.bind(x, required=False))
        jax.export.export(function)(X)
    assert own(lines) == [
        "A program uses the reference for test_logged in place of the native "
        "kernel: an exported program cannot call it where it is loaded."
    ]


def test_nothing_is_said_at_the_usual_verbosity(lines):
    absl_logging.set_verbosity(absl_logging.INFO)
    layer = FlaxLayer(nn.Dense(2), name="quiet")
    layer(X)
    assert own(lines) == []
    # And it was not used up.
    absl_logging.set_verbosity(1)
    layer(X)
    assert len(own(lines)) == 1
