"""FlaxLayer: a Linen module as a Keras layer."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import flax
import flax.linen as nn
import jax
import keras

from flaxlayer import (
    call_signature,
    initialization,
    jax_compat,
    key_form,
    rng_streams,
    variable_tree,
)
from flaxlayer.config import module_config
from flaxlayer.jax_layer import JaxLayer
from flaxlayer.model_layer import NonfiniteState
from flaxlayer.ops import dispatch

_PARAMS = "params"
_DROPOUT = "dropout"


@keras.saving.register_keras_serializable(package="flaxlayer")
class FlaxLayer(JaxLayer):
    """A Keras layer around a `flax.linen.Module`.

    The module is called through one of its methods, `__call__` unless `method`
    says otherwise, with

    - the inputs as its one positional argument: an array, or a pytree of
      arrays such as a tuple or a dict;
    - `training=True` or `False`, if the method has an argument of that name.

    Its `"params"` collection becomes the trainable weights of the layer; all
    other collections are mutable, `mutable=DenyList(["params"])`, and become
    non-trainable weights. The weights are Keras variables named by their Flax
    path, such as `flax_layer/params/Dense_0/kernel`. Parameters that carry
    axis metadata (`nn.with_partitioning`) are stored without their boxes; the
    axes are in `axis_names`.

    Floating-point parameters are stored in the variable dtype of the layer's
    dtype policy and computed with in its compute dtype; other collections,
    such as batch statistics, keep the dtype the module gave them.

    Example:
        ```python
        class Classifier(nn.Module):
            @nn.compact
            def __call__(self, x, training=False):
                x = nn.relu(nn.Dense(64)(x))
                x = nn.Dropout(0.5, deterministic=not training)(x)
                return nn.Dense(10)(x)

        model = keras.Sequential([flaxlayer.FlaxLayer(Classifier(), seed=0)])
        ```

        A module whose call has several inputs, or another word for training,
        is called through a function that takes the module first:

        ```python
        def forward(module, inputs, training):
            tokens, positions = inputs
            return module(tokens, positions, deterministic=not training)

        layer = flaxlayer.FlaxLayer(module, method=forward)
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
            to `"training"` or `"always"`. `"dropout"` gets the keys that
            Keras's own layer would give it; each other stream has its own.
        inputs_spec: shapes and dtypes to build for, where Keras does not know
            them: a pytree, of the structure of the inputs, of
            `jax.ShapeDtypeStruct`s, `keras.KerasTensor`s or arrays.
        seed: where the layer's randomness starts: an integer of 32 bits, a
            threefry key, or `None` for a seed drawn by Keras. With `seed=7`
            the initial weights are those of `module.init(jax.random.key(7),
            inputs)`. It is saved.
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
        ValueError: the Keras backend is not JAX, or `method` cannot be called
            as described above.
    """

    def __init__(
        self,
        module: nn.Module,
        method: Callable[..., Any] | str | None = None,
        variables: Mapping[str, Any] | None = None,
        *,
        rngs: Sequence[str] | Mapping[str, rng_streams.When] = (_DROPOUT,),
        inputs_spec: Any = None,
        seed: Any = None,
        nonfinite_state: NonfiniteState = "propagate",
        kernels: dispatch.Policy = "auto",
        **kwargs: Any,
    ):
        # The base class needs all three to make the streams and the variables.
        where = f"{type(self).__name__} {kwargs.get('name') or ''}".strip()
        self.module = _checked_module(module, where)
        self.method = method
        self._rngs = rngs
        self._takes_training = _takes_training(module, method, where)
        # Read-only, or Keras would take the dict for a container of layers.
        self._axis_names: Mapping[str, tuple[Any, ...]] = MappingProxyType({})
        params, state = None, None
        if variables is not None:
            variables = self._unboxed(_checked(variables, where))
            params, state = self._partition(variables)
        super().__init__(
            self._call_model,
            self._init_model,
            params,
            state,
            seed,
            inputs_spec=inputs_spec,
            nonfinite_state=nonfinite_state,
            kernels=kernels,
            **kwargs,
        )

    # The module as a model of functions.

    def _call_model(
        self, params: Any, state: Any, rng: Any, inputs: Any, training: bool
    ) -> tuple[Any, Any]:
        options = {"training": training} if self._takes_training else {}
        try:
            outputs, new_state = self.module.apply(
                {**(params or {}), **(state or {})},
                inputs,
                rngs=rng,
                method=self.method,
                mutable=flax.core.DenyList([_PARAMS]),
                **options,
            )
        except flax.errors.FlaxError as error:
            raise self._explained(error) from error
        return outputs, self._unboxed(dict(new_state))

    @property
    def _initializes(self) -> bool:
        return True

    def _init_model(self, rng: Any, inputs: Any) -> dict[str, Any]:
        options = {"training": True} if self._takes_training else {}
        try:
            variables = self.module.init(
                rng, inputs, method=self.method, **options
            )
        except flax.errors.FlaxError as error:
            raise self._explained(error) from error
        return self._unboxed(dict(variables))

    def _partition(self, variables: dict[str, Any]) -> tuple[Any, Any]:
        params = {k: v for k, v in variables.items() if k == _PARAMS}
        state = {k: v for k, v in variables.items() if k != _PARAMS}
        return params, state

    def _path_prefix(self, kind: str) -> variable_tree.Path:
        return ()  # Collections name themselves.

    def _make_streams(self) -> rng_streams.RngStreams:
        return rng_streams.RngStreams(
            self._rngs, base=_DROPOUT, layer=self._described
        )

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

    # Weights.

    @property
    def axis_names(self) -> dict[str, tuple[Any, ...]]:
        """The logical axes of parameters that the module partitions.

        A dict from paths such as `"params/Dense_0/kernel"` to the names given
        to `nn.with_partitioning`, one for each dimension. Empty before the
        layer is built.
        """
        return dict(self._axis_names)

    def _unboxed(self, variables: dict[str, Any]) -> dict[str, Any]:
        """Takes arrays out of Flax's metadata boxes, and notes their axes."""

        def is_box(x: Any) -> bool:
            return isinstance(x, nn.meta.AxisMetadata)

        leaves, treedef = jax.tree_util.tree_flatten_with_path(
            variables, is_leaf=is_box
        )
        if not any(is_box(value) for _, value in leaves):
            return variables
        found = {
            variable_tree.joined(variable_tree.path_of(keys)): tuple(
                value.get_partition_spec()
            )
            for keys, value in leaves
            if is_box(value)
        }
        self._axis_names = MappingProxyType({**self._axis_names, **found})
        return treedef.unflatten(
            value.unbox() if is_box(value) else value for _, value in leaves
        )

    def _build_weights(self, specs: Any) -> None:
        if not self._given:
            super()._build_weights(specs)
            return
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
        if problems:
            raise ValueError(
                f"{self._described}: `variables` do not fit the module: "
                f"{'; '.join(problems)}. Expected the structure and shapes of "
                "`module.init`."
            )

    def _complete(self, init: initialization.Initialization) -> None:
        """Initialises the collections that were not given."""
        everything = init.treedef.unflatten(init.leaves)
        for kind, made in zip(
            ("params", "state"), self._partition(everything), strict=True
        ):
            tree = getattr(self, f"_{kind}")
            if set(made) - {path[0] for path in tree.paths}:
                self._create_tree(kind, made, init, existing=tree)

    # Errors.

    def _explained(self, error: flax.errors.FlaxError) -> Exception:
        """What a Flax error means for someone who uses the layer."""
        match error:
            case flax.errors.InvalidRngError():
                advice = (
                    "The module asks for a random stream that the layer does "
                    "not give it. Declare it: `rngs=` takes the names of the "
                    'streams given in training, or a mapping such as {"noise": '
                    f'"always"}}. Declared now: {self._streams.policies}.'
                )
            case (
                flax.errors.ScopeParamShapeError()
                | flax.errors.ScopeParamNotFoundError()
                | flax.errors.ScopeVariableNotFoundError()
                | flax.errors.ScopeCollectionNotFound()
            ):
                advice = (
                    "The weights do not fit the module on these inputs. They "
                    "were built for other inputs, or given as `variables=` for "
                    "another module."
                )
            case _:
                return ValueError(f"{self._described}: {error}")
        return ValueError(f"{self._described}: {advice} Flax says: {error}")

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
        }

    @classmethod
    def _decode_model(cls, config: dict[str, Any], where: str) -> None:
        config["module"] = module_config.decode_module(
            config.get("module"), where=f"{where}: `module`"
        )
        config["method"] = module_config.decode_method(
            config.get("method"), config["module"], where=f"{where}: `method`"
        )


def _checked_module(module: Any, where: str) -> nn.Module:
    if isinstance(module, nn.Module):
        return module
    hint = "Pass an instance of a `flax.linen.Module` subclass."
    if isinstance(module, type) and issubclass(module, nn.Module):
        hint = f"Pass an instance: `{module.__name__}(...)`, not the class."
    elif any(c.__module__.startswith("flax.nnx") for c in type(module).__mro__):
        hint = "It is an NNX module; this layer takes Linen modules."
    raise TypeError(
        f"{where}: `module` must be a Linen module. {hint} Received: "
        f"{module!r:.200} (of type {type(module).__name__})."
    )


def _takes_training(module: nn.Module, method: Any, where: str) -> bool:
    if method is None:
        method = "__call__"
    if isinstance(method, str):
        if not callable(getattr(type(module), method, None)):
            raise ValueError(
                f"{where}: `method` names no method of "
                f"{type(module).__name__}. Received: {method!r}."
            )
        return call_signature.method_takes_training(
            getattr(module, method), layer=where, bound=True
        )
    return call_signature.method_takes_training(
        method, layer=where, bound=hasattr(method, "__self__")
    )


def _checked(variables: Any, where: str) -> dict[str, Any]:
    mappings = (dict, flax.core.FrozenDict)
    if isinstance(variables, mappings) and all(
        isinstance(name, str) and isinstance(collection, mappings)
        for name, collection in variables.items()
    ):
        return dict(flax.core.unfreeze(variables))
    received = (
        {name: type(value).__name__ for name, value in variables.items()}
        if isinstance(variables, mappings)
        else type(variables).__name__
    )
    raise TypeError(
        f"{where}: `variables` must be a dict from collection names to nested "
        'dicts, as `module.init` returns it: {"params": {...}, ...}. '
        f"Received: {received}."
    )
