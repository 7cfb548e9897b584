"""Initialisers run for shapes at once, and for values when they are wanted."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from flaxlayer.weights import initialization

KEY_SPEC = jax.ShapeDtypeStruct((2,), np.uint32)


class Keys:
    """Hands out a key and counts how often it is asked."""

    def __init__(self):
        self.drawn = 0

    def __call__(self):
        self.drawn += 1
        return jax.random.PRNGKey(0)


def initialize(init_fn, shape=(None, 3), dtype="float32", keys=None):
    return initialization.Initialization(
        init_fn,
        KEY_SPEC,
        keys or Keys(),
        keras.KerasTensor(shape, dtype=dtype),
    )


def dense(key, inputs):
    return {"w": jax.random.normal(key, (inputs.shape[-1], 2)), "act": "relu"}


def shapes(init):
    return [leaf.spec.shape for leaf in init.leaves if leaf.is_array]


def test_shapes_are_known_before_any_key_is_drawn():
    keys = Keys()
    init = initialize(dense, keys=keys)
    assert shapes(init) == [(3, 2)]
    assert keys.drawn == 0
    assert all(leaf.value is None for leaf in init.leaves if leaf.is_array)


def test_values_are_those_of_the_initialiser_run_as_it_is():
    expected = dense(jax.random.PRNGKey(0), jnp.ones((1, 3)))["w"]
    (value,) = initialize(dense).values()
    np.testing.assert_array_equal(value, expected)


def test_values_are_computed_once():
    keys = Keys()
    init = initialize(dense, keys=keys)
    assert init.values() is init.values()
    init.initializer(("w",))((3, 2), "float32")
    assert keys.drawn == 1


@pytest.mark.parametrize("with_numpy", [False, True])
def test_arrays_of_the_initialiser_outlive_a_donation(with_numpy):
    table = jnp.arange(6.0).reshape(3, 2)

    def init_fn(key, inputs):
        if with_numpy:
            np.asarray(key)
        return {"w": table, "again": table}

    init = initialize(init_fn)
    for name in ("w", "again"):
        value = init.initializer((name,))((3, 2), "float32")
        jax.jit(lambda x: x + 1, donate_argnums=0)(value)
        assert value.is_deleted()
    assert not table.is_deleted()


def test_static_leaves_are_described_with_their_value():
    static = [leaf for leaf in initialize(dense).leaves if not leaf.is_array]
    assert [leaf.value for leaf in static] == ["relu"]


def test_the_structure_is_that_of_the_result():
    init = initialize(lambda key, x: [jnp.ones(2), (jnp.ones(3),)])
    assert init.treedef.unflatten([1, 2]) == [1, (2,)]


def test_the_forward_pass_is_not_run():
    ran = []

    def note(y):
        ran.append(y)
        return y

    def init_fn(key, inputs):
        w = jax.random.normal(key, (3, 2))
        # No weight depends on it, as on the outputs of a module's `init`.
        jax.pure_callback(note, inputs, inputs)
        return w

    initialize(init_fn, (4, 3)).values()
    jax.effects_barrier()
    assert ran == []


def test_weights_may_depend_on_the_values_of_the_placeholders():
    init = initialize(lambda key, x: jnp.cos(x).sum(0), (4, 3))
    (value,) = init.values()
    np.testing.assert_allclose(value, 4 * np.cos(np.ones(3)), rtol=1e-6)


def test_an_unknown_batch_is_one_row_of_placeholders():
    init = initialize(lambda key, x: x.sum(0), (None, 3))
    np.testing.assert_array_equal(init.values()[0], np.ones(3))


def test_placeholders_have_the_dtype_of_the_inputs():
    def embed(key, ids):
        table = jax.random.normal(key, (5, 2))
        assert jnp.issubdtype(ids.dtype, jnp.integer)
        return table + 0 * table[ids].sum()

    assert shapes(initialize(embed, (None,), "int32")) == [(5, 2)]


def test_a_weight_that_needs_an_unknown_dimension_is_named():
    def init_fn(key, inputs):
        return {"positions": jnp.zeros((inputs.shape[1], 2)), "b": jnp.ones(1)}

    with pytest.raises(
        initialization.UnknownDimensions, match="`positions`"
    ) as error:
        initialize(init_fn, (None, None, 3))
    assert "`b`" not in str(error.value)
    assert "[None, None, 3]" in str(error.value)


def test_an_initialiser_that_counts_its_batch_gets_one_row():
    def init_fn(key, inputs):
        rows = [inputs[i] for i in range(inputs.shape[0])]
        return jnp.stack(rows).sum(0)

    assert shapes(initialize(init_fn)) == [(3,)]


def test_an_unknown_height_is_large_enough_to_be_halved():
    def init_fn(key, inputs):
        halved = inputs[:, ::2][:, : inputs.shape[1] // 2]
        doubled = jnp.repeat(halved, 2, axis=1)
        return jax.random.normal(key, (inputs.shape[-1], 2)), 0 * jnp.max(
            doubled + inputs
        )

    init = initialize(init_fn, (None, None, 3))
    assert shapes(init) == [(3, 2), ()]
    expected = jax.random.normal(jax.random.PRNGKey(0), (3, 2))
    np.testing.assert_array_equal(init.values()[0], expected)


def test_a_weight_that_needs_a_height_that_is_halved_is_named():
    def init_fn(key, inputs):
        doubled = jnp.repeat(inputs[:, : inputs.shape[1] // 2], 2, axis=1)
        joined = jnp.concatenate([doubled, inputs], axis=-1)
        return {"positions": jnp.zeros(joined.shape[1:])}

    with pytest.raises(
        initialization.UnknownDimensions, match="`positions`.* depends"
    ):
        initialize(init_fn, (None, None, 3))


def test_an_initialiser_in_numpy_is_run_as_it_is():
    def init_fn(key, inputs):
        seed = int(np.asarray(key)[-1])
        generator = np.random.default_rng(seed)
        return {"w": generator.normal(size=(inputs.shape[-1], 2))}

    init = initialize(init_fn)
    assert shapes(init) == [(3, 2)]
    expected = np.random.default_rng(0).normal(size=(3, 2))
    np.testing.assert_allclose(init.values()[0], expected, rtol=1e-6)


def test_the_error_of_a_broken_initialiser_is_shown():
    def init_fn(key, inputs):
        raise RuntimeError("broken initialiser")

    with pytest.raises(RuntimeError, match="broken initialiser"):
        initialize(init_fn)


def test_values_are_concrete_inside_a_trace():
    init = initialize(dense)

    @jax.jit
    def traced(x):
        value = init.initializer(("w",))((3, 2), "float32")
        assert not isinstance(value, jax.core.Tracer)
        return x + value.sum()

    expected = init.values()[0].sum()
    np.testing.assert_allclose(traced(0.0), expected, rtol=1e-6)


def test_the_initializer_of_a_leaf_casts_to_the_dtype_asked_for():
    value = initialize(dense).initializer(("w",))((3, 2), "bfloat16")
    assert value.dtype == jnp.bfloat16


def test_no_key_is_drawn_while_keras_infers_shapes():
    keys = Keys()
    init = initialize(dense, keys=keys)
    with keras.StatelessScope(), keras.SymbolicScope():
        value = init.initializer(("w",))((3, 2), "float32")
    assert keys.drawn == 0
    assert value.shape == (3, 2)


def test_weights_have_values_where_keras_will_not_ask_again():
    # Only together with a stateless scope is it Keras's shape inference.
    init = initialize(dense)
    with keras.SymbolicScope():
        value = init.initializer(("w",))((3, 2), "float32")
    np.testing.assert_array_equal(value, init.values()[0])


def test_a_typed_key_among_the_weights_is_stored_as_data():
    init = initialize(lambda key, x: {"key": jax.random.key(4)})
    (leaf,) = init.leaves
    assert leaf.spec == jax.ShapeDtypeStruct((2,), np.uint32)
    np.testing.assert_array_equal(init.values()[0], [0, 4])


def test_what_is_printed_for_debugging_is_not_printed_by_a_build(capfd):
    def init_fn(keys, inputs):
        jax.debug.print("inputs: {}", inputs.sum())
        jax.debug.callback(print, inputs.mean())
        return {"w": jax.random.normal(keys, (inputs.shape[-1],))}

    init = initialize(init_fn)
    assert len(init.values()) == 1
    jax.effects_barrier()
    assert capfd.readouterr().out == ""
