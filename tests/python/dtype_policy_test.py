"""Dtype policies: what is computed in which precision, and what is not."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from flaxlayer import FlaxLayer, JaxLayer, backends

RNG = np.random.default_rng(0)
X = RNG.normal(size=(32, 4)).astype(np.float32)


class Statistics(nn.Module):
    """Running statistics, in the momentum that bfloat16 cannot hold."""

    @nn.compact
    def __call__(self, inputs, training=False):
        x = nn.BatchNorm(
            use_running_average=not training, momentum=0.99, dtype=inputs.dtype
        )(inputs)
        return nn.Dense(2, dtype=inputs.dtype)(x)


def dtypes(layer):
    return {weight.name: weight.dtype for weight in layer.weights}


@pytest.mark.parametrize(
    ("policy", "compute", "stored"),
    [
        ("float32", "float32", "float32"),
        ("mixed_bfloat16", "bfloat16", "float32"),
        ("mixed_float16", "float16", "float32"),
        ("bfloat16", "bfloat16", "bfloat16"),
        ("float16", "float16", "float16"),
    ],
)
def test_parameters_follow_the_policy_and_statistics_do_not(
    policy, compute, stored
):
    layer = FlaxLayer(Statistics(), seed=0, dtype=policy)
    outputs = layer(X, training=True)
    assert outputs.dtype == compute
    assert dtypes(layer) == {
        "scale": stored,
        "bias": stored,
        "kernel": stored,
        "mean": "float32",
        "var": "float32",
    }
    spec = layer.compute_output_spec(keras.KerasTensor((None, 4)))
    assert spec.dtype == compute


@pytest.mark.parametrize(
    "policy", ["mixed_bfloat16", "mixed_float16", "bfloat16"]
)
def test_statistics_stay_close_to_those_of_float32(policy):
    def variance_after(policy, steps=150):
        layer = FlaxLayer(Statistics(), seed=0, dtype=policy)
        layer.build((None, 4))
        x = jnp.asarray(1.5 * X, layer.compute_dtype)
        trainable = [v.value for v in layer.trainable_variables]

        @jax.jit
        def run(state):
            def body(state, _):
                _, state = layer.stateless_call(
                    trainable, state, x, training=True
                )
                return state, None

            return jax.lax.scan(body, state, length=steps)[0]

        state = run([v.value for v in layer.non_trainable_variables])
        return np.array(state[1])

    expected = variance_after("float32")
    assert np.all(np.abs(expected - 1) > 0.1)  # It has moved from its start.
    np.testing.assert_allclose(variance_after(policy), expected, rtol=0.02)


def test_an_optimizer_steps_the_stored_parameters():
    layer = FlaxLayer(Statistics(), seed=0, dtype="mixed_bfloat16")
    model = keras.Sequential([keras.Input((4,)), layer])
    model.compile(keras.optimizers.SGD(1e-4), "mse")
    before = [np.array(w.value) for w in layer.trainable_weights]
    model.train_on_batch(X, np.ones((32, 2)))
    # Such a step is lost to weights that are kept in bfloat16.
    moved = [
        not np.array_equal(old, new.value)
        for old, new in zip(before, layer.trainable_weights, strict=True)
    ]
    assert any(moved)
    assert dtypes(layer)["kernel"] == "float32"


def test_state_is_passed_in_the_dtype_it_came_with():
    seen = {}

    def call_fn(params, state, inputs):
        seen.update(
            params=params["w"].dtype,
            mean=state["mean"].dtype,
            half=state["half"].dtype,
            count=state["count"].dtype,
            inputs=inputs.dtype,
        )
        return inputs * params["w"], state

    layer = JaxLayer(
        call_fn,
        params={"w": np.float32(2)},
        state={
            "mean": np.float32(0),
            "half": jnp.zeros((), jnp.float16),
            "count": 0,
        },
        dtype="mixed_bfloat16",
    )
    assert layer(X).dtype == "bfloat16"
    assert seen == {
        "params": jnp.bfloat16,
        "mean": jnp.float32,
        "half": jnp.float16,
        "count": jnp.int32,
        "inputs": jnp.bfloat16,
    }


def test_returned_state_is_stored_in_its_own_dtype():
    layer = JaxLayer(
        lambda params, state, inputs: (inputs, inputs.sum()),
        state=np.float32(0),
        params={},
        dtype="bfloat16",
    )
    layer(X)
    assert layer.state.value.dtype == jnp.float32


def test_integer_inputs_are_not_cast():
    layer = JaxLayer(lambda inputs: inputs, dtype="mixed_bfloat16")
    assert layer(np.ones(3, np.int32)).dtype == "int32"


def test_autocast_may_be_off():
    layer = JaxLayer(
        lambda params, inputs: inputs * params,
        params=np.float32(2),
        dtype="mixed_bfloat16",
        autocast=False,
    )
    assert layer(X).dtype == "float32"
    spec = layer.compute_output_spec(keras.KerasTensor((None, 4)))
    assert spec.dtype == "float32"


class Mixture(nn.Module):
    """What is cast, and beside it what is not: integers, a chosen dtype."""

    @nn.compact
    def __call__(self, x, training=False):
        x = nn.BatchNorm(use_running_average=not training)(nn.Dense(8)(x))
        signs = self.param("signs", lambda key: jnp.array([1, -1] * 4))
        scale = self.param("scale", nn.initializers.ones, (8,), jnp.bfloat16)
        # In full precision, which a compiler may give it that sees the cast.
        shift = self.param("shift", nn.initializers.normal(), (8,))
        x = nn.gelu(x) * signs * scale + shift.astype(jnp.float32)
        return nn.Dense(2)(x.astype(jnp.bfloat16))


def results_of(policy, autocast):
    """What calls, gradients and training give: all that bits can differ in."""
    layer = FlaxLayer(
        Mixture(), seed=0, dtype=policy, autocast=autocast, name="mixture"
    )
    found = [layer(X, training=t) for t in (False, True, False, False)]
    # A layer alone opens no scope in its `stateless_call`.
    model = keras.Sequential([keras.Input((4,)), layer])

    def loss(trainable, state):
        outputs, state = model.stateless_call(
            trainable, state, X, training=True
        )
        return (outputs.astype(jnp.float32) ** 2).sum(), state

    weights = (
        [v.value for v in model.trainable_variables],
        [v.value for v in model.non_trainable_variables],
    )
    gradients = jax.grad(loss, has_aux=True)
    found += [loss(*weights), gradients(*weights), jax.jit(gradients)(*weights)]
    found = jax.tree.map(lambda array: np.array(array, copy=True), found)
    model.compile(keras.optimizers.Adam(0.01), "mse")
    model.fit(X, np.ones((32, 2)), batch_size=8, shuffle=False, verbose=0)
    return found, [np.array(w.value, copy=True) for w in model.weights]


@pytest.mark.parametrize("autocast", [True, False])
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_weights_have_the_bits_of_casts_by_keras(policy, autocast, monkeypatch):
    received = jax.tree.leaves(results_of(policy, autocast))
    reads = []

    def read(variables):
        reads.extend(variables)
        return [variable.value for variable in variables]

    monkeypatch.setattr(backends.current, "values_of", read)
    monkeypatch.setattr(backends.current, "compute_dtype", lambda: None)
    expected = jax.tree.leaves(results_of(policy, autocast))
    assert reads
    for a, b in zip(received, expected, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def test_in_a_program_of_others_weights_are_cast_and_nothing_else():
    layer = FlaxLayer(nn.Dense(2), dtype="mixed_bfloat16")
    layer.build((None, 4))
    program = jax.make_jaxpr(lambda x: layer(x))(X)
    assert "optimization_barrier" not in str(program)
    assert str(program).count("new_dtype=bfloat16") == 3  # With the inputs.


def test_weights_follow_the_scope_that_a_wrapper_opens():
    layer = FlaxLayer(nn.Dense(2), seed=0, name="dense")
    wrapper = keras.layers.TimeDistributed(layer, dtype="mixed_bfloat16")
    steps = X.reshape(8, 4, 4)
    assert wrapper(steps).dtype == wrapper(steps).dtype == jnp.bfloat16
    assert layer(X).dtype == jnp.float32


def test_the_global_policy_is_used():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        layer = JaxLayer(lambda inputs: inputs)
    finally:
        keras.config.set_dtype_policy(policy)
    assert layer(X).dtype == "bfloat16"


class Chosen(nn.Module):
    """One layer in a dtype the module chose, one in that of the policy."""

    @nn.compact
    def __call__(self, inputs):
        chosen = nn.Dense(2, param_dtype=jnp.bfloat16, name="chosen")
        return chosen(inputs) + nn.Dense(2, name="policy")(inputs)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "float16"])
def test_parameters_keep_a_dtype_that_the_module_chose(policy):
    layer = FlaxLayer(Chosen(), seed=0, dtype=policy)
    outputs = layer(X)
    stored = keras.DTypePolicy(policy).variable_dtype
    assert [(w.path.split("/")[-2], w.dtype) for w in layer.weights] == (
        [("chosen", "bfloat16")] * 2 + [("policy", stored)] * 2
    )
    params = layer.params["params"]["policy"]
    assert params["kernel"].value.dtype == stored
    assert layer.compute_output_spec(keras.KerasTensor((None, 4))).dtype == (
        outputs.dtype
    )
    # One program has both, and an optimizer steps both.
    model = keras.Sequential([keras.Input((4,)), layer])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    before = [np.array(w.value, np.float32) for w in layer.weights]
    model.train_on_batch(X, np.ones((32, 2)))
    for old, new in zip(before, layer.weights, strict=True):
        assert not np.array_equal(old, np.array(new.value, np.float32))


class Quantized(nn.Module):
    """Weights of eight bits with a scale, as a quantised model has them."""

    @nn.compact
    def __call__(self, inputs):
        shape = (inputs.shape[-1], 2)
        weight = self.param(
            "weight", lambda key: jax.random.randint(key, shape, -8, 8, "int8")
        )
        zero = self.variable("quant", "zero", jnp.zeros, (2,), jnp.int8)
        scale = self.param("scale", nn.initializers.ones, (2,))
        return inputs @ (weight - zero.value).astype(inputs.dtype) * scale


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "float16"])
def test_integer_weights_are_left_alone(policy):
    layer = FlaxLayer(Quantized(), seed=0, dtype=policy)
    assert layer(X).dtype == layer.compute_dtype
    assert {w.name: w.dtype for w in layer.weights} == {
        "scale": layer.variable_dtype,
        "weight": "int8",
        "zero": "int8",
    }
    assert [w.name for w in layer.trainable_weights] == ["scale"]
    weight = np.array(layer.params["params"]["weight"])
    model = keras.Sequential([keras.Input((4,)), layer])
    model.compile("sgd", "mse")
    model.fit(X, np.ones((32, 2)), verbose=0)
    np.testing.assert_array_equal(layer.params["params"]["weight"], weight)


@pytest.mark.parametrize("policy", ["mixed_float16", "float32"])
def test_a_poisoned_batch_leaves_weights_and_statistics_intact(policy):
    def trained(batches):
        layer = FlaxLayer(
            Statistics(),
            seed=0,
            name="statistics",
            dtype=policy,
            nonfinite_state="keep",
        )
        model = keras.Sequential([keras.Input((4,)), layer])
        optimizer = keras.optimizers.LossScaleOptimizer(
            keras.optimizers.Adam(0.01), initial_scale=8.0
        )
        model.compile(optimizer, "mse")
        for batch in batches:
            model.train_on_batch(batch, np.ones((32, 2)))
        return model, optimizer

    poisoned = X.copy()
    poisoned[3, 1] = np.inf
    model, optimizer = trained([X, poisoned])
    before, _ = trained([X])
    for now, then in zip(model.weights, before.weights, strict=True):
        np.testing.assert_array_equal(now.value, then.value)
    assert float(optimizer.dynamic_scale) == 4.0
    assert int(optimizer.inner_optimizer.iterations) == 1
    # And training goes on from there.
    model.train_on_batch(X, np.ones((32, 2)))
    assert int(optimizer.inner_optimizer.iterations) == 2
    assert all(np.isfinite(w.value).all() for w in model.weights)


def test_float64_where_jax_has_it():
    with jax.enable_x64(True):
        layer = FlaxLayer(Statistics(), seed=0, dtype="float64")
        assert layer(X, training=True).dtype == "float64"
        assert dtypes(layer) == {
            "scale": "float64",
            "bias": "float64",
            "kernel": "float64",
            "mean": "float32",
            "var": "float32",
        }


class Widening(nn.Module):
    """Has another output in training, and computes in what it is given."""

    @nn.compact
    def __call__(self, x, training=False):
        x = nn.Dense(3)(x)
        return jnp.concatenate([x, x], axis=-1) if training else x


@pytest.mark.parametrize(
    "policy", ["float32", "mixed_float16", "mixed_bfloat16", "bfloat16"]
)
def test_specs_of_outputs_are_those_of_calls(policy):
    x = np.ones((2, 4), "float32")
    spec = keras.KerasTensor((2, 4), "float32")
    layer = FlaxLayer(Widening(), dtype=policy)

    def specs():
        outputs = (
            layer.compute_output_spec(spec, training=training)
            for training in (False, True)
        )
        return [(output.shape, output.dtype) for output in outputs]

    unbuilt = specs()
    assert not layer.built
    called = [layer(x, training=training) for training in (False, True)]
    expected = [(output.shape, str(output.dtype)) for output in called]
    assert expected[0] == ((2, 3), layer.compute_dtype)
    assert expected[1] == ((2, 6), layer.compute_dtype)
    assert unbuilt == expected
    assert specs() == expected
