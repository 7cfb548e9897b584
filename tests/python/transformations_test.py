"""A layer inside of JAX's transformations, and Keras's stateless scope."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

import flaxlayer
from flaxlayer import FlaxLayer, JaxLayer

X = np.linspace(-1.0, 1.0, 12, dtype=np.float32).reshape(3, 4)


class Net(nn.Module):
    @nn.compact
    def __call__(self, inputs, training=False):
        x = nn.BatchNorm(use_running_average=not training)(inputs)
        x = nn.Dropout(0.5, deterministic=not training)(x)
        return nn.Dense(2)(x)


def values(variables):
    return [v.value for v in variables]


@pytest.fixture
def layer():
    layer = FlaxLayer(Net(), seed=0)
    layer.build((None, 4))
    return layer


@pytest.fixture(scope="module")
def linear():
    def call_fn(params, inputs):
        return inputs @ params["w"]

    w = np.arange(8.0, dtype=np.float32).reshape(4, 2)
    return JaxLayer(call_fn, params={"w": w})


def weights(layer):
    return values(layer.trainable_variables), values(
        layer.non_trainable_variables
    )


def test_stateless_call_under_jit_leaves_the_layer_as_it_is(layer):
    before = [np.array(v) for v in values(layer.variables)]

    @jax.jit
    def step(trainable, non_trainable, x):
        return layer.stateless_call(trainable, non_trainable, x, training=True)

    outputs, new_state = step(*weights(layer), X)
    assert not any(
        isinstance(v, jax.core.Tracer) for v in values(layer.variables)
    )
    for variable, value in zip(layer.variables, before, strict=True):
        np.testing.assert_array_equal(variable.value, value)
    # What it returns is what a call would have left in the layer.
    expected = layer(X, training=True)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)
    for variable, value in zip(
        layer.non_trainable_variables, new_state, strict=True
    ):
        np.testing.assert_allclose(variable.value, value, rtol=1e-5)


def test_stateless_call_threads_state_and_seed(layer):
    @jax.jit
    def step(trainable, non_trainable):
        return layer.stateless_call(trainable, non_trainable, X, training=True)

    trainable, state = weights(layer)
    first, state = step(trainable, state)
    second, state = step(trainable, state)
    assert not np.allclose(first, second)
    assert int(state[-1][1]) == 2


def test_the_users_own_training_step_lowers_the_loss(layer):
    target = X[:, :2]

    def loss(trainable, non_trainable):
        outputs, state = layer.stateless_call(
            trainable, non_trainable, X, training=True
        )
        return jnp.mean((outputs - target) ** 2), state

    @jax.jit
    def step(trainable, state):
        (value, state), grads = jax.value_and_grad(loss, has_aux=True)(
            trainable, state
        )
        trainable = jax.tree_util.tree_map(
            lambda w, g: w - 0.1 * g, trainable, grads
        )
        return value, trainable, state

    trainable, state = weights(layer)
    losses = []
    for _ in range(30):
        value, trainable, state = step(trainable, state)
        losses.append(float(value))
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])


def test_a_stateless_scope_holds_the_updates(layer):
    before = [np.array(v) for v in values(layer.non_trainable_variables)]
    with keras.StatelessScope() as scope:
        layer(X, training=True)
    after = values(layer.non_trainable_variables)
    for variable, old, new in zip(
        layer.non_trainable_variables, before, after, strict=True
    ):
        np.testing.assert_array_equal(old, new)
        assert not np.array_equal(scope.get_current_value(variable), old)


def test_a_stateless_scope_gives_the_weights(linear):
    zeros = np.zeros((4, 2), np.float32)
    with keras.StatelessScope([(linear.weights[0], zeros)]):
        np.testing.assert_array_equal(linear(X), np.zeros((3, 2)))
    assert np.any(linear(X))


def test_an_eager_gradient_goes_through_the_layer(linear):
    gradient = jax.grad(lambda x: jnp.sum(linear(x)))(jnp.asarray(X))
    expected = np.tile(linear.weights[0].value.sum(1), (3, 1))
    np.testing.assert_allclose(gradient, expected, rtol=1e-6)


def test_an_eager_gradient_for_the_weights(linear):
    def loss(w):
        outputs, _ = linear.stateless_call([w], [], X)
        return jnp.sum(outputs)

    gradient = jax.grad(loss)(linear.weights[0].value)
    expected = np.tile(X.sum(0)[:, None], (1, 2))
    np.testing.assert_allclose(gradient, expected, rtol=1e-6)


def test_forward_mode_and_second_order(linear):
    _, tangent = jax.jvp(linear, (jnp.asarray(X),), (jnp.ones_like(X),))
    np.testing.assert_allclose(tangent, linear(np.ones_like(X)), rtol=1e-6)
    hessian = jax.hessian(lambda x: jnp.sum(linear(x[None]) ** 2))(
        jnp.asarray(X[0])
    )
    w = np.array(linear.weights[0].value)
    np.testing.assert_allclose(hessian, 2 * w @ w.T, rtol=1e-5)


@pytest.mark.parametrize("jitted", [False, True])
def test_vmap_maps_over_the_inputs(linear, jitted):
    mapped = jax.vmap(lambda row: linear(row[None])[0])
    mapped = jax.jit(mapped) if jitted else mapped
    np.testing.assert_allclose(mapped(X), linear(X), rtol=1e-6)


def test_vmap_maps_over_seeds_and_weights(layer):
    trainable, state = weights(layer)
    seeds = jnp.array([[0, 0], [0, 1], [5, 0]], jnp.uint32)

    def call(seed):
        return layer.stateless_call(
            trainable, [*state[:-1], seed], X, training=True
        )

    outputs, states = jax.vmap(call)(seeds)
    assert outputs.shape == (3, 3, 2)
    for i, seed in enumerate(seeds):
        expected, _ = call(seed)
        np.testing.assert_allclose(outputs[i], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(states[-1][:, 1], seeds[:, 1] + 1)


def test_scan_runs_the_layer(layer):
    trainable, state = weights(layer)

    def body(state, x):
        outputs, state = layer.stateless_call(
            trainable, state, x, training=True
        )
        return state, outputs

    state, outputs = jax.lax.scan(body, state, jnp.stack([X, X, X]))
    assert outputs.shape == (3, 3, 2)
    assert int(state[-1][1]) == 3


def test_jit_may_close_over_the_layer_in_inference(layer):
    np.testing.assert_allclose(jax.jit(layer)(X), layer(X), rtol=1e-5)


def test_a_layer_may_be_built_inside_jit():
    seed = jax.random.key(0)
    layer, other = FlaxLayer(Net(), seed=seed), FlaxLayer(Net(), seed=seed)
    other.build((None, 4))

    @jax.jit
    def first_call(x):
        return layer(x)

    outputs = first_call(X)
    for variable, expected in zip(
        layer.variables, other.variables, strict=True
    ):
        assert not isinstance(variable.value, jax.core.Tracer)
        np.testing.assert_array_equal(variable.value, expected.value)
    np.testing.assert_allclose(outputs, other(X), rtol=1e-5)


def test_a_layer_may_be_made_inside_jit():
    made = []

    @jax.jit
    def function(x):
        made.append(FlaxLayer(Net(), seed=0))
        return made[-1](x)

    outputs = function(X)
    np.testing.assert_allclose(outputs, made[0](X), rtol=1e-5)


def test_weights_are_values_after_shape_inference():
    layer = FlaxLayer(Net(), seed=0)
    spec = jax.eval_shape(layer, X)
    assert spec.shape == (3, 2)
    kernel = layer.params["params"]["Dense_0"]["kernel"].value
    assert not isinstance(kernel, jax.core.Tracer)
    assert np.count_nonzero(kernel) == kernel.size


def test_shapes_are_inferred_without_advancing_the_seed(layer):
    before = np.array(layer.seed_generator.state.value)
    layer.compute_output_spec(keras.KerasTensor((None, 4)), training=True)
    keras.Model(inputs := keras.Input((4,)), layer(inputs, training=True))
    np.testing.assert_array_equal(layer.seed_generator.state.value, before)


def test_nan_debugging_finds_a_model_that_makes_them():
    layer = JaxLayer(lambda inputs: jnp.log(inputs))
    with jax.debug_nans(True):
        layer(np.abs(X) + 1)
        with pytest.raises(FloatingPointError):
            layer(-np.abs(X) - 1)


def test_an_exported_program_runs_and_has_no_kernels_of_ours():
    layer = FlaxLayer(Net(), seed=0, rngs=("dropout", "noise"))
    layer.build((None, 4))

    def function(trainable, state, x):
        return layer.stateless_call(trainable, state, x, training=True)

    arguments = (*weights(layer), X)
    exported = jax.export.export(jax.jit(function))(*arguments)
    called = re.findall(r"custom_call @(\S+?)\(", exported.mlir_module())
    assert not [target for target in called if "flaxlayer" in target]
    outputs, state = exported.call(*arguments)
    expected, expected_state = function(*arguments)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(state[-1], expected_state[-1])


def test_a_program_is_lowered_for_devices_that_are_not_here(native_kernels):
    layer = FlaxLayer(Net(), seed=0, rngs=("dropout", "noise"))
    layer.build((None, 4))
    mesh = jax.sharding.AbstractMesh((8,), ("data",))

    def abstract(tree, *axes):
        sharding = NamedSharding(mesh, PartitionSpec(*axes))
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
            tree,
        )

    def function(trainable, state, x):
        return layer.stateless_call(trainable, state, x, training=True)

    x = np.ones((8, 4), np.float32)
    arguments = (*map(abstract, weights(layer)), abstract(x, "data"))
    for platform in ("tpu", "cpu"):
        exported = jax.export.export(jax.jit(function), platforms=[platform])(
            *arguments
        )
        assert exported.nr_devices == 8


@pytest.mark.parametrize("kernels", ["auto", "reference"])
@pytest.mark.parametrize("platform", ["cuda", "rocm", "tpu"])
def test_a_training_step_is_lowered_for_accelerators(platform, kernels):
    layer = FlaxLayer(
        Net(),
        seed=0,
        rngs=("dropout", "noise"),
        nonfinite_state="keep",
        kernels=kernels,
    )
    layer.build((None, 4))

    def step(trainable, state, x):
        def loss(trainable):
            outputs, new = layer.stateless_call(
                trainable, state, x, training=True
            )
            return outputs.sum(), new

        return jax.value_and_grad(loss, has_aux=True)(trainable)

    exported = jax.export.export(jax.jit(step), platforms=[platform])(
        *weights(layer), X
    )
    assert exported.platforms == (platform,)
    text = exported.mlir_module()
    assert "flaxlayer" not in re.sub(r"loc\(.*", "", text)
    # The keys of a call, and the words of its mask, are JAX's own.
    assert "threefry" in text or "shift_right_logical" in text


def test_exported_inference_takes_any_batch(layer):
    (size,) = jax.export.symbolic_shape("n")
    spec = jax.ShapeDtypeStruct((size, 4), np.float32)
    exported = jax.export.export(jax.jit(lambda x: layer(x)))(spec)
    np.testing.assert_allclose(exported.call(X), layer(X), rtol=1e-5)
    assert exported.call(X[:1]).shape == (1, 2)


def test_the_kernels_policy_changes_no_bits_under_jit(layer):
    trainable, state = weights(layer)

    def run():
        return jax.jit(
            lambda: layer.stateless_call(trainable, state, X, training=True)
        )()

    default = run()
    with flaxlayer.kernels("reference"):
        reference = run()
    for a, b in zip(
        jax.tree_util.tree_leaves(default),
        jax.tree_util.tree_leaves(reference),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kernels", ["auto", "reference"])
def test_training_may_be_traced(training, kernels):
    layer = FlaxLayer(Net(), seed=0, kernels=kernels)
    layer.build((None, 4))

    @jax.jit
    def undecided(trainable, non_trainable, training):
        return layer.stateless_call(
            trainable, non_trainable, X, training=training
        )

    def decided(trainable, non_trainable):
        return layer.stateless_call(
            trainable, non_trainable, X, training=training
        )

    actual = undecided(*weights(layer), training)
    expected = jax.jit(decided)(*weights(layer))
    jax.tree_util.tree_map(np.testing.assert_array_equal, actual, expected)


def test_a_traced_training_of_a_model_that_always_draws():
    def call_fn(rng, inputs, training):
        return inputs + jax.random.normal(rng, inputs.shape) * training

    layer = JaxLayer(call_fn, seed=0)
    layer.build((None, 4))

    @jax.jit
    def call(training, state):
        return layer.stateless_call([], state, X, training=training)

    state = values(layer.non_trainable_variables)
    _, (advanced,) = call(True, state)
    outputs, (kept,) = call(False, state)
    np.testing.assert_array_equal(outputs, X)
    np.testing.assert_array_equal(kept, state[0])
    assert int(advanced[1]) == int(state[0][1]) + 1


def test_inference_touches_no_state(layer):
    before = values(layer.variables)
    layer(X)
    assert all(
        now is then
        for now, then in zip(values(layer.variables), before, strict=True)
    )
