"""The one place that knows what JAX does not promise.

Every function here says what it needs of JAX, and has a test that fails
plainly when that goes away.
"""

import contextlib
import functools
import importlib
import math
from collections.abc import (
    Callable,
    Hashable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from typing import Any, NamedTuple

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
from jax.interpreters import partial_eval

# The primitives behind `jax.debug`.
_DEBUGGING = ("debug_callback", "debug_print")


def key_impl(value: Any) -> Any:
    """The PRNG implementation of a typed key array, `None` for other values.

    Args:
        value: anything; arrays, tracers and `jax.ShapeDtypeStruct`s may be
            typed keys.

    Returns:
        What `jax.random.wrap_key_data` takes as `impl`.
    """
    dtype = getattr(value, "dtype", None)
    # Plain ones, and those of other libraries, of which JAX knows nothing.
    if isinstance(dtype, np.dtype) or hasattr(dtype, "as_numpy_dtype"):
        return None
    if dtype is None or not jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key):
        return None
    if not isinstance(value, jax.ShapeDtypeStruct):
        return jax.random.key_impl(value)
    return _impl_of_key_dtype(dtype)


@functools.cache  # It traces, and is asked for each sampler of a layer.
def _impl_of_key_dtype(dtype: Any) -> Any:
    # There is no public way from a key dtype to its implementation, but one
    # from a key, and tracing makes a key of the dtype.
    found = []
    key = jax.ShapeDtypeStruct((), dtype)
    jax.eval_shape(lambda key: found.append(jax.random.key_impl(key)), key)
    return found[0]


def default_prng_impl() -> str:
    """The name of the implementation raw keys are taken to be of.

    Needs the configuration option of that name, which is documented but has no
    accessor.
    """
    # Options are added to the object when they are defined.
    config: Any = jax.config
    return str(config.jax_default_prng_impl)


def is_staged(arrays: Any) -> bool:
    """Whether operations on these arrays are recorded rather than run.

    True for what is traced by `jax.jit`, `jax.make_jaxpr` or `jax.eval_shape`,
    also below `jax.grad` or `jax.vmap` there; false for `jax.grad` and
    `jax.vmap` alone, whose operations run at once.
    """
    # Few types, of many arrays.
    types = set(map(type, jax.tree_util.tree_leaves(arrays)))
    if not any(issubclass(each, jax.core.Tracer) for each in types):
        return False
    # There is no public predicate: an operation on nothing tells.
    return isinstance(jnp.zeros(()), jax.core.Tracer)


def symbolic_dimension(name: str, *, at_least: int) -> Any:
    """A dimension whose size is not known, for abstract tracing."""
    return jax.export.symbolic_shape(
        f"({name})", constraints=[f"{name} >= {at_least}"]
    )[0]


@contextlib.contextmanager
def calling_convention(version: int | None) -> Iterator[None]:
    """Has `jax.export` write programs in a version of its calling convention.

    Needs the configuration option `jax_export_calling_convention_version`,
    which is documented as a flag and has no context manager.

    Args:
        version: the version; `None` for the one that is set.
    """
    if version is None:
        yield
        return
    config: Any = jax.config
    set_before = config.jax_export_calling_convention_version
    config.update("jax_export_calling_convention_version", version)
    try:
        yield
    finally:
        config.update("jax_export_calling_convention_version", set_before)


def device_array(value: np.ndarray) -> jax.Array:
    """An array of JAX with a value in memory, and with that memory perhaps.

    Nothing is compiled, as newer versions do in `jnp.asarray` for each shape
    where constants are computed at once (`jax.ensure_compile_time_eval`).

    Args:
        value: nobody changes it any more.
    """
    return jax.device_put(value)


def trace_of_calls(function: Callable[..., Any], *arguments: Any) -> Any:
    """The closed jaxpr of a function, with an equation for each program.

    Run eagerly, each call of a function that is jitted is one program to XLA,
    which may round otherwise than the same operations one after the other.
    Most functions of `jax.numpy` are such, and ask for being inlined where they
    are traced. Here their calls stay one equation each. Functions with
    derivatives of their own are run as they are without any. And integers that
    depend on no argument have values, since what functions do may depend on
    these: `x ** n` is a product if `n` is known.

    Needs `take_current_trace` and `set_current_trace` of `jax.extend.core`, or
    of `jax.core` in older versions; a trace with `process_primitive`, and with
    `process_custom_jvp_call` and `process_custom_vjp_call` that get the
    function to call after the primitive; the parameter `inline` of `jax.jit`'s
    primitive, and `effects` of what is called. Should that parameter go away
    calls are inlined again.

    Args:
        function: what to trace; run once.
        *arguments: arrays, or what has a shape and a dtype.
    """

    def recorded(*arguments: Any) -> Any:
        with _traces().take_current_trace() as trace:
            recorder = _CallRecorder(trace)
            with _traces().set_current_trace(recorder):
                return function(*arguments)

    return jax.make_jaxpr(recorded)(*arguments)


class _CallRecorder:
    """A trace that hands everything to another one, but keeps calls whole."""

    def __init__(self, trace: Any):
        self._trace = trace

    def __getattr__(self, name: str) -> Any:
        return getattr(self._trace, name)

    def process_primitive(
        self, primitive: Any, operands: Any, parameters: Any, /
    ) -> Any:
        if "inline" in parameters:
            parameters = {**parameters, "inline": _not_inlined()}
        if primitive.name == "convert_element_type":
            number = _converted_integer(operands[0], parameters)
            if number is not None:
                return number
        results = self._trace.process_primitive(primitive, operands, parameters)
        if _is_known_integer(primitive, operands, parameters, results):
            # There is no current trace here, and newer versions evaluate by way
            # of the one there is.
            with (
                _traces().set_current_trace(self._trace),
                jax.ensure_compile_time_eval(),
            ):
                return primitive.bind(*operands, **parameters)
        return results

    # Nobody differentiates what is recorded.

    def process_custom_jvp_call(
        self,
        primitive: Any,
        function: Any,
        rule: Any,
        operands: Any,
        /,
        **_: Any,
    ) -> Any:
        del primitive, rule
        with _traces().set_current_trace(self):
            return function.call_wrapped(*operands)

    def process_custom_vjp_call(
        self,
        primitive: Any,
        function: Any,
        forward: Any,
        backward: Any,
        operands: Any,
        /,
        **_: Any,
    ) -> Any:
        del primitive, forward, backward
        with _traces().set_current_trace(self):
            return function.call_wrapped(*operands)


def _converted_integer(operand: Any, parameters: Any) -> jax.Array | None:
    """An integer that is no tracer, as one of another dtype.

    Modules fold their paths into keys as such numbers, one for each weight, and
    to trace and compile this takes long beside what it is.

    Returns:
        The integer; `None` for what else is converted.
    """
    dtype = parameters["new_dtype"]
    if (
        isinstance(operand, jax.core.Tracer)
        or not jax.dtypes.issubdtype(dtype, np.integer)
        or parameters.get("weak_type")
        or parameters.get("sharding")
    ):
        return None
    number = np.asarray(operand)
    if number.shape or not jnp.issubdtype(number.dtype, np.integer):
        return None
    return device_array(number.astype(dtype))


def _is_known_integer(
    primitive: Any, operands: Any, parameters: Any, results: Any
) -> bool:
    """Whether integers were computed from no tracers, and nothing else done."""
    # Without operands it may be the size of a symbolic dimension.
    if not operands or any(isinstance(x, jax.core.Tracer) for x in operands):
        return False
    called = parameters.get("jaxpr")
    if primitive.name.endswith("callback") or getattr(called, "effects", ()):
        return False
    leaves = jax.tree_util.tree_leaves(results)
    return bool(leaves) and all(
        leaf.shape == ()
        and (leaf.dtype == np.bool_ or jnp.issubdtype(leaf.dtype, np.integer))
        for leaf in leaves
    )


def _traces() -> Any:
    public = jax.extend.core
    return public if hasattr(public, "set_current_trace") else jax.core


@functools.cache
def _not_inlined() -> Any:
    """What `inline` is in the parameters of a call that asks for nothing."""
    (call,) = jax.make_jaxpr(jax.jit(jnp.sin))(1.0).jaxpr.eqns
    return call.params["inline"]


def without_dead_code(
    jaxpr: Any, removable: Sequence[bool]
) -> tuple[Any, list[bool]]:
    """A closed jaxpr reduced to the equations that its outputs depend on.

    An equation is kept or left out as a whole, since another program might
    round otherwise; but for those that depend on some of the inputs, such as a
    loop over the layers of a model: what no output depends on is removed from
    inside them as well. What is printed or called for debugging is left out
    where it is not inside another equation.

    Needs equations to have `invars`, `outvars` and `effects`, and the names of
    the primitives for debugging. Needs
    `jax.interpreters.partial_eval.dce_jaxpr`, which has no promise of
    stability, and takes a jaxpr made of one equation of another; the tests
    compare what it leaves with the whole.

    Args:
        jaxpr: what to reduce.
        removable: for each input, whether equations that depend on it may be
            reduced inside.

    Returns:
        The reduced jaxpr, with all inputs, and which of them are used.
    """
    whole = jaxpr.jaxpr
    given = {
        variable
        for variable, is_given in zip(whole.invars, removable, strict=True)
        if is_given
    }
    for equation in whole.eqns:
        if any(variable in given for variable in _variables(equation.invars)):
            given.update(equation.outvars)
    needed = set(_variables(whole.outvars))
    kept: list[Any] = []
    for equation in reversed(whole.eqns):
        if equation.primitive.name in _DEBUGGING:
            continue
        results = [v for v in equation.outvars if v in needed]
        if not results and not equation.effects:
            continue
        rest = [equation]
        operands = _variables(equation.invars)
        if any(variable in given for variable in operands):
            single = whole.replace(
                constvars=[], invars=operands, outvars=results, eqns=rest
            )
            rest = partial_eval.dce_jaxpr(single, [True] * len(results))[0].eqns
        for equation in rest:
            needed.update(_variables(equation.invars))
            kept.append(equation)
    reduced = jax.extend.core.ClosedJaxpr(
        whole.replace(eqns=kept[::-1]), jaxpr.consts
    )
    return reduced, [variable in needed for variable in whole.invars]


def _variables(atoms: Iterable[Any]) -> list[Any]:
    """The variables among what an equation takes, each once."""
    literal = jax.extend.core.Literal
    return list(dict.fromkeys(a for a in atoms if not isinstance(a, literal)))


def eval_by_equation(
    jaxpr: Any,
    arguments: Sequence[Any],
    evaluate: Callable[[Any, Sequence[Any]], Sequence[Any]],
    watched: Callable[[Sequence[Any]], Iterable[Any]] = iter,
) -> list[Any]:
    """Runs a closed jaxpr one equation at a time, without compiling it whole.

    Needs equations to have a `primitive` with `get_bind_params`, `params`,
    `invars`, `outvars` and the context they were traced in, `ctx.manager`:
    `jax.extend.core.jaxpr_as_fun`, which is public, runs all of them.

    Args:
        jaxpr: what to run.
        arguments: one for each of its inputs.
        evaluate: returns the results of an equation, from it and its operands.
        watched: returns an iterator over the equations, which may look at how
            the evaluation goes.

    Returns:
        The results; none of them shares memory with an argument, a constant or
        another result, so that each may be donated.
    """
    literal = jax.extend.core.Literal
    values = dict(zip(jaxpr.jaxpr.constvars, jaxpr.consts, strict=True))
    values.update(zip(jaxpr.jaxpr.invars, arguments, strict=True))

    def value_of(variable: Any) -> Any:
        if isinstance(variable, literal):
            return variable.val
        return values[variable]

    # What nobody uses any more is let go: most of it is as large as a weight.
    last_used = {
        variable: equation
        for equation in jaxpr.jaxpr.eqns
        for variable in _variables(equation.invars)
    }
    outputs = jaxpr.jaxpr.outvars
    kept = set(_variables(outputs))
    for equation in watched(jaxpr.jaxpr.eqns):
        operands = [value_of(variable) for variable in equation.invars]
        results = evaluate(equation, operands)
        values.update(zip(equation.outvars, results, strict=True))
        del operands, results
        done = {*_variables(equation.invars), *equation.outvars} - kept
        for variable in done:
            if last_used.get(variable, equation) is equation:
                values.pop(variable, None)
    results = []
    last = {a: i for i, a in enumerate(outputs) if not isinstance(a, literal)}
    for i, (atom, is_own) in enumerate(
        zip(outputs, _are_own(jaxpr), strict=True)
    ):
        value = value_of(atom)
        if not isinstance(atom, literal) and last[atom] == i:
            del values[atom]
        if isinstance(value, np.ndarray):
            value = device_array(value)
        results.append(jnp.asarray(value) if is_own else jnp.array(value))
    return results


def run_equation(equation: Any, *operands: Any) -> list[Any]:
    """The results of an equation, run as it was traced.

    Needs of equations what `eval_by_equation` does.
    """
    # In older versions functions come apart from the other parameters.
    parameters = equation.primitive.get_bind_params(equation.params)
    functions, parameters = (
        parameters if isinstance(parameters, tuple) else ((), parameters)
    )
    with equation.ctx.manager:
        results = equation.primitive.bind(*functions, *operands, **parameters)
    return results if equation.primitive.multiple_results else [results]


def equation_key(equation: Any) -> Hashable:
    """What equations have in common that do the same.

    Needs `primitive`, `params` and `ctx` of equations, and that the latter
    shows what it holds: if not, or if a parameter cannot be hashed, no two
    equations are the same.
    """
    key = (
        equation.primitive,
        tuple(sorted(equation.params.items(), key=lambda item: item[0])),
        repr(equation.ctx),
    )
    try:
        hash(key)
    except TypeError:
        return id(equation)
    return key


def _are_own(jaxpr: Any) -> list[bool]:
    """For each result, whether nothing else can have its memory."""
    given = [*jaxpr.jaxpr.invars, *jaxpr.jaxpr.constvars]
    # An operation may hand on an operand that is like its result.
    origins: dict[Any, set[Any]] = {variable: {variable} for variable in given}
    for equation in jaxpr.jaxpr.eqns:
        for result in equation.outvars:
            origins[result] = {result}.union(
                *(
                    origins[variable]
                    for variable in _variables(equation.invars)
                    if variable.aval == result.aval
                )
            )
    shared = set(given)
    own = []
    for result in jaxpr.jaxpr.outvars:
        found = origins[result] if _variables([result]) else set(given)
        own.append(shared.isdisjoint(found))
        shared |= found
    return own


class Called(NamedTuple):
    """An operation that is all that a call does.

    Attributes:
        name: of the operation.
        operands: for each of its operands, which argument of the call it is,
            and the dtype that this is converted to if it is a scalar.
    """

    name: str
    operands: list[tuple[int, Any]]


def called_operation(name: str, parameters: Mapping[str, Any]) -> Called | None:
    """What a call does, if that is one operation on its arguments.

    Needs the names of the primitives of `jax.jit` and of conversions, and a
    closed jaxpr in the parameter `jaxpr`. Should they go away every call counts
    as doing more.

    Args:
        name: of the primitive.
        parameters: its static parameters.

    Returns:
        The operation; `None` if the call does more, or has constants.
    """
    called = parameters.get("jaxpr")
    if name not in ("jit", "pjit") or called is None or not called.jaxpr.eqns:
        return None
    *conversions, operation = called.jaxpr.eqns
    arguments = {v: i for i, v in enumerate(called.jaxpr.invars)}

    def is_argument(atom: Any) -> bool:
        literal = isinstance(atom, jax.extend.core.Literal)
        return not literal and atom in arguments

    for conversion in conversions:
        if conversion.primitive.name != "convert_element_type":
            return None
        (operand,) = conversion.invars
        if operand.aval.shape or not is_argument(operand):
            return None
        arguments[conversion.outvars[0]] = arguments[operand]
    operands = operation.invars
    if called.jaxpr.outvars != operation.outvars or not all(
        map(is_argument, operands)
    ):
        return None
    return Called(
        operation.primitive.name,
        [(arguments[v], v.aval.dtype) for v in operands],
    )


def threefry_partitionable() -> bool:
    """Whether threefry words are laid out by their own index alone.

    Needs the configuration option of that name, which is documented but has no
    accessor; it is part of the key of `jax.jit`'s cache.
    """
    config: Any = jax.config
    return bool(config.jax_threefry_partitionable)


def rounds_alike_in_parts() -> bool:
    """Whether an element is rounded alike in an array and in a part of it.

    Needs versions to be as they were: up to 0.8.1 XLA has other instructions
    for the last elements of an array on a CPU, those that do not fill a vector,
    and `log1p`, for one, rounds otherwise with these. None of this is promised.
    """
    return jax.__version_info__ >= (0, 8, 2)


def rounds_alike_in_short_rows() -> bool:
    """Whether the above holds where the last of several axes is short.

    Needs versions to be as they were: from 0.12 XLA has other instructions for
    `log1p` and its like, with AVX-512, where that axis has up to 8 elements and
    there are several rows. None of this is promised.
    """
    return jax.__version_info__ < (0, 12)


def memory_limit(device: jax.Device) -> int | None:
    """The bytes that may be allocated on a device, `None` if not known.

    Needs `bytes_limit` in what `memory_stats` of the device returns, which is
    not documented. Should it go away no limit is known.
    """
    try:
        statistics = device.memory_stats() or {}
    except (NotImplementedError, jax.errors.JaxRuntimeError):
        return None
    limit = statistics.get("bytes_limit")
    return int(limit) if limit else None


def coordination_client() -> Any:
    """The client of the service by which the processes of a program meet.

    Asking starts nothing. Needs `global_state` of `jax._src.distributed`, whose
    `client` has `key_value_set` and `blocking_key_value_get`. Should it go away
    there is none, and processes compare nothing.

    Returns:
        The client; `None` in a program of one process, where
        `jax.distributed.initialize` was not called.
    """
    if not jax.distributed.is_initialized():
        return None
    distributed: Any = importlib.import_module("jax._src.distributed")
    state = getattr(distributed, "global_state", None)
    return getattr(state, "client", None)


# Rules of the primitives in flaxlayer.ops.


def on_no_mesh(aval: Any) -> bool:
    """Whether an abstract value says nothing of meshes or their axes.

    Needs the `sharding` of abstract values to have a `mesh` that is `empty`.
    Should they go away everything counts as on a mesh, which is slower to
    trace and as correct.
    """
    mesh = getattr(getattr(aval, "sharding", None), "mesh", None)
    return getattr(mesh, "empty", False)


def aval_of(spec: jax.ShapeDtypeStruct) -> Any:
    """The abstract value of an array on no mesh."""
    return jax.core.ShapedArray(spec.shape, spec.dtype)


def result_avals(function: Callable[..., Any], *avals: Any) -> list[Any]:
    """The abstract values of a function's results, for abstract evaluations.

    Needs `jax.make_jaxpr` to accept abstract values as arguments and to carry
    their shardings and manual mesh axes over, for which `jax.ShapeDtypeStruct`
    has no place in older versions.

    Args:
        function: has an array, or a list of them, as its result.
        avals: the abstract values of its arguments.
    """
    return list(jax.make_jaxpr(function)(*avals).out_avals)


def lowering_for_export(ctx: Any) -> bool:
    """Whether a lowering rule is run for `jax.export`.

    Needs `lowering_parameters.for_export` of the module context. Should it go
    away every lowering counts as an export, which is always correct: the
    reference is emitted then.

    Args:
        ctx: what JAX passes to the lowering rule.
    """
    parameters = getattr(ctx.module_context, "lowering_parameters", None)
    return getattr(parameters, "for_export", True)


def lowering_platforms(ctx: Any) -> tuple[str, ...]:
    """The platforms a lowering rule is run for, several in some exports.

    Needs `platforms` of the context, which says something in a branch for some
    platforms only, and of the module context. Should they go away no platform
    is known, and the reference is emitted.

    Args:
        ctx: what JAX passes to the lowering rule.
    """
    platforms = getattr(ctx, "platforms", None)
    if platforms is None:
        platforms = getattr(ctx.module_context, "platforms", ())
    return tuple(platforms)


def lowering_num_partitions(ctx: Any) -> int | None:
    """Over how many devices XLA may split the operation that is lowered.

    It is 1 for one device, and inside of `jax.shard_map` where all mesh axes
    are manual: there the program is already that of one device.

    Needs `axis_context` of the module context, and of that `num_devices`
    (under `jax.jit`), or `mesh` and `manual_axes` (under `jax.shard_map`).

    Args:
        ctx: what JAX passes to the lowering rule.

    Returns:
        The number, or None where it is not known.
    """
    context = getattr(ctx.module_context, "axis_context", None)
    num_devices = getattr(context, "num_devices", None)
    if num_devices is not None:
        return num_devices
    mesh = getattr(context, "mesh", None)
    manual_axes = getattr(context, "manual_axes", None)
    if mesh is None or manual_axes is None:
        return None
    return math.prod(
        size for axis, size in mesh.shape.items() if axis not in manual_axes
    )


def lower_with_devices(primitive: Any) -> None:
    """Has the lowering rule of a primitive told of devices and their mesh.

    JAX tells most rules only how many devices there are, so that a lowered
    program can be kept for others.

    Needs `prim_requires_devices_during_lowering` of `jax._src.dispatch`, a set,
    where `jax.experimental.custom_partitioning` has its own primitive. Should
    it go away `lowering_names_mesh` says no.
    """
    dispatch: Any = importlib.import_module("jax._src.dispatch")
    known = getattr(dispatch, "prim_requires_devices_during_lowering", None)
    if known is not None:
        known.add(primitive)


def lowering_names_mesh(ctx: Any) -> bool:
    """Whether XLA splits what is lowered over a mesh whose axes have names.

    `jax.experimental.custom_partitioning` then says by name how arrays are
    split. It is not so in `jax.shard_map` where some axes are manual.

    Needs `axis_context` of the module context, of that `device_assignment`,
    and `abstract_mesh`, or else `jax.sharding.get_mesh`. Should they go away
    the answer is no, and the reference is emitted.

    Args:
        ctx: what JAX passes to the lowering rule.
    """
    context = getattr(ctx.module_context, "axis_context", None)
    if getattr(context, "device_assignment", None) is None:
        return False
    mesh = getattr(context, "abstract_mesh", None)
    return mesh is not None and not mesh.empty
