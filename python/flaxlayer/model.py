"""What a model is to a layer: pure functions of pytrees, and what they take."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from flaxlayer.calls.call_form import CallForm
from flaxlayer.calls.called import Called
from flaxlayer.calls.model_result import Intermediates, ModelResult
from flaxlayer.ops import dispatch
from flaxlayer.paths import Path
from flaxlayer.randomness.key_form import KeyForm
from flaxlayer.randomness.rng_streams import RngStreams


class Model(Protocol):
    """A model of JAX, without Keras: a value that holds no weights.

    There is one for each kind of model, in a folder of its own: `linen`,
    `functions`. Whatever Keras wants of a model, `layer.ModelLayer` makes of
    this.

    Weights are two pytrees, `params`, what is trained, and `state`, the rest.
    Their leaves are arrays, of any shape and dtype, or static values. Methods
    that may raise are given `layer`, how error messages call the layer.

    Attributes:
        streams: the random streams of calls.
        initializes: whether there are weights that it can initialise.
        completes: whether it initialises what is missing where some weights
            are given. If not, whatever is given is all.
        prefixes: what the paths of all leaves of `params` and of `state` start
            with.
        keeps_masks: whether outputs may hand the Keras mask of inputs on.
        metric_paths: the metrics that calls were seen to leave.
    """

    streams: RngStreams
    initializes: bool
    completes: bool
    prefixes: tuple[Path, Path]
    keeps_masks: bool
    metric_paths: frozenset[str]

    # Properties, since these may be of narrower types.

    @property
    def call_form(self) -> CallForm:
        """What a call takes."""
        ...

    @property
    def init_streams(self) -> tuple[str, ...]:
        """The random streams of the initialisation; the first is the base."""
        ...

    @property
    def axis_names(self) -> Mapping[str, tuple[Any, ...]]:
        """The logical axes of weights that have names for them, by path."""
        ...

    @property
    def submodules(self) -> Mapping[Path, Called]:
        """What an initialisation was seen to call inside of the model."""
        ...

    def key_form(self, kernels: dispatch.Kernels) -> KeyForm:
        """The form in which the model takes its keys."""
        ...

    def start_build(self) -> None:
        """Forgets what initialisations for other inputs have shown."""
        ...

    def init(self, keys: dict[str, Any], inputs: Any, layer: str) -> Any:
        """Makes the weights; also traced, for their shapes.

        Args:
            keys: a key for each of `init_streams`.
            inputs: what a call is given: arrays of the shapes and dtypes of
                its inputs, or a `CallArguments` of such.
            layer: how error messages call the layer.

        Returns:
            A pytree that `split` divides.
        """
        ...

    def split(self, made: Any) -> tuple[Any, Any]:
        """Divides what `init` has made into parameters and state."""
        ...

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
        """Calls the model; pure, and mostly traced.

        Args:
            params: the parameters, in the dtype they are computed with.
            state: the state, in its own dtypes.
            keys: a key for each stream that is active in this mode.
            inputs: as those of `init`.
            training: the mode.
            form: that of the keys.
            intermediates: which of them to capture.
            layer: how error messages call the layer.

        Returns:
            The outputs, the new state with the structure of the old one, and
            whatever else the call has left.
        """
        ...

    def starts_frozen(self, path: Path) -> bool:
        """Whether the weight at a path is frozen until it is unfrozen."""
        ...

    def check_paths(self, paths: Sequence[Path], layer: str) -> None:
        """Reports arguments that speak of weights that there are not.

        Raises:
            ValueError: there is one, which is misspelt.
        """
        ...

    def to_variables(self, params: Any, state: Any) -> Any:
        """The weights as the model's own users have them."""
        ...

    def from_variables(self, variables: Any) -> tuple[Any, Any]:
        """Parameters and state of what `to_variables` returns.

        Raises:
            StructureMismatch: it has other parts.
        """
        ...

    def file_paths(self, path: Path) -> tuple[Path, ...]:
        """The paths of a weight in checkpoints of the model's own users.

        Args:
            path: that of the weight in the layer.

        Returns:
            Its path in a tree of arrays; and in a tree as Orbax saves it, if
            that is another one.
        """
        ...

    def to_config(self, given: Mapping[str, Any], where: str) -> dict[str, Any]:
        """The arguments of the layer that say what the model is, as JSON.

        Args:
            given: of `params` and `state` those that are no result of the
                initialisation, with shapes and dtypes as their leaves.
            where: how error messages call the layer.

        Raises:
            TypeError: it holds something that cannot be saved by name or by
                value.
        """
        ...
