"""Runs a model's initialiser: shapes at once, values when they are wanted.

The initialiser is traced once. The trace has the shapes, which is all that
building a layer needs, and the equations, from which everything that no weight
depends on (the model's forward pass) is dropped. The rest is evaluated one
equation at a time, as the untraced initialiser would have been: compiled as a
whole it could round differently, and then the same seed would not give the
same weights as stock JAX. What can be computed without compiling anything, to
the same bits, is.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from flaxlayer import jax_compat, keras_compat
from flaxlayer.calls import input_specs
from flaxlayer.paths import Path, joined
from flaxlayer.weights import (
    exact_arithmetic,
    memory,
    progress,
    variable_tree,
)
from flaxlayer.weights.shared_program import SharedProgram

# (keys, inputs) -> a pytree of arrays and static leaves.
InitFn = Callable[[Any, Any], Any]


class UnknownDimensions(ValueError):
    """Weights depend on dimensions of the inputs that are not known."""


class Initialization:
    """What an initialiser returns, known by shape and computed on demand.

    Args:
        init_fn: called as `init_fn(keys, inputs)`.
        key_specs: shapes and dtypes of the keys it gets.
        draw_keys: returns those keys; called once, when values are computed.
        specs: what is known of the inputs: a pytree of `keras.KerasTensor`s.

    Attributes:
        leaves: the described leaves of the result; arrays without values.
        treedef: its structure.

    Raises:
        UnknownDimensions: the shape of a leaf depends on an unknown dimension.
    """

    def __init__(
        self,
        init_fn: InitFn,
        key_specs: Any,
        draw_keys: Callable[[], Any],
        specs: Any,
    ):
        self._init_fn = init_fn
        self._draw_keys = draw_keys
        self._specs = specs
        self._unknown_size = 1
        self._values: list[jax.Array] | None = None
        self._shardings: Mapping[Path, jax.sharding.NamedSharding] = {}
        self._shared: SharedProgram | None = None
        self.leaves: list[variable_tree.Leaf] = []
        self.treedef: Any = None
        self._program: _Program | None = None
        try:
            self._program = self._trace(key_specs)
        except jax.errors.JAXTypeError:
            # The initialiser wants values where a trace has none: it may make
            # weights with NumPy. Then it has to run as it is, on placeholders.
            self._values = self._run()

    def _trace(self, key_specs: Any) -> "_Program":
        def flat_init(keys: Any, inputs: Any) -> list[jax.Array]:
            result = self._init_fn(keys, inputs)
            return self._describe(result)

        if input_specs.has_unknown(self._specs):
            try:
                program = _Program(
                    flat_init, key_specs, input_specs.symbolic(self._specs)
                )
            except Exception:
                # Not every model can be traced with symbolic dimensions.
                program = None
            if program is None:
                self._compare_sizes(flat_init, key_specs)
            else:
                self._check_dimensions()
                if not program.uses_inputs:
                    return program
        try:
            # Unknown dimensions are 1, as they are in Keras's own layer.
            return _Program(flat_init, key_specs, self._inputs())
        except Exception as error:
            if not input_specs.has_unknown(self._specs) or isinstance(
                error, jax.errors.JAXTypeError
            ):
                raise
            # Too small, perhaps, for a model that halves heights and widths.
            # If it is not that, the first error is the one to see.
            self._unknown_size = input_specs.CONCRETE_SIZES[0]
            try:
                return _Program(flat_init, key_specs, self._inputs())
            except Exception:
                raise error from None

    def _compare_sizes(self, init_fn: Callable[..., Any], keys: Any) -> None:
        """Reports what depends on the size of an unknown dimension."""
        shapes = []
        for size in input_specs.CONCRETE_SIZES:
            try:
                inputs = input_specs.concrete(self._specs, size)
                jax.eval_shape(init_fn, keys, inputs)
            except Exception:
                return  # Of this size or of any: what follows will say.
            shapes.append(
                {
                    x.path: x.spec.shape
                    for x in self.leaves
                    if x.spec is not None
                }
            )
        small, large = shapes
        self._report_unknown(
            f"`{joined(path)}`"
            for path, shape in small.items()
            if large.get(path) != shape
        )

    def _inputs(self) -> Any:
        return input_specs.concrete(self._specs, self._unknown_size)

    def _describe(self, result: Any) -> list[jax.Array]:
        """Notes what the initialiser returned; returns its arrays."""
        leaves, self.treedef = variable_tree.describe_leaves(result)
        arrays = _arrays(leaves)
        # In a trace the values are tracers, which must not outlive it.
        self.leaves = [
            dataclasses.replace(leaf, value=None) if leaf.is_array else leaf
            for leaf in leaves
        ]
        return arrays

    def _check_dimensions(self) -> None:
        self._report_unknown(
            f"`{joined(leaf.path)}` {leaf.spec.shape}"
            for leaf in self.leaves
            if leaf.spec is not None
            and not all(isinstance(d, int) for d in leaf.spec.shape)
        )

    def _report_unknown(self, found: Iterable[str]) -> None:
        unknown = ", ".join(found)
        if unknown:
            known = input_specs.described(self._specs)
            raise UnknownDimensions(
                f"the shape of {unknown} depends on a dimension of the inputs "
                f"that is not known: {known}"
            )

    def _run(self) -> list[jax.Array]:
        with jax.ensure_compile_time_eval():
            result = self._init_fn(self._draw_keys(), self._placeholders())
            # Copies: they may be arrays of the initialiser's own, which it
            # would lose when a training step donates the weights.
            return [jnp.array(array) for array in self._describe(result)]

    def _placeholders(self) -> Any:
        specs = self._inputs()
        memory.check_each(jax.tree_util.tree_leaves(specs), "an input")
        return jax.tree_util.tree_map(
            lambda spec: jnp.ones(spec.shape, spec.dtype), specs
        )

    def spread(
        self, shardings: Mapping[Path, jax.sharding.NamedSharding]
    ) -> None:
        """Has values computed where they will live.

        Without effect where they would not have the bits that they have on one
        device: then they are computed there, and moved.

        Args:
            shardings: those of the leaves that no device is to have whole.
        """
        if jax_compat.rounds_alike_in_parts():
            self._shardings = shardings
            self._shared = None

    def check_memory(self) -> None:
        """Reports weights that the memory cannot hold; computes nothing.

        Raises:
            memory.NotEnoughMemory: the weights, what they are computed from, or
                an input that has to be there for that, are too large.
        """
        memory.check(
            {
                f"`{joined(leaf.path)}`": leaf.spec
                for leaf in self.leaves
                if leaf.spec is not None
            },
            shardings={
                f"`{joined(path)}`": sharding
                for path, sharding in self._shardings.items()
            },
        )
        if self._program is None:
            return
        memory.check_each(
            self._sharing(self._program).sizes(), "an array of the initialiser"
        )
        if self._program.uses_inputs:
            inputs = jax.tree_util.tree_leaves(self._inputs())
            memory.check_each(inputs, "an input")

    def values(self) -> list[jax.Array]:
        """The array leaves; computed once."""
        if self._values is None and self._program is not None:
            # Concrete values, even if the layer is built inside a trace.
            with jax.ensure_compile_time_eval():
                self._values = self._program(
                    self._draw_keys(),
                    self._placeholders,
                    self._watched,
                    self._sharing(self._program),
                )
        return self._values or []

    def _sharing(self, program: "_Program") -> SharedProgram:
        """How devices share the work, by the shardings there are."""
        if self._shared is None:
            # In a trace the array that tells would be none.
            with jax.ensure_compile_time_eval():
                available = exact_arithmetic.is_available()
            self._shared = SharedProgram(
                program.jaxpr,
                [
                    self._shardings.get(leaf.path)
                    for leaf in self.leaves
                    if leaf.is_array
                ],
                exact_arithmetic.evaluate if available else lambda *_: None,
            )
        return self._shared

    def _watched(self, equations: Sequence[Any]) -> Iterator[Any]:
        arrays = sum(leaf.is_array for leaf in self.leaves)
        return progress.reported(
            equations, title=f"Initialising {arrays} weights", unit="operation"
        )

    def initializer(self, path: Path) -> variable_tree.Initializer:
        """A Keras initializer for the array leaf at `path`."""
        arrays = [leaf.path for leaf in self.leaves if leaf.is_array]
        index = arrays.index(path)

        def initialize(shape: Any, dtype: Any = None) -> jax.Array:
            if keras_compat.in_shape_inference():
                # Keras creates the variable for good when it leaves this scope
                # and asks again; now only the shape matters, and keys drawn
                # here would be forgotten and drawn again by the next layer.
                return jnp.zeros(shape, dtype)
            with jax.ensure_compile_time_eval():
                return jnp.asarray(self.values()[index], dtype)

        return initialize


class _Program:
    """A traced function, reduced to what its results depend on."""

    def __init__(self, fn: Callable[..., Any], keys: Any, inputs: Any):
        jaxpr = jax_compat.trace_of_calls(fn, keys, inputs)
        num_keys, num_inputs = (
            len(jax.tree_util.tree_leaves(tree)) for tree in (keys, inputs)
        )
        self.jaxpr, used = jax_compat.without_dead_code(
            jaxpr, [False] * num_keys + [True] * num_inputs
        )
        self._num_inputs = num_inputs
        self.uses_inputs = any(used[num_keys:])

    def __call__(
        self,
        keys: Any,
        placeholders: Callable[[], Any],
        watched: Callable[[Sequence[Any]], Iterator[Any]],
        shared: SharedProgram,
    ) -> list[jax.Array]:
        arguments = jax.tree_util.tree_leaves(keys)
        arguments += (
            jax.tree_util.tree_leaves(placeholders())
            if self.uses_inputs
            else [None] * self._num_inputs
        )
        with shared.compiling_ahead():
            return jax_compat.eval_by_equation(
                self.jaxpr, arguments, shared.evaluate, watched
            )


def _arrays(leaves: list[variable_tree.Leaf]) -> list[jax.Array]:
    return [
        jax.random.key_data(leaf.value)
        if leaf.key_impl is not None
        else jnp.asarray(leaf.value, leaf.spec.dtype)
        for leaf in leaves
        if leaf.spec is not None
    ]
