"""A pure function of JAX as an operation of TensorFlow, with gradients.

It is what `jax.experimental.jax2tf.convert` makes, of `jax.export`, which is
public: there a function is traced anew by each eager call, and nothing says
which version of StableHLO is written.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import tensorflow as tf

from flaxlayer import jax_compat, stablehlo_version, tensorflow_compat

Function = Callable[..., Sequence[jax.Array]]


class Program:
    """A function that TensorFlow's XLA compiles.

    Args:
        function: a pure function of arrays, which returns a list of arrays.
        specs: shapes and dtypes of its arguments; sizes may be symbolic.
        platforms: what to lower it for, as `jax.export` names them; `None` for
            JAX's default platform.
    """

    def __init__(
        self,
        function: Function,
        specs: Sequence[jax.ShapeDtypeStruct],
        platforms: Sequence[str] | None,
    ):
        self._function = function
        self._specs = list(specs)
        self._platforms = platforms
        with jax_compat.calling_convention(
            tensorflow_compat.calling_convention()
        ):
            exported = jax.export.export(
                jax.jit(function), platforms=platforms
            )(*specs)
        self._results = [
            jax.ShapeDtypeStruct(aval.shape, aval.dtype)
            for aval in exported.out_avals
        ]
        self._run = functools.partial(
            tensorflow_compat.call,
            exported,
            stablehlo_version.oldest(exported.mlir_module_serialized),
        )
        self._varied = _differentiable(self._specs)
        self._varying = _differentiable(self._results)

    def __call__(self, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """The results, as tensors with gradients.

        Args:
            tensors: one for each argument, of the dtypes of `specs`.
        """
        if not self._varied or not self._varying:
            return self._run(tensors)

        # Integers have no gradients, and are captured.
        def differentiable(*varied: tf.Tensor) -> Any:
            arguments = list(tensors)
            for i, tensor in zip(self._varied, varied, strict=True):
                arguments[i] = tensor
            results = self._run(arguments)

            def gradients(*cotangents: Any) -> list[tf.Tensor]:
                return self._pullback(
                    [*arguments, *(cotangents[i] for i in self._varying)]
                )

            return results, gradients

        return list(
            tf.custom_gradient(differentiable)(
                *(tensors[i] for i in self._varied)
            )
        )

    @functools.cached_property
    def _pullback(self) -> "Program":
        """What returns the gradients of the varied arguments.

        It takes all arguments, and a cotangent for each varying result. It
        computes the results anew, as that of jax2tf does: TensorFlow asks for
        gradients, if at all, when it has the results.
        """

        def pullback(*arrays: jax.Array) -> Sequence[jax.Array]:
            arguments = list(arrays[: len(self._specs)])
            cotangents = arrays[len(self._specs) :]

            def varying(*varied: jax.Array) -> list[jax.Array]:
                for i, array in zip(self._varied, varied, strict=True):
                    arguments[i] = array
                results = self._function(*arguments)
                return [results[i] for i in self._varying]

            _, pull = jax.vjp(varying, *(arguments[i] for i in self._varied))
            # TensorFlow has the conjugates of JAX's complex gradients.
            return [
                jnp.conj(gradient)
                for gradient in pull([jnp.conj(c) for c in cotangents])
            ]

        return Program(
            pullback,
            [*self._specs, *(self._results[i] for i in self._varying)],
            self._platforms,
        )


def _differentiable(specs: Sequence[jax.ShapeDtypeStruct]) -> list[int]:
    return [
        i
        for i, spec in enumerate(specs)
        if jnp.issubdtype(spec.dtype, jnp.inexact)
    ]
