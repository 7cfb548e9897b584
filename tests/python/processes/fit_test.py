"""Several processes train a model as one process does on as many devices."""

import numpy as np
import pytest

from tests.python import several_processes

pytestmark = pytest.mark.usefixtures("on_cpu")

CODE = """
import functools
import flax.linen as nn, keras, numpy as np
import flaxlayer
from flax import nnx
from jax.experimental import multihost_utils

gathered = functools.partial(multihost_utils.process_allgather, tiled=True)

class Linen(nn.Module):
    @nn.compact
    def __call__(self, inputs, training=False):
        x = nn.Dense(8, name="up")(inputs)
        x = nn.BatchNorm(use_running_average=not training)(x)
        x = nn.Dropout(0.5, deterministic=not training)(x)
        return nn.Dense(4, name="down")(x)

class Nnx(nnx.Module):
    def __init__(self, rngs):
        self.up = nnx.Linear(4, 8, rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.down = nnx.Linear(8, 4, rngs=rngs)

    def __call__(self, x):
        return self.down(self.drop(self.norm(self.up(x))))

def data_parallel():
    return keras.distribution.DataParallel(auto_shard_dataset=False)

def model_parallel(*shape):
    mesh = keras.distribution.DeviceMesh(
        shape, ("batch", "model"), keras.distribution.list_devices()
    )
    layouts = keras.distribution.LayoutMap(mesh)
    layouts[".*/up/kernel"] = (None, "model")
    return keras.distribution.ModelParallel(
        layout_map=layouts, batch_dim_name="batch", auto_shard_dataset=False
    )

def rows_here(count):
    # Those of a batch that the devices of this process hold.
    layout = keras.distribution.distribution().get_data_layout((count,))
    parts = layout.backend_layout.addressable_devices_indices_map((count,))
    return sorted({i for (x,) in parts.values() for i in range(count)[x]})

def trained(module, distribution):
    keras.distribution.set_distribution(distribution)
    layer = flaxlayer.FlaxLayer(module, seed=0, name="net", kernels="native")
    model = keras.Sequential([keras.Input((4,)), layer])
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), "mse")
    x = np.random.RandomState(0).randn(40, 4).astype("float32")
    # The last of the batches is a small one.
    batches = [x[i : i + 16] for i in range(0, len(x), 16)]
    mine = np.concatenate([batch[rows_here(len(batch))] for batch in batches])
    batch_size = len(rows_here(16))
    losses = model.fit(
        mine, mine, epochs=3, batch_size=batch_size, shuffle=False, verbose=0
    ).history["loss"]
    losses += [model.evaluate(mine, mine, batch_size=batch_size, verbose=0)]
    outputs = gathered(model(x))
    return {"losses": losses, "outputs": outputs} | {
        v.path.partition("/")[2]: gathered(v.value) for v in layer.variables
    }

folder, *kinds = sys.argv[1:]
for kind in kinds:
    module, distribution = {
        "data": lambda: (Linen(), data_parallel()),
        "model": lambda: (Linen(), model_parallel(1, 4)),
        "both": lambda: (Nnx, model_parallel(2, 2)),
    }[kind]()
    path = f"{folder}/{kind}_{jax.process_index()}.npz"
    np.savez(path, **trained(module, distribution))
"""


def results(folder, processes, kinds):
    """What each process has in the end, for each kind of distribution."""
    several_processes.outputs_of(
        CODE, folder, *kinds, processes=processes, devices=4 // processes
    )
    return {
        kind: [
            dict(np.load(folder / f"{kind}_{i}.npz")) for i in range(processes)
        ]
        for kind in kinds
    }


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one process has that has all of the devices."""
    folder = tmp_path_factory.mktemp("alone")
    return results(folder, 1, ("data", "model", "both"))


# Masks or statistics of a part of the batch would show in all weights.
@pytest.mark.parametrize(
    ("processes", "kinds"), [(2, ("data", "model", "both")), (4, ("both",))]
)
def test_all_processes_end_with_the_weights_of_one(
    processes, kinds, alone, tmp_path
):
    found = results(tmp_path, processes, kinds)
    for kind in kinds:
        (expected,) = alone[kind]
        assert len(expected) > 8
        first = found[kind][0]
        assert first.keys() == expected.keys()
        for path, value in expected.items():
            # Gloo adds up what four devices have in another order than XLA
            # does in one process; for two there is but one.
            tolerance = 0 if kind == "both" else 1e-6
            np.testing.assert_allclose(
                first[path], value, rtol=tolerance, atol=tolerance
            )
        for other in found[kind][1:]:
            for path, value in first.items():
                np.testing.assert_array_equal(other[path], value)


def test_the_kinds_of_parallelism_differ_by_rounding_alone(alone):
    (data,), (model,) = alone["data"], alone["model"]
    for path, value in data.items():
        np.testing.assert_allclose(model[path], value, rtol=1e-5, atol=1e-6)
