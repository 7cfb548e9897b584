"""A layer or model as a pure function of its weights and its inputs."""

import dataclasses
import inspect
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np

from flaxlayer.exports import dimensions
from flaxlayer.exports.inputs import Inputs
from flaxlayer.serving import structures
from flaxlayer.serving.signature import Array


class ExportedEndpoint:
    """What is exported of a layer or model: a call of it in inference.

    Of its variables those are arguments that are weights, or that the call
    changes, as it does the seed of a model that draws random numbers. All
    others, such as the sums of metrics, are constants.

    Args:
        name: of the endpoint.
        layer: the layer or model.
        inputs: its arguments.
        where: what messages call it.
        constraints: what is true of sizes that are not known.

    Attributes:
        inputs: the arrays that it takes.
        arguments: how they are nested.
        outputs: the arrays that it returns.
        results: how these are nested.
        weights: the variables that are arguments.
        state: those of them that a call changes.

    Raises:
        ValueError: it cannot be traced for these inputs.
        TypeError: it returns something that is no array, or in a container
            that is no dict, list or tuple.
    """

    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]
    results: Any

    def __init__(
        self,
        name: str,
        layer: keras.layers.Layer,
        inputs: Inputs,
        where: str,
        constraints: Sequence[str] = (),
    ):
        self.name = name
        self.where = where
        self.constraints = constraints
        self.arguments = inputs.arguments
        self._layer = layer
        self._given = inputs
        trainable = list(layer.trainable_variables)
        others = list(layer.non_trainable_variables)
        self._count = len(trainable)
        self._variables = trainable + others
        for variable in self._variables:
            if not variable.value.is_fully_addressable:
                raise ValueError(
                    f"{where} cannot be exported: parts of {variable.path!r} "
                    "are in other processes. Save it, and export it in a "
                    "program of one process."
                )
        self._changed: list[int] = []
        self._trace()
        weights = {id(variable) for variable in layer.weights}
        self._taken = [
            i
            for i, variable in enumerate(self._variables)
            if id(variable) in weights or i in self._changed
        ]
        self.weights = [self._variables[i] for i in self._taken]
        self.state = [self._variables[i] for i in self._changed]

    def __call__(self, weights: Sequence[Any], inputs: Sequence[Any]) -> Any:
        """The outputs, as a list, and the new values of what is changed.

        Args:
            weights: values for `weights`, in their order.
            inputs: in the order of `inputs`.
        """
        given = dict(zip(self._taken, weights, strict=True))
        values = [
            given[i] if i in given else np.asarray(variable.value)
            for i, variable in enumerate(self._variables)
        ]
        outputs, variables = self._call(values, inputs)
        _, leaves = structures.described(outputs, "output")
        return list(leaves.values()), [variables[i] for i in self._changed]

    def check_stateless(self, format: str) -> None:
        """Reports that a call changes variables, where it cannot.

        Raises:
            ValueError: it changes some; the message names them.
        """
        if self.state:
            paths = [variable.path for variable in self.state]
            raise ValueError(
                f"{self.where} cannot be exported as {format!r}, whose "
                f"functions change nothing: a call changes {paths}. Export it "
                'as "stablehlo", or call a model that draws no random numbers '
                "and keeps no state in inference."
            )

    def specs(self) -> tuple[list[Any], list[Any]]:
        """Shapes and dtypes of its arguments, with JAX's symbolic sizes."""
        shapes = dimensions.symbolic(
            {a.name: a.shape for a in self.inputs}, self.constraints
        )
        return (
            [
                jax.ShapeDtypeStruct(v.value.shape, v.value.dtype)
                for v in self.weights
            ],
            [
                jax.ShapeDtypeStruct(shapes[a.name], jnp.dtype(a.dtype))
                for a in self.inputs
            ],
        )

    def _call(
        self, values: Sequence[Any], inputs: Sequence[Any]
    ) -> tuple[Any, list[Any]]:
        args, kwargs = self._given.call(list(inputs))
        trainable = list(values[: self._count])
        others = list(values[self._count :])
        if isinstance(self._layer, keras.Model):
            # What `predict` compiles.
            if "training" in inspect.signature(self._layer.call).parameters:
                kwargs["training"] = False
            outputs, changed = self._layer.stateless_call(
                trainable, others, *args, **kwargs
            )
            return outputs, [*trainable, *changed]
        # A layer casts its inputs in `__call__`, which that would not call.
        mapping = zip(self._variables, values, strict=True)
        with keras.StatelessScope(state_mapping=mapping) as scope:
            outputs = self._layer(*args, training=False, **kwargs)
        return outputs, [scope.get_current_value(v) for v in self._variables]

    def _trace(self) -> None:
        """Finds out what a call returns and changes."""
        first: Exception | None = None
        for way in self._given.ways:
            self.inputs = self._given.described(way)
            try:
                self._trace_with(self.inputs)
                return
            except Exception as error:
                first = first or error
        self.inputs = self._given.described(self._given.ways[0])
        raise ValueError(
            f"{self.where} cannot be exported for the inputs "
            f"{_shown(self.inputs)}: {type(first).__name__}: {first}"
            f"{self._advice()}"
        ) from first

    def _advice(self) -> str:
        """What to do about sizes, if a call fails because some are unknown."""
        names = dimensions.names_in({a.name: a.shape for a in self.inputs})
        if not any(self._works_for(size) for size in (16, 4, 1)):
            return ""
        return (
            f" The sizes {names} are not known; the model can be called where "
            "they are. Export it with `inputs=`, which gives those that it "
            "cannot do without, or one name to two that are equal, as in "
            '`jax.ShapeDtypeStruct(("batch", 16), "float32")`; or say what is '
            'true of them, as in `constraints=["length <= 512"]`.'
        )

    def _works_for(self, size: int) -> bool:
        """Whether it can be called with a size for all that are not known."""
        known = [
            dataclasses.replace(
                array,
                shape=tuple(
                    size if isinstance(d, str) else d for d in array.shape
                ),
            )
            for array in self.inputs
        ]
        try:
            self._trace_with(tuple(known))
        except Exception:
            return False
        return True

    def _trace_with(self, inputs: tuple[Array, ...]) -> None:
        shapes = dimensions.symbolic(
            {a.name: a.shape for a in inputs}, self.constraints
        )
        found: list[Any] = []

        def run(values: list[Any], arrays: list[Any]) -> list[Any]:
            outputs, new = self._call(values, arrays)
            structure, leaves = structures.described(outputs, "output")
            changed = [
                i
                for i, (value, old) in enumerate(zip(new, values, strict=True))
                if value is not old
            ]
            found[:] = [structure, list(leaves), changed]
            return list(leaves.values())

        specs = jax.eval_shape(
            run,
            [
                jax.ShapeDtypeStruct(v.value.shape, v.value.dtype)
                for v in self._variables
            ],
            [
                jax.ShapeDtypeStruct(shapes[a.name], jnp.dtype(a.dtype))
                for a in inputs
            ],
        )
        self.results, names, self._changed = found
        self.outputs = tuple(
            Array(name, dimensions.of_dims(spec.shape), spec.dtype.name)
            for name, spec in zip(names, specs, strict=True)
        )


def _shown(arrays: Sequence[Array]) -> str:
    return ", ".join(
        f"{a.name}: {a.dtype}[{', '.join(map(str, a.shape))}]" for a in arrays
    )
