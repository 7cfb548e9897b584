"""What Keras does not promise: each test names what went away."""

import flax.linen as nn
import jax
import keras
import numpy as np
import pytest
from keras.src import backend
from keras.src.random import seed_generator
from keras.src.utils import summary_utils

from flaxlayer import keras_compat
from flaxlayer.weights import placed_initializer


def test_draw_seed_follows_the_global_seed_of_keras():
    keras.utils.clear_session()  # Older versions keep the global generator.
    keras.utils.set_random_seed(1)
    first, second = keras_compat.draw_seed(), keras_compat.draw_seed()
    assert first.dtype == np.uint32
    assert first.shape == (2,)
    assert not np.array_equal(first, second)
    keras.utils.clear_session()
    keras.utils.set_random_seed(1)
    np.testing.assert_array_equal(keras_compat.draw_seed(), first)


def test_draw_seed_draws_what_keras_would():
    drawn = []
    for draw in (
        keras_compat.draw_seed,
        lambda: seed_generator.draw_seed(None),
    ):
        keras.utils.clear_session()
        keras.utils.set_random_seed(2**31 - 1)
        drawn.append([np.asarray(draw()) for _ in range(5)])
    np.testing.assert_array_equal(*drawn)
    assert drawn[0][0].dtype == drawn[1][0].dtype


def test_draw_seed_compiles_nothing(caplog):
    keras_compat.draw_seed()
    jax.clear_caches()
    with jax.log_compiles():
        keras_compat.draw_seed()
    compiled = [r for r in caplog.messages if r.startswith("Compiling")]
    assert not compiled


def test_the_global_seed_is_what_the_next_key_is_made_of():
    for cleared in (True, False):
        if cleared:
            keras.utils.clear_session()
        state = np.array(keras_compat.global_seed(), copy=True)
        np.testing.assert_array_equal(keras_compat.global_seed(), state)
        np.testing.assert_array_equal(keras_compat.draw_seed(), state)
        assert not np.array_equal(keras_compat.global_seed(), state)


def test_nothing_is_distributed_for_a_while():
    mesh = keras.distribution.DeviceMesh(
        (1,), ("batch",), keras.distribution.list_devices()[:1]
    )
    distribution = keras.distribution.DataParallel(device_mesh=mesh)
    with distribution.scope():
        with keras_compat.no_distribution():
            assert keras.distribution.distribution() is None
        assert keras.distribution.distribution() is distribution


def test_draw_seed_gives_a_value_inside_a_trace():
    @jax.jit
    def traced(x):
        assert not isinstance(keras_compat.draw_seed(), jax.core.Tracer)
        return x

    traced(1.0)


def test_shape_inference_is_seen_inside_its_scopes():
    assert not keras_compat.in_shape_inference()
    with keras.StatelessScope(), keras.SymbolicScope():
        assert keras_compat.in_shape_inference()
    # Variables of a symbolic scope alone are not initialized again.
    with keras.SymbolicScope():
        assert not keras_compat.in_shape_inference()
    assert not keras_compat.in_shape_inference()


def test_shape_inference_is_seen_by_a_layer_keras_traces():
    seen = []

    class Probe(keras.layers.Layer):
        def call(self, inputs):
            seen.append(keras_compat.in_shape_inference())
            return inputs

    Probe()(keras.KerasTensor((None, 2)))
    assert set(seen) == {True}


def test_values_are_those_of_the_scopes_they_are_read_in():
    a, b = keras.Variable([1.0, 2.0]), keras.Variable([3], dtype="int32")
    assert keras_compat.values_of((a, b)) == [a._value, b._value]
    with keras.StatelessScope(state_mapping=[(a, keras.ops.zeros(2))]):
        assert keras_compat.values_of((a, b)) == [a.value, b._value]
        assert a.value is not a._value
        later = keras.Variable("ones", shape=(2,))
        (value,) = keras_compat.values_of((later,))
        np.testing.assert_array_equal(value, np.ones(2))
    assert keras_compat.autocast_dtype() is None
    with backend.AutocastScope("float16"):
        assert keras_compat.autocast_dtype() == a.value.dtype == "float16"
        assert keras_compat.values_of((a, b)) == [a._value, b._value]
        with backend.AutocastScope(None):
            assert keras_compat.autocast_dtype() is None
    stateless = keras.StatelessScope(state_mapping=[(a, keras.ops.zeros(2))])
    with stateless, backend.AutocastScope("float16"):
        assert a.value.dtype == "float16"
        (value,) = keras_compat.values_of((a,))
        assert value.dtype == "float32"


def test_keras_has_nothing_to_do_outside_of_its_scopes():
    x, layer = keras.ops.ones((2, 3)), keras.layers.Activation("relu")
    assert not keras_compat.only_calls(layer, x)
    layer(x)
    assert keras_compat.only_calls(layer, x)
    distribution = keras.distribution.DataParallel(
        devices=keras.distribution.list_devices()[:1]
    )
    for scope in (
        keras.StatelessScope(),
        keras.SymbolicScope(),
        backend.AutocastScope("float16"),
        distribution.scope(),
    ):
        with scope:
            assert not keras_compat.only_calls(layer, x)
        assert keras_compat.only_calls(layer, x)
    seen = []

    class Outer(keras.layers.Layer):
        def call(self, x):
            seen.append(keras_compat.only_calls(layer, x))
            return x

    Outer()(x)
    assert seen == [False]
    with keras.RematScope():
        remade = keras.layers.Activation("relu")
        remade(x)
    assert not keras_compat.only_calls(remade, x)


def test_values_come_later_in_a_stateless_scope():
    assert not keras_compat.in_stateless_scope()
    with keras.StatelessScope():
        assert keras_compat.in_stateless_scope()


def test_safe_mode_is_on_unless_the_user_turns_it_off(tmp_path):
    seen = []

    @keras.saving.register_keras_serializable("safe_mode_probe")
    class Probe(keras.layers.Layer):
        @classmethod
        def from_config(cls, config):
            seen.append(keras_compat.in_safe_mode())
            return super().from_config(config)

    assert keras_compat.in_safe_mode()
    config = keras.saving.serialize_keras_object(Probe())
    for safe_mode in (True, False):
        keras.saving.deserialize_keras_object(config, safe_mode=safe_mode)
    assert seen == [True, False]


def test_variables_of_shape_inference_get_their_values_after_it():
    # `Initialization` relies on it: zeros in the scope, values after it.
    asked = []

    def initialize(shape, dtype=None):
        asked.append(keras_compat.in_shape_inference())
        return np.ones(shape, dtype)

    with keras.StatelessScope(), keras.SymbolicScope():
        variable = keras.Variable(initialize, shape=(2,))
        assert variable.value.shape == (2,)
    np.testing.assert_array_equal(variable.value, [1.0, 1.0])
    assert asked == [True, False]


def test_variables_hold_other_values_for_a_while():
    layer = keras.layers.Dense(3)
    layer.build((None, 2))
    before = [np.array(v.value, copy=True) for v in layer.variables]
    values = [np.full(v.shape, 5.0, v.dtype) for v in layer.variables]
    with keras_compat.holding(layer.variables, values):
        for variable, value in zip(layer.variables, values, strict=True):
            assert variable.value is value
    for variable, value in zip(layer.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_flattened_layers_are_those_in_wrappers_and_models():
    dense = keras.layers.Dense(2)
    wrapper = keras.layers.TimeDistributed(dense)
    model = keras.Sequential([wrapper, keras.Sequential([dense])])
    layers = keras_compat.flattened_layers(model)
    assert layers[0] is model
    assert sum(layer is wrapper for layer in layers) == 1
    assert sum(layer is dense for layer in layers) == 1
    assert keras_compat.flattened_layers(dense) == [dense]


@pytest.fixture
def layouts():
    """The layout map of a distribution that is set, over one device."""
    mesh = keras.distribution.DeviceMesh((1,), ("model",), jax.devices()[:1])
    layouts = keras.distribution.LayoutMap(mesh)
    distribution = keras.distribution.ModelParallel(layout_map=layouts)
    with distribution.scope():
        yield layouts


def test_a_variable_that_came_first_is_laid_out_as_one_that_is_made(layouts):
    layouts["here/.*"] = ("model",)
    distribution = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    with keras.name_scope("here"):
        first = keras.Variable(np.ones(2, "float32"), name="first")
    keras.distribution.set_distribution(distribution)
    with keras.name_scope("here"):
        second = keras.Variable(np.ones(2, "float32"), name="second")
    with keras.StatelessScope():  # As where Keras builds models in `fit`.
        keras_compat.lay_out(first, placed_initializer.placed)
    assert first._layout == second._layout
    assert "'model'" in str(first._layout)
    assert first.value.sharding == second.value.sharding
    np.testing.assert_array_equal(first, second)


def test_the_path_of_a_variable_is_known_before_it_is_made():
    with keras.name_scope("one"), keras.name_scope("two"):
        path = keras_compat.path_here("three/four")
        with keras.name_scope("three"):
            assert keras.Variable(0.0, name="four").path == path
    assert path == "one/two/three/four"
    assert keras_compat.path_here("three") == "three"


def test_the_patterns_of_a_distribution_can_be_read(layouts):
    layouts[".*kernel"] = ("model",)
    assert keras_compat.layout_patterns() == [".*kernel"]
    data_parallel = keras.distribution.DataParallel(
        device_mesh=layouts.device_mesh
    )
    with data_parallel.scope():
        assert keras_compat.layout_patterns() == []
    keras.distribution.set_distribution(None)
    assert keras_compat.layout_patterns() == []


def test_masks_are_taken_off_outputs_that_they_do_not_fit():
    x = keras.KerasTensor((None, 7, 3))
    mask = keras.KerasTensor((None, None), "bool")
    x._keras_mask = mask
    keras_compat.drop_unfit_masks({"x": x})
    assert keras_compat.mask_of(x) is mask
    logits = keras.KerasTensor((None, 5))
    logits._keras_mask = mask
    keras_compat.drop_unfit_masks([logits])
    assert keras_compat.mask_of(logits) is None


class StartAt(keras.callbacks.Callback):
    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_train_begin(self, logs=None):
        keras_compat.start_at_epoch(self.model, self.epoch)


def test_arguments_that_were_not_given_are_left_out_of_an_error():
    class Failing(keras.layers.Layer):
        def call(self, inputs, *args, training=False, **kwargs):
            raise ValueError("the problem")

    with pytest.raises(ValueError, match="the problem") as error:
        Failing()(np.ones(2))
    assert str(error.value).count("inspect._empty") == 2
    keras_compat.drop_missing_arguments(error.value)
    assert "inspect._empty" not in str(error.value)
    assert "args" not in str(error.value)
    assert "• training=" in str(error.value)
    for other in (ValueError(), ValueError(3), KeyError("a")):
        before = other.args
        keras_compat.drop_missing_arguments(other)
        assert other.args == before


def test_a_fit_can_be_made_to_start_later():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x = np.ones((2, 1))

    def epochs(start):
        return model.fit(
            x, x, epochs=4, verbose=0, callbacks=[StartAt(start)]
        ).epoch

    assert epochs(2) == [2, 3]
    assert epochs(None) == [0, 1, 2, 3]


def test_keras_own_layer_can_be_used_beside_ours():
    layer = keras_compat.peer_flax_layer()
    assert layer is keras.layers.FlaxLayer
    model = keras.Sequential([keras.Input((3,)), layer(nn.Dense(2))])
    assert model(np.ones((1, 3))).shape == (1, 2)


def test_an_unknown_output_is_a_question_mark_in_a_summary():
    operation = keras.Operation()
    keras_compat.show_unknown_output(operation)
    assert summary_utils.format_layer_shape(operation) == "?"
