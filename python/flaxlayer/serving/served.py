"""An exported model that is called."""

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flaxlayer.serving import structures
from flaxlayer.serving.signature import Array, Endpoint, Signature


class State:
    """The weights of a model, which all of its endpoints share.

    Attributes:
        arrays: by name.
        lock: held while a call changes some of them.
    """

    def __init__(self, arrays: dict[str, jax.Array]):
        self.arrays = arrays
        self.lock = threading.Lock()


class ServedEndpoint:
    """A function of an exported model.

    It is called as the layer or model was, or with all of its arrays one after
    the other, in the order of `inputs`. Calls from several threads are safe; of
    calls that change weights, such as the seed of a model that draws random
    numbers, there is one at a time.

    Args:
        name: its name.
        endpoint: what it takes and returns.
        exported: the program.
        state: the weights.
    """

    def __init__(
        self, name: str, endpoint: Endpoint, exported: Any, state: State
    ):
        self._name = name
        self._endpoint = endpoint
        self._state = state
        self._call = jax.jit(exported.call)

    @property
    def inputs(self) -> tuple[Array, ...]:
        """The arrays that it takes: names, shapes and dtypes."""
        return self._endpoint.inputs

    @property
    def outputs(self) -> tuple[Array, ...]:
        """The arrays that it returns: names, shapes and dtypes."""
        return self._endpoint.outputs

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the function.

        Args:
            *args: as the layer or model takes them; or all arrays, in order.
            **kwargs: those by name.

        Returns:
            What the layer or model returns, with dicts, lists and tuples as
            its containers and arrays of JAX in them.

        Raises:
            TypeError: the arguments are not nested as those of the model, or an
                array is of a dtype that the one expected cannot hold; or JAX
                traces a call that changes weights.
            ValueError: an array has another shape.
        """
        results = self.flat(self._leaves(args, kwargs))
        return structures.built(self._endpoint.results, results)

    def flat(self, arrays: Sequence[Any]) -> list[jax.Array]:
        """Calls the function with arrays that are nested in nothing.

        Args:
            arrays: in the order of `inputs`.

        Returns:
            Arrays in the order of `outputs`.

        Raises:
            TypeError: an array is of a dtype that the one expected cannot hold,
                or their number is another; or JAX traces a call that changes
                weights.
            ValueError: an array has another shape.
        """
        if len(arrays) != len(self.inputs):
            raise TypeError(
                f"{self._name} takes {len(self.inputs)} arrays. Received: "
                f"{len(arrays)}."
            )
        sizes: dict[str, tuple[int, str]] = {}
        checked = [
            self._array(array, spec, sizes)
            for array, spec in zip(arrays, self.inputs, strict=True)
        ]
        if not self._endpoint.state:
            return self._called(checked, sizes)
        with self._state.lock:
            results = self._called(checked, sizes)
            count = len(self.outputs)
            if any(isinstance(r, jax.core.Tracer) for r in results[count:]):
                raise TypeError(
                    f"{self._name} changes the weights "
                    f"{list(self._endpoint.state)} when it is called, and "
                    "cannot be called where JAX traces, as in `jax.jit`. Call "
                    "it outside of that."
                )
            self._state.arrays.update(
                zip(self._endpoint.state, results[count:], strict=True)
            )
        return results[:count]

    def _called(
        self, arrays: Sequence[Any], sizes: Mapping[str, tuple[int, str]]
    ) -> list[jax.Array]:
        try:
            return self._call(*self._weights(), *arrays)
        except ValueError as error:
            constraints = self._endpoint.constraints
            if not constraints:
                raise
            received = {name: size for name, (size, _) in sizes.items()}
            raise ValueError(
                f"{self._name} takes sizes of which it is true that "
                f"{' and '.join(constraints)}. Received: {received}."
            ) from error

    def __repr__(self) -> str:
        def shown(arrays: tuple[Array, ...]) -> str:
            return ", ".join(f"{a.name}: {_spec(a)}" for a in arrays)

        return f"{self._name}({shown(self.inputs)}) -> {shown(self.outputs)}"

    def _weights(self) -> list[jax.Array]:
        return [self._state.arrays[name] for name in self._endpoint.weights]

    def _leaves(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Sequence[Any]:
        """The arguments of a call in the order of `inputs`."""
        taken = self._endpoint.arguments
        if not kwargs and len(args) == len(self.inputs) != len(taken["args"]):
            return args
        return structures.leaves_of(
            {"tuple": [{"tuple": taken["args"]}, {"dict": taken["kwargs"]}]},
            (args, dict(kwargs)),
            self._name,
        )

    def _array(
        self, value: Any, spec: Array, sizes: dict[str, tuple[int, str]]
    ) -> Any:
        """An argument as the program takes it.

        Args:
            value: what was received.
            spec: what is expected.
            sizes: the sizes that names stand for, and in which input.
        """
        if not isinstance(value, jax.Array):
            value = np.asarray(value)
        wanted = jnp.dtype(spec.dtype)
        if value.dtype != wanted:
            if not np.can_cast(value.dtype, wanted, "same_kind"):
                raise TypeError(
                    f"{self._name}: {spec.name!r} must be {_spec(spec)}. "
                    f"Received: dtype {value.dtype}."
                )
            value = value.astype(wanted)
        fits = len(value.shape) == len(spec.shape)
        for size, expected in zip(value.shape, spec.shape, strict=False):
            if isinstance(expected, int):
                fits = fits and size == expected
            elif fits:
                known, other = sizes.setdefault(expected, (size, spec.name))
                if known != size:
                    raise ValueError(
                        f"{self._name}: `{expected}` is one size in all "
                        f"inputs. Received: {known} in {other!r} and {size} in "
                        f"{spec.name!r}."
                    )
                fits = size > 0
        if not fits:
            raise ValueError(
                f"{self._name}: {spec.name!r} must be {_spec(spec)}. Received: "
                f"shape {tuple(value.shape)}."
            )
        return value


class Served:
    """An exported model, as `flaxlayer.serving.load` returns it.

    With a single endpoint it is called as this is.

    Attributes:
        signature: what it is: all that is said of it in its file.
        endpoints: its functions, by name.
    """

    def __init__(
        self, signature: Signature, endpoints: Mapping[str, ServedEndpoint]
    ):
        self.signature = signature
        self.endpoints = endpoints

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the only endpoint.

        Args:
            *args: its arguments.
            **kwargs: those by name.

        Raises:
            TypeError: there are several, or the arguments are no such.
            ValueError: an array has another shape than is expected.
        """
        if len(self.endpoints) != 1:
            raise TypeError(
                f"this model has the endpoints {list(self.endpoints)}; call "
                "one of them: "
                f"`served.endpoints[{next(iter(self.endpoints))!r}](...)`."
            )
        (endpoint,) = self.endpoints.values()
        return endpoint(*args, **kwargs)

    def __repr__(self) -> str:
        lines = [repr(endpoint) for endpoint in self.endpoints.values()]
        platforms = ", ".join(self.signature.platforms)
        return "\n".join([f"exported for {platforms}:", *lines])


def _spec(array: Array) -> str:
    return f"{array.dtype}[{', '.join(map(str, array.shape))}]"
