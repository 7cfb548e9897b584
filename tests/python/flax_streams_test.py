"""FlaxLayer: the random streams a module is given, and when."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from flaxlayer import FlaxLayer

X = np.linspace(-1.0, 1.0, 8, dtype=np.float32).reshape(2, 4)


class Net(nn.Module):
    """Batch statistics and dropout."""

    def setup(self):
        self.norm = nn.BatchNorm(momentum=0.5)
        self.drop = nn.Dropout(0.5)
        self.dense = nn.Dense(3)

    def __call__(self, inputs, training=False):
        x = self.norm(inputs, use_running_average=not training)
        return self.dense(self.drop(x, deterministic=not training))


class Noise(nn.Module):
    @nn.compact
    def __call__(self, inputs, training=False):
        noise = jax.random.normal(self.make_rng("noise"), inputs.shape)
        return inputs + noise


def values(tree):
    return jax.tree_util.tree_map(lambda v: np.array(v.value), tree)


def assert_trees_equal(a, b):
    assert jax.tree_util.tree_structure(a) == jax.tree_util.tree_structure(b)
    jax.tree_util.tree_map(np.testing.assert_array_equal, a, b)


def test_dropout_is_given_in_training():
    module = nn.Dropout(0.5)
    layer = FlaxLayer(
        module,
        method=lambda m, x, training: m(x, deterministic=not training),
        seed=0,
    )
    ones = np.ones((4, 64), np.float32)
    np.testing.assert_array_equal(layer(ones), ones)
    first = np.array(layer(ones, training=True))
    second = np.array(layer(ones, training=True))
    assert set(np.unique(first)) == {0.0, 2.0}
    assert not np.array_equal(first, second)


def test_a_declared_stream_is_given_in_training_only():
    layer = FlaxLayer(
        Noise(),
        method=lambda m, x, training: m(x) if training else x,
        rngs=("noise",),
    )
    np.testing.assert_array_equal(layer(X), X)
    assert not np.allclose(layer(X, training=True), X)


def test_streams_are_given_as_declared():
    def given(module, inputs, training):
        return [module.has_rng(name) for name in ("dropout", "a", "b", "c")]

    declared = {"a": "training", "b": "always", "c": "never"}
    layer = FlaxLayer(Noise(), method=given, rngs=declared, variables={})
    assert layer(X, training=True) == [False, True, True, False]
    assert layer(X) == [False, False, True, False]


def test_a_stream_may_be_given_always():
    layer, again = (
        FlaxLayer(Noise(), rngs={"noise": "always"}, seed=3, name="probe")
        for _ in range(2)
    )
    first, second = np.array(layer(X)), np.array(layer(X))
    assert not np.allclose(first, X)
    assert not np.allclose(first, second)
    np.testing.assert_array_equal(again(X), first)


def test_streams_have_different_keys():
    class Two(nn.Module):
        def __call__(self, inputs):
            return [
                jax.random.normal(self.make_rng(name), (4,))
                for name in ("a", "b", "dropout")
            ]

    always = dict.fromkeys(("a", "b", "dropout"), "always")
    a, b, c = FlaxLayer(Two(), rngs=always)(X)
    assert len({float(x[0]) for x in (a, b, c)}) == 3


def test_a_module_may_initialise_with_its_own_stream():
    class Own(nn.Module):
        @nn.compact
        def __call__(self, inputs):
            table = self.variable(
                "tables",
                "t",
                lambda: jax.random.normal(self.make_rng("table"), (4,)),
            )
            return inputs * table.value

    layer = FlaxLayer(Own(), rngs=("dropout", "table"), seed=1)
    assert np.any(np.array(layer(X)))


def test_no_streams_may_be_declared():
    layer = FlaxLayer(Net(), rngs=(), seed=2)
    layer.build((None, 4))
    expected = Net().init(jax.random.key(2), X)
    assert_trees_equal(values(layer.params)["params"], expected["params"])
    layer(X)
    with pytest.raises(ValueError, match="`rngs="):
        layer(X, training=True)


def test_the_seed_decides_weights_and_masks():
    def run(seed):
        layer = FlaxLayer(Net(), seed=seed, name="probe")
        return [np.array(layer(X, training=True)) for _ in range(3)]

    np.testing.assert_array_equal(run(5), run(5))
    np.testing.assert_array_equal(
        run(jax.random.key(5)), run(jax.random.PRNGKey(5))
    )
    assert not np.array_equal(run(5), run(6))


@pytest.mark.parametrize(
    ("seed", "equal"), [(7, False), (jax.random.key(7), True)]
)
def test_layers_share_masks_by_a_key_and_weights_by_any_seed(seed, equal):
    one, two = FlaxLayer(Net(), seed=seed), FlaxLayer(Net(), seed=seed)
    for layer in (one, two):
        layer.build((None, 4))
    expected = Net().init(jax.random.key(7), X)["params"]
    assert_trees_equal(values(one.params)["params"], expected)
    assert_trees_equal(values(two.params)["params"], expected)

    def drawn(layer):
        return [np.array(layer(X, training=True)) for _ in range(3)]

    assert np.array_equal(drawn(one), drawn(two)) is equal


def test_typed_keys_reach_the_module_under_another_implementation():
    with jax.default_prng_impl("rbg"):
        layer, same = (FlaxLayer(Net(), seed=5, name="probe") for _ in range(2))
        first = np.array(layer(X, training=True))
        second = np.array(layer(X, training=True))
        again = same(X, training=True)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, second)
