"""Calls of a layer on tensors: shapes, dtypes, masks, modes."""

import traceback

import flax.linen as nn
import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
import tensorflow as tf

import flaxlayer
from tests.python.tensorflow_backend import cases

RNG = np.random.RandomState(3)


class Masked(nn.Module):
    """Uses a mask and keeps the steps of its input."""

    @nn.compact
    def __call__(self, x, mask=None):
        if mask is not None:
            x = jnp.where(mask[..., None], x, 0)
        return nn.Dense(4)(x)


class Sum(nn.Module):
    """Takes two inputs of the same sizes."""

    @nn.compact
    def __call__(self, x, other):
        return nn.Dense(2)(x + other)


def test_this_is_the_tensorflow_backend():
    assert keras.backend.backend() == "tensorflow"


def test_outputs_are_those_of_the_module():
    layer = cases.normalised(seed=7)
    outputs = layer(cases.VECTORS)
    assert isinstance(outputs, tf.Tensor)
    expected = layer.module.apply(layer.get_layer_variables(), cases.VECTORS)
    np.testing.assert_allclose(outputs, expected, 1e-6, 1e-6)


def test_a_function_with_autograph_is_the_same():
    layer = cases.normalised(seed=7)
    other = cases.normalised(seed=7)

    @tf.function
    def call(x):
        return layer(x, training=True)

    for _ in range(3):
        traced = call(cases.VECTORS)
        np.testing.assert_allclose(
            traced, other(cases.VECTORS, training=True), 1e-6, 1e-6
        )
    for a, b in zip(layer.variables, other.variables, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), 1e-6, 1e-6)
    assert layer.seed_generator.state.numpy()[1] == 3
    # Keys differ from call to call.
    assert not np.allclose(traced, call(cases.VECTORS))


def test_autograph_rewrites_nothing_of_it():
    rewritten = set()

    def call_fn(inputs):
        rewritten.update(
            frame.name.removeprefix("tf__")
            for frame in traceback.extract_stack()
            if "__autograph_generated" in frame.filename
        )
        return inputs

    layer = flaxlayer.JaxLayer(call_fn)
    layer.build((2,))
    wrapped = keras.layers.TimeDistributed(layer)

    @tf.function
    def call(x):
        return layer(x), wrapped(x[None, None])

    call(np.ones(2, "float32"))
    # This function is, and a wrapper of AutoGraph's own.
    assert "call" in rewritten
    assert rewritten <= {"call", "wrapper"}


def test_it_is_traced_once_for_each_mode_and_shape():
    traces = []

    def call_fn(inputs, training):
        traces.append(inputs.shape)
        return inputs * (2.0 if training else 1.0)

    layer = flaxlayer.JaxLayer(call_fn)
    for _ in range(3):
        for training in (False, True):
            layer(np.ones((2, 3), "float32"), training=training)
    # Once more for each by Keras's own inference of shapes or ours, at most.
    assert traces.count((2, 3)) == 2


def test_unknown_sizes_are_traced_once():
    layer = flaxlayer.FlaxLayer(cases.Attention(), seed=0)
    tokens = cases.TOKENS
    layer(tokens)

    @tf.function(input_signature=[tf.TensorSpec((None, None), tf.int32)])
    def call(ids):
        return layer(ids)

    for ids in (tokens, tokens[:3], tokens[:1, :2], tokens[:2, :1]):
        np.testing.assert_allclose(call(ids), layer(ids), 1e-5, 1e-5)
    assert call.experimental_get_tracing_count() == 1


def test_unknown_sizes_of_a_mask_are_those_of_its_input():
    layer = flaxlayer.FlaxLayer(Masked(), seed=0)
    x = RNG.randn(3, 5, 2).astype("float32")
    mask = np.arange(5) < np.array([[2], [5], [1]])
    expected = layer(x, mask=mask)

    @tf.function(
        input_signature=[
            tf.TensorSpec((None, None, 2), tf.float32),
            tf.TensorSpec((None, None), tf.bool),
        ]
    )
    def call(x, mask):
        return layer(x, mask=mask)

    np.testing.assert_allclose(call(x, mask), expected, 1e-6, 1e-6)
    assert call(x[:2, :4], mask[:2, :4]).shape == (2, 4, 4)
    # Sizes that are to be the same are compared when it runs.
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"\(4\).*\(5\)"):
        call(x, mask[:, :4])


def test_a_mask_leaves_other_sizes_to_others():
    class Pair(nn.Module):
        @nn.compact
        def __call__(self, x, other, mask):
            x = jnp.where(mask[..., None], x, 0)
            return jnp.einsum("bik,bjk->bij", nn.Dense(2)(x), other)

    layer = flaxlayer.FlaxLayer(Pair(), seed=0)
    a, b = (RNG.randn(2, n, 2).astype("float32") for n in (3, 5))
    mask = np.array([[True, True, False], [True, False, False]])
    expected = layer(a, b, mask=mask)
    spec = tf.TensorSpec((None, None, 2), tf.float32)

    @tf.function(
        input_signature=[spec, spec, tf.TensorSpec((None, None), tf.bool)]
    )
    def call(a, b, mask):
        return layer(a, b, mask=mask)

    np.testing.assert_allclose(call(a, b, mask), expected, 1e-5, 1e-5)


def test_sizes_that_a_model_needs_to_be_equal_are():
    layer = flaxlayer.FlaxLayer(Sum(), seed=0)
    a, b = RNG.randn(2, 3, 5, 2).astype("float32")
    expected = layer(a, b)
    spec = tf.TensorSpec((None, None, 2), tf.float32)

    @tf.function(input_signature=[spec, spec])
    def call(a, b):
        return layer(a, b)

    np.testing.assert_allclose(call(a, b), expected, 1e-6, 1e-6)


def test_sizes_of_two_inputs_may_differ():
    def call_fn(inputs):
        a, b = inputs
        return jnp.einsum("bik,bjk->bij", a, b)

    layer = flaxlayer.JaxLayer(call_fn)
    a = RNG.randn(2, 3, 4).astype("float32")
    b = RNG.randn(2, 5, 4).astype("float32")
    spec = tf.TensorSpec((None, None, 4), tf.float32)

    @tf.function(input_signature=[(spec, spec)])
    def call(inputs):
        return layer(inputs)

    np.testing.assert_allclose(
        call((a, b)), np.einsum("bik,bjk->bij", a, b), 1e-5, 1e-5
    )


def test_a_model_that_needs_known_sizes_says_so():
    def call_fn(inputs):
        return sum(inputs[:, i] for i in range(inputs.shape[1]))

    layer = flaxlayer.JaxLayer(call_fn, name="loop")

    @tf.function(input_signature=[tf.TensorSpec((None, None), tf.float32)])
    def call(x):
        return layer(x)

    with pytest.raises(ValueError, match="without knowing the sizes") as error:
        call(np.ones((2, 3), "float32"))
    assert "JaxLayer 'loop'" in str(error.value)
    assert "(None, None)" in str(error.value)
    assert "drop_remainder" in str(error.value)
    # It is called where they are known.
    assert layer(np.ones((2, 3), "float32")).numpy().tolist() == [3, 3]


def test_an_error_of_the_model_is_the_models_own():
    def call_fn(inputs):
        raise LookupError("mine")

    layer = flaxlayer.JaxLayer(call_fn)
    spec = tf.TensorSpec((None, 2), tf.float32)
    function = tf.function(layer, input_signature=[spec], autograph=False)
    with pytest.raises(LookupError, match="mine"):
        function(np.ones((2, 2), "float32"))


def test_an_unknown_rank_is_reported():
    layer = flaxlayer.JaxLayer(lambda inputs: inputs)
    layer(np.ones((2, 2), "float32"))

    @tf.function(input_signature=[tf.TensorSpec(None, tf.float32)])
    def call(x):
        return layer(x)

    with pytest.raises(ValueError, match="rank"):
        call(np.ones((2, 2), "float32"))


def test_64_bits_are_those_that_jax_has():
    layer = flaxlayer.FlaxLayer(cases.Attention(), seed=0)
    tokens = tf.constant(cases.TOKENS, tf.int64)
    np.testing.assert_array_equal(layer(tokens), layer(cases.TOKENS))
    seen = []

    def call_fn(inputs):
        seen.append({k: str(x.dtype) for k, x in inputs.items()})
        return inputs["a"]

    flaxlayer.JaxLayer(call_fn, autocast=False)(
        {
            "a": tf.zeros(2, tf.float64),
            "b": tf.zeros(2, tf.int64),
            "c": tf.zeros(2, tf.bfloat16),
            "d": tf.zeros(2, tf.bool),
            "e": tf.zeros(2, tf.uint8),
        }
    )
    assert seen[-1] == {
        "a": "float32",
        "b": "int32",
        "c": "bfloat16",
        "d": "bool",
        "e": "uint8",
    }


def test_arrays_of_jax_and_keras_are_inputs():
    layer = flaxlayer.JaxLayer(lambda inputs: 2 * inputs)
    for x in (jnp.ones(2), np.ones(2, "float32"), keras.ops.ones(2)):
        assert layer(x).numpy().tolist() == [2, 2]


def test_structures_go_in_and_out():
    def call_fn(inputs):
        return {"sum": inputs["a"] + inputs["b"][0], "n": 3, "rest": [(), None]}

    layer = flaxlayer.JaxLayer(call_fn)
    outputs = layer({"a": np.ones(2, "float32"), "b": [np.ones(2, "float32")]})
    assert outputs["sum"].numpy().tolist() == [2, 2]
    assert outputs["n"].numpy() == 3
    assert outputs["rest"] == [(), None]


def test_a_mask_of_keras_is_used_and_handed_on():
    ids = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(12, 3, mask_zero=True)(ids)
    layer = flaxlayer.FlaxLayer(Masked(), seed=0)
    steps = layer(x)
    model = keras.Model(ids, [steps, keras.layers.LSTM(2)(steps)])
    tokens = np.array([[3, 4, 0], [1, 0, 0]], "int32")
    masked, last = model.predict(tokens, verbose=0)
    shorter, same = model.predict(tokens[1:, :1], verbose=0)
    bias = np.asarray(layer.get_layer_variables()["params"]["Dense_0"]["bias"])
    np.testing.assert_allclose(masked[1, 1:], np.tile(bias, (2, 1)))
    np.testing.assert_allclose(last[1:], same, 1e-5, 1e-5)
    np.testing.assert_allclose(masked[1:, :1], shorter, 1e-5, 1e-5)


def test_symbolic_inputs_have_shapes_without_being_called():
    inputs = keras.Input((None, 2))
    outputs = flaxlayer.FlaxLayer(Masked(), seed=0)(inputs)
    assert outputs.shape == (None, None, 4)
    assert outputs.dtype == "float32"


def test_it_is_built_inside_a_function():
    layer = cases.normalised(seed=7)
    other = cases.normalised(seed=7)

    @tf.function
    def call(x):
        return layer(x)

    np.testing.assert_allclose(
        call(cases.VECTORS), other(cases.VECTORS), 1e-6, 1e-6
    )
    assert len(layer.weights) == len(other.weights)


@pytest.mark.parametrize("seed", [None, np.array([3, 5], "uint32")])
def test_it_is_made_inside_a_function(seed):
    keras.utils.set_random_seed(0)
    other = cases.normalised(seed=seed)
    expected = [other(cases.VECTORS, training=True) for _ in range(2)]
    keras.utils.set_random_seed(0)
    made = []

    @tf.function
    def call(x):
        if not made:
            made.append(cases.normalised(seed=seed))
        return made[0](x, training=True)

    # Its seed is made once, and goes on from call to call.
    received = [call(cases.VECTORS) for _ in range(2)]
    np.testing.assert_allclose(received, expected, 1e-5, 1e-5)


def test_xla_compiles_it_with_what_is_around():
    layer = cases.normalised(seed=7)
    layer(cases.VECTORS)

    @tf.function(jit_compile=True)
    def call(x):
        return tf.reduce_sum(layer(tf.abs(x)) ** 2)

    expected = tf.reduce_sum(layer(tf.abs(cases.VECTORS)) ** 2)
    np.testing.assert_allclose(call(cases.VECTORS), expected, 1e-5)


def test_the_mode_has_to_be_known():
    layer = cases.normalised(seed=7)
    layer(cases.VECTORS)
    # A tensor that has a value is one.
    layer(cases.VECTORS, training=tf.constant(True))
    assert layer.seed_generator.state.numpy()[1] == 1

    @tf.function
    def call(training):
        return layer(cases.VECTORS, training=training)

    with pytest.raises(TypeError, match="`training` must be known"):
        call(tf.constant(True))


@pytest.mark.parametrize(
    ("make", "way_out"),
    [
        (lambda: tf.ragged.constant([[1.0], [2.0, 3.0]]), "to_tensor"),
        (lambda: tf.sparse.from_dense([[1.0, 0.0]]), "tf.sparse.to_dense"),
    ],
    ids=["ragged", "sparse"],
)
def test_what_jax_has_no_arrays_for_is_refused(make, way_out):
    layer = flaxlayer.JaxLayer(lambda inputs: inputs, name="dense")
    with pytest.raises(TypeError, match=way_out) as error:
        layer(make())
    assert "JaxLayer 'dense'" in str(error.value)


def test_platforms_are_those_asked_for():
    layer = flaxlayer.JaxLayer(
        cases.doubled, native_serialization_platforms=["cpu", "cuda", "tpu"]
    )
    function = tf.function(layer)
    x = tf.ones(2)
    assert function(x).numpy().tolist() == [2, 2]
    (operation,) = [
        op
        for op in function.get_concrete_function(x).graph.get_operations()
        if op.type == "XlaCallModule"
    ]
    assert operation.get_attr("platforms") == [b"CPU", b"CUDA", b"TPU"]
    config = layer.get_config()
    assert config["native_serialization_platforms"] == ["cpu", "cuda", "tpu"]
    absent = flaxlayer.JaxLayer(
        lambda inputs: inputs, native_serialization_platforms=("tpu",)
    )
    with pytest.raises(tf.errors.NotFoundError, match="TPU"):
        absent(x)


def test_kernels_are_the_references():
    report = flaxlayer.explain_kernels()
    assert {op.kernel for op in report.ops.values()} == {"reference"}
    assert all("tensorflow" in op.reason for op in report.ops.values())
    layer = cases.normalised(seed=7, kernels="native")
    with pytest.raises(RuntimeError, match="KERAS_BACKEND=jax"):
        layer(cases.VECTORS)


def test_intermediates_are_read():
    layer = flaxlayer.FlaxLayer(Masked(), seed=0)
    x = RNG.randn(2, 3, 2).astype("float32")
    outputs, found = layer.apply_with_intermediates(x, capture_all=True)
    (dense,) = found["Dense_0"]["__call__"]
    np.testing.assert_allclose(dense, outputs)


def test_wrappers_call_it():
    layer = keras.layers.TimeDistributed(flaxlayer.FlaxLayer(Masked(), seed=0))
    x = RNG.randn(2, 3, 5).astype("float32")
    dense = layer.layer.get_layer_variables
    outputs = layer(x)
    expected = layer.layer.module.apply(dense(), x)
    np.testing.assert_allclose(outputs, expected, 1e-5, 1e-5)


def test_outputs_with_unknown_sizes_compute_on():
    def call_fn(inputs):
        return inputs.reshape(-1), jax.nn.relu(inputs)

    layer = flaxlayer.JaxLayer(call_fn)

    @tf.function(input_signature=[tf.TensorSpec((None, 3), tf.float32)])
    def call(x):
        flat, same = layer(x)
        return tf.reshape(flat, tf.shape(same)) - same

    assert call(np.ones((4, 3), "float32")).shape == (4, 3)


def test_a_layer_has_operations_that_jax_writes_too_new():
    # TensorFlow 2.20 does not read this one as JAX 0.10 writes it.
    layer = flaxlayer.JaxLayer(lambda inputs: jax.lax.top_k(inputs, 2)[0])
    x = tf.constant([3.0, 1.0, 2.0])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
    assert y.numpy().tolist() == [3, 2]
    assert tape.gradient(y, x).numpy().tolist() == [1, 0, 1]


def test_exports_are_for_the_other_backend(tmp_path):
    layer = flaxlayer.FlaxLayer(nn.Dense(2))
    layer(np.ones((1, 3), "float32"))
    with pytest.raises(RuntimeError, match="needs the JAX backend of Keras"):
        flaxlayer.export(layer, tmp_path / "m")
    assert list(tmp_path.iterdir()) == []
