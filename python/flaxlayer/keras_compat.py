"""The one place that touches what Keras does not promise.

Every function here says what it needs of Keras, and has a test that fails
plainly when that goes away.
"""

import contextlib
import inspect
import re
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import keras
import numpy as np
from keras.src.backend.common import (
    global_state,
    masking,
    name_scope,
    stateless_scope,
    symbolic_scope,
)
from keras.src.backend.common.variables import AutocastScope
from keras.src.random import seed_generator
from keras.src.saving import serialization_lib

from flaxlayer import jax_compat


@contextlib.contextmanager
def no_distribution() -> Iterator[None]:
    """Has variables that are made here be on one device of this process.

    Keras has a scope for a distribution, and none for no distribution. Under
    one over several processes each variable that Keras makes is compared in
    all of them, which one alone would wait for.
    """
    distribution = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(distribution)


def draw_seed() -> np.ndarray:
    """The next key of Keras's global seed generator, `uint32[2]`.

    Needs the attribute of `keras.src.backend.common.global_state` that has the
    generator, and `next` of `keras.random.SeedGenerator` to take nothing of it
    but its state: that is run on the state in memory, where JAX would compile a
    program for each of its steps. Keras's own layer draws its
    initial keys there, and only so do both start from the same weights after
    `keras.utils.set_random_seed`.
    """
    # Keras refuses to draw global seeds inside a trace, where they would be
    # frozen; a layer that is built there needs its weights as values.
    with jax.ensure_compile_time_eval(), no_distribution():
        # Asking for it, Keras compiles a program to see whether JAX traces.
        name = seed_generator.GLOBAL_SEED_GENERATOR
        global_generator: Any = (
            global_state.get_global_attribute(name)
            or seed_generator.global_seed_generator()
        )
        state = global_generator.state
        # The generator may have been made under a distribution, on whose mesh
        # its state is still; each device has the whole.
        drawn_from = _SeedInMemory(np.asarray(state.value))
        generator: Any = types.SimpleNamespace(state=drawn_from)
        drawn = seed_generator.SeedGenerator.next(generator, ordered=False)
        state.assign(
            jax_compat.device_array(drawn_from.value)
            if keras.backend.backend() == "jax"
            else drawn_from.value
        )
        return drawn


class _SeedInMemory:
    """The state of a seed generator, as its `next` uses it."""

    def __init__(self, value: np.ndarray):
        self.value = value

    def __add__(self, number: int) -> np.ndarray:
        return self.value + number

    def assign(self, value: np.ndarray) -> None:
        self.value = value


def global_seed() -> jax.Array:
    """What the next key of Keras's global seed generator is made of.

    Needs `keras.src.random.seed_generator.global_seed_generator`, which makes
    it where there is none.
    """
    with jax.ensure_compile_time_eval(), no_distribution():
        state: Any = seed_generator.global_seed_generator().state
        return state.value


def in_shape_inference() -> bool:
    """Whether Keras is tracing a model for shapes only.

    Needs the predicates of `keras.SymbolicScope` and `keras.StatelessScope`,
    which are public themselves. Keras enters both; variables that are created
    in there are initialized when it leaves the stateless one.
    """
    return bool(
        symbolic_scope.in_symbolic_scope()
        and stateless_scope.in_stateless_scope()
    )


def in_stateless_scope() -> bool:
    """Whether a variable that is created now gets its value later, if at all.

    Needs the predicate of `keras.StatelessScope`, which is public itself.
    """
    return stateless_scope.in_stateless_scope()


def in_safe_mode() -> bool:
    """Whether a configuration that is being read may not be trusted.

    Needs `keras.src.saving.serialization_lib.in_safe_mode`, which answers
    `False` only where the user has passed `safe_mode=False` or has called
    `keras.config.enable_unsafe_deserialization()`, and None outside of a load.
    """
    return serialization_lib.in_safe_mode() is not False


def mask_of(inputs: Any) -> Any:
    """The Keras masks of inputs, `None` where one has none.

    Needs `keras.src.backend.common.masking.get_keras_mask`, as Keras's own
    layers do; `keras.src.backend` has it up to Keras 3.15 only.
    """
    return jax.tree_util.tree_map(masking.get_keras_mask, inputs)


def drop_unfit_masks(outputs: Any) -> None:
    """Takes masks off outputs that do not have features for each step of them.

    Keras hands the mask of a layer's input on to all of its outputs. One that
    has no steps any more, such as the logits of a whole text, would take it
    into the loss.

    Needs `keras.src.backend.common.masking.set_keras_mask`, as `mask_of` does.
    """
    for output in jax.tree_util.tree_leaves(outputs):
        mask = masking.get_keras_mask(output)
        if mask is None:
            continue
        fits = len(output.shape) > len(mask.shape) and all(
            size == steps or None in (size, steps)
            for size, steps in zip(output.shape, mask.shape, strict=False)
        )
        if not fits:
            masking.set_keras_mask(output, None)


def can_create_variables() -> bool:
    """Whether a variable that is created now will have a value.

    Needs the predicates of the two scopes, as `in_shape_inference` does. In a
    stateless scope alone, as in a compiled training step, there is no moment
    at which Keras would initialise it.
    """
    return (
        not stateless_scope.in_stateless_scope()
        or symbolic_scope.in_symbolic_scope()
    )


def lay_out(
    variable: keras.Variable,
    placed: Callable[[Any, jax.sharding.Sharding], jax.Array],
) -> None:
    """Moves a variable that was made before the present distribution was set.

    It is then as if it had been made under it: it keeps its layout when it is
    assigned, and optimizers have the same for what they keep of it.

    Needs `_layout` and `_initialize_layout` of Keras's variables for JAX, where
    the latter asks the distribution if the former is `None`; and `_value` with
    `_direct_assign`, since in a `keras.StatelessScope` an assignment is for the
    scope only.

    Args:
        variable: which.
        placed: puts a value where a sharding has it.
    """
    variable._layout = None
    variable._initialize_layout()
    if variable._value is None:  # It will be made with the new layout.
        return
    layout: Any = variable._layout
    sharding = getattr(layout, "backend_layout", layout)
    # A value, even if a layer is built inside of a trace.
    with jax.ensure_compile_time_eval():
        # Keras leaves what is on each of the devices with its old mesh; and on
        # one device what it makes has none.
        if len(sharding.device_set) == 1:
            (device,) = sharding.device_set
            sharding = jax.sharding.SingleDeviceSharding(device)
        variable._direct_assign(placed(variable._value, sharding))


def path_here(name: str) -> str:
    """The path of a variable of this name that is made here.

    Needs `current_path` of the module of `keras.name_scope`.
    """
    scopes = name_scope.current_path()
    return f"{scopes}/{name}" if scopes else name


def layout_patterns() -> Sequence[str]:
    """The patterns of the layout map of the distribution that is set, if any.

    Needs `_layout_map` of `keras.distribution.ModelParallel`, which lets no one
    ask for less than a variable's layout. Should it go away, nobody is warned
    of layouts that no weight has.
    """
    layout_map = getattr(keras.distribution.distribution(), "_layout_map", None)
    # Those of `flaxlayer.layout_map` have paths as well, which are no patterns.
    return list(getattr(layout_map, "patterns", layout_map or ()))


def has_value(variable: keras.Variable) -> bool:
    """Whether the value of a variable can be read where this is called.

    Needs `get_current_value` of the innermost `keras.StatelessScope`. In one
    that does not speak of the variable, its value is that of another time.
    """
    scope: Any = stateless_scope.get_stateless_scope()
    return scope is None or scope.get_current_value(variable) is not None


@contextlib.contextmanager
def holding(
    variables: Sequence[keras.Variable], values: Sequence[Any]
) -> Iterator[None]:
    """Has variables hold other values for a while, wherever these are.

    Assigning them would put them where the variables live, and in a
    `keras.StatelessScope`, whose mapping could have them, Keras cannot save: it
    makes an optimizer then, to look at.

    Needs `_value` of a variable to be what reading it gives, as Keras's trainer
    does, and not the property that it is in Keras's NNX mode, whose setter
    puts it where the variable lives.

    Args:
        variables: which; nothing else may read or set them meanwhile.
        values: for each the array that is read.

    Raises:
        NotImplementedError: Keras is in its NNX mode.
    """
    if keras.config.is_nnx_enabled():
        raise NotImplementedError(
            "in the NNX mode of Keras, variables hold nothing that is not "
            "where they live; run without KERAS_NNX_ENABLED"
        )
    held: list[Any] = [variable._value for variable in variables]
    try:
        for variable, value in zip(variables, values, strict=True):
            variable._value = value
        yield
    finally:
        for variable, value in zip(variables, held, strict=True):
            variable._value = value


# What Keras keeps of this thread that a call of a layer looks at.
_STATELESS, _AUTOCAST = "stateless_scope", "autocast_scope"
_OF_CALLS = (
    "current_call_ctx",
    _STATELESS,
    _AUTOCAST,
    "symbolic_scope",
    "distribution",
)


def _in_no(scopes: Sequence[str]) -> bool:
    return all(global_state.get_global_attribute(s) is None for s in scopes)


def values_of(variables: Sequence[keras.Variable]) -> list[jax.Array]:
    """The values of variables, which have been made, as they are stored.

    Each of them would ask for the scopes that it is read in, which takes longer
    than anything else in the eager call of a small layer.

    Needs `_value` of a variable to be what reading it gives outside of scopes,
    the names under which the scopes are kept, and a `dtype` of `None` of a
    `keras.src.backend.AutocastScope` to mean that nothing is cast.
    """
    if _in_no((_STATELESS,)) and not keras.config.is_nnx_enabled():
        values: list[Any] = [variable._value for variable in variables]
        if not any(value is None for value in values):
            return values
    with AutocastScope(None):
        return [variable.value for variable in variables]


def autocast_dtype() -> str | None:
    """What the present scope casts variables to, as they are read, if any.

    Needs the name under which Keras keeps its autocast scope, and its `dtype`.
    """
    scope: Any = global_state.get_global_attribute(_AUTOCAST)
    return None if scope is None else scope.dtype


def only_calls(layer: Any, x: Any) -> bool:
    """Whether `layer(x)` does what `layer.call(x)` does, and nothing else.

    It is so of a layer that has been called before, on one array that need not
    be cast and has no mask, eagerly and by nobody else's call. What Keras looks
    for in such a call, and does not find, takes it longer than many a model.

    Needs what `keras.Layer.__call__` looks at: where it keeps the scopes of a
    thread, and of a layer the losses of its last call, which it drops, the
    layers in it, whose it drops too, and whether it is to be rematerialised.

    Args:
        layer: a `keras.Layer`.
        x: what it is called on.
    """
    if not isinstance(x, jax.Array) or isinstance(x, jax.core.Tracer):
        return False
    dtype, policy = x.dtype, layer.dtype_policy
    if not isinstance(dtype, np.dtype):  # Typed keys.
        return False
    return (
        layer.built
        and layer._called
        and _in_no(_OF_CALLS)
        and not (layer._losses or layer._layers or layer._remat_mode)
        and layer.input_spec is None
        and layer.activity_regularizer is None
        and policy.quantization_mode is None
        and policy.compute_dtype == policy.variable_dtype
        and (dtype.kind in "biu" or dtype.name == policy.compute_dtype)
        and getattr(layer.compute_mask, "_is_default", False)
        and masking.get_keras_mask(x) is None
        and not keras.config.is_nnx_enabled()
    )


@contextlib.contextmanager
def calling(layer: Any) -> Iterator[None]:
    """What surrounds a layer's `call` where `only_calls` is true of it.

    Layers in a model see it when they are called, in inference.

    Needs `_get_call_context` and `_maybe_reset_call_context` of a layer.
    """
    with keras.name_scope(layer.name, caller=layer):
        context = layer._get_call_context()
        context.set_value("training", False)
        try:
            yield
        finally:
            layer._maybe_reset_call_context()


def set_call_signature(
    layer: keras.layers.Layer, signature: inspect.Signature
) -> None:
    """Says which arguments a layer's `call` takes.

    Needs the attributes in which Keras keeps what it has read from the method
    of the class, from which it tells the arguments of a call apart: which are
    inputs, and whether one is a mask. Those of a wrapped module are known when
    there is an instance.
    """
    names = list(signature.parameters)
    kept = {
        "_call_signature": signature,
        "call_signature_parameters": names,
        "_call_has_mask_arg": "mask" in names,
    }
    for attribute, value in kept.items():
        if not hasattr(layer, attribute):
            raise AttributeError(f"keras.layers.Layer has no {attribute}")
        setattr(layer, attribute, value)


def drop_missing_arguments(error: Exception) -> None:
    """Takes arguments that were not given out of Keras's list of arguments.

    Needs the form in which `keras.src.utils.traceback_utils` writes them: a
    line for each argument of `call`, with the default of those not given; for
    `**kwargs` that is Python's mark for there being none.
    """
    if not error.args or not isinstance(error.args[0], str):
        return
    text = re.sub(
        rf"\n  • \w+={re.escape(str(inspect.Parameter.empty))}(?=\n|$)",
        "",
        error.args[0],
    )
    error.args = (text, *error.args[1:])


def show_unknown_output(operation: keras.Operation) -> None:
    """Makes a summary show `?` for the outputs of what was never called.

    Needs `keras.src.utils.summary_utils` to look for `_build_shapes_dict`
    where an operation has no outputs.

    Args:
        operation: what is shown.
    """
    attributes: Any = operation
    attributes._build_shapes_dict = None


def flattened_layers(layer: Any) -> list[Any]:
    """A layer and all layers in it, however deep, each of them once.

    Needs `keras.Layer._flatten_layers`: `Model.layers` is public, but knows
    only of what is directly in a model, and not what wrappers and composite
    layers hold.

    Args:
        layer: a `keras.Layer`; models are layers.
    """
    return layer._flatten_layers()


def start_at_epoch(model: keras.Model, epoch: int | None) -> None:
    """Makes the `fit` that is beginning start at this epoch.

    Needs the trainer's `_initial_epoch`, which `fit` reads after
    `on_train_begin`: Keras's own `BackupAndRestore` sets it there.

    Args:
        model: what is trained.
        epoch: how many epochs are done; `None` for the `initial_epoch` that
            `fit` was given.
    """
    model._initial_epoch = epoch


def peer_flax_layer() -> Any:
    """Keras's own FlaxLayer, for comparison; `None` where it cannot be had.

    Needs `keras.src.utils.jax_layer` to have TensorFlow as `tf`. On the JAX
    backend it asks that for one thing only, whether a TensorFlow function is
    being traced. Without TensorFlow the answer is no, and with that answer put
    in its place the layer can be used.
    """
    try:
        from keras.src.utils import jax_layer

        if not getattr(jax_layer.tf, "available", True):
            answer: Any = types.SimpleNamespace(inside_function=lambda: False)
            jax_layer.tf = answer
        return keras.layers.FlaxLayer
    except (ImportError, AttributeError):
        return None
