"""ModelLayer: a model as a Keras layer."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from flaxlayer import backends, keras_compat, short_repr
from flaxlayer.calls import input_checks, input_specs, integer_inputs
from flaxlayer.layer import (
    build_errors,
    fixed,
    intermediates,
    keras_arguments,
    policies,
)
from flaxlayer.layer.collection_metrics import CollectionMetrics
from flaxlayer.layer.layer_inputs import LayerInputs, has_symbols
from flaxlayer.layer.layer_keys import LayerKeys
from flaxlayer.layer.layer_mesh import LayerMesh
from flaxlayer.layer.layer_weights import LayerWeights
from flaxlayer.layer.model_calls import ModelCalls, NonfiniteState
from flaxlayer.layer.pure_call import Results
from flaxlayer.layer.weights_layer import WeightsLayer
from flaxlayer.model import Model
from flaxlayer.ops import dispatch
from flaxlayer.randomness import seeds
from flaxlayer.weights import process_agreement, weight_rules


class ModelLayer(WeightsLayer):
    """A Keras layer that holds a model.

    What Keras wants of a layer is here; each piece of work is done in a room
    of its own: the weights, the inputs, the keys, the calls.

    Args:
        model: the model.
        params: given parameters, or `None`.
        state: given state, or `None`.
        seed: the `seed` argument.
        inputs_spec: the `inputs_spec` argument.
        nonfinite_state: the `nonfinite_state` argument.
        regularizers: the `regularizers` argument.
        constraints: the `constraints` argument.
        kernels: the `kernels` argument.
        native_serialization_platforms: the argument of that name.
        **kwargs: the arguments of every Keras layer.
    """

    kernels = fixed.Fixed()
    nonfinite_state = fixed.Fixed()
    native_serialization_platforms = fixed.Fixed()

    def __init__(
        self,
        model: Model,
        *,
        params: Any,
        state: Any,
        seed: Any,
        inputs_spec: Any,
        nonfinite_state: NonfiniteState,
        regularizers: Mapping[str, Any] | None,
        constraints: Mapping[str, Any] | None,
        kernels: dispatch.Policy,
        native_serialization_platforms: Sequence[str] | None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        layer = self._described
        policies.check(self.dtype_policy, layer)
        try:
            dispatch.resolve(kernels)
        except ValueError as error:
            raise ValueError(f"{layer}: {error}") from error
        self.kernels = kernels
        self.native_serialization_platforms = policies.checked_platforms(
            native_serialization_platforms, layer
        )
        self.nonfinite_state = nonfinite_state
        self.supports_masking = model.keeps_masks
        self._model = model
        rules = weight_rules.WeightRules(regularizers, constraints, layer)
        self._inputs = LayerInputs(
            inputs_spec,
            lambda: self.input_dtype if self.autocast else None,
            layer,
        )
        self._weights = LayerWeights(
            model, rules, trainable=self.trainable, layer=layer
        )
        with keras.name_scope(self.name, caller=self):
            self._weights.take(params, state, self.variable_dtype)
        self._track_weights()
        self._keys = LayerKeys(
            model, seed, kernels, name=self.name, layer=layer
        )
        # Keras makes its state part of the variables that calls update.
        self.seed_generator = self._keys.generator
        self._mesh = LayerMesh(layer)
        self._metrics_of_calls = CollectionMetrics(layer, self.name)
        self._calls = ModelCalls(
            model,
            self._weights,
            self._keys,
            self._inputs,
            self._metrics_of_calls,
            nonfinite_state=nonfinite_state,
            platforms=self.native_serialization_platforms,
            layer=layer,
            shown=lambda: repr(self),
        )
        keras_compat.set_call_signature(self, model.call_form.signature)

    def __repr__(self) -> str:
        return short_repr.of_layer(self, *fixed.shown(type(self)))

    # Calling the model.

    @backends.current.not_rewritten
    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: D102
        if len(args) == 1 and not kwargs:
            results = self._repeated(args[0])
            if results is not None:
                return results.outputs
        form = self._model.call_form
        args, kwargs = form.bindable(args, kwargs, self._described)
        kwargs = keras_arguments.with_mask(args, kwargs, form, self._described)
        kwargs = keras_arguments.with_opaque(kwargs, form, self._described)
        try:
            named = (kwargs["inputs"],) if "inputs" in kwargs else ()
            input_checks.check((*args, *named), kwargs, self._described)
            outputs = self._built_and_called(args, kwargs)
        except Exception as error:
            keras_compat.drop_missing_arguments(error)
            raise
        if self._model.keeps_masks:
            keras_compat.drop_unfit_masks(outputs)
        return outputs

    def _repeated(self, x: Any) -> Results | None:
        """What a call returns for which Keras has nothing to do.

        Returns:
            `None` where it is no such call, and is to be made by Keras.
        """
        if (
            not backends.current.HOLDS_JAX
            or not keras_compat.only_calls(self, x)
            or self._inputs.may_cast(x)
            or getattr(self.call, "__func__", None) is not self._only_call
        ):
            return None
        return self._calls.repeated(x, lambda: keras_compat.calling(self))

    def _built_and_called(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """Calls the layer as Keras does, which builds it if need be."""
        if self.built:
            args, kwargs = self._inputs.with_integers(args, kwargs)
            return super().__call__(*args, **kwargs)
        # One thread builds it; those that have waited find it built.
        with self._calls.lock:
            args, kwargs = self._inputs.with_integers(args, kwargs)
            if self.built:
                return super().__call__(*args, **kwargs)
            # Keras will call `build` with shapes only; dtypes matter too.
            specs = self._inputs.described(self._packed(args, kwargs))
            self._inputs.seen = specs
            try:
                return super().__call__(*args, **kwargs)
            except Exception as error:
                if isinstance(error, MemoryError) or not has_symbols(
                    (args, kwargs)
                ):
                    raise
                if not self._guess(specs, args, kwargs):
                    raise
            args, kwargs = self._inputs.with_integers(args, kwargs)
            return super().__call__(*args, **kwargs)

    def _guess(
        self, specs: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> bool:
        """Builds the layer for integers, if its model takes those.

        Args:
            specs: symbolic inputs that the model has failed on.
            args: the arguments of a call that these are the inputs of.
            kwargs: those by name.
        """
        for guess in integer_inputs.guesses(specs):
            self._inputs.seen = guess
            try:
                trial = integer_inputs.described(args, kwargs, guess)
                super().__call__(*trial[0], **trial[1])
            except process_agreement.Disagreement:
                raise
            except Exception:
                continue
            self._inputs.built, self._inputs.guessed = guess, True
            return True
        return False

    def _packed(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        return self._model.call_form.packed(args, kwargs, self._described)

    def call(self, *args: Any, training: bool = False, **kwargs: Any) -> Any:
        """Calls the model and keeps the state and the seed it leaves.

        Args:
            *args: the positional inputs of the module's method: arrays or
                pytrees of arrays.
            training: whether to call it in training mode. Inside `jax.jit` it
                may be a traced boolean: the program has both modes then.
            **kwargs: inputs and static arguments of the method by name;
                transient collections by theirs.

        Returns:
            What the method returns; with a collection that is an output or
            transient, a tuple of that and a dict of these collections.

        Raises:
            ValueError: the state it returns has another structure, other
                shapes, or dtypes that those of the one it got do not hold; or
                the inputs have another structure, rank or dtype than the layer
                was built with and the module failed on them.
        """
        # Wrappers such as TimeDistributed call this method, not the layer.
        args, kwargs = self._inputs.with_integers(args, kwargs)
        return self._call(args, kwargs, training)

    # In which nothing else is done. A subclass may have another, or a layer.
    _only_call = staticmethod(call)

    def _call(
        self, args: Any, kwargs: Any, training: Any, remat: bool = False
    ) -> Any:
        self._mesh.check()
        wanted = intermediates.wanted()
        # Layers that the model itself may call are called as always.
        with intermediates.reading(None):
            results = self._calls.call(
                self._packed(args, kwargs),
                training=training,
                remat=remat,
                intermediates=wanted,
            )
        if wanted is not None:
            return results.outputs, results.intermediates
        for loss in results.effects.losses:
            self.add_loss(backends.current.added_loss(loss))
        return results.outputs

    def rematerialized_call(
        self, layer_call: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Callable[..., Any]:
        """What Keras calls in a `keras.RematScope`.

        Only the model itself is rematerialised. Drawing keys and assigning
        the state stay outside, and `training` stays a Python value.

        Args:
            layer_call: this layer's `call`.
            *args: the call's arguments, by which Keras decides.
            **kwargs: its keyword arguments.
        """
        wrapped = super().rematerialized_call(layer_call, *args, **kwargs)
        # Keras decided against it; or gradients compute all anew as it is.
        if wrapped is layer_call or not backends.current.HOLDS_JAX:
            return layer_call

        def call(*args: Any, training: bool = False, **kwargs: Any) -> Any:
            return self._call(args, kwargs, training, remat=True)

        return call

    # Shapes without values.

    def compute_output_spec(
        self, *args: Any, training: bool = False, **kwargs: Any
    ) -> Any:
        """Shapes and dtypes of the outputs, as `keras.KerasTensor`s.

        Args:
            *args: `keras.KerasTensor`s, or structures of them, for the arrays
                that `call` takes; dimensions may be unknown.
            training: whether for training mode.
            **kwargs: the same, by name.
        """
        known = self._inputs.known
        if known is not None:
            args, kwargs = integer_inputs.described(args, kwargs, known)
        specs = self._inputs.described(self._packed(args, kwargs))
        return self._output_specs(specs, training)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape of the outputs for a first input of this shape.

        Args:
            input_shape: a shape, or a structure of shapes, with `None` for
                what is not known.

        Raises:
            TypeError: `input_shape` is no structure of shapes.
        """
        specs = self._inputs.with_first(input_shape, self.input_dtype)
        return input_specs.shapes(self._output_specs(specs, training=False))

    def _output_specs(self, specs: Any, training: bool) -> Any:
        return self._calls.output_specs(
            specs,
            training=training,
            built=self.built,
            compute_dtype=self.compute_dtype if self.autocast else None,
        )

    # Building.

    def build(self, input_shape: Any) -> None:
        """Creates the weights for inputs of this shape.

        Args:
            input_shape: a shape, or a structure of shapes, with `None` for
                what is not known. Dtypes are those of the inputs when the
                layer is built by its first call, those of `inputs_spec` where
                it was given, and else the compute dtype.

        Raises:
            MemoryError: the weights are larger than all of the memory.
            TypeError: `input_shape` is needed and is no structure of shapes.
            ValueError: the model cannot be initialised for these inputs; the
                layer is built already, and for other ones; or it is built
                under a distribution over several processes, and another of
                them builds another layer or none.
        """
        if self.built:
            self._inputs.check_built(input_shape)
            return
        specs, assumed = self._inputs.to_build_for(
            input_shape, self.input_dtype
        )
        process_agreement.check(self._parts, self._described)
        earlier = self.variables
        self._mesh.take()
        try:
            specs = self._build_weights_for(specs, assumed)
            self._mesh.move(earlier)
        except process_agreement.Disagreement:
            raise
        except Exception as error:
            build_errors.explain(
                error,
                specs,
                assumed=assumed,
                layer=self._described,
                shown=repr(self),
            )
            raise
        self._weights.check_patterns()
        self._inputs.built = specs

    def _build_weights_for(self, specs: Any, assumed: bool) -> Any:
        """Creates the weights; returns what they were created for.

        Args:
            specs: the inputs.
            assumed: whether their dtypes are. Then integers are tried where
                the model fails on floats.
        """
        try:
            self._build_weights(specs)
        except process_agreement.Disagreement:
            raise
        except Exception:
            for guess in integer_inputs.guesses(specs) if assumed else ():
                try:
                    self._build_weights(guess)
                except process_agreement.Disagreement:
                    raise
                except Exception:
                    continue
                self._inputs.guessed = True
                return guess
            raise
        return specs

    def _makes_weights(self) -> bool:
        return self._model.initializes and (
            not self._weights.given or self._model.completes
        )

    def _parts(self) -> process_agreement.Parts:
        """What the layer is before it is built, to compare with others."""
        return {
            "name": repr(self.name),
            "seed": self._keys.described(initial=self._makes_weights()),
            **process_agreement.described(self._weights.present()),
        }

    def _build_weights(self, specs: Any) -> None:
        self._model.start_build()
        if self._makes_weights():
            try:
                init = self._keys.initialization(specs)
            except Exception:
                # All that is given may be all that the model needs: whether it
                # does will show when it is called, and be explained there.
                if not self._weights.given:
                    raise
            else:
                process_agreement.check(
                    lambda: process_agreement.described(init.leaves),
                    self._described,
                )
                init.spread(
                    self._mesh.shardings(
                        init.leaves, self._weights.by_path(), self.path or ""
                    )
                )
                self._weights.make(init, self.variable_dtype)
                self._track_weights()
        self._metrics_of_calls.create(sorted(self._model.metric_paths))

    def get_build_config(self) -> dict[str, Any] | None:
        """The inputs the layer was built for, with their dtypes."""
        return self._inputs.to_config()

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Builds the layer as it was built when it was saved.

        Args:
            config: what `get_build_config` returned.
        """
        if "inputs" in config:
            self.build(self._inputs.see_config(config))
        elif config:  # Written by Keras's own layer: shapes only.
            super().build_from_config(config)

    # What Keras asks for besides.

    @property
    def variables(self) -> list[keras.Variable]:
        """All variables that calls may change, the sums of metrics included."""
        return super().variables + self._metrics_of_calls.variables

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """Those of the model, which the means of its calls are shown by."""
        return super().metrics + self._metrics_of_calls.metrics

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments as JSON-compatible values.

        Raises:
            TypeError: the model holds something that cannot be saved by name
                or by value; the message says what, where, and what to do.
        """
        weights = self._weights
        config = super().get_config()
        given = {"params": weights.params, "state": weights.state}
        config.update(
            self._model.to_config(
                {k: given[k].as_specs() for k in weights.given},
                self._described,
            )
        )
        config["seed"] = seeds.seed_to_config(self._keys.seed)
        config["kernels"] = self.kernels
        config["nonfinite_state"] = self.nonfinite_state
        if self.native_serialization_platforms is not None:
            config["native_serialization_platforms"] = list(
                self.native_serialization_platforms
            )
        config.update(weights.rules.to_config(self._described))
        if self._inputs.declared is not None:
            config["inputs_spec"] = input_specs.to_config(
                self._inputs.declared, self._described
            )
        return config
