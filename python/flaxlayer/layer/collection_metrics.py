"""Metrics from the collections of a module, as Keras shows them.

On JAX, Keras passes a model's weights through its training step and its
metrics past it: a metric that a layer updates in a call is lost. So the sums
are kept in variables that are part of a layer's state without being weights,
and a Keras metric only reads them. It can be read when Keras has put the
values back, at the end of an epoch or an evaluation; inside a step it is NaN.
"""

import warnings
from collections.abc import Iterable
from typing import Any

import jax
import keras

from flaxlayer import keras_compat


class CollectionMetrics:
    """The means of what a module puts into its metric collections.

    Args:
        layer: how messages call the layer.
        prefix: what the names of the metrics begin with.

    Attributes:
        metrics: a Keras metric for each path.
    """

    def __init__(self, layer: str, prefix: str):
        self._layer = layer
        self._prefix = prefix
        self._means: dict[str, _Mean] = {}
        self._reported: set[str] = set()

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """A Keras metric for each path."""
        return [mean.metric for mean in self._means.values()]

    @property
    def variables(self) -> list[keras.Variable]:
        """The sums and counts behind the metrics."""
        return [v for mean in self._means.values() for v in mean.variables]

    def create(self, paths: Iterable[str]) -> None:
        """Makes variables for paths that have none, where that is possible."""
        missing = [path for path in paths if path not in self._means]
        if not missing:
            return
        if not keras_compat.can_create_variables():
            self._report(missing)
            return
        for path in missing:
            self._means[path] = _Mean(f"{self._prefix}/{path}")

    def update(self, values: dict[str, jax.Array]) -> None:
        """Adds the values of one call."""
        self.create(values)
        for path, value in values.items():
            if path in self._means:
                self._means[path].add(value)

    def _report(self, paths: list[str]) -> None:
        new = sorted(set(paths) - self._reported)
        self._reported.update(new)
        if new:
            warnings.warn(
                f"{self._layer}: the metrics {new} first appear inside a "
                "compiled step, too late to be shown. Let the module sow them "
                "when it is initialised as well, or call the layer on data "
                "before training.",
                stacklevel=2,
            )


class _Mean:
    """A sum and a count, and the metric that is their quotient."""

    def __init__(self, name: str):
        self._total, self._count = (
            keras.Variable(
                _zero, shape=(), dtype="float32", trainable=False, name=part
            )
            for part in ("total", "count")
        )
        self.metric = _Quotient(self, name=name)

    @property
    def variables(self) -> tuple[keras.Variable, keras.Variable]:
        return self._total, self._count

    def add(self, value: jax.Array) -> None:
        # They may be of half precision, which TensorFlow does not add.
        self._total.assign(keras.ops.add(self._total.value, value))
        self._count.assign(self._count.value + 1)

    def reset(self) -> None:
        for variable in self.variables:
            variable.assign(keras.ops.zeros(()))

    def result(self) -> jax.Array:
        if not all(keras_compat.has_value(v) for v in self.variables):
            return keras.ops.full((), float("nan"))
        return self._total.value / self._count.value


class _Quotient(keras.metrics.Metric):
    """Reads a mean. Its variables are the layer's, not its own."""

    def __init__(self, mean: _Mean, name: str):
        super().__init__(name=name)
        # In a function, or Keras would take the variables for its own.
        self._mean = lambda: mean

    def result(self) -> jax.Array:
        return self._mean().result()

    def reset_state(self) -> None:
        self._mean().reset()

    def update_state(self, *args: object, **kwargs: object) -> None:
        raise NotImplementedError("A call of the layer updates it.")


def _zero(shape: Any, dtype: Any = None) -> jax.Array:
    return keras.ops.zeros(shape, dtype)
