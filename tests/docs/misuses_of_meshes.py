"""What is wrong with layouts of weights over a mesh."""

import functools
from typing import Any

import flax.linen as nn
import jax
import keras

import flaxlayer
from tests.docs.misuse import Misuse, X, called, flax_layer


@functools.cache
def named(*axes: str) -> Any:
    """A layer whose kernel has names for its axes."""
    init = nn.with_partitioning(nn.initializers.lecun_normal(), axes)
    return called(flax_layer(nn.Dense(4, kernel_init=init), seed=0), X)


def layouts(layer: Any, rules: Any, mesh: Any = None) -> Any:
    """Over one device, which is enough to be wrong."""
    if mesh is None:
        mesh = keras.distribution.DeviceMesh(
            (1, 1), ("batch", "model"), jax.devices()[:1]
        )
    return flaxlayer.layout_map(layer, mesh, rules)


LAYOUTS = [
    Misuse(
        "an axis with a name that there is no rule for",
        lambda: layouts(named("embed", "mlp"), {"mlp": "model"}),
        ValueError,
        "'embed'",
        "`params/kernel`",
        "Rules: 'mlp'",
    ),
    Misuse(
        "a rule for an axis that the mesh has not",
        lambda: layouts(named("embed", "mlp"), {"mlp": "modle"}),
        ValueError,
        "'mlp': 'modle'",
        "'batch', 'model'",
        layer=False,
    ),
    Misuse(
        "a rule with two axes of the mesh",
        lambda: layouts(named("embed", "mlp"), {"mlp": ("batch", "model")}),
        TypeError,
        "'mlp'",
        "('batch', 'model')",
        layer=False,
    ),
    Misuse(
        "rules that are no pairs",
        lambda: layouts(named("embed", "mlp"), ["mlp"]),
        TypeError,
        "`rules`",
        "'mlp'",
        layer=False,
    ),
    Misuse(
        "one name for both axes of a weight",
        lambda: layouts(named("embed", "embed"), {"embed": "model"}),
        ValueError,
        "`params/kernel`",
        "('embed', 'embed')",
        until=": Unsupported",
    ),
    Misuse(
        "a mesh of JAX as `mesh`",
        lambda: layouts(
            named("embed", "mlp"), {}, jax.make_mesh((1,), ("model",))
        ),
        TypeError,
        "`mesh`",
        "`keras.distribution.DeviceMesh`",
        layer=False,
        until=" Received:",
    ),
    Misuse(
        "a module in place of a layer",
        lambda: layouts(nn.Dense(4), {}),
        TypeError,
        "`layout_map`",
        "Dense",
        layer=False,
        until=" Received:",
    ),
    Misuse(
        "a model without layers of flaxlayer",
        lambda: layouts(keras.layers.Dense(4, name="dense"), {}),
        ValueError,
        "`layout_map`",
        "`FlaxLayer`s",
        layer=False,
    ),
]
