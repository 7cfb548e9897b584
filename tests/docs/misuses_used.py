"""What is wrong with calls of a layer, and with its weights."""

import flax.linen as nn
import jax
import keras
import numpy as np
from jax.experimental import sparse

from tests.docs.misuse import (
    TOKENS,
    Cached,
    Flat,
    Growing,
    Misuse,
    Spectrum,
    X,
    attention,
    called,
    embedding,
    flax_layer,
    jax_layer,
    net,
    scale,
    train,
    variables,
    watched,
)

BUILD = [
    Misuse(
        "no shape",
        lambda: flax_layer().build(None),
        TypeError,
        "`input_shape`",
        "None",
    ),
    Misuse(
        "text as a shape",
        lambda: flax_layer().build("4"),
        TypeError,
        "`input_shape`",
        "'4'",
    ),
    Misuse(
        "a negative size",
        lambda: flax_layer().build((None, -1)),
        ValueError,
        "-1",
    ),
    Misuse(
        "a size that no memory has room for",
        lambda: flax_layer().build((None, 2**36)),
        MemoryError,
        "`params/Dense_0/kernel`",
        "68719476736",
        "GiB",
        until="; there are",
    ),
    Misuse(
        "a shape for a module that takes complex numbers",
        lambda: flax_layer(Spectrum()).build((None, 5)),
        ValueError,
        "`inputs_spec=`",
        "float32[None, 5]",
        until="failed on these:",
    ),
    Misuse(
        "a weight whose shape depends on an unknown size",
        lambda: flax_layer(Flat())(keras.Input((None, 3))),
        ValueError,
        "`params/Dense_0/kernel`",
        "`inputs_spec=`",
        until="the shape of `params/Dense_0/kernel`",
    ),
    Misuse(
        "a table whose length depends on an unknown size",
        lambda: jax_layer(
            lambda params, inputs: inputs + params["table"],
            lambda inputs: {"table": np.ones(inputs.shape[1:])},
        ).build((None, None, 3)),
        ValueError,
        "`params/table`",
        "`inputs_spec=`",
    ),
    Misuse(
        "a dense layer with 3.5 features",
        lambda: flax_layer(nn.Dense(3.5))(X),
        TypeError,
        "float32[2, 4]",
        "Dense(features=3.5)",
        until="The model says:",
    ),
    Misuse(
        "building it again for other inputs",
        lambda: net().build((None, 9)),
        ValueError,
        "float32[2, 4]",
        "(None, 9)",
    ),
]

CALLS = [
    Misuse(
        "a typed key as an input",
        lambda: net()(jax.random.key(0)),
        TypeError,
        "`rngs=`",
        "`jax.random.key_data(key)`",
    ),
    Misuse(
        "a call without inputs",
        lambda: net()(),
        TypeError,
        "(x, *, training=False)",
    ),
    Misuse(
        "`train=` of a module that calls it so",
        lambda: train()(X, train=True),
        TypeError,
        "`training=`",
        "['train']",
    ),
    Misuse(
        "a keyword that the module does not take",
        lambda: net()(X, rngs={"dropout": jax.random.key(0)}),
        TypeError,
        "'rngs'",
    ),
    Misuse(
        "an input too many",
        lambda: net()(X, X, X),
        TypeError,
        "too many positional arguments",
    ),
    Misuse(
        "an input too few",
        lambda: attention()(X),
        TypeError,
        "'context'",
    ),
    Misuse(
        "a static argument that is a list",
        lambda: attention()(X, X, window=["a", "b"]),
        TypeError,
        "`window`",
        "['a', 'b']",
    ),
    Misuse(
        '`training="yes"`',
        lambda: net()(X, training="yes"),
        TypeError,
        "`training`",
        "'yes'",
    ),
    Misuse(
        "two inputs of a `JaxLayer`",
        lambda: scale()(X, X),
        TypeError,
        "2 by position",
    ),
    Misuse(
        "a keyword of a `JaxLayer`",
        lambda: scale()(X, context=X),
        TypeError,
        "context",
    ),
    Misuse(
        "`None` as the input",
        lambda: net()(None),
        TypeError,
        "None",
    ),
    Misuse(
        "nested lists of numbers",
        lambda: net()([[1.0, 2.0, 3.0, 4.0]]),
        TypeError,
        "of type float",
    ),
    Misuse(
        "lists of different lengths",
        lambda: net()([[1.0, 2.0], [3.0]]),
        TypeError,
        "of type float",
        "are padded first",
    ),
    Misuse(
        "an empty dict as the input",
        lambda: net()({}),
        TypeError,
        "Received: {}",
    ),
    Misuse(
        "an empty list for a `JaxLayer`",
        lambda: scale()([]),
        TypeError,
        "Received: []",
    ),
    Misuse(
        "a masked array",
        lambda: net()(np.ma.masked_array(X, X > 0)),
        TypeError,
        "`x.filled(0)`",
        "of type MaskedArray",
        until="Received:",
    ),
    Misuse(
        "a masked array by name",
        lambda: attention()(X, context=np.ma.masked_array(X, X > 0)),
        TypeError,
        "`context`",
        "`x.filled(0)`",
        until="Received:",
    ),
    Misuse(
        "a structured array",
        lambda: net()(np.zeros(2, [("a", "f4"), ("b", "i4")])),
        TypeError,
        "x.dtype.names",
        "'a'",
    ),
    Misuse(
        "a sparse array of JAX for a module that takes none",
        lambda: flax_layer()(sparse.BCOO.fromdense(X)),
        ValueError,
        "float32[2, 4]",
        "`x.todense()`",
        until="The model says:",
    ),
    Misuse(
        "text among the arrays by name",
        lambda: attention()(X, context=np.array(["a", "b"])),
        TypeError,
        "`context`",
        "'a'",
    ),
    Misuse(
        "a static argument by position",
        lambda: attention()(X, X, 4),
        TypeError,
        "Received: 4",
        "by name",
    ),
    Misuse(
        "arrays of text",
        lambda: net()(np.array([["a"] * 4] * 2)),
        TypeError,
        "array([['a'",
    ),
    Misuse(
        "inputs of another size",
        lambda: net()(X[:, :3]),
        ValueError,
        "float32[2, 4]",
        "float32[2, 3]",
        until="failed on float32[2, 3]:",
    ),
    Misuse(
        "inputs of a size that does not fit the kernel of a dense layer",
        lambda: train()(X[:, :3]),
        ValueError,
        "do not fit the module on these inputs",
        "(3, 3)",
    ),
    Misuse(
        "inputs of another rank",
        lambda: net()(X[0, 0]),
        ValueError,
        "float32[2, 4]",
        "float32[]",
        until="failed on float32[]:",
    ),
    Misuse(
        "floats for a module of integers",
        lambda: embedding()(TOKENS.astype("float32")),
        ValueError,
        "int32[2, 5]",
        "float32[2, 5]",
        until="failed on float32[2, 5]:",
    ),
    Misuse(
        "inputs of another structure",
        lambda: net()({"x": X}),
        ValueError,
        "float32[2, 4]",
        "'x'",
        until="failed on {'x': float32[2, 4]}:",
    ),
    Misuse(
        "inputs of another size in a functional model",
        lambda: net()(keras.Input((7,))),
        ValueError,
        "float32[None, 7]",
        until="failed on float32[None, 7]:",
    ),
    Misuse(
        "a shape of another rank for `compute_output_shape`",
        lambda: scale().compute_output_shape(()),
        ValueError,
        "float32[]",
        until="failed on float32[]:",
    ),
    Misuse(
        "text for `compute_output_shape`",
        lambda: scale().compute_output_shape("4"),
        TypeError,
        "`input_shape`",
        "'4'",
    ),
]

RETURNED = [
    Misuse(
        "a `call_fn` that makes a float of its count",
        lambda: watched(
            jax_layer(
                lambda params, state, inputs: (
                    inputs,
                    {"count": state["count"] + 0.5},
                ),
                params={},
                state={"count": 0},
            )
        )(X),
        ValueError,
        "`state/count`: expected int32, or what it holds, received float32",
        "`astype`",
    ),
    Misuse(
        "a collection that first appears in a call",
        lambda: called(flax_layer(Growing()), X)(X, training=True),
        ValueError,
        "`collections=`",
    ),
    Misuse(
        "a transient collection that is passed as a number",
        lambda: called(
            flax_layer(Cached(), collections={"cache": "transient"}), X
        )(X, cache=3),
        TypeError,
        "`cache`",
        "Received: 3",
    ),
    Misuse(
        "a transient collection by another name",
        lambda: called(
            flax_layer(Cached(), collections={"cache": "transient"}), X
        )(X, caches={}),
        TypeError,
        "'caches'",
    ),
    Misuse(
        "a `call_fn` that returns a state of another structure",
        lambda: watched(
            jax_layer(
                lambda params, state, inputs: (inputs, {"n": 0}),
                params={},
                state={"count": 0},
            )
        )(X),
        ValueError,
        "missing: `state/count`",
        "unexpected: `state/n`",
    ),
    Misuse(
        "a `call_fn` that returns a state of another shape",
        lambda: watched(
            jax_layer(
                lambda params, state, inputs: (inputs, {"mean": inputs}),
                params={},
                state={"mean": np.zeros(4, np.float32)},
            )
        )(X),
        ValueError,
        "`state/mean`",
        "(2, 4)",
    ),
    Misuse(
        "a `call_fn` that takes a state and returns none",
        lambda: watched(
            jax_layer(
                lambda params, state, inputs: inputs, params={}, state={"n": 0}
            )
        )(X),
        ValueError,
        "`call_fn`",
        "(outputs, state)",
    ),
    Misuse(
        "a `call_fn` that returns text",
        lambda: jax_layer(lambda inputs: "text")(X),
        TypeError,
        "arrays of numbers",
        "'text' (of type str)",
    ),
    Misuse(
        "text among the outputs",
        lambda: jax_layer(lambda inputs: {"a": [inputs, "text"]})(X),
        TypeError,
        "`outputs['a'][1]`",
    ),
    Misuse(
        "a `call_fn` that returns a generator",
        lambda: jax_layer(lambda inputs: (x for x in inputs))(X),
        TypeError,
        "of type generator",
        until="Received:",
    ),
    Misuse(
        "a module that returns text",
        lambda: flax_layer(nn.Dense(3), lambda module, x: "text")(X),
        TypeError,
        "'text' (of type str)",
    ),
    Misuse(
        "a `call_fn` that branches on values",
        lambda: jax_layer(lambda inputs: inputs if inputs.sum() > 0 else 0)(X),
        TypeError,
        until="probe':",
    ),
]

FREEZING = [
    Misuse(
        "a list of patterns for `freeze`",
        lambda: net().freeze(["Dense_0/.*"]),
        TypeError,
        "`freeze`",
        "['Dense_0/.*']",
    ),
    Misuse(
        "a pattern that is no regular expression",
        lambda: net().freeze("*/kernel"),
        ValueError,
        "`freeze`",
        "'*/kernel'",
    ),
    Misuse(
        "the path of a submodule, without `/.*`",
        lambda: net().freeze("Dense_0"),
        ValueError,
        "`freeze`",
        "'Dense_0'",
        "`params/Dense_0/kernel`",
    ),
    Misuse(
        "`unfreeze` of what does not exist",
        lambda: net().unfreeze("encoder/.*"),
        ValueError,
        "`unfreeze`",
        "'encoder/.*'",
    ),
]


def frozen_before_it_is_built():
    layer = flax_layer()
    layer.freeze("encoder/.*")
    layer(X)


def half_bad_weights():
    weights = [np.zeros(w.shape, np.float32) for w in net().weights]
    net().set_weights([*weights[:-1], np.full(weights[-1].shape, "x")])


FREEZING.append(
    Misuse(
        "a pattern that matches nothing, before the layer is built",
        frozen_before_it_is_built,
        ValueError,
        "`freeze`",
        "'encoder/.*'",
    )
)

SET_WEIGHTS = [
    Misuse(
        "too few arrays",
        lambda: net().set_weights([X]),
        ValueError,
        "`set_weights`",
        "[(2, 4)]",
    ),
    Misuse(
        "the variables of Flax",
        lambda: net().set_weights(variables()),
        TypeError,
        "`set_weights`",
        "dict",
    ),
    Misuse(
        "`None` as weights",
        lambda: net().set_weights(None),
        TypeError,
        "`set_weights`",
        "NoneType",
    ),
    Misuse(
        "the right shapes, with text in one of the arrays",
        half_bad_weights,
        TypeError,
        "`set_weights`",
        "<U1",
    ),
    Misuse(
        "numbers beyond what the weights can hold",
        lambda: net().set_weights(
            [np.full(v.shape, 1e300) for v in net().weights]
        ),
        ValueError,
        "`set_weights`",
        "expected values that float32 can hold",
    ),
    Misuse(
        "arrays for a layer that is not built",
        lambda: flax_layer().set_weights([X]),
        ValueError,
        "`set_weights`",
        "[(2, 4)]",
    ),
]
