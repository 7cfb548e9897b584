"""A model that is given as functions."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from flaxlayer import jax_compat
from flaxlayer.calls.called import Called
from flaxlayer.calls.model_result import Intermediates, ModelResult
from flaxlayer.config import module_config
from flaxlayer.functions import call_signature
from flaxlayer.functions.one_input import OneInput
from flaxlayer.ops import dispatch
from flaxlayer.paths import Path, StructureMismatch
from flaxlayer.randomness import rng_streams
from flaxlayer.randomness.key_form import KeyForm

_RNG = "rng"


class FunctionModel:
    """A `call_fn` and the `init_fn` that makes its weights.

    What the methods and attributes are is said by `flaxlayer.model.Model`.

    Args:
        call_fn: the model.
        init_fn: its initialiser; `None` for none.
        rng_impl: the PRNG implementation of the keys; `None` for raw ones.
        given: of `"params"` and `"state"` those that there are values for.
        layer: how error messages call the layer.

    Raises:
        TypeError: an argument is not of the type it should be.
        ValueError: a function has other arguments than it may have; or there
            are no values, and no `init_fn`, for what `call_fn` takes, or
            values for what it does not take.
    """

    call_form = OneInput()
    completes = False
    prefixes: tuple[Path, Path] = (("params",), ("state",))
    keeps_masks = False
    metric_paths: frozenset[str] = frozenset()
    axis_names: Mapping[str, tuple[Any, ...]] = {}
    submodules: Mapping[Path, Called] = {}

    def __init__(
        self,
        call_fn: Callable[..., Any],
        init_fn: Callable[..., Any] | None,
        rng_impl: str | None,
        *,
        given: frozenset[str],
        layer: str,
    ):
        self._call_arguments = call_signature.of_model_function(
            call_fn,
            layer=layer,
            argument="call_fn",
            allowed=call_signature.CALL_FN_ARGUMENTS,
        )
        self._init_arguments = call_signature.CallSignature((), 0)
        if init_fn is not None:
            self._init_arguments = call_signature.of_model_function(
                init_fn,
                layer=layer,
                argument="init_fn",
                allowed=call_signature.INIT_FN_ARGUMENTS,
            )
        self._call_fn = call_fn
        self._init_fn = init_fn
        self._rng_impl = _checked_impl(rng_impl, layer)
        self._check_given(given, layer)
        self.initializes = init_fn is not None and self._takes_weights
        self.streams = self._streams(layer)

    @property
    def _has_state(self) -> bool:
        return "state" in self._call_arguments

    @property
    def _takes_weights(self) -> bool:
        return "params" in self._call_arguments or self._has_state

    def _check_given(self, given: frozenset[str], layer: str) -> None:
        if self._init_fn is None and not given and self._takes_weights:
            raise ValueError(
                f"{layer}: `init_fn`, `params` and `state` cannot all be "
                "`None` when `call_fn` takes `params` or `state`. Received: a "
                f"`call_fn` with the arguments {self._call_arguments.names}. "
                "Pass `init_fn`, or the values."
            )
        for kind in sorted(given):
            if kind not in self._call_arguments:
                raise ValueError(
                    f"{layer}: `{kind}` is given to a `call_fn` that does not "
                    "take it. Received: a `call_fn` with the arguments "
                    f"{self._call_arguments.names}."
                )

    def _streams(self, layer: str) -> rng_streams.RngStreams:
        streams: dict[str, rng_streams.When] = {}
        if _RNG in self._call_arguments:
            # To a model that does not take `training`, having a key is what
            # says that it is in training mode.
            takes_training = "training" in self._call_arguments
            streams[_RNG] = "always" if takes_training else "training"
        return rng_streams.RngStreams(
            streams,
            base=_RNG,
            layer=layer,
            # Nor does the counter of Keras's own layer move in inference.
            counts_inference=False,
        )

    @property
    def init_streams(self) -> tuple[str, ...]:
        """The one stream, if it is taken."""
        # A key that nobody takes must not move Keras's global generator.
        return (_RNG,) if _RNG in self._init_arguments else ()

    def key_form(self, kernels: dispatch.Kernels) -> KeyForm:
        """Raw keys, or typed ones of the implementation that was named."""
        if self._rng_impl is None:
            raw = dispatch.Choice("reference", reason="the model has raw keys")
            return KeyForm(
                jax_compat.default_prng_impl(), typed=False, kernel=raw
            )
        return KeyForm(self._rng_impl, typed=True, kernel=kernels.threefry)

    def start_build(self) -> None:
        """There is nothing to forget."""

    def init(self, keys: dict[str, Any], inputs: Any, layer: str) -> Any:
        """Calls `init_fn`."""
        arguments = {"rng": keys.get(_RNG), "inputs": inputs, "training": True}
        # Called only where there is one, see `initializes`.
        init_fn: Any = self._init_fn
        result = self._init_arguments.call(init_fn, arguments)
        params, state = (
            _pair("init_fn", result, layer)
            if self._has_state
            else (result, None)
        )
        if params is None and "params" in self._call_arguments:
            raise ValueError(
                f"{layer}: `init_fn` must return the parameters that "
                "`call_fn` takes, a pytree of arrays; if there are none, `{}`. "
                "Received: None. Does it lack a `return`?"
            )
        return {"params": params, "state": state}

    def split(self, made: Any) -> tuple[Any, Any]:
        """The two parts of what `init` returns."""
        return made["params"], made["state"]

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
        """Calls `call_fn`."""
        del form, intermediates  # There are none.
        arguments = {
            "params": params,
            "state": state,
            "rng": keys.get(_RNG),
            "inputs": inputs,
            "training": training,
        }
        result = self._call_arguments.call(self._call_fn, arguments)
        if self._has_state:
            return ModelResult(*_pair("call_fn", result, layer))
        return ModelResult(result, state)

    def starts_frozen(self, path: Path) -> bool:
        """No weight does."""
        del path
        return False

    def check_paths(self, paths: Sequence[Path], layer: str) -> None:
        """No argument speaks of paths."""

    def to_variables(self, params: Any, state: Any) -> dict[str, Any]:
        """`{"params": params, "state": state}`."""
        return {"params": params, "state": state}

    def from_variables(self, variables: Any) -> tuple[Any, Any]:
        """The two parts of what `to_variables` returns.

        Raises:
            StructureMismatch: it has other parts.
        """
        expected = ["params", "state"]
        if not isinstance(variables, Mapping) or set(variables) - set(expected):
            received = (
                sorted(map(str, variables))
                if isinstance(variables, Mapping)
                else type(variables).__name__
            )
            raise StructureMismatch(
                f"expected a dict with the keys {expected}, received {received}"
            )
        return variables.get("params"), variables.get("state")

    def file_paths(self, path: Path) -> tuple[Path, ...]:
        """Those of the layer."""
        return (path,)

    def to_config(self, given: Mapping[str, Any], where: str) -> dict[str, Any]:
        """The functions by name, and the shapes of given weights.

        Raises:
            TypeError: a function cannot be found by its name.
        """
        config = {
            "call_fn": module_config.encode_function(
                self._call_fn, where=f"{where}: `call_fn`"
            ),
            "init_fn": module_config.encode_function(
                self._init_fn, where=f"{where}: `init_fn`"
            ),
        }
        if self._rng_impl is not None:
            config["rng_impl"] = self._rng_impl
        # Given weights cannot be made again by an initialiser: their shapes
        # are saved, and their values are in the weights file.
        for kind in sorted(given):
            config[kind] = module_config.encode_tree(
                given[kind], where=f"{where}: `{kind}`"
            )
        return config


def decode_config(config: dict[str, Any], where: str) -> None:
    """Replaces what `FunctionModel.to_config` wrote by what it stands for.

    Raises:
        ValueError: a name cannot be resolved, or may not be.
    """
    for name in ("call_fn", "init_fn"):
        config[name] = module_config.decode_function(
            config.get(name), where=f"{where}: `{name}`"
        )
    for kind in ("params", "state"):
        if config.get(kind) is not None:
            config[kind] = module_config.decode_tree(
                config[kind], where=f"{where}: `{kind}`"
            )


def _pair(argument: str, result: Any, layer: str) -> tuple[Any, Any]:
    if isinstance(result, tuple) and len(result) == 2:
        return result
    first = "outputs" if argument == "call_fn" else "params"
    received = type(result).__name__
    if hasattr(result, "shape"):  # A tracer, which nobody has heard of.
        received = "an array"
    raise ValueError(
        f"{layer}: `call_fn` takes `state`, so `{argument}` must "
        f"return a tuple `({first}, state)`. Received: {received}."
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
