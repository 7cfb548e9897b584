"""What becomes of the collections a module writes, inside Keras."""

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from flaxlayer import FlaxLayer
from tests.python.keras_models import X, Y, compiled, fit


class Sower(nn.Module):
    """Sows into four collections and keeps statistics."""

    guarded: bool = False

    @nn.compact
    def __call__(self, x, training=False):
        h = nn.Dense(2)(x)
        self.sow("intermediates", "hidden", h)
        self.sow("losses", "size", 0.5 * jnp.sum(h**2))
        self.sow("other", "mean", jnp.mean(h))
        if not (self.guarded and self.is_initializing()):
            self.sow("metrics", "mean", jnp.mean(h))
        return nn.BatchNorm(use_running_average=not training)(h)


class Counter(nn.Module):
    """Writes a collection that `init` does not make."""

    @nn.compact
    def __call__(self, x):
        if not self.is_initializing():
            count = self.variable("late", "count", jnp.zeros, ())
            count.value += x.sum()
        return nn.Dense(2)(x)


class Step(nn.Module):
    """Attends to what it has been given before."""

    @nn.compact
    def __call__(self, tokens, decode=False):
        x = nn.Embed(8, 4)(tokens)
        mask = None if decode else nn.make_causal_mask(tokens)
        x = nn.MultiHeadDotProductAttention(2, decode=decode)(x, x, mask=mask)
        return nn.Dense(8)(x)


def hidden(layer, x):
    kernel, bias = (
        np.array(layer.params["params"]["Dense_0"][name])
        for name in ("kernel", "bias")
    )
    return x @ kernel + bias


def test_what_is_sown_is_no_weight_and_never_grows():
    layer = FlaxLayer(Sower(), seed=0)
    for _ in range(3):
        layer(X, training=True)
        assert [w.path.split("/")[1] for w in layer.weights] == (
            ["params"] * 4 + ["batch_stats"] * 2
        )
        assert len(layer.losses) == 1
    assert set(layer.state) == {"batch_stats"}


def test_losses_are_added_and_reach_the_gradients():
    layer = FlaxLayer(Sower(), seed=0)
    layer(X)
    expected = 0.5 * np.sum(hidden(layer, X) ** 2)
    np.testing.assert_allclose(layer.losses[0], expected, rtol=1e-5, atol=1e-6)

    def norm_after(policy):
        model = compiled(
            keras.Sequential(
                [FlaxLayer(Sower(), seed=0, collections={"losses": policy})]
            )
        )
        fit(model, epochs=3)
        kernel = model.layers[0].params["params"]["Dense_0"]["kernel"]
        return np.linalg.norm(kernel)

    assert norm_after("loss") < 0.97 * norm_after("drop")


@pytest.mark.parametrize("guarded", [False, True])
def test_fit_shows_the_mean_of_a_metric(guarded):
    model = compiled(keras.Sequential([FlaxLayer(Sower(guarded), name="net")]))
    # Nothing is trained, so that all steps have the same weights.
    model.optimizer.learning_rate = 0.0
    history = fit(model, epochs=2, validation_data=(X, Y)).history
    expected = hidden(model.layers[0], X).mean()
    for key in ("net/mean", "val_net/mean"):
        np.testing.assert_allclose(
            history[key], [expected] * 2, rtol=1e-5, atol=1e-6
        )
    logs = model.evaluate(X[:8], Y[:8], verbose=0, return_dict=True)
    np.testing.assert_allclose(
        logs["net/mean"],
        hidden(model.layers[0], X[:8]).mean(),
        rtol=1e-5,
        atol=1e-6,
    )
    assert len(model.layers[0].weights) == 6


def test_metrics_are_not_saved_and_not_trained(tmp_path):
    model = compiled(keras.Sequential([FlaxLayer(Sower(), name="net")]))
    fit(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        loaded.predict(X, verbose=0), model.predict(X, verbose=0)
    )
    fit(loaded)
    assert len(loaded.layers[0].metrics) == 1


def test_a_metric_that_appears_in_a_compiled_step_is_reported():
    layer = FlaxLayer(Sower(guarded=True), name="net")
    layer.build((None, 4))

    @jax.jit
    def step(x):
        weights = [v.value for v in layer.trainable_variables]
        state = [v.value for v in layer.non_trainable_variables]
        return layer.stateless_call(weights, state, x)[0]

    with pytest.warns(UserWarning, match=r"'net'.*\['mean'\].*too late"):
        step(X)


@pytest.mark.parametrize("name", ["intermediates", "other", "losses"])
def test_an_output_is_returned(name):
    layer = FlaxLayer(Sower(), collections={name: "output"})
    outputs, written = layer(X)
    assert outputs.shape == (16, 2)
    assert set(written) == {name}
    (values,) = written[name].values()
    assert len(values) == 1
    # What is an output is no loss as well.
    assert bool(layer.losses) == (name != "losses")


def test_an_output_is_one_of_a_functional_model():
    inputs = keras.Input((4,))
    layer = FlaxLayer(Sower(), collections={"intermediates": "output"})
    outputs, written = layer(inputs)
    (states,) = written["intermediates"]["hidden"]
    assert states.shape == (None, 2)
    model = keras.Model(inputs, [outputs, states])
    _, states = model.predict(X, verbose=0)
    np.testing.assert_allclose(states, hidden(layer, X), rtol=1e-5, atol=1e-6)


def test_intermediates_can_be_read_for_a_batch():
    layer = FlaxLayer(Sower(), seed=0)
    layer(X)
    before = [np.array(v) for v in layer.variables]
    outputs, found = layer.apply_with_intermediates(X, training=True)
    assert outputs.shape == (16, 2)
    assert set(found) == {"hidden"}
    np.testing.assert_allclose(
        found["hidden"][0], hidden(layer, X), rtol=1e-5, atol=1e-6
    )
    _, found = layer.apply_with_intermediates(X, capture_all=True)
    np.testing.assert_allclose(
        found["Dense_0"]["__call__"][0], hidden(layer, X), rtol=1e-5, atol=1e-6
    )
    for now, then in zip(layer.variables, before, strict=True):
        np.testing.assert_array_equal(now, then)
    # And the next call is an ordinary one.
    assert layer(X).shape == (16, 2)


def test_a_collection_that_is_written_has_to_be_declared():
    with pytest.raises(ValueError, match=r"'probe'.*`collections=`.*late"):
        FlaxLayer(Counter(), name="probe")(X)
    outputs = FlaxLayer(Counter(), collections={"late": "drop"})(X)
    assert outputs.shape == (16, 2)
    _, written = FlaxLayer(Counter(), collections={"late": "output"})(X)
    np.testing.assert_allclose(
        written["late"]["count"], X.sum(), rtol=1e-5, atol=1e-6
    )


def test_a_transient_collection_goes_from_call_to_call():
    tokens = np.array([[1, 2, 3, 4, 5], [5, 4, 3, 2, 1]])
    layer = FlaxLayer(Step(), collections={"cache": "transient"})
    whole, empty = layer(tokens)
    assert empty == {"cache": {}}
    assert all("cache" not in weight.path for weight in layer.weights)
    for batch in (tokens, tokens[:1]):
        _, written = layer(batch, decode=True)
        for i in range(batch.shape[1]):
            step, written = layer(
                batch[:, i : i + 1], decode=True, cache=written["cache"]
            )
            np.testing.assert_allclose(
                step[:, 0], whole[: len(batch), i], rtol=1e-4, atol=1e-5
            )
    cache = flax.core.freeze(written["cache"])
    apply = jax.jit(
        lambda variables, tokens: Step().apply(
            variables, tokens, decode=True, mutable=["cache"]
        )
    )
    stock, _ = apply({**_values(layer), "cache": cache}, tokens[:1, :1])
    ours, _ = layer(tokens[:1, :1], decode=True, cache=cache)
    np.testing.assert_array_equal(ours, stock)


def _values(layer):
    return jax.tree_util.tree_map(lambda v: v.value, layer.params)


def test_a_transient_collection_keeps_its_dtype():
    layer = FlaxLayer(
        Running(), collections={"sums": "transient"}, dtype="mixed_bfloat16"
    )
    outputs, written = layer(X)
    assert outputs.dtype == jnp.bfloat16
    for _ in range(2):
        assert written["sums"]["total"].dtype == jnp.float32
        _, written = layer(X, sums=written["sums"])
    np.testing.assert_array_equal(
        written["sums"]["total"],
        3 * jnp.asarray(X, jnp.bfloat16).sum().astype(jnp.float32),
    )


class Running(nn.Module):
    @nn.compact
    def __call__(self, x):
        total = self.variable("sums", "total", jnp.zeros, (), jnp.float32)
        if not self.is_initializing():
            total.value += x.sum().astype(jnp.float32)
        return nn.Dense(2, dtype=x.dtype)(x)


def test_variables_may_hold_what_is_not_kept():
    variables = Sower().init(jax.random.key(0), X)
    assert set(variables) == {
        "params",
        "batch_stats",
        "losses",
        "metrics",
        "other",
    }
    layer = FlaxLayer(Sower(), variables=variables)
    layer(X)
    assert set(layer.state) == {"batch_stats"}


def test_policies_are_saved():
    layer = FlaxLayer(
        Sower(), collections={"losses": "drop", "intermediates": "output"}
    )
    config = layer.get_config()
    assert config["collections"] == {
        "losses": "drop",
        "intermediates": "output",
    }
    _, written = FlaxLayer.from_config(config)(X)
    assert "intermediates" in written
    assert "collections" not in FlaxLayer(Sower()).get_config()


@pytest.mark.parametrize(
    ("collections", "error", "message"),
    [
        ({"losses": "sum"}, ValueError, r"`collections\['losses'\]`.*'sum'"),
        (["losses"], TypeError, r"`collections` must be a mapping"),
        ({1: "drop"}, TypeError, "names in `collections`"),
    ],
)
def test_bad_policies_are_refused(collections, error, message):
    with pytest.raises(error, match=rf"FlaxLayer 'probe'.*{message}"):
        FlaxLayer(Sower(), collections=collections, name="probe")


def test_a_state_that_only_some_calls_change_is_kept_by_these():
    """Calls that were seen to assign nothing do not wait for each other."""

    class Counted(nn.Module):
        @nn.compact
        def __call__(self, x, counts=False):
            seen = self.variable("state", "seen", jnp.zeros, (), jnp.int32)
            if counts and not self.is_initializing():
                seen.value += 1
            return x

    layer = FlaxLayer(Counted())
    for expected in (1, 2, 3):
        layer(X)
        layer(X, counts=False)
        layer(X, counts=True)
        assert int(layer.state["state"]["seen"].value) == expected


@pytest.mark.parametrize("policy", ["mixed_float16", "bfloat16"])
def test_a_transient_collection_is_not_cast(policy):
    class Summed(nn.Module):
        @nn.compact
        def __call__(self, x):
            total = self.variable("cache", "total", jnp.zeros, (), jnp.float32)
            total.value += 1.0 + 2.0**-20  # bfloat16 and float16 have no such.
            return x

    layer = FlaxLayer(
        Summed(), collections={"cache": "transient"}, dtype=policy
    )
    _, cached = layer(X)
    _, cached = layer(X, cache=cached["cache"])
    total = cached["cache"]["total"]
    assert total.dtype == "float32"
    assert float(total) == 2.0 * (1.0 + 2.0**-20)
