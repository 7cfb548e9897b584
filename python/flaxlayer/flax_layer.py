"""FlaxLayer: a Linen module as a Keras layer."""

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import flax
import flax.linen as nn
import jax
import keras

from flaxlayer import jax_compat, keras_compat
from flaxlayer.calls import input_specs
from flaxlayer.calls.call_arguments import CallArguments, first_input
from flaxlayer.calls.model_result import ModelResult
from flaxlayer.config import module_config
from flaxlayer.fixed import Fixed
from flaxlayer.jax_layer import JaxLayer
from flaxlayer.linen import (
    flax_errors,
    intermediates,
    linen_model,
    method_signature,
    submodules,
)
from flaxlayer.linen.collection_metrics import CollectionMetrics
from flaxlayer.linen.collection_policies import CollectionPolicies, Policy
from flaxlayer.model_layer import Mode, NonfiniteState
from flaxlayer.ops import dispatch
from flaxlayer.randomness import key_form, rng_streams
from flaxlayer.weights import initialization, variable_tree
from flaxlayer.weights.partition import Kind, Partition, merged

_PARAMS = "params"
_DROPOUT = "dropout"
_TRAINING = "training"
_MASK = "mask"


class _Opaque:
    """Arrays that Keras does not look into."""

    def __init__(self, value: Any):
        self.value = flax.core.unfreeze(value)


@keras.saving.register_keras_serializable(package="flaxlayer")
class FlaxLayer(JaxLayer):
    """A Keras layer around a `flax.linen.Module`.

    The layer is called as the module is, through one of its methods:
    `__call__` unless `method` says otherwise. Inputs may be arrays or pytrees
    of arrays, by position or by name; keywords that are not arrays are static.
    The mode alone has Keras's name: `training=True` or `False` is handed on to
    an argument of the module called `training`, `train`, `is_training`,
    `deterministic` or `use_running_average`, the latter two negated, or to a
    boolean one called `is_train`, `enable_dropout` or, negated, `inference`. An
    argument called `mask` gets the Keras mask of the inputs. Outputs that have
    features for each step of it hand it on to the next layer; others have none.

    The `"params"` collection becomes the trainable weights of the layer;
    other collections that the module's initialisation makes become
    non-trainable ones. They are Keras variables named by their Flax path, such
    as `flax_layer/params/Dense_0/kernel`. Parameters that carry axis metadata
    (`nn.with_partitioning`) are stored without their boxes; the axes are in
    `axis_names`. What modules sow is not kept: `"losses"` are added to the
    loss, the means of `"metrics"` are shown by `fit`, and others are left out
    of the computation; see `collections`.

    Parameters of 32-bit floating point are stored in the variable dtype of the
    layer's dtype policy and computed with in its compute dtype. Parameters for
    which the module chooses another dtype, and state, such as batch
    statistics, keep theirs.

    Example:
        ```python
        class Classifier(nn.Module):
            @nn.compact
            def __call__(self, x, train: bool):
                x = nn.relu(nn.Dense(64)(x))
                x = nn.Dropout(0.5, deterministic=not train)(x)
                return nn.Dense(10)(x)

        model = keras.Sequential([flaxlayer.FlaxLayer(Classifier(), seed=0)])
        ```

    Args:
        module: an instance of a `flax.linen.Module` subclass.
        method: a method of the module, bound or not, its name, or a function
            that takes the module as its first argument. It is used for the
            initialisation and for all calls.
        variables: all variables of the module, or those of some collections,
            in the form `module.init` returns: a dict from collection names to
            nested dicts. Collections that it lacks are initialised. With
            `None` all of them are, when the layer is built.
        rngs: the random streams the module's calls need: a sequence of names,
            whose streams are given in training only, or a mapping from names
            to `"training"`, `"always"` or `"never"`. `"dropout"` gets the keys
            that Keras's own layer would give it; each other stream has its
            own.
        collections: what becomes of variable collections, by name: `"state"`,
            kept as non-trainable weights; `"drop"`; `"output"`, returned by
            each call, which returns a tuple of the outputs and a dict of such
            collections; `"loss"`, whose sums are added to the loss;
            `"metric"`, whose means become Keras metrics; `"transient"`, passed
            to each call by its name and returned as an output. By default
            `"intermediates"` is dropped, `"losses"` a loss, `"metrics"` a
            metric, anything else that the initialisation makes a state, and
            what is sown elsewhere is dropped.
        partition: what kind of weights variables are, by pattern:
            `"trainable"`, `"frozen"` (until it is unfrozen) or `"state"`. A
            pattern is a regular expression for a path, such as `"adapters"` or
            `"params/encoder/.*"`, and speaks of all that is below it; without
            a collection it means parameters. The first that matches counts. By
            default `"params"` is trainable and all else state.
        regularizers: Keras regularizers, or what `keras.regularizers.get`
            takes, by pattern: a regular expression that matches the whole path
            of a weight, with or without its collection, such as `".*/kernel"`.
            The first that matches counts.
        constraints: the same for `keras.constraints`.
        training_argument: the argument that says the mode to the method: its
            name, `"not "` and its name if it means the opposite, `None` if
            there is none, or `"auto"` for what is described above.
        inputs_spec: shapes and dtypes to build for, where Keras does not know
            them: a pytree, of the structure of the first input, of
            `jax.ShapeDtypeStruct`s, `keras.KerasTensor`s or arrays; or
            `flaxlayer.CallArguments` of such, for several inputs.
        seed: where the layer's randomness starts: an integer of 32 bits, a
            threefry key, or `None` for a seed drawn by Keras. With `seed=7`
            the initial weights are those of `module.init(jax.random.key(7),
            inputs)`. Layers with the same integer have keys of their own in
            calls, by their names; with the same key they share these. It is
            saved.
        nonfinite_state: what becomes of the state if a call would leave
            anything in it that is not finite: `"propagate"` stores it all the
            same, `"keep"` keeps the whole state as it was before the call.
        kernels: `"native"`, `"reference"`, or `"auto"` for what
            `flaxlayer.kernels` says.
        **kwargs: the arguments of every Keras layer, such as `name`, `dtype`
            and `trainable`.

    Raises:
        TypeError: `module` is not an instance of a Linen module, `variables`
            is not a dict of dicts, or another argument is of a wrong type.
        ValueError: the Keras backend is not JAX, `method` cannot be called as
            described above, a policy, kind or pattern is none, or `dtype` is
            not of floating point, or a quantized policy.
    """

    _shown = ("module", "method")

    module = Fixed()
    method = Fixed()
    training_argument = Fixed()

    def __init__(
        self,
        module: nn.Module,
        method: Callable[..., Any] | str | None = None,
        variables: Mapping[str, Any] | None = None,
        *,
        rngs: Sequence[str] | Mapping[str, rng_streams.When] = (_DROPOUT,),
        collections: Mapping[str, Policy] | None = None,
        partition: Mapping[str, Kind] | None = None,
        regularizers: Mapping[str, Any] | None = None,
        constraints: Mapping[str, Any] | None = None,
        training_argument: str | None = "auto",
        inputs_spec: Any = None,
        seed: Any = None,
        nonfinite_state: NonfiniteState = "propagate",
        kernels: dispatch.Policy = "auto",
        **kwargs: Any,
    ):
        # The base class needs these to make the streams and the variables.
        where = self._named_by(kwargs)
        self.module = linen_model.checked_module(module, where)
        self.method = method
        self.training_argument = training_argument
        _check_keywords(kwargs, where)
        self._declared_streams = rng_streams.RngStreams(
            rngs, base=_DROPOUT, layer=where
        )
        policies = CollectionPolicies(collections, where)
        kinds = Partition(partition, where)
        kinds.check_policies(policies.declared, where)
        self._model = linen_model.LinenModel(
            module,
            method,
            method_signature.of_method(
                method,
                module,
                training_argument=training_argument,
                collections=policies.named("transient"),
                layer=where,
            ),
            policies,
            kinds,
        )
        module_config.name_method(method, module)
        self._submodules = submodules.Submodules()
        params, state = None, None
        if variables is not None:
            given = self._model.stored(
                linen_model.checked_variables(variables, where)
            )
            _check_values(given, where)
            params, state = self._partition(given)
        super().__init__(
            self._call_module,
            self._init_model,
            params,
            state,
            seed,
            inputs_spec=inputs_spec,
            nonfinite_state=nonfinite_state,
            regularizers=regularizers,
            constraints=constraints,
            kernels=kernels,
            **kwargs,
        )
        self.supports_masking = True
        self._collection_metrics = CollectionMetrics(self._described, self.name)
        # What Keras and `_bindable` know of the arguments of a call.
        self._own_signature = self._model.signature.of_layer(self._transient)
        keras_compat.set_call_signature(self, self._own_signature)
        self._takes_one = method_signature.takes_one(self._own_signature)

    # Calling it.

    @property
    def _transient(self) -> tuple[str, ...]:
        return self._model.collections.named("transient")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: D102
        args, kwargs = self._bindable(args, kwargs)
        if self._model.signature.takes_mask and kwargs.get(_MASK) is None:
            # Keras looks for one only if there is one input, and not before it
            # has built the layer.
            first = first_input(self._packed(args, kwargs))
            mask = keras_compat.mask_of(first)
            if not _is_empty(mask):
                kwargs = {**kwargs, _MASK: mask}
        for name in self._transient:
            value = kwargs.get(name)
            if value is not None and not isinstance(value, Mapping):
                raise TypeError(
                    f"{self._described}: `{name}` must be the collection that "
                    "an earlier call returned, a dict, or `None` to start "
                    f"anew. Received: {value!r:.200} (of type "
                    f"{type(value).__name__})."
                )
            if name in kwargs and not _has_symbols(value):
                # So that Keras does not cast it to the compute dtype.
                kwargs[name] = _Opaque(kwargs[name])
        try:
            outputs = super().__call__(*args, **kwargs)
        except Exception as error:
            keras_compat.drop_missing_arguments(error)
            raise
        keras_compat.drop_unfit_masks(outputs)
        return outputs

    def call(self, *args: Any, training: bool = False, **kwargs: Any) -> Any:
        """Calls the module and keeps the state and the seed it leaves.

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
        args, kwargs = self._with_integers(args, kwargs)
        return self._forward(self._packed(args, kwargs), training=training)

    def apply_with_intermediates(
        self,
        *args: Any,
        training: bool = False,
        capture_all: bool = False,
        **kwargs: Any,
    ) -> tuple[Any, dict[str, Any]]:
        """Calls the module for what it computes on the way.

        Nothing changes by it: neither state nor seed, losses or metrics.

        Args:
            *args: as those of a call of the layer.
            training: whether to call it in training mode.
            capture_all: whether to capture the output of every submodule, as
                `capture_intermediates=True` of `module.apply` does, besides
                what is sown into `"intermediates"`.
            **kwargs: as those of a call of the layer.

        Returns:
            What a call returns, and the `"intermediates"` collection: nested
            dicts by submodule, with a tuple of values under each name.
        """
        with intermediates.reading("all" if capture_all else "sown"):
            return self(*args, training=training, **kwargs)

    def _forward(self, inputs: Any, **options: Any) -> Any:
        reading = intermediates.wanted()
        if reading is None:
            return super()._forward(inputs, **options)
        # Layers that the module itself may call are called as always.
        with intermediates.reading(None):
            return super()._forward(inputs, intermediates=reading, **options)

    def _bindable(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of a call, after checking that they can be bound."""
        if len(args) == 1 and self._takes_one and kwargs.keys() <= {_TRAINING}:
            return args, kwargs  # As most calls: there is nothing to find.
        signature = self._own_signature
        if "inputs" in kwargs and "inputs" not in signature.parameters:
            # What Keras calls the first argument of any layer.
            args, kwargs = (kwargs["inputs"], *args), {**kwargs}
            del kwargs["inputs"]
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            words = dict(self._model.signature.modes)
            hint = "".join(
                f" Say `training=`: the layer hands it on as `{name}`."
                for name in kwargs
                if name in words
            )
            raise TypeError(
                f"{self._described}: {error}. Expected the arguments "
                f"{signature}. Received: {len(args)} by position and "
                f"{sorted(kwargs)} by name.{hint}"
            ) from error
        return args, kwargs

    def _packed(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        if len(args) == 1 and kwargs.keys() <= {_TRAINING}:
            return args[0]
        parameters = self._own_signature.parameters
        given = {
            name: value.value if isinstance(value, _Opaque) else value
            for name, value in kwargs.items()
            if name != _TRAINING
            # A mask that Keras looked for and did not find, for one.
            and not (_is_empty(value) and _is_optional(parameters.get(name)))
        }
        arguments = CallArguments(*args, **given)
        for name, value in arguments.static.items():
            try:
                hash(value)
            except TypeError as error:
                raise TypeError(
                    f"{self._described}: the argument `{name}` is no array, so "
                    "it is static, and has to be hashable; pass a tuple for a "
                    f"list. Received: {value!r:.200} (of type "
                    f"{type(value).__name__})."
                ) from error
        return args[0] if arguments.is_plain else arguments

    # The module as a model of functions.

    def _call_module(
        self, params: Any, state: Any, rng: Any, inputs: Any, training: bool
    ) -> tuple[Any, Any]:
        """The module as a `call_fn`."""
        result = self._model.apply(params, state, rng, inputs, training)
        return result.outputs, result.state

    def _call_model(
        self, params: Any, state: Any, rng: Any, inputs: Any, mode: Mode
    ) -> ModelResult:
        with self._flax_errors_explained():
            return self._model.apply(
                params, state, rng, inputs, mode.training, mode.intermediates
            )

    @property
    def _initializes(self) -> bool:
        return True

    def _init_model(self, rng: Any, inputs: Any) -> dict[str, Any]:
        with self._flax_errors_explained(), self._submodules.noted():
            return self._model.init(rng, inputs)

    @contextlib.contextmanager
    def _flax_errors_explained(self) -> Iterator[None]:
        try:
            yield
        except flax.errors.FlaxError as error:
            raise flax_errors.explained(
                error,
                layer=self._described,
                streams=self._streams.policies,
                stored=self._params.paths + self._state.paths,
                booleans=self._model.signature.booleans,
            ) from error
        except NameError as error:
            explained = flax_errors.of_axis(error, layer=self._described)
            if explained is None:
                raise
            raise explained from error

    def _partition(self, variables: dict[str, Any]) -> tuple[Any, Any]:
        return self._model.partition.split(variables)

    def _starts_frozen(self, path: variable_tree.Path) -> bool:
        return self._model.partition.kind(path) == "frozen"

    def _path_prefix(self, kind: str) -> variable_tree.Path:
        return ()  # Collections name themselves.

    def _to_layer_variables(self, params: Any, state: Any) -> dict[str, Any]:
        return flax.core.unfreeze(merged(params, state))

    def _from_layer_variables(self, variables: Any) -> tuple[Any, Any]:
        if not isinstance(variables, Mapping):
            raise variable_tree.StructureMismatch(
                "expected a dict of collections, received "
                f"{variables!r:.80} (of type {type(variables).__name__})"
            )
        return self._partition(self._model.stored(variables))

    def _make_streams(self) -> rng_streams.RngStreams:
        return self._declared_streams

    def _rng_argument(self, keys: dict[str, Any]) -> dict[str, Any]:
        return keys

    def _key_form(self, kernels: dispatch.Kernels) -> key_form.KeyForm:
        # Linen folds module paths into keys and hands them on: it makes no
        # difference to a module whether they are raw or typed.
        return key_form.KeyForm(
            jax_compat.default_prng_impl(),
            typed=False,
            kernel=kernels.threefry,
        )

    def _init_streams(self) -> tuple[tuple[str, ...], str]:
        # In the order in which Keras's own layer draws these two.
        others = [n for n in self._streams.policies if n != _DROPOUT]
        return (_PARAMS, _DROPOUT, *others), _PARAMS

    # Metrics.

    @property
    def variables(self) -> list[keras.Variable]:
        """All variables that calls may change, the sums of metrics included."""
        return super().variables + self._collection_metrics.variables

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """Those of the module's metric collections."""
        return super().metrics + self._collection_metrics.metrics

    def _update_metrics(self, metrics: dict[str, jax.Array]) -> None:
        self._collection_metrics.update(metrics)

    def _output_specs(self, specs: Any, training: bool) -> Any:
        outputs = super()._output_specs(specs, training)
        self._collection_metrics.create(sorted(self._model.metric_paths))
        return outputs

    # Weights.

    @property
    def axis_names(self) -> dict[str, tuple[Any, ...]]:
        """The logical axes of parameters that the module partitions.

        A dict from paths such as `"params/Dense_0/kernel"` to the names given
        to `nn.with_partitioning`, one for each dimension. Empty before the
        layer is built.
        """
        return dict(self._model.axis_names)

    @property
    def layers(self) -> Sequence[keras.Operation]:
        """Rows for `model.summary(expand_nested=True)`, one per submodule.

        Each has the Flax path of the submodule as its name, the class of the
        submodule, its output shapes and its number of parameters. They are no
        Keras layers. Empty before the layer is built.
        """
        if not self.built:
            return ()
        paths, variables = self._paths_and_variables()
        return self._submodules.rows(
            list(zip(paths, variables, strict=True)),
            unknown=input_specs.has_unknown(self._inputs.built),
        )

    def _build_weights(self, specs: Any) -> None:
        # What was noted until now was noted for any inputs.
        self._submodules = submodules.Submodules()
        if self._given:
            self._build_given(specs)
        else:
            super()._build_weights(specs)
        self._collection_metrics.create(sorted(self._model.metric_paths))

    def _check_patterns(self) -> None:
        paths = self._params.paths + self._state.paths
        self._model.collections.check(
            (path[0] for path in paths), self._described
        )
        self._model.partition.check_patterns(paths, self._described)
        super()._check_patterns()

    def _check_names(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        pass  # `_bindable` has done it.

    def _build_given(self, specs: Any) -> None:
        try:
            init = self._initialization(specs)
        except Exception:
            # All that is given may be all that the module needs: whether it
            # does will show when it is applied, and be explained there.
            return
        self._check_given(init)
        self._complete(init)

    def _check_given(self, init: initialization.Initialization) -> None:
        """Compares the given collections with those the module makes."""
        given = self._params.array_leaves() + self._state.array_leaves()
        collections = {leaf.path[0] for leaf in given}
        problems = variable_tree.mismatches(
            expected=[
                leaf
                for leaf in init.leaves
                if leaf.is_array and leaf.path[0] in collections
            ],
            received=given,
        )
        wanted = {
            leaf.path: leaf.spec
            for leaf in init.leaves
            if leaf.spec is not None
        }
        problems += [
            f"`{variable_tree.joined(leaf.path)}`: expected "
            f"{wanted[leaf.path].dtype}, received {leaf.spec.dtype}"
            for leaf in given
            if leaf.spec is not None
            and leaf.path in wanted
            and variable_tree.is_differentiable(wanted[leaf.path])
            and not variable_tree.is_differentiable(leaf.spec)
        ]
        if problems:
            hint = ""
            if collections.isdisjoint(path[0] for path in wanted):
                made = sorted({path[0] for path in wanted})
                hint = f" The collections are {made}, and parameters alone are "
                hint += '`{"params": params}`.'
            raise variable_tree.StructureMismatch(
                "`variables` do not fit the module: "
                f"{'; '.join(problems)}. Expected the structure and shapes of "
                f"`module.init`.{hint}"
            )

    def _complete(self, init: initialization.Initialization) -> None:
        """Initialises the collections that were not given."""
        init.check_memory()
        everything = init.treedef.unflatten(init.leaves)
        for kind, made in zip(
            ("params", "state"), self._partition(everything), strict=True
        ):
            tree = getattr(self, f"_{kind}")
            if set(made) - {path[0] for path in tree.paths}:
                self._create_tree(kind, made, init, existing=tree)

    # Saving.

    def _model_config(self) -> dict[str, Any]:
        where = self._described
        return {
            "module": module_config.encode_module(
                self.module, where=f"{where}: `module`"
            ),
            "method": module_config.encode_method(
                self.method, self.module, where=f"{where}: `method`"
            ),
            "rngs": dict(self._streams.policies),
            **self._options_config(),
        }

    def _options_config(self) -> dict[str, Any]:
        """The options that are not at their default."""
        options: dict[str, Any] = {
            "collections": self._model.collections.declared,
            "partition": self._model.partition.declared,
        }
        config: dict[str, Any] = {
            name: dict(value) for name, value in options.items() if value
        }
        if self.training_argument != "auto":
            config["training_argument"] = self.training_argument
        return config

    @classmethod
    def _decode_model(cls, config: dict[str, Any], where: str) -> None:
        config["module"] = module_config.decode_module(
            config.get("module"), where=f"{where}: `module`"
        )
        config["method"] = module_config.decode_method(
            config.get("method"), config["module"], where=f"{where}: `method`"
        )


def _check_values(variables: dict[str, Any], where: str) -> None:
    for leaf in variable_tree.describe_leaves(variables)[0]:
        if leaf.is_array and leaf.value is None:
            raise TypeError(
                f"{where}: `variables` must hold arrays, as `module.init` "
                "makes them; `jax.eval_shape` makes only their shapes. "
                f"Received: `{variable_tree.joined(leaf.path)}` is a "
                "ShapeDtypeStruct."
            )


def _check_keywords(kwargs: Mapping[str, Any], where: str) -> None:
    for name in ("call_fn", "init_fn", "params", "state", "rng_impl"):
        if name in kwargs:
            raise TypeError(
                f"{where}: unexpected argument `{name}`, which is one of "
                "`JaxLayer`. Here, a module says how it is called and "
                "initialised; weights are given as `variables=`, random "
                "streams as `rngs=`."
            )


def _is_empty(value: Any) -> bool:
    return not jax.tree_util.tree_leaves(value)


def _is_optional(parameter: inspect.Parameter | None) -> bool:
    return parameter is not None and parameter.default is None


def _has_symbols(tree: Any) -> bool:
    return any(
        isinstance(leaf, keras.KerasTensor)
        for leaf in jax.tree_util.tree_leaves(tree)
    )
