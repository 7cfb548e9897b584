"""Keras's summary shows the submodules of a layer, and nothing else does."""

import re

import flax.linen as nn
import h5py
import jax
import keras
import numpy as np
import pytest

from flaxlayer import FlaxLayer, JaxLayer, keras_compat

X = np.ones((2, 4), "float32")


class Block(nn.Module):
    features: int

    @nn.compact
    def __call__(self, inputs, training=False):
        x = nn.BatchNorm(use_running_average=not training)(inputs)
        x = nn.Dropout(0.1, deterministic=not training)(x)
        return nn.Dense(self.features)(x)


class Net(nn.Module):
    def setup(self):
        self.encoder = Block(6)
        self.head = nn.Dense(3)

    def __call__(self, inputs, training=False):
        return self.head(self.encoder(inputs, training))

    def encode(self, inputs):
        return self.encoder(inputs)


# Path, class, output shape, number of parameters.
ROWS = [
    ("encoder", "Block", "(None, 6)", 46),
    ("encoder/BatchNorm_0", "BatchNorm", "(None, 4)", 16),
    ("encoder/Dropout_0", "Dropout", "(None, 4)", 0),
    ("encoder/Dense_0", "Dense", "(None, 6)", 30),
    ("head", "Dense", "(None, 3)", 21),
]


def built(layer, shape=(None, 4)):
    layer.build(shape)
    return layer


@pytest.fixture
def summary(monkeypatch):
    """The rows of a model's summary, as those above."""
    monkeypatch.setenv("COLUMNS", "200")  # Or long names would be broken.

    def summary(model, **options):
        texts = []
        options = {"expand_nested": True, "line_length": 160} | options
        model.summary(print_fn=texts.append, **options)
        found = []
        for line in "\n".join(texts).splitlines():
            cells = [cell.strip() for cell in line.split("│")[1:-1]]
            name = re.fullmatch(
                r"(└ )?(\S+) \((\w+)\)", cells[0] if cells else ""
            )
            if name:
                count = int(cells[2].replace(",", ""))
                found.append((name[2], name[3], cells[1], count, *cells[3:]))
        return found

    return summary


def test_a_summary_shows_submodules_below_their_layer(summary):
    layer = FlaxLayer(Net(), name="net")
    model = keras.Sequential([keras.Input((4,)), layer, keras.layers.ReLU()])
    whole = ("net", "FlaxLayer", "(None, 3)", layer.count_params())
    assert summary(model)[:-1] == [whole, *ROWS]
    assert layer.count_params() == 46 + 21


def test_without_nesting_it_is_as_it_was(summary):
    layer = FlaxLayer(Net(), name="net")
    model = keras.Sequential([keras.Input((4,)), layer])
    assert summary(model, expand_nested=False) == [
        ("net", "FlaxLayer", "(None, 3)", layer.count_params())
    ]


def test_models_of_all_kinds_show_them(summary):
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.net = FlaxLayer(Net(), name="net")

        def call(self, inputs):
            return self.net(inputs)

    subclassed = Model()
    subclassed(X)
    # Keras takes the shapes of such a model from its data.
    assert [(row[0], row[3]) for row in summary(subclassed)[1:]] == [
        (row[0], row[3]) for row in ROWS
    ]
    inputs = keras.Input((4,))
    branch = FlaxLayer(Net(), name="net")(inputs)
    joined = keras.layers.Add()([branch, keras.layers.Dense(3)(inputs)])
    rows = summary(keras.Model(inputs, joined))
    assert [row[:4] for row in rows if "/" in row[0]] == ROWS[1:4]
    # They are connected to no layer.
    assert {row[4] for row in rows if "/" in row[0]} == {"-"}


def test_a_summary_shows_what_is_trained(summary):
    layer = FlaxLayer(Net(), name="net")
    model = keras.Sequential([keras.Input((4,)), layer])
    for weight in layer.weights:
        if "/head/" in weight.path:
            weight.trainable = False
    shown = {row[0]: row[4] for row in summary(model, show_trainable=True)}
    assert shown["encoder/Dense_0"] == "Y"
    assert shown["encoder/Dropout_0"] == "-"
    assert shown["head"] == "N"


def test_a_loaded_model_shows_them(summary, tmp_path):
    layer = FlaxLayer(Net(), name="net")
    model = keras.Sequential([keras.Input((4,)), layer])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert summary(loaded) == summary(model)


def test_rows_are_those_of_the_method_that_is_called():
    layer = built(FlaxLayer(Net(), method="encode"))
    assert [row.name for row in layer.layers] == [row[0] for row in ROWS[:-1]]


def test_given_weights_have_rows_as_well():
    variables = Net().init(jax.random.key(0), X)
    layer = built(FlaxLayer(Net(), variables=variables))
    assert [(row.name, row.count_params()) for row in layer.layers] == [
        (row[0], row[3]) for row in ROWS
    ]


def test_a_module_is_listed_once_with_all_its_outputs():
    class Twice(nn.Module):
        @nn.compact
        def __call__(self, inputs):
            carry = nn.RNN(nn.LSTMCell(5, name="cell"), return_carry=True)
            return carry(carry(inputs)[1][..., :4])

    layer = built(FlaxLayer(Twice()), (None, 7, 4))
    rows = {row.name: row for row in layer.layers}
    assert len(rows) == len(layer.layers)
    assert type(rows["RNN_0"]).__name__ == "RNN"
    assert [output.shape for output in rows["RNN_0"].output] == [
        *((None, 5), (None, 5), (None, 7, 5))
    ]


def test_known_sizes_are_shown_as_they_are():
    layer = FlaxLayer(Net())
    layer(X)
    assert layer.layers[-1].output.shape == (2, 3)


def test_the_inputs_are_those_it_was_built_for():
    layer = FlaxLayer(Block(3))
    layer.compute_output_shape((None, 9))
    assert built(layer, (2, 4)).layers[0].output.shape == (2, 4)


def test_sizes_of_placeholders_are_not_shown():
    class Rows(nn.Module):
        @nn.compact
        def __call__(self, inputs):
            return nn.Dense(3)(np.ones((int(inputs.shape[0]), 4)))

    class Statistics(nn.Module):
        @nn.compact
        def __call__(self, inputs):
            self.variable("stats", "first", lambda: inputs.mean(0))
            return nn.Dense(3)(inputs)

    # One cannot be traced without a size, the other needs the values.
    (row,) = built(FlaxLayer(Rows())).layers
    assert row.output.shape == (None, None)
    (row,) = built(FlaxLayer(Statistics())).layers
    assert row.output.shape == (None, 3)


def test_there_are_none_before_the_layer_is_built_or_without_a_module():
    assert len(FlaxLayer(Net()).layers) == 0
    assert not hasattr(JaxLayer(lambda inputs: inputs), "layers")


def test_they_are_no_layers_to_keras(tmp_path):
    layer = FlaxLayer(Net(), name="net")
    model = keras.Sequential([keras.Input((4,)), layer])
    assert model.layers == [layer]
    assert len(keras_compat.flattened_layers(model)) == 3  # And the input.
    assert len(layer.weights) == len({id(w) for w in model.weights})
    model.save_weights(tmp_path / "model.weights.h5")
    names = []
    with h5py.File(tmp_path / "model.weights.h5") as file:
        file.visit(names.append)
    of_layer = [name for name in names if name.startswith("layers/flax_layer/")]
    assert of_layer
    assert all("flax_layer/vars" in name for name in of_layer)
    copy = keras.models.clone_model(model)
    copy.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(copy.predict(X), model.predict(X))


def test_keras_does_not_look_into_them_when_it_saves(tmp_path, monkeypatch):
    layer = built(FlaxLayer(Net(), name="net"))
    made = []
    rows = type(layer.layers)
    original = rows.__getitem__
    monkeypatch.setattr(
        rows,
        "__getitem__",
        lambda self, index: made.append(index) or original(self, index),
    )
    model = keras.Sequential([keras.Input((4,)), layer])
    model.save(tmp_path / "model.keras")
    keras.models.load_model(tmp_path / "model.keras")
    assert made == []
    assert layer.layers[0].name == "encoder"
    assert made == [0]


def test_rows_are_read_only():
    row = built(FlaxLayer(Net(), name="net")).layers[0]
    assert repr(row) == "<Block name=encoder>"
    assert row.trainable
    with pytest.raises(AttributeError, match="'encoder'.*nothing was changed"):
        row.trainable = False
    with pytest.raises(TypeError, match="'encoder'.*cannot be called"):
        row(X)
