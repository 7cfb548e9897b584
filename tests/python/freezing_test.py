"""What is trained and what is kept: freezing, partition, weight rules."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from flaxlayer import FlaxLayer, JaxLayer
from tests.python.keras_models import X, Y, compiled, fit


class Encoder(nn.Module):
    features: int = 4

    @nn.compact
    def __call__(self, x, training):
        x = nn.Dense(self.features, name="dense")(x)
        return nn.BatchNorm(use_running_average=not training, name="norm")(x)


class Net(nn.Module):
    features: int = 4

    @nn.compact
    def __call__(self, x, training=False):
        x = Encoder(self.features, name="encoder")(x, training)
        x = Encoder(self.features, name="middle")(x, training)
        return nn.Dense(2, name="head")(x)


class Adapted(nn.Module):
    """Has a collection of its own that is to be trained, and an integer."""

    @nn.compact
    def __call__(self, x):
        scale = self.variable("adapters", "scale", jnp.ones, (4,))
        shift = self.param("shift", lambda _: jnp.arange(4))
        return nn.Dense(2)(x * scale.value + shift)


def built(module=None, **kwargs):
    layer = FlaxLayer(module or Net(), seed=0, **kwargs)
    layer(X)
    return layer


def by_path(layer):
    paths, variables = layer._weights.paths, layer._weights.variables
    return {
        "/".join(path): np.array(variable)
        for path, variable in zip(paths, variables, strict=True)
    }


def changed(layer, train):
    before = by_path(layer)
    train()
    after = by_path(layer)
    return {k for k in before if not np.array_equal(before[k], after[k])}


def train(layer, **kwargs):
    model = compiled(keras.Sequential([keras.Input((4,)), layer]))
    fit(model, **kwargs)


def test_a_layer_that_is_not_trainable_keeps_everything():
    layer = built(trainable=False)
    head = keras.layers.Dense(2)
    model = compiled(keras.Sequential([keras.Input((4,)), layer, head]))
    assert not changed(layer, lambda: fit(model))
    assert not changed(layer, lambda: layer(X, training=True))
    layer.trainable = True
    assert len(changed(layer, lambda: train(layer))) == 14


@pytest.mark.parametrize("early", [True, False])
def test_a_pattern_freezes_parameters_and_statistics(early):
    layer = FlaxLayer(Net(), seed=0)
    if early:
        layer.freeze("encoder/.*")
    layer(X)
    if not early:
        layer.freeze("encoder/.*")
    moved = changed(layer, lambda: train(layer))
    assert {path.split("/")[1] for path in moved} == {"middle", "head"}
    assert len(moved) == 8
    layer.unfreeze("params/encoder/dense/.*")
    assert changed(layer, lambda: train(layer)) - moved == {
        "params/encoder/dense/kernel",
        "params/encoder/dense/bias",
    }


def test_the_last_pattern_that_matches_decides():
    layer = built()
    layer.freeze(".*")
    layer.unfreeze("head/.*")
    assert {v.path.split("/")[-2] for v in layer.trainable_variables} == {
        "head"
    }
    layer.trainable = False
    assert not layer.trainable_variables
    layer.trainable = True
    assert len(layer.trainable_variables) == 2
    layer.freeze(".*")
    assert not layer.trainable_variables


def test_what_is_frozen_is_saved(tmp_path):
    layer = built()
    layer.freeze("encoder/.*")
    model = compiled(keras.Sequential([keras.Input((4,)), layer]))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    moved = changed(loaded.layers[0], lambda: fit(loaded))
    assert {path.split("/")[1] for path in moved} == {"middle", "head"}


def flops(layer, x):
    def loss(trainable, state):
        outputs, _ = layer.stateless_call(trainable, state, x, training=True)
        return jnp.sum(outputs**2)

    values = [
        [v.value for v in variables]
        for variables in (
            layer.trainable_variables,
            layer.non_trainable_variables,
        )
    ]
    compiled = jax.jit(jax.grad(loss)).lower(*values).compile()
    return compiled.cost_analysis()["flops"]


def test_gradients_of_frozen_parameters_are_not_computed():
    x = np.ones((64, 4), np.float32)
    layer = built(Net(256))
    everything = flops(layer, x)
    matmul = 2 * 64 * 256 * 256
    layer.freeze("encoder/.*")
    without_encoder = flops(layer, x)
    # Nothing has to go back through the middle any more.
    assert everything - without_encoder > matmul
    layer.freeze("middle/.*")
    assert without_encoder - flops(layer, x) > matmul


def test_a_partition_trains_another_collection():
    layer = built(Adapted(), partition={"adapters": "trainable"})
    assert [v.name for v in layer.non_trainable_variables][:1] == ["shift"]
    moved = changed(layer, lambda: train(layer))
    assert moved == {
        "adapters/scale",
        "params/Dense_0/kernel",
        "params/Dense_0/bias",
    }


def test_a_partition_splits_the_parameters():
    layer = built(
        partition={
            "params/encoder": "frozen",
            "params/middle/norm": "state",
            "params": "trainable",
        }
    )
    assert set(layer.params["params"]) == {"encoder", "middle", "head"}
    assert set(layer.params["params"]["middle"]) == {"dense"}
    assert set(layer.state["params"]["middle"]) == {"norm"}
    stock = Net().init(jax.random.key(0), X)
    for path, value in by_path(layer).items():
        found = stock
        for step in path.split("/"):
            found = found[step]
        np.testing.assert_array_equal(value, found)
    moved = changed(layer, lambda: train(layer))
    # Frozen parameters do not freeze the statistics beside them.
    assert {p for p in moved if p.startswith("params")} == {
        "params/middle/dense/kernel",
        "params/middle/dense/bias",
        "params/head/kernel",
        "params/head/bias",
    }
    assert len(moved) == 8
    layer.unfreeze("params/encoder/.*")
    assert len(changed(layer, lambda: train(layer))) == 12


def test_a_partition_is_saved(tmp_path):
    layer = built(partition={"params/encoder": "frozen"})
    model = compiled(keras.Sequential([keras.Input((4,)), layer]))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.layers[0].get_config()["partition"] == {
        "params/encoder": "frozen"
    }
    np.testing.assert_array_equal(
        loaded.predict(X, verbose=0), model.predict(X, verbose=0)
    )


def test_given_variables_are_partitioned_too():
    variables = Adapted().init(jax.random.key(1), X)
    layer = FlaxLayer(
        Adapted(), variables=variables, partition={"adapters": "trainable"}
    )
    np.testing.assert_array_equal(layer(X), Adapted().apply(variables, X))
    assert len(layer.trainable_variables) == 3


def call_fn(params, inputs):
    return inputs @ params["w"] + params["b"]


@pytest.mark.parametrize("kind", ["flax", "jax"])
def test_regularizers_and_constraints_by_pattern(kind):
    constraints = {".*(bias|b)": "non_neg"}
    if kind == "flax":
        layer = FlaxLayer(
            nn.Dense(2),
            regularizers={".*/(kernel|w)": "l2"},
            constraints=constraints,
        )
        rate = keras.regularizers.get("l2").l2
        names = "kernel", "bias"
    else:
        layer = JaxLayer(
            call_fn,
            params={"w": np.ones((4, 2)), "b": np.zeros(2)},
            regularizers={"w": keras.regularizers.L2(0.5)},
            constraints=constraints,
        )
        rate = 0.5
        names = "w", "b"
    layer = type(layer).from_config(layer.get_config())
    layer(X)
    weights = {v.name: v for v in layer.weights}
    kernel, bias = (weights[name] for name in names)
    (loss,) = layer.losses
    np.testing.assert_allclose(
        loss, rate * np.sum(np.square(kernel)), rtol=1e-5, atol=1e-6
    )
    model = compiled(keras.Sequential([keras.Input((4,)), layer]))
    fit(model, y=Y - 100.0)
    assert (np.array(bias) == 0).all()
    assert (np.array(kernel) < 0).any()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"partition": {"params": "fixed"}}, ValueError, "'fixed'"),
        ({"partition": {"(": "frozen"}}, ValueError, "no regular expression"),
        ({"partition": ["params"]}, TypeError, "`partition` must be"),
        ({"regularizers": {1: "l2"}}, TypeError, "key of `regularizers`"),
        ({"regularizers": {"x": "l7"}}, ValueError, "`regularizers\\['x'\\]`"),
        ({"constraints": "non_neg"}, TypeError, "`constraints` must be"),
    ],
)
def test_bad_rules_are_refused(options, error, message):
    with pytest.raises(error, match=f"FlaxLayer.*{message}"):
        FlaxLayer(Net(), name="probe", **options)


def test_a_pattern_that_matches_nothing_is_refused():
    layer = built(name="probe")
    for method in (layer.freeze, layer.unfreeze):
        with pytest.raises(ValueError, match=r"'probe'.*'encodr/.*matches no"):
            method("encodr/.*")
        with pytest.raises(TypeError, match=r"'probe'.*must be a regular"):
            method(None)
    early = FlaxLayer(Net(), name="probe")
    early.freeze("encodr/.*")
    with pytest.raises(ValueError, match=r"'probe'.*`freeze` matches no"):
        early(X)
    with pytest.raises(ValueError, match=r"`regularizers` matches no weight"):
        FlaxLayer(Net(), regularizers={"kernels": "l2"})(X)


@pytest.mark.parametrize("freezing", [[["a", 1]], "ab", [["a"]], {"a": True}])
def test_damaged_rules_in_a_file_are_refused(freezing):
    config = built(name="probe").get_config() | {"freezing": freezing}
    with pytest.raises(ValueError, match=r"'probe'.*`freezing` is not one"):
        FlaxLayer.from_config(config)
