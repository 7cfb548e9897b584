"""JaxLayer: what Keras sees of a JAX model."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import keras
import numpy as np

from flaxlayer import (
    call_signature,
    initialization,
    input_specs,
    jax_compat,
    module_config,
    rng_streams,
    variable_tree,
    weight_files,
)
from flaxlayer.ops import dispatch

_BASE_STREAM = "rng"
_SEED_KEY = "seed_generator_state"
_SEED_STATE = jax.ShapeDtypeStruct((2,), np.uint32)


class _Mode(NamedTuple):
    """What a call is compiled for; all of it is static under `jax.jit`."""

    training: bool
    streams: tuple[str, ...]
    key_impl: str
    kernel: dispatch.Choice


@dataclasses.dataclass
class _Inputs:
    """Descriptions of inputs; an object, since Keras wraps dicts and lists.

    Attributes:
        declared: the `inputs_spec` argument.
        seen: the inputs of the call that is about to build the layer.
        built: what the layer was built for.
    """

    declared: Any
    seen: Any = None
    built: Any = None


@keras.saving.register_keras_serializable(package="flaxlayer")
class JaxLayer(keras.layers.Layer):
    """A Keras layer around a JAX model given as functions.

    `call_fn` is the model. It is called with the arguments it takes, out of

    - `params`: the trainable parameters, a pytree of arrays;
    - `state`: the non-trainable state, a pytree of arrays;
    - `rng`: in training a raw key as `jax.random.PRNGKey` makes them, another
      one for each call; in inference `None`;
    - `inputs`: what the layer is called with, one array or a pytree of arrays;
    - `training`: `True` in training mode.

    They may be in any order; only `inputs` is required. Without a `state`
    argument it returns the outputs of the model, any pytree. With one, it
    returns a tuple of the outputs and the new state, which has the structure
    and the shapes of the old one. It has to be pure, as any function that is
    compiled by JAX: called eagerly, the layer compiles it once for each
    combination of shapes, dtypes and mode.

    `init_fn` makes the weights when the layer is built. It takes some of `rng`
    (a raw key), `inputs` (placeholders with the shapes and dtypes of the
    inputs) and `training` (always `True`), and returns the parameters, or a
    tuple of parameters and state where `call_fn` takes a `state`.

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
            initial weights and the keys of all calls, and is saved.
        inputs_spec: shapes and dtypes to build for, where Keras does not know
            them: a pytree, of the structure of the inputs, of
            `jax.ShapeDtypeStruct`s, `keras.KerasTensor`s or arrays.
        kernels: `"native"`, `"reference"`, or `"auto"` for what
            `flaxlayer.kernels` says.
        **kwargs: the arguments of every Keras layer, such as `name`, `dtype`
            and `trainable`.

    Raises:
        TypeError: an argument is not of the type it should be.
        ValueError: the Keras backend is not JAX; `call_fn` or `init_fn` lacks
            a required argument or has one that is not listed above; there is
            neither an `init_fn` nor values for what `call_fn` takes.
    """

    def __init__(
        self,
        call_fn: Callable[..., Any],
        init_fn: Callable[..., Any] | None = None,
        params: Any = None,
        state: Any = None,
        seed: Any = None,
        *,
        inputs_spec: Any = None,
        kernels: dispatch.Policy = "auto",
        **kwargs: Any,
    ):
        if keras.backend.backend() != "jax":
            raise ValueError(
                f"{type(self).__name__} needs the JAX backend of Keras. "
                f"Received: backend {keras.backend.backend()!r}. Set "
                'KERAS_BACKEND="jax" before the first import of keras.'
            )
        super().__init__(**kwargs)
        described = self._described
        self._call_arguments = call_signature.of_model_function(
            call_fn,
            layer=described,
            argument="call_fn",
            allowed=call_signature.CALL_FN_ARGUMENTS,
        )
        self._init_arguments = init_fn and call_signature.of_model_function(
            init_fn,
            layer=described,
            argument="init_fn",
            allowed=call_signature.INIT_FN_ARGUMENTS,
        )
        self.call_fn = call_fn
        self.init_fn = init_fn
        dispatch.resolve(kernels)  # Raises if it is no policy.
        self.kernels = kernels
        self._inputs = _Inputs(declared=self._as_specs(inputs_spec))

        self._given = frozenset(
            name
            for name, tree in (("params", params), ("state", state))
            if tree is not None
        )
        if init_fn is None and not self._given and self._has_weights:
            raise ValueError(
                f"{described}: `init_fn`, `params` and `state` cannot all be "
                "`None` when `call_fn` takes `params` or `state`. Received: "
                f"a `call_fn` with the arguments {self._call_arguments.names}. "
                "Pass `init_fn`, or the values."
            )
        with keras.name_scope(self.name, caller=self):
            self._create_tree("params", params)
            self._create_tree("state", state)

        self._seed = rng_streams.checked_seed(seed, layer=described)
        self._streams = self._make_streams()
        # Keras makes its state part of the variables that calls update.
        self.seed_generator = (
            rng_streams.seed_generator(self._seed) if self._streams else None
        )
        self._compiled_apply = jax.jit(self._apply, static_argnums=0)

    # What a model is, for subclasses to say otherwise.

    def _make_streams(self) -> rng_streams.RngStreams | None:
        if "rng" not in self._call_arguments:
            return None
        return rng_streams.RngStreams(
            (_BASE_STREAM,), base=_BASE_STREAM, layer=self._described
        )

    def _rng_argument(self, keys: dict[str, jax.Array]) -> Any:
        """The keys of a call, or of the initialisation, as `rng` takes them."""
        return keys.get(_BASE_STREAM)

    def _init_streams(self) -> tuple[tuple[str, ...], str]:
        """The streams of the initialisation, and which is the base of them."""
        return (_BASE_STREAM,), _BASE_STREAM

    def _path_prefix(self, kind: str) -> variable_tree.Path:
        return (kind,)

    # Weights.

    @property
    def params(self) -> Any:
        """The trainable parameters: the pytree with Keras variables in it."""
        return self._params.as_variables()

    @property
    def state(self) -> Any:
        """The non-trainable state: the pytree with Keras variables in it."""
        return self._state.as_variables()

    @property
    def _has_weights(self) -> bool:
        return (
            "params" in self._call_arguments or "state" in self._call_arguments
        )

    @property
    def _described(self) -> str:
        return f"{type(self).__name__} '{self.name}'"

    def build(self, input_shape: Any) -> None:
        """Creates the weights for inputs of this shape.

        Args:
            input_shape: a shape, or a structure of shapes, with `None` for
                what is not known. Dtypes are those of the inputs when the
                layer is built by its first call, those of `inputs_spec` where
                it was given, and else the compute dtype.

        Raises:
            ValueError: the model cannot be initialised for these inputs.
        """
        specs, assumed = self._specs_to_build_for(input_shape)
        try:
            self._build_weights(specs)
        except initialization.UnknownDimensions as error:
            raise ValueError(
                f"{self._described}: {error}. Pass `inputs_spec=` with the "
                "size of that dimension, or call the layer on data first."
            ) from error
        except Exception as error:
            if not assumed:
                raise
            raise ValueError(
                f"{self._described} was built from a shape alone, so its "
                f"inputs were taken to be {input_specs.described(specs)}, and "
                f"the model failed on these: {error}. If they have another "
                "dtype, pass `inputs_spec=`, such as "
                '`jax.ShapeDtypeStruct(shape, "int32")`.'
            ) from error
        self._inputs.built = specs

    def _build_weights(self, specs: Any) -> None:
        if self._given or self.init_fn is None or not self._has_weights:
            return
        init = self._initialization(specs)
        params, state = self._partition(init.treedef.unflatten(init.leaves))
        self._create_tree("params", params, init)
        self._create_tree("state", state, init)

    def _initialization(self, specs: Any) -> initialization.Initialization:
        streams, base = self._init_streams()

        def draw_keys() -> Any:
            keys = rng_streams.init_keys(self._seed, streams, base=base)
            return self._rng_argument(keys)

        return initialization.Initialization(
            self._init_model,
            self._rng_argument(self._init_key_specs()),
            draw_keys,
            specs,
        )

    def _init_key_specs(self) -> dict[str, jax.ShapeDtypeStruct]:
        streams, _ = self._init_streams()
        return dict.fromkeys(streams, rng_streams.key_spec())

    def _init_model(self, keys: Any, inputs: Any) -> dict[str, Any]:
        """Calls the initialiser; the result's paths are those of the weights."""
        arguments = {"rng": keys, "inputs": inputs, "training": True}
        result = self._init_arguments.call(self.init_fn, arguments)
        if "state" not in self._call_arguments:
            return {"params": result, "state": None}
        if not isinstance(result, tuple) or len(result) != 2:
            raise ValueError(
                f"{self._described}: `call_fn` takes `state`, so `init_fn` "
                "must return a tuple `(params, state)`. Received: "
                f"{type(result).__name__}."
            )
        return {"params": result[0], "state": result[1]}

    def _partition(self, variables: dict[str, Any]) -> tuple[Any, Any]:
        """Splits what `_init_model` returns into parameters and state."""
        return variables["params"], variables["state"]

    def _create_tree(
        self,
        kind: str,
        tree: Any,
        init: initialization.Initialization | None = None,
        existing: variable_tree.VariableTree | None = None,
    ) -> None:
        """Creates the variables of `params` or `state`.

        Args:
            kind: `"params"` or `"state"`.
            tree: values; or, with `init`, the descriptions of its leaves.
            init: where the values come from.
            existing: variables to keep.
        """
        prefix = self._path_prefix(kind)
        if init is None:
            leaves, treedef = variable_tree.describe_leaves(tree, prefix)
        else:
            leaves, treedef = jax.tree_util.tree_flatten(tree)
        created = variable_tree.create(
            leaves,
            treedef,
            trainable=kind == "params",
            variable_dtype=self.variable_dtype,
            prefix=prefix,
            initializer=init and init.initializer,
            existing=existing and existing.by_path(),
        )
        # Keras makes weights of the variables it finds in an attribute.
        if kind == "params":
            self._params, self._params_variables = created, created.variables
            if not self.trainable:
                for variable in created.variables:
                    variable.trainable = False
        else:
            self._state, self._state_variables = created, created.variables

    # What Keras knows of the inputs.

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self.built:
            # Keras will call `build` with shapes only; dtypes matter as well.
            inputs = args[0] if args else kwargs.get("inputs")
            self._inputs.seen = self._as_specs(inputs)
        return super().__call__(*args, **kwargs)

    def _as_specs(self, inputs: Any) -> Any:
        """Describes inputs with the dtypes that `call` gets them in."""
        if inputs is None:
            return None
        leaves = jax.tree_util.tree_leaves(inputs)
        if not all(hasattr(x, "shape") and hasattr(x, "dtype") for x in leaves):
            return None
        return input_specs.of_arrays(
            inputs, floating=self.input_dtype if self.autocast else None
        )

    def _specs_to_build_for(self, input_shape: Any) -> tuple[Any, bool]:
        """The inputs to build for, and whether their dtypes were assumed."""
        if self._inputs.declared is not None:
            seen = self._inputs.seen
            if seen is not None and not input_specs.same_ranks(
                seen, self._inputs.declared
            ):
                raise ValueError(
                    f"{self._described}: the inputs do not have the structure "
                    "and ranks of `inputs_spec`. Expected "
                    f"{input_specs.described(self._inputs.declared)}. Received: "
                    f"{input_specs.described(seen)}."
                )
            return self._inputs.declared, False
        if self._inputs.seen is not None:
            return self._inputs.seen, False
        return input_specs.of_shapes(input_shape, self.input_dtype), True

    def get_build_config(self) -> dict[str, Any] | None:
        """The inputs the layer was built for, with their dtypes."""
        if self._inputs.built is None:
            return None
        return {"inputs": input_specs.to_config(self._inputs.built)}

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Builds the layer as it was built when it was saved."""
        if "inputs" in config:
            specs = input_specs.from_config(config["inputs"], self._described)
            self._inputs.seen = specs
            self.build(input_specs.shapes(specs))
        elif config:  # Written by Keras's own layer: shapes only.
            super().build_from_config(config)

    # Calling the model.

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Calls the model and keeps the state and the seed it leaves.

        Args:
            inputs: an array or a pytree of arrays.
            training: whether to call it in training mode.

        Returns:
            What the model returns.

        Raises:
            ValueError: the state it returns has another structure, or other
                shapes, than the one it got; or the inputs have another
                structure, rank or dtype than the layer was built with and the
                model failed on them.
        """
        return self._forward(inputs, training=training, remat=False)

    def _forward(self, inputs: Any, *, training: bool, remat: bool) -> Any:
        mode = self._mode(training)
        seed_state = self.seed_generator.state.value if mode.streams else None
        arrays = (
            self._params.values(),
            self._state.values(),
            seed_state,
            inputs,
        )
        # Inside a trace the model is called as it is, so that the program is
        # the one a plain JAX loop would have; outside of one it is compiled.
        traced = jax_compat.is_staged(arrays)
        apply = self._apply if traced else self._compiled_apply
        if remat:
            apply = jax.checkpoint(apply, static_argnums=0)
        try:
            outputs, new_state, next_seed = apply(mode, *arrays)
        except Exception as error:
            self._explain_inputs(inputs, error)
            raise
        for variable, value in zip(
            self._state.variables, new_state, strict=True
        ):
            variable.assign(value)
        if mode.streams:
            self.seed_generator.state.assign(next_seed)
        return outputs

    def _mode(self, training: bool) -> _Mode:
        streams = self._streams.active(bool(training)) if self._streams else ()
        return _Mode(
            training=bool(training),
            streams=streams,
            key_impl=jax_compat.default_prng_impl(),
            kernel=dispatch.choose("rng_fold", dispatch.resolve(self.kernels)),
        )

    def _apply(
        self,
        mode: _Mode,
        params: list[jax.Array],
        state: list[jax.Array],
        seed_state: jax.Array | None,
        inputs: Any,
    ) -> tuple[Any, list[jax.Array], jax.Array | None]:
        """The layer as a pure function of arrays; `jax.jit` compiles this."""
        outputs, new_state, next_seed = self._run(
            mode,
            self._params.unflatten(params),
            self._state.unflatten(state),
            seed_state,
            inputs,
        )
        if "state" not in self._call_arguments:
            return outputs, state, next_seed
        return outputs, self._state_leaves(new_state), next_seed

    def _run(
        self,
        mode: _Mode,
        params: Any,
        state: Any,
        seed_state: jax.Array | None,
        inputs: Any,
    ) -> tuple[Any, Any, jax.Array | None]:
        """Draws the keys and calls `call_fn` on pytrees."""
        keys: dict[str, jax.Array] = {}
        if mode.streams:
            keys, seed_state = self._streams.draw(
                seed_state,
                mode.streams,
                key_impl=mode.key_impl,
                kernel=mode.kernel,
            )
        arguments = {
            "params": params,
            "state": state,
            "rng": self._rng_argument(keys),
            "inputs": inputs,
            "training": mode.training,
        }
        result = self._call_arguments.call(self.call_fn, arguments)
        if "state" not in self._call_arguments:
            return result, state, seed_state
        if not isinstance(result, tuple) or len(result) != 2:
            raise ValueError(
                f"{self._described}: `call_fn` takes `state`, so it must "
                "return a tuple `(outputs, state)`. Received: "
                f"{type(result).__name__}."
            )
        return result[0], result[1], seed_state

    def _state_leaves(self, new_state: Any) -> list[jax.Array]:
        try:
            return self._state.flatten(new_state)
        except variable_tree.StructureMismatch as error:
            raise ValueError(
                f"{self._described}: the state that the model returned does "
                f"not have the structure of the state it was given: {error}."
            ) from error

    def _explain_inputs(self, inputs: Any, error: Exception) -> None:
        """Raises a clearer error if the inputs are not those it is built for."""
        received = self._as_specs(inputs)
        if (
            self._inputs.built is None
            or received is None
            or input_specs.same_ranks(received, self._inputs.built, dtypes=True)
        ):
            return
        raise ValueError(
            f"{self._described} was built for inputs "
            f"{input_specs.described(self._inputs.built)} and failed on "
            f"{input_specs.described(received)}: {error}"
        ) from error

    def rematerialized_call(
        self, layer_call: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Callable[..., Any]:
        """What Keras calls in a `keras.RematScope`.

        Only the model itself is rematerialised. Drawing keys and assigning
        the state stay outside, and `training` stays a Python value.
        """
        wrapped = super().rematerialized_call(layer_call, *args, **kwargs)
        if wrapped is layer_call:  # Keras decided against it.
            return layer_call

        def call(inputs: Any, training: bool = False) -> Any:
            return self._forward(inputs, training=training, remat=True)

        return call

    # Shapes without values.

    def compute_output_spec(self, inputs: Any, training: bool = False) -> Any:
        """Shapes and dtypes of the outputs, as `keras.KerasTensor`s.

        Args:
            inputs: a `keras.KerasTensor` or a structure of them; dimensions
                may be unknown.
            training: whether for training mode.
        """
        specs = self._as_specs(inputs)
        mode = self._mode(training)
        try:
            return input_specs.output_specs(
                functools.partial(self._abstract_outputs, mode), specs
            )
        except Exception as error:
            self._explain_inputs(specs, error)
            raise

    def _abstract_outputs(self, mode: _Mode, inputs: Any) -> Any:
        """The outputs on weights of the right shapes; for tracing only."""
        zeros = functools.partial(jax.tree_util.tree_map, _zeros)
        seed_state = zeros(_SEED_STATE) if mode.streams else None
        if self.built or self._given or self.init_fn is None:
            params, state = (
                zeros(tree.specs(self.compute_dtype if self.autocast else None))
                for tree in (self._params, self._state)
            )
            return self._apply(mode, params, state, seed_state, inputs)[0]
        keys = zeros(self._rng_argument(self._init_key_specs()))
        params, state = self._partition(self._init_model(keys, inputs))
        if self.autocast:
            params = _cast_floating(params, self.compute_dtype)
        return self._run(mode, params, state, seed_state, inputs)[0]

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape of the outputs for inputs of this shape."""
        known = self._inputs.declared or self._inputs.built
        specs = input_specs.of_shapes(input_shape, self.input_dtype, known)
        return input_specs.shapes(self.compute_output_spec(specs))

    # Saving.

    def save_own_variables(self, store: Any) -> None:
        """Writes the weights and the seed's state into a Keras weights file.

        Each is stored under its path.
        """
        weight_files.save(*self._paths_and_variables(), store)
        if self.seed_generator is not None:
            # Keras does not save seed generators; without its counter a
            # reloaded layer would repeat the random numbers of its first steps.
            store[_SEED_KEY] = self.seed_generator.state

    def load_own_variables(self, store: Any) -> None:
        """Reads the weights from a Keras weights file.

        Files of Keras's own layers, which number their weights, are read too.

        Raises:
            ValueError: weights are missing, unexpected or of another shape;
                nothing has been assigned then.
        """
        # The file of a layer that was never built is empty.
        unbuilt = not self.built and self._has_weights and not self._given
        if unbuilt and store.keys():
            raise ValueError(
                f"{self._described} has no weights to load into: it was never "
                "built. Build it or call it on data first."
            )
        paths, variables = self._paths_and_variables()
        # Keras's own layers do not have it in their files.
        if self.seed_generator is not None and _SEED_KEY in store.keys():
            paths = (*paths, (_SEED_KEY,))
            variables = (*variables, self.seed_generator.state)
        weight_files.load(paths, variables, store, layer=self._described)

    def set_weights(self, weights: list[Any]) -> None:
        """Sets all weights from a list of arrays, or none of them.

        Raises:
            ValueError: their number or a shape is not that of `self.weights`.
        """
        shapes = [np.shape(weight) for weight in weights]
        expected = [tuple(variable.shape) for variable in self.weights]
        if shapes != expected:
            raise ValueError(
                f"{self._described}: `set_weights` got other shapes than the "
                f"layer has; nothing was assigned. Expected {expected} for "
                f"{[v.path for v in self.weights]}. Received: {shapes}."
            )
        super().set_weights([np.asarray(weight) for weight in weights])

    def _paths_and_variables(self) -> tuple[Any, Any]:
        return (
            self._params.paths + self._state.paths,
            self._params.variables + self._state.variables,
        )

    def _model_config(self) -> dict[str, Any]:
        """The part of the config that says what the model is."""
        where = self._described
        config = {
            "call_fn": module_config.encode_function(
                self.call_fn, where=f"{where}: `call_fn`"
            ),
            "init_fn": module_config.encode_function(
                self.init_fn, where=f"{where}: `init_fn`"
            ),
        }
        # Given weights cannot be made again by an initialiser: their shapes
        # are saved, and their values are in the weights file.
        for kind in sorted(self._given):
            config[kind] = module_config.encode_tree(
                getattr(self, f"_{kind}").as_specs(), where=f"{where}: `{kind}`"
            )
        return config

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments as JSON-compatible values.

        Raises:
            TypeError: the model holds something that cannot be saved by name
                or by value; the message says what, where, and what to do.
        """
        config = super().get_config()
        config.update(self._model_config())
        config["seed"] = rng_streams.seed_to_config(self._seed)
        config["kernels"] = self.kernels
        if self._inputs.declared is not None:
            config["inputs_spec"] = input_specs.to_config(self._inputs.declared)
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "JaxLayer":
        """Makes a layer from what `get_config` returned.

        Names in it are resolved only in modules that are imported already, and
        only to what a model may hold; see `docs/saving.md`.

        Raises:
            ValueError: a name cannot be resolved, or may not be.
        """
        config = dict(config)
        where = f"{cls.__name__} {config.get('name')!r}"
        # Of no meaning on this backend; Keras's own layer writes it.
        config.pop("native_serialization_platforms", None)
        cls._decode_model(config, where)
        config["seed"] = rng_streams.seed_from_config(
            config.get("seed"), layer=where
        )
        if config.get("inputs_spec") is not None:
            config["inputs_spec"] = input_specs.from_config(
                config["inputs_spec"], where
            )
        return super().from_config(config)

    @classmethod
    def _decode_model(cls, config: dict[str, Any], where: str) -> None:
        """Replaces what `_model_config` returned by the objects it stands for."""
        for name in ("call_fn", "init_fn"):
            config[name] = module_config.decode_function(
                config.get(name), where=f"{where}: `{name}`"
            )
        for kind in ("params", "state"):
            if config.get(kind) is not None:
                config[kind] = module_config.decode_tree(
                    config[kind], where=f"{where}: `{kind}`"
                )


def _zeros(spec: jax.ShapeDtypeStruct) -> jax.Array:
    return jnp.zeros(spec.shape, spec.dtype)


def _cast_floating(tree: Any, dtype: str) -> Any:
    def cast(leaf: Any) -> Any:
        floating = isinstance(leaf, jax.Array) and jnp.issubdtype(
            leaf.dtype, jnp.floating
        )
        return leaf.astype(dtype) if floating else leaf

    return jax.tree_util.tree_map(cast, tree)
