"""A Linen module as pure functions of pytrees."""

import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import flax
import flax.linen as nn
import jax
from flax.linen import partitioning

from flaxlayer.calls.call_arguments import CallArguments
from flaxlayer.calls.model_result import Intermediates, ModelResult
from flaxlayer.linen.collection_policies import CollectionPolicies
from flaxlayer.linen.method_signature import MethodSignature
from flaxlayer.weights import partition, variable_tree

_PARAMS = "params"
_INTERMEDIATES = "intermediates"
_AXES = "_axes"


class LinenModel:
    """Initialises and applies a module, and sorts what it writes.

    Args:
        module: the module.
        method: how it is called, as `module.apply` takes it.
        signature: the arguments of that method.
        collections: what becomes of what it writes.
        partition: what kind of weights its variables are.

    Attributes:
        axis_names: the logical axes of variables that were seen in boxes, or
            have a collection of axes beside them, by joined path.
        metric_paths: the metrics that calls were seen to leave.
    """

    def __init__(
        self,
        module: nn.Module,
        method: Callable[..., Any] | str | None,
        signature: MethodSignature,
        collections: CollectionPolicies,
        partition: partition.Partition,
    ):
        self._module = module
        self._method = method
        self.signature = signature
        self.collections = collections
        self.partition = partition
        self.axis_names: Mapping[str, tuple[Any, ...]] = MappingProxyType({})
        self.metric_paths: frozenset[str] = frozenset()
        self._mode_by_name = False

    def init(self, rng: Any, inputs: Any) -> dict[str, Any]:
        """The variables that become weights, as `module.init` makes them."""
        variables = self._called(
            lambda args, keywords: self._module.init(
                rng, *args, method=self._method, **keywords
            ),
            inputs,
            True,
            # They are made anew.
            without=self.collections.named("transient"),
        )
        self._note_axes(variables)
        effects = self.collections.effects(self._unboxed(variables))
        self.metric_paths |= effects.metrics.keys()
        return self.stored(variables)

    def apply(
        self,
        params: Any,
        state: Any,
        rngs: dict[str, jax.Array],
        inputs: Any,
        training: bool,
        intermediates: Intermediates | None = None,
    ) -> ModelResult:
        """Calls the module.

        Args:
            params: the parameters among its variables.
            state: the other ones; they are mutable.
            rngs: a key for each stream.
            inputs: the one input, or `CallArguments`.
            training: the mode.
            intermediates: which of them to capture.
        """
        variables = partition.merged(params, state)
        transient = self.collections.named("transient")
        if isinstance(inputs, CallArguments):
            given = inputs.all_keywords()
            variables |= {n: given[n] for n in transient if n in given}
        # Whatever is trained by its own choice may be written all the same;
        # that is not kept.
        mutable = {*(variables.keys() - {_PARAMS}), *(state or {})}
        mutable.update(self.collections.mutable)
        if intermediates is not None:
            mutable.add(_INTERMEDIATES)
        outputs, written = self._called(
            lambda args, keywords: self._module.apply(
                variables,
                *args,
                rngs=rngs,
                method=self._method,
                mutable=sorted(mutable),
                capture_intermediates=intermediates == "all",
                **keywords,
            ),
            inputs,
            training,
            without=transient,
        )
        written = self._unboxed(written)
        returned = self.collections.returned
        if returned:
            outputs = outputs, {n: written.get(n, {}) for n in returned}
        effects = self.collections.effects(written)
        self.metric_paths |= effects.metrics.keys()
        _, new_state = self.partition.split(
            {name: written[name] for name in (state or {}) if name in written}
        )
        return ModelResult(
            outputs, new_state, effects, written.get(_INTERMEDIATES, {})
        )

    def stored(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """The collections that become weights, without boxes."""
        return {
            name: collection
            for name, collection in self._unboxed(variables).items()
            if name == _PARAMS
            or self.partition.names(name)
            or self.collections.of(name, collection) == "state"
        }

    def _called(
        self,
        run: Callable[[Sequence[Any], Mapping[str, Any]], Any],
        inputs: Any,
        training: bool,
        *,
        without: Sequence[str],
    ) -> Any:
        """`run` with the arguments of the method, by position and by name.

        Args:
            run: calls the module.
            inputs: the one input, or `CallArguments`.
            training: the mode.
            without: keywords that are no arguments of the method.
        """
        if not isinstance(inputs, CallArguments):
            inputs = CallArguments(inputs)
        given = inputs.all_keywords()
        keywords = {
            **self.signature.without_mask(len(inputs.args)),
            **{name: given[name] for name in given if name not in without},
            **self.signature.mode_arguments(training),
        }
        bind = functools.partial(self.signature.bound, inputs.args, keywords)
        if self._mode_by_name:
            return run(*bind(modes_by_name=True))
        try:
            return run(*bind())
        except jax.errors.JAXTypeError:
            # Transformations may tell static arguments by their names instead,
            # as `nn.jit` does with `static_argnames`.
            if bind()[1].keys() == bind(modes_by_name=True)[1].keys():
                raise
            with contextlib.suppress(jax.errors.JAXTypeError):
                result = run(*bind(modes_by_name=True))
                self._mode_by_name = True
                return result
            raise

    def _note_axes(self, variables: Mapping[str, Any]) -> None:
        """Notes the axes that `flax.linen.partitioning` keeps beside weights.

        `param_with_axes`, as T5X uses it, has those of `params/mlp/kernel` at
        `params_axes/mlp/kernel_axes`.
        """

        def is_axes(x: Any) -> bool:
            return isinstance(x, partitioning.AxisMetadata)

        found = {}
        for collection, tree in variables.items():
            if not collection.endswith(_AXES):
                continue
            flat, _ = jax.tree_util.tree_flatten_with_path(
                tree, is_leaf=is_axes
            )
            for keys, value in flat:
                if is_axes(value):
                    path = (collection, *variable_tree.path_of(keys))
                    steps = [step.removesuffix(_AXES) for step in path]
                    axes = () if value.names is None else value.names
                    found[variable_tree.joined(tuple(steps))] = tuple(axes)
        self._add_axes(found)

    def _add_axes(self, found: Mapping[str, tuple[Any, ...]]) -> None:
        if found:
            self.axis_names = MappingProxyType({**self.axis_names, **found})

    def _unboxed(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """Takes arrays out of Flax's metadata boxes, and notes their axes."""

        def is_box(x: Any) -> bool:
            return isinstance(x, nn.meta.AxisMetadata)

        variables = dict(variables)
        leaves, treedef = jax.tree_util.tree_flatten_with_path(
            variables, is_leaf=is_box
        )
        if not any(is_box(value) for _, value in leaves):
            return variables
        found = {
            variable_tree.joined(variable_tree.path_of(keys)): tuple(
                value.get_partition_spec()
            )
            for keys, value in leaves
            if is_box(value)
        }
        self._add_axes(found)
        return treedef.unflatten(
            value.unbox() if is_box(value) else value for _, value in leaves
        )


def checked_module(module: Any, layer: str) -> nn.Module:
    """The `module` argument, validated.

    Raises:
        TypeError: it is not an instance of a Linen module.
    """
    if isinstance(module, nn.Module):
        return module
    hint = "Pass an instance of a `flax.linen.Module` subclass."
    if isinstance(module, type) and issubclass(module, nn.Module):
        hint = f"Pass an instance: `{module.__name__}(...)`, not the class."
    elif any(c.__module__.startswith("flax.nnx") for c in type(module).__mro__):
        hint = "It is an NNX module; this layer takes Linen modules."
    raise TypeError(
        f"{layer}: `module` must be a Linen module. {hint} Received: "
        f"{module!r:.200} (of type {type(module).__name__})."
    )


def checked_variables(variables: Any, layer: str) -> dict[str, Any]:
    """The `variables` argument as plain dicts, validated.

    Raises:
        TypeError: it is not a dict of dicts.
    """
    mappings = (dict, flax.core.FrozenDict)
    if isinstance(variables, mappings) and all(
        isinstance(name, str) and isinstance(collection, mappings)
        for name, collection in variables.items()
    ):
        return dict(flax.core.unfreeze(variables))
    received = (
        {name: type(value).__name__ for name, value in variables.items()}
        if isinstance(variables, mappings)
        else type(variables).__name__
    )
    raise TypeError(
        f"{layer}: `variables` must be a dict from collection names to nested "
        'dicts, as `module.init` returns it: {"params": {...}, ...}. '
        f"Received: {received}."
    )
