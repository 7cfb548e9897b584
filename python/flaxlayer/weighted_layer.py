"""WeightedLayer: the weights of a model as those of a Keras layer."""

import contextlib
import dataclasses
import functools
import threading
from collections.abc import Callable, Mapping
from typing import Any

import jax
import keras

from flaxlayer.calls import (
    input_checks,
    input_specs,
    integer_inputs,
    model_errors,
)
from flaxlayer.calls.call_arguments import (
    CallArguments,
    first_input,
    is_array,
    with_first_input,
)
from flaxlayer.ops import dispatch
from flaxlayer.randomness import key_form, rng_streams
from flaxlayer.weights import (
    initialization,
    memory,
    path_patterns,
    variable_tree,
    weight_rules,
)

_SEED_KEY = "seed_generator_state"


@dataclasses.dataclass
class _Inputs:
    """Descriptions of inputs; an object, since Keras wraps dicts and lists.

    Attributes:
        declared: the `inputs_spec` argument.
        seen: the inputs of the call that is about to build the layer.
        built: what the layer was built for.
        guessed: whether that some of these are integers has shown in what the
            model takes, and nobody has said or shown it.
    """

    declared: Any
    seen: Any = None
    built: Any = None
    guessed: bool = False
    _asked: tuple[Any, bool] = (None, False)

    @property
    def known(self) -> Any:
        """The inputs the model takes, as far as they are known."""
        return self.declared if self.built is None else self.built

    @property
    def has_integers(self) -> bool:
        """Whether it is known that the model takes any integers."""
        # Asked in every call, and answered once for each description.
        known = self.known
        if known is not self._asked[0]:
            answer = known is not None and integer_inputs.has_any(known)
            self._asked = known, answer
        return self._asked[1]

    @property
    def holds_for_arrays(self) -> bool:
        """Whether floats are taken for what Keras has made of integers."""
        return self.declared is not None or self.guessed


class WeightedLayer(keras.layers.Layer):
    """A layer whose weights are two pytrees: parameters and state.

    It makes the weights when it is built, names them, and writes and reads
    them. What the model is and how it is initialised is said by subclasses, in
    the methods below the constructor; calling it is `ModelLayer`'s part.

    Args:
        params: the given parameters, or `None`.
        state: the given state, or `None`.
        seed: the `seed` argument.
        inputs_spec: the `inputs_spec` argument.
        regularizers: the `regularizers` argument.
        constraints: the `constraints` argument.
        kernels: the `kernels` argument.
        **kwargs: the arguments of every Keras layer.
    """

    def __init__(
        self,
        *,
        params: Any,
        state: Any,
        seed: Any,
        inputs_spec: Any,
        regularizers: Mapping[str, Any] | None,
        constraints: Mapping[str, Any] | None,
        kernels: dispatch.Policy,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self._check_policy()
        # Held while the layer is built, and by calls that change it.
        self._call_lock = threading.RLock()
        try:
            dispatch.resolve(kernels)
        except ValueError as error:
            raise ValueError(f"{self._described}: {error}") from error
        self.kernels = kernels
        self._takes_stock_keys_only = False
        self._rules = weight_rules.WeightRules(
            regularizers, constraints, layer=self._described
        )
        self._inputs = _Inputs(
            declared=input_specs.of_declared(
                inputs_spec,
                self._described,
                floating=self.input_dtype if self.autocast else None,
            )
        )
        self._given = frozenset(
            name
            for name, tree in (("params", params), ("state", state))
            if tree is not None
        )
        self._check_memory(params=params, state=state)
        with keras.name_scope(self.name, caller=self):
            self._state = variable_tree.EMPTY
            try:
                self._create_tree("params", params)
                self._create_tree("state", state)
            except variable_tree.StructureMismatch as error:
                raise ValueError(
                    f"{self._described}: the given weights cannot be stored. "
                    f"{error}."
                ) from error
        self._seed = rng_streams.checked_seed(seed, layer=self._described)
        self._streams = self._make_streams()
        # Keras makes its state part of the variables that calls update.
        self.seed_generator = (
            rng_streams.seed_generator(self._seed, self.name)
            if self._streams.policies
            else None
        )

    def _check_policy(self) -> None:
        policy = self.dtype_policy
        dtypes = (policy.variable_dtype, policy.compute_dtype)
        if all(map(keras.backend.is_float_dtype, dtypes)) and not getattr(
            policy, "quantization_mode", None
        ):
            return
        raise ValueError(
            f"{self._described}: `dtype` must name a floating-point dtype, or "
            "a policy of such. Integers are what inputs, parameters and state "
            "are by themselves; Keras's quantization does not reach into a "
            f"model of JAX. Received: {policy.name!r}."
        )

    # How the model is initialised, for subclasses to say.

    @property
    def _initializes(self) -> bool:
        """Whether the model has weights that it can initialise."""
        raise NotImplementedError

    def _init_model(self, rng: Any, inputs: Any) -> dict[str, Any]:
        """Calls the initialiser; its paths are those of the weights."""
        raise NotImplementedError

    def _partition(self, variables: dict[str, Any]) -> tuple[Any, Any]:
        """Splits what `_init_model` returns into parameters and state."""
        raise NotImplementedError

    def _path_prefix(self, kind: str) -> variable_tree.Path:
        """What the paths of all leaves of `params` or `state` start with."""
        raise NotImplementedError

    def _starts_frozen(self, path: variable_tree.Path) -> bool:
        """Whether the weight at a path is frozen until it is unfrozen."""
        return False

    def _make_streams(self) -> rng_streams.RngStreams:
        """The random streams of its calls."""
        raise NotImplementedError

    def _init_streams(self) -> tuple[tuple[str, ...], str]:
        """The streams of the initialisation, and which is the base of them."""
        raise NotImplementedError

    def _rng_argument(self, keys: dict[str, Any]) -> Any:
        """The keys of some streams as the argument the model takes."""
        raise NotImplementedError

    def _key_form(self, kernels: dispatch.Kernels) -> key_form.KeyForm:
        """The form of the keys that the model takes."""
        raise NotImplementedError

    # Its randomness.

    def _choose_kernels(self) -> tuple[dispatch.Kernels, key_form.KeyForm]:
        try:
            kernels = dispatch.choose_all(dispatch.resolve(self.kernels))
        except RuntimeError as error:
            raise RuntimeError(f"{self._described}: {error}") from error
        dispatch.log_choice(self._described, kernels)
        keys = self._key_form(kernels)
        return kernels, keys.stock() if self._takes_stock_keys_only else keys

    def _with_usable_keys(
        self, run: Callable[[key_form.KeyForm], Any], keys: key_form.KeyForm
    ) -> Any:
        """`run(keys)`; with JAX's own keys if the model cannot use native ones.

        A model may depend on what is particular to the keys that it would have
        been given: it may index raw ones, or mix them with others. It is not
        asked what it does: if it fails it is run once more, without them, and
        gets no native ones any more if that works.
        """
        try:
            return run(keys)
        except (FloatingPointError, jax.errors.JaxRuntimeError):
            raise  # Of the values, not of the program.
        except Exception:
            if not keys.optional:
                raise
        # Outside of the handler: what is raised here is the model's own error,
        # and has nothing to do with the keys.
        result = run(keys.stock())
        self._takes_stock_keys_only = True
        return result

    def _initialized(
        self, form: key_form.KeyForm, raw_keys: dict[str, Any], inputs: Any
    ) -> dict[str, Any]:
        """What the model's initialiser makes of raw keys."""
        keys = {name: form.given(key) for name, key in raw_keys.items()}
        made = self._init_model(self._rng_argument(keys), inputs)
        return form.returned(made)

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
    def _described(self) -> str:
        return f"{type(self).__name__} '{self.name}'"

    @classmethod
    def _named_by(cls, kwargs: Mapping[str, Any]) -> str:
        """What `_described` will be, as far as a constructor knows it."""
        name = kwargs.get("name")
        return f"{cls.__name__} {name!r}" if name else cls.__name__

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
            ValueError: the model cannot be initialised for these inputs; or
                the layer is built already, and for other ones.
        """
        if self.built:
            self._check_built(input_shape)
            return
        specs, assumed = self._specs_to_build_for(input_shape)
        try:
            specs = self._build_weights_for(specs, assumed)
        except initialization.UnknownDimensions as error:
            raise ValueError(
                f"{self._described}: {error}. Pass `inputs_spec=` with the "
                "size of that dimension, or call the layer on data first."
            ) from error
        except variable_tree.StructureMismatch as error:
            raise ValueError(f"{self._described}: {error}") from error
        except memory.NotEnoughMemory as error:
            raise MemoryError(
                f"{self._described}, built for inputs "
                f"{input_specs.described(specs)}, does not fit into memory: "
                f"{error}. Check the sizes of the inputs, or use a machine "
                "with more memory."
            ) from error
        except Exception as error:
            if not assumed:
                self._name_in(error, specs)
                raise
            raise ValueError(
                f"{self._described} was built from a shape alone, so its "
                f"inputs were taken to be {input_specs.described(specs)}, and "
                f"the model failed on these: {error}. If they have another "
                "dtype, pass `inputs_spec=`, such as "
                '`jax.ShapeDtypeStruct(shape, "int32")`.'
            ) from error
        self._check_patterns()
        self._inputs.built = specs

    def _name_in(self, error: Exception, specs: Any) -> None:
        """Raises an error with the layer in it, if it is not."""
        named = model_errors.named(error, self._described, repr(self), specs)
        if named is not error:
            raise named from error

    def _build_weights_for(self, specs: Any, assumed: bool) -> Any:
        """Creates the weights; returns what they were created for.

        Args:
            specs: the inputs.
            assumed: whether their dtypes are. Then integers are tried where
                the model fails on floats.
        """
        try:
            self._build_weights(specs)
        except Exception:
            for guess in integer_inputs.guesses(specs) if assumed else ():
                with contextlib.suppress(Exception):
                    self._build_weights(guess)
                    self._inputs.guessed = True
                    return guess
            raise
        return specs

    def _check_built(self, input_shape: Any) -> None:
        built = self._inputs.built
        # Lists and tuples are the same here, as Keras has it.
        if built is not None and not input_specs.same_shapes(
            input_shape, input_specs.shapes(built)
        ):
            raise ValueError(
                f"{self._described} is built already, for inputs "
                f"{input_specs.described(built)}, and has weights for these. "
                f"Make another layer for others. Received: {input_shape!r}."
            )

    def _check_patterns(self) -> None:
        """Reports patterns that have no effect on the weights there are."""
        self._rules.check_patterns(
            self._params.paths, self._state.paths, layer=self._described
        )

    def _build_weights(self, specs: Any) -> None:
        if self._given or not self._initializes:
            return
        init = self._initialization(specs)
        init.check_memory()
        params, state = self._partition(init.treedef.unflatten(init.leaves))
        self._create_tree("params", params, init)
        self._create_tree("state", state, init)

    def _initialization(self, specs: Any) -> initialization.Initialization:
        streams, base = self._init_streams()
        kernels, keys = self._choose_kernels()

        def draw_keys() -> dict[str, jax.Array]:
            return rng_streams.init_keys(
                self._seed,
                streams,
                base=base,
                key_impl=keys.impl,
                kernel=kernels.rng_fold,
            )

        def initialize(form: key_form.KeyForm) -> initialization.Initialization:
            return initialization.Initialization(
                functools.partial(self._initialized, form),
                self._init_key_specs(form),
                draw_keys,
                specs,
            )

        return self._with_usable_keys(initialize, keys)

    def _init_key_specs(
        self, form: key_form.KeyForm
    ) -> dict[str, jax.ShapeDtypeStruct]:
        streams, _ = self._init_streams()
        return dict.fromkeys(streams, rng_streams.key_spec(form.impl))

    def _check_memory(self, **given: Any) -> None:
        """Reports given shapes, and arrays of others, that do not fit."""
        arrays = {
            f"`{variable_tree.joined(leaf.path)}`": leaf.spec
            for kind, tree in given.items()
            for leaf in variable_tree.describe_leaves(
                tree, self._path_prefix(kind)
            )[0]
            # Where arrays of JAX fit, copies of them are made beside.
            if leaf.spec is not None and not isinstance(leaf.value, jax.Array)
        }
        try:
            memory.check(arrays, devices=memory.devices_of_distribution())
        except memory.NotEnoughMemory as error:
            raise MemoryError(
                f"{self._described}: the given weights do not fit into memory: "
                f"{error}. Check their shapes, or use a machine with more "
                "memory."
            ) from error

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
            initializer=None if init is None else init.initializer,
            existing=None if existing is None else existing.by_path(),
        )
        # Keras makes weights of the variables it finds in an attribute.
        if kind == "params":
            self._params, self._params_variables = created, created.variables
            self._rules.regularize(created)
        else:
            self._state, self._state_variables = created, created.variables
        self._apply_freezing()

    # Freezing.

    @property
    def trainable(self) -> bool:
        """Whether training changes the layer: its parameters and its state.

        Setting it to `True` leaves what `freeze` has frozen as it is.
        """
        # A property of the base class is there, and has both functions.
        return keras.layers.Layer.trainable.fget(self)  # type: ignore[not-callable]

    @trainable.setter
    def trainable(self, value: bool) -> None:
        keras.layers.Layer.trainable.fset(self, value)  # type: ignore[not-callable]
        if hasattr(self, "_state"):
            self._apply_freezing()

    def freeze(self, pattern: str) -> None:
        """Keeps weights as they are: parameters and state.

        Parameters are not trained, and no gradients are computed for them;
        state, such as batch statistics, is not updated by calls. The mode
        stays that of the call: a normalisation that should use the kept
        statistics is called with `training=False`.

        A model that is compiled has to be compiled again. What is frozen is
        saved with the layer.

        Args:
            pattern: a regular expression that matches the whole path of a
                weight, such as `"params/encoder/.*"`, or all of it below the
                collection: `"encoder/.*"`. Of several calls the last one whose
                pattern matches decides.

        Raises:
            TypeError: `pattern` is not a string.
            ValueError: it is no regular expression, or it matches no weight
                (of an unbuilt layer: raised when it is built).
        """
        self._set_freezing(pattern, frozen=True, argument="freeze")

    def unfreeze(self, pattern: str) -> None:
        """Undoes `freeze` for all weights that the pattern matches.

        It does not make weights trainable while `trainable` is `False`, nor
        integers and booleans, which have no gradients.

        Args:
            pattern: as that of `freeze`.

        Raises:
            TypeError: `pattern` is not a string.
            ValueError: as `freeze`.
        """
        self._set_freezing(pattern, frozen=False, argument="unfreeze")

    def _set_freezing(
        self, pattern: str, *, frozen: bool, argument: str
    ) -> None:
        path_patterns.checked(
            pattern, layer=self._described, argument=f"`{argument}`"
        )
        if self.built:
            weight_rules.check_pattern(
                pattern,
                self._params.paths + self._state.paths,
                layer=self._described,
                argument=argument,
            )
        self._rules.set_freezing(pattern, frozen)
        self._apply_freezing()

    def _apply_freezing(self) -> None:
        for path, variable in self._params.by_path().items():
            variable.trainable = not self._is_frozen(
                path
            ) and variable_tree.is_differentiable(variable)
        self._rules.kept_state = frozenset(
            i
            for i, path in enumerate(self._state.paths)
            if self._is_frozen(path)
        )

    def _is_frozen(self, path: variable_tree.Path) -> bool:
        return not self.trainable or self._rules.is_frozen(
            path, initially=self._starts_frozen(path)
        )

    # What Keras knows of the inputs.

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: D102
        self._check_names(args, kwargs)
        self._check_inputs(args, kwargs)
        if self.built:
            args, kwargs = self._with_integers(args, kwargs)
            return super().__call__(*args, **kwargs)
        # One thread builds it; those that have waited find it built.
        with self._call_lock:
            args, kwargs = self._with_integers(args, kwargs)
            if self.built:
                return super().__call__(*args, **kwargs)
            # Keras will call `build` with shapes only; dtypes matter too.
            specs = self._as_specs(self._packed(args, kwargs))
            self._inputs.seen = specs
            try:
                return super().__call__(*args, **kwargs)
            except Exception as error:
                if isinstance(error, MemoryError) or not _has_symbols(
                    (args, kwargs)
                ):
                    raise
                guessed = self._guess(specs, args, kwargs)
                if guessed is None:
                    raise
            args, kwargs = self._with_integers(args, kwargs)
            return super().__call__(*args, **kwargs)

    def _guess(self, specs: Any, args: Any, kwargs: Any) -> Any:
        """Builds the layer for integers, if its model takes those.

        Args:
            specs: symbolic inputs that the model has failed on.
            args: the arguments of a call that these are the inputs of.
            kwargs: those by name.

        Returns:
            What it is built for now; `None` where nothing helps.
        """
        for guess in integer_inputs.guesses(specs):
            self._inputs.seen = guess
            try:
                trial = integer_inputs.described(args, kwargs, guess)
                super().__call__(*trial[0], **trial[1])
            except Exception:
                continue
            self._inputs.built, self._inputs.guessed = guess, True
            return guess
        return None

    def _with_integers(self, args: Any, kwargs: Any) -> Any:
        """The arguments with integers where the model takes them."""
        inputs = self._inputs
        if not inputs.has_integers:
            return args, kwargs
        try:
            return integer_inputs.restored(
                args, kwargs, inputs.known, arrays=inputs.holds_for_arrays
            )
        except integer_inputs.Inexact as error:
            # What makes a Sequential model hand on its inputs as they are.
            kind = (
                NotImplementedError
                if _has_symbols((args, kwargs))
                else ValueError
            )
            raise kind(f"{self._described}: {error}.") from error

    def _check_names(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        """Reports arguments that a call does not take.

        Raises:
            TypeError: there are too many or too few, or one of another name.
        """
        raise NotImplementedError

    def _check_inputs(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        """Reports inputs that are no arrays.

        Raises:
            TypeError: there is one.
        """
        positional = [*args]
        if "inputs" in kwargs:
            positional.append(kwargs["inputs"])
        input_checks.check(positional, kwargs, self._described)

    def _packed(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """The inputs among the arguments of a call, as one pytree."""
        return args[0] if args else kwargs.get("inputs")

    def _as_specs(self, inputs: Any) -> Any:
        """Describes inputs with the dtypes that `call` gets them in."""
        if inputs is None:
            return None
        leaves = jax.tree_util.tree_leaves(inputs)
        if not all(map(is_array, leaves)):
            return None
        return input_specs.of_arrays(
            inputs, floating=self.input_dtype if self.autocast else None
        )

    def _specs_to_build_for(self, input_shape: Any) -> tuple[Any, bool]:
        """The inputs to build for, and whether their dtypes were assumed."""
        declared, seen = self._inputs.declared, self._inputs.seen
        if declared is None and seen is not None:
            return seen, False
        if declared is None:
            input_specs.check_shapes(input_shape, self._described)
            return input_specs.of_shapes(input_shape, self.input_dtype), True
        if seen is None:
            return declared, False
        # What is declared of the first input may say nothing of the others.
        partial = not isinstance(declared, CallArguments)
        compared = first_input(seen) if partial else seen
        if not input_specs.same_ranks(compared, declared):
            raise ValueError(
                f"{self._described}: the inputs do not have the structure "
                "and ranks of `inputs_spec`. Expected "
                f"{input_specs.described(declared)}. Received: "
                f"{input_specs.described(compared)}."
            )
        if partial:
            return with_first_input(seen, declared), False
        return declared, False

    def get_build_config(self) -> dict[str, Any] | None:
        """The inputs the layer was built for, with their dtypes."""
        if self._inputs.built is None:
            return None
        specs = self._inputs.built
        config = {"inputs": input_specs.to_config(specs, self._described)}
        return {**config, "guessed": True} if self._inputs.guessed else config

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Builds the layer as it was built when it was saved.

        Args:
            config: what `get_build_config` returned.
        """
        if "inputs" in config:
            specs = input_specs.from_config(config["inputs"], self._described)
            self._inputs.seen = specs
            self._inputs.guessed = config.get("guessed") is True
            self.build(input_specs.shapes(specs))
        elif config:  # Written by Keras's own layer: shapes only.
            super().build_from_config(config)


def _has_symbols(tree: Any) -> bool:
    return any(
        isinstance(leaf, keras.KerasTensor)
        for leaf in jax.tree_util.tree_leaves(tree)
    )
