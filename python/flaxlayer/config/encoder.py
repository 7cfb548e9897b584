"""Values of any depth as JSON: the fields of modules, functions by name."""

import dataclasses
import enum
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import keras
import numpy as np
from flax.core import FrozenDict

from flaxlayer import imported_nnx
from flaxlayer.config import keras_form, project_configs
from flaxlayer.config.name_resolution import (
    DATACLASS,
    ENUM_CLASS,
    FUNCTION,
    MODULE_CLASS,
    NAMED_TUPLE,
    NNX_CLASS,
    TRANSFORMERS_CONFIG,
    WAY_OUT,
    Kind,
    name_of,
    registered_name,
)
from flaxlayer.config.plain_values import LEAVES, PLAIN, encode_spec
from flaxlayer.config.public_names import (
    initializer_call,
    is_class,
    is_function,
)

Config = dict[str, Any]

# Far beyond any model, and far below what Python can recurse into.
MAX_DEPTH = 64
# Marks what a `ref` elsewhere means. With a hyphen, so that it is no name of
# a field.
SHARED = "shared-id"

_ARRAYS = (
    np.ndarray,
    np.generic,
    jax.Array,
    jax.ShapeDtypeStruct,
    keras.Variable,
)


def site_of(where: str, path: str, root: str) -> str:
    """The words for a place in a configuration."""
    return where if path == root else f"{where}: field `{path}`"


def fields_of(cls: Any) -> dict[str, dataclasses.Field]:
    """The fields a dataclass takes, but for Flax's own `parent`."""
    return {
        field.name: field
        for field in dataclasses.fields(cls)
        if field.init
        and not (field.name == "parent" and issubclass(cls, nn.Module))
    }


class Encoder:
    """Writes the values of one configuration.

    Attributes:
        where: The layer and argument it belongs to, for messages.
        root: The path of the outermost value; those inside follow it.
        tree: Whether it is a pytree, whose arrays are only described.
        closures: Whether closures are written, by their name.
    """

    def __init__(
        self,
        where: str,
        root: str,
        *,
        tree: bool = False,
        closures: bool = False,
    ):
        self.where = where
        self.root = root
        self.tree = tree
        self.closures = closures
        # By identity, with the object itself so that it stays the only one
        # of that identity.
        self.shared: dict[int, tuple[Any, Config]] = {}
        self.number_shared = 0

    def _site(self, path: str) -> str:
        return site_of(self.where, path, self.root)

    def encode(self, value: Any, path: str, depth: int = 0) -> Any:
        """Writes one value.

        Args:
            value: The value.
            path: Where it is, such as `Encoder.blocks[0].act`.
            depth: How deep that is.

        Returns:
            What `Decoder.decode` reads.

        Raises:
            TypeError: If it holds what has no form that could be read back.
            ValueError: If it is too large or nested too deeply.
        """
        if depth > MAX_DEPTH:
            raise ValueError(
                f"{self._site(path):.300} is nested more than {MAX_DEPTH} "
                "deep, or contains itself."
            )
        if type(value) in PLAIN or (
            type(value) is float and float("-inf") < value < float("inf")
        ):
            return value
        if self.tree and isinstance(value, _ARRAYS):
            return encode_spec(value, self._site(path))
        for leaf in LEAVES:
            if leaf.matches(value):
                return {
                    "type": leaf.type,
                    **leaf.encode(value, self._site(path)),
                }
        for matches, encode in _ENCODERS:
            if matches(value):
                return encode(self, value, path, depth + 1)
        return self._object(value, path, depth)

    def _items(self, values: Any, path: str, depth: int) -> list[Any]:
        return [
            self.encode(value, f"{path}[{index}]", depth)
            for index, value in enumerate(values)
        ]

    def _tuple(self, value: Any, path: str, depth: int) -> Config:
        return {"type": "tuple", "items": self._items(value, path, depth)}

    def _named_tuple(self, value: Any, path: str, depth: int) -> Config:
        return {
            "type": "named_tuple",
            "class": name_of(type(value), NAMED_TUPLE, self._site(path)),
            "items": self._items(value, path, depth),
        }

    def _dict(self, value: Mapping[Any, Any], path: str, depth: int) -> Config:
        return {
            "type": "dict" if type(value) is dict else "frozen_dict",
            "items": self._pairs(value.items(), path, depth),
        }

    def _pairs(self, pairs: Any, path: str, depth: int) -> list[list[Any]]:
        return [
            [
                self.encode(key, path, depth),
                self.encode(entry, f"{path}[{key!r}]", depth),
            ]
            for key, entry in pairs
        ]

    def _config_dict(self, value: Any, path: str, depth: int) -> Config:
        try:
            frozen, flags, pairs = project_configs.config_dict_parts(value)
        except Exception as error:  # A required field without a value, say.
            raise ValueError(f"{self._site(path)}: {error}") from error
        return {
            "type": "config_dict",
            "frozen": frozen,
            "flags": flags,
            "items": self._pairs(pairs, path, depth),
        }

    def _transformers_config(self, value: Any, path: str, depth: int) -> Config:
        site = self._site(path)
        values = project_configs.transformers_values(value)
        return {
            "type": "transformers_config",
            "class": name_of(type(value), TRANSFORMERS_CONFIG, site),
            "items": self._pairs(values.items(), path, depth),
        }

    def _enum(self, value: enum.Enum, path: str, depth: int) -> Config:
        return {
            "type": "enum",
            "class": name_of(type(value), ENUM_CLASS, self._site(path)),
            "member": value.name,
        }

    def _class(self, value: type, path: str, depth: int) -> Config:
        if issubclass(value, imported_nnx.module_classes()):
            name = name_of(value, NNX_CLASS, self._site(path))
            return {"type": "nnx_class", "class": name}
        if not issubclass(value, nn.Module):
            return self._object(value, path, depth)
        name = name_of(value, MODULE_CLASS, self._site(path))
        return {"type": "class", "class": name}

    def _function(self, value: Any, path: str, depth: int) -> Config:
        registered = registered_name(value) is not None
        call = None if registered else initializer_call(value)
        if call is None:
            site = self._site(path)
            name = name_of(value, FUNCTION, site, self.closures)
            return {"type": "function", "name": name}
        name, keywords = call
        return {
            "type": "initializer",
            "name": name,
            "keywords": self._keywords(keywords, path, depth),
        }

    def _partial(self, value: Any, path: str, depth: int) -> Config:
        if not is_function(value.func) and not _is_module_class(value.func):
            raise TypeError(
                f"{self._site(path)} is a partial of {value.func!r:.200}; only "
                "partials of functions and of module classes can be written. "
                f"{WAY_OUT}"
            )
        return {
            "type": "partial",
            "function": self.encode(value.func, path, depth),
            "args": self._items(value.args, path, depth),
            "keywords": self._keywords(value.keywords, path, depth),
        }

    def _keywords(
        self, keywords: Mapping[str, Any], path: str, depth: int
    ) -> Config:
        return {
            name: self.encode(value, f"{path}.{name}", depth)
            for name, value in keywords.items()
        }

    def _module(self, value: nn.Module, path: str, depth: int) -> Config:
        # Weights are shared between the uses of one module, so a second use
        # has to come back as the same object.
        if id(value) in self.shared:
            return self._reference(value)
        if keras_form.has_own_config(value):
            node = keras_form.encode_module(value)
        else:
            node = self._fields("module", MODULE_CLASS, value, path, depth)
        self.shared[id(value)] = (value, node)
        return node

    def _dataclass(self, value: Any, path: str, depth: int) -> Config:
        own_config = keras_form.has_own_config(value)
        if own_config or (self.tree and not jax.tree_util.all_leaves([value])):
            return self._object(value, path, depth)
        return self._fields("dataclass", DATACLASS, value, path, depth)

    def _fields(
        self, tag: str, kind: Kind, value: Any, path: str, depth: int
    ) -> Config:
        cls = type(value)
        fields = fields_of(cls)
        # `parent` is among the parameters of a module's, and fine there.
        taken = set(inspect.signature(cls.__init__).parameters) - {"self"}
        if taken - {"parent"} != set(fields) - {"parent"}:
            raise TypeError(
                f"{self._site(path)}: `{cls.__name__}` takes other arguments "
                "than it has fields. Give it `get_config` and `from_config`."
            )
        return {
            "type": tag,
            "class": name_of(cls, kind, self._site(path)),
            "fields": {
                name: self.encode(entry, f"{path}.{name}", depth)
                for name, field in fields.items()
                if not _is_default(field, entry := getattr(value, name))
            },
        }

    def _object(self, value: Any, path: str, depth: int) -> Config:
        if id(value) in self.shared:
            return self._reference(value)
        node = None if is_class(value) else keras_form.encode_object(value)
        if node is not None:
            self.shared[id(value)] = (value, node)
            return node
        what = f"an object of type `{_path(type(value))}`"
        if is_class(value):
            what = f"the class `{_path(value)}`"
        elif self.tree and not jax.tree_util.all_leaves([value]):
            what = f"a pytree node of type `{_path(type(value))}`"
        raise TypeError(
            f"{self._site(path)} is {what}, which cannot be written to a "
            "configuration. Give its class `get_config` and `from_config` and "
            "register it with `keras.saving.register_keras_serializable()`, or "
            "give the module class the two."
        )

    def _reference(self, value: Any) -> Config:
        _, node = self.shared[id(value)]
        if SHARED not in node:
            node[SHARED] = self.number_shared
            self.number_shared += 1
        return {"type": "ref", "to": node[SHARED]}


def _is_module_class(value: Any) -> bool:
    classes = (nn.Module, *imported_nnx.module_classes())
    return is_class(value) and issubclass(value, classes)


def _path(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _is_default(field: dataclasses.Field, value: Any) -> bool:
    if field.default is not dataclasses.MISSING:
        return _same(field.default, value)
    if field.default_factory is not dataclasses.MISSING:
        return _same(field.default_factory(), value)
    return False


def _same(first: Any, second: Any) -> bool:
    """Whether two values are the same and of the same type, if that is plain.

    `==` alone takes True for 1, and arrays do not answer it with a bool.
    """
    if first is second:
        return True
    if type(first) is not type(second):
        return False
    if type(first) in (list, tuple):
        return len(first) == len(second) and all(
            _same(*pair) for pair in zip(first, second, strict=True)
        )
    if type(first) in (dict, FrozenDict):
        return list(first) == list(second) and all(
            _same(first[key], second[key]) for key in first
        )
    if type(first) is float:
        return repr(first) == repr(second)
    return type(first) in PLAIN and first == second


# The first that matches; what none does is for Keras, or refused.
_ENCODERS: tuple[
    tuple[Callable[[Any], bool], Callable[[Encoder, Any, str, int], Any]], ...
] = (
    (lambda value: isinstance(value, enum.Enum), Encoder._enum),
    (lambda value: type(value) is list, Encoder._items),
    (lambda value: type(value) is tuple, Encoder._tuple),
    (lambda value: type(value) in (dict, FrozenDict), Encoder._dict),
    (NAMED_TUPLE.has_instance, Encoder._named_tuple),
    (is_class, Encoder._class),
    (is_function, Encoder._function),
    (lambda value: type(value) is functools.partial, Encoder._partial),
    (MODULE_CLASS.has_instance, Encoder._module),
    (project_configs.is_config_dict, Encoder._config_dict),
    (TRANSFORMERS_CONFIG.has_instance, Encoder._transformers_config),
    (DATACLASS.has_instance, Encoder._dataclass),
)
