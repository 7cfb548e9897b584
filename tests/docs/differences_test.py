"""What README.md says of keras.layers.FlaxLayer, shown on that layer.

One test for each row of its table, in that order. They are about the version
named there: with another one it is the table that has to be looked at again.
"""

import pathlib
import types

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from flax import nnx
from keras.src.utils import jax_layer, module_utils

_VERSION = "3.15.1"

pytestmark = pytest.mark.skipif(
    keras.__version__ != _VERSION, reason=f"compares with Keras {_VERSION}"
)

X = np.random.default_rng(0).standard_normal((8, 4), np.float32)
Y = np.arange(8) % 3


class Net(nn.Module):
    @nn.compact
    def __call__(self, inputs, training=False):
        x = nn.BatchNorm(not training)(inputs)
        return nn.Dense(3)(x)


class Branching(nn.Module):
    @nn.compact
    def __call__(self, inputs, training=False):
        return nn.Dense(3)(-inputs if training else inputs)


class Embedding(nn.Module):
    @nn.compact
    def __call__(self, inputs):
        return nn.Embed(10, 4)(inputs)


class Noise(nn.Module):
    @nn.compact
    def __call__(self, inputs, training=False):
        return inputs + jax.random.normal(self.make_rng("noise"), inputs.shape)


@pytest.fixture(autouse=True)
def without_tensorflow(monkeypatch):
    """Answers the one question the layer asks TensorFlow."""
    if not module_utils.tensorflow.available:
        stub = types.SimpleNamespace(inside_function=lambda: False)
        monkeypatch.setattr(jax_layer, "tf", stub)


def peer(module, **kwargs):
    return keras.layers.FlaxLayer(module, **kwargs)


def compiled(*layers):
    model = keras.Sequential(layers)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy())
    return model


def test_the_readme_names_this_version():
    root = pathlib.Path(__file__).parents[2]
    readme = (root / "README.md").read_text(encoding="utf-8")
    assert f"Compared with Keras {_VERSION}." in readme


def test_it_cannot_be_built_without_tensorflow(monkeypatch):
    if module_utils.tensorflow.available:
        pytest.skip("TensorFlow is installed")
    monkeypatch.setattr(jax_layer, "tf", module_utils.tensorflow)
    with pytest.raises(ImportError, match="tensorflow"):
        peer(Net()).build((None, 4))


def test_it_initialises_on_floats():
    with pytest.raises(ValueError, match="integer or unsigned integer"):
        peer(Embedding())(np.ones((2, 6), "int32"))


def test_its_weights_have_no_names():
    layer = peer(Net())
    layer.build((None, 4))
    assert all(v.name.startswith("variable") for v in layer.weights)


def test_it_has_one_random_stream():
    with pytest.raises(flax.errors.InvalidRngError, match='PRNG for "noise"'):
        peer(Noise())(X, training=True)


def test_its_seed_does_not_decide_the_weights():
    layers = [peer(Net(), seed=3) for _ in range(2)]
    for layer in layers:
        layer.build((None, 4))
    kernels = [layer.params["params"]["Dense_0"]["kernel"] for layer in layers]
    assert not np.array_equal(*kernels)


def test_it_reads_statistics_in_half_precision():
    layer = peer(Net(), dtype="mixed_bfloat16")
    layer.build((None, 4))
    found = []

    def record(params, state, rng, inputs, training):
        found.append(state["batch_stats"]["BatchNorm_0"]["var"].dtype)
        return inputs, state

    layer.call_fn = record
    layer(X)
    assert found == [jnp.bfloat16]


def test_a_module_needs_get_config(tmp_path):
    model = compiled(keras.Input((4,)), peer(Net()))
    with pytest.raises(TypeError, match=r"must implement the `get_config\(\)`"):
        model.save(tmp_path / "model.keras")


def test_its_weights_files_have_numbers():
    layer = peer(Net())
    layer.build((None, 4))
    store = {}
    layer.save_own_variables(store)
    assert sorted(store) == [str(i) for i in range(len(layer.weights))]


def test_an_unbuilt_model_fails_in_fit():
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.layer = peer(Net())

        def call(self, inputs, training=False):
            return self.layer(inputs, training=training)

    model = Model()
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy())
    with pytest.raises(ValueError, match="tracing scope"):
        model.fit(X, Y, verbose=0)


def test_it_fails_in_time_distributed():
    inputs = keras.Input((5, 4))
    with pytest.raises(NotImplementedError, match="`compute_output_shape`"):
        keras.layers.TimeDistributed(peer(Net()))(inputs)


def test_it_fails_in_a_remat_scope():
    with keras.RematScope(mode="full"):
        layer = peer(Branching())
    layer.build((None, 4))
    # Keras makes the error anew from its message, which this class does not
    # take, and so it may end in another one, while the first is handled.
    errors = jax.errors.TracerBoolConversionError, AttributeError
    with pytest.raises(errors) as error:
        layer(X, training=True)
    first = error.value
    if isinstance(first, AttributeError):
        assert "'_error_repr'" in str(first)
        first = first.__context__
    assert isinstance(first, jax.errors.TracerBoolConversionError)
    assert "for checkpoint / remat" in str(first)


def test_an_eager_call_is_not_compiled():
    traces = []

    class Traced(nn.Module):
        @nn.compact
        def __call__(self, inputs):
            traces.append(isinstance(inputs, jax.core.Tracer))
            return nn.Dense(3)(inputs)

    layer = peer(Traced())
    layer.build((None, 4))
    traces.clear()
    layer(X)
    layer(X)
    assert traces == [False, False]


class Sowing(nn.Module):
    @nn.compact
    def __call__(self, inputs):
        self.sow("losses", "size", jnp.sum(inputs))
        return nn.Dense(3)(inputs)


def test_a_module_that_sows_fails_in_its_first_call():
    layer = peer(Sowing())
    layer.build((None, 4))
    with pytest.raises(ValueError, match="tructure"):
        layer(X)


class TwoInputs(nn.Module):
    @nn.compact
    def __call__(self, x, context, train):
        return nn.Dense(3)(x) + nn.Dense(3)(context)


def test_it_takes_one_input_and_no_other_word_for_training():
    with pytest.raises(TypeError, match="unexpected keyword .*'context'"):
        peer(TwoInputs())(X, context=X)
    with pytest.raises(TypeError, match="unexpected keyword .*'train'"):
        peer(TwoInputs())(X, train=False)


def test_it_destroys_masks():
    embedding = keras.layers.Embedding(8, 4, mask_zero=True)
    layer = peer(Net())
    layer.build((None, 3, 4))
    with pytest.warns(UserWarning, match="destroy the mask"):
        layer(embedding(np.array([[1, 2, 0]])))


def test_what_is_not_trainable_is_updated():
    layer = peer(Net())
    layer.build((None, 4))
    layer.trainable = False
    before = [np.array(v) for v in layer.non_trainable_variables]
    layer(X, training=True)
    assert not all(
        np.array_equal(now, then)
        for now, then in zip(layer.non_trainable_variables, before, strict=True)
    )


class Dropped(nn.Module):
    @nn.compact
    def __call__(self, inputs, training=False):
        return nn.Dropout(0.5, deterministic=not training)(inputs)


def test_two_layers_of_one_seed_have_the_same_masks():
    layers = [peer(Dropped(), seed=3) for _ in range(2)]
    for layer in layers:
        layer.build((None, 4))
    first, second = (np.array(layer(X, training=True)) for layer in layers)
    np.testing.assert_array_equal(first, second)


class NnxNet(nnx.Module):
    def __init__(self, rngs):
        self.linear = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x):
        return self.linear(x)


def test_it_takes_no_nnx_module():
    with pytest.raises((AttributeError, TypeError, ValueError)):
        peer(NnxNet(nnx.Rngs(0)))(X)
