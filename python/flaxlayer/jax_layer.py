"""JaxLayer: a JAX model given as functions, as a Keras layer."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import keras

from flaxlayer import jax_compat, short_repr
from flaxlayer.calls import call_signature
from flaxlayer.calls.model_result import ModelResult
from flaxlayer.config import module_config
from flaxlayer.fixed import Fixed
from flaxlayer.model_layer import Mode, ModelLayer, NonfiniteState
from flaxlayer.ops import dispatch
from flaxlayer.randomness import key_form, rng_streams
from flaxlayer.weights import variable_tree

_RNG = "rng"


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
        **kwargs: the arguments of every Keras layer, such as `name`, `dtype`
            and `trainable`.

    Raises:
        MemoryError: given shapes, or arrays that are not of JAX, are larger
            than all of the memory.
        TypeError: an argument is not of the type it should be.
        ValueError: the Keras backend is not JAX; `rng_impl` names nothing JAX
            knows; `dtype` is not of floating point, or a quantized policy;
            `call_fn` or `init_fn` lacks a required argument or has one that is
            not listed above; there is neither an `init_fn` nor values for what
            `call_fn` takes, or there are values for what it does not take.
    """

    _shown = ("call_fn",)

    call_fn = Fixed()
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
        **kwargs: Any,
    ):
        where = self._named_by(kwargs)
        if isinstance(call_fn, nn.Module):
            raise TypeError(
                f"{where}: `call_fn` must be a function. Received: a Flax "
                f"module, {short_repr.of(call_fn)}; wrap it in a "
                "`flaxlayer.FlaxLayer`."
            )
        self._call_arguments = call_signature.of_model_function(
            call_fn,
            layer=where,
            argument="call_fn",
            allowed=call_signature.CALL_FN_ARGUMENTS,
        )
        self._init_arguments = call_signature.CallSignature((), 0)
        if init_fn is not None:
            self._init_arguments = call_signature.of_model_function(
                init_fn,
                layer=where,
                argument="init_fn",
                allowed=call_signature.INIT_FN_ARGUMENTS,
            )
        self.call_fn = call_fn
        self.init_fn = init_fn
        self.rng_impl = _checked_impl(rng_impl, where)
        nothing_given = init_fn is None and params is None and state is None
        if nothing_given and self._takes_weights:
            raise ValueError(
                f"{where}: `init_fn`, `params` and `state` cannot all be "
                "`None` when `call_fn` takes `params` or `state`. Received: a "
                f"`call_fn` with the arguments {self._call_arguments.names}. "
                "Pass `init_fn`, or the values."
            )
        self._check_given_weights(params, state, where)
        super().__init__(
            params=params,
            state=state,
            seed=seed,
            inputs_spec=inputs_spec,
            nonfinite_state=nonfinite_state,
            regularizers=regularizers,
            constraints=constraints,
            kernels=kernels,
            **kwargs,
        )

    def _check_given_weights(self, params: Any, state: Any, where: str) -> None:
        for kind, tree in (("params", params), ("state", state)):
            if tree is not None and kind not in self._call_arguments:
                raise ValueError(
                    f"{where}: `{kind}` is given to a `call_fn` that does not "
                    "take it. Received: a `call_fn` with the arguments "
                    f"{self._call_arguments.names}."
                )

    def _check_names(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        unknown = sorted(kwargs.keys() - {"inputs", "training"})
        if len(args) + ("inputs" in kwargs) != 1 or unknown:
            raise TypeError(
                f"{self._described} takes one array or pytree of arrays, and "
                f"`training` by name. Received: {len(args)} by position and "
                f"{sorted(kwargs)} by name."
            )

    @property
    def _has_state(self) -> bool:
        return "state" in self._call_arguments

    def _call_model(
        self, params: Any, state: Any, rng: Any, inputs: Any, mode: Mode
    ) -> ModelResult:
        arguments = {
            "params": params,
            "state": state,
            "rng": rng,
            "inputs": inputs,
            "training": mode.training,
        }
        result = self._call_arguments.call(self.call_fn, arguments)
        if self._has_state:
            return ModelResult(*self._pair("call_fn", result))
        return ModelResult(result, state)

    @property
    def _takes_weights(self) -> bool:
        return "params" in self._call_arguments or self._has_state

    @property
    def _initializes(self) -> bool:
        return self.init_fn is not None and self._takes_weights

    def _init_model(self, rng: Any, inputs: Any) -> dict[str, Any]:
        arguments = {"rng": rng, "inputs": inputs, "training": True}
        # Called only where there is one, see `_initializes`.
        init_fn: Any = self.init_fn
        result = self._init_arguments.call(init_fn, arguments)
        params, state = (
            self._pair("init_fn", result) if self._has_state else (result, None)
        )
        if params is None and "params" in self._call_arguments:
            raise ValueError(
                f"{self._described}: `init_fn` must return the parameters that "
                "`call_fn` takes, a pytree of arrays; if there are none, `{}`. "
                "Received: None. Does it lack a `return`?"
            )
        return {"params": params, "state": state}

    def _pair(self, argument: str, result: Any) -> tuple[Any, Any]:
        if isinstance(result, tuple) and len(result) == 2:
            return result
        first = "outputs" if argument == "call_fn" else "params"
        received = type(result).__name__
        if hasattr(result, "shape"):  # A tracer, which nobody has heard of.
            received = "an array"
        raise ValueError(
            f"{self._described}: `call_fn` takes `state`, so `{argument}` must "
            f"return a tuple `({first}, state)`. Received: {received}."
        )

    def _partition(self, variables: dict[str, Any]) -> tuple[Any, Any]:
        return variables["params"], variables["state"]

    def _path_prefix(self, kind: str) -> variable_tree.Path:
        return (kind,)

    def _to_layer_variables(self, params: Any, state: Any) -> dict[str, Any]:
        return {"params": params, "state": state}

    def _from_layer_variables(self, variables: Any) -> tuple[Any, Any]:
        expected = ["params", "state"]
        if not isinstance(variables, Mapping) or set(variables) - set(expected):
            received = (
                sorted(map(str, variables))
                if isinstance(variables, Mapping)
                else type(variables).__name__
            )
            raise variable_tree.StructureMismatch(
                f"expected a dict with the keys {expected}, received {received}"
            )
        return variables.get("params"), variables.get("state")

    def _make_streams(self) -> rng_streams.RngStreams:
        streams: dict[str, rng_streams.When] = {}
        if "rng" in self._call_arguments:
            # To a model that does not take `training`, having a key is what
            # says that it is in training mode.
            takes_training = "training" in self._call_arguments
            streams[_RNG] = "always" if takes_training else "training"
        return rng_streams.RngStreams(
            streams,
            base=_RNG,
            layer=self._described,
            # Nor does the counter of Keras's own layer move in inference.
            counts_inference=False,
        )

    def _init_streams(self) -> tuple[tuple[str, ...], str]:
        # A key that nobody takes must not move Keras's global generator.
        return ((_RNG,) if "rng" in self._init_arguments else ()), _RNG

    def _rng_argument(self, keys: dict[str, Any]) -> Any:
        return keys.get(_RNG)

    def _key_form(self, kernels: dispatch.Kernels) -> key_form.KeyForm:
        if self.rng_impl is None:
            raw = dispatch.Choice("reference", reason="the model has raw keys")
            return key_form.KeyForm(
                jax_compat.default_prng_impl(), typed=False, kernel=raw
            )
        return key_form.KeyForm(
            self.rng_impl, typed=True, kernel=kernels.threefry
        )

    def _model_config(self) -> dict[str, Any]:
        where = self._described
        config = {
            "call_fn": module_config.encode_function(
                self.call_fn, where=f"{where}: `call_fn`"
            ),
            "init_fn": module_config.encode_function(
                self.init_fn, where=f"{where}: `init_fn`"
            ),
        }
        if self.rng_impl is not None:
            config["rng_impl"] = self.rng_impl
        # Given weights cannot be made again by an initialiser: their shapes
        # are saved, and their values are in the weights file.
        for kind in sorted(self._given):
            config[kind] = module_config.encode_tree(
                getattr(self, f"_{kind}").as_specs(), where=f"{where}: `{kind}`"
            )
        return config

    @classmethod
    def _decode_model(cls, config: dict[str, Any], where: str) -> None:
        for name in ("call_fn", "init_fn"):
            config[name] = module_config.decode_function(
                config.get(name), where=f"{where}: `{name}`"
            )
        for kind in ("params", "state"):
            if config.get(kind) is not None:
                config[kind] = module_config.decode_tree(
                    config[kind], where=f"{where}: `{kind}`"
                )


def _checked_impl(impl: Any, where: str) -> str | None:
    if impl is None:
        return None
    try:
        jax.eval_shape(lambda: jax.random.key(0, impl=impl))
    except Exception as error:
        raise ValueError(
            f"{where}: `rng_impl` must name a PRNG implementation of JAX, such "
            f'as "threefry2x32". Received: {impl!r} ({error}).'
        ) from error
    if not isinstance(impl, str):
        raise TypeError(
            f"{where}: `rng_impl` must be the name of a PRNG implementation, "
            f"which can be saved. Received: {impl!r} (of type "
            f"{type(impl).__name__})."
        )
    return impl
