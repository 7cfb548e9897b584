"""What is wrong with what a layer is saved in or read from."""

import dataclasses
import json
import zipfile
from typing import NamedTuple

import keras
import numpy as np

import flaxlayer
from flaxlayer import FlaxLayer, JaxLayer, serving
from tests.docs.misuse import (
    NAME,
    Holder,
    Misuse,
    Net,
    X,
    attention,
    called,
    flax_layer,
    in_folder,
    jax_layer,
    net,
    scale,
    train,
    variables,
    variables_with,
)


def stored(layer):
    store = {}
    layer.save_own_variables(store)
    return {name: np.asarray(value) for name, value in store.items()}


def load(change):
    """Loads what was stored of the shared layer, changed."""
    store = stored(net())
    change(store)
    net().load_own_variables(store)


def numbered(count):
    return {str(i): np.zeros(3, np.float32) for i in range(count)}


def other_weights_file():
    other = keras.Sequential([keras.Input((4,)), flax_layer(Holder())])
    other.save_weights("other.weights.h5")
    layer = called(flax_layer(), X)
    model = keras.Sequential([keras.Input((4,)), layer])
    model.load_weights("other.weights.h5")


def truncated_weights_file():
    layer = called(flax_layer(), X)
    model = keras.Sequential([keras.Input((4,)), layer])
    model.save_weights("model.weights.h5")
    with open("model.weights.h5", "r+b") as file:
        file.truncate(1000)
    model.load_weights("model.weights.h5")


STORES = [
    Misuse(
        "a file with weights missing",
        lambda: load(lambda store: store.pop("params.Dense_0.kernel")),
        ValueError,
        "missing: `params/Dense_0/kernel`",
    ),
    Misuse(
        "a file with weights too many",
        lambda: load(lambda store: store.update({"params.Dense_1.bias": X})),
        ValueError,
        "unexpected: `params/Dense_1/bias`",
    ),
    Misuse(
        "a weight of another shape",
        lambda: load(lambda store: store.update({"params.Dense_0.kernel": X})),
        ValueError,
        "`params/Dense_0/kernel`",
        "(2, 4)",
    ),
    Misuse(
        "a weight that is text",
        lambda: load(
            lambda store: store.update(
                {"params.Dense_0.kernel": np.full((4, 3), "x")}
            )
        ),
        ValueError,
        "`params/Dense_0/kernel`",
        "array([['x'",
    ),
    Misuse(
        "a state of the seed that is none",
        lambda: load(
            lambda store: store.update({"seed_generator_state": np.zeros(3)})
        ),
        ValueError,
        "`seed_generator_state`",
        "(3,)",
    ),
    Misuse(
        "a file of Keras's own layer with another number of weights",
        lambda: net().load_own_variables(numbered(4)),
        ValueError,
        "4 weights",
    ),
    Misuse(
        "a file of Keras's own layer with other shapes",
        lambda: net().load_own_variables(numbered(6)),
        ValueError,
        "`params/Dense_0/kernel`",
        "(3,)",
    ),
    Misuse(
        "a file without any weights of the layer",
        lambda: net().load_own_variables({}),
        ValueError,
        "missing: `params/BatchNorm_0/bias`",
    ),
    Misuse(
        "weights for a layer that is not built",
        lambda: flax_layer().load_own_variables(stored(net())),
        ValueError,
        "never built",
    ),
    Misuse(
        "`load_weights` with the file of another model",
        other_weights_file,
        ValueError,
        "`batch_stats/BatchNorm_0/mean`",
    ),
    Misuse(
        "`load_weights` with a file that ends early",
        truncated_weights_file,
        OSError,
        "truncated file",
        layer=False,
        until="truncated file",
    ),
]


VARIABLES = [
    Misuse(
        "a list for `set_layer_variables`",
        lambda: net().set_layer_variables([X]),
        ValueError,
        "list",
    ),
    Misuse(
        "variables without state for `set_layer_variables`",
        lambda: net().set_layer_variables({"params": variables()["params"]}),
        ValueError,
        "missing: `batch_stats/BatchNorm_0/mean`",
    ),
    Misuse(
        "variables with text for `set_layer_variables`",
        lambda: net().set_layer_variables(
            variables_with("params/Dense_0/kernel", "random")
        ),
        ValueError,
        "`params/Dense_0/kernel`",
        "'random'",
    ),
    Misuse(
        "`get_layer_variables` of a layer that is not built",
        lambda: flax_layer().get_layer_variables(),
        ValueError,
        "built",
    ),
    Misuse(
        "`save_variables` of a layer that is not built",
        lambda: flaxlayer.save_variables(flax_layer(), "net.msgpack"),
        ValueError,
        "built",
    ),
    Misuse(
        "`save_variables` of what is no layer",
        lambda: flaxlayer.save_variables(Net(), "net.msgpack"),
        TypeError,
        "Net",
        layer=False,
    ),
    Misuse(
        "`save_variables` without a path",
        lambda: flaxlayer.save_variables(net(), None),
        TypeError,
        "expected a path",
        "None",
    ),
    Misuse(
        "`load_variables` from a file of another format",
        lambda: flaxlayer.load_variables(
            net(), in_folder("net.msgpack", b"\x89HDF\r\n")
        ),
        ValueError,
        "net.msgpack",
        "HDF5",
    ),
    Misuse(
        "`load_variables` from a file that is not there",
        lambda: flaxlayer.load_variables(net(), "missing.msgpack"),
        FileNotFoundError,
        "missing.msgpack",
    ),
    Misuse(
        "`load_variables` from a damaged file",
        lambda: flaxlayer.load_variables(
            net(), in_folder("net.msgpack", b"\xc1")
        ),
        ValueError,
        "net.msgpack",
        until="expected a file of `flax.serialization`:",
    ),
    Misuse(
        "`load_variables` with a list as `rename`",
        lambda: flaxlayer.load_variables(
            net(), saved("net.msgpack"), rename=["a", "b"]
        ),
        TypeError,
        "`rename`",
        layer=False,
    ),
    Misuse(
        "`load_variables` into another module",
        lambda: flaxlayer.load_variables(train(), saved("net.msgpack")),
        ValueError,
        "unexpected: `batch_stats/BatchNorm_0/mean`",
    ),
]


def saved(path):
    flaxlayer.save_variables(net(), path)
    return path


def archive(path, config):
    with zipfile.ZipFile(path, "w") as file:
        if config is not None:
            file.writestr("config.json", config)
    return path


def peer_model(call_fn):
    return json.dumps(
        {
            "module": "keras.layers",
            "class_name": "JaxLayer",
            "config": {"name": NAME, "call_fn": call_fn, "init_fn": None},
            "registered_name": None,
        }
    )


FILES = [
    Misuse(
        "a file that is not there",
        lambda: flaxlayer.load_model("missing.keras"),
        FileNotFoundError,
        "'missing.keras'",
        layer=False,
    ),
    Misuse(
        "no path",
        lambda: flaxlayer.load_model(None),
        TypeError,
        "`filepath`",
        "None",
        layer=False,
    ),
    Misuse(
        "a file of weights",
        lambda: flaxlayer.load_model(in_folder("model.weights.h5", b"\x89HDF")),
        ValueError,
        "'model.weights.h5'",
        layer=False,
    ),
    Misuse(
        "an archive without a model",
        lambda: flaxlayer.load_model(archive("model.keras", None)),
        ValueError,
        "'model.keras'",
        "`config.json`",
        layer=False,
    ),
    Misuse(
        "an archive with a damaged configuration",
        lambda: flaxlayer.load_model(archive("model.keras", "{")),
        ValueError,
        "'model.keras'",
        "`config.json`",
        layer=False,
        until="in the archive:",
    ),
    Misuse(
        "`custom_objects` without names",
        lambda: flaxlayer.load_model(
            archive("model.keras", "{}"), custom_objects=[Net]
        ),
        TypeError,
        "`custom_objects`",
        layer=False,
    ),
    Misuse(
        "a file that names a function to run",
        lambda: flaxlayer.load_model(
            archive("model.keras", peer_model("os:system"))
        ),
        ValueError,
        "`call_fn`",
        "'os:system'",
    ),
]


def damaged(layer, **changes):
    return type(layer).from_config({**layer.get_config(), **changes})


def missing_class():
    config = net().get_config()
    config["module"] = {**config["module"], "class": "absent:Net"}
    FlaxLayer.from_config(config)


@dataclasses.dataclass
class Settings:
    command: str = ""

    def __post_init__(self):
        raise AssertionError("a file has run it")


CONFIGS = [
    Misuse(
        "no configuration",
        lambda: FlaxLayer.from_config(None),
        TypeError,
        "None",
        layer=False,
    ),
    Misuse(
        "a configuration without a module",
        lambda: damaged(net(), module=None),
        ValueError,
        "`module`",
    ),
    Misuse(
        "a module of a class that is not imported",
        missing_class,
        ValueError,
        "`module`",
        "'absent:Net'",
    ),
    Misuse(
        "a method that is not one of the module's",
        lambda: damaged(net(), method="__init__"),
        ValueError,
        "`method`",
        "'__init__'",
    ),
    Misuse(
        "a method that only the file names",
        lambda: damaged(net(), method="bare"),
        ValueError,
        "`method`",
        "custom_objects={'bare': Net.bare}",
        "`safe_mode=False`",
    ),
    Misuse(
        "a configuration whose class has code that would run",
        lambda: damaged(
            flax_layer(Holder()),
            module={
                "type": "dataclass",
                "class": f"{__name__}:Settings",
                "fields": {},
            },
        ),
        ValueError,
        "`__post_init__`",
        "custom_objects={'Settings': ...}",
    ),
    Misuse(
        "a seed that is text",
        lambda: damaged(net(), seed="7"),
        ValueError,
        "`seed`",
        "'7'",
    ),
    Misuse(
        "inputs that are a number",
        lambda: damaged(net(), inputs_spec=3),
        ValueError,
        "inputs",
        "Received: 3",
    ),
    Misuse(
        "frozen weights without patterns",
        lambda: damaged(net(), freezing=[True]),
        ValueError,
        "`freezing`",
        "[True]",
    ),
    Misuse(
        "a `call_fn` that is not a function",
        lambda: damaged(scale(), call_fn=[1]),
        ValueError,
        "`call_fn`",
        "[1]",
    ),
    Misuse(
        "a layer without a `call_fn`",
        lambda: JaxLayer.from_config({"name": NAME}),
        TypeError,
        "`call_fn`",
    ),
    Misuse(
        "a kind of weights that there is not",
        lambda: damaged(net(), partition={"params": 1}),
        ValueError,
        "`partition['params']`",
        "Received: 1",
    ),
    Misuse(
        "the inputs it was built for, as a number",
        lambda: flax_layer().build_from_config({"inputs": 3}),
        ValueError,
        "Received: 3",
    ),
]


class Pair(NamedTuple):
    a: np.ndarray
    b: np.ndarray


def penalty(weight):
    return weight.sum()


def counter():
    calls = 0

    def activation(x):
        nonlocal calls
        calls += 1
        return x

    return activation


def built_for_a_pair():
    layer = JaxLayer(lambda inputs: inputs.a + inputs.b, name=NAME)
    called(layer, Pair(X, X)).get_build_config()


SAVING = [
    Misuse(
        "a lambda in a field of the module",
        lambda: flax_layer(Holder(lambda x: x)).get_config(),
        TypeError,
        "`module`",
        "`Holder.activation`",
        "lambda",
    ),
    Misuse(
        "a closure in a field of the module",
        lambda: flax_layer(Holder(counter())).get_config(),
        TypeError,
        "`Holder.activation`",
        "closure",
        until="is a closure,",
    ),
    Misuse(
        "an object of an unknown class in a field of the module",
        lambda: flax_layer(Holder(zipfile.ZipInfo("a"))).get_config(),
        TypeError,
        "`Holder.activation`",
        "ZipInfo",
    ),
    Misuse(
        "a lambda as `call_fn`",
        lambda: jax_layer(lambda inputs: inputs).get_config(),
        TypeError,
        "`call_fn`",
        "lambda",
    ),
    Misuse(
        "a lambda as a method",
        lambda: flax_layer(method=lambda module, x: module(x)).get_config(),
        TypeError,
        "`method`",
        "lambda",
    ),
    Misuse(
        "a lambda as a regularizer",
        lambda: flax_layer(
            regularizers={".*/kernel": lambda w: w.sum()}
        ).get_config(),
        TypeError,
        "`regularizers['.*/kernel']`",
        "lambda",
    ),
    Misuse(
        "inputs in a named tuple",
        built_for_a_pair,
        TypeError,
        "Pair",
    ),
    Misuse(
        "a static argument that JSON does not have",
        lambda: called(
            flax_layer(attention().module), X, X, window=(1, 2)
        ).get_build_config(),
        TypeError,
        "`window`",
        "(1, 2)",
    ),
]


def entered_twice():
    policy = flaxlayer.kernels("reference")
    with policy, policy:
        pass


FUNCTIONS = [
    Misuse(
        "`tabulate` of what is no layer",
        lambda: flaxlayer.tabulate(Net()),
        TypeError,
        "`tabulate`",
        "of type Net",
        layer=False,
    ),
    Misuse(
        "`tabulate` of a layer that is not built",
        lambda: flaxlayer.tabulate(flax_layer()),
        ValueError,
        "is not built",
    ),
    Misuse(
        "`tabulate` of a model without such layers",
        lambda: flaxlayer.tabulate(
            keras.Sequential([keras.layers.Dense(3)], name="model")
        ),
        ValueError,
        "`tabulate`",
        layer=False,
    ),
    Misuse(
        '`kernels("fast")`',
        lambda: flaxlayer.kernels("fast"),
        ValueError,
        "'fast'",
        layer=False,
    ),
    Misuse(
        "entering one `kernels(...)` twice",
        entered_twice,
        RuntimeError,
        "flaxlayer.kernels",
        layer=False,
    ),
]

EXPORTS = [
    Misuse(
        "`export` of a layer that is not built",
        lambda: flaxlayer.export(flax_layer(), "exported"),
        ValueError,
        "was never built",
    ),
    Misuse(
        "`export` of a list of layers",
        lambda: flaxlayer.export([net()], "exported"),
        TypeError,
        "or a mapping from names to these",
        layer=False,
    ),
    Misuse(
        '`export(..., format="pickle")`',
        lambda: flaxlayer.export(net(), "exported", format="pickle"),
        ValueError,
        "'pickle'",
        layer=False,
    ),
    Misuse(
        '`export(..., platforms=["gpu"])`',
        lambda: flaxlayer.export(net(), "exported", platforms=["gpu"]),
        ValueError,
        "'cuda'",
        layer=False,
    ),
    Misuse(
        "`export` with `inputs` that are no shapes",
        lambda: flaxlayer.export(net(), "exported", inputs=3),
        TypeError,
        "is neither an array nor",
    ),
    Misuse(
        "`flaxlayer.serving.load` of a folder that is no export",
        lambda: serving.load("."),
        serving.BadExport,
        "signature.json",
        layer=False,
    ),
]
