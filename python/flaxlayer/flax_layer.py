"""FlaxLayer: a Linen module as a Keras layer."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax.numpy as jnp
import keras

from flaxlayer import backends, imported_nnx, short_repr
from flaxlayer.calls import input_specs
from flaxlayer.calls.collection_policies import Policy
from flaxlayer.config import module_config
from flaxlayer.layer import intermediates, layer_config, submodule_rows
from flaxlayer.layer.fixed import Fixed
from flaxlayer.layer.model_layer import ModelLayer, NonfiniteState
from flaxlayer.linen import arguments, linen_model
from flaxlayer.ops import dispatch
from flaxlayer.randomness import rng_streams
from flaxlayer.weights.partition import Kind

if TYPE_CHECKING:
    from flax import nnx

    from flaxlayer.nnx import nnx_model

    NnxModule = nnx.Module
else:
    # Type hints are read by programs without NNX, too.
    NnxModule = Any

_DROPOUT = "dropout"


@keras.saving.register_keras_serializable(package="flaxlayer")
class FlaxLayer(ModelLayer):
    """A Keras layer around a module of Flax: of Linen, or of NNX.

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

    A `flax.nnx.Module` is given as an instance, whose variables are copied, or
    as its class or a `functools.partial` of it, which is made with
    `rngs=nnx.Rngs(seed)` when the layer is built, and saved with its arguments.
    `nnx.Param` is trained, and other variables, keys and counters of random
    streams among them, are state. The mode is also set by `train()` and
    `eval()`. See `docs/guide/nnx.md`.

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
        module: an instance of a `flax.linen.Module` subclass; or an instance
            of a `flax.nnx.Module` subclass, such a class, or a partial of one.
        method: a method of the module, bound or not, its name, or a function
            that takes the module as its first argument. It is used for the
            initialisation and for all calls.
        variables: all variables of the module, or those of some collections,
            in the form `module.init` returns: a dict from collection names to
            nested dicts. Collections that it lacks are initialised. With
            `None` all of them are, when the layer is built. Of an NNX class all
            of them: what `nnx.state` returns of a module, or nested dicts.
        rngs: the random streams the module's calls need: a sequence of names,
            whose streams are given in training only, or a mapping from names
            to `"training"`, `"always"` or `"never"`. `"dropout"` gets the keys
            that Keras's own layer would give it; each other stream has its
            own. Of Linen only.
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
            default `"params"` is trainable and all else state. Of NNX a key may
            also be a filter, such as `nnx.LoRAParam`.
        regularizers: Keras regularizers, or what `keras.regularizers.get`
            takes, by pattern: a regular expression that matches the whole path
            of a weight, with or without its collection, such as `".*/kernel"`.
            The first that matches counts.
        constraints: the same for `keras.constraints`.
        training_argument: the argument that says the mode to the method: its
            name, `"not "` and its name if it means the opposite, `None` if
            there is none, or `"auto"` for what is described above. Of NNX,
            `train()` and `eval()` are called unless it is `None`.
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
        native_serialization_platforms: under Keras's TensorFlow backend, what
            calls are compiled for: some of `"cpu"`, `"cuda"`, `"rocm"` and
            `"tpu"`; JAX's default platform if it is `None`. Under that of
            JAX it is kept and has no effect.
        **kwargs: the arguments of every Keras layer, such as `name`, `dtype`
            and `trainable`.

    Raises:
        TypeError: `module` is no module as described, `variables` is not a
            dict of dicts, or another argument is of a wrong type.
        ValueError: `method` cannot be called as described above, a policy,
            kind, pattern or platform is none, or `dtype` is not of floating
            point, or a quantized policy.
    """

    module = Fixed(shown=True)
    method = Fixed(shown=True)
    training_argument = Fixed()

    def __init__(
        self,
        module: nn.Module | NnxModule | Callable[..., NnxModule],
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
        native_serialization_platforms: Sequence[str] | None = None,
        **kwargs: Any,
    ):
        where = self._named_by(kwargs)
        nnx_class = _model_class_of_nnx(module)
        self.module = (
            arguments.checked_module(module, where)
            if nnx_class is None
            else module
        )
        self.method = method
        self.training_argument = training_argument
        _check_keywords(kwargs, where)
        options: dict[str, Any] = {
            "training_argument": training_argument,
            "collections": collections,
            "kinds": partition,
            "layer": where,
        }
        model: nnx_model.NnxModel | linen_model.LinenModel
        if nnx_class is None:
            model = linen_model.LinenModel(
                self.module, method, rngs=rngs, **options
            )
        else:
            _check_rngs(rngs, where)
            model = nnx_class(module, method, **options)
        params, state = model.given(variables, where)
        super().__init__(
            model,
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
                what is sown into `"intermediates"`. Of Linen only.
            **kwargs: as those of a call of the layer.

        Returns:
            What a call returns, and the `"intermediates"` collection: nested
            dicts by submodule, with a tuple of values under each name.
        """
        with intermediates.reading("all" if capture_all else "sown"):
            return self(*args, training=training, **kwargs)

    def merged(self) -> NnxModule:
        """The NNX module with copies of the present weights.

        To go on with it in plain NNX: the layer does not see what becomes of
        it.

        Raises:
            TypeError: the module is one of Linen, which holds no weights.
            ValueError: the layer was never built.
        """
        if isinstance(self._model, linen_model.LinenModel):
            raise TypeError(
                f"{self._described}: `merged()` returns an NNX module, and "
                "`module` is one of Linen, which holds no weights: call "
                "`layer.module.apply(layer.get_layer_variables(), ...)`. "
                f"Received: {short_repr.of(self.module)}."
            )
        self._check_there("merge")
        model: Any = self._model  # That of NNX.
        return model.merged(
            *(
                tree.unflatten(
                    [
                        jnp.copy(backends.current.value_of(v))
                        for v in tree.variables
                    ]
                )
                for tree, _ in self._weights.trees()
            )
        )

    # What is in the module.

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
        weights = self._weights
        return submodule_rows.Rows(
            self._model.submodules,
            list(zip(weights.paths, weights.variables, strict=True)),
            unknown=input_specs.has_unknown(self._inputs.built),
        )

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "FlaxLayer":
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
            cls, config, _decode_config, super().from_config
        )


def _model_class_of_nnx(module: Any) -> "type[nnx_model.NnxModel] | None":
    """The class of models of NNX, if this is such a module."""
    if not imported_nnx.module_classes():
        return None
    from flaxlayer.nnx import nnx_model, recipe

    return nnx_model.NnxModel if recipe.is_nnx(module) else None


def _decode_config(config: dict[str, Any], where: str) -> None:
    if module_config.is_factory(config.get("module")):
        from flaxlayer.nnx import nnx_config

        nnx_config.decode(config, where)
    else:
        linen_model.decode_config(config, where)


def _check_rngs(rngs: Any, where: str) -> None:
    """Reports streams that are declared for a module of NNX."""
    if rngs != (_DROPOUT,):
        raise ValueError(
            f"{where}: `rngs` declares the streams of a Linen module, and "
            "`module` is one of NNX, whose streams are those of the "
            f"`nnx.Rngs` it is made with. Received: {rngs!r:.200}."
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
