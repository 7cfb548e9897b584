"""What is wrong with NNX modules, and with what is said of them."""

import functools

import jax.numpy as jnp
from flax import nnx

from tests.docs.misuse import Misuse, X, called, flax_layer


class Net(nnx.Module):
    def __init__(self, width: int = 3, *, rngs: nnx.Rngs):
        self.linear = nnx.Linear(4, width, rngs=rngs)
        self.calls = 0

    def __call__(self, x):
        return self.linear(x)

    def counted(self, x):
        self.calls += 1
        return self.linear(x)

    def grown(self, x):
        self.scale = nnx.Param(jnp.ones(3))
        return self.linear(x) * self.scale[...]


NNX = [
    Misuse(
        "a partial that has `rngs`",
        lambda: flax_layer(functools.partial(Net, rngs=nnx.Rngs(0))),
        ValueError,
        "`module`",
        "`rngs`",
        "`seed`",
    ),
    Misuse(
        "an argument that the class does not take",
        lambda: flax_layer(functools.partial(Net, depth=3))(X),
        TypeError,
        "depth",
    ),
    Misuse(
        "`variables` beside an instance, which has its own",
        lambda: flax_layer(Net(rngs=nnx.Rngs(0)), variables={"params": {}}),
        ValueError,
        "`variables`",
        "instance of Net",
    ),
    Misuse(
        "`variables` of a module with another width",
        lambda: flax_layer(Net, variables=nnx.state(Net(5, rngs=nnx.Rngs(0)))),
        ValueError,
        "`variables`",
        "`params/linear/kernel`",
        "(4, 5)",
    ),
    Misuse(
        "random streams by name",
        lambda: flax_layer(Net, rngs=("noise",)),
        ValueError,
        "`rngs`",
        "`nnx.Rngs`",
    ),
    Misuse(
        "a method that the class does not have",
        lambda: flax_layer(Net, "forward"),
        ValueError,
        "`method`",
        "'forward'",
    ),
    Misuse(
        "a filter that matches no variable",
        lambda: flax_layer(Net, partition={nnx.LoRAParam: "trainable"})(X),
        ValueError,
        "`partition[",
        "LoRAParam",
    ),
    Misuse(
        "a call that changes a number of Python",
        lambda: flax_layer(Net, "counted", seed=0)(X),
        ValueError,
        "`calls`",
        "`nnx.Variable`",
    ),
    Misuse(
        "a call that makes a variable",
        lambda: flax_layer(Net, "grown", seed=0)(X),
        ValueError,
        "`params/scale`",
        "`__init__`",
    ),
    Misuse(
        "saving a layer that was given an instance",
        lambda: called(flax_layer(Net(rngs=nnx.Rngs(0))), X).get_config(),
        TypeError,
        "`module`",
        "`functools.partial(Net, ...)`",
    ),
    Misuse(
        "weights of another module",
        lambda: called(flax_layer(Net, seed=0), X).set_layer_variables(
            nnx.state(nnx.Linear(4, 3, rngs=nnx.Rngs(0)))
        ),
        ValueError,
        "missing: `linear/bias`",
        "unexpected: `bias`",
    ),
]
