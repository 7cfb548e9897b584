"""One layer called from many threads."""

import concurrent.futures
import gc

import flax.linen as nn
import jax
import jax.numpy as jnp
import keras
import numpy as np

from flaxlayer import FlaxLayer

X = np.linspace(0.0, 1.0, 8, dtype=np.float32).reshape(2, 4)
CALLS, THREADS = 400, 8


class Net(nn.Module):
    @nn.compact
    def __call__(self, x, training=False):
        x = nn.BatchNorm(use_running_average=not training)(x)
        return nn.Dropout(0.5, deterministic=not training)(nn.Dense(3)(x))


class Stateful(nn.Module):
    """Counts its calls and draws a number in each, in every mode."""

    @nn.compact
    def __call__(self, x):
        count = self.variable("counts", "calls", jnp.zeros, (), jnp.int32)
        if not self.is_initializing():
            count.value += 1
        noise = jax.random.randint(self.make_rng("noise"), (), 0, 2**30)
        return count.value, noise, nn.Dense(2)(x)


def in_threads(function, calls=CALLS):
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        return [
            f.result() for f in [pool.submit(function, i) for i in range(calls)]
        ]


def test_inference_gives_what_it_gives_alone():
    layer = FlaxLayer(Net(), seed=0)
    # Several shapes at once: some of the calls compile while others run.
    batches = [X[:1], X, np.tile(X, (2, 1)), np.tile(X, (3, 1))]
    alone = FlaxLayer.from_config(layer.get_config())
    layer(X)
    expected = [np.array(alone(x)) for x in batches]
    found = in_threads(lambda i: np.array(layer(batches[i % 4])))
    for i, outputs in enumerate(found):
        np.testing.assert_array_equal(outputs, expected[i % 4])


def test_the_first_of_many_calls_builds_the_layer():
    layer = FlaxLayer(Net(), seed=0)
    found = in_threads(lambda _: np.array(layer(X)), calls=16)
    alone = FlaxLayer.from_config(layer.get_config())
    for outputs in found:
        np.testing.assert_array_equal(outputs, alone(X))
    assert len(layer.weights) == 6


def test_no_update_is_lost():
    layer = FlaxLayer(Stateful(), rngs={"noise": "always"}, seed=0)
    layer(X)
    found = in_threads(lambda _: tuple(int(x) for x in layer(X)[:2]))
    assert int(layer.state["counts"]["calls"]) == CALLS + 1
    assert sorted(count for count, _ in found) == list(range(2, CALLS + 2))
    # As many keys as calls: none was drawn twice.
    assert len({noise for _, noise in found}) == CALLS
    assert int(layer.seed_generator.state[1]) == CALLS + 1


def test_a_model_is_called_by_many_threads():
    model = keras.Sequential([keras.Input((4,)), FlaxLayer(Net(), seed=0)])
    expected = np.array(model(X))
    for outputs in in_threads(lambda _: np.array(model(X))):
        np.testing.assert_array_equal(outputs, expected)


def test_calls_leave_nothing_behind():
    layer = FlaxLayer(Net(), seed=0)
    with jax.checking_leaks():
        layer(X)
        layer(X, training=True)

    def call_often(calls):
        for i in range(calls):
            layer(X, training=i % 10 == 0)
        gc.collect()
        return len(jax.live_arrays()), len(gc.get_objects())

    arrays, objects = call_often(100)
    more_arrays, more_objects = call_often(10_000)
    assert more_arrays == arrays
    assert more_objects - objects < 100
