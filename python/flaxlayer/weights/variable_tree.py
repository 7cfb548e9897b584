"""A pytree whose array leaves live in Keras variables.

JAX models keep their weights in pytrees; Keras keeps them in flat lists of
variables with paths. A `VariableTree` is both views of the same weights: the
variables, named after their place in the tree, and the tree, with the values
of the variables or the variables themselves as its leaves. Leaves that are not
arrays (strings, configuration objects) belong to the model and are left alone;
`None` is an empty subtree to JAX and has no leaf at all.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np

from flaxlayer import backends, jax_compat
from flaxlayer.paths import (
    Path,
    StructureMismatch,
    joined,
    listed,
    path_of,
)
from flaxlayer.weights import casting, placed_initializer

# Gives the value of one leaf, as Keras asks for it.
Initializer = Callable[..., jax.Array]


@dataclasses.dataclass(frozen=True)
class Leaf:
    """One leaf of a tree, before or without a variable.

    Attributes:
        path: where it is, one string for each step.
        spec: shape and dtype as stored, or `None` for a leaf that is no array.
        value: the array or the static leaf itself; `None` where only the
            shape is known.
        key_impl: the implementation if the leaf is a typed PRNG key
            array, which is stored as its `uint32` data.
    """

    path: Path
    spec: jax.ShapeDtypeStruct | None
    value: Any = None
    key_impl: Any = None

    @property
    def is_array(self) -> bool:
        """Whether it is an array, which has a variable."""
        return self.spec is not None


def describe_leaves(tree: Any, prefix: Path = ()) -> tuple[list[Leaf], Any]:
    """The leaves of `tree` with their paths and specs, and its structure.

    Args:
        tree: a pytree of arrays, Python numbers, `jax.ShapeDtypeStruct`s and
            anything else.
        prefix: what all paths start with.
    """
    leaves, treedef = jax.tree_util.tree_flatten_with_path(tree)
    described = [_describe(prefix + path_of(keys), x) for keys, x in leaves]
    return described, treedef


class VariableTree:
    """The weights of a layer that form one pytree.

    Args:
        leaves: the description of all leaves, in the order of `treedef`.
        variables: a Keras variable for each leaf that is an array.
        treedef: the structure.
        prefix: what the paths of all leaves start with.
        follows_policy: whether the layer's dtype policy has a say in it.
    """

    def __init__(
        self,
        leaves: Sequence[Leaf],
        variables: Sequence[keras.Variable],
        treedef: Any,
        *,
        prefix: Path,
        follows_policy: bool,
    ):
        # Static leaves are kept, array values are not: the variables have them.
        self._leaves = tuple(
            dataclasses.replace(leaf, value=None) if leaf.is_array else leaf
            for leaf in leaves
        )
        self._treedef = treedef
        self._prefix = prefix
        self.paths = tuple(leaf.path for leaf in leaves if leaf.is_array)
        # A tuple, because Keras would track and wrap a list.
        self.variables = tuple(variables)
        self._autocast = tuple(
            follows_policy and is_default(leaf.spec)
            for leaf in self.array_leaves()
        )

    def as_variables(self) -> Any:
        """The tree with Keras variables as its array leaves."""
        return self._with_arrays(self.variables)

    def values(self) -> list[jax.Array]:
        """The current values; `cast` makes of them what a call takes."""
        return backends.current.values_of(self.variables)

    def cast(
        self, values: Sequence[Any], compute_dtype: str | None
    ) -> list[Any]:
        """Values in the dtypes that a call takes them in.

        Args:
            values: those of all variables.
            compute_dtype: what variables that are autocast are cast to; `None`
                for none of them.
        """
        if compute_dtype is None:
            return list(values)
        return [
            # Only an array of floating point, whatever a scope put there.
            jnp.asarray(value, compute_dtype)
            if autocast and jnp.issubdtype(value.dtype, jnp.floating)
            else value
            for value, autocast in zip(values, self._autocast, strict=True)
        ]

    def specs(self, compute_dtype: str | None) -> list[jax.ShapeDtypeStruct]:
        """Shapes and dtypes of what a layer's call takes.

        Args:
            compute_dtype: what variables that are autocast are cast to.
        """
        return [
            jax.ShapeDtypeStruct(
                tuple(variable.shape),
                compute_dtype if compute_dtype and autocast else variable.dtype,
            )
            for variable, autocast in zip(
                self.variables, self._autocast, strict=True
            )
        ]

    def as_specs(self) -> Any:
        """The tree with shapes and storage dtypes as its array leaves."""
        return self._with_arrays(
            jax.ShapeDtypeStruct(tuple(variable.shape), variable.dtype)
            for variable in self.variables
        )

    def array_leaves(self) -> list[Leaf]:
        """The descriptions of the leaves that have variables."""
        return [leaf for leaf in self._leaves if leaf.is_array]

    def by_path(self) -> dict[Path, keras.Variable]:
        """The variables under their paths."""
        return dict(zip(self.paths, self.variables, strict=True))

    def unflatten(self, values: Sequence[Any]) -> Any:
        """The tree with `values` as its array leaves, keys as typed keys."""
        keyed = [leaf.key_impl for leaf in self.array_leaves()]
        return self._with_arrays(
            value
            if impl is None
            else jax.random.wrap_key_data(value, impl=impl)
            for value, impl in zip(values, keyed, strict=True)
        )

    def _with_arrays(self, arrays: Any) -> Any:
        remaining = iter(arrays)
        return self._treedef.unflatten(
            next(remaining) if leaf.is_array else leaf.value
            for leaf in self._leaves
        )

    def flatten(self, tree: Any) -> list[jax.Array]:
        """The array leaves of `tree`, which must have this tree's structure.

        Dicts and `FrozenDict`s are the same thing here, as they are to Flax.
        Values keep their dtype, which may be another than their variable's.

        Raises:
            StructureMismatch: paths are missing or unexpected, a shape is
                another one, or a dtype is one that the variable does not hold,
                see `casting`; the message lists them.
        """
        leaves, _ = describe_leaves(tree, self._prefix)
        problems = mismatches(
            expected=self.array_leaves(),
            received=[leaf for leaf in leaves if leaf.is_array],
        )
        # Two structures can have the same paths: [x] and {"0": x}.
        if not problems and not _same_containers(self._treedef, tree):
            received = jax.tree_util.tree_structure(tree)
            problems = [
                "the same paths in other containers: expected "
                f"{self._treedef}, received {received}"
            ]
        if problems:
            raise StructureMismatch("; ".join(problems))
        values = [
            jax.random.key_data(leaf.value) if leaf.key_impl else leaf.value
            for leaf in leaves
            if leaf.is_array
        ]
        problems = [
            f"`{joined(path)}`: expected {variable.dtype}, or what it holds, "
            f"received {getattr(value, 'dtype', value)}"
            for path, variable, value in zip(
                self.paths, self.variables, values, strict=True
            )
            if not casting.holds(variable.dtype, value)
        ]
        if problems:
            raise StructureMismatch(
                f"{'; '.join(problems)}. Convert it with `astype`, or start "
                "from a state of the dtype that calls return"
            )
        return [jnp.asarray(value) for value in values]


# The tree without leaves, which JAX sees in `None`.
EMPTY = VariableTree(
    (), (), jax.tree_util.tree_structure(None), prefix=(), follows_policy=False
)


def create(
    leaves: Sequence[Leaf],
    treedef: Any,
    *,
    trainable: bool,
    variable_dtype: str,
    prefix: Path = (),
    initializer: Callable[[Path], Initializer] | None = None,
    existing: Mapping[Path, keras.Variable] | None = None,
) -> VariableTree:
    """Creates the variables of a tree, named by their paths.

    Their paths begin with the name scope this is called in. They are no
    weights of a layer yet: that takes an attribute of it to hold them.

    Args:
        leaves: what the tree holds.
        treedef: its structure.
        trainable: whether these are parameters. Those of 32-bit floating
            point, the dtype of parameters that nobody chose another for, are
            stored in `variable_dtype` and cast to the layer's compute dtype
            when they are read. Other ones, and all state, are stored in the
            dtype they came with and never cast, so that running statistics
            keep their precision under every policy.
        variable_dtype: that of the layer's dtype policy.
        prefix: what the paths of all leaves start with.
        initializer: gives the initializer of the leaf at a path. Without one,
            a leaf starts from its value, or from zeros where it has none.
        existing: variables that are there already, by path.

    Raises:
        StructureMismatch: a value cannot be cast to the dtype it would be
            stored in, as `casting` says. Nothing is created then.
        layouts.LayoutMismatch: a layout of the distribution does not fit.
    """

    def follows_policy(leaf: Leaf) -> bool:
        return trainable and is_default(leaf.spec)

    if initializer is None:
        _check_values(
            (leaf, variable_dtype if follows_policy(leaf) else leaf.spec.dtype)
            for leaf in leaves
            if leaf.spec is not None
        )
    variables = []
    for leaf in leaves:
        if leaf.spec is None:
            continue
        if existing is not None and leaf.path in existing:
            variables.append(existing[leaf.path])
            continue
        *scopes, name = names_of(leaf.path)
        as_policy = follows_policy(leaf)
        initialize = (
            _constant(leaf) if initializer is None else initializer(leaf.path)
        )
        dtype = variable_dtype if as_policy else leaf.spec.dtype.name
        # Not `add_weight`, which leaves the name scopes it is called in.
        with contextlib.ExitStack() as stack:
            for scope in scopes:
                stack.enter_context(keras.name_scope(scope))
            variables.append(
                keras.Variable(
                    placed_initializer.for_keras(
                        initialize, name, leaf.spec.shape, dtype
                    ),
                    shape=leaf.spec.shape,
                    dtype=dtype,
                    # An optimizer cannot step integers: they are state.
                    trainable=trainable and is_differentiable(leaf.spec),
                    autocast=as_policy,
                    name=name,
                )
            )
    return VariableTree(
        leaves, variables, treedef, prefix=prefix, follows_policy=trainable
    )


def names_of(path: Path) -> tuple[str, ...]:
    """The name scopes of the variable of a leaf, and its own name."""
    # A tree may be one leaf; and Keras has no empty names.
    return tuple(step or "_" for step in path or ("value",))


def mismatches(
    *, expected: Sequence[Leaf], received: Sequence[Leaf]
) -> list[str]:
    """What is missing, unexpected or of another shape, a phrase for each."""
    want = {leaf.path: leaf for leaf in expected}
    have = {leaf.path: leaf for leaf in received}
    problems = []
    missing = [path for path in want if path not in have]
    if missing:
        problems.append(f"missing: {listed(missing)}")
    unexpected = [path for path in have if path not in want]
    if unexpected:
        problems.append(f"unexpected: {listed(unexpected)}")
    for path in [path for path in want if path in have]:
        # Both are arrays here, and arrays have specs.
        want_shape, have_shape = want[path].spec.shape, have[path].spec.shape  # type: ignore[union-attr]
        if want_shape != have_shape:
            problems.append(
                f"`{joined(path)}`: expected shape {want_shape}, received "
                f"{have_shape}"
            )
    return problems


def _describe(path: Path, value: Any) -> Leaf:
    if isinstance(value, keras.Variable):
        value = backends.current.value_of(value)
    value = backends.current.as_array(value)
    if isinstance(value, jax.ShapeDtypeStruct | jax.Array):
        impl = jax_compat.key_impl(value)
        if impl is None:
            spec = jax.ShapeDtypeStruct(value.shape, value.dtype)
        elif isinstance(value, jax.ShapeDtypeStruct):
            spec = jax.eval_shape(jax.random.key_data, value)
        else:
            data = jax.random.key_data(value)
            spec = jax.ShapeDtypeStruct(data.shape, data.dtype)
        held = None if isinstance(value, jax.ShapeDtypeStruct) else value
        return Leaf(path, spec, held, impl)
    if isinstance(
        value, bool | int | float | complex | np.generic | np.ndarray
    ):
        try:
            dtype = jax.dtypes.canonicalize_dtype(
                getattr(value, "dtype", None)
                or keras.backend.standardize_dtype(type(value))
            )
        except TypeError:  # Objects, and in some versions of JAX text.
            return Leaf(path, None, value)
        if not jnp.issubdtype(dtype, np.number) and dtype != np.bool_:
            return Leaf(path, None, value)  # Text, dates.
        return Leaf(path, jax.ShapeDtypeStruct(np.shape(value), dtype), value)
    return Leaf(path, None, value)


def _check_values(stored: Iterable[tuple[Leaf, Any]]) -> None:
    """Reports values that the dtypes beside them cannot hold."""
    problems = []
    for leaf, dtype in stored:
        known = leaf.value is not None and leaf.key_impl is None
        if known and not isinstance(leaf.value, jax.core.Tracer):
            try:
                casting.cast(leaf.value, dtype)
            except casting.Refused as error:
                problems.append(f"`{joined(leaf.path)}`: {error}")
    if problems:
        raise StructureMismatch("; ".join(problems))


def _constant(leaf: Leaf) -> Initializer:
    def initialize(shape: Any, dtype: Any = None) -> jax.Array:
        if leaf.value is None:
            return jnp.zeros(shape, dtype)
        # A value, even if the layer is made inside a trace; and a copy: Keras
        # donates its variables to the train step, which would delete the
        # caller's arrays.
        with jax.ensure_compile_time_eval():
            if leaf.key_impl is not None:
                return jnp.array(jax.random.key_data(leaf.value))
            return jnp.array(leaf.value, dtype)

    return initialize


def is_differentiable(spec: Any) -> bool:
    """Whether arrays of this dtype have gradients."""
    return jnp.issubdtype(spec.dtype, jnp.inexact)


def is_default(spec: Any) -> bool:
    """Whether its dtype is that of parameters nobody chose another for."""
    return spec is not None and spec.dtype == np.float32


def _same_containers(treedef: Any, tree: Any) -> bool:
    """Whether `tree` nests sequences, mappings and leaves as `treedef` does."""
    placeholders = treedef.unflatten([0] * treedef.num_leaves)
    expected, _ = jax.tree_util.tree_flatten_with_path(placeholders)
    received, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [keys for keys, _ in expected] == [keys for keys, _ in received]
