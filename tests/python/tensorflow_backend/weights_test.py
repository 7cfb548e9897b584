"""Weights on this backend: made, read, set, saved, and what is refused."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
import tensorflow as tf

import flaxlayer
from tests.python.tensorflow_backend import cases


def trained(**kwargs):
    layer = cases.normalised(seed=7, **kwargs)
    for _ in range(2):
        layer(cases.VECTORS, training=True)
    return layer


def assert_same(ours, theirs):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(
        jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True
    ):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_initial_weights_are_those_of_stock_jax():
    layer = cases.normalised(seed=7)
    layer(cases.VECTORS)
    expected = cases.Normalised().init(jax.random.key(7), cases.VECTORS)
    assert_same(
        layer.get_layer_variables(),
        {k: expected[k] for k in ("params", "batch_stats")},
    )


def test_variables_are_named_by_their_paths():
    layer = trained()
    assert "layer/params/Dense_0/kernel" in {v.path for v in layer.weights}
    assert all(isinstance(v.value, tf.Variable) for v in layer.weights)


def test_they_are_read_as_arrays_of_jax_and_set_again():
    layer, other = trained(), cases.normalised(seed=8)
    values = layer.get_layer_variables()
    assert all(isinstance(x, jax.Array) for x in jax.tree.leaves(values))
    kept = jax.tree.map(lambda x: np.array(x, copy=True), values)
    # Copies: a call does not change what was read.
    layer(cases.VECTORS, training=True)
    assert_same(values, kept)
    other(cases.VECTORS)
    other.set_layer_variables(values)
    assert_same(other.get_layer_variables(), kept)
    # Nor does it change what was set.
    other(cases.VECTORS, training=True)
    assert_same(values, kept)
    tensors = jax.tree.map(tf.constant, kept)
    other.set_layer_variables(tensors)
    assert_same(other.get_layer_variables(), kept)
    other.set_weights(layer.get_weights())
    assert_same(other.get_layer_variables(), layer.get_layer_variables())
    wrong = jax.tree.map(lambda x: x[None], kept)
    with pytest.raises(ValueError, match="expected shape"):
        other.set_layer_variables(wrong)


def test_given_arrays_are_copied():
    for given in (
        np.ones(2, "float32"),
        jnp.ones(2),
        tf.ones(2),
        tf.Variable([1.0, 1.0]),
        keras.Variable([1.0, 1.0]),
    ):
        layer = flaxlayer.JaxLayer(
            lambda params, inputs: inputs * params, params=given
        )
        (variable,) = layer.trainable_variables
        variable.assign_add([1.0, 1.0])
        assert layer(np.ones(2, "float32")).numpy().tolist() == [2, 2]
        assert np.asarray(given).tolist() == [1, 1]


def test_state_of_any_dtype_is_kept():
    dtypes = ("bool", "int8", "uint32", "bfloat16", "float16", "complex64")
    state = {dtype: jnp.ones(2, dtype) for dtype in dtypes}
    state["key"] = jax.random.key(3)
    state["name"] = "a static leaf"

    def call_fn(state, inputs):
        key, noise = jax.random.split(state["key"])
        return inputs + jax.random.normal(noise), {**state, "key": key}

    layer = flaxlayer.JaxLayer(call_fn, state=state)
    first, second = layer(np.ones(2, "float32")), layer(np.ones(2, "float32"))
    assert not np.allclose(first, second)
    found = layer.get_layer_variables()["state"]
    assert found["name"] == "a static leaf"
    for dtype in dtypes:
        assert found[dtype].dtype == dtype
    key = jax.random.split(jax.random.split(jax.random.key(3))[0])[0]
    assert_same(jax.random.key_data(found["key"]), jax.random.key_data(key))


def test_a_guarded_state_keeps_what_is_finite():
    layer = cases.normalised(seed=7, nonfinite_state="keep")
    layer(cases.VECTORS)
    before = layer.get_layer_variables()["batch_stats"]
    layer(cases.VECTORS * np.inf, training=True)
    assert_same(layer.get_layer_variables()["batch_stats"], before)
    layer(cases.VECTORS, training=True)
    after = layer.get_layer_variables()["batch_stats"]
    assert not np.allclose(
        after["BatchNorm_0"]["mean"], before["BatchNorm_0"]["mean"]
    )


@pytest.mark.parametrize("ending", ["", ".msgpack", ".safetensors"])
def test_checkpoints_are_those_of_flax(ending, tmp_path):
    layer, other = trained(), cases.normalised(seed=8)
    other(cases.VECTORS)
    flaxlayer.save_variables(layer, tmp_path / f"weights{ending}")
    flaxlayer.load_variables(other, tmp_path / f"weights{ending}")
    assert_same(other.get_layer_variables(), layer.get_layer_variables())


def test_files_are_written_as_a_whole(tmp_path):
    model, _, inputs = cases.built("dropout")
    flaxlayer.save_model(model, tmp_path / "model.keras")
    loaded = flaxlayer.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        model.predict(inputs, verbose=0), loaded.predict(inputs, verbose=0)
    )
    checkpoint = flaxlayer.ModelCheckpoint(tmp_path / "best.keras")
    model.fit(inputs, cases.LABELS, verbose=0, callbacks=[checkpoint])
    loaded = keras.saving.load_model(tmp_path / "best.keras")
    np.testing.assert_array_equal(
        model.predict(inputs, verbose=0), loaded.predict(inputs, verbose=0)
    )


def test_files_of_keras_own_layer_are_read(tmp_path):
    peer = keras.layers.JaxLayer(
        cases.call_fn, cases.init_fn, native_serialization_platforms=("cpu",)
    )
    model = keras.Sequential([keras.Input((6,)), peer])
    model.save(tmp_path / "peer.keras")
    loaded = flaxlayer.load_model(tmp_path / "peer.keras")
    assert isinstance(loaded.layers[0], flaxlayer.JaxLayer)
    assert loaded.layers[0].native_serialization_platforms == ("cpu",)
    kernel, bias = (
        np.asarray(peer.params[name].value) for name in ("kernel", "bias")
    )
    np.testing.assert_allclose(
        loaded.predict(cases.VECTORS, verbose=0),
        cases.VECTORS @ kernel + bias,
        1e-5,
        1e-5,
    )


def test_a_saved_model_of_keras_is_run_by_tensorflow(tmp_path):
    model, _, inputs = cases.built("integers")
    model.export(tmp_path / "model", format="tf_saved_model", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "model")
    for size in (1, 7):
        np.testing.assert_allclose(
            loaded.serve(inputs[:size]),
            model.predict(inputs[:size], verbose=0),
            1e-5,
            1e-5,
        )


def test_backups_of_keras_go_on_with_a_run(tmp_path):
    def fit(model, epochs):
        backup = keras.callbacks.BackupAndRestore(
            tmp_path / "run", delete_checkpoint=False
        )
        model.fit(
            model_inputs,
            cases.LABELS,
            epochs=epochs,
            shuffle=False,
            verbose=0,
            callbacks=[backup],
        )

    model, _, model_inputs = cases.built("dropout")
    fit(model, 1)
    again, restored, _ = cases.built("dropout")
    fit(again, 2)
    whole, straight, _ = cases.built("dropout")
    whole.fit(model_inputs, cases.LABELS, epochs=2, shuffle=False, verbose=0)
    for key, value in cases.weights(straight).items():
        np.testing.assert_allclose(
            cases.weights(restored)[key], value, 1e-5, 1e-6, err_msg=key
        )


def test_backups_of_orbax_are_refused(tmp_path):
    model, _, inputs = cases.built("dropout")
    with pytest.raises(NotImplementedError, match="BackupAndRestore") as error:
        model.fit(
            inputs,
            cases.LABELS,
            verbose=0,
            callbacks=[flaxlayer.OrbaxBackup(tmp_path / "run")],
        )
    assert "tensorflow" in str(error.value)


def test_distributions_are_refused(monkeypatch):
    layer = cases.normalised(seed=7)
    # Keras before 3.15 has no distribution on this backend, and fails itself.
    monkeypatch.setattr(keras.distribution, "distribution", lambda: "one")
    with pytest.raises(ValueError, match="KERAS_BACKEND=jax") as error:
        layer.build((None, 6))
    assert "FlaxLayer 'layer'" in str(error.value)
    monkeypatch.undo()
    layer.build((None, 6))


def test_tables_list_them():
    text = str(flaxlayer.tabulate(trained()))
    assert "params/Dense_0/kernel" in text
    model, _, _ = cases.built("dropout")
    model.summary(expand_nested=True, print_fn=lambda line: None)


def test_metrics_are_shown_and_begin_anew():
    model, _, inputs = cases.built("dropout")
    model.compile("sgd", "mse")
    labels = np.zeros((30, 3), "float32")
    first = model.evaluate(inputs, labels, verbose=0, return_dict=True)
    second = model.evaluate(inputs, labels, verbose=0, return_dict=True)
    assert first == second
    assert first["layer/mean"] > 0


def test_nnx_modules_are_merged():
    model, results = cases.train("nnx")
    (layer,) = model.layers
    module = layer.merged()
    module.eval()
    np.testing.assert_allclose(
        module(cases.VECTORS), results["predictions"], 1e-5, 1e-5
    )


def test_a_layer_that_is_not_built_has_none():
    layer = flaxlayer.FlaxLayer(nn.Dense(2), name="empty")
    with pytest.raises(ValueError, match="'empty'"):
        layer.get_layer_variables()


def test_values_are_not_there_where_a_function_is_traced():
    layer = trained()
    read = []

    @tf.function
    def call(x):
        # Weights have values; a tensor of the graph has none.
        read.append(layer.get_layer_variables())
        return layer.set_layer_variables(
            jax.tree.map(lambda y: x[0, 0] * y, read[0])
        )

    with pytest.raises(ValueError, match="is traced"):
        call(cases.VECTORS)
    assert_same(read[0], layer.get_layer_variables())
