"""The one place that knows what JAX does not promise.

Each test holds JAX to one thing that has no promise of stability, so that a
version without it fails here, by name.
"""

import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.extend.core import Primitive
from jax.interpreters import mlir
from jax.sharding import Mesh, PartitionSpec

from flaxlayer import jax_compat
from flaxlayer.weights import sharding_plan


@pytest.fixture
def probe():
    """An identity that keeps what is known when it is lowered."""
    primitive = Primitive("flaxlayer_test_probe")
    primitive.def_abstract_eval(lambda x: x)
    primitive.seen = []

    def lower(ctx, x):
        primitive.seen.append(
            (
                jax_compat.lowering_for_export(ctx),
                jax_compat.lowering_num_partitions(ctx),
            )
        )
        return [x]

    mlir.register_lowering(primitive, lower)
    return primitive


X = np.zeros((4, 2), np.float32)


def test_jit_is_one_partition_and_no_export(probe):
    jax.jit(probe.bind).lower(X)
    assert probe.seen == [(False, 1)]


def test_export_is_an_export(probe):
    export.export(jax.jit(probe.bind))(X)
    assert [for_export for for_export, _ in probe.seen] == [True]


def test_manual_axes_are_not_partitioned(probe):
    mesh = Mesh(np.array(jax.devices()[:1]), ("batch",))
    try:
        from jax import shard_map
    except ImportError:  # JAX before 0.7
        from jax.experimental.shard_map import shard_map
    spec = PartitionSpec("batch")
    jax.jit(
        shard_map(probe.bind, mesh=mesh, in_specs=spec, out_specs=spec)
    ).lower(X)
    assert probe.seen == [(False, 1)]


class Context:
    """Stands in for a lowering context of a JAX without these attributes."""

    def __init__(self, **attributes):
        self.module_context = type("ModuleContext", (), attributes)()


class Axes:
    def __init__(self, **attributes):
        vars(self).update(attributes)


def test_an_unknown_context_counts_as_export():
    assert jax_compat.lowering_for_export(Context())
    assert jax_compat.lowering_for_export(Context(lowering_parameters=None))


def test_an_unknown_context_has_no_number_of_partitions():
    assert jax_compat.lowering_num_partitions(Context()) is None
    context = Context(axis_context=Axes(mesh=None))
    assert jax_compat.lowering_num_partitions(context) is None


@pytest.mark.parametrize(
    ("manual", "expected"),
    [((), 8), (("data",), 2), (("model",), 4), (("data", "model"), 1)],
)
def test_only_manual_axes_are_left_out(manual, expected):
    mesh = Axes(shape={"data": 4, "model": 2})
    axes = Axes(mesh=mesh, manual_axes=frozenset(manual))
    context = Context(axis_context=axes)
    assert jax_compat.lowering_num_partitions(context) == expected


def test_a_primitive_that_asks_for_it_has_its_mesh_named():
    named = []

    def probing(primitive):
        primitive.def_abstract_eval(lambda x: x)

        def lower(ctx, x):
            named.append(jax_compat.lowering_names_mesh(ctx))
            return [x]

        mlir.register_lowering(primitive, lower)
        return primitive

    asks = probing(Primitive("flaxlayer_test_asks"))
    jax_compat.lower_with_devices(asks)
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("data",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    x = jax.device_put(X, sharding)
    jax.jit(asks.bind).lower(x)
    # The others are told how many devices there are, and no more.
    jax.jit(probing(Primitive("flaxlayer_test_asks_not")).bind).lower(x)
    assert named == [True, False]


def test_an_unknown_context_names_no_mesh():
    assert not jax_compat.lowering_names_mesh(Context())
    context = Context(axis_context=Axes(device_assignment=(0, 1)))
    assert not jax_compat.lowering_names_mesh(context)


def test_result_avals():
    avals = []
    primitive = Primitive("flaxlayer_test_results")
    primitive.multiple_results = True

    @primitive.def_abstract_eval
    def abstract_eval(x):
        avals.append(
            jax_compat.result_avals(lambda x: [jnp.sum(x, axis=1), x[0] > 0], x)
        )
        return avals[-1]

    results = jax.eval_shape(primitive.bind, X)
    assert [(result.shape, result.dtype) for result in results] == [
        ((4,), np.float32),
        ((2,), np.bool_),
    ]
    assert len(avals) == 1


def test_the_result_aval_of_a_function_of_one_array():
    (aval,) = jax_compat.result_avals(
        functools.partial(jnp.sum, axis=1), jax.core.ShapedArray((4, 2), "int8")
    )
    assert (aval.shape, aval.dtype) == ((4,), np.int32)


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_the_implementation_of_a_key_is_found(impl):
    key = jax.random.key(0, impl=impl)
    spec = jax.ShapeDtypeStruct(key.shape, key.dtype)
    traced = []
    jax.eval_shape(lambda k: traced.append(jax_compat.key_impl(k)), key)
    for found in (jax_compat.key_impl(key), jax_compat.key_impl(spec), *traced):
        again = jax.random.wrap_key_data(jax.random.key_data(key), impl=found)
        assert again.dtype == key.dtype


@pytest.mark.parametrize(
    "value",
    [
        jax.random.PRNGKey(0),
        X,
        3,
        None,
        "key",
        jax.ShapeDtypeStruct((), "int8"),
    ],
)
def test_what_is_no_typed_key_has_no_implementation(value):
    assert jax_compat.key_impl(value) is None


def test_the_default_implementation_is_the_one_keys_are_made_with():
    assert jax_compat.default_prng_impl() == "threefry2x32"
    with jax.default_prng_impl("rbg"):
        assert jax_compat.default_prng_impl() == "rbg"


def test_staging_is_told_from_running():
    seen = {}

    def note(name):
        def function(x):
            seen[name] = jax_compat.is_staged({"x": x, "n": 3})
            return x

        return function

    note("eager")(1.0)
    jax.grad(note("grad"))(1.0)
    jax.vmap(note("vmap"))(X)
    jax.jit(note("jit"))(1.0)
    jax.jit(jax.grad(note("jit of grad")))(1.0)
    jax.eval_shape(note("eval_shape"), X)
    jax.make_jaxpr(note("make_jaxpr"))(X)
    assert seen == {
        "eager": False,
        "grad": False,
        "vmap": False,
        "jit": True,
        "jit of grad": True,
        "eval_shape": True,
        "make_jaxpr": True,
    }


def test_constants_of_a_trace_are_not_staged():
    jax.jit(lambda x: x if not jax_compat.is_staged([X]) else 1 / 0)(1.0)


def test_nothing_is_staged_without_jit():
    with jax.disable_jit():
        assert jax.jit(lambda x: jax_compat.is_staged([x]))(1.0) is False


def test_a_symbolic_dimension_is_at_least_what_is_said():
    size = jax_compat.symbolic_dimension("n", at_least=2)
    spec = jax.ShapeDtypeStruct((size, 3), np.float32)
    doubled = jax.eval_shape(lambda x: jnp.concatenate([x, x]), spec)
    assert doubled.shape[0] == 2 * size
    assert size >= 2


def as_it_is(equation, operands):
    return jax_compat.run_equation(equation, *operands)


def called(jaxpr):
    """For each equation, how many are in what it calls."""
    return [
        len(e.params["jaxpr"].jaxpr.eqns) if "jaxpr" in e.params else None
        for e in jaxpr.jaxpr.eqns
    ]


def test_an_element_is_rounded_alike_in_an_array_and_in_a_part_of_it():
    if not jax_compat.rounds_alike_in_parts():
        pytest.skip("known not to be so in this version")
    x = np.random.default_rng(0).uniform(-1, 1, 4099).astype(np.float32)
    function = jax.jit(lambda x: jax.lax.erf_inv(jnp.log1p(x * 0.5)) * 3 + x)
    whole = np.asarray(function(x))
    for size in range(1, 40):
        part = function(x[:size])
        np.testing.assert_array_equal(part, whole[:size])


@pytest.mark.parametrize("columns", [2, 3, 5, 8, 9, 10, 17])
def test_an_element_is_rounded_alike_in_rows(columns):
    is_short = columns <= sharding_plan.MOST_OF_SHORT_ROW
    if not jax_compat.rounds_alike_in_parts():
        pytest.skip("known not to be so in this version")
    if is_short and not jax_compat.rounds_alike_in_short_rows():
        pytest.skip("known not to be so in this version")
    key = jax.random.key(3)
    for sampler in (jax.random.normal, jax.random.exponential):
        flat = jax.jit(lambda key, draw=sampler: draw(key, (4096,)))(key)
        for rows in (2, 4, 64):
            shape = (rows, columns)
            found = jax.jit(lambda key, draw=sampler, of=shape: draw(key, of))
            np.testing.assert_array_equal(
                np.ravel(found(key)), flat[: rows * columns], str(shape)
            )


def test_calls_are_traced_as_one_equation_each():
    @functools.partial(jax.jit, inline=True)
    def inlined(x):
        return jnp.sin(x) * 2

    def function(x):
        return jnp.exp(jax.lax.neg(inlined(x)))

    # Up to some version JAX itself inlines: four equations without calls.
    assert called(jax_compat.trace_of_calls(function, X)) == [2, None, 1]


def test_calls_are_traced_as_one_equation_below_transformations():
    def function(x):
        return jax.vmap(lambda row: row / (1 + row.sum()))(x)

    jaxpr = jax_compat.trace_of_calls(function, X)
    assert None not in called(jaxpr)
    (result,) = jax_compat.eval_by_equation(jaxpr, [X], as_it_is)
    np.testing.assert_array_equal(result, function(X))


def test_functions_with_derivatives_of_their_own_are_traced_as_they_are():
    @jax.custom_jvp
    def first(x):
        return x / 3 + 1

    @jax.custom_vjp
    def second(x):
        return x / 7 - 1

    first.defjvp(lambda primals, tangents: (first(*primals), tangents[0]))
    second.defvjp(lambda x: (second(x), None), lambda _, g: (g,))
    jaxpr = jax_compat.trace_of_calls(lambda x: second(first(x)), X)
    assert len(called(jaxpr)) == 4
    assert "custom" not in str(jaxpr)


def test_integers_have_values_while_calls_are_traced():
    seen = []

    def function(x):
        seen.append(int(jnp.int32(2) + 1))
        assert isinstance(x.sum(), jax.core.Tracer)
        return x ** jnp.int32(3)

    jaxpr = jax_compat.trace_of_calls(function, X)
    assert seen == [3]
    assert "integer_pow" in str(jaxpr)


def test_integers_are_converted_while_calls_are_traced():
    def converted():
        return [
            jnp.uint32(2**32 - 1),
            jnp.int32(-1).astype(jnp.uint32),
            jnp.int32(300).astype(jnp.int8),
            jnp.int32(7).astype(jnp.bfloat16),
            jnp.bool_(True).astype(jnp.int32),
        ]

    seen = []
    jax_compat.trace_of_calls(lambda: seen.extend(converted()) or 0)
    for value, expected in zip(seen, converted(), strict=True):
        assert value.dtype == expected.dtype
        if jnp.issubdtype(value.dtype, jnp.integer):
            assert int(value) == int(expected)


def test_nothing_is_called_while_calls_are_traced():
    ran = []

    def note(n):
        ran.append(n)
        return np.int32(0)

    @jax.jit
    def printed(n):
        jax.debug.callback(note, n)
        return n + 1

    def function(x):
        printed(jnp.int32(1))
        jax.pure_callback(note, jax.ShapeDtypeStruct((), np.int32), 1)
        return x

    jax_compat.trace_of_calls(function, X)
    jax.effects_barrier()
    assert ran == []


def test_calls_are_traced_on_symbolic_shapes():
    size = jax_compat.symbolic_dimension("n", at_least=2)
    spec = jax.ShapeDtypeStruct((size, 3), np.float32)

    def function(x):
        return x / 2 + jnp.arange(x.shape[0])[:, None], x.shape[0] * 1.0

    jaxpr = jax_compat.trace_of_calls(function, spec)
    assert [str(aval.shape) for aval in jaxpr.out_avals] == ["(n, 3)", "()"]


def test_calls_that_take_no_inputs_are_kept_or_dropped_as_a_whole():
    @jax.jit
    def pair(x):
        return jnp.sin(x), jnp.cos(x)

    def function(key, given):
        return pair(key)[0], pair(given)[1], pair(key + 1)[0] * 0 + key

    jaxpr = jax_compat.trace_of_calls(function, X, X)
    reduced, used = jax_compat.without_dead_code(jaxpr, [False, True])
    assert used == [True, True]
    whole, part = [n for n in called(reduced) if n is not None][:2]
    assert (whole, part) == (2, 1)
    results = jax_compat.eval_by_equation(reduced, [X, X + 1], as_it_is)
    for result, expected in zip(results, function(X, X + 1), strict=True):
        np.testing.assert_array_equal(result, expected)


def test_no_result_shares_its_memory():
    constant = jnp.arange(3.0)
    argument = jnp.ones(3)

    def function(x):
        y = x + 1
        same = jax.jit(lambda x: x)
        return constant, x, y, y, 2.0, jnp.asarray(constant), same(y), same(x)

    jaxpr = jax_compat.trace_of_calls(function, argument)
    results = jax_compat.eval_by_equation(jaxpr, [argument], as_it_is)
    pointers = {x.unsafe_buffer_pointer() for x in results}
    assert len(pointers) == len(results)
    assert not pointers & {
        x.unsafe_buffer_pointer() for x in (constant, argument)
    }


def test_what_nobody_uses_any_more_is_let_go():
    size = 12345

    def function(x):
        kept = jnp.sin(x)
        return kept, jnp.exp(jnp.cos(jnp.sin(kept) + 1)) * 3

    def evaluate(equation, operands):
        results = as_it_is(equation, operands)
        arrays = jax.live_arrays()
        alive.append(sum(array.shape == (size,) for array in arrays))
        return results

    alive = []
    x = np.zeros(size, np.float32)
    jaxpr = jax.make_jaxpr(function)(x)
    results = jax_compat.eval_by_equation(jaxpr, [x], evaluate)
    assert len(alive) == len(jaxpr.jaxpr.eqns)
    assert max(alive) == 3  # What is kept, an operand and a result.
    for result, expected in zip(results, jax.jit(function)(x), strict=True):
        np.testing.assert_allclose(result, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: x * 2, ("mul", [(0, np.float32), (1, np.float32)])),
        (lambda x: 2 - x, ("sub", [(0, np.float32), (1, np.float32)])),
        (jax.jit(lambda x: jax.lax.neg(x)), ("neg", [(0, np.float32)])),
        (jax.jit(lambda x: jax.lax.neg(jnp.sin(x))), None),
        (jax.jit(lambda x: (jnp.sin(x), x)), None),
        (jax.jit(lambda x: jax.lax.add(x, np.float32(1))), None),
        (jax.jit(lambda x: x.astype(jnp.float16) * jnp.ones(2)), None),
        (jax.lax.neg, None),
    ],
)
def test_the_one_operation_of_a_call(function, expected):
    equation = jax_compat.trace_of_calls(function, X).jaxpr.eqns[-1]
    found = jax_compat.called_operation(
        equation.primitive.name, equation.params
    )
    assert found == expected


def test_dead_code_is_dropped_and_the_rest_computes_the_same():
    def function(a, b):
        unused = jnp.sin(b) @ jnp.cos(b).T  # noqa: F841
        return 2 * a, a + 1

    jaxpr = jax.make_jaxpr(function)(X, X)
    reduced, used = jax_compat.without_dead_code(jaxpr, [True, True])
    assert used == [True, False]
    names = [equation.primitive.name for equation in reduced.jaxpr.eqns]
    assert "dot_general" in str(jaxpr)
    assert "dot_general" not in names
    doubled, plus_one = jax_compat.eval_by_equation(
        reduced, [X, None], as_it_is
    )
    np.testing.assert_array_equal(doubled, 2 * X)
    np.testing.assert_array_equal(plus_one, X + 1)


def test_a_program_is_evaluated_equation_by_equation():
    # As a whole, XLA may contract a product and a sum, and round once.
    def function(x, y):
        return x * y + x

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 4096)).astype(np.float32)
    jaxpr = jax.make_jaxpr(function)(x, y)
    (result,) = jax_compat.eval_by_equation(jaxpr, [x, y], as_it_is)
    np.testing.assert_array_equal(result, function(x, y))  # NumPy rounds twice.


def test_an_evaluation_may_be_watched():
    jaxpr = jax.make_jaxpr(lambda x: jnp.sin(x) + 1)(X)
    seen = []

    def watched(equations):
        for equation in equations:
            yield equation
            seen.append(equation.primitive.name)

    (result,) = jax_compat.eval_by_equation(jaxpr, [X], as_it_is, watched)
    np.testing.assert_array_equal(result, jnp.sin(X) + 1)
    assert seen == ["sin", "add"]


def test_an_equation_may_be_replaced():
    def function(x):
        pair = jax.lax.cond(
            x[0, 0] >= 0, lambda x: (x + 1, x), lambda x: (-x, x), x
        )
        return jnp.sin(pair[0]), jax.jit(jnp.sum)(pair[1]), 3.0

    asked = []

    def evaluate(equation, operands):
        asked.append(equation.primitive.name)
        if asked[-1] == "sin":
            return [operands[0] * 100]
        return as_it_is(equation, operands)

    jaxpr = jax.make_jaxpr(function)(X)
    results = jax_compat.eval_by_equation(jaxpr, [X], evaluate)
    expected = jax.jit(function)(X)
    np.testing.assert_array_equal(results[0], (X + 1) * 100)
    np.testing.assert_allclose(results[1], expected[1], rtol=1e-6)
    assert float(results[2]) == 3.0
    assert {"cond", "sin"} <= set(asked)


def test_one_process_has_no_coordination_client():
    assert jax_compat.coordination_client() is None
    # That of several is tested where there are several.
    distributed = importlib.import_module("jax._src.distributed")
    assert distributed.global_state.client is None


def test_programs_are_written_in_a_calling_convention_that_is_asked_for():
    oldest = export.minimum_supported_calling_convention_version
    exporting = export.export(jax.jit(jnp.sin))
    usual = exporting(X).calling_convention_version
    with jax_compat.calling_convention(oldest):
        assert exporting(X).calling_convention_version == oldest
    with jax_compat.calling_convention(None):
        assert exporting(X).calling_convention_version == usual
    assert exporting(X).calling_convention_version == usual
