"""Small models of functions, for the tests of JaxLayer."""

import jax
import jax.numpy as jnp


def dense_init(rng, inputs):
    return {"dense": {"w": jax.random.normal(rng, (inputs.shape[-1], 3))}}


def dense(params, inputs):
    return inputs @ params["dense"]["w"]


def counting_init(rng, inputs, training):
    return dense_init(rng, inputs), {"calls": jnp.zeros((), jnp.int32)}


def counting(params, state, inputs, training):
    calls = state["calls"] + (1 if training else 0)
    return dense(params, inputs), {"calls": calls}


def noisy(rng, inputs):
    if rng is None:
        return inputs
    return inputs + jax.random.normal(rng, inputs.shape)
