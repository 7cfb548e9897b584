"""Calling a layer as its module is called: inputs, words, masks, keywords."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from flaxlayer import CallArguments, FlaxLayer
from tests.python.keras_models import X, Y, compiled, fit

TOKENS = np.array([[1, 2, 0, 0], [3, 4, 5, 0]])


class Mode(nn.Module):
    """Says which mode it was called in."""

    word: str = "train"

    def _mode(self, x, value):
        return x * 0 + (2.0 if value else 1.0)


class Train(Mode):
    def __call__(self, x, train):
        return self._mode(x, train)


class IsTraining(Mode):
    def __call__(self, x, *, is_training=False):
        return self._mode(x, is_training)


class Deterministic(Mode):
    def __call__(self, x, deterministic=True):
        return self._mode(x, not deterministic)


class Both(Mode):
    def __call__(self, x, training, deterministic):
        assert training != deterministic
        return self._mode(x, training)


class Eval(Mode):
    def __call__(self, x, evaluating):
        return self._mode(x, not evaluating)


class Mixer(nn.Module):
    """Takes two inputs, a context by name, and a static number."""

    @nn.compact
    def __call__(self, x, y=None, *, context, power=1, train=False):
        x = nn.Dense(2)(x) + nn.Dense(2)(context["a"]) * context["b"]
        if y is not None:
            x = x + y
        return nn.Dropout(0.5, deterministic=not train)(x**power)

    def encode(self, x):
        return x + 1.0

    @nn.compact
    def project(self, x, train):
        return nn.Dense(3)(x) * (2.0 if train else 1.0)


CONTEXT = {"a": X[:, :3], "b": np.float32(2.0) * np.ones((16, 2), np.float32)}


class Masked(nn.Module):
    needed: bool = False

    @nn.compact
    def __call__(self, x, mask):
        return x * mask[..., None]


class MaskOrNone(nn.Module):
    @nn.compact
    def __call__(self, x, mask=None):
        return x if mask is None else x * mask[..., None]


class Plain(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3, use_bias=False)(x)


@pytest.mark.parametrize(
    ("module", "options"),
    [
        (Train(), {}),
        (IsTraining(), {}),
        (Deterministic(), {}),
        (Both(), {}),
        (Eval(), {"training_argument": "not evaluating"}),
        (Train(), {"training_argument": "train"}),
    ],
)
def test_the_mode_is_said_in_the_modules_word(module, options):
    layer = FlaxLayer(module, **options)
    assert (np.array(layer(X, training=True)) == 2.0).all()
    assert (np.array(layer(X, training=False)) == 1.0).all()
    assert (np.array(layer(X)) == 1.0).all()
    model = keras.Sequential([layer])
    assert (model.predict(X, verbose=0) == 1.0).all()


def test_a_layer_of_flax_itself_can_be_wrapped():
    dropout = FlaxLayer(nn.Dropout(0.5), seed=0)
    np.testing.assert_array_equal(dropout(X), X)
    assert (np.array(dropout(X, training=True)) == 0).any()
    norm = FlaxLayer(nn.BatchNorm())
    assert abs(np.array(norm(X, training=True)).mean()) < 1e-6
    assert abs(np.array(norm(X)).mean()) > 1e-3
    # It has been told already.
    fixed = FlaxLayer(nn.Dropout(0.5, deterministic=True))
    np.testing.assert_array_equal(fixed(X, training=True), X)


def test_the_word_is_saved():
    layer = FlaxLayer(Eval(), training_argument="not evaluating")
    again = FlaxLayer.from_config(layer.get_config())
    assert (np.array(again(X, training=True)) == 2.0).all()
    assert "training_argument" not in FlaxLayer(Train()).get_config()


def test_inputs_are_given_as_the_module_takes_them():
    layer = FlaxLayer(Mixer(), seed=0)
    outputs = layer(X, Y, context=CONTEXT, power=2)
    variables = Mixer().init(jax.random.key(0), X, Y, context=CONTEXT)
    expected = Mixer().apply(variables, X, Y, context=CONTEXT, power=2)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)
    # Others, without the one that may be left out; and by name.
    np.testing.assert_allclose(
        layer(x=X, context=CONTEXT),
        Mixer().apply(variables, X, context=CONTEXT),
        rtol=1e-5,
        atol=1e-6,
    )
    np.testing.assert_array_equal(
        layer(inputs=X, context=CONTEXT), layer(X, context=CONTEXT)
    )


def test_static_keywords_are_compiled_once_each():
    traces = []

    class Power(nn.Module):
        @nn.compact
        def __call__(self, x, power=1, scales=(1.0,)):
            traces.append((power, scales))
            return x**power * sum(scales)

    layer = FlaxLayer(Power())
    layer(X)
    traces.clear()
    for power in (2, 3, 2, 3):
        np.testing.assert_allclose(
            layer(X, power=power), X**power, rtol=1e-5, atol=1e-6
        )
    layer(X, scales=(1.0, 2.0))
    assert traces == [(2, (1.0,)), (3, (1.0,)), (1, (1.0, 2.0))]
    with pytest.raises(TypeError, match="`scales`.*hashable.*tuple"):
        layer(X, scales=[1.0])


def test_several_inputs_in_a_functional_model(tmp_path):
    x, a, b = keras.Input((4,)), keras.Input((3,)), keras.Input((2,))
    layer = FlaxLayer(Mixer(), seed=0, name="mixer")
    outputs = layer(x, context={"a": a, "b": b}, power=3)
    assert outputs.shape == (None, 2)
    model = compiled(keras.Model([x, a, b], outputs), rate=1e-4)
    data = [X, CONTEXT["a"], CONTEXT["b"]]
    fit(model, x=data)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        loaded.predict(data, verbose=0), model.predict(data, verbose=0)
    )
    expected = Mixer().apply(
        jax.tree_util.tree_map(lambda v: v.value, layer.params),
        X,
        context=CONTEXT,
        power=3,
    )
    np.testing.assert_allclose(
        model.predict(data, verbose=0), expected, rtol=1e-4, atol=1e-5
    )


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.mixer = FlaxLayer(Mixer(), seed=0, name="mixer")

    def call(self, inputs, training=False):
        context = {"a": inputs["a"], "b": inputs["b"]}
        return self.mixer(inputs["x"], context=context, training=training)


def test_several_inputs_in_a_subclassed_model(tmp_path):
    model = compiled(Subclassed(), rate=1e-3)
    data = {"x": X, **CONTEXT}
    fit(model, x=data, epochs=2)
    model.save_weights(tmp_path / "model.weights.h5")
    other = Subclassed()
    other(data)
    other.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(
        other.predict(data, verbose=0), model.predict(data, verbose=0)
    )


def test_several_inputs_can_be_described_before_there_are_any():
    spec = CallArguments(
        jax.ShapeDtypeStruct((16, 4), "float32"),
        context={
            "a": keras.KerasTensor((None, 3)),
            "b": keras.KerasTensor((None, 2)),
        },
    )
    layer = FlaxLayer(Mixer(), inputs_spec=spec, seed=0)
    layer.build((None, 4))
    assert layer.compute_output_shape((7, 4)) == (7, 2)
    kernel = np.array(layer.params["params"]["Dense_0"]["kernel"])
    assert layer(X, context=CONTEXT).shape == (16, 2)
    again = FlaxLayer.from_config(layer.get_config())
    again.build((None, 4))
    np.testing.assert_array_equal(
        again.params["params"]["Dense_0"]["kernel"], kernel
    )


@pytest.mark.parametrize(
    "method",
    ["project", Mixer.project, Mixer().project],
    ids=["name", "function", "bound"],
)
def test_a_method_by_name_or_itself(method):
    layer = FlaxLayer(Mixer(), method=method, seed=0)
    outputs = layer(X)
    assert outputs.shape == (16, 3)
    np.testing.assert_allclose(layer(X, training=True), 2 * outputs, rtol=1e-6)
    again = FlaxLayer.from_config(layer.get_config())
    np.testing.assert_array_equal(again(X), outputs)
    np.testing.assert_array_equal(
        FlaxLayer(Mixer(), method="encode")(X), X + 1.0
    )


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((), {"context": CONTEXT}, "missing a required argument: 'x'"),
        ((X,), {}, "missing a required argument: 'context'"),
        ((X, Y, Y), {"context": CONTEXT}, "too many positional arguments"),
        ((X,), {"context": CONTEXT, "other": Y}, "unexpected.*'other'"),
        (
            (X,),
            {"context": CONTEXT, "train": True},
            "unexpected.*'train'.*Say `training=`",
        ),
    ],
)
def test_a_call_that_does_not_fit_names_layer_and_signature(
    args, kwargs, message
):
    layer = FlaxLayer(Mixer(), name="probe")
    with pytest.raises(TypeError, match=f"'probe'.*{message}"):
        layer(*args, **kwargs)
    with pytest.raises(TypeError, match=r"\(x, y=None, \*, context, power=1"):
        layer(*args, **kwargs)


def embedded():
    return keras.layers.Embedding(8, 3, mask_zero=True)


@pytest.mark.parametrize("module", [Masked(), MaskOrNone()])
def test_a_mask_reaches_a_module_that_takes_one(module):
    embedding = embedded()
    layer = FlaxLayer(module)
    expected = np.array(embedding(TOKENS)) * (TOKENS != 0)[..., None]
    np.testing.assert_array_equal(layer(embedding(TOKENS)), expected)
    model = keras.Sequential([embedding, layer])
    np.testing.assert_array_equal(model.predict(TOKENS, verbose=0), expected)
    # One that is given goes before the one that is found.
    everything = np.ones_like(TOKENS, bool)
    np.testing.assert_array_equal(
        layer(embedding(TOKENS), mask=everything), embedding(TOKENS)
    )


@pytest.mark.parametrize("module", [Plain(), MaskOrNone()])
def test_a_mask_goes_on_to_the_next_layer(module):
    embedding, layer = embedded(), FlaxLayer(module, seed=0)
    pool = keras.layers.GlobalAveragePooling1D()
    pooled = pool(layer(embedding(TOKENS)))
    features = np.array(layer(embedding(TOKENS)))
    for row, tokens, mean in zip(features, TOKENS, pooled, strict=True):
        np.testing.assert_allclose(
            mean, row[tokens != 0].mean(0), rtol=1e-5, atol=1e-6
        )
    model = keras.Sequential([embedding, layer, pool])
    np.testing.assert_allclose(
        model.predict(TOKENS, verbose=0), pooled, rtol=1e-5, atol=1e-6
    )


def test_without_a_mask_there_is_none():
    x = np.ones((2, 4, 3), np.float32)
    np.testing.assert_array_equal(FlaxLayer(MaskOrNone())(x), x)


def test_another_size_or_rank_is_another_program():
    class Any(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(2)(x)

    layer = FlaxLayer(Any(), seed=0)
    kernel_of = Any().init(jax.random.key(0), X)
    for shape in [(3, 4), (5, 4), (2, 7, 4), (2, 9, 4), (4,), (1, 1, 1, 4)]:
        x = jnp.ones(shape)
        np.testing.assert_allclose(
            layer(x), Any().apply(kernel_of, x), rtol=1e-5, atol=1e-6
        )


class NeedsMask(nn.Module):
    """Its mask has no default."""

    @nn.compact
    def __call__(self, x, mask):
        return x if mask is None else x * mask[..., None]


def test_a_mask_that_is_required_is_none_where_there_is_none():
    x = np.ones((2, 4, 3), np.float32)
    layer = FlaxLayer(NeedsMask())
    np.testing.assert_array_equal(layer(x), x)
    mask = np.array([[1, 0, 0, 1]] * 2, bool)
    expected = x * mask[..., None]
    np.testing.assert_array_equal(layer(x, mask=mask), expected)
    np.testing.assert_array_equal(layer(x, mask), expected)


# Modes by position, by name, and under names of their own.


class Switched(nn.Module):
    @nn.compact
    def __call__(self, x, mask=None, train=False):
        x = nn.Dense(2)(x)
        return x * 2 if train else x  # Fails on a traced boolean.


@pytest.mark.parametrize(
    "transformed",
    [
        nn.remat(Switched, static_argnums=(3,)),
        nn.jit(Switched, static_argnums=(3,)),
        nn.jit(Switched, static_argnames=("train",)),
    ],
)
def test_a_transformation_may_make_the_mode_static(transformed):
    layer = FlaxLayer(transformed(), seed=0)
    inference, training = layer(X), layer(X, training=True)
    plain = jax.jit(Switched().apply)(layer.get_layer_variables(), X)
    np.testing.assert_array_equal(inference, plain)
    np.testing.assert_array_equal(training, inference * 2)
    np.testing.assert_array_equal(layer(X), inference)
    model = compiled(keras.Sequential([layer]))
    assert np.isfinite(fit(model).history["loss"]).all()


def test_another_error_of_a_trace_is_the_one_to_see():
    class Branching(nn.Module):
        def __call__(self, x, train=False):
            return x if x.sum() > 0 else -x

    with pytest.raises(
        TypeError, match="'probe'.*boolean conversion of traced"
    ):
        FlaxLayer(Branching(), name="probe")(X)


def test_all_inputs_may_go_by_name():
    class Named(nn.Module):
        @nn.compact
        def __call__(self, *, inputs, train, scale=1.0):
            return nn.Dense(2)(inputs) * (2.0 if train else 1.0) * scale

    layer = FlaxLayer(Named(), seed=0)
    outputs = layer(X)
    np.testing.assert_array_equal(layer(inputs=X), outputs)
    np.testing.assert_array_equal(layer(X, scale=np.float32(3)), outputs * 3)
    np.testing.assert_array_equal(layer(X, training=True), outputs * 2)
    model = compiled(keras.Sequential([layer]))
    assert np.isfinite(fit(model).history["loss"]).all()


class EnableDropout(nn.Module):
    @nn.compact
    def __call__(self, x, enable_dropout: bool = True):
        return nn.Dropout(0.5, deterministic=not enable_dropout)(x)


def test_a_boolean_that_enables_dropout_is_the_mode():
    layer = FlaxLayer(EnableDropout())
    np.testing.assert_array_equal(layer(X), X)
    assert not np.array_equal(layer(X, training=True), X)


def test_a_missing_stream_is_first_taken_for_an_unknown_mode():
    class Noisy(nn.Module):
        @nn.compact
        def __call__(self, x, width: int = 3, noisy: bool = True, hard=False):
            return nn.Dropout(0.5, deterministic=not noisy)(x)

    with pytest.raises(ValueError, match="'probe'") as error:
        FlaxLayer(Noisy(), name="probe")(X)
    text = str(error.value)
    assert text.index("`noisy` or `hard`") < text.index("`rngs=`")
    assert '`training_argument="noisy"`' in text
    assert "which draws in prediction as well" in text
    layer = FlaxLayer(Noisy(), training_argument="noisy")
    np.testing.assert_array_equal(layer(X), X)
    assert not np.array_equal(layer(X, training=True), X)


def test_an_axis_that_nobody_binds_is_explained():
    class Normed(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            norm = nn.BatchNorm(not train, axis_name="batch", name="norm")
            return norm(nn.Dense(2)(x))

    model = compiled(keras.Sequential([FlaxLayer(Normed(), name="probe")]))
    with pytest.raises(
        ValueError, match="'probe': `norm`, a BatchNorm"
    ) as error:
        fit(model)
    assert "leave `axis_name=` out" in str(error.value)
    assert "batch" in str(error.value)


def test_another_missing_name_is_the_module_s_own():
    class Broken(nn.Module):
        def __call__(self, x):
            return no_such_name  # noqa: F821

    with pytest.raises(NameError, match="no_such_name"):
        FlaxLayer(Broken())(X)


@pytest.mark.parametrize("by_name", [False, True])
def test_a_typed_key_is_no_input(by_name):
    key = jax.random.key(0)
    layer = FlaxLayer(Two(), name="probe")
    with pytest.raises(TypeError, match="'probe'.*`jax.random.key_data") as e:
        layer(X, y=key) if by_name else layer(key, X)
    assert "`rngs=`" in str(e.value)
    assert not layer.built


class Two(nn.Module):
    def __call__(self, x, y):
        return x + jax.random.normal(jax.random.wrap_key_data(y), x.shape)


def test_the_data_of_a_key_is_an_input():
    key = jax.random.key(3)
    outputs = FlaxLayer(Two())(X, jax.random.key_data(key))
    expected = X + jax.random.normal(key, X.shape)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5)
