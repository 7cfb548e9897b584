"""A layer that no process could hold, in parts that each of several holds."""

import sys

import pytest

from flaxlayer import jax_compat
from tests.python import several_processes

pytestmark = pytest.mark.usefixtures("on_cpu")

CODE = """
import resource
import flax.linen as nn, keras, numpy as np
import flaxlayer

FEATURES, LAYERS = 4096, 8
TOTAL = 4 * FEATURES**2 * LAYERS
BUDGET = TOTAL * 5 // 8

class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        for i in range(LAYERS):
            x = nn.Dense(FEATURES, use_bias=False, name=f"d{i}")(x)
        return x

def build(module, name):
    layer = flaxlayer.FlaxLayer(module, seed=0, name=name)
    layer.build((None, FEATURES))
    return layer

mesh = keras.distribution.DeviceMesh(
    (1, jax.device_count()), ("batch", "model")
)
layouts = keras.distribution.LayoutMap(mesh)
layouts[".*/kernel"] = (None, "model")
keras.distribution.set_distribution(
    keras.distribution.ModelParallel(
        layout_map=layouts, batch_dim_name="batch"
    )
)
# What the runtime, its threads and its compiler take is there from now on.
build(nn.Dense(FEATURES // 8), "small")

def data():
    with open("/proc/self/status") as status:
        (line,) = [x for x in status if x.startswith("VmData")]
    return int(line.split()[1]) * 1024

limit = data() + BUDGET
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
try:
    np.ones(TOTAL // 4, np.float32)
except MemoryError:
    pass
else:
    raise SystemExit("the limit is none")
layer = build(Net(), "net")
total = here = 0
for variable in layer.weights:
    total += variable.value.nbytes
    for shard in variable.value.addressable_shards:
        here += shard.data.nbytes
assert total == TOTAL and here == TOTAL // 4, (total, here)
print(*(float(np.ravel(w.value.addressable_shards[0].data)[:9].sum()).hex()
        for w in layer.weights))
"""


@pytest.mark.skipif(
    sys.platform != "linux" or not jax_compat.rounds_alike_in_parts(),
    reason="limits are those of Linux; or values are not computed in parts",
)
def test_a_layer_is_built_of_which_no_process_has_room_for_the_whole():
    values = several_processes.outputs_of(CODE, processes=4, timeout=120)
    # Each has columns of its own.
    assert len({tuple(words) for words in values}) == 4
