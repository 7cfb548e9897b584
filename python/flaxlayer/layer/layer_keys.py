"""The randomness of a layer: its seed, its generator, the form of its keys."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from flaxlayer import keras_compat
from flaxlayer.model import Model
from flaxlayer.ops import dispatch
from flaxlayer.randomness import seeds
from flaxlayer.randomness.key_form import KeyForm
from flaxlayer.weights.initialization import Initialization


class LayerKeys:
    """Where the keys of a layer come from, and what computes their words.

    Args:
        model: what the keys are for.
        seed: the `seed` argument.
        kernels: the `kernels` argument.
        name: that of the layer.
        layer: how error messages call it.

    Attributes:
        seed: the argument, validated.
        generator: the `keras.random.SeedGenerator` of calls; `None` for a
            model without random streams.
        stock_only: whether the model was seen not to work with native keys.

    Raises:
        TypeError: `seed` is no seed.
        ValueError: `seed` does not fit into 32 bits.
    """

    def __init__(
        self,
        model: Model,
        seed: Any,
        kernels: dispatch.Policy,
        *,
        name: str,
        layer: str,
    ):
        self._model = model
        self._kernels = kernels
        self._layer = layer
        self.seed = seeds.checked_seed(seed, layer=layer)
        self.generator = (
            seeds.seed_generator(self.seed, name)
            if model.streams.policies
            else None
        )
        self.stock_only = False

    def described(self, *, initial: bool) -> str:
        """What all keys are made of, to compare it between processes.

        Args:
            initial: whether weights are made of some.
        """
        if self.seed is not None:
            return str(seeds.seed_to_config(self.seed))
        states: list[Any] = []
        if self.generator is not None:
            states.append(self.generator.state.value)
        if initial:
            states.append(keras_compat.global_seed())
        drawn = [np.asarray(state).tolist() for state in states]
        return f"None, with {drawn} drawn by Keras" if drawn else "None"

    def choose(self) -> tuple[dispatch.Kernels, KeyForm]:
        """The kernels that a call has now, and the form of its keys.

        Raises:
            RuntimeError: native ones are required and there are none.
        """
        try:
            kernels = dispatch.choose_all(dispatch.resolve(self._kernels))
        except RuntimeError as error:
            raise RuntimeError(f"{self._layer}: {error}") from error
        dispatch.log_choice(self._layer, kernels)
        form = self._model.key_form(kernels)
        return kernels, form.stock() if self.stock_only else form

    def usable(self, run: Callable[[KeyForm], Any], form: KeyForm) -> Any:
        """`run(form)`; with JAX's own keys if the model cannot use native ones.

        A model may depend on what is particular to the keys that it would have
        been given: it may index raw ones, or mix them with others. It is not
        asked what it does: if it fails it is run once more, without them, and
        gets no native ones any more if that works.
        """
        try:
            return run(form)
        except (FloatingPointError, jax.errors.JaxRuntimeError):
            raise  # Of the values, not of the program.
        except Exception:
            if not form.optional:
                raise
        # Outside of the handler: what is raised here is the model's own error,
        # and has nothing to do with the keys.
        result = run(form.stock())
        self.stock_only = True
        return result

    def initialization(self, specs: Any) -> Initialization:
        """The weights that the model makes for some inputs.

        Args:
            specs: the inputs, as `keras.KerasTensor`s.
        """
        kernels, form = self.choose()

        def draw() -> dict[str, jax.Array]:
            return seeds.init_keys(
                self.seed,
                self._model.init_streams,
                key_impl=form.impl,
                kernel=kernels.rng_fold,
            )

        return self.usable(
            lambda form: Initialization(
                functools.partial(self.initialized, form),
                self.initial_specs(form),
                draw,
                specs,
            ),
            form,
        )

    def initial_specs(self, form: KeyForm) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of the raw keys that the weights are made of."""
        return dict.fromkeys(
            self._model.init_streams, seeds.key_spec(form.impl)
        )

    def initialized(
        self, form: KeyForm, raw_keys: dict[str, Any], inputs: Any
    ) -> Any:
        """What the initialisation of the model makes of raw keys."""
        keys = {name: form.given(key) for name, key in raw_keys.items()}
        return form.returned(self._model.init(keys, inputs, self._layer))
