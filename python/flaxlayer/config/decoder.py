"""What `config_encoder` wrote, read without trusting it.

Every dict of a configuration has a `type`, and for each there is one method
that reads it. All that a file can ask for is in the table at the end.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

from flax.core import FrozenDict

from flaxlayer.config import keras_form, project_configs
from flaxlayer.config.encoder import MAX_DEPTH, SHARED, fields_of, site_of
from flaxlayer.config.name_resolution import (
    DATACLASS,
    ENUM_CLASS,
    FUNCTION,
    MODULE_CLASS,
    NAMED_TUPLE,
    NNX_CLASS,
    TRANSFORMERS_CONFIG,
    Kind,
    resolve,
)
from flaxlayer.config.plain_values import LEAVES, PLAIN, decode_spec, take
from flaxlayer.config.public_names import initializer_factory, is_class

# Counting what is shared once for each place it is used in: a file must not
# describe more than it spells out.
MAX_VALUES = 1_000_000
# A value is at most four containers of JSON deep itself. Without this limit
# even the message about a deep one would be too deep for Python.
_MAX_CONTAINERS = 4 * MAX_DEPTH

Node = Mapping[str, Any]


# What a partial may be one of.
_IN_PARTIALS = ("class", "nnx_class", "function", "initializer")


class Decoder:
    """Reads the values of one configuration.

    Attributes:
        where: The layer and argument it belongs to, for messages.
        root: The path of the outermost value; those inside follow it.
        shared: The dicts that others refer to, by their number.
        done: Their values, and how many values each consists of; None while
            one is being read.
        count: How many values have been read.
    """

    def __init__(self, config: object, where: str, root: str):
        self.where = where
        self.root = root
        self.shared = _shared_nodes(config, where)
        self.done: dict[int, tuple[Any, int] | None] = {}
        self.count = 0

    def decode(self, config: Any, path: str, depth: int = 0) -> Any:
        """Reads one value.

        Args:
            config: Its configuration.
            path: Where it is, such as `Encoder.blocks[0].act`.
            depth: How deep that is.

        Returns:
            The value.

        Raises:
            ValueError: If it is damaged, names what may not be used here, or
                does not fit the classes it names.
        """
        self._spend(1, path)
        if depth > MAX_DEPTH:
            raise ValueError(
                f"{self._site(path):.300} is nested more than {MAX_DEPTH} deep."
            )
        if type(config) in PLAIN or type(config) is float:
            return config
        if isinstance(config, list | tuple):
            return self._values(config, path, depth + 1)
        number = config.get(SHARED)
        if number is not None:
            return self._shared(number, path, depth)
        return self._new(config, path, depth)

    def _new(self, node: Node, path: str, depth: int) -> Any:
        if "type" not in node and keras_form.is_keras_form(node):
            return keras_form.decode_object(node, self._site(path))
        tag = take(node, "type", str, self._site(path))
        if tag in _LEAVES:
            return _LEAVES[tag](node, self._site(path))
        if tag in _DECODERS:
            return _DECODERS[tag](self, node, path, depth + 1)
        raise ValueError(
            f"{self._site(path)} has the unknown type {tag!r:.100}. It may be "
            "of a later version."
        )

    def _site(self, path: str) -> str:
        return site_of(self.where, path, self.root)

    def _spend(self, count: int, path: str) -> None:
        self.count += count
        if self.count > MAX_VALUES:
            raise ValueError(
                f"{self._site(path):.300}: this configuration describes more "
                f"than {MAX_VALUES} values."
            )

    def _shared(self, number: int, path: str, depth: int) -> Any:
        # By number rather than in order: a `ref` may come first in a file
        # whose keys were sorted.
        if number not in self.done:
            before = self.count
            self.done[number] = None
            value = self._new(self.shared[number], path, depth)
            self.done[number] = (value, self.count - before)
            return value
        done = self.done[number]
        if done is None:
            raise ValueError(f"{self._site(path)} contains itself.")
        value, count = done
        self._spend(count, path)
        return value

    def _ref(self, node: Node, path: str, depth: int) -> Any:
        number = take(node, "to", int, self._site(path))
        if number not in self.shared:
            raise ValueError(
                f"{self._site(path)} refers to {number}, which is not there."
            )
        return self._shared(number, path, depth)

    def _values(self, configs: Any, path: str, depth: int) -> list[Any]:
        return [
            self.decode(config, f"{path}[{index}]", depth)
            for index, config in enumerate(configs)
        ]

    def _items(self, node: Node, path: str, depth: int) -> list[Any]:
        items = take(node, "items", (list, tuple), self._site(path))
        return self._values(items, path, depth)

    def _tuple(self, node: Node, path: str, depth: int) -> tuple[Any, ...]:
        return tuple(self._items(node, path, depth))

    def _named_tuple(self, node: Node, path: str, depth: int) -> Any:
        cls = self._resolve(node, "class", NAMED_TUPLE, path)
        return self._make(cls, self._items(node, path, depth), {}, path)

    def _dict(self, node: Node, path: str, depth: int) -> dict[Any, Any]:
        pairs = take(node, "items", (list, tuple), self._site(path))
        result = {}
        for pair in pairs:
            if not isinstance(pair, list | tuple) or len(pair) != 2:
                raise ValueError(
                    f"{self._site(path)}: this configuration is damaged, a "
                    f"dict has the item {pair!r:.100}"
                )
            key = self.decode(pair[0], path, depth)
            try:
                hash(key)
            except TypeError:
                raise ValueError(
                    f"{self._site(path)} has the dict key {key!r:.100}"
                ) from None
            result[key] = self.decode(pair[1], f"{path}[{key!r:.100}]", depth)
        return result

    def _frozen_dict(self, node: Node, path: str, depth: int) -> FrozenDict:
        return FrozenDict(self._dict(node, path, depth))

    def _config_dict(self, node: Node, path: str, depth: int) -> Any:
        site = self._site(path)
        frozen = take(node, "frozen", bool, site)
        flags = take(node, "flags", (list, tuple), site)
        if not all(flag in project_configs.FLAGS for flag in flags):
            raise ValueError(f"{site} has unknown options, {flags!r:.100}.")
        items = self._dict(node, path, depth)
        make = project_configs.config_dict
        return self._make(make, [frozen, flags, items, site], {}, path)

    def _transformers_config(self, node: Node, path: str, depth: int) -> Any:
        cls = self._resolve(node, "class", TRANSFORMERS_CONFIG, path)
        items = self._dict(node, path, depth)
        make = project_configs.transformers_config
        return self._make(make, [cls, items, self._site(path)], {}, path)

    def _enum(self, node: Node, path: str, depth: int) -> Any:
        cls = self._resolve(node, "class", ENUM_CLASS, path)
        member = take(node, "member", str, self._site(path))
        if member not in cls.__members__:
            raise ValueError(
                f"{self._site(path)} names {member!r:.100}, which `{cls}` has "
                "no member of."
            )
        return cls.__members__[member]

    def _class(self, node: Node, path: str, depth: int) -> Any:
        return self._resolve(node, "class", MODULE_CLASS, path)

    def _nnx_class(self, node: Node, path: str, depth: int) -> Any:
        return self._resolve(node, "class", NNX_CLASS, path)

    def _function(self, node: Node, path: str, depth: int) -> Any:
        return self._resolve(node, "name", FUNCTION, path)

    def _initializer(self, node: Node, path: str, depth: int) -> Any:
        factory = initializer_factory(node.get("name"), self._site(path))
        keywords = self._keywords(node, path, depth)
        return self._make(factory, [], keywords, path)

    def _partial(self, node: Node, path: str, depth: int) -> Any:
        inner = take(node, "function", dict, self._site(path))
        if inner.get("type") not in _IN_PARTIALS:
            raise ValueError(
                f"{self._site(path)} is a partial of something else than a "
                "function or a module class."
            )
        function = self.decode(inner, path, depth)
        args = take(node, "args", (list, tuple), self._site(path))
        keywords = self._keywords(node, path, depth)
        if is_class(function) and "parent" in keywords:
            raise ValueError(f"{self._site(path)} sets `parent`.")
        return functools.partial(
            function, *self._values(args, path, depth), **keywords
        )

    def _keywords(self, node: Node, path: str, depth: int) -> dict[str, Any]:
        return {
            name: self.decode(value, f"{path}.{name:.100}", depth)
            for name, value in take(
                node, "keywords", dict, self._site(path)
            ).items()
        }

    def _module(self, node: Node, path: str, depth: int) -> Any:
        cls = self._resolve(node, "class", MODULE_CLASS, path)
        fields = self._fields(cls, node, path, depth)
        if not isinstance(fields.get("name"), str | None):
            raise ValueError(
                f"{self._site(path)} is named {fields['name']!r:.100}, which "
                "is no string."
            )
        # Not to be adopted by a module that happens to be set up meanwhile.
        return self._make(cls, [], {"parent": None, **fields}, path)

    def _dataclass(self, node: Node, path: str, depth: int) -> Any:
        cls = self._resolve(node, "class", DATACLASS, path)
        return self._make(cls, [], self._fields(cls, node, path, depth), path)

    def _fields(
        self, cls: Any, node: Node, path: str, depth: int
    ) -> dict[str, Any]:
        configs = take(node, "fields", dict, self._site(path))
        known = fields_of(cls)
        for name in configs:
            if name not in known:
                raise ValueError(
                    f"{self._site(path)}: `{cls.__name__}` has no field "
                    f"{name!r:.100}. It has {', '.join(known)}."
                )
        return {
            name: self.decode(config, f"{path}.{name}", depth)
            for name, config in configs.items()
        }

    def _spec(self, node: Node, path: str, depth: int) -> Any:
        return decode_spec(node, self._site(path))

    def _resolve(self, node: Node, key: str, kind: Kind, path: str) -> Any:
        return resolve(node.get(key), kind, self._site(path))

    def _make(
        self, make: Any, args: list[Any], keywords: dict[str, Any], path: str
    ) -> Any:
        # Constructors are code of all kinds, given what a file says.
        try:
            return make(*args, **keywords)
        except Exception as error:
            name = getattr(make, "__name__", make)
            raise ValueError(
                f"{self._site(path)}: `{name}` does not accept what this "
                f"configuration has for it: {error}"
            ) from error


def _shared_nodes(config: object, where: str) -> dict[int, Node]:
    """Checks that a configuration is JSON; collects what may be referred to."""
    found: dict[int, Node] = {}
    pending: list[tuple[Any, int]] = [(config, 0)]
    while pending:
        part, depth = pending.pop()
        if depth > _MAX_CONTAINERS:
            raise ValueError(f"{where}: this configuration is nested too deep.")
        if isinstance(part, list | tuple):
            pending.extend((entry, depth + 1) for entry in part)
        elif isinstance(part, dict):
            if not all(isinstance(key, str) for key in part):
                raise ValueError(f"{where}: a key is no string: {part!r:.200}")
            pending.extend((entry, depth + 1) for entry in part.values())
            number = part.get(SHARED)
            if number is not None:
                if type(number) is not int or number in found:
                    raise ValueError(
                        f"{where}: {number!r:.100} does not say what is shared."
                    )
                found[number] = part
        elif type(part) not in PLAIN and type(part) is not float:
            raise ValueError(
                f"{where}: {part!r:.100} is not part of a configuration."
            )
    return found


_LEAVES: dict[str, Callable[[Node, str], Any]] = {
    leaf.type: leaf.decode for leaf in LEAVES
}
_DECODERS: dict[str, Callable[[Decoder, Node, str, int], Any]] = {
    "class": Decoder._class,
    "config_dict": Decoder._config_dict,
    "dataclass": Decoder._dataclass,
    "dict": Decoder._dict,
    "enum": Decoder._enum,
    "frozen_dict": Decoder._frozen_dict,
    "function": Decoder._function,
    "initializer": Decoder._initializer,
    "module": Decoder._module,
    "named_tuple": Decoder._named_tuple,
    "nnx_class": Decoder._nnx_class,
    "partial": Decoder._partial,
    "ref": Decoder._ref,
    "spec": Decoder._spec,
    "transformers_config": Decoder._transformers_config,
    "tuple": Decoder._tuple,
}
