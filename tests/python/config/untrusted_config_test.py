"""Configurations as an attacker would write them: each is refused."""

import json
import subprocess  # noqa: F401 - what a file would like to have
import sys
import types
import zipfile
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import keras
import numpy as np
import numpy.testing
import pytest

from flaxlayer import FlaxLayer
from flaxlayer.config import module_config, name_resolution


def square(x):
    return x * x


@jax.jit
def jitted_square(x):
    return x * x


not_named = lambda x: x  # noqa: E731


class Holder(nn.Module):
    value: Any = None
    other: Any = None

    @nn.compact
    def __call__(self, inputs):
        return inputs

    def encode(self, inputs):
        return inputs

    @property
    def size(self):
        return 1

    @staticmethod
    def static(inputs):
        return inputs

    @keras.saving.register_keras_serializable("untrusted_config_test")
    def registered(self, inputs):
        return inputs


@keras.saving.register_keras_serializable("untrusted_config_test")
class WithConfig(nn.Module):
    size: int = 1

    def get_config(self):
        return {"size": self.size}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


@keras.saving.register_keras_serializable("untrusted_config_test")
def registered_square(x):
    return x * x


class Opaque:
    pass


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


@pytest.fixture
def not_imported(monkeypatch, tmp_path):
    """The name of a module that can be imported, and is not."""
    path = tmp_path / "module_to_import.py"
    path.write_text(
        "import flax.linen\nclass Net(flax.linen.Module): pass\n"
        "def function(x): return x\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return "module_to_import"


def test_a_module_that_could_be_imported_is_not(not_imported):
    for config in (
        {"type": "module", "class": f"{not_imported}:Net", "fields": {}},
        keras_form("Net", not_imported),
        holder({"type": "class", "class": f"{not_imported}:Net"}),
        holder({"type": "function", "name": f"{not_imported}:function"}),
        holder(keras_form("function", not_imported, "function")),
    ):
        with pytest.raises(ValueError, match="test"):
            decode(config)
    assert not_imported not in sys.modules


REFUSED_FUNCTIONS = [
    "os:system",
    "os:_exit",
    "posix:system",
    "builtins:eval",
    "builtins:exec",
    "builtins:__import__",
    "subprocess:Popen",
    "subprocess:call",
    "pickle:loads",
    "functools:partial",
    "importlib:import_module",
    "numpy:load",
    "numpy:save",
    "numpy:fromfile",
    "numpy:frompyfunc",
    "numpy.testing:runstring",
    "numpy.testing._private.utils:runstring",
    "jax.numpy:load",
    "jax.numpy:save",
    "jax.numpy:savez",
    "jax.numpy:fromfile",
    "jax.numpy:frompyfunc",
    "jax.numpy:vectorize",
    "jax.numpy:piecewise",
    "jax.numpy:apply_along_axis",
    "jax.numpy:set_printoptions",
    "jax.numpy:ufunc",
    "jax.lax:map",
    "jax.lax:scan",
    "jax.lax:switch",
    "jax:pure_callback",
    "jax:jit",
    "jax.debug:callback",
    "jax.debug:print",
    "jax.experimental:io_callback",
    "jax.nn:relu.__call__",
    "jax.nn:_src",
    "flax.linen:jit",
    "flax.linen:map_variables",
    "flax.linen:set_logical_axis_rules",
    "flax.linen:disable_named_call",
    "flax.linen:Dense",
    "flax.linen:Module.__class__",
    "flax.linen:Module.__init_subclass__",
    "flax.linen:Module.apply",
    "flax.serialization:msgpack_restore",
    "flax.training.checkpoints:restore_checkpoint",
    "keras.activations:get",
    "keras.activations:deserialize",
    "keras.saving:load_model",
    f"{__name__}:square",
    f"{__name__}:jitted_square",
    f"{__name__}:not_named",
    "",
    ":",
    "a" * 1000,
    None,
    3,
    ["os:system"],
    {"a": 1},
]


@pytest.mark.parametrize("name", REFUSED_FUNCTIONS, ids=lambda n: f"{n!r:.50}")
@pytest.mark.usefixtures("elsewhere")
def test_a_function_that_could_do_harm_is_refused(name):
    # So that it is not their being unknown what helps.
    assert {"subprocess", "numpy.testing"} <= set(sys.modules)
    node = {"type": "function", "name": name}
    before = set(sys.modules)
    partial = {"type": "partial", "function": node, "args": [], "keywords": {}}
    for config in (node, partial):
        with pytest.raises(ValueError, match="test: field `Holder.value`"):
            decode(holder(config))
        with pytest.raises(ValueError, match="test"):
            module_config.decode_function(config, where="test")
    assert set(sys.modules) == before


@pytest.mark.parametrize(
    "name",
    [
        "os:PathLike",
        "subprocess:Popen",
        "builtins:type",
        "keras.layers:Lambda",
        "keras:Model",
        "flax.nnx:Linear",
        "flax.linen:relu",
        "flax.linen:linear.Dense",
        "flax:linen.Dense",
        "flax.linen:Module.__class__",
        "flax.linen:Dense.__mro__",
        "flax.linen:Dense.__base__",
        f"{__name__}:Opaque",
        f"{__name__}:Holder.size",
        f"{__name__}:Holder.missing",
        f"{__name__}:nn.Dense",
        None,
        1,
    ],
)
@pytest.mark.usefixtures("elsewhere")
def test_a_class_that_is_no_imported_module_class_is_refused(name):
    import flax.nnx

    before = set(sys.modules)
    for config in (
        {**holder(1), "class": name},
        holder({"type": "class", "class": name}),
        holder({"type": "named_tuple", "class": name, "items": []}),
        holder({"type": "dataclass", "class": name, "fields": {}}),
        holder({"type": "enum", "class": name, "member": "RED"}),
        {"class_name": name, "module": "x", "config": {}},
    ):
        with pytest.raises(ValueError, match="test"):
            decode(config)
    assert set(sys.modules) == before
    assert flax.nnx.Linear  # It was imported, and is no Linen module.


@pytest.fixture
def lazy_modules(monkeypatch, tmp_path):
    """Modules of which any attribute access would run code."""
    import importlib.util

    ran = []

    class Descriptor:
        def __get__(self, instance, owner=None):
            ran.append("descriptor")
            return nn.Dense

    class Holding:
        attribute = Descriptor()

    by_getattr = types.ModuleType("lazy_by_getattr")
    by_getattr.__getattr__ = lambda name: ran.append(name) or nn.Dense
    by_getattr.Holding = Holding
    monkeypatch.setitem(sys.modules, "lazy_by_getattr", by_getattr)

    for name in ("lazy_by_loader", "lazy_inside"):
        path = tmp_path / f"{name}.py"
        path.write_text("import flax.linen\nDense = flax.linen.Dense\n")
        spec = importlib.util.spec_from_file_location(name, path)
        spec.loader = importlib.util.LazyLoader(spec.loader)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        if name == "lazy_by_loader":
            monkeypatch.setitem(sys.modules, name, module)
        else:
            by_getattr.inside = module

    def have_run():
        loaded = [
            module
            for module in (sys.modules["lazy_by_loader"], by_getattr.inside)
            if "Dense" in vars(types.ModuleType)["__dict__"].__get__(module)
        ]
        return bool(ran or loaded)

    return have_run


@pytest.mark.usefixtures("unsafe")
@pytest.mark.parametrize(
    "name",
    [
        "lazy_by_getattr:Dense",
        "lazy_by_getattr:Holding.attribute",
        "lazy_by_getattr:inside",
        "lazy_by_getattr:inside.Dense",
        "lazy_by_loader:Dense",
    ],
)
def test_looking_up_a_name_runs_no_code(name, lazy_modules):
    for node in (
        {"type": "class", "class": name},
        {"type": "function", "name": name},
        {"type": "named_tuple", "class": name, "items": []},
    ):
        with pytest.raises(ValueError, match="may be used here"):
            decode(holder(node))
    assert not lazy_modules()


@pytest.mark.usefixtures("elsewhere", "unsafe")
def test_without_safe_mode_imported_functions_are_found(not_imported):
    node = {"type": "function", "name": f"{__name__}:square"}
    assert decode(holder(node)).value is square
    with pytest.raises(ValueError, match="may be used here"):
        decode(holder({"type": "function", "name": f"{not_imported}:function"}))
    assert not_imported not in sys.modules


@pytest.mark.usefixtures("unsafe")
@pytest.mark.parametrize("name", ["Dense.__call__", "Module.__init_subclass__"])
def test_without_safe_mode_special_methods_stay_out_of_reach(name):
    with pytest.raises(ValueError, match="may be used here"):
        decode(holder({"type": "function", "name": f"flax.linen:{name}"}))


@pytest.mark.usefixtures("elsewhere")
def test_a_new_function_that_takes_a_function_is_not_public(monkeypatch):
    def new(func, x):
        return func(x)

    monkeypatch.setattr(jnp, "new", new, raising=False)
    with pytest.raises(ValueError, match="may be used here"):
        decode(holder({"type": "function", "name": "jax.numpy:new"}))


DEEP: Any = 1
for _ in range(5000):
    DEEP = [DEEP]
SPEC = {"type": "spec", "shape": [2], "dtype": "float32"}
ARRAY = {
    "type": "array",
    "form": "numpy",
    "shape": [2],
    "dtype": "uint8",
    "data": "AAA=",
}
TUPLE_100 = {"type": "tuple", "items": []}
for _ in range(100):
    TUPLE_100 = {"type": "tuple", "items": [TUPLE_100]}

DAMAGED_VALUES = [
    {},
    {"type": "unknown"},
    {"type": None},
    {"type": ["tuple"]},
    {"type": "tuple"},
    {"type": "tuple", "items": 3},
    {"type": "tuple", "items": {"a": 1}},
    {"type": "dict", "items": [1]},
    {"type": "dict", "items": [[1]]},
    {"type": "dict", "items": [[[], 1]]},
    {"type": "frozen_dict", "items": "ab"},
    {"type": "float", "value": "1"},
    {"type": "float"},
    {"type": "complex", "value": "x"},
    {"type": "bytes", "data": "***"},
    {"type": "bytes", "data": 3},
    {"type": "bytes", "data": "A" * (1 << 22)},
    {"type": "slice", "parts": [1]},
    {"type": "slice", "parts": [[], {}, ()]},
    {"type": "dtype", "form": "dtype", "dtype": "object"},
    {"type": "dtype", "form": "dtype", "dtype": "O"},
    {"type": "dtype", "form": "numpy", "dtype": "void"},
    {"type": "dtype", "form": "jax", "dtype": "ndarray"},
    {"type": "dtype", "form": "python", "dtype": "eval"},
    {"type": "dtype", "form": [], "dtype": "float32"},
    {**ARRAY, "dtype": "object"},
    {**ARRAY, "shape": [3]},
    {**ARRAY, "shape": [10**12]},
    {**ARRAY, "shape": [-2]},
    {**ARRAY, "shape": [-1, -2]},
    {**ARRAY, "shape": [2.0]},
    {**ARRAY, "shape": [True, 2]},
    {**ARRAY, "shape": [1] * 100},
    {**ARRAY, "shape": "2"},
    {**ARRAY, "shape": None},
    {**ARRAY, "data": "A" * (1 << 22)},
    {**ARRAY, "form": "pickle"},
    {**ARRAY, "form": "numpy_scalar"},
    {**SPEC, "shape": [10**13]},
    {**SPEC, "shape": [2**30, 2**30]},
    {**SPEC, "shape": [-1]},
    {**SPEC, "shape": [1.5]},
    {**SPEC, "shape": [None]},
    {**SPEC, "shape": [False]},
    {**SPEC, "dtype": "object"},
    {**SPEC, "dtype": 3},
    {"type": "partition_spec", "axes": [1]},
    {"type": "partition_spec", "axes": [[1]]},
    {"type": "enum", "class": "jax.lax:Precision", "member": "mro"},
    {"type": "enum", "class": "jax.lax:Precision", "member": []},
    {"type": "ref", "to": 7},
    {"type": "ref", "to": "0"},
    {"type": "ref", "to": True},
    {"type": "tuple", "items": [], "shared-id": []},
    {"type": "tuple", "items": [], "shared-id": "0"},
    {"type": "tuple", "items": [{"type": "ref", "to": 0}], "shared-id": 0},
    {"type": "initializer", "name": "os:system", "keywords": {}},
    {"type": "initializer", "name": ["x"], "keywords": {}},
    {"type": "initializer", "name": "jax.nn.initializers:normal"},
    {
        "type": "initializer",
        "name": "jax.nn.initializers:normal",
        "keywords": {"x": 1},
    },
    {"type": "partial", "function": "os:system", "args": [], "keywords": {}},
    {"type": "partial", "function": holder(1), "args": [], "keywords": {}},
    {"type": "partial", "args": [], "keywords": {}},
    {
        "type": "partial",
        "function": {"type": "class", "class": "flax.linen:Dense"},
        "args": [],
        "keywords": {"parent": None},
    },
    {"type": "module", "class": "flax.linen:Dense"},
    {"type": "module", "class": "flax.linen:Dense", "fields": []},
    {"type": "module", "class": "flax.linen:Dense", "fields": {}},
    {"type": "module", "class": "flax.linen:Dense", "fields": {"x": 1}},
    {
        "type": "module",
        "class": "flax.linen:Dense",
        "fields": {"features": 1, "parent": None},
    },
    {
        "type": "module",
        "class": "flax.linen:Dense",
        "fields": {"features": 1, "name": 3},
    },
    DEEP,
    {"type": "tuple", "items": {"a": DEEP}},
    TUPLE_100,
    {1: 2},
    object(),
    np.zeros(2),
]


@pytest.mark.parametrize(
    "value", DAMAGED_VALUES, ids=lambda value: f"{type(value).__name__}"
)
def test_a_damaged_value_is_refused(value):
    with pytest.raises(ValueError, match="^test"):
        decode(holder(value))
    with pytest.raises(ValueError, match="^test"):
        module_config.decode_tree(value, where="test")


@pytest.mark.parametrize(
    "config", [None, 1, "flax.linen:Dense", [], {}, DEEP, {"class_name": "a"}]
)
def test_what_is_no_module_is_not_read_as_one(config):
    with pytest.raises(ValueError, match="^test"):
        decode(config)


def test_an_unknown_field_lists_the_known_ones():
    config = {**holder(1), "fields": {"valeu": 1}}
    with pytest.raises(ValueError, match="'valeu'.*value, other, name"):
        decode(config)


def test_a_constructor_that_fails_says_where():
    class Picky(nn.Module):
        size: int = 1

        def __post_init__(self):
            if self.size == 13:
                raise KeyError("thirteen")
            super().__post_init__()

    config = module_config.encode_module(Holder(Picky(12)), where="test")
    config["fields"]["value"]["fields"]["size"] = 13
    with pytest.raises(ValueError, match=r"`Holder.value`: `Picky`.*thirteen"):
        decode(config)


def test_sharing_does_not_multiply():
    # Each level twice the one before: as nothing in a file, endless in use.
    value: Any = {"type": "tuple", "items": [1], "shared-id": 0}
    for number in range(1, 40):
        value = {
            "type": "tuple",
            "items": [value, {"type": "ref", "to": number - 1}],
            "shared-id": number,
        }
    with pytest.raises(ValueError, match="more than 1000000 values"):
        decode(holder(value))


# Crafted forms of Keras.


KERAS_LAMBDA = {
    "class_name": "__lambda__",
    "module": "builtins",
    "config": {"value": ["", None, None]},
    "registered_name": None,
}


def keras_form(class_name, module="keras.initializers", config=None, **more):
    return {
        "class_name": class_name,
        "module": module,
        "config": {} if config is None else config,
        **more,
    }


REFUSED_KERAS_FORMS = [
    KERAS_LAMBDA,
    keras_form("Lambda", "keras.layers"),
    keras_form("Dense", "keras.layers", {"units": 1}),
    keras_form("TFSMLayer", "keras.layers"),
    keras_form("deserialize", "keras.initializers"),
    keras_form("load_model", "keras.saving"),
    keras_form("Popen", "subprocess"),
    keras_form("Net", "keras_hub.models", registered_name=None),
    keras_form("Net", "keras.src.applications.resnet", registered_name=None),
    keras_form("function", "os", "system", registered_name="system"),
    keras_form("function", "os", "system", registered_name=None),
    keras_form("function", "builtins", "eval", registered_name="eval"),
    keras_form("function", "keras.activations", "get"),
    keras_form("function", "builtins", None),
    keras_form("function", ["x"], {"a": 1}),
    keras_form("__typespec__", "tensorflow"),
    keras_form(["a"]),
    keras_form("Zeros", ["a"]),
    keras_form("Zeros", registered_name={"a": 1}),
    keras_form("RandomNormal", config={"stddev": "no", "unknown": 1}),
    keras_form("RandomNormal", config=[1]),
]


@pytest.mark.parametrize(
    "form", REFUSED_KERAS_FORMS, ids=lambda f: f"{f!s:.40}"
)
@pytest.mark.usefixtures("elsewhere")
def test_a_crafted_keras_form_is_refused(form):
    before = set(sys.modules)
    with pytest.raises(ValueError, match="^test"):
        decode(holder(form))
    with pytest.raises(ValueError, match="^test"):
        module_config.decode_function(form, where="test")
    assert set(sys.modules) == before


# Keras 3 imports what it is asked for from these packages by itself.
@pytest.mark.parametrize(
    "form",
    [
        keras_form("Net", "keras.src.not_imported_yet", registered_name=None),
        keras_form(
            "untrusted_config_test>WithConfig",
            "keras.src.not_imported_yet",
            registered_name=None,
        ),
        keras_form(
            "function",
            "keras.src.not_imported_yet",
            "relu",
            registered_name="untrusted_config_test>registered_square",
        ),
    ],
    ids=["class", "class of a known name", "function of a known name"],
)
def test_keras_imports_nothing_for_what_is_nested(form, monkeypatch):
    # Before the import below is replaced: Keras tries TensorFlow's once.
    outer = module_config.encode_module(WithConfig(), where="test")
    imported = []
    monkeypatch.setattr(
        keras.src.saving.serialization_lib.importlib,
        "import_module",
        imported.append,
    )

    @classmethod
    def from_config(cls, config):
        keras.saving.deserialize_keras_object(config)
        return cls()

    monkeypatch.setattr(WithConfig, "from_config", from_config)
    for config in ({"a": [form]}, form):
        with pytest.raises(ValueError, match="test"):
            decode({**outer, "config": config})
    with pytest.raises(ValueError, match="test"):
        decode(holder(keras_form("Zeros", config={"a": [form]})))
    assert not imported


@pytest.mark.parametrize(
    "form", [keras_form(["a"]), keras_form("Zeros", registered_name={"a": 1})]
)
def test_a_damaged_keras_form_inside_another_is_refused(form):
    outer = module_config.encode_module(WithConfig(), where="test")
    with pytest.raises(ValueError, match="^test.* is damaged"):
        decode({**outer, "config": {"size": form}})


def test_a_nested_lambda_of_keras_is_refused():
    outer = module_config.encode_module(WithConfig(), where="test")
    with pytest.raises(ValueError, match="is a lambda"):
        decode({**outer, "config": {"size": KERAS_LAMBDA}})


@pytest.mark.parametrize(
    "name",
    [
        "__init__",
        "__class__",
        "__reduce__",
        "__post_init__",
        "apply",
        "size",
        "static",
        "value",
        "missing",
        "",
        "encode.__globals__",
    ],
)
def test_what_is_no_method_of_the_class_is_refused(name):
    with pytest.raises(ValueError, match="no method that `Holder` defines"):
        module_config.decode_method(name, Holder(), where="test")
    with pytest.raises(ValueError, match="no method that `Holder` defines"):
        module_config.encode_method(name, Holder, where="test")


@pytest.mark.parametrize("config", [1, [], {}, {"type": "tuple", "items": []}])
def test_a_damaged_method_is_refused(config):
    with pytest.raises(ValueError, match="^test"):
        module_config.decode_method(config, Holder(), where="test")


class Dangerous(nn.Module):
    """Of a library, say; nobody makes layers of `erase`."""

    path: str = ""

    @nn.compact
    def __call__(self, inputs):
        return inputs

    def erase(self, inputs):
        erased.append(self.path)
        return inputs

    def shown(self, inputs):
        return inputs


class DerivedOfDangerous(Dangerous):
    pass


erased: list[str] = []


def layer_config(method, cls=Dangerous):
    return {
        "name": "probe",
        "module": {
            "type": "module",
            "class": f"{__name__}:{cls.__name__}",
            "fields": {"path": "/"},
        },
        "method": method,
    }


@pytest.fixture
def file_with(tmp_path):
    """A model file, crafted so that its layer is built by a method."""

    def craft(method):
        layer = FlaxLayer(Dangerous(), name="probe")
        model = keras.Sequential([keras.Input((4,)), layer])
        path = tmp_path / "crafted.keras"
        model.save(path)
        with zipfile.ZipFile(path) as archive:
            parts = {n: archive.read(n) for n in archive.namelist()}
        config = json.loads(parts["config.json"])
        made = config["config"]["layers"][1]["config"]
        made.update(layer_config(method))
        parts["config.json"] = json.dumps(config).encode()
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in parts.items():
                archive.writestr(name, data)
        return path

    erased.clear()
    module_config._named_methods.clear()
    return craft


def test_building_on_load_runs_no_method_that_the_program_has_not_named(
    file_with,
):
    path = file_with("erase")
    with pytest.raises(ValueError, match="'probe'.*`method`") as error:
        keras.models.load_model(path)
    for words in (
        "`Dangerous.erase`",
        "@keras.saving.register_keras_serializable()",
        "custom_objects={'erase': Dangerous.erase}",
        "`safe_mode=False`",
    ):
        assert words in str(error.value)
    assert not erased


@pytest.mark.parametrize(
    "options",
    [{"safe_mode": False}, {"custom_objects": {"erase": Dangerous.erase}}],
    ids=["unsafe", "custom object"],
)
def test_a_method_that_is_trusted_is_run(file_with, options):
    path = file_with("erase")
    model = keras.models.load_model(path, **options)
    assert erased
    # The loaded layer names it from now on.
    again = keras.models.clone_model(model)
    assert again.layers[0].method.__func__ is Dangerous.erase


def test_a_layer_of_the_program_names_its_method(file_with):
    path = file_with("erase")
    FlaxLayer(Dangerous(), method=Dangerous.erase)
    assert keras.models.load_model(path)
    for other in (
        layer_config("shown"),
        layer_config("erase", DerivedOfDangerous),
    ):
        with pytest.raises(ValueError, match="has named itself"):
            FlaxLayer.from_config(other)


def test_a_registered_method_may_be_named():
    made = module_config.decode_method("registered", Holder(), where="test")
    assert made.__func__ is Holder.registered


@pytest.mark.parametrize(
    "passed", [registered_square, Holder.encode, 3, len, Dangerous]
)
def test_a_custom_object_of_that_name_has_to_be_the_method(passed):
    module_config._named_methods.clear()
    with (
        keras.saving.custom_object_scope({"erase": passed}),
        pytest.raises(ValueError, match="has named itself"),
    ):
        module_config.decode_method("erase", Dangerous(), where="test")


@pytest.mark.parametrize(
    "config",
    [
        holder(1),
        {"type": "class", "class": "flax.linen:Dense"},
        {"class_name": "Zeros", "module": "keras.initializers", "config": {}},
    ],
    ids=["module", "class", "object of Keras"],
)
def test_an_object_that_can_be_called_is_no_function(config):
    with pytest.raises(ValueError, match="test should be a function"):
        module_config.decode_function(config, where="test")
    with pytest.raises(ValueError, match="test should be a function"):
        module_config.decode_method(config, Holder(), where="test")
