"""What Keras shows of the modules inside of a module.

`model.summary(expand_nested=True)` expands whatever has `layers`. Those of a
`FlaxLayer` are rows for its submodules, made as they are looked at. A row is a
`keras.Operation` that has been called on a symbolic tensor, since that is what
the summary takes an output shape from. It is no Keras layer: Keras neither
tracks nor saves it.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from flaxlayer import keras_compat
from flaxlayer.calls.called import Called, Shape
from flaxlayer.paths import Path


class Rows(Sequence["Row"]):
    """Rows that are made as they are asked for.

    No list: Keras looks at all attributes of a layer when it saves a model,
    and into those that are lists.

    Args:
        called: the submodules.
        weights: all weights, with paths that begin with the collection.
        unknown: whether the layer was built for inputs with unknown
            dimensions. If none was noted then, nothing is known of sizes.
    """

    def __init__(
        self,
        called: Mapping[Path, Called],
        weights: Sequence[tuple[Path, keras.Variable]],
        *,
        unknown: bool,
    ):
        self._called = list(called.items())
        self._weights = weights
        self._hidden = unknown and not any(
            each.has_unknown for each in called.values()
        )

    def __len__(self) -> int:
        return len(self._called)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        path, called = self._called[index]
        return _class_of_rows(called.kind)(
            "/".join(path),
            None
            if called.shapes is None
            else tuple(
                (None,) * len(shape) if self._hidden else shape
                for shape in called.shapes
            ),
            self._weights_below.get(path, ()),
        )

    @functools.cached_property
    def _weights_below(
        self,
    ) -> dict[Path, tuple[keras.Variable, ...]]:
        below: dict[Path, tuple[keras.Variable, ...]] = {}
        for (_, *inner), variable in self._weights:
            for length in range(1, len(inner)):
                path = tuple(inner[:length])
                below[path] = (*below.get(path, ()), variable)
        return below


class Row(keras.Operation):
    """A submodule in a summary. It is there to be read: it cannot be called.

    Args:
        path: where the submodule is, `encoder/Dense_0`: its name.
        shapes: those of its outputs, with `None` for unknown sizes; `None` if
            nothing is known of them.
        weights: its weights, those of its own submodules among them.

    Attributes:
        built: whether it is built, as the layer around it is.
        weights: the variables of the submodule.
    """

    built = True

    def __init__(
        self,
        path: str,
        shapes: tuple[Shape, ...] | None,
        weights: tuple[keras.Variable, ...],
    ):
        super().__init__(name="submodule")
        self.name = path  # The constructor takes none with slashes.
        self.weights = weights
        self._shapes = shapes or ()
        if shapes is None:
            keras_compat.show_unknown_output(self)
        else:
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
