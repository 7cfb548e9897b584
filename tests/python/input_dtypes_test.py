"""Inputs keep their dtypes, however Keras builds the model around a layer."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from flaxlayer import FlaxLayer, JaxLayer

# Keras 3.15 with JAX 0.12, whenever it traces a model for 64-bit data.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Explicitly requested dtype .* in ShapeDtypeStruct:UserWarning"
)

IDS = np.array([[0, 1, 2, 3], [1, 299, 258, 7]])  # bfloat16 has no 299.
DTYPES = ("int32", "int64", "uint16")


class Embedding(nn.Module):
    @nn.compact
    def __call__(self, tokens):
        return nn.Embed(300, 2)(tokens)


class TwoInputs(nn.Module):
    """Takes integers and floats, and fails on any others."""

    @nn.compact
    def __call__(self, tokens, scale):
        if not jnp.issubdtype(scale.dtype, jnp.floating):
            raise TypeError("scale must be floating")
        return nn.Embed(300, 2)(tokens) * scale[..., None]


class Subclassed(keras.Model):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def call(self, inputs):
        return self.layer(inputs)


def layer(**options):
    return FlaxLayer(Embedding(), seed=0, **options)


def sequential(**options):
    return keras.Sequential([layer(**options)])


def sequential_by_fit(**options):
    model = sequential(**options)
    model.compile("sgd", "mse")
    model.fit(IDS, np.zeros((*IDS.shape, 2)), epochs=0, verbose=0)
    return model


def sequential_of_a_shape(**options):
    model = sequential(**options)
    model.build((None, 4))
    return model


def subclassed(**options):
    return Subclassed(layer(**options))


def functional(**options):
    inputs = keras.Input((4,))
    return keras.Model(inputs, layer(**options)(inputs))


def functional_with_a_dtype(**options):
    inputs = keras.Input((4,), dtype="int32")
    return keras.Model(inputs, layer(**options)(inputs))


def nested(**options):
    return keras.Sequential([keras.Input((4,)), sequential(**options)])


def nested_unbuilt(**options):
    return keras.Sequential([sequential(**options)])


def built_layer_in_sequential(**options):
    built = layer(**options)
    built(IDS)
    return keras.Sequential([built])


def of_a_shape(**options):
    made = layer(**options)
    made.build((None, 4))
    return keras.Sequential([made])


def time_distributed(**options):
    steps = keras.layers.TimeDistributed(layer(**options))
    return keras.Sequential(
        [keras.layers.Reshape((2, 2)), steps, keras.layers.Reshape((4, 2))]
    )


def cloned(**options):
    return keras.models.clone_model(functional(**options))


def cloned_sequential(**options):
    model = sequential(**options)
    model(IDS)
    return keras.models.clone_model(model)


WAYS = [
    *(sequential, sequential_by_fit, sequential_of_a_shape, subclassed),
    *(functional, functional_with_a_dtype, nested, nested_unbuilt),
    *(built_layer_in_sequential, of_a_shape, time_distributed),
    *(cloned, cloned_sequential),
]


def table(model):
    return np.array(model.weights[0])


@pytest.mark.parametrize("make", WAYS)
def test_integers_reach_a_module_as_integers(make, tmp_path):
    model = make()
    predicted = model.predict(IDS, verbose=0)
    expected = Embedding().init(jax.random.key(0), IDS)
    np.testing.assert_array_equal(
        table(model), expected["params"]["Embed_0"]["embedding"]
    )
    np.testing.assert_array_equal(predicted, table(model)[IDS])
    for dtype in DTYPES:
        inputs = IDS.astype(dtype)
        np.testing.assert_array_equal(
            model.predict(inputs, verbose=0), predicted
        )

    model.compile("sgd", "mse")
    before = table(model)
    model.fit(IDS, np.zeros_like(predicted), verbose=0)
    assert (table(model)[1] != before[1]).any()

    if not isinstance(model, Subclassed):
        path = tmp_path / "model.keras"
        model.save(path)
        loaded = keras.models.load_model(path)
        np.testing.assert_array_equal(
            loaded.predict(IDS, verbose=0), table(model)[IDS]
        )
        again = keras.models.clone_model(loaded)
        again.set_weights(loaded.get_weights())
        np.testing.assert_array_equal(
            again.predict(IDS, verbose=0), table(model)[IDS]
        )


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize(
    "make", [way for way in WAYS if way not in (nested, nested_unbuilt)]
)
def test_half_precision_loses_none_of_them(make, policy, tmp_path):
    model = make(dtype=policy)
    expected = np.asarray(model.predict(IDS, verbose=0), np.float32)
    rows = table(model).astype(expected.dtype)[IDS]
    np.testing.assert_allclose(expected, rows, rtol=1e-2)
    if not isinstance(model, Subclassed):
        path = tmp_path / "model.keras"
        model.save(path)
        loaded = keras.models.load_model(path)
        np.testing.assert_array_equal(loaded.predict(IDS, verbose=0), expected)


def test_where_keras_has_made_halves_of_them_it_says_so():
    inputs = keras.Input((4,), dtype="bfloat16")
    with pytest.raises(
        NotImplementedError, match="'probe': its model takes integers, and bfl"
    ) as error:
        layer(name="probe")(inputs)
    assert 'dtype="int32"' in str(error.value)
    # A Sequential model in another one casts its inputs to the dtype of its
    # first layer.
    for make in (nested, nested_unbuilt):
        model = make(dtype="mixed_bfloat16", name="probe")
        with pytest.raises(ValueError, match="integers, and bfloat16"):
            model.predict(IDS, verbose=0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "make", [sequential_of_a_shape, functional, of_a_shape]
)
def test_data_of_floats_are_what_keras_makes_of_integers(make, dtype):
    model = make()
    np.testing.assert_array_equal(
        model.predict(IDS.astype(dtype), verbose=0),
        model.predict(IDS, verbose=0),
    )


def test_a_layer_that_has_seen_integers_refuses_floats():
    built = layer(name="probe")
    built(IDS)
    with pytest.raises(ValueError, match="'probe' was built for.*int32"):
        built(IDS.astype("float32"))


def test_what_is_declared_an_integer_is_one():
    made = layer(inputs_spec=jax.ShapeDtypeStruct((1, 4), "int32"))
    outputs = made(IDS.astype("float32"))
    np.testing.assert_array_equal(outputs, table(made)[IDS])
    with pytest.raises(ValueError, match="takes integers, and float16"):
        made(IDS.astype("float16"))


@pytest.mark.parametrize("by_name", [False, True])
def test_only_what_has_to_be_an_integer_becomes_one(by_name):
    tokens, scale = keras.Input((4,)), keras.Input((4,))
    made = FlaxLayer(TwoInputs(), seed=0)
    outputs = made(tokens, scale=scale) if by_name else made(tokens, scale)
    model = keras.Model([tokens, scale], outputs)
    half = np.full(IDS.shape, 0.5, np.float32)
    np.testing.assert_array_equal(
        model.predict([IDS, half], verbose=0), table(model)[IDS] * 0.5
    )


@pytest.mark.parametrize("given", [False, True])
def test_functions_take_integers_too(given):
    params = jnp.arange(300.0)
    made = JaxLayer(
        lambda params, inputs: jnp.take(params, inputs, axis=0),
        lambda inputs: params,
        params=params if given else None,
    )
    model = keras.Sequential([made])
    np.testing.assert_array_equal(model.predict(IDS, verbose=0), IDS)


def test_a_model_that_fails_on_both_shows_why_it_fails_on_floats():
    class Never(nn.Module):
        @nn.compact
        def __call__(self, x):
            raise RuntimeError(f"never {x.dtype}")

    for run in (
        lambda probe: probe(keras.Input((4,))),
        lambda probe: probe.build((None, 4)),
    ):
        probe = FlaxLayer(Never(), name="probe")
        with pytest.raises((RuntimeError, ValueError), match="never float32"):
            run(probe)
        assert not probe.built
        assert not probe.weights
