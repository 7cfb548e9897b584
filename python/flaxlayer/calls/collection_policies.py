"""What becomes of each variable collection of a module.

A module writes into collections: batch statistics, caches, and whatever it
sows. A policy says, by name, what a layer does with what a call leaves in one.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp

from flaxlayer.calls.model_result import Effects
from flaxlayer.paths import Path, joined

Policy = Literal["state", "drop", "output", "loss", "metric", "transient"]

# What Flax and its users sow, under the names they have for it.
_USUAL: dict[str, Policy] = {
    "intermediates": "drop",
    "losses": "loss",
    "metrics": "metric",
}
# Of these, the caller of the layer gets the collection back.
_RETURNED = ("output", "transient")


class CollectionPolicies:
    """The policy of every collection.

    Args:
        policies: the `collections` argument.
        layer: how error messages call the layer.

    Raises:
        TypeError: it is not a mapping from names.
        ValueError: a policy is another word, or there is one for `"params"`.
    """

    def __init__(self, policies: Mapping[str, Policy] | None, layer: str):
        if policies is not None and not isinstance(policies, Mapping):
            raise TypeError(
                f"{layer}: `collections` must be a mapping from names of "
                f"collections to policies. Received: {policies!r:.200} (of "
                f"type {type(policies).__name__})."
            )
        self.declared: dict[str, Policy] = dict(policies or {})
        for name, policy in self.declared.items():
            if not isinstance(name, str):
                raise TypeError(
                    f"{layer}: the names in `collections` must be strings. "
                    f"Received: {name!r} (of type {type(name).__name__})."
                )
            if name == "params":
                raise ValueError(
                    f"{layer}: `collections['params']` has no policy: "
                    "parameters are always kept, and `partition=` says which "
                    f"of them are trained. Received: {policy!r}."
                )
            if policy not in get_args(Policy):
                raise ValueError(
                    f"{layer}: `collections[{name!r}]` says what becomes of "
                    f"the collection: expected one of {get_args(Policy)}. "
                    f"Received: {policy!r}."
                )
        self._policies = {**_USUAL, **self.declared}

    def of(self, name: str, made: Any = None) -> Policy:
        """The policy of a collection.

        Args:
            name: of the collection.
            made: what `module.init` or the user made of it, if that is known.
        """
        if name in self._policies:
            return self._policies[name]
        # What is sown grows by an entry with each call, and is no state.
        return "drop" if _looks_sown(made) else "state"

    def named(self, *policies: Policy) -> tuple[str, ...]:
        """The collections that have one of these policies by name."""
        return tuple(n for n, p in self._policies.items() if p in policies)

    @property
    def returned(self) -> tuple[str, ...]:
        """The collections that calls return beside the outputs."""
        return self.named(*_RETURNED)

    @property
    def mutable(self) -> tuple[str, ...]:
        """The collections that calls may write, besides those of the state.

        What a module sows into any other is not computed, as in Flax.
        """
        # `intermediates` are wanted only where somebody asks for them.
        wanted = self.named("output", "transient", "loss", "metric")
        return wanted + tuple(
            n for n, p in self.declared.items() if p == "drop"
        )

    def check(self, made: Iterable[str], layer: str) -> None:
        """Reports states that there are not, which are misspelt.

        Args:
            made: the collections that the initialisation made or the user
                gave.
            layer: how error messages call the layer.

        Raises:
            ValueError: there is one. A later call cannot make it: the weights
                of a layer are those it was built with.
        """
        collections = sorted(set(made))
        for name, policy in self.declared.items():
            if policy == "state" and name not in collections:
                raise ValueError(
                    f"{layer}: `collections[{name!r}]` is 'state', but the "
                    "initialisation of the module makes no such collection. "
                    f"Expected one of {collections}."
                )

    def effects(self, variables: Mapping[str, Any]) -> Effects:
        """The losses and metrics among what a call left in its collections."""
        losses = [
            jnp.sum(leaf)
            for name in self.named("loss")
            for leaf in jax.tree_util.tree_leaves(variables.get(name))
        ]
        metrics: dict[str, jax.Array] = {}
        for name in self.named("metric"):
            for path, value in _entries(variables.get(name, {})):
                leaves = jax.tree_util.tree_leaves(value)
                if leaves:
                    means = [jnp.mean(x, dtype=jnp.float32) for x in leaves]
                    mean = jnp.mean(jnp.stack(means))
                    metrics[joined(path)] = mean
        return Effects(losses, metrics)


def _looks_sown(collection: Any) -> bool:
    """Whether every entry is a tuple of one, as `sow` begins them."""
    entries = [value for _, value in _entries(collection)]
    return bool(entries) and all(
        isinstance(value, tuple) and len(value) == 1 for value in entries
    )


def _entries(collection: Any, path: Path = ()) -> list[tuple[Path, Any]]:
    """The variables of a collection: what its nested dicts hold."""
    if not isinstance(collection, Mapping):
        return [] if collection is None else [(path, collection)]
    return [
        entry
        for name, value in collection.items()
        for entry in _entries(value, (*path, str(name)))
    ]
