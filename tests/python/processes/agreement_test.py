"""Processes that build different layers are told so."""

import pytest

from tests.python import several_processes

pytestmark = pytest.mark.usefixtures("on_cpu")

CODE = """
import flax.linen as nn, keras, numpy as np
from jax.experimental import multihost_utils
import flaxlayer
from flaxlayer.weights import process_agreement

process = jax.process_index()

class Net(nn.Module):
    width: int = 8

    @nn.compact
    def __call__(self, inputs, training=False):
        x = nn.Dense(self.width, name="up")(inputs)
        x = nn.Dropout(0.5, deterministic=not training)(x)
        return nn.Dense(4, name="down")(x)

def built(module=Net(), name="net", **kwargs):
    layer = flaxlayer.FlaxLayer(module, name=name, **kwargs)
    layer.build((None, 4))
    return layer

def check_raises(make, *messages):
    try:
        make()
    except ValueError as error:
        for message in (f"(this is process {process} of 2)", *messages):
            assert message in str(error), error
    else:
        raise SystemExit(f"nothing raised: {messages}")

# What each does with devices of its own is nobody else's matter.
built(seed=process)
alone = built(seed=3)
expected = [np.array(v.value, copy=True) for v in alone.weights]

keras.distribution.set_distribution(
    keras.distribution.DataParallel(auto_shard_dataset=False)
)
# Nobody is sent a weight, not even to compare it.
gathered = []
allgather = multihost_utils.process_allgather
def watched(x, tiled=False):
    gathered.append(np.shape(x))
    return allgather(x, tiled)

multihost_utils.process_allgather = watched
layer = built(seed=3)
multihost_utils.process_allgather = allgather
assert set(gathered) <= {(), (2,)}, gathered  # But for the seed.
for variable, value in zip(layer.weights, expected, strict=True):
    assert not variable.value.is_fully_addressable
    np.testing.assert_array_equal(variable, value)

check_raises(
    lambda: built(seed=process),
    "FlaxLayer 'net': process 1 builds another layer than process 0",
    "In process 0 its seed is 0, in process 1 1. Pass the same `seed=`",
)
check_raises(
    built, "its seed is None, with [", "or `keras.distribution.initialize`"
)
check_raises(
    lambda: built(Net(8 + process), seed=0),
    "`params/down/kernel` is float32[8, 4], in process 1 float32[9, 4]",
)
check_raises(
    lambda: built([nn.Dense(4), nn.Dense(4, use_bias=False)][process], seed=0),
    "`params/bias` is float32[4], in process 1 not there",
)
check_raises(
    lambda: built(name=f"net_{process}", seed=0),
    "its name is 'net_0', in process 1 'net_1'",
)
variables = Net().init(jax.random.key(process), np.ones((1, 4)))
check_raises(
    lambda: built(variables=variables, seed=0),
    "`params/down/kernel` is float32[8, 4] with the CRC-32",
)

# A layer without a seed has that of Keras, if that is the same.
keras.utils.set_random_seed(7)
print(*(float(np.sum(v.value)).hex() for v in built().variables))

process_agreement.LIMIT_SECONDS = 2
if process == 0:
    check_raises(
        lambda: built(seed=0), "process 1 did not build it within 2 seconds"
    )
"""


def test_what_differs_is_an_error_in_all_of_them():
    first, second = several_processes.outputs_of(CODE)
    assert len(first) == 5
    assert first == second
