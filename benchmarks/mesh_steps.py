"""Training steps over the devices of a mesh: in Keras, and in a loop by hand.

A block is split as Megatron splits it: the heads of the attention and the inner
features of the MLP over one axis of the mesh, the batch over the other.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax

import flaxlayer
from benchmarks import loops, models

_BATCH, _MODEL = "batch", "model"
_SEED = 7
_RATE = 0.01

# By what the paths of weights end with.
_AXES: dict[str, tuple[str | None, ...]] = {
    r"Block_\d+/Dense_0/kernel": (None, _MODEL),
    r"Block_\d+/Dense_0/bias": (_MODEL,),
    r"Block_\d+/Dense_1/kernel": (_MODEL, None),
    r"/(query|key|value)/kernel": (None, _MODEL, None),
    r"/(query|key|value)/bias": (_MODEL, None),
    r"/out/kernel": (_MODEL, None, None),
}

# `apply(params, state, x)` returns the logits and the new state.
_Apply = Callable[[Any, Any, Any], tuple[Any, Any]]


def distribute(shape: Sequence[int]) -> None:
    """Has Keras put what is made from now on over the devices of a mesh.

    Args:
        shape: how many parts there are of the batch, and of the model.
    """
    mesh = keras.distribution.DeviceMesh(
        tuple(shape),
        (_BATCH, _MODEL),
        keras.distribution.list_devices("cpu"),
    )
    layouts = keras.distribution.LayoutMap(mesh)
    for ending, axes in _AXES.items():
        layouts[f".*{ending}"] = axes
    keras.distribution.set_distribution(
        keras.distribution.ModelParallel(
            layout_map=layouts, batch_dim_name=_BATCH
        )
    )


def build(workload: models.Workload, shape: Sequence[int] | None) -> None:
    """Makes the weights of a module, and waits for them.

    Args:
        workload: whose module.
        shape: that of the mesh whose devices they are made on; `None` for one
            device.
    """
    keras.distribution.set_distribution(None)
    if shape is not None:
        distribute(shape)
    layer = flaxlayer.FlaxLayer(workload.module, seed=_SEED, name="model")
    layer.build((None, *workload.shape))
    jax.block_until_ready([variable.value for variable in layer.weights])


def distributed(arrays: Sequence[np.ndarray]) -> tuple[jax.Array, ...]:
    """A batch over the mesh, as Keras hands it to its training step."""
    layout_of = keras.distribution.distribution().get_data_layout
    return tuple(
        keras.distribution.distribute_tensor(
            jnp.asarray(array), layout_of(array.shape)
        )
        for array in arrays
    )


def in_keras(workload: models.Workload, kernels: Any) -> keras.Model:
    """A compiled Keras model of a layer around the workload's module."""
    layer = flaxlayer.FlaxLayer(
        workload.module,
        seed=_SEED,
        kernels=kernels,
        name="model",  # It decides about the keys.
    )
    model = keras.Sequential([keras.Input(workload.shape), layer])
    model.compile(
        keras.optimizers.SGD(_RATE),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model


def keras_program(model: keras.Model, batch: Sequence[jax.Array]) -> str:
    """The text of what `train_on_batch` runs, of a model that has trained."""
    state = tuple(
        [variable.value for variable in variables]
        for variables in (
            model.trainable_variables,
            model.non_trainable_variables,
            model.optimizer.variables,
            model.metrics_variables,
        )
    )
    step = jax.jit(
        model.train_step,
        donate_argnums=0,
        out_shardings=(None, _shardings(state)),
    )
    return step.lower(state, tuple(batch)).compile().as_text()


class Loop:
    """A jitted step of gradient descent, and what it carries from step to step.

    What it carries keeps its shardings. There are no moments, which would need
    shardings of their own.

    Args:
        apply: the model.
        params: the parameters it starts from; they are copied.
        state: all that the model changes, likewise.
        batch: of all its steps.
    """

    def __init__(self, apply: _Apply, params: Any, state: Any, batch: Any):
        def step(carried: Any, x: Any, y: Any) -> Any:
            params, state = carried

            def loss_fn(params: Any) -> Any:
                logits, new_state = apply(params, state, x)
                losses = optax.softmax_cross_entropy_with_integer_labels(
                    logits, y
                )
                return losses.mean(), new_state

            (loss, state), gradients = jax.value_and_grad(
                loss_fn, has_aux=True
            )(params)
            params = jax.tree.map(
                lambda param, gradient: param - _RATE * gradient,
                params,
                gradients,
            )
            return (params, state), loss

        # Donated buffers must not be those of a layer or of another loop.
        self._carried = jax.tree.map(
            lambda array: jnp.array(array, copy=True), (params, state)
        )
        self._batch = batch
        jitted = jax.jit(
            step,
            donate_argnums=0,
            out_shardings=(_shardings(self._carried), None),
        )
        self._step = jitted.lower(self._carried, *batch).compile()

    @classmethod
    def of_layer(cls, layer: keras.layers.Layer, batch: Any) -> "Loop":
        """A loop around a layer that is built."""

        def apply(params: Any, state: Any, x: Any) -> Any:
            return layer.stateless_call(params, state, x, training=True)

        params, state = (
            [variable.value for variable in variables]
            for variables in (
                layer.trainable_variables,
                layer.non_trainable_variables,
            )
        )
        return cls(apply, params, state, batch)

    @classmethod
    def by_hand(cls, layer: flaxlayer.FlaxLayer, batch: Any) -> "Loop":
        """The same loop around the layer's module, which has only parameters.

        It begins with the weights of the layer, each where it is, and has the
        keys that the layer would use.
        """
        keys = loops.Keys.counting(layer.seed_generator.state.value)
        module = layer.module

        def apply(params: Any, state: Any, x: Any) -> Any:
            state, key = keys.draw(state)
            logits = module.apply(
                {"params": params}, x, training=True, rngs={"dropout": key}
            )
            return logits, state

        params = loops.variables_of(layer)["params"]
        return cls(apply, params, keys.start, batch)

    @property
    def program(self) -> str:
        """The text of the compiled step."""
        return self._step.as_text()

    @property
    def flops(self) -> float:
        """How many operations of floating-point numbers a device does."""
        return self._step.cost_analysis()["flops"]

    def losses(self, steps: int) -> list[float]:
        """The losses of so many steps."""
        found = []
        for _ in range(steps):
            self._carried, loss = self._step(self._carried, *self._batch)
            found.append(float(loss))
        return found


def _shardings(arrays: Any) -> Any:
    return jax.tree.map(lambda array: array.sharding, arrays)
