"""What is wrong with the arguments of a layer."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import keras
import numpy as np

from flaxlayer.ops import native
from tests.docs.misuse import (
    TOKENS,
    Cached,
    Embedding,
    Misuse,
    Net,
    Noise,
    X,
    called,
    counted,
    flax_layer,
    jax_layer,
    net,
    scale,
    scale_init,
    scaled,
    variables,
    variables_with,
)


def function(x):
    return x


async def coroutine(inputs):
    return inputs


def generator(inputs):
    yield inputs


class Encoder(nn.Module):
    def encode(self, x):
        return x


class Awaited(nn.Module):
    async def __call__(self, x):
        return x


def deterministic_only(module, x, deterministic):
    return x


MODULE = [
    Misuse(
        "the class of a module",
        lambda: flax_layer(Net),
        TypeError,
        "`module`",
        "`Net(...)`, not the class",
    ),
    Misuse(
        "a function in place of a module",
        lambda: flax_layer(len),
        TypeError,
        "`module`",
        "of type builtin_function",
    ),
    Misuse(
        "a Keras layer in place of a module",
        lambda: flax_layer(keras.layers.Dense(3, name="dense")),
        TypeError,
        "`module`",
        "of type Dense",
    ),
    Misuse(
        "the name of a class",
        lambda: flax_layer("flax.linen.Dense"),
        TypeError,
        "`module`",
        "'flax.linen.Dense'",
    ),
    Misuse(
        "a module without `__call__`",
        lambda: flax_layer(Encoder()),
        ValueError,
        "`method`",
        "['encode']",
    ),
    Misuse(
        "setting `layer.module`",
        lambda: setattr(net(), "module", nn.Dense(7)),
        AttributeError,
        "`module`",
        "Make another layer",
        until="Received:",
    ),
    Misuse(
        "setting `layer.method`",
        lambda: setattr(net(), "method", "bare"),
        AttributeError,
        "`method`",
        "'bare'",
    ),
]

METHOD = [
    Misuse(
        "a coroutine",
        lambda: flax_layer(Awaited()),
        TypeError,
        "`method`",
        "Awaited.__call__",
    ),
    Misuse(
        '`method="forward"`, which the module does not have',
        lambda: flax_layer(method="forward"),
        ValueError,
        "`method`",
        "'forward'",
    ),
    Misuse(
        '`method="init"`, which every module has',
        lambda: flax_layer(method="init"),
        ValueError,
        "`method`",
        "'init'",
    ),
    Misuse(
        "`method=3`",
        lambda: flax_layer(method=3),
        TypeError,
        "`method`",
        "Received: 3",
    ),
    Misuse(
        "a method without inputs",
        lambda: flax_layer(method="bare"),
        ValueError,
        "`method`",
        "`inputs`",
    ),
    Misuse(
        "a method that is bound to another module",
        lambda: flax_layer(Net(3), method=Net(5).__call__),
        ValueError,
        "`method`",
        "another Net",
    ),
    Misuse(
        '`training_argument="mode"`, which the method does not take',
        lambda: flax_layer(training_argument="mode"),
        ValueError,
        "`training_argument`",
        "'mode'",
    ),
    Misuse(
        "`training_argument=True`",
        lambda: flax_layer(training_argument=True),
        TypeError,
        "`training_argument`",
        "True",
    ),
    Misuse(
        "`training_argument=None` for a method that takes `training`",
        lambda: flax_layer(training_argument=None),
        ValueError,
        "`training_argument=None`",
        "training",
    ),
]


def deleted() -> jax.Array:
    array = jnp.ones(3)
    array.delete()
    return array


VARIABLES = [
    Misuse(
        "variables in a list",
        lambda: flax_layer(variables=[variables()]),
        TypeError,
        "`variables`",
        "list",
    ),
    Misuse(
        "arrays that are not nested in a collection",
        lambda: flax_layer(variables={"params": X}),
        TypeError,
        "`variables`",
        "{'params': 'ndarray'}",
    ),
    Misuse(
        "numbers beyond what the weights can hold",
        lambda: flax_layer(variables={"params": {"scale": np.full(3, 1e300)}}),
        ValueError,
        "`params/scale`",
        "expected values that float32 can hold",
    ),
    Misuse(
        "arrays that training has deleted",
        lambda: flax_layer(variables={"params": {"scale": deleted()}}),
        ValueError,
        "`params/scale`",
        "deleted",
    ),
    Misuse(
        '`variables["params"]` in place of `variables`',
        lambda: flax_layer(variables=variables()["params"]).build((None, 4)),
        ValueError,
        "`variables`",
        "`Dense_0/kernel`",
    ),
    Misuse(
        '`{"params": variables}`, nested once too often',
        lambda: flax_layer(variables={"params": variables()}).build((None, 4)),
        ValueError,
        "`variables`",
        "`params/params/Dense_0/kernel`",
    ),
    Misuse(
        "variables without one of the weights",
        lambda: flax_layer(
            variables=variables_with("params/Dense_0/kernel", None)
        ).build((None, 4)),
        ValueError,
        "missing: `params/Dense_0/kernel`",
    ),
    Misuse(
        "a weight of another shape",
        lambda: flax_layer(
            variables=variables_with("params/Dense_0/kernel", np.ones((4, 5)))
        ).build((None, 4)),
        ValueError,
        "`params/Dense_0/kernel`",
        "(4, 5)",
    ),
    Misuse(
        "a parameter of integers where the module makes floats",
        lambda: flax_layer(
            variables=variables_with(
                "params/Dense_0/kernel", np.ones((4, 3), np.int32)
            )
        ).build((None, 4)),
        ValueError,
        "`params/Dense_0/kernel`",
        "int32",
    ),
    Misuse(
        "a weight that is text",
        lambda: flax_layer(
            variables=variables_with("params/Dense_0/kernel", "random")
        ).build((None, 4)),
        ValueError,
        "`params/Dense_0/kernel`",
    ),
    Misuse(
        "shapes in place of values, as `jax.eval_shape` returns them",
        lambda: flax_layer(
            variables=jax.eval_shape(Net().init, jax.random.key(0), X)
        ),
        TypeError,
        "`variables`",
        "`batch_stats/BatchNorm_0/mean`",
        "ShapeDtypeStruct",
    ),
    Misuse(
        "the variables of another module",
        lambda: flax_layer(
            Embedding(), variables={"params": variables()["params"]}
        )(TOKENS),
        ValueError,
        "missing: `params/Embed_0/embedding`",
        "unexpected: `params/BatchNorm_0/bias`",
    ),
    Misuse(
        "`params=`, which is an argument of `JaxLayer`",
        lambda: flax_layer(params=variables()),
        TypeError,
        "`params`",
        "`variables=`",
    ),
]

RANDOMNESS = [
    Misuse(
        '`rngs="dropout"`',
        lambda: flax_layer(rngs="dropout"),
        TypeError,
        "`rngs`",
        "'dropout'",
    ),
    Misuse(
        "a set of streams, which has no order",
        lambda: flax_layer(rngs={"dropout"}),
        TypeError,
        "`rngs`",
        "{'dropout'} (of type set)",
    ),
    Misuse(
        "keys by the names of streams, as `module.apply` takes them",
        lambda: flax_layer(rngs={"dropout": jax.random.key(0)}),
        ValueError,
        "`rngs['dropout']`",
        until="Received:",
    ),
    Misuse(
        '`rngs={"noise": True}`',
        lambda: flax_layer(rngs={"noise": True}),
        ValueError,
        "`rngs['noise']`",
        "True",
    ),
    Misuse(
        "a stream that is named twice",
        lambda: flax_layer(rngs=("dropout", "dropout")),
        ValueError,
        "`rngs`",
        "('dropout', 'dropout')",
    ),
    Misuse(
        "a stream whose name is a number",
        lambda: flax_layer(rngs=(1,)),
        TypeError,
        "`rngs`",
        "Received: 1",
    ),
    Misuse(
        "a stream that the module asks for is not declared",
        lambda: called(flax_layer(Noise()), X)(X, training=True),
        ValueError,
        "`rngs=`",
        "{'dropout': 'training'}",
    ),
    Misuse(
        "a stream of training is asked for in inference",
        lambda: flax_layer(Noise("always"), rngs=("noise",))(X),
        ValueError,
        "`rngs=`",
        "{'noise': 'training'}",
    ),
    Misuse(
        "`seed=True`",
        lambda: flax_layer(seed=True),
        TypeError,
        "`seed`",
        "True",
    ),
    Misuse(
        "`seed=-1`",
        lambda: flax_layer(seed=-1),
        ValueError,
        "`seed`",
        "-1",
    ),
    Misuse(
        "`seed=2**32`",
        lambda: jax_layer(seed=2**32),
        ValueError,
        "`seed`",
        "4294967296",
    ),
    Misuse(
        '`seed="7"`',
        lambda: flax_layer(seed="7"),
        TypeError,
        "`seed`",
        "'7'",
    ),
    Misuse(
        "several keys as `seed`",
        lambda: jax_layer(seed=jax.random.split(jax.random.PRNGKey(0), 3)),
        TypeError,
        "`seed`",
        "(3, 2)",
    ),
    Misuse(
        "a key of another implementation as `seed`",
        lambda: flax_layer(seed=jax.random.key(0, impl="rbg")),
        TypeError,
        "`seed`",
        "key<rbg>",
    ),
    Misuse(
        "a seed generator of Keras as `seed`",
        lambda: flax_layer(seed=keras.random.SeedGenerator(3)),
        TypeError,
        "`seed`",
        "SeedGenerator",
        until="Received:",
    ),
    Misuse(
        '`rng_impl="mersenne"`',
        lambda: jax_layer(rng_impl="mersenne"),
        ValueError,
        "`rng_impl`",
        "'mersenne'",
        until="Received: 'mersenne'",
    ),
    Misuse(
        "`rng_impl=` of a `FlaxLayer`",
        lambda: flax_layer(rng_impl="rbg"),
        TypeError,
        "`rng_impl`",
    ),
]

COLLECTIONS = [
    Misuse(
        "a list of collections, without policies",
        lambda: flax_layer(Cached(), collections=["cache"]),
        TypeError,
        "`collections`",
        "['cache']",
    ),
    Misuse(
        '`collections={"cache": "keep"}`',
        lambda: flax_layer(Cached(), collections={"cache": "keep"}),
        ValueError,
        "`collections['cache']`",
        "'keep'",
    ),
    Misuse(
        '`collections={"params": "drop"}`',
        lambda: flax_layer(collections={"params": "drop"}),
        ValueError,
        "`collections['params']`",
        "'drop'",
    ),
    Misuse(
        "a state that the initialisation does not make",
        lambda: flax_layer(collections={"batch_stat": "state"})(X),
        ValueError,
        "`collections['batch_stat']`",
        "'batch_stats'",
    ),
    Misuse(
        "a collection that is dropped and a part of `partition`",
        lambda: flax_layer(
            Cached(),
            collections={"cache": "drop"},
            partition={"cache": "state"},
        ),
        ValueError,
        "`partition['cache']`",
        "'drop'",
    ),
    Misuse(
        '`partition={"params": "fixed"}`',
        lambda: flax_layer(partition={"params": "fixed"}),
        ValueError,
        "`partition['params']`",
        "'fixed'",
    ),
    Misuse(
        "a list of patterns in `partition`",
        lambda: flax_layer(partition=["params"]),
        TypeError,
        "`partition`",
        "['params']",
    ),
    Misuse(
        "a pattern in `partition` that is no regular expression",
        lambda: flax_layer(partition={"params/(": "frozen"}),
        ValueError,
        "`partition`",
        "'params/('",
    ),
    Misuse(
        "a pattern in `partition` that matches nothing",
        lambda: flax_layer(partition={"params/encoder/.*": "frozen"})(X),
        ValueError,
        "`partition`",
        "'params/encoder/.*'",
    ),
    Misuse(
        "a pattern in `partition` behind one that matches all it does",
        lambda: flax_layer(
            partition={"params": "trainable", "params/Dense_0": "frozen"}
        )(X),
        ValueError,
        "`partition`",
        "'params/Dense_0'",
    ),
]

WEIGHTS = [
    Misuse(
        '`regularizers="l2"`, without a pattern',
        lambda: flax_layer(regularizers="l2"),
        TypeError,
        "`regularizers`",
        "'l2'",
    ),
    Misuse(
        "a regularizer that Keras does not know",
        lambda: flax_layer(regularizers={".*/kernel": "l3"}),
        ValueError,
        "`regularizers['.*/kernel']`",
        "'l3'",
    ),
    Misuse(
        "a number as a regularizer",
        lambda: flax_layer(regularizers={".*/kernel": 0.1}),
        ValueError,
        "`regularizers['.*/kernel']`",
        "0.1",
    ),
    Misuse(
        "a constraint as a regularizer",
        lambda: flax_layer(
            regularizers={".*/kernel": keras.constraints.NonNeg()}
        ),
        ValueError,
        "`regularizers['.*/kernel']`",
        "NonNeg",
    ),
    Misuse(
        "a regularizer as a constraint",
        lambda: flax_layer(constraints={".*/kernel": keras.regularizers.L2()}),
        ValueError,
        "`constraints['.*/kernel']`",
        "L2",
    ),
    Misuse(
        "a regularizer for a pattern that is a number",
        lambda: flax_layer(regularizers={0: "l2"}),
        TypeError,
        "`regularizers`",
        "Received: 0",
    ),
    Misuse(
        "a constraint for a pattern that is no regular expression",
        lambda: flax_layer(constraints={"*/kernel": "non_neg"}),
        ValueError,
        "`constraints`",
        "'*/kernel'",
    ),
    Misuse(
        "a constraint for a pattern that matches no weight",
        lambda: flax_layer(constraints={"kernel": "non_neg"})(X),
        ValueError,
        "`constraints`",
        "'kernel'",
        "`params/Dense_0/kernel`",
    ),
    Misuse(
        "a regularizer for state, which is not trained",
        lambda: flax_layer(regularizers={"batch_stats/.*": "l2"})(X),
        ValueError,
        "`regularizers`",
        "'batch_stats/.*'",
    ),
    Misuse(
        "a regularizer behind one that matches all it does",
        lambda: jax_layer(regularizers={".*": "l2", "w": "l1"})(X),
        ValueError,
        "`regularizers`",
        "'w'",
    ),
]


def without_native_kernels():
    missing = native._Status(None, "the extension was not built")
    original, native._load = native._load, lambda: missing
    try:
        flax_layer(kernels="native")(X)
    finally:
        native._load = original


OTHERS = [
    Misuse(
        "a dtype of integers",
        lambda: flax_layer(dtype="int32"),
        ValueError,
        "`dtype`",
        "Received: 'int32'",
    ),
    Misuse(
        "a policy of Keras's quantization",
        lambda: jax_layer(dtype="int8_from_float32"),
        ValueError,
        "`dtype`",
        "Received: 'int8_from_float32'",
    ),
    Misuse(
        "a shape as `inputs_spec`",
        lambda: flax_layer(inputs_spec=(None, 4)),
        TypeError,
        "`inputs_spec`",
        "(None, 4)",
    ),
    Misuse(
        "a dtype as `inputs_spec`",
        lambda: flax_layer(inputs_spec="int32"),
        TypeError,
        "`inputs_spec`",
        "'int32'",
    ),
    Misuse(
        "an `inputs_spec` without arrays",
        lambda: flax_layer(inputs_spec={}),
        TypeError,
        "`inputs_spec`",
        "{}",
    ),
    Misuse(
        "an `inputs_spec` without a dtype",
        lambda: flax_layer(inputs_spec=keras.InputSpec(shape=(None, 4))),
        TypeError,
        "`inputs_spec`",
        "InputSpec",
    ),
    Misuse(
        "inputs of another rank than `inputs_spec`",
        lambda: flax_layer(
            Embedding(), inputs_spec=jax.ShapeDtypeStruct((2, 5), np.int32)
        )(TOKENS[0]),
        ValueError,
        "`inputs_spec`",
        "int32[5]",
    ),
    Misuse(
        '`nonfinite_state="drop"`',
        lambda: flax_layer(nonfinite_state="drop"),
        ValueError,
        "`nonfinite_state`",
        "'drop'",
    ),
    Misuse(
        '`kernels="fast"`',
        lambda: flax_layer(kernels="fast"),
        ValueError,
        "kernels",
        "'fast'",
    ),
    Misuse(
        '`kernels="native"` where there are none',
        without_native_kernels,
        RuntimeError,
        'kernels="native"',
        "the extension was not built",
    ),
    Misuse(
        "`rng=`, an argument that does not exist",
        lambda: flax_layer(rng=("dropout",)),
        ValueError,
        "rng",
        layer=False,
    ),
]

FUNCTIONS = [
    Misuse(
        "a Flax module as `call_fn`",
        lambda: jax_layer(Net()),
        TypeError,
        "`call_fn`",
        "FlaxLayer",
    ),
    Misuse(
        "a number as `call_fn`",
        lambda: jax_layer(3),
        TypeError,
        "`call_fn`",
        "Received: 3",
    ),
    Misuse(
        "a coroutine function as `call_fn`",
        lambda: jax_layer(coroutine),
        TypeError,
        "`call_fn`",
        "`async`",
    ),
    Misuse(
        "a generator function as `init_fn`",
        lambda: jax_layer(scaled, generator),
        TypeError,
        "`init_fn`",
        "`yield`",
    ),
    Misuse(
        "setting `layer.call_fn`",
        lambda: setattr(scale(), "call_fn", 3),
        AttributeError,
        "`call_fn`",
        "Received: 3",
    ),
    Misuse(
        "a `call_fn` without `inputs`",
        lambda: jax_layer(lambda params, x: x),
        ValueError,
        "`call_fn`",
        "(params, x)",
    ),
    Misuse(
        "a `call_fn` with an argument of another name",
        lambda: jax_layer(lambda params, inputs, train: inputs),
        ValueError,
        "`call_fn`",
        "`train`",
    ),
    Misuse(
        "an `init_fn` without `inputs`",
        lambda: jax_layer(scaled, lambda rng: {}),
        ValueError,
        "`init_fn`",
        "(rng)",
    ),
    Misuse(
        "an `init_fn` that takes `params`",
        lambda: jax_layer(scaled, lambda params, inputs: params),
        ValueError,
        "`init_fn`",
        "`params`",
    ),
    Misuse(
        "weights from nowhere",
        lambda: jax_layer(scaled, None),
        ValueError,
        "`init_fn`",
        "`params`",
    ),
    Misuse(
        "`params` for a `call_fn` that takes none",
        lambda: jax_layer(lambda inputs: inputs, params={"w": X}),
        ValueError,
        "`params`",
        "`call_fn`",
    ),
    Misuse(
        "`state` for a `call_fn` that takes none",
        lambda: jax_layer(scaled, params={"w": X.T}, state={"n": 0}),
        ValueError,
        "`state`",
        "`call_fn`",
    ),
    Misuse(
        "an `init_fn` that returns nothing",
        lambda: jax_layer(scaled, lambda rng, inputs: None)(X),
        ValueError,
        "`init_fn`",
        "None",
    ),
    Misuse(
        "an `init_fn` without a state for a `call_fn` with one",
        lambda: jax_layer(counted, scale_init)(X),
        ValueError,
        "`init_fn`",
        "dict",
    ),
]
