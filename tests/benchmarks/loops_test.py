import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from benchmarks import loops, models

WORKLOAD = models.Workload("", models.MLP(2, 8, 0.5), (4,), batch=16)
BATCH = WORKLOAD.data(1)


@pytest.fixture
def layer():
    return loops.built(loops.layer_makers()[loops.OURS], WORKLOAD)


def by_hand(layer, keys):
    return loops.Loop.of_module(
        WORKLOAD.module, loops.variables_of(layer), keys
    )


def test_by_hand_with_the_keys_of_a_layer_the_losses_are_its(layer):
    around = loops.Loop.of_layer(layer)
    counting = by_hand(
        layer, loops.Keys.counting(layer.seed_generator.state.value)
    )
    losses = around.losses(*BATCH, 4)
    assert len(set(losses)) == 4
    np.testing.assert_array_equal(counting.losses(*BATCH, 4), losses)


def test_the_layer_of_keras_has_these_losses_too():
    makers = loops.layer_makers()
    if loops.PEER not in makers:
        pytest.skip("keras.layers.FlaxLayer cannot be used here")
    losses = {}
    for name, make in makers.items():
        keras.utils.set_random_seed(3)
        loop = loops.Loop.of_layer(loops.built(make, WORKLOAD))
        losses[name] = loop.losses(*BATCH, 3)
    np.testing.assert_array_equal(losses[loops.PEER], losses[loops.OURS])


def test_each_step_has_keys_of_its_own(layer):
    keys = loops.Keys.split()
    words = [keys.start]
    for _ in range(3):
        words.append(keys.draw(words[-1])[0])
    assert len({tuple(np.asarray(w).tolist()) for w in words}) == 4
    # And a loop with them learns.
    losses = by_hand(layer, keys).losses(*BATCH, 40)
    assert losses[-10:].mean() < losses[:10].mean()


def test_a_loop_has_buffers_of_its_own(layer):
    # Copies: a view would keep the buffers from being donated.
    before = [np.array(v, copy=True) for v in layer.weights]
    loops.Loop.of_layer(layer).wait_for_step(*BATCH)
    by_hand(layer, loops.Keys.split()).wait_for_step(*BATCH)
    for variable, value in zip(layer.weights, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_a_compiled_step_stays_compiled():
    traces = []

    def apply(params, state, key, x):
        traces.append(key)
        return x @ params, state

    loop = loops.Loop(apply, jnp.ones((4, 10)), (), loops.Keys.none())
    loop.compile(*BATCH)
    jax.clear_caches()
    loop.wait_for_step(*BATCH)
    assert traces == [None]


class TestFreeBits:
    def test_all_bits_are_one_word(self):
        key = jax.random.key(5, impl=loops.free_bits())
        for dtype in ("uint8", "uint32"):
            bits = jax.random.bits(key, (2, 3), dtype)
            assert (bits.shape, bits.dtype) == ((2, 3), dtype)
            assert np.unique(bits).tolist() == [5]

    def test_keys_can_be_folded_and_split(self):
        key = jax.random.key(5, impl=loops.free_bits())
        folded = jax.random.fold_in(key, 4)
        assert jax.random.key_data(folded).tolist() == [9]
        split = jax.random.key_data(jax.random.split(key, 3))
        assert split.tolist() == [[5]] * 3

    def test_a_model_trains_with_them(self, layer):
        loop = by_hand(layer, loops.Keys.split(loops.free_bits()))
        assert np.isfinite(loop.losses(*BATCH, 2)).all()

    def test_no_loop_of_rounds_is_compiled(self):
        def mask(words):
            key = jax.random.wrap_key_data(words, impl=loops.free_bits())
            return jax.random.bernoulli(key, 0.9, (64, 64))

        text = jax.jit(mask).lower(jnp.uint32([5])).compile().as_text()
        assert "while" not in text
