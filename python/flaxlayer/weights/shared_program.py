"""Runs a program equation by equation, devices sharing the work on weights."""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from jax.extend.core import Literal
from jax.sharding import NamedSharding

from flaxlayer import jax_compat
from flaxlayer.ops import partitioning
from flaxlayer.weights import placed_initializer, samplers, sharding_plan

# The result of an equation without compiling it, as `exact_arithmetic.evaluate`
# gives it: from the name of the primitive, its parameters and the operands.
Shortcut = Callable[[str, Any, Sequence[Any]], Any]


class SharedProgram:
    """How the arrays of a program are spread while it runs.

    Args:
        jaxpr: the program, a closed jaxpr.
        shardings: for each of its results, where it is to be; `None` for one
            that is whole.
        shortcut: is asked for each result first; returns `None` where the
            equation is to be run.
    """

    def __init__(
        self,
        jaxpr: Any,
        shardings: Sequence[NamedSharding | None],
        shortcut: Shortcut,
    ):
        self._jaxpr = jaxpr
        self._shortcut = shortcut
        self._shardings = sharding_plan.plan(jaxpr.jaxpr, shardings)
        self._ahead: dict[Any, Future] = {}

    def sizes(self) -> list[jax.ShapeDtypeStruct]:
        """The shape and dtype of what a device has of each array.

        They are in the order in which the program computes them.
        """
        found = []
        for equation in self._jaxpr.jaxpr.eqns:
            for variable in equation.outvars:
                aval: Any = variable.aval
                if not hasattr(aval, "shape"):
                    continue
                sharding = self._shardings.get(variable)
                shape = sharding.shard_shape(aval.shape) if sharding else None
                found.append(
                    jax.ShapeDtypeStruct(shape or aval.shape, aval.dtype)
                )
        return found

    @contextlib.contextmanager
    def compiling_ahead(self) -> Iterator[None]:
        """Compiles what takes long side by side, while the program runs.

        A program for several devices takes XLA longer to compile than one for
        one device, and samplers make up most of an initialisation. Besides,
        JAX asks how native calls are split when it compiles them, and where
        constants are computed at once (`jax.ensure_compile_time_eval`) older
        versions would take the index of a device for one.
        """
        programs = {}
        for equation in self._jaxpr.jaxpr.eqns:
            shardings = self._shardings_of(equation)
            if (
                any(shardings)
                and _takes_long(equation)
                and not (_are_near(shardings) and samplers.serves(equation))
            ):
                program = _compiled(equation, shardings)
                programs[program] = _specs(equation, shardings)
        if not programs:
            yield
            return
        # Where several processes compile, they may have to do so in one order.
        alone = jax.process_count() == 1
        with ThreadPoolExecutor((alone and os.cpu_count()) or 1) as pool:
            for program, specs in programs.items():
                # Lowered in this thread, which may have settings of its own.
                lowered = program.lower(*specs)
                self._ahead[program] = pool.submit(lowered.compile)
            try:
                yield
            finally:
                self._forget()

    def evaluate(self, equation: Any, operands: Sequence[Any]) -> Sequence[Any]:
        """The results of one equation.

        Args:
            equation: of the program.
            operands: what it is run on.
        """
        shardings = self._shardings_of(equation)
        if not any(shardings):
            result = self._shortcut(
                equation.primitive.name, equation.params, operands
            )
            if result is None:
                result = samplers.evaluate(equation, operands)
            if result is not None:
                return [result]
            return jax_compat.run_equation(equation, *operands)
        if _are_near(shardings):
            # XLA takes longer to compile a sampler for several devices than
            # the processor takes to draw all of a small weight.
            result = samplers.evaluate(equation, operands)
            if result is not None:
                return [jax.device_put(result, shardings[0])]
        before = _before(equation, shardings)
        operands = [
            value
            if sharding is None
            else placed_initializer.placed(value, sharding)
            for value, sharding in zip(operands, before, strict=True)
        ]
        in_parts = all(
            sharding is not None or not np.ndim(value)
            for value, sharding in zip(operands, before, strict=True)
        )
        # Others have to find the same, whatever numbers they have.
        if in_parts and len(shardings) == 1 and jax.process_count() == 1:
            result = self._by_part(equation, operands, shardings[0])
            if result is not None:
                return [result]
        program = _compiled(equation, shardings)
        if program in self._ahead:
            self._ahead[program].result()  # JAX has it from now on.
        # Programs that wait for their turn have memory for their results.
        return jax.block_until_ready(program(*operands))

    def _forget(self) -> None:
        """Lets go of compiled programs that would keep arrays alive."""
        for equation in self._jaxpr.jaxpr.eqns:
            shardings = self._shardings_of(equation)
            if any(shardings) and sharding_plan.holds_arrays(equation):
                _programs.pop(_work(equation, shardings), None)

    def _shardings_of(self, equation: Any) -> tuple[NamedSharding | None, ...]:
        return tuple(self._shardings.get(v) for v in equation.outvars)

    def _by_part(
        self, equation: Any, operands: Sequence[Any], sharding: Any
    ) -> jax.Array | None:
        """The result of a shortcut for the part of each device, if all have.

        Args:
            equation: that with one result.
            operands: numbers, and arrays that are spread as the result is.
            sharding: that of the result.
        """
        shape = equation.outvars[0].aval.shape
        parameters = {
            name: sharding.shard_shape(shape)
            if isinstance(value, tuple) and value == shape
            else value
            for name, value in equation.params.items()
        }
        parts: dict[Any, np.ndarray] = {}
        placed = []
        shards = [_shards(operand) for operand in operands]
        indices = sharding.addressable_devices_indices_map(shape)
        for device, index in indices.items():
            key = str(index)  # Several devices may have the same part.
            if key not in parts:
                own = [
                    value if of is None else of[device]
                    for value, of in zip(operands, shards, strict=True)
                ]
                value = self._shortcut(equation.primitive.name, parameters, own)
                if value is None:
                    return None
                parts[key] = value
            placed.append(parts[key])
        return jax.make_array_from_single_device_arrays(
            shape, sharding, jax.device_put(placed, list(indices))
        )


def _shards(operand: Any) -> dict[jax.Device, jax.Array] | None:
    """What each device has of an array; a number is the same on all."""
    if not np.ndim(operand):
        return None
    return {s.device: s.data for s in operand.addressable_shards}


def _before(equation: Any, shardings: Any) -> list[NamedSharding | None]:
    """Where the operands are to be."""
    (first, *others) = shardings
    return [
        None
        if others or isinstance(variable, Literal)
        else sharding_plan.sharding_before(equation, variable, first)
        for variable in equation.invars
    ]


def _specs(equation: Any, shardings: Any) -> list[Any]:
    """What the operands are, without values."""
    return [
        variable.val
        if isinstance(variable, Literal)
        else jax.ShapeDtypeStruct(
            variable.aval.shape,
            variable.aval.dtype,
            sharding=sharding,
            weak_type=variable.aval.weak_type,
        )
        for variable, sharding in zip(
            equation.invars, _before(equation, shardings), strict=True
        )
    ]


def _takes_long(equation: Any) -> bool:
    """Whether an equation is a program of several operations."""
    name, parameters = equation.primitive.name, equation.params
    return (
        name == "random_bits" or bool(sharding_plan.programs(parameters))
    ) and jax_compat.called_operation(name, parameters) is None


def _are_near(shardings: Sequence[NamedSharding | None]) -> bool:
    """Whether all is in the memory that this process computes in."""
    return jax.process_count() == 1 and all(
        sharding is not None
        and all(device.platform == "cpu" for device in sharding.device_set)
        for sharding in shardings
    )


@dataclasses.dataclass(frozen=True)
class _Work:
    """Equations that do the same are equal, in whatever program they are."""

    key: Any
    shardings: tuple[NamedSharding | None, ...]
    equation: Any = dataclasses.field(compare=False)


# Those of the last layers: the next one may be like them.
_programs: dict[_Work, Any] = {}
_MOST = 512


def _work(equation: Any, shardings: Any) -> _Work:
    return _Work(jax_compat.equation_key(equation), shardings, equation)


def _compiled(equation: Any, shardings: Any) -> Any:
    """The jitted function of an equation's operands."""
    work = _work(equation, shardings)
    program = _programs.get(work)
    if program is None:
        # Copies: other threads may build layers meanwhile.
        for old in list(_programs)[: max(0, len(_programs) - _MOST + 1)]:
            _programs.pop(old, None)
        program = _programs.setdefault(work, _jitted(work))
    return program


def _jitted(work: _Work) -> Any:
    def located_run(*operands: Any) -> list[Any]:
        return jax_compat.run_equation(
            work.equation,
            *(
                partitioning.located(x) if isinstance(x, jax.Array) else x
                for x in operands
            ),
        )

    return jax.jit(located_run, out_shardings=list(work.shardings))
