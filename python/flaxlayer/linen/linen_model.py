"""A Linen module as pure functions of pytrees."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import flax
import flax.linen as nn
import jax

from flaxlayer import jax_compat
from flaxlayer.calls import method_signature, methods
from flaxlayer.calls.call_arguments import CallArguments
from flaxlayer.calls.called import Called
from flaxlayer.calls.collection_policies import CollectionPolicies
from flaxlayer.calls.method_call import MethodCall
from flaxlayer.calls.model_result import Intermediates, ModelResult
from flaxlayer.config import module_config
from flaxlayer.linen import arguments, axes, flax_errors
from flaxlayer.linen.submodules import Submodules
from flaxlayer.ops import dispatch
from flaxlayer.paths import (
    Path,
    StructureMismatch,
)
from flaxlayer.randomness import rng_streams
from flaxlayer.randomness.key_form import KeyForm
from flaxlayer.weights import partition

_PARAMS = "params"
_DROPOUT = "dropout"
_INTERMEDIATES = "intermediates"


class LinenModel:
    """Initialises and applies a module, and sorts what it writes.

    What the methods and attributes are is said by `flaxlayer.model.Model`.

    Args:
        module: the module.
        method: how it is called, as `module.apply` takes it.
        training_argument: what the method calls the mode, see `FlaxLayer`.
        rngs: the random streams of its calls.
        collections: what becomes of what it writes.
        kinds: what kind of weights its variables are, as `partition=` says.
        layer: how error messages call the layer.

    Attributes:
        axis_names: the logical axes of variables that were seen in boxes, or
            have a collection of axes beside them, by joined path.

    Raises:
        TypeError: an argument is not of the type it should be.
        ValueError: the method cannot be called as a layer calls it; or a
            kind of weights and a policy contradict each other.
    """

    initializes = True
    completes = True
    prefixes: tuple[Path, Path] = ((), ())  # Collections name themselves.
    keeps_masks = True

    def __init__(
        self,
        module: nn.Module,
        method: Callable[..., Any] | str | None,
        *,
        training_argument: str | None,
        rngs: Any,
        collections: Any,
        kinds: Any,
        layer: str,
    ):
        self._module = module
        self._method = method
        self._training_argument = training_argument
        self.streams = rng_streams.RngStreams(rngs, base=_DROPOUT, layer=layer)
        self._collections = CollectionPolicies(collections, layer)
        self._partition = partition.Partition(kinds, layer)
        self._partition.check_policies(self._collections.declared, layer)
        self._transient = self._collections.named("transient")
        function, bound = methods.resolved(method, module, nn.Module, layer)
        self._signature = method_signature.of_method(
            function,
            module,
            bound=bound,
            training_argument=training_argument,
            collections=self._transient,
            layer=layer,
        )
        self.call_form = MethodCall(self._signature, self._transient)
        module_config.name_method(method, type(module))
        self.axis_names: Mapping[str, tuple[Any, ...]] = MappingProxyType({})
        self.metric_paths: frozenset[str] = frozenset()
        self._submodules = Submodules()
        self._mode_by_name = False

    def given(
        self, variables: Any, layer: str
    ) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        """Parameters and state of the `variables` argument; `None` for none.

        Raises:
            TypeError: it is not a dict of dicts of arrays.
        """
        if variables is None:
            return None, None
        stored = self.stored(arguments.checked_variables(variables, layer))
        arguments.check_values(stored, layer)
        return self.split(stored)

    @property
    def init_streams(self) -> tuple[str, ...]:
        """The parameters' stream, and those of calls."""
        # In the order in which Keras's own layer draws these two.
        others = [n for n in self.streams.policies if n != _DROPOUT]
        return (_PARAMS, _DROPOUT, *others)

    @property
    def submodules(self) -> Mapping[Path, Called]:
        """Those that the initialisation was seen to call."""
        return self._submodules.called

    def key_form(self, kernels: dispatch.Kernels) -> KeyForm:
        """Raw keys of JAX's default implementation, or native ones."""
        # Linen folds module paths into keys and hands them on: it makes no
        # difference to a module whether they are raw or typed.
        return KeyForm(
            jax_compat.default_prng_impl(),
            typed=False,
            kernel=kernels.threefry,
        )

    def start_build(self) -> None:
        """Forgets submodules: those noted until now were for any inputs."""
        self._submodules.forget()

    def init(
        self, keys: dict[str, Any], inputs: Any, layer: str
    ) -> dict[str, Any]:
        """The variables that become weights, as `module.init` makes them."""
        with self._errors_explained(layer, ()), self._submodules.noted():
            variables = self._called(
                lambda args, keywords: self._module.init(
                    keys, *args, method=self._method, **keywords
                ),
                inputs,
                True,
                without=self._transient,  # They are made anew.
            )
        self._note_axes(axes.beside(variables))
        effects = self._collections.effects(self._unboxed(variables))
        self.metric_paths |= effects.metrics.keys()
        return self.stored(variables)

    def split(self, made: Any) -> tuple[Any, Any]:
        """Divides variables by `partition`."""
        return self._partition.split(made)

    def apply(
        self,
        params: Any,
        state: Any,
        keys: dict[str, Any],
        inputs: Any,
        *,
        training: bool,
        form: KeyForm,
        intermediates: Intermediates | None,
        layer: str,
    ) -> ModelResult:
        """Calls the module; the state is mutable."""
        del form  # Keys are no variables of a Linen module.
        variables = partition.merged(params, state)
        made = tuple(variables)
        if isinstance(inputs, CallArguments):
            given = inputs.all_keywords()
            variables |= {n: given[n] for n in self._transient if n in given}
        # Whatever is trained by its own choice may be written all the same;
        # that is not kept.
        mutable = {*(variables.keys() - {_PARAMS}), *(state or {})}
        mutable.update(self._collections.mutable)
        if intermediates is not None:
            mutable.add(_INTERMEDIATES)
        with self._errors_explained(layer, made):
            outputs, written = self._called(
                lambda args, keywords: self._module.apply(
                    variables,
                    *args,
                    rngs=keys,
                    method=self._method,
                    mutable=sorted(mutable),
                    capture_intermediates=intermediates == "all",
                    **keywords,
                ),
                inputs,
                training,
                without=self._transient,
            )
        written = self._unboxed(written)
        returned = self._collections.returned
        if returned:
            outputs = outputs, {n: written.get(n, {}) for n in returned}
        effects = self._collections.effects(written)
        self.metric_paths |= effects.metrics.keys()
        _, new_state = self._partition.split(
            {name: written[name] for name in (state or {}) if name in written}
        )
        return ModelResult(
            outputs, new_state, effects, written.get(_INTERMEDIATES, {})
        )

    @contextlib.contextmanager
    def _errors_explained(
        self, layer: str, collections: Sequence[str]
    ) -> Iterator[None]:
        try:
            yield
        except flax.errors.FlaxError as error:
            raise flax_errors.explained(
                error,
                layer=layer,
                streams=self.streams.policies,
                collections=collections,
                booleans=self._signature.booleans,
            ) from error
        except NameError as error:
            explained = flax_errors.of_axis(error, layer=layer)
            if explained is None:
                raise
            raise explained from error

    def stored(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """The collections that become weights, without boxes."""
        return {
            name: collection
            for name, collection in self._unboxed(variables).items()
            if name == _PARAMS
            or self._partition.names(name)
            or self._collections.of(name, collection) == "state"
        }

    def starts_frozen(self, path: Path) -> bool:
        """Whether `partition` says so."""
        return self._partition.kind(path) == "frozen"

    def check_paths(self, paths: Sequence[Path], layer: str) -> None:
        """Reports collections and patterns that there are no weights for."""
        self._collections.check((path[0] for path in paths), layer)
        self._partition.check_patterns(paths, layer)

    def to_variables(self, params: Any, state: Any) -> dict[str, Any]:
        """The variables of the module, as `module.init` returns them."""
        return flax.core.unfreeze(partition.merged(params, state))

    def from_variables(self, variables: Any) -> tuple[Any, Any]:
        """The weights among variables of the module, in boxes or not.

        Raises:
            StructureMismatch: they are no dict of collections.
        """
        if not isinstance(variables, Mapping):
            raise StructureMismatch(
                "expected a dict of collections, received "
                f"{variables!r:.80} (of type {type(variables).__name__})"
            )
        return self.split(self.stored(variables))

    def file_paths(self, path: Path) -> tuple[Path, ...]:
        """Those of the layer."""
        return (path,)

    def to_config(self, given: Mapping[str, Any], where: str) -> dict[str, Any]:
        """The module, its method, and the options that are set.

        Raises:
            TypeError: the module holds something that cannot be saved.
        """
        del given  # They are initialised anew, and then loaded.
        config = {
            "module": module_config.encode_module(
                self._module, where=f"{where}: `module`"
            ),
            "method": module_config.encode_method(
                self._method, type(self._module), where=f"{where}: `method`"
            ),
            "rngs": dict(self.streams.policies),
        }
        options: dict[str, Any] = {
            "collections": self._collections.declared,
            "partition": self._partition.declared,
        }
        config.update((n, dict(value)) for n, value in options.items() if value)
        if self._training_argument != "auto":
            config["training_argument"] = self._training_argument
        return config

    def _unboxed(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        found, plain = axes.unboxed(variables)
        self._note_axes(found)
        return plain

    def _note_axes(self, found: Mapping[str, tuple[Any, ...]]) -> None:
        if found:
            self.axis_names = MappingProxyType({**self.axis_names, **found})

    def _called(
        self,
        run: Callable[[Sequence[Any], Mapping[str, Any]], Any],
        inputs: Any,
        training: bool,
        *,
        without: Sequence[str],
    ) -> Any:
        """`run` with the arguments of the method, by position and by name.

        Args:
            run: calls the module.
            inputs: the one input, or `CallArguments`.
            training: the mode.
            without: keywords that are no arguments of the method.
        """
        if not isinstance(inputs, CallArguments):
            inputs = CallArguments(inputs)
        given = inputs.all_keywords()
        keywords = {
            **self._signature.without_mask(len(inputs.args)),
            **{name: given[name] for name in given if name not in without},
            **self._signature.mode_arguments(training),
        }
        bind = functools.partial(self._signature.bound, inputs.args, keywords)
        if self._mode_by_name:
            return run(*bind(modes_by_name=True))
        try:
            return run(*bind())
        except jax.errors.JAXTypeError:
            # Transformations may tell static arguments by their names instead,
            # as `nn.jit` does with `static_argnames`.
            if bind()[1].keys() == bind(modes_by_name=True)[1].keys():
                raise
            with contextlib.suppress(jax.errors.JAXTypeError):
                result = run(*bind(modes_by_name=True))
                self._mode_by_name = True
                return result
            raise


def decode_config(config: dict[str, Any], where: str) -> None:
    """Replaces what `LinenModel.to_config` wrote by what it stands for.

    Raises:
        ValueError: a name cannot be resolved, or may not be.
    """
    config["module"] = module_config.decode_module(
        config.get("module"), where=f"{where}: `module`"
    )
    config["method"] = module_config.decode_method(
        config.get("method"), config["module"], where=f"{where}: `method`"
    )
