"""Which classes only hold values, and which have code that would run."""

import abc
import dataclasses
import enum
import functools
import subprocess
import sys
from typing import Any, Generic, NamedTuple, TypeVar

import flax
import flax.linen as nn
import keras
import pytest

from flaxlayer.config import module_config, name_resolution
from flaxlayer.config.value_classes import own_code

T = TypeVar("T")


class Holder(nn.Module):
    value: Any = None

    def __call__(self, inputs):
        return inputs


def decode(config):
    return module_config.decode_module(config, where="test")


@dataclasses.dataclass
class Plain:
    width: int = 3
    names: list = dataclasses.field(default_factory=list)

    @property
    def double(self):
        return 2 * self.width

    def scaled(self, by):
        return by * self.width

    def __repr__(self):
        return "plain"


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Slots:
    width: int = 3


@dataclasses.dataclass(kw_only=True)
class Typed(Plain, Generic[T]):
    kind: T = None


class Shape(abc.ABC):
    @abc.abstractmethod
    def area(self):
        pass


@dataclasses.dataclass
class Square(Shape):
    width: int = 3

    def area(self):
        return self.width**2


@flax.struct.dataclass
class Struct:
    width: int = 3
    act: Any = flax.struct.field(pytree_node=False, default=None)


class Node(flax.struct.PyTreeNode):
    width: int = 3


class Pair(NamedTuple):
    first: int
    second: Any = None

    def total(self):
        return self.first + self.second


class Color(enum.Enum):
    RED = (1, 2)

    def __init__(self, first, second):
        self.first = first

    def mixed(self):
        return self


class Name(enum.StrEnum):
    RED = "red"


class Bits(enum.IntFlag):
    ONE = 1


VALUES = [
    Plain(4, ["a"]),
    Slots(4),
    Typed(width=4, kind=1.5),
    Square(4),
    Struct(4, "relu"),
    Node(width=4),
    Pair(1, (2, 3)),
    Color.RED,
    Name.RED,
    Bits.ONE,
]


@pytest.mark.parametrize("value", VALUES, ids=lambda v: type(v).__name__)
def test_a_value_comes_back_in_another_process(value):
    config = module_config.encode_module(Holder(value), where="test")
    name_resolution._named_here.clear()
    again = decode(config).value
    assert again == value
    assert type(again) is type(value)


@pytest.mark.parametrize("value", VALUES[:7], ids=lambda v: type(v).__name__)
def test_a_class_of_a_script_is_found_in_that_script(value, monkeypatch):
    cls = type(value)
    monkeypatch.setattr(cls, "__module__", "__main__")
    config = module_config.encode_module(Holder(value), where="test")
    name_resolution._named_here.clear()
    with pytest.raises(ValueError, match="pass it as `custom_objects=") as e:
        decode(config)
    assert "import `" not in str(e.value)  # Nobody else can import a script.
    with keras.saving.custom_object_scope({cls.__name__: cls}):
        assert decode(config).value == value
    script = sys.modules["__main__"]
    monkeypatch.setattr(script, cls.__name__, cls, raising=False)
    assert decode(config).value == value


# What would run by itself.


ran = []


@dataclasses.dataclass
class PostInit:
    command: str = ""

    def __post_init__(self):
        ran.append(self.command)


@flax.struct.dataclass
class StructPostInit:
    command: str = ""

    def __post_init__(self):
        ran.append(self.command)


class Derived(PostInit):
    """Inherits what runs."""


@dataclasses.dataclass
class OwnInit:
    command: str = ""

    def __init__(self, command=""):
        ran.append(command)


@dataclasses.dataclass
class OwnNew:
    command: str = ""

    def __new__(cls, *args):
        ran.append(args)
        return super().__new__(cls)


@dataclasses.dataclass
class Called:
    command: str = ""

    def __call__(self, *args):
        return subprocess.call(self.command)


@dataclasses.dataclass
class CalledByPartial:
    command: str = ""
    __call__ = functools.partial(subprocess.call)


@dataclasses.dataclass
class Anything:
    command: str = ""

    def __getattr__(self, name):
        return functools.partial(subprocess.call, self.command)


@dataclasses.dataclass
class Assigned:
    command: str = ""

    def __setattr__(self, name, value):
        ran.append(value)


@dataclasses.dataclass
class Number:
    command: str = ""

    def __jax_array__(self):
        return subprocess.call(self.command)

    def __add__(self, other):
        return subprocess.call(self.command)


@dataclasses.dataclass
class Described:
    command: str = ""

    def _set(self, value):
        ran.append(value)


Described.command = property(lambda self: "", Described._set)


class Meta(type):
    def __call__(cls, *args, **kwargs):
        ran.append(args)


@dataclasses.dataclass
class Made(metaclass=Meta):
    command: str = ""


class NewPair(Pair):
    def __new__(cls, first, second):
        ran.append(first)
        return super().__new__(cls, first, second)


class Command(enum.Enum):
    SHELL = "sh"

    def __call__(self, *args):
        return subprocess.call(self.value)


@pytest.mark.parametrize(
    ("cls", "name"),
    [
        (PostInit, "__post_init__"),
        (StructPostInit, "__post_init__"),
        (Derived, "__post_init__"),
        (OwnInit, "__init__"),
        (OwnNew, "__new__"),
        (Called, "__call__"),
        (CalledByPartial, "__call__"),
        (Anything, "__getattr__"),
        (Assigned, "__setattr__"),
        (Number, "__jax_array__"),
        (Described, "command"),
        (Made, "Meta"),
        (NewPair, "__new__"),
        (Command, "__call__"),
    ],
)
def test_a_file_may_not_name_a_class_whose_code_would_run(cls, name):
    assert own_code(cls) == name
    path = f"{__name__}:{cls.__name__}"
    node = {"type": "dataclass", "class": path, "fields": {"command": "sh"}}
    if issubclass(cls, tuple):
        node = {"type": "named_tuple", "class": path, "items": ["sh", "sh"]}
    if issubclass(cls, enum.Enum):
        node = {"type": "enum", "class": path, "member": "SHELL"}
    config = module_config.encode_module(Holder(1), where="test")
    config["fields"]["value"] = node
    name_resolution._named_here.clear()
    ran.clear()
    with pytest.raises(ValueError, match=f"could run, `{name}`") as error:
        decode(config)
    assert f"custom_objects={{'{cls.__name__}': ...}}" in str(error.value)
    assert not ran


def test_a_class_with_code_is_read_where_it_is_passed():
    config = module_config.encode_module(Holder(PostInit("sh")), where="test")
    name_resolution._named_here.clear()
    with keras.saving.custom_object_scope({"PostInit": PostInit}):
        assert decode(config).value == PostInit("sh")
