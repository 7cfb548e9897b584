"""An NNX module as pure functions of pytrees."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from flax import nnx

from flaxlayer import jax_compat
from flaxlayer.calls import method_signature, methods
from flaxlayer.calls.call_arguments import CallArguments
from flaxlayer.calls.called import Called
from flaxlayer.calls.collection_policies import CollectionPolicies
from flaxlayer.calls.method_call import MethodCall
from flaxlayer.calls.model_result import Intermediates, ModelResult
from flaxlayer.config import module_config
from flaxlayer.nnx import changes, nnx_config, recipe
from flaxlayer.nnx.graph import (
    Graph,
    mark_traced_arrays,
    static_attributes,
)
from flaxlayer.nnx.mode import in_mode
from flaxlayer.nnx.variables import Kinds, value_of
from flaxlayer.ops import dispatch
from flaxlayer.paths import Path, StructureMismatch, joined, listed
from flaxlayer.randomness.key_form import KeyForm
from flaxlayer.randomness.rng_streams import RngStreams

_DEFAULT = "default"
_INTERMEDIATES = "intermediates"


class NnxModel:
    """Makes and calls an NNX module, and keeps what is in its variables.

    What the methods and attributes are is said by `flaxlayer.model.Model`.
    Random streams of NNX are variables: calls are given no keys.

    Args:
        module: an instance; or a class or partial that makes one.
        method: the method that is called.
        training_argument: what the method calls the mode, see `FlaxLayer`.
        collections: what becomes of what calls sow.
        kinds: what kind of weights variables are, as `partition=` says.
        layer: how error messages call the layer.

    Raises:
        TypeError: an argument is not of the type it should be.
        ValueError: a partial has `rngs`, the method cannot be called as a
            layer calls it, or a policy or kind is none.
    """

    completes = False
    prefixes: tuple[Path, Path] = ((), ())  # Collections name themselves.
    keeps_masks = True

    def __init__(
        self,
        module: Any,
        method: Callable[..., Any] | str | None,
        *,
        training_argument: str | None,
        collections: Any,
        kinds: Any,
        layer: str,
    ):
        recipe.check(module, layer)
        self._module = module
        self._method = method
        self._training_argument = training_argument
        self.initializes = not isinstance(module, nnx.Module)
        self.streams = RngStreams((), base=_DEFAULT, layer=layer)
        self._collections = CollectionPolicies(collections, layer)
        for name in self._collections.named("transient"):
            raise ValueError(
                f"{layer}: `collections[{name!r}]` is 'transient', which an "
                "NNX module has no use for: what a call reads and writes are "
                "its variables, and state. Received: 'transient'."
            )
        self._kinds = Kinds(kinds, layer)
        cls = recipe.class_of(module)
        self._function = _function(method, cls, layer)
        self._signature = method_signature.of_method(
            self._function,
            None if self.initializes else module,
            bound=False,
            training_argument=training_argument,
            collections=(),
            layer=layer,
        )
        self.call_form = MethodCall(self._signature, ())
        module_config.name_method(method, cls)
        self.metric_paths: frozenset[str] = frozenset()
        self._graph: Graph | None = None

    def given(self, variables: Any, layer: str) -> tuple[Any, Any]:
        """Parameters and state of an instance, or of the `variables` argument.

        Args:
            variables: the argument; `None` for none.
            layer: how error messages call the layer.

        Returns:
            The two, each `None` for a class without `variables`.

        Raises:
            ValueError: they are given beside an instance, which has its own;
                or they are not those of the module.
        """
        if not self.initializes:
            if variables is not None:
                raise ValueError(
                    f"{layer}: `variables` are given beside an instance of "
                    f"{type(self._module).__name__}, which has its own. Pass "
                    "its class, or a partial of it, or leave them out. "
                    f"Received: {variables!r:.80}."
                )
            graph = self._graph = Graph(self._module, self._kinds)
            return graph.split(graph.take_values())
        if variables is None:
            return None, None
        graph = self._graph = Graph(recipe.shaped(self._module), self._kinds)
        try:
            trees = self.from_variables(variables)
            graph.check_shapes(*trees)
        except StructureMismatch as error:
            raise ValueError(
                f"{layer}: `variables` do not fit the module: {error}. "
                "Expected what `nnx.state` returns of it."
            ) from error
        return trees

    @property
    def axis_names(self) -> dict[str, tuple[Any, ...]]:
        """Those of variables that have some in their metadata."""
        entries = () if self._graph is None else self._graph.entries.values()
        return {joined(e.path): e.axes for e in entries if e.axes}

    @property
    def submodules(self) -> Mapping[Path, Called]:
        """Those that the module holds. Their outputs are not known."""
        return {} if self._graph is None else self._graph.submodules

    @property
    def init_streams(self) -> tuple[str, ...]:
        """The one that `nnx.Rngs` is made of."""
        return (_DEFAULT,)

    def key_form(self, kernels: dispatch.Kernels) -> KeyForm:
        """Typed keys, as `nnx.Rngs` makes them."""
        return KeyForm(
            jax_compat.default_prng_impl(), typed=True, kernel=kernels.threefry
        )

    def start_build(self) -> None:
        """There is nothing to forget."""

    def init(self, keys: dict[str, Any], inputs: Any, layer: str) -> Any:
        """Makes the module, which no inputs are needed for."""
        del inputs, layer
        module = recipe.made(self._module, keys[_DEFAULT])
        graph = self._graph = Graph(module, self._kinds)
        return graph.take_values()

    def split(self, made: Any) -> tuple[Any, Any]:
        """Divides what `init` has made by the kinds of its variables."""
        return self._known_graph.split(made)

    def apply(
        self,
        params: Any,
        state: Any,
        keys: dict[str, Any],
        inputs: Any,
        *,
        training: bool,
        form: KeyForm,
        intermediates: Intermediates | None,
        layer: str,
    ) -> ModelResult:
        """Calls the method of a new module with these values."""
        del keys
        if intermediates == "all":
            raise ValueError(
                f"{layer}: `capture_all=True` captures the outputs of all "
                "submodules of a Linen module. One of NNX captures what it "
                "sows; leave `capture_all` out, and sow what you want to see. "
                "Received: True."
            )
        graph = self._known_graph
        stored = graph.values(params, state, key=lambda data, _: data)
        given = graph.values(
            params, state, key=lambda data, impl: _key(data, impl, form)
        )
        module = graph.module(given)
        if self._training_argument is not None:
            module = in_mode(module, training)
        before = static_attributes(module)
        outputs = self._called(module, inputs, training)
        mark_traced_arrays(module)
        found = changes.variables_of(module)
        left = changes.sown(found, graph, self._collections, layer)
        changes.check_static(before, module, layer)
        after = changes.values_after(found, graph, layer)
        # Keys that stayed as they were are their data again, so that it shows.
        kept = {
            path: stored[path] if after[path] is given[path] else after[path]
            for path in graph.entries
        }
        _, new_state = graph.trees(kept)
        returned = self._collections.returned
        if returned:
            outputs = outputs, {name: left.get(name, {}) for name in returned}
        effects = self._collections.effects(left)
        self.metric_paths |= effects.metrics.keys()
        return ModelResult(
            outputs, new_state, effects, left.get(_INTERMEDIATES, {})
        )

    @property
    def _known_graph(self) -> Graph:
        if self._graph is None:
            raise RuntimeError("The module was not made yet.")
        return self._graph

    def _called(self, module: nnx.Module, inputs: Any, training: bool) -> Any:
        if not isinstance(inputs, CallArguments):
            inputs = CallArguments(inputs)
        keywords = {
            **self._signature.without_mask(len(inputs.args)),
            **inputs.all_keywords(),
            **self._signature.mode_arguments(training),
        }
        args, keywords = self._signature.bound(inputs.args, keywords)
        return self._function(module, *args, **keywords)

    def starts_frozen(self, path: Path) -> bool:
        """Whether `partition` says so."""
        return self._graph is not None and path in self._graph.frozen

    def check_paths(self, paths: Sequence[Path], layer: str) -> None:
        """Reports collections and patterns that say nothing of the weights."""
        held = {path[0] for path in paths}
        self._collections.check(held, layer)
        for name, policy in self._collections.declared.items():
            if policy != "state" and name in held:
                raise ValueError(
                    f"{layer}: `collections[{name!r}]` says what becomes of "
                    "what calls sow, and the module holds variables of that "
                    "collection itself, which are state. Sow them, or leave "
                    f"the policy out. Received: {policy!r}."
                )
        self._kinds.check_deciding(paths, layer)

    def to_variables(self, params: Any, state: Any) -> nnx.State:
        """The state of the module, as `nnx.state(module)` returns it."""
        return nnx.state(self.merged(params, state))

    def merged(self, params: Any, state: Any) -> nnx.Module:
        """A module with these values."""
        graph = self._known_graph
        return graph.module(
            graph.values(
                params,
                state,
                key=lambda data, impl: jax.random.wrap_key_data(
                    data, impl=impl
                ),
            )
        )

    def from_variables(self, variables: Any) -> tuple[Any, Any]:
        """Parameters and state of what `nnx.state` returns, or of pure dicts.

        Raises:
            StructureMismatch: it is neither, or has other paths.
        """
        graph = self._known_graph
        if isinstance(variables, nnx.Module):
            variables = nnx.state(variables)
        if not isinstance(variables, nnx.State | Mapping):
            raise StructureMismatch(
                "expected what `nnx.state(module)` returns, or nested dicts, "
                f"received {variables!r:.80} (of type "
                f"{type(variables).__name__})"
            )
        flat = _flat(variables)
        known = {tuple(map(str, path)): path for path in graph.entries}
        missing = [path for path in known if path not in flat]
        unexpected = [path for path in flat if path not in known]
        problems = [
            f"{what}: {listed(paths)}"
            for what, paths in (
                ("missing", missing),
                ("unexpected", unexpected),
            )
            if paths
        ]
        if problems:
            raise StructureMismatch("; ".join(problems))
        return graph.trees({known[path]: x for path, x in flat.items()})

    def file_paths(self, path: Path) -> tuple[Path, ...]:
        """The path in NNX; Orbax saves a variable as its `value`."""
        return path[1:], (*path[1:], "value")

    def to_config(self, given: Mapping[str, Any], where: str) -> dict[str, Any]:
        """The class and its arguments, the method, and the options set.

        Raises:
            TypeError: the module is an instance, or something in it cannot be
                saved.
        """
        del given  # An instance is refused.
        return nnx_config.encode(
            self._module,
            self._method,
            {
                "collections": self._collections.declared,
                "partition": self._kinds.declared,
                "training_argument": self._training_argument,
            },
            where,
        )


def _function(method: Any, cls: type, layer: str) -> Callable[..., Any]:
    """The method as a function that takes the module first."""
    if method is None:
        method = "__call__"
    if isinstance(method, str):
        methods.check_name(method, cls, nnx.Module, layer)
        return getattr(cls, method)
    if not callable(method):
        raise TypeError(
            f"{layer}: `method` must be a function, the name of a method, "
            f"or `None` for `__call__`. Received: {method!r} (of type "
            f"{type(method).__name__})."
        )
    return getattr(method, "__func__", method)


def _key(data: Any, impl: Any, form: KeyForm) -> Any:
    """A typed key; a native one where keys of the form are."""
    if str(impl) == form.impl and form.native:
        return form.given(data)
    return jax.random.wrap_key_data(data, impl=impl)


def _flat(tree: Any) -> dict[Path, Any]:
    if isinstance(tree, nnx.State):
        return {
            tuple(map(str, path)): value_of(variable)
            for path, variable in nnx.to_flat_state(tree)
            if not isinstance(variable, nnx.Intermediate)
        }
    found: dict[Path, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            for path, leaf in _flat(value).items():
                found[(str(name), *path)] = leaf
        else:
            found[(str(name),)] = value_of(value)
    return found
