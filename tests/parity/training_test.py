"""The same seed gives the same bits as Keras's own layers and stock JAX."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytest

import flaxlayer
from tests.parity import models, peer
from tests.python.keras_models import program

IMAGES = np.random.RandomState(0).randn(64, 8, 8, 1).astype("float32")
TOKENS = np.random.RandomState(1).randn(64, 5, 6).astype("float32")
VECTORS = np.random.RandomState(2).randn(64, 6).astype("float32")
LABELS = np.random.RandomState(3).randint(0, 3, 64).astype("int32")

FLAX_CASES = {
    "convolutional": (models.ConvNet, {}, IMAGES),
    "attention": (models.Attention, {}, TOKENS),
    "unbound_method": (
        models.ConvNet,
        {"method": models.apply_without_flag},
        IMAGES,
    ),
    "own_seed": (models.ConvNet, {"seed": 11}, IMAGES),
}


def loss():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def numpy(values):
    """Copies: a view would keep its buffer from being donated."""
    return [np.array(value, copy=True) for value in values]


def assert_same_bits(ours, theirs):
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert a.tobytes() == b.tobytes()


def compiled(layer, inputs):
    model = keras.Sequential([keras.Input(inputs.shape[1:]), layer])
    model.compile("adam", loss())
    return model


def train(model, inputs, steps=20, batch=16):
    losses = []
    for step in range(steps):
        chosen = slice(step % 4 * batch, (step % 4 + 1) * batch)
        losses.append(model.train_on_batch(inputs[chosen], LABELS[chosen]))
    return losses


@pytest.mark.parametrize("case", FLAX_CASES)
def test_flax_layer_trains_as_the_peer(case):
    module, options, inputs = FLAX_CASES[case]
    runs = []
    variables = None
    if "seed" in options:
        # A seed decides our initial weights as well, not the peer's, and the
        # name has a part in the keys of our calls: start both from the same
        # weights and the same state, and compare what calls make of them.
        key = jax.random.key(options["seed"])
        variables = module().init(key, jnp.asarray(inputs[:1]))
    for layer_class in (flaxlayer.FlaxLayer, peer.FlaxLayer):
        peer.set_random_seed(5)
        layer = layer_class(module(), variables=variables, **options)
        if "seed" in options:
            layer.seed_generator.state.assign([options["seed"], 0])
        model = compiled(layer, inputs)
        initial = numpy(model.weights)
        runs.append(
            {
                "initial": initial,
                "losses": train(model, inputs),
                "weights": numpy(model.weights),
                "optimizer": numpy(model.optimizer.variables),
                "seed": numpy([layer.seed_generator.state]),
                "predictions": [model.predict(inputs, verbose=0)],
                "evaluation": [model.evaluate(inputs, LABELS, verbose=0)],
            }
        )
    ours, theirs = runs
    changed = map(np.array_equal, ours["initial"], ours["weights"])
    assert not all(changed)
    for what in ours:
        assert_same_bits(ours[what], theirs[what])


def test_fit_with_shuffling_trains_as_the_peer():
    runs = []
    for layer_class in (flaxlayer.FlaxLayer, peer.FlaxLayer):
        peer.set_random_seed(6)
        model = compiled(layer_class(models.ConvNet()), IMAGES)
        history = model.fit(IMAGES, LABELS, 16, epochs=5, verbose=0)
        runs.append([*history.history["loss"], *numpy(model.weights)])
    assert_same_bits(*runs)


def test_jax_layer_trains_as_the_peer():
    runs = []
    for layer_class in (flaxlayer.JaxLayer, peer.JaxLayer):
        peer.set_random_seed(7)
        layer = layer_class(models.mlp_call, models.mlp_init)
        model = compiled(layer, VECTORS)
        runs.append(
            [
                *numpy(model.weights),
                *train(model, VECTORS),
                *numpy(model.weights),
                model.predict(VECTORS, verbose=0),
            ]
        )
    assert_same_bits(*runs)


def test_two_layers_initialise_as_two_of_the_peer():
    runs = []
    for layer_class in (flaxlayer.FlaxLayer, peer.FlaxLayer):
        peer.set_random_seed(8)
        inputs = keras.Input(IMAGES.shape[1:])
        outputs = [layer_class(models.ConvNet())(inputs) for _ in range(2)]
        runs.append(numpy(keras.Model(inputs, outputs).weights))
    assert_same_bits(*runs)


def test_state_without_parameters_as_the_peer():
    for layer_class in (flaxlayer.FlaxLayer, peer.FlaxLayer):
        layer = layer_class(
            models.Counter(), variables={"counts": {"calls": 0}}
        )
        layer(VECTORS)
        layer(VECTORS)
        assert len(layer.params) == 0
        assert layer.state["counts"]["calls"].value == 2


def test_seed_trains_as_a_stock_jax_loop():
    """The weights are those of `key(7)`, the keys those of the generator."""
    module = models.ConvNet()
    layer = flaxlayer.FlaxLayer(module, seed=7)
    layer.build((None, *IMAGES.shape[1:]))
    variables = module.init(jax.random.key(7), jnp.asarray(IMAGES[:1]))
    params, stats = variables["params"], variables["batch_stats"]
    optimizer = optax.sgd(0.1)

    def plain_loss(params, stats, key, x, y):
        logits, updates = module.apply(
            {"params": params, "batch_stats": stats},
            x,
            training=True,
            rngs={"dropout": key},
            mutable=["batch_stats"],
        )
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, y)
        return losses.mean(), updates["batch_stats"]

    def layer_loss(trainable, state, x, y):
        logits, state = layer.stateless_call(trainable, state, x, training=True)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, y)
        return losses.mean(), state

    @jax.jit
    def plain_step(params, stats, slots, key, x, y):
        (value, stats), grads = jax.value_and_grad(plain_loss, has_aux=True)(
            params, stats, key, x, y
        )
        updates, slots = optimizer.update(grads, slots)
        return optax.apply_updates(params, updates), stats, slots, value

    @jax.jit
    def layer_step(trainable, state, slots, x, y):
        (value, state), grads = jax.value_and_grad(layer_loss, has_aux=True)(
            trainable, state, x, y
        )
        updates, slots = optimizer.update(grads, slots)
        return optax.apply_updates(trainable, updates), state, slots, value

    trainable = [v.value for v in layer.trainable_variables]
    state = [v.value for v in layer.non_trainable_variables]
    seed_word, counter = np.array(layer.seed_generator.state.value)
    assert counter == 0
    assert_same_bits(trainable, jax.tree_util.tree_leaves(params))
    plain_slots, layer_slots = optimizer.init(params), optimizer.init(trainable)
    for step in range(20):
        x, y = IMAGES[:16], LABELS[:16]
        key = jnp.array([seed_word, step], jnp.uint32)
        params, stats, plain_slots, plain = plain_step(
            params, stats, plain_slots, key, x, y
        )
        trainable, state, layer_slots, ours = layer_step(
            trainable, state, layer_slots, x, y
        )
        assert_same_bits([ours], [plain])
    assert_same_bits(trainable, jax.tree_util.tree_leaves(params))
    assert_same_bits(state[:-1], jax.tree_util.tree_leaves(stats))


def test_native_and_reference_kernels_train_alike(native_kernels):
    class Noisy(nn.Module):
        @nn.compact
        def __call__(self, x, training=False):
            x = nn.Dropout(0.5, deterministic=not training)(nn.Dense(8)(x))
            if training:
                x += jax.random.normal(self.make_rng("noise"), x.shape)
            return nn.Dense(3)(x)

    runs = []
    for kernels in ("native", "reference"):
        layer = flaxlayer.FlaxLayer(
            Noisy(),
            seed=3,
            rngs=("dropout", "noise"),
            kernels=kernels,
            name="noisy",
        )
        model = compiled(layer, VECTORS)
        peer.set_random_seed(0)
        runs.append([*train(model, VECTORS), *numpy(model.weights)])
        called = "@flaxlayer_random_bits(" in program(layer, VECTORS[:16])
        assert called == (kernels == "native")
    assert_same_bits(*runs)


def test_fifty_steps_have_the_bits_of_each_kernel_and_of_the_peer(
    native_kernels,
):
    def make(layer_class, **options):
        peer.set_random_seed(8)
        layer = layer_class(models.ConvNet(), **options)
        return layer, compiled(layer, IMAGES)

    runs = []
    for layer_class, options in (
        (flaxlayer.FlaxLayer, {"kernels": "native"}),
        (flaxlayer.FlaxLayer, {"kernels": "reference"}),
        (peer.FlaxLayer, {}),
    ):
        layer, model = make(layer_class, **options)
        losses = train(model, IMAGES, steps=50)
        runs.append([*losses, *numpy(model.weights)])
        if options.get("kernels") == "native":
            assert "@flaxlayer_random_bits(" in program(layer, IMAGES[:16])
    assert_same_bits(runs[0], runs[1])
    assert_same_bits(runs[0], runs[2])


def test_training_leaves_the_given_variables_alone():
    variables = models.ConvNet().init(jax.random.key(0), jnp.asarray(IMAGES))
    before = numpy(jax.tree_util.tree_leaves(variables))
    layer = flaxlayer.FlaxLayer(models.ConvNet(), variables=variables)
    train(compiled(layer, IMAGES), IMAGES, steps=2)
    assert_same_bits(jax.tree_util.tree_leaves(variables), before)
