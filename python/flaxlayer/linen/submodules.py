"""What Keras shows of the modules inside of a module.

`model.summary(expand_nested=True)` expands whatever has `layers`. Those of a
`FlaxLayer` are rows for its submodules, made as they are looked at. A row is a
`keras.Operation` that has been called on a symbolic tensor, since that is what
the summary takes an output shape from. It is no Keras layer: Keras neither
tracks nor saves it.
"""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import keras

from flaxlayer.weights import variable_tree

_Shape = tuple[int | None, ...]


@dataclasses.dataclass
class _Called:
    """A submodule: the name of its class, and the shapes of its outputs."""

    kind: str
    shapes: list[_Shape] | None = None


class Submodules:
    """The submodules that an initialiser has called, in the order of calls."""

    def __init__(self) -> None:
        self._called: dict[variable_tree.Path, _Called] = {}

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """Notes the submodules that are called in this context.

        They are forgotten if it ends with an exception. What was noted where
        dimensions were unknown is kept: if the same initialiser is run again,
        it is on placeholders, whose sizes say less.
        """
        called: dict[variable_tree.Path, _Called] = {}
        with nn.intercept_methods(functools.partial(_note, called)):
            yield
        if not self._has_unknown():
            self._called = called

    def _has_unknown(self) -> bool:
        return any(
            None in shape
            for each in self._called.values()
            for shape in each.shapes or ()
        )

    def rows(
        self,
        weights: Sequence[tuple[variable_tree.Path, keras.Variable]],
        *,
        unknown: bool,
    ) -> "Rows":
        """A row for each submodule.

        Args:
            weights: all weights, with paths that begin with the collection.
            unknown: whether the layer was built for inputs with unknown
                dimensions. If none was noted then, nothing is known of sizes.
        """
        hidden = unknown and not self._has_unknown()
        return Rows(self._called, weights, hidden=hidden)


class Rows(Sequence["Row"]):
    """Rows that are made as they are asked for.

    No list: Keras looks at all attributes of a layer when it saves a model,
    and into those that are lists.

    Args:
        called: the submodules.
        weights: all weights, with paths that begin with the collection.
        hidden: whether to show all sizes as unknown.
    """

    def __init__(
        self,
        called: Mapping[variable_tree.Path, _Called],
        weights: Sequence[tuple[variable_tree.Path, keras.Variable]],
        *,
        hidden: bool,
    ):
        self._called = list(called.items())
        self._weights = weights
        self._hidden = hidden

    def __len__(self) -> int:
        return len(self._called)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        path, called = self._called[index]
        return _class_of_rows(called.kind)(
            "/".join(path),
            tuple(
                (None,) * len(shape) if self._hidden else shape
                for shape in called.shapes or ()
            ),
            self._weights_below.get(path, ()),
        )

    @functools.cached_property
    def _weights_below(
        self,
    ) -> dict[variable_tree.Path, tuple[keras.Variable, ...]]:
        below: dict[variable_tree.Path, tuple[keras.Variable, ...]] = {}
        for (_, *inner), variable in self._weights:
            for length in range(1, len(inner)):
                path = tuple(inner[:length])
                below[path] = (*below.get(path, ()), variable)
        return below


def _note(
    called: dict[variable_tree.Path, _Called],
    method: Callable[..., Any],
    args: Any,
    kwargs: Any,
    context: Any,
) -> Any:
    module, name = context.module, context.method_name
    if module.scope is None or not module.path or name == "setup":
        return method(*args, **kwargs)
    # Before the call, so that modules come before those they call.
    entry = called.setdefault(module.path, _Called(type(module).__name__))
    outputs = method(*args, **kwargs)
    if entry.shapes is None or name == "__call__":
        entry.shapes = [
            tuple(size if isinstance(size, int) else None for size in x.shape)
            for x in jax.tree_util.tree_leaves(outputs)
            if hasattr(x, "shape")
        ]
    return outputs


class Row(keras.Operation):
    """A submodule in a summary. It is there to be read: it cannot be called.

    Args:
        path: where the submodule is, `encoder/Dense_0`: its name.
        shapes: those of its outputs, with `None` for unknown sizes.
        weights: its weights, those of its own submodules among them.

    Attributes:
        built: whether it is built, as the layer around it is.
        weights: the variables of the submodule.
    """

    built = True

    def __init__(
        self,
        path: str,
        shapes: tuple[_Shape, ...],
        weights: tuple[keras.Variable, ...],
    ):
        super().__init__(name="submodule")
        self.name = path  # The constructor takes none with slashes.
        self.weights = weights
        self._shapes = shapes
        self(keras.KerasTensor(()))

    @property
    def trainable(self) -> bool:
        """Whether any of its weights is trained."""
        return any(variable.trainable for variable in self.weights)

    @trainable.setter
    def trainable(self, value: bool) -> None:
        raise AttributeError(
            f"Submodule '{self.name}' is part of a FlaxLayer, which shows it "
            "in summaries only; nothing was changed. Set `trainable` of its "
            f"weights, or of the layer. Received: {value!r}."
        )

    def compute_output_spec(self, _: Any) -> Any:
        """What the summary shows as its outputs."""
        return [keras.KerasTensor(shape) for shape in self._shapes]

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Raises: a submodule has no meaning without its module."""
        raise TypeError(
            f"Submodule '{self.name}' is part of a FlaxLayer, which shows it "
            "in summaries only; it cannot be called. Call the layer."
        )

    def count_params(self) -> int:
        """How many values its weights have."""
        return sum(math.prod(variable.shape) for variable in self.weights)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}>"


@functools.cache
def _class_of_rows(name: str) -> type[Row]:
    """A class of that name, since it is what the summary shows."""
    return type(name, (Row,), {"__module__": __name__})
