"""Tables of weights say what each of them is, and add up."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

import flaxlayer
from flaxlayer import FlaxLayer, JaxLayer

X = np.ones((2, 4), "float32")


class Net(nn.Module):
    """Has partitioned parameters, and state of integers and statistics."""

    @nn.compact
    def __call__(self, inputs, training=False):
        split = nn.with_partitioning(
            nn.initializers.lecun_normal(), (None, "model")
        )
        calls = self.variable("counts", "calls", jnp.zeros, (), "int32")
        calls.value += 1
        x = nn.Dense(8, kernel_init=split, name="encoder")(inputs)
        x = nn.BatchNorm(use_running_average=not training)(x)
        return nn.Dense(3, name="head")(x)


def built(layer):
    layer.build((None, 4))
    return layer


def rows(text):
    """The cells of all lines, by their first cell; the last line wins."""
    lines = [line.split("  ") for line in text.splitlines() if line]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    return {first: rest for first, *rest in cells}


def test_every_weight_has_a_row_under_its_flax_path():
    text = flaxlayer.tabulate(built(FlaxLayer(Net(), name="net")))
    first, _, header, *_ = text.splitlines()
    assert first == "<FlaxLayer name=net, built=True, module=Net()>"
    assert header.split() == [
        *("path", "shape", "dtype", "kind", "axes", "sharding", "bytes")
    ]
    variables = Net().init(jax.random.key(0), X)
    paths = {
        jax.tree_util.keystr(keys, simple=True, separator="/")
        for keys, _ in jax.tree_util.tree_leaves_with_path(
            nn.meta.unbox(variables)
        )
    }
    table = rows(text)
    assert paths == {path for path in table if "/" in path}
    assert table["params/encoder/kernel"] == [
        *("(4, 8)", "float32", "trainable", "None, model", "-", "128")
    ]
    assert table["counts/calls"] == ["()", "int32", "state", "-", "-", "4"]


def test_the_totals_are_those_of_keras():
    layer = built(FlaxLayer(Net()))
    table = rows(flaxlayer.tabulate(layer))
    trained = sum(weight.value.nbytes for weight in layer.trainable_weights)
    everything = sum(weight.value.nbytes for weight in layer.weights)
    assert table["trainable"][-1] == str(trained)
    assert table["frozen"] == ["0", "0", "0"]
    assert table["state"][0] == "3"
    assert table["all"] == [
        str(len(layer.weights)),
        str(layer.count_params()),
        str(everything),
    ]


def test_bytes_of_large_weights_are_easy_to_read():
    table = rows(flaxlayer.tabulate(built(FlaxLayer(nn.Dense(1000)))))
    assert table["params/kernel"][-1] == "16,000"


def test_what_is_not_trained_is_frozen():
    layer = built(FlaxLayer(Net()))
    for weight in layer.weights:
        if "/head/" in weight.path:
            weight.trainable = False
    table = rows(flaxlayer.tabulate(layer))
    assert table["params/head/kernel"][2] == "frozen"
    assert table["params/encoder/kernel"][2] == "trainable"
    layer.trainable = False
    table = rows(flaxlayer.tabulate(layer))
    assert table["trainable"] == ["0", "0", "0"]
    # Statistics were no parameters before, and are none now.
    assert table["batch_stats/BatchNorm_0/mean"][2] == "state"


def test_mixed_precision_shows_both_dtypes():
    layer = built(FlaxLayer(Net(), dtype="mixed_bfloat16"))
    table = rows(flaxlayer.tabulate(layer))
    assert table["params/head/kernel"][1] == "float32 as bfloat16"
    assert table["batch_stats/BatchNorm_0/mean"][1] == "float32"
    layer = built(FlaxLayer(Net(), dtype="bfloat16"))
    table = rows(flaxlayer.tabulate(layer))
    assert table["params/head/kernel"][1:] == [
        *("bfloat16", "trainable", "-", "-", str(8 * 3 * 2))
    ]


def test_without_logical_axes_there_is_no_column_of_them():
    layer = JaxLayer(
        lambda params, inputs: inputs @ params["w"] + params["step"],
        params={"w": np.ones((4, 3), "float32"), "step": np.int32(1)},
        name="jax_layer",
    )
    layer(X)
    text = flaxlayer.tabulate(layer)
    assert "call_fn=<lambda>" in text.splitlines()[0]
    assert "axes" not in text
    table = rows(text)
    assert table["params/w"] == ["(4, 3)", "float32", "trainable", "-", "48"]
    # An optimizer cannot step integers.
    assert table["params/step"] == ["()", "int32", "frozen", "-", "4"]


def test_a_layer_without_weights_has_an_empty_table():
    layer = JaxLayer(lambda inputs: inputs)
    layer(X)
    assert rows(flaxlayer.tabulate(layer))["all"] == ["0", "0", "0"]


def test_a_model_has_a_table_for_each_layer_in_it():
    inner = keras.Sequential([FlaxLayer(nn.Dense(4), name="deep")])
    model = keras.Sequential(
        [
            keras.Input((5, 4)),
            keras.layers.Dense(4),
            keras.layers.TimeDistributed(inner),
            FlaxLayer(nn.Dense(3), name="last"),
        ],
        name="model",
    )
    text = flaxlayer.tabulate(model)
    assert text.index("name=deep") < text.index("name=last")
    assert text.count("params/kernel") == 2
    assert "2 layers of model" in text
    # Of both together: those of Keras's own layer are not in it.
    assert rows(text)["all"] == ["4", "35", "140"]


def test_a_shared_layer_is_listed_once():
    shared = FlaxLayer(nn.Dense(4))
    inputs = keras.Input((4,))
    model = keras.Model(inputs, shared(shared(inputs)))
    assert flaxlayer.tabulate(model).count("params/kernel") == 1


def test_no_line_is_cut_or_broken():
    name = "a_module_with_a_name_" * 10
    layer = JaxLayer(
        lambda params, inputs: inputs,
        params={name: {name: {"[bold]": X}}},
    )
    layer(X)
    assert f"params/{name}/{name}/[bold]" in rows(flaxlayer.tabulate(layer))
    assert not flaxlayer.tabulate(layer).endswith("\n")


def test_a_traced_weight_is_nowhere():
    layer = built(FlaxLayer(nn.Dense(3)))
    texts = []

    @jax.jit
    def traced(values):
        pairs = list(zip(layer.variables, values, strict=True))
        with keras.StatelessScope(state_mapping=pairs):
            texts.append(flaxlayer.tabulate(layer))
        return values

    traced([variable.value for variable in layer.variables])
    assert rows(texts[0])["params/kernel"][-2:] == ["?", "48"]


def test_what_is_not_built_is_named():
    layer = FlaxLayer(nn.Dense(3), name="late")
    with pytest.raises(ValueError, match="FlaxLayer 'late' is not built"):
        flaxlayer.tabulate(layer)
    with pytest.raises(ValueError, match="FlaxLayer 'late' is not built"):
        flaxlayer.tabulate(keras.Sequential([layer]))


def test_what_has_no_such_weights_is_refused():
    with pytest.raises(TypeError, match="Keras layer or model.*type Dense"):
        flaxlayer.tabulate(nn.Dense(3))
    dense = keras.layers.Dense(3, name="stock")
    with pytest.raises(ValueError, match="none in <Dense name=stock"):
        flaxlayer.tabulate(dense)


def test_a_notebook_shows_tables_line_by_line():
    layer = flaxlayer.FlaxLayer(nn.Dense(3), name="a<b")
    layer.build((None, 4))
    tables = flaxlayer.tabulate(layer)
    shown = tables._repr_html_()
    assert shown.startswith("<pre ")
    assert "name=a&lt;b" in shown
    assert shown.count("\n") == tables.count("\n")
