"""Representations stay on a line and never fail."""

import functools

import flax.linen as nn
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from flaxlayer import FlaxLayer, JaxLayer, short_repr


class Block(nn.Module):
    features: int = 8
    activation: object = nn.relu
    inner: nn.Module | None = None
    table: object = None

    @nn.compact
    def __call__(self, inputs):
        return nn.Dense(self.features)(inputs)

    def encode(self, inputs):
        return self(inputs)


class Broken:
    def __repr__(self):
        raise RuntimeError("no representation")

    def __eq__(self, other):
        raise RuntimeError("no comparison")

    __hash__ = None


def test_a_flax_layer_shows_its_module():
    layer = FlaxLayer(Block(3), name="head")
    assert (
        repr(layer)
        == "<FlaxLayer name=head, built=False, module=Block(features=3)>"
    )
    layer.build((None, 4))
    assert "built=True" in repr(layer)
    assert str(layer) == repr(layer)


def test_it_begins_as_the_representations_of_keras_do():
    layer = FlaxLayer(Block(), name="head")
    stock = keras.layers.Layer.__repr__(layer)
    assert repr(layer).startswith(stock.removesuffix(">"))


def test_a_method_is_shown_where_it_is_not_the_usual_one():
    assert "method=" not in repr(FlaxLayer(Block()))
    assert "method='encode'" in repr(FlaxLayer(Block(), method="encode"))
    assert "method=Block.encode>" in repr(
        FlaxLayer(Block(), method=Block.encode)
    )


def test_a_jax_layer_shows_its_function():
    def scaled(inputs):
        return inputs

    layer = JaxLayer(scaled, name="jax")
    assert repr(layer) == "<JaxLayer name=jax, built=False, call_fn=scaled>"


def test_a_subclass_has_its_own_name():
    class Mine(FlaxLayer):
        pass

    assert repr(Mine(Block())).startswith("<Mine name=")


def test_only_fields_that_are_not_at_their_default_are_shown():
    assert short_repr.of(Block()) == "Block()"
    assert (
        short_repr.of(Block(activation=nn.gelu, name="x"))
        == "Block(activation=gelu)"
    )
    partial = functools.partial(nn.leaky_relu, negative_slope=0.2)
    assert (
        short_repr.of(Block(activation=partial))
        == "Block(activation=partial(leaky_relu, negative_slope=0.2))"
    )


def test_arrays_are_shown_by_dtype_and_shape():
    for array in (np.ones((1000, 2), "float32"), jnp.ones((1000, 2))):
        assert short_repr.of(Block(table=array)) == (
            "Block(table=float32[1000,2])"
        )


def test_modules_in_modules_are_cut():
    module = Block()
    for _ in range(50):
        module = Block(inner=module, table=np.ones(10_000))
    text = short_repr.of(module)
    assert text.startswith("Block(inner=Block(")
    assert "..." in text
    assert len(text) <= 100


def test_a_sequence_of_modules_is_one_line():
    text = short_repr.of(nn.Sequential([nn.Dense(i) for i in range(40)]))
    assert text.startswith("Sequential(layers=[Dense(features=0), ")
    assert "\n" not in text
    assert len(text) <= 100


@pytest.mark.parametrize(
    "value", [{"a": list(range(10**5))}, "x" * 10**6, set(range(10**5))]
)
def test_large_values_are_cut(value):
    assert len(short_repr.of(value)) <= 100


def test_what_fails_is_shown_by_its_type():
    assert "Broken" in short_repr.of(Broken())
    assert "Broken" in repr(FlaxLayer(Block(table=Broken())))

    class Worse:
        @property
        def shape(self):
            raise RuntimeError("no shape")

    assert short_repr.of(Worse()) == "<Worse>"


def test_a_layer_that_is_being_constructed_can_be_shown():
    blank = FlaxLayer.__new__(FlaxLayer, Block())
    assert repr(blank) == "<FlaxLayer>"
    blank.module = Block(2)
    assert repr(blank) == "<FlaxLayer module=Block(features=2)>"
