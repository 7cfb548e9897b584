"""Configurations of ml_collections and Transformers come back as they were.

ml_collections is the real one where it is installed; else, as always for
Transformers, there is a module of that name with classes of the same shape.
"""

import copy
import json
import sys
import types
from typing import Any

import flax.linen as nn
import keras
import pytest

from flaxlayer.config import module_config, name_resolution


class Holder(nn.Module):
    value: Any = None

    def __call__(self, inputs):
        return inputs


class StandIn:
    """What of `ml_collections.ConfigDict` is used here."""

    def __init__(self, initial=None, type_safe=True, convert_dict=True):
        self.__dict__.update(_fields={}, _locked=False)
        self.__dict__.update(_safe=type_safe, _convert=convert_dict)
        for key, value in dict(initial or {}).items():
            self[key] = value

    is_locked = property(lambda self: self._locked)
    is_type_safe = property(lambda self: self._safe)
    convert_dict = property(lambda self: self._convert)

    def lock(self):
        self.__dict__["_locked"] = True
        return self

    def items(self):
        return sorted(self._fields.items())

    def __setitem__(self, key, value):
        if self._locked or "." in key:
            raise KeyError(key)
        if type(value) is dict and self._convert:
            value = type(self)(value)
        self._fields[key] = value

    def __getattr__(self, name):
        try:
            return self._fields[name]
        except KeyError as error:
            raise AttributeError(name) from error

    def __eq__(self, other):
        return type(self) is type(other) and self.items() == other.items()

    __hash__ = None


class FrozenStandIn(StandIn):
    def __init__(self, initial=None, type_safe=True):
        super().__init__()
        self.__dict__.update(_of=initial, _fields=initial._fields)
        self.__dict__["_locked"] = initial.is_locked

    def as_configdict(self):
        return self._of


@pytest.fixture
def library(monkeypatch):
    try:
        import ml_collections
    except ImportError:
        ml_collections = types.ModuleType("ml_collections")
        ml_collections.ConfigDict = StandIn
        ml_collections.FrozenConfigDict = FrozenStandIn
        monkeypatch.setitem(sys.modules, "ml_collections", ml_collections)
    return ml_collections


class PretrainedConfig:
    """What of Transformers' class is used here."""

    model_type = ""

    def __init__(self, **values):
        self.transformers_version = values.pop("transformers_version", None)
        for name, value in values.items():
            setattr(self, name, value)

    def to_dict(self):
        values = copy.deepcopy(vars(self))
        return {
            **values,
            "model_type": self.model_type,
            "transformers_version": "9.9",
        }

    @classmethod
    def from_dict(cls, values):
        return cls(**values)

    def __eq__(self, other):
        return type(self) is type(other) and vars(self) == vars(other)

    __hash__ = None


class BertConfig(PretrainedConfig):
    model_type = "bert"

    def __init__(self, hidden_size=768, id2label=None, **values):
        if hidden_size < 0:
            raise ValueError("a size is negative")
        super().__init__(**values)
        self.hidden_size = hidden_size
        self.id2label = id2label or {0: "no", 1: "yes"}


class NoConfig:
    @classmethod
    def from_dict(cls, values):
        raise AssertionError("it must not be run")


@pytest.fixture
def transformers(monkeypatch):
    module = types.ModuleType("transformers.configuration_utils")
    module.PretrainedConfig = PretrainedConfig
    monkeypatch.setitem(sys.modules, module.__name__, module)


def encoded(value):
    config = module_config.encode_module(Holder(value), where="test")
    name_resolution._named_here.clear()
    return json.loads(json.dumps(config, allow_nan=False))


def decoded(config):
    return module_config.decode_module(config, where="test").value


def config_dict(library, **options):
    return library.ConfigDict(
        {
            "width": 3,
            "rate": 0.1,
            "sizes": [1, 2],
            "pair": (1, 2),
            "none": None,
            "act": nn.gelu,
            "inner": {"layers": [{"name": "a"}], "dense": nn.Dense(2)},
        },
        **options,
    )


def test_a_config_dict_comes_back(library):
    value = config_dict(library)
    again = decoded(encoded(value))
    assert again == value
    assert type(again) is type(value)
    assert type(again.inner) is library.ConfigDict
    assert type(again.inner.layers[0]) is dict
    assert type(again.pair) is tuple
    assert not again.is_locked


def test_the_options_of_a_config_dict_come_back(library):
    locked = decoded(encoded(config_dict(library).lock()))
    assert locked.is_locked
    with pytest.raises((KeyError, AttributeError)):
        locked["new"] = 1
    free = config_dict(library, type_safe=False, convert_dict=False)
    again = decoded(encoded(free))
    assert again == free
    assert not again.is_type_safe
    assert not again.convert_dict
    assert type(again.inner) is dict


def test_a_frozen_config_dict_comes_back(library):
    plain = library.ConfigDict({"width": 3, "inner": {"sizes": [1, 2]}})
    value = library.FrozenConfigDict(plain.lock())
    again = decoded(encoded(value))
    assert again == value
    assert type(again) is library.FrozenConfigDict
    assert again.is_locked
    assert again.as_configdict() == plain
    assert type(again.as_configdict().inner.sizes) is list


def test_what_a_config_dict_cannot_be_saved_with_is_named(library):
    value = library.ConfigDict({"a": {"f": lambda x: x}})
    with pytest.raises(
        TypeError, match=r"`Holder.value\['a'\]\['f'\]`.*lambda"
    ):
        encoded(value)


def test_a_config_dict_that_contains_itself_is_refused(library):
    value = library.ConfigDict()
    value["again"] = value
    with pytest.raises(ValueError, match="contains itself"):
        encoded(value)


def test_ml_collections_is_not_imported_for_a_file(library, monkeypatch):
    config = encoded(config_dict(library))
    monkeypatch.delitem(sys.modules, "ml_collections")
    with pytest.raises(ValueError, match=r"(?s)Holder.value.*Import `ml_coll"):
        decoded(config)
    assert "ml_collections" not in sys.modules


@pytest.mark.parametrize(
    "changed",
    [
        {"flags": ["unknown"]},
        {"flags": [["locked"]]},
        {"flags": "locked"},
        {"frozen": 1},
        {"items": None},
        {"items": [["a.b", 1]]},
        {"items": [[[], 1]]},
        {"items": [["a", {"type": "function", "name": "os:system"}]]},
    ],
    ids=str,
)
def test_a_crafted_config_dict_is_refused(library, changed):
    config = encoded(library.ConfigDict({"a": 1}))
    config["fields"]["value"].update(changed)
    with pytest.raises(ValueError, match="^test: field `Holder.value"):
        decoded(config)


def test_references_become_values():
    library = pytest.importorskip("ml_collections")
    value = library.ConfigDict({"width": 3})
    value.twice = value.get_ref("width") * 2
    again = decoded(encoded(value))
    assert again.twice == 6
    value.missing = library.config_dict.required_placeholder(int)
    with pytest.raises(ValueError, match="`Holder.value`"):
        encoded(value)


@pytest.mark.usefixtures("transformers")
def test_a_configuration_of_transformers_comes_back():
    value = BertConfig(8, {0: "a"}, labels=["x"], nested={"a": (1, 2)})
    again = decoded(encoded(value))
    assert again == value
    assert type(again) is BertConfig
    assert again.id2label == {0: "a"}


@pytest.mark.usefixtures("transformers")
def test_a_local_class_of_configurations_has_to_be_passed():
    class Local(BertConfig):
        pass

    config = encoded(Local(8))
    with pytest.raises(ValueError, match="PretrainedConfig` class that may"):
        decoded(config)
    with keras.saving.custom_object_scope({"Local": Local}):
        assert decoded(config) == Local(8)


@pytest.mark.usefixtures("transformers")
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"class": f"{__name__}:NoConfig"}, "class that may be used here"),
        ({"class": "os:system"}, "class that may be used here"),
        ({"class": None}, "should name"),
        ({"items": [["__class__", 1]]}, "name '__class__'"),
        ({"items": [[3, 1]]}, "name 3"),
        ({"items": [["hidden_size", -1]]}, "a size is negative"),
        ({"items": 3}, "damaged"),
    ],
    ids=str,
)
def test_a_crafted_configuration_of_transformers_is_refused(changed, message):
    config = encoded(BertConfig(8))
    config["fields"]["value"].update(changed)
    with pytest.raises(ValueError, match=f"^test: field `Holder.*{message}"):
        decoded(config)


def test_without_transformers_its_classes_mean_nothing(monkeypatch):
    name = "transformers.configuration_utils"
    monkeypatch.delitem(sys.modules, name, raising=False)
    node = {
        "type": "transformers_config",
        "class": f"{__name__}:BertConfig",
        "items": [],
    }
    config = encoded(1)
    config["fields"]["value"] = node
    with pytest.raises(ValueError, match="class that may be used here"):
        decoded(config)
