"""JaxLayer: a JAX model given as functions, as a Keras layer."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import keras

from flaxlayer import short_repr
from flaxlayer.functions import function_model
from flaxlayer.layer import layer_config
from flaxlayer.layer.fixed import Fixed
from flaxlayer.layer.model_layer import ModelLayer, NonfiniteState
from flaxlayer.ops import dispatch


@keras.saving.register_keras_serializable(package="flaxlayer")
class JaxLayer(ModelLayer):
    """A Keras layer around a JAX model given as functions.

    `call_fn` is the model. It is called with the arguments it takes, out of

    - `params`: the trainable parameters, a pytree of arrays;
    - `state`: the non-trainable state, a pytree of arrays;
    - `rng`: a raw key as `jax.random.PRNGKey` makes them, or a typed one if
      `rng_impl` is given; another one for each call in training. In inference
      it is the key of the next training call, or `None` if `call_fn` does not
      take `training`;
    - `inputs`: what the layer is called with, one array or a pytree of arrays;
    - `training`: `True` in training mode.

    They may be in any order; only `inputs` is required. Without a `state`
    argument it returns the outputs of the model, any pytree. With one, it
    returns a tuple of the outputs and the new state, which has the structure
    and the shapes of the old one, and dtypes that those of the old one hold:
    floats may lose precision, integers stay what they are. It has to be pure,
    as any function that is compiled by JAX: called eagerly, the layer compiles
    it once for each combination of shapes, dtypes and mode.

    `init_fn` makes the weights when the layer is built. It takes some of `rng`
    (a key of the same form), `inputs` (placeholders with the shapes and dtypes
    of the inputs) and `training` (always `True`), and returns the parameters,
    or a tuple of parameters and state where `call_fn` takes a `state`.

    Array leaves and Python numbers become Keras variables named by their path,
    such as `jax_layer/params/dense/w`. Other leaves are handed to `call_fn` as
    they are. Floating-point parameters are stored in the variable dtype of the
    layer's dtype policy and computed with in its compute dtype; state is
    stored and passed in the dtype it came with.

    Example:
        ```python
        def init_fn(rng, inputs):
            return {"w": jax.random.normal(rng, (inputs.shape[-1], 3))}

        def call_fn(params, inputs):
            return inputs @ params["w"]

        layer = flaxlayer.JaxLayer(call_fn, init_fn, seed=0)
        layer(numpy.ones((2, 4), "float32")).shape  # (2, 3)
        ```

    Haiku's transformed functions have the right signature: pass
    `transformed.apply` and `transformed.init`.

    Args:
        call_fn: the model.
        init_fn: its initialiser. May be `None` if `params` or `state` is given,
            or if `call_fn` takes neither.
        params: trained or hand-made parameters; then `init_fn` is not called.
            A leaf may be a `jax.ShapeDtypeStruct`, which starts as zeros.
        state: the same for the state.
        seed: where the layer's randomness starts: an integer of 32 bits, a
            threefry key, or `None` for a seed drawn by Keras. It decides the
            initial weights and the keys of all calls, and is saved. Layers
            with the same integer start from the same weights, but have keys of
            their own in calls, by their names; with the same key they share
            these as well.
        inputs_spec: shapes and dtypes to build for, where Keras does not know
            them: a pytree, of the structure of the inputs, of
            `jax.ShapeDtypeStruct`s, `keras.KerasTensor`s or arrays.
        rng_impl: the PRNG implementation of `rng`, as `jax.random.key` takes it
            by name, such as `"threefry2x32"`; `rng` is a typed key then. The
            words of threefry keys are computed by native kernels where
            `kernels` allows it, and are the same ones.
        nonfinite_state: what becomes of the state if a call would leave
            anything in it that is not finite: `"propagate"` stores it all the
            same, `"keep"` keeps the whole state as it was before the call.
        regularizers: Keras regularizers, or what `keras.regularizers.get`
            takes, by pattern: a regular expression that matches the whole path
            of a parameter, with or without `params/`. The first that matches
            counts.
        constraints: the same for `keras.constraints`.
        kernels: `"native"`, `"reference"`, or `"auto"` for what
            `flaxlayer.kernels` says.
        native_serialization_platforms: under Keras's TensorFlow backend, what
            calls are compiled for: some of `"cpu"`, `"cuda"`, `"rocm"` and
            `"tpu"`; JAX's default platform if it is `None`. Under that of
            JAX it is kept and has no effect.
        **kwargs: the arguments of every Keras layer, such as `name`, `dtype`
            and `trainable`.

    Raises:
        MemoryError: given shapes, or arrays that are not of JAX, are larger
            than all of the memory.
        TypeError: an argument is not of the type it should be.
        ValueError: `rng_impl` names nothing JAX knows;
            `native_serialization_platforms` names no platform; `dtype` is not
            of floating point, or a quantized policy; `call_fn` or `init_fn`
            lacks a required argument or has one that is not listed above;
            there is neither an `init_fn` nor values for what `call_fn` takes,
            or there are values for what it does not take.
    """

    call_fn = Fixed(shown=True)
    init_fn = Fixed()
    rng_impl = Fixed()

    def __init__(
        self,
        call_fn: Callable[..., Any],
        init_fn: Callable[..., Any] | None = None,
        params: Any = None,
        state: Any = None,
        seed: Any = None,
        *,
        inputs_spec: Any = None,
        rng_impl: str | None = None,
        nonfinite_state: NonfiniteState = "propagate",
        regularizers: Mapping[str, Any] | None = None,
        constraints: Mapping[str, Any] | None = None,
        kernels: dispatch.Policy = "auto",
        native_serialization_platforms: Sequence[str] | None = None,
        **kwargs: Any,
    ):
        where = self._named_by(kwargs)
        if isinstance(call_fn, nn.Module):
            raise TypeError(
                f"{where}: `call_fn` must be a function. Received: a Flax "
                f"module, {short_repr.of(call_fn)}; wrap it in a "
                "`flaxlayer.FlaxLayer`."
            )
        self.call_fn = call_fn
        self.init_fn = init_fn
        self.rng_impl = rng_impl
        values = {"params": params, "state": state}
        super().__init__(
            function_model.FunctionModel(
                call_fn,
                init_fn,
                rng_impl,
                given=frozenset(k for k, x in values.items() if x is not None),
                layer=where,
            ),
            params=params,
            state=state,
            seed=seed,
            inputs_spec=inputs_spec,
            nonfinite_state=nonfinite_state,
            regularizers=regularizers,
            constraints=constraints,
            kernels=kernels,
            native_serialization_platforms=native_serialization_platforms,
            **kwargs,
        )

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Calls the model and keeps the state and the seed it leaves.

        Args:
            inputs: an array or a pytree of arrays.
            training: whether to call it in training mode. Inside `jax.jit` it
                may be a traced boolean: the program has both modes then.

        Returns:
            What the model returns.

        Raises:
            ValueError: the state it returns has another structure, other
                shapes, or dtypes that those of the one it got do not hold; or
                the inputs have another structure, rank or dtype than the layer
                was built with and the model failed on them.
        """
        return super().call(inputs, training=training)

    _only_call = staticmethod(call)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "JaxLayer":
        """Makes a layer from what `get_config` returned.

        Names in it are resolved only in modules that are imported already, and
        only to what a model may hold; see `docs/guide/saving.md`.

        Args:
            config: what `get_config` returned.

        Raises:
            TypeError: it is no dict.
            ValueError: a name cannot be resolved, or may not be; and all that
                the constructor raises.
        """
        return layer_config.made(
            cls, config, function_model.decode_config, super().from_config
        )
