"""What Keras does not promise: each test names what went away."""

import jax
import keras
import numpy as np

from flaxlayer import keras_compat


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
