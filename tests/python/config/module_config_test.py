"""Modules, methods, functions and trees as configurations, and back."""

import dataclasses
import enum
import functools
import json
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from flax.core import FrozenDict

from flaxlayer.config import module_config, name_resolution

P = jax.sharding.PartitionSpec


def square(x):
    return x * x


@jax.jit
def jitted_square(x):
    return x * x


@keras.saving.register_keras_serializable("module_config_test")
def registered_square(x):
    return x * x


not_named = lambda x: x  # noqa: E731


class Block(nn.Module):
    features: int
    conv: Callable[..., Any] = functools.partial(nn.Conv, kernel_size=(3, 3))
    act: Callable[..., Any] = nn.relu

    @nn.compact
    def __call__(self, inputs):
        return self.act(self.conv(self.features)(inputs))


class ResNet(nn.Module):
    conv: Callable[..., Any]
    norm: Callable[..., Any]
    act: Callable[..., Any] = nn.relu
    sizes: tuple[int, ...] = (4, 4)

    @nn.compact
    def __call__(self, inputs, training=False):
        for size in self.sizes:
            inputs = self.conv(size, (3, 3))(inputs)
            inputs = self.norm(use_running_average=not training)(inputs)
            inputs = self.act(inputs)
        return inputs


class Holder(nn.Module):
    value: Any = None
    other: Any = None

    @nn.compact
    def __call__(self, inputs):
        return inputs

    def encode(self, inputs):
        return inputs

    def _hidden(self, inputs):
        return inputs

    @property
    def size(self):
        return 1

    @staticmethod
    def static(inputs):
        return inputs


class Tied(nn.Module):
    first: nn.Module
    second: nn.Module

    def __call__(self, inputs):
        return self.second(self.first(inputs))


class Nested(nn.Module):
    class Inner(nn.Module):
        @nn.compact
        def __call__(self, inputs):
            return inputs


@keras.saving.register_keras_serializable("module_config_test")
class WithConfig(nn.Module):
    size: int = 1

    @nn.compact
    def __call__(self, inputs):
        return nn.Dense(self.size)(inputs)

    def get_config(self):
        return {"size": self.size}

    @classmethod
    def from_config(cls, config):
        return cls(size=config.pop("size"))


class UnregisteredWithConfig(nn.Module):
    act: Callable[..., Any] = nn.relu

    def get_config(self):
        return {"act": self.act is not_named}

    @classmethod
    def from_config(cls, config):
        return cls(not_named if config["act"] else nn.relu)


class OwnConstructor(nn.Module):
    size: int = 1

    def __init__(self, twice):
        self.size = 2 * twice


class Color(enum.Enum):
    RED = 1


class Pair(NamedTuple):
    kernel: Any
    bias: Any


@dataclasses.dataclass(frozen=True)
class Settings:
    width: int = 3
    act: Callable[..., Any] = nn.relu


@flax.struct.dataclass
class StructSettings:
    width: int = 3


def through_json(config):
    return json.loads(json.dumps(config, allow_nan=False))


def round_trip(module):
    config = module_config.encode_module(module, where="test")
    # What Keras does to the configuration of a layer.
    written = keras.saving.serialize_keras_object(config)
    config_as_read = through_json(written)
    again = module_config.decode_module(config_as_read, where="test")
    assert config_as_read == through_json(written)
    return again


def value_round_trip(value):
    return round_trip(Holder(value)).value


def decode(config):
    return module_config.decode_module(config, where="test")


def holder(value):
    return {
        "type": "module",
        "class": f"{__name__}:Holder",
        "fields": {"value": value},
    }


@pytest.fixture
def elsewhere():
    """Forgets what this process has named, as another process would have."""
    name_resolution._named_here.clear()


@pytest.fixture
def unsafe():
    from keras.src.saving.serialization_lib import SafeModeScope

    with SafeModeScope(safe_mode=False):
        yield


# Round trips.


MODULES = {
    "dense": (nn.Dense(3), (2, 4)),
    "dense with dtypes": (
        nn.Dense(3, dtype=jnp.bfloat16, param_dtype=jnp.float16),
        (2, 4),
    ),
    "precision": (nn.Dense(3, precision=jax.lax.Precision.HIGHEST), (2, 4)),
    "named": (nn.Dense(3, name="head"), (2, 4)),
    "partials": (
        ResNet(
            conv=functools.partial(nn.Conv, use_bias=False),
            norm=functools.partial(nn.BatchNorm, momentum=0.9),
        ),
        (1, 8, 8, 3),
    ),
    "nested": (
        nn.Sequential(
            [
                Block(2),
                Block(3, act=nn.gelu),
                nn.relu,
                jnp.tanh,
                functools.partial(nn.avg_pool, window_shape=(2, 2)),
                nn.Sequential((nn.Dense(2), nn.silu)),
            ]
        ),
        (1, 8, 8, 3),
    ),
    "attention": (
        nn.MultiHeadDotProductAttention(
            num_heads=2,
            kernel_init=nn.initializers.normal(0.02),
            out_kernel_init=nn.initializers.orthogonal(2.0),
        ),
        (1, 3, 4),
    ),
    "initializers": (
        nn.Dense(
            3,
            kernel_init=nn.initializers.xavier_uniform(dtype=jnp.float16),
            bias_init=nn.initializers.constant(0.5),
        ),
        (2, 4),
    ),
    "partitioned": (
        nn.Dense(
            3,
            kernel_init=nn.with_partitioning(
                nn.initializers.lecun_normal(), ("data", None)
            ),
        ),
        (2, 4),
    ),
    "class as value": (Block(3, conv=nn.Dense), (2, 4)),
    "inner class": (Nested.Inner(), (2, 4)),
    "own config": (nn.Sequential([WithConfig(3), nn.relu]), (2, 4)),
}


@pytest.mark.parametrize(
    ("module", "shape"), MODULES.values(), ids=MODULES.keys()
)
@pytest.mark.usefixtures("elsewhere")
def test_a_module_comes_back_with_the_same_weights(module, shape):
    config = through_json(module_config.encode_module(module, where="test"))
    name_resolution._named_here.clear()
    again = decode(config)
    assert type(again) is type(module)
    inputs = jnp.ones(shape)
    expected = module.init(jax.random.key(0), inputs)
    actual = again.init(jax.random.key(0), inputs)
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for got, want in zip(
        jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True
    ):
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    "module",
    [
        nn.Dense(3, dtype=jnp.bfloat16),
        Block(3, act=nn.gelu),
        Holder([1, (2.5, None)], {"a": nn.Dense(2)}),
        nn.Sequential((nn.Dense(3), nn.relu)),
        nn.Dense(3, name="head"),
    ],
)
def test_a_module_comes_back_equal(module):
    assert round_trip(module) == module


def test_only_what_differs_from_the_default_is_written():
    config = module_config.encode_module(
        Block(3, act=nn.relu, name="b"), where="test"
    )
    assert config == {
        "type": "module",
        "class": f"{__name__}:Block",
        "fields": {"features": 3, "name": "b"},
    }


def test_a_default_of_another_type_is_written():
    class Defaults(nn.Module):
        number: Any = 1
        zero: Any = 0.0
        array: Any = dataclasses.field(default_factory=lambda: np.zeros(2))
        items: Any = dataclasses.field(default_factory=lambda: [1, {"a": 2.0}])

    def fields(**values):
        module = Defaults(**values)
        return set(module_config.encode_module(module, where="t")["fields"])

    assert fields(array=np.ones(2)) == {"array"}
    assert fields(array=1) == {"array"}
    assert "number" in fields(number=True)
    assert "zero" in fields(zero=-0.0)
    assert "zero" in fields(zero=math.nan)
    assert "items" not in fields(items=[1, {"a": 2.0}])
    assert "items" in fields(items=[True, {"a": 2.0}])


def test_classes_and_functions_have_their_public_names():
    module = nn.Sequential([nn.Dense(3), nn.relu, jax.nn.gelu, jnp.tanh])
    layers = module_config.encode_module(module, where="t")["fields"]["layers"]
    assert layers[0]["class"] == "flax.linen:Dense"
    names = [layer["name"] for layer in layers[1:]]
    assert names == ["jax.nn:relu", "jax.nn:gelu", "jax.nn:tanh"]


VALUES = [
    None,
    True,
    0,
    2**70,
    -0.0,
    1e-300,
    math.inf,
    -math.inf,
    1 + 2j,
    complex(math.inf, -1),
    "text",
    b"\x00\xff",
    [1, [2, "a"]],
    (1, (2,), []),
    {"a": (1,), 3: {"b": None}, (1, "x"): 2, "type": "tuple", "items": []},
    FrozenDict({"a": FrozenDict({"b": (1, 2)})}),
    ...,
    slice(1, None, -2),
    float,
    int,
    bool,
    jnp.float32,
    jnp.bfloat16,
    np.float32,
    np.int8,
    jnp.bfloat16.dtype.type,
    np.dtype("float32"),
    np.dtype(jnp.bfloat16),
    jax.lax.Precision.HIGHEST,
    nn.relu,
    nn.gelu,
    jnp.add,
    np.tanh,
    nn.dot_product_attention,
    nn.initializers.zeros,
    jax.lax.dot_general,
    keras.activations.relu,
    registered_square,
    nn.LayerNorm,
    Nested.Inner,
    P("data", None, ("x", "y")),
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
@pytest.mark.usefixtures("elsewhere")
def test_a_value_comes_back_as_it_was(value):
    again = value_round_trip(value)
    assert type(again) is type(value)
    assert again == value
    assert repr(again) == repr(value)


def test_nan_comes_back():
    assert math.isnan(value_round_trip(math.nan))


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.int16).reshape(2, 3),
        np.zeros((0, 3)),
        np.array([True, False]),
        np.array([1.5, math.nan, -0.0], jnp.bfloat16),
        np.array(2.0, np.float64),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.float16(2.5),
        np.bool_(True),
        jnp.arange(3.0),
        jnp.arange(3, dtype=jnp.int4),
        jnp.float32(2.5),
        jnp.asarray(2.5),
    ],
)
def test_an_array_comes_back_bit_by_bit(array):
    again = value_round_trip(array)
    assert type(again) is type(array)
    assert again.dtype == array.dtype
    assert again.shape == array.shape
    assert np.asarray(again).tobytes() == np.asarray(array).tobytes()
    assert getattr(again, "weak_type", None) == getattr(
        array, "weak_type", None
    )


def test_an_array_that_needs_x64_says_so():
    config = module_config.encode_module(Holder(np.ones(2)), where="test")
    config["fields"]["value"]["form"] = "jax"
    with pytest.raises(ValueError, match="jax_enable_x64"):
        decode(config)


def test_a_keras_object_comes_back():
    again = value_round_trip(keras.initializers.RandomNormal(stddev=0.3))
    assert isinstance(again, keras.initializers.RandomNormal)
    assert again.stddev == 0.3


@pytest.mark.usefixtures("elsewhere")
def test_a_partial_comes_back():
    value = functools.partial(nn.Conv, 3, strides=(2, 2), dtype=jnp.bfloat16)
    again = value_round_trip(value)
    assert (again.func, again.args, again.keywords) == (
        value.func,
        value.args,
        value.keywords,
    )


def test_an_initializer_of_a_partial_comes_back():
    init = functools.partial(nn.initializers.normal(0.5), dtype=jnp.float16)
    again = value_round_trip(init)
    key = jax.random.key(0)
    np.testing.assert_array_equal(again(key, (3,)), init(key, (3,)))


def test_one_module_in_two_fields_stays_one():
    shared = nn.Dense(4)
    module = Tied(shared, Tied(nn.Dense(4), shared))
    again = round_trip(module)
    assert again.first is again.second.second
    assert again.first is not again.second.first
    inputs = jnp.ones((1, 4))
    expected = module.init(jax.random.key(0), inputs)
    actual = again.init(jax.random.key(0), inputs)
    assert len(jax.tree.leaves(actual)) == 4
    assert jax.tree.structure(actual) == jax.tree.structure(expected)


def test_a_shared_module_with_its_own_config_stays_one():
    shared = WithConfig(4)
    again = round_trip(Tied(shared, shared))
    assert again.first is again.second


def test_a_shared_module_survives_sorted_keys():
    shared = nn.Dense(4)
    config = module_config.encode_module(
        Tied(first=shared, second=shared), where="test"
    )
    config["fields"] = dict(reversed(config["fields"].items()))
    again = decode(json.loads(json.dumps(config)))
    assert again.first is again.second


def test_a_module_is_not_adopted_by_the_one_being_called():
    class Outer(nn.Module):
        @nn.compact
        def __call__(self, inputs):
            inner = decode(holder(1))
            assert inner.parent is None
            return inputs

    Outer().apply({}, jnp.ones(1))


@pytest.mark.usefixtures("elsewhere")
def test_local_dataclasses_enums_and_named_tuples_need_to_be_passed():
    @dataclasses.dataclass
    class Local:
        width: int = 3

    local = [Local(4), Local(5)]
    values = [Settings(4), Color.RED, Pair(1, 2), StructSettings(5), *local]
    module = Holder(values)
    config = through_json(module_config.encode_module(module, where="test"))
    assert decode(config).value == module.value
    name_resolution._named_here.clear()
    with pytest.raises(ValueError, match=r"custom_objects=\{'Local': "):
        decode(config)
    with keras.saving.custom_object_scope({"Local": Local}):
        assert decode(config).value == module.value


# Modules with a configuration of their own, as keras.layers.FlaxLayer has it.


def test_own_config_is_in_the_form_of_keras():
    config = module_config.encode_module(WithConfig(3), where="test")
    assert config == keras.saving.serialize_keras_object(WithConfig(3))


def test_a_file_of_the_keras_layer_is_read():
    module = WithConfig(3)
    layer = keras.layers.FlaxLayer(module, method=module.__call__)
    config = through_json(layer.get_config())
    module = module_config.decode_module(config["module"], where="test")
    assert module == WithConfig(3)
    # `from_config` takes things out of the dict it is given.
    assert decode(config["module"]) == module
    method = module_config.decode_method(config["method"], module, where="test")
    assert method.__func__ is WithConfig.__call__
    assert method.__self__ is module


def test_own_config_need_not_be_registered():
    module = UnregisteredWithConfig(not_named)
    assert round_trip(module) == module

    class Local(WithConfig):
        pass

    assert type(round_trip(Local(2))) is Local


def test_a_failing_from_config_says_where():
    config = module_config.encode_module(WithConfig(3), where="test")
    config["config"] = {}
    with pytest.raises(ValueError, match="test.*'WithConfig'.*size"):
        decode(config)


# What cannot be written.


def closure(power):
    def act(x):
        return x**power

    return act


def uniform(scale=1.0):
    """Named as one of JAX's, and not to be written as a call of itself."""
    scale = 2 * scale

    def init(key, shape, dtype=None):
        return jnp.full(shape, scale, dtype)

    return init


class Opaque:
    pass


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (not_named, "is a lambda"),
        (jax.jit(not_named), "is a lambda"),
        (closure(2), "is a closure.*`power`"),
        (jax.jit(closure(2)), "is a closure"),
        (functools.partial(not_named, 1), "is a lambda"),
        (functools.partial(max, 1), "partial of <built-in function max>"),
        (max, "object of type `builtins.builtin_function_or_method`"),
        (Holder().encode, "object of type `builtins.method`"),
        (Opaque(), rf"object of type `{__name__}.Opaque`.*get_config"),
        (Opaque, rf"class `{__name__}.Opaque`"),
        (keras.layers.Dense(1), "object of type.*Dense"),
        ({1, 2}, "object of type `builtins.set`"),
        (np.array(["a"]), "dtype"),
        (np.array([None]), "dtype"),
        (np.array([1.0], ">f4"), "native byte order"),
        (np.dtype("O"), "dtype"),
        (np.str_, "no dtype"),
        (jnp.full(2, 1.0), "weakly typed"),
        (jax.random.key(0), "dtype"),
        (slice("a", "b"), "slice"),
    ],
    ids=repr,
)
def test_what_cannot_be_written_is_named(value, message):
    module = nn.Sequential([Holder(), Holder([{"k": value}])])
    place = r"layer 'a': field `Sequential\.layers\[1\]\.value\[0\]\['k'\]"
    with pytest.raises(TypeError, match=f"(?s){place}.*{message}"):
        module_config.encode_module(module, where="layer 'a'")


@pytest.mark.parametrize("public", [False, True])
def test_a_closure_that_only_looks_like_an_initializer(public, monkeypatch):
    if public:
        monkeypatch.setattr(jax.nn.initializers, "uniform", uniform)
    with pytest.raises(TypeError, match="is a closure"):
        module_config.encode_module(Holder(uniform(0.3)), where="test")


def test_the_way_out_is_named():
    with pytest.raises(TypeError, match="register_keras_serializable"):
        module_config.encode_module(Holder(not_named), where="test")


def test_a_large_array_is_refused():
    with pytest.raises(ValueError, match="field `Holder.value`.*bytes"):
        module_config.encode_module(Holder(np.zeros(2**18)), where="test")


def test_a_value_that_contains_itself_is_refused():
    value = []
    value.append(value)
    with pytest.raises(ValueError, match="contains itself"):
        module_config.encode_module(Holder(value), where="test")


def test_a_traced_value_is_refused():
    def encode(x):
        module_config.encode_module(Holder(x), where="test")

    with pytest.raises(TypeError, match="traced"):
        jax.eval_shape(encode, jnp.ones(2))


def test_a_constructor_of_its_own_is_refused():
    with pytest.raises(TypeError, match="OwnConstructor.*get_config"):
        module_config.encode_module(OwnConstructor(1), where="test")


def test_what_is_no_module_is_refused():
    with pytest.raises(TypeError, match="no `flax.linen.Module`"):
        module_config.encode_module(nn.Dense, where="test")


# Names: what this process wrote, and what it did not.


def test_deeply_nested_modules_come_back():
    module = nn.Dense(1)
    for _ in range(30):
        module = Holder([module])
    assert round_trip(module) == module


def test_a_local_class_is_known_in_the_process_that_wrote_it():
    class Local(nn.Module):
        size: int = 1

    module = Local(2)
    assert round_trip(module) == module
    config = module_config.encode_module(module, where="test")
    name_resolution._named_here.clear()
    with pytest.raises(ValueError, match=r"custom_objects=\{'Local': "):
        decode(config)
    with keras.saving.custom_object_scope({"Local": Local}):
        assert decode(config) == module
    full_name = config["class"]
    assert full_name.endswith("<locals>.Local")
    with keras.saving.custom_object_scope({full_name: Local}):
        assert decode(config) == module


def test_two_local_classes_of_one_name_are_told_apart():
    def define():
        class Local(nn.Module):
            pass

        return Local

    first, second = define(), define()
    configs = [
        module_config.encode_module(cls(), where="test")
        for cls in (first, second)
    ]
    assert type(decode(configs[0])) is first
    assert type(decode(configs[1])) is second
    # Elsewhere the ending means nothing.
    assert configs[1]["class"].endswith("Local#2")
    name_resolution._named_here.clear()
    with keras.saving.custom_object_scope({"Local": first}):
        assert type(decode(configs[1])) is first


def test_a_function_of_the_user_is_known_in_this_process_only():
    config = module_config.encode_module(Block(1, act=square), where="test")
    assert decode(config).act is square
    name_resolution._named_here.clear()
    with pytest.raises(
        ValueError, match=r"field `Block.act`.*custom_objects=\{'square': "
    ):
        decode(config)
    with keras.saving.custom_object_scope({"square": jnp.sin}):
        assert decode(config).act is jnp.sin


def test_a_class_of_main_is_asked_for_by_name():
    config = {**holder(1), "class": "__main__:Net"}
    with pytest.raises(ValueError, match=r"custom_objects=\{'Net': ") as error:
        decode(config)
    assert "register_keras_serializable" in str(error.value)
    assert "import `__main__`" not in str(error.value)
    with keras.saving.custom_object_scope({"__main__:Net": Holder}):
        assert decode(config) == Holder(1)


def test_a_missing_module_is_asked_for():
    config = {**holder(1), "class": "my_models.nets:Net"}
    with pytest.raises(ValueError, match="import `my_models.nets` before"):
        decode(config)


def test_custom_objects_do_not_replace_public_functions():
    config = holder({"type": "function", "name": "jax.nn:relu"})
    with keras.saving.custom_object_scope({"relu": square}):
        assert decode(config).value is jax.nn.relu
    with keras.saving.custom_object_scope({"jax.nn:relu": square}):
        assert decode(config).value is square


def test_custom_objects_of_the_wrong_kind_are_passed_over():
    with keras.saving.custom_object_scope({"Holder": keras.layers.Dense}):
        assert decode(holder(1)) == Holder(1)


# Methods.


@pytest.mark.parametrize("name", ["__call__", "encode", "_hidden"])
def test_a_method_is_written_by_name(name):
    module = Holder()
    module_config.name_method(name, type(module))
    for method in (getattr(module, name), getattr(Holder, name), name):
        config = module_config.encode_method(method, type(module), where="test")
        assert config == name
        again = module_config.decode_method(config, module, where="test")
        assert again == getattr(module, name)


def test_a_method_of_a_base_class_is_found():
    class Derived(Holder):
        encode = None

    module_config.name_method("_hidden", Derived)
    again = module_config.decode_method("_hidden", Derived(), where="test")
    assert again.__func__ is Holder._hidden
    with pytest.raises(ValueError, match="'encode'"):
        module_config.decode_method("encode", Derived(), where="test")


def test_a_method_may_be_a_function_or_nothing():
    module = Holder()
    config = module_config.encode_method(square, type(module), where="test")
    again = module_config.decode_method(config, module, where="test")
    assert again is square
    assert module_config.encode_method(None, type(module), where="test") is None
    assert module_config.decode_method(None, module, where="test") is None
    with pytest.raises(TypeError, match="test is a lambda"):
        module_config.encode_method(not_named, type(module), where="test")


# Functions.


@pytest.mark.parametrize(
    "function", [square, jitted_square, registered_square, nn.relu, jnp.add]
)
def test_a_function_comes_back(function):
    config = module_config.encode_function(function, where="test")
    again = module_config.decode_function(through_json(config), where="test")
    assert again is function


@pytest.mark.usefixtures("elsewhere")
def test_a_registered_function_comes_back_elsewhere():
    config = module_config.encode_function(registered_square, where="test")
    name_resolution._named_here.clear()
    again = module_config.decode_function(config, where="test")
    assert again is registered_square


def test_a_partial_of_a_function_comes_back():
    config = module_config.encode_function(
        functools.partial(square, 3), where="test"
    )
    again = module_config.decode_function(through_json(config), where="test")
    assert again() == 9


def test_closures_of_one_name_are_told_apart():
    first, second = closure(2), closure(3)
    configs = [
        module_config.encode_function(function, where="test")
        for function in (first, second)
    ]
    for config, function in zip(configs, (first, second), strict=True):
        again = module_config.decode_function(config, where="test")
        assert again is function
    name_resolution._named_here.clear()
    with pytest.raises(ValueError, match=r"custom_objects=\{'act': "):
        module_config.decode_function(configs[0], where="test")
    with keras.saving.custom_object_scope({"act": second}):
        again = module_config.decode_function(configs[0], where="test")
    assert again is second


def test_no_function_comes_back():
    assert module_config.encode_function(None, where="test") is None
    assert module_config.decode_function(None, where="test") is None


@pytest.mark.usefixtures("elsewhere")
def test_a_function_of_the_user_has_to_be_passed_elsewhere():
    config = module_config.encode_function(square, where="call_fn of 'a'")
    name_resolution._named_here.clear()
    with pytest.raises(ValueError, match="call_fn of 'a'.*register_keras"):
        module_config.decode_function(config, where="call_fn of 'a'")
    with keras.saving.custom_object_scope({"square": square}):
        again = module_config.decode_function(config, where="call_fn of 'a'")
    assert again is square


@pytest.mark.parametrize(
    "function", [registered_square, keras.activations.relu]
)
def test_functions_in_the_form_of_keras_are_read(function):
    config = keras.saving.serialize_keras_object(function)
    again = module_config.decode_function(config, where="test")
    assert again is function


@pytest.mark.usefixtures("elsewhere")
def test_names_of_functions_are_read():
    config = keras.saving.serialize_keras_object(square)
    for written in (config, "square"):
        with pytest.raises(ValueError, match="custom_objects"):
            module_config.decode_function(written, where="test")
        with keras.saving.custom_object_scope({"square": square}):
            again = module_config.decode_function(written, where="test")
        assert again is square


@pytest.mark.parametrize("function", [3, "square", Holder, Holder()])
def test_what_is_no_function_is_not_written(function):
    with pytest.raises(TypeError, match="not a function"):
        module_config.encode_function(function, where="test")


@pytest.mark.usefixtures("unsafe")
def test_without_safe_mode_a_lambda_of_keras_is_read():
    with pytest.warns(UserWarning, match="lambda"):
        config = keras.saving.serialize_keras_object(not_named)
    again = module_config.decode_function(through_json(config), where="test")
    assert again(3) == 3


# Trees.


def test_a_tree_comes_back_as_shapes():
    tree = {
        "dense": [{"kernel": jnp.ones((2, 3), jnp.bfloat16)}, None],
        "state": (np.zeros(4, np.int8), np.float64(1.0)),
        "frozen": FrozenDict({"x": jax.ShapeDtypeStruct((0, 5), "bool")}),
        "variable": keras.Variable(np.zeros((2,), "float32")),
        "static": ("name", True, 3, 2.5, b"x", math.inf),
        "pair": Pair(jnp.ones(()), "bias"),
        "empty": {},
    }
    config = through_json(module_config.encode_tree(tree, where="test"))
    again = module_config.decode_tree(config, where="test")
    assert again == {
        "dense": [
            {"kernel": jax.ShapeDtypeStruct((2, 3), jnp.bfloat16)},
            None,
        ],
        "state": (
            jax.ShapeDtypeStruct((4,), np.int8),
            jax.ShapeDtypeStruct((), np.float64),
        ),
        "frozen": FrozenDict({"x": jax.ShapeDtypeStruct((0, 5), "bool")}),
        "variable": jax.ShapeDtypeStruct((2,), np.float32),
        "static": ("name", True, 3, 2.5, b"x", math.inf),
        "pair": Pair(jax.ShapeDtypeStruct((), np.float32), "bias"),
        "empty": {},
    }


def test_a_large_tree_is_not_allocated():
    config = {"type": "spec", "shape": [10**12], "dtype": "float32"}
    again = module_config.decode_tree(config, where="test")
    assert again == jax.ShapeDtypeStruct((10**12,), jnp.float32)


def test_a_custom_pytree_node_is_refused():
    @jax.tree_util.register_pytree_node_class
    class Node:
        def tree_flatten(self):
            return (), None

        @classmethod
        def tree_unflatten(cls, aux, children):
            return cls()

    for node in (Node(), StructSettings()):
        with pytest.raises(TypeError, match=r"`\['a'\]` is a pytree node"):
            module_config.encode_tree({"a": node}, where="test")
    with pytest.raises(TypeError, match=r"`\['a'\]` is an object of type"):
        module_config.encode_tree({"a": Opaque()}, where="test")
    with pytest.raises(TypeError, match="dtype"):
        module_config.encode_tree({"a": jax.random.key(0)}, where="test")
