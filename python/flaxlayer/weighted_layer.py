"""WeightedLayer: the weights of a model as those of a Keras layer."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import keras
import numpy as np

from flaxlayer import (
    initialization,
    input_specs,
    key_form,
    rng_streams,
    variable_tree,
    weight_files,
)
from flaxlayer.ops import dispatch

_SEED_KEY = "seed_generator_state"


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
        kernels: dispatch.Policy,
        **kwargs: Any,
    ):
        if keras.backend.backend() != "jax":
            raise ValueError(
                f"{type(self).__name__} needs the JAX backend of Keras. "
                f"Received: backend {keras.backend.backend()!r}. Set "
                'KERAS_BACKEND="jax" before the first import of keras.'
            )
        super().__init__(**kwargs)
        dispatch.resolve(kernels)  # Raises if it is no policy.
        self.kernels = kernels
        self._takes_stock_keys_only = False
        self._inputs = _Inputs(declared=self._as_specs(inputs_spec))
        self._given = frozenset(
            name
            for name, tree in (("params", params), ("state", state))
            if tree is not None
        )
        with keras.name_scope(self.name, caller=self):
            self._create_tree("params", params)
            self._create_tree("state", state)
        self._seed = rng_streams.checked_seed(seed, layer=self._described)
        self._streams = self._make_streams()
        # Keras makes its state part of the variables that calls update.
        self.seed_generator = (
            rng_streams.seed_generator(self._seed)
            if self._streams.policies
            else None
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
        kernels = dispatch.choose_all(dispatch.resolve(self.kernels))
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
        if self._given or not self._initializes:
            return
        init = self._initialization(specs)
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
            if not self.trainable:
                for variable in created.variables:
                    variable.trainable = False
        else:
            self._state, self._state_variables = created, created.variables

    # What Keras knows of the inputs.

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: D102
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
        declared, seen = self._inputs.declared, self._inputs.seen
        if declared is not None:
            if seen is not None and not input_specs.same_ranks(seen, declared):
                raise ValueError(
                    f"{self._described}: the inputs do not have the structure "
                    "and ranks of `inputs_spec`. Expected "
                    f"{input_specs.described(declared)}. Received: "
                    f"{input_specs.described(seen)}."
                )
            return declared, False
        if seen is not None:
            return seen, False
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
        unbuilt = not self.built and self._initializes and not self._given
        # A layer that was not built when it was saved has no weights either.
        if unbuilt and not {_SEED_KEY}.issuperset(store.keys()):
            raise ValueError(
                f"{self._described} has no weights to load into: it was never "
                "built. Build it or call it on data first."
            )
        paths, variables = self._paths_and_variables()
        # Keras's own layers do not have it in their files.
        if self.seed_generator is not None and _SEED_KEY in set(store.keys()):
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
