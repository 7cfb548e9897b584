"""NNX modules as Keras layers: what they are made of, and what calls do."""

import concurrent.futures
import functools
import warnings

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import keras
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax import nnx

import flaxlayer
from flaxlayer import FlaxLayer
from tests.python.nnx.nnx_networks import (
    Language,
    Network,
    assert_same,
    data,
)

IMAGES = np.random.RandomState(0).randn(4, 8, 8, 1).astype("float32")
VECTORS = np.random.RandomState(1).randn(5, 6).astype("float32")


class Sower(nnx.Module):
    def __init__(self, rngs):
        self.linear = nnx.Linear(6, 3, rngs=rngs)

    def __call__(self, x):
        x = self.linear(x)
        with warnings.catch_warnings():  # Newer versions have `capture`.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.sow(nnx.Intermediate, "hidden", x)
            self.sow("losses", "penalty", jnp.sum(x**2))
            self.sow("metrics", "mean", jnp.mean(x))
        return x


def paths(layer):
    return [v.path.split("/", 1)[1] for v in layer.weights]


# Two ways in.


def test_an_instance_gives_its_variables_and_stays_as_it_is():
    module = Network(rngs=nnx.Rngs(3))
    before = data(module)
    layer = FlaxLayer(module)
    layer(IMAGES, training=True)
    assert_same(data(module), before)
    trained = data(layer.merged())
    assert_same(
        {n: x for n, x in trained.items() if n.startswith("conv")},
        {n: x for n, x in before.items() if n.startswith("conv")},
    )
    assert trained["norm/mean"].any()
    assert not before["norm/mean"].any()


@pytest.mark.parametrize(
    "make",
    [
        Network,
        functools.partial(Network, 8, classes=3),
        functools.partial(functools.partial(Network, 8), classes=3),
    ],
    ids=["class", "partial", "partial of a partial"],
)
@pytest.mark.parametrize("kernels", ["native", "reference"])
def test_a_class_is_made_when_the_layer_is_built(make, kernels, native_kernels):
    layer = FlaxLayer(make, seed=7, kernels=kernels)
    assert not layer.weights
    layer.build((None, 8, 8, 1))
    stock = Network(rngs=nnx.Rngs(7))
    assert_same(data(layer.merged()), data(stock))
    keys, expected = (
        [x.dtype for x in jax.tree.leaves(nnx.state(m, nnx.RngKey))]
        for m in (layer.merged(), stock)
    )
    assert keys
    assert keys == expected


def test_a_module_without_randomness_needs_no_rngs():
    class Scale(nnx.Module):
        def __init__(self):
            self.factor = nnx.Param(jnp.full((), 3.0))

        def __call__(self, x):
            return x * self.factor[...]

    assert np.array_equal(FlaxLayer(Scale)(VECTORS), VECTORS * 3)


@pytest.mark.parametrize(
    "make",
    [
        functools.partial(nnx.Linear, 6, 3, rngs=nnx.Rngs(9)),
        functools.partial(functools.partial(Sower, nnx.Rngs(9))),
    ],
    ids=["by name", "by position"],
)
def test_a_partial_leaves_its_rngs_to_the_layer(make):
    with pytest.raises(ValueError, match="'probe': `module` has `rngs`.*seed"):
        FlaxLayer(make, name="probe")


def test_the_seed_of_keras_makes_the_weights_of_a_layer_without_one():
    made = []
    for _ in range(2):
        keras.utils.set_random_seed(4)
        layer = FlaxLayer(Network)
        layer(IMAGES)
        made.append(data(layer.merged()))
    assert_same(*made)


def test_an_unbuilt_layer_knows_its_outputs_and_builds_in_a_model():
    layer = FlaxLayer(Network, seed=0)
    spec = layer.compute_output_spec(keras.KerasTensor((None, 8, 8, 1)))
    assert spec.shape == (None, 3)
    assert not layer.built
    model = keras.Sequential([layer])
    assert model(IMAGES).shape == (4, 3)


# Variables.


def test_paths_are_those_of_nnx_and_numbers_in_their_order():
    class Deep(nnx.Module):
        def __init__(self, rngs):
            self.layers = nnx.List(
                [nnx.Linear(6, 6, rngs=rngs) for _ in range(11)]
            )

        def __call__(self, x):
            for layer in self.layers:
                x = layer(x)
            return x

    layer = FlaxLayer(Deep, seed=0)
    layer(VECTORS)
    found = [p for p in paths(layer) if p.endswith("kernel")]
    assert found == [f"params/layers/{i}/kernel" for i in range(11)]


def test_collections_are_those_of_the_types_of_variables():
    class Own(nnx.Variable):
        pass

    class Scale(nnx.Param):
        pass

    class Mixed(nnx.Module):
        def __init__(self, rngs):
            self.linear = nnx.Linear(6, 3, rngs=rngs)
            self.own = Own(jnp.zeros(()))
            self.scale = Scale(jnp.ones(()))
            self.cache = nnx.Cache(jnp.zeros(()))
            self.bare = jnp.ones(2)
            self.rngs = rngs

        def __call__(self, x):
            return self.linear(x)

    layer = FlaxLayer(Mixed, seed=0)
    layer(VECTORS)
    assert paths(layer) == [
        "params/linear/bias",
        "params/linear/kernel",
        "params/scale",
        "arrays/bare",
        "cache/cache",
        "own/own",
        "rng/rngs/default/count",
        "rng/rngs/default/key",
    ]
    assert len(layer.trainable_weights) == 3


def test_what_an_earlier_call_has_sown_is_no_weight():
    module = Sower(nnx.Rngs(0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        module.sow(nnx.Intermediate, "above", jnp.ones(3))
    layer = FlaxLayer(module)
    assert layer(VECTORS).shape == (5, 3)
    assert paths(layer) == ["params/linear/bias", "params/linear/kernel"]
    layer.set_layer_variables(nnx.state(module))
    assert module.above is not None


def test_tied_weights_and_shared_modules_are_one_variable():
    class Tied(nnx.Module):
        def __init__(self, rngs):
            self.first = nnx.Linear(6, 6, rngs=rngs)
            self.second = self.first
            self.third = nnx.Linear(6, 6, rngs=rngs)
            self.third.kernel = self.first.kernel

        def __call__(self, x):
            return self.third(self.second(self.first(x)))

    layer = FlaxLayer(Tied, seed=0)
    layer(VECTORS)
    assert paths(layer) == [
        "params/first/bias",
        "params/first/kernel",
        "params/third/bias",
    ]
    merged = layer.merged()
    assert merged.first is merged.second
    assert merged.third.kernel is merged.first.kernel


class Adapted(nnx.Module):
    def __init__(self, rngs):
        self.base = nnx.Linear(6, 6, rngs=rngs)
        self.adapter = nnx.LoRA(6, 2, 6, rngs=rngs)

    def __call__(self, x):
        return self.base(x) + self.adapter(x)


@pytest.mark.parametrize(
    "partition",
    [
        {nnx.LoRAParam: "trainable", nnx.Param: "frozen"},
        {nnx.PathContains("adapter"): "trainable", nnx.Param: "frozen"},
        {"base": "frozen"},
        {"adapter/.*": "trainable", r".*": "frozen"},
    ],
    ids=["types", "paths", "regular expression", "two of them"],
)
def test_filters_and_patterns_say_what_is_trained(partition):
    layer = FlaxLayer(Adapted, seed=0, partition=partition)
    layer(VECTORS)
    trained = [v.path for v in layer.trainable_weights]
    assert trained
    assert all("adapter" in path for path in trained)
    model = keras.Sequential([layer])
    model.compile("adam", "mse")
    before = data(layer.merged())
    model.train_on_batch(VECTORS, VECTORS + 1)
    after = data(layer.merged())
    assert before["base/kernel"].tobytes() == after["base/kernel"].tobytes()
    assert before["adapter/lora_b"].tobytes() != (
        after["adapter/lora_b"].tobytes()
    )
    # Of what is trained, and of nothing else, Adam has moments.
    slots = [v for v in model.optimizer.variables if len(v.shape) == 2]
    assert len(slots) == 4


@pytest.mark.parametrize(
    ("partition", "error", "problem"),
    [
        ({"heads/.*": "frozen"}, ValueError, "'heads/.*'.*decides of no"),
        ({nnx.Cache: "frozen"}, ValueError, "Cache.*decides of no"),
        ({"base": "fixed"}, ValueError, "'fixed'"),
        ({3.5: "frozen"}, TypeError, "filters of NNX"),
        (["base"], TypeError, "must be a mapping"),
        ({"(": "frozen"}, ValueError, "regular expression"),
    ],
)
def test_a_partition_that_means_nothing_is_refused(partition, error, problem):
    with pytest.raises(error, match=f"(?s)'probe'.*{problem}"):
        FlaxLayer(Adapted, partition=partition, name="probe")(VECTORS)


def test_axis_names_are_those_of_the_metadata():
    class Partitioned(nnx.Module):
        def __init__(self, rngs):
            init = nnx.with_partitioning(
                nnx.initializers.lecun_normal(), (None, "model")
            )
            self.linear = nnx.Linear(6, 4, kernel_init=init, rngs=rngs)

        def __call__(self, x):
            return self.linear(x)

    layer = FlaxLayer(Partitioned, seed=0)
    layer(VECTORS)
    assert layer.axis_names == {"params/linear/kernel": (None, "model")}


# What calls leave.


def test_what_is_sown_is_a_loss_a_metric_or_dropped():
    layer = FlaxLayer(Sower, seed=0)
    outputs = layer(VECTORS)
    assert paths(layer) == ["params/linear/bias", "params/linear/kernel"]
    (loss,) = layer.losses
    assert np.allclose(loss, np.sum(np.square(outputs)), rtol=1e-5)
    model = keras.Sequential([layer])
    model.compile("sgd", "mse")
    logs = model.fit(VECTORS, np.zeros((5, 3)), verbose=0).history
    assert any("mean" in name for name in logs)


def test_collections_may_be_returned_and_intermediates_read():
    layer = FlaxLayer(Sower, seed=0, collections={"metrics": "output"})
    outputs, returned = layer(VECTORS)
    assert np.allclose(returned["metrics"]["mean"][0], np.mean(outputs))
    plain = FlaxLayer(Sower, seed=0)
    plain(VECTORS)
    out, found = plain.apply_with_intermediates(VECTORS)
    assert np.array_equal(found["hidden"][0], out)


@pytest.mark.parametrize(
    ("collections", "problem"),
    [
        ({"batch_stats": "drop"}, "batch_stats.*module holds"),
        ({"batch_stat": "state"}, "no such collection.*batch_stats"),
        ({"params": "drop"}, "params.*partition"),
        ({"batch_stats": "keep"}, "'keep'"),
    ],
)
def test_policies_that_contradict_the_module_are_refused(collections, problem):
    with pytest.raises(ValueError, match=f"'probe': `collections.*{problem}"):
        FlaxLayer(Network, collections=collections, name="probe")(IMAGES)


def test_what_submodules_sow_is_at_their_paths():
    class Nested(nnx.Module):
        def __init__(self, rngs):
            self.parts = nnx.List([Sower(rngs)])

        def __call__(self, x):
            return self.parts[0](x)

    layer = FlaxLayer(Nested, seed=0, collections={"metrics": "output"})
    outputs, returned = layer(VECTORS)
    (mean,) = returned["metrics"]["parts"]["0"]["mean"]
    assert np.allclose(mean, np.mean(outputs))
    _, found = layer.apply_with_intermediates(VECTORS)
    assert found["parts"]["0"]["hidden"][0].shape == (5, 3)


def test_a_partial_that_does_not_fit_says_so_when_it_is_made():
    layer = FlaxLayer(functools.partial(Sower, 1, 2, 3), name="probe")
    with pytest.raises(TypeError, match="(?s)'probe'.*Sower.__init__"):
        layer(VECTORS)


def test_the_outputs_of_all_submodules_are_not_captured():
    layer = FlaxLayer(Sower, seed=0, name="probe")
    with pytest.raises(ValueError, match="'probe': `capture_all=True`.*sow"):
        layer.apply_with_intermediates(VECTORS, capture_all=True)


class Counting(nnx.Module):
    def __init__(self, rngs):
        self.linear = nnx.Linear(6, 3, rngs=rngs)
        self.calls = 0
        self.notes = {}
        self.sizes = [1, 2]

    def count(self, x):
        self.calls += 1
        return self.linear(x)

    def note(self, x):
        self.notes["last"] = 1
        return self.linear(x)

    def make(self, x):
        self.scale = nnx.Param(jnp.ones(3))
        return self.linear(x) * self.scale[...]

    def name(self, x):
        self.title = "new"
        return self.linear(x)

    def forget(self, x):
        del self.calls
        return self.linear(x)

    def exchange(self, x):
        self.sizes = [1, 3]
        return self.linear(x)

    def make_many(self, x):
        for i in range(10):
            setattr(self, f"p{i}", nnx.Param(jnp.ones(3)))
        return self.linear(x)

    def drop(self, x):
        y = self.linear(x)
        del self.linear.bias
        return y

    def grow(self, x):
        self.more = nnx.Linear(3, 3, rngs=nnx.Rngs(0))
        return self.more(self.linear(x))


@pytest.mark.parametrize(
    ("method", "problem"),
    [
        ("count", "changed `calls`"),
        ("note", "changed `notes`"),
        ("name", "changed `title`"),
        ("forget", "changed `calls`"),
        ("exchange", "changed `sizes`"),
        ("make", "made variables, `params/scale`: "),
        ("make_many", "made variables, .*`params/p7` and 2 more: "),
        ("drop", "taken `params/linear/bias` away"),
        ("grow", "made variables, .*`params/more/kernel`"),
    ],
)
def test_what_a_compiled_call_would_lose_is_refused(method, problem):
    layer = FlaxLayer(Counting, method, seed=0, name="probe")
    with pytest.raises(ValueError, match=f"(?s)'probe': a call has {problem}"):
        layer(VECTORS)


def test_a_variable_that_calls_change_is_state():
    class Counter(nnx.Module):
        def __init__(self):
            self.calls = nnx.Variable(jnp.zeros((), jnp.int32))

        def __call__(self, x):
            self.calls[...] += 1
            return x + 0 * self.calls[...]

    layer = FlaxLayer(Counter)
    for _ in range(3):
        layer(VECTORS)
    (variable,) = layer.weights
    assert int(variable.value) == 3


def test_a_bare_array_that_calls_change_is_state():
    class Counter(nnx.Module):
        def __init__(self):
            self.calls = jnp.zeros((), jnp.int32)

        def __call__(self, x):
            self.calls = self.calls + 1
            return x

    for module in (Counter, Counter()):
        layer = FlaxLayer(module)
        for _ in range(3):
            layer(VECTORS)
        assert [int(v.value) for v in layer.weights] == [3]


# Randomness and mode.


def test_dropout_draws_in_training_only_and_steps_its_counter():
    layer = FlaxLayer(Network, seed=0)
    layer(IMAGES)
    (count,) = [v for v in layer.weights if v.path.endswith("count")]
    start = int(count.value)
    assert np.array_equal(layer(IMAGES), layer(IMAGES))
    assert int(count.value) == start
    first, second = (
        np.array(layer(IMAGES, training=True), copy=True) for _ in range(2)
    )
    assert not np.array_equal(first, second)
    assert int(count.value) == start + 2


def test_native_words_are_in_the_program_and_the_same(native_kernels):
    outputs = []
    for kernels in ("native", "reference"):
        layer = FlaxLayer(Network, seed=0, kernels=kernels)
        layer(IMAGES)
        outputs.append(np.array(layer(IMAGES, training=True), copy=True))

        @jax.jit
        def program(x, layer=layer):
            return layer(x, training=True)

        text = program.lower(IMAGES).as_text()
        assert ("flaxlayer" in text) == (kernels == "native")
    assert outputs[0].tobytes() == outputs[1].tobytes()


def test_a_frozen_layer_keeps_its_statistics_and_counters():
    layer = FlaxLayer(Network, seed=0)
    layer(IMAGES)
    layer.trainable = False
    before = data(layer.merged())
    layer(IMAGES, training=True)
    assert_same(data(layer.merged()), before)


class Moded(nnx.Module):
    def __init__(self):
        self.deterministic = False

    def __call__(self, x, train: bool):
        return x + train

    def by_attribute(self, x):
        return x + (not self.deterministic)

    def several(self, x, shift, *, scale=1.0, times: int = 1):
        return (x + shift) * scale * times


def test_the_mode_is_the_argument_of_the_method():
    layer = FlaxLayer(Moded)
    assert np.array_equal(layer(VECTORS, training=True), VECTORS + 1)
    assert np.array_equal(layer(VECTORS), VECTORS)


def test_the_mode_is_set_on_submodules_unless_it_is_the_modules_own():
    layer = FlaxLayer(Moded, "by_attribute")
    assert np.array_equal(layer(VECTORS), VECTORS)
    own = FlaxLayer(Moded, "by_attribute", training_argument=None)
    assert np.array_equal(own(VECTORS), VECTORS + 1)


def test_a_named_mode_is_set_on_submodules_as_well():
    class Named(Moded):
        def __call__(self, x, learning):
            return x + learning + (not self.deterministic)

    layer = FlaxLayer(Named, training_argument="learning")
    assert np.array_equal(layer(VECTORS), VECTORS)
    assert np.allclose(layer(VECTORS, training=True), VECTORS + 2)


@pytest.mark.skipif(not hasattr(nnx, "view"), reason="of newer versions")
def test_a_module_with_a_view_of_its_own_is_put_into_its_mode():
    class Viewed(nnx.Module):
        def __init__(self):
            self.quiet = False

        def set_view(self, deterministic: bool | None = None):
            if deterministic is not None:
                self.quiet = deterministic

        def __call__(self, x):
            return x + (not self.quiet)

    layer = FlaxLayer(Viewed)
    assert np.array_equal(layer(VECTORS), VECTORS)
    assert np.array_equal(layer(VECTORS, training=True), VECTORS + 1)
    own = FlaxLayer(Viewed, training_argument=None)
    assert np.array_equal(own(VECTORS), VECTORS + 1)


def test_the_mask_of_the_inputs_reaches_the_method():
    class Mean(nnx.Module):
        def __init__(self, rngs):
            self.embed = nnx.Embed(9, 4, rngs=rngs)

        def __call__(self, x, mask=None):
            weights = jnp.ones(x.shape[:2]) if mask is None else mask
            return jnp.sum(x * weights[..., None], 1)

    tokens = keras.layers.Embedding(9, 4, mask_zero=True)
    layer = FlaxLayer(Mean, seed=0)
    short, long = np.array([[3, 4]]), np.array([[3, 4, 0, 0]])
    assert np.allclose(layer(tokens(short)), layer(tokens(long)))


def content(variable):
    """What is in a variable, in the word that its version of Flax has."""
    newer = hasattr(type(variable), "get_value")
    return variable.get_value() if newer else variable.value


def set_content(variable, value):
    if hasattr(type(variable), "set_value"):
        variable.set_value(value)
    else:
        variable.value = value


def test_variables_may_hold_trees_and_what_is_no_array():
    class Holder(nnx.Module):
        def __init__(self):
            self.note = nnx.Variable("text")
            self.nothing = nnx.Variable(None)
            self.pair = nnx.BatchStat((jnp.ones(2), jnp.zeros(3)))

        def __call__(self, x):
            first, second = content(self.pair)
            set_content(self.pair, (first + 1, second))
            return x

    for module in (Holder, Holder()):
        layer = FlaxLayer(module)
        layer(VECTORS)
        assert paths(layer) == ["batch_stats/pair/0", "batch_stats/pair/1"]
        assert np.array_equal(layer.weights[0].value, [2, 2])
        merged = layer.merged()
        assert content(merged.note) == "text"
        assert content(merged.nothing) is None


def test_a_method_has_several_inputs_and_static_keywords():
    layer = FlaxLayer(Moded, "several")
    outputs = layer(VECTORS, VECTORS, scale=np.float32(2), times=3)
    assert np.allclose(outputs, VECTORS * 12)
    same = FlaxLayer(Moded, Moded.several)
    assert np.array_equal(same(VECTORS, VECTORS, times=3), VECTORS * 6)


# Weights.


def test_policies_cast_parameters_and_leave_state():
    linear = FlaxLayer(
        functools.partial(nnx.Linear, 6, 3), seed=0, dtype="mixed_bfloat16"
    )
    assert linear(VECTORS).dtype == jnp.bfloat16
    layer = FlaxLayer(Network, seed=0, dtype="mixed_bfloat16")
    layer(IMAGES)
    assert {str(v.dtype) for v in layer.trainable_weights} == {"float32"}
    (mean,) = [v for v in layer.weights if v.path.endswith("mean")]
    assert str(mean.dtype) == "float32"


@pytest.mark.parametrize("form", ["state", "pure", "module"])
def test_weights_are_set_in_the_forms_that_nnx_has(form):
    module = Network(rngs=nnx.Rngs(11))
    layer = FlaxLayer(Network, seed=0)
    layer(IMAGES)
    given = {
        "state": lambda: nnx.state(module),
        "pure": lambda: nnx.to_pure_dict(nnx.state(module)),
        "module": lambda: module,
    }[form]()
    layer.set_layer_variables(copied_state(given))
    assert_same(data(layer.merged()), data(module))
    nnx.update(module, layer.get_layer_variables())
    assert_same(data(layer.merged()), data(module))


def copied_state(given):
    if isinstance(given, nnx.Module):
        return nnx.clone(given)
    return jax.tree.map(jnp.copy, given)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda s: s.pop("conv"), "missing: `conv/bias`, `conv/kernel`"),
        (lambda s: s.update(other=jnp.ones(3)), "unexpected: `other`"),
        (
            lambda s: s["head"].update(bias=jnp.ones(4)),
            "params/head/bias.*expected shape",
        ),
    ],
)
def test_other_weights_are_refused_and_nothing_assigned(change, problem):
    layer = FlaxLayer(Network, seed=0, name="probe")
    layer(IMAGES)
    before = data(layer.merged())
    state = nnx.to_pure_dict(nnx.state(Network(rngs=nnx.Rngs(1))))
    change(state)
    with pytest.raises(ValueError, match=f"'probe'.*{problem}"):
        layer.set_layer_variables(state)
    assert_same(data(layer.merged()), before)


def test_what_is_merged_is_not_the_layers_own():
    layer = FlaxLayer(Network, seed=0)
    layer(IMAGES)
    merged = layer.merged()
    model = keras.Sequential([layer])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy())
    model.fit(IMAGES, np.zeros(4), verbose=0)
    merged.eval()
    assert np.isfinite(merged(IMAGES)).all()  # No buffer of it was donated.


def test_a_linen_layer_and_an_unbuilt_one_are_not_merged():
    with pytest.raises(TypeError, match="'probe'.*one of Linen"):
        FlaxLayer(nn.Dense(3), name="probe").merged()
    with pytest.raises(ValueError, match="'probe' has no weights to merge"):
        FlaxLayer(Network, name="probe").merged()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"variables": {"conv": {}}}, "`variables`.*missing: `conv/bias`"),
        ({"variables": [1]}, "`variables`.*nnx.state.*list"),
        (
            {"variables": nnx.state(Network(4, rngs=nnx.Rngs(0)))},
            r"`variables`.*params/conv/kernel.*shape \(3, 3, 1, 8\)",
        ),
        ({"rngs": ("noise",)}, "`rngs`.*nnx.Rngs"),
        ({"collections": {"cache": "transient"}}, "'transient'.*state"),
    ],
)
def test_arguments_that_speak_of_linen_are_refused(options, problem):
    with pytest.raises(ValueError, match=f"'probe'.*{problem}"):
        FlaxLayer(Network, name="probe", **options)


# Saving.


@keras.saving.register_keras_serializable(package="tests")
def twice(module, x):
    return 2 * module(x)


@pytest.mark.parametrize("method", [None, "__call__", twice])
def test_a_class_is_saved_with_its_arguments(tmp_path, method):
    make = functools.partial(Language, width=8, heads=2, depth=1)
    layer = FlaxLayer(make, method, seed=3, partition={"blocks/0/up": "frozen"})
    tokens = np.arange(24, dtype="int32").reshape(2, 12) % 17
    model = keras.Sequential([keras.Input((12,), dtype="int32"), layer])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy())
    model.fit(tokens, tokens, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.layers[0].module.keywords == make.keywords
    assert_same(data(loaded.layers[0].merged()), data(model.layers[0].merged()))
    assert np.array_equal(
        loaded.predict(tokens, verbose=0), model.predict(tokens, verbose=0)
    )


def test_an_instance_is_saved_by_its_class_and_what_is_in_it(tmp_path):
    module = Network(16, rngs=nnx.Rngs(8))
    module.norm.mean[...] += 1.5
    layer = FlaxLayer(
        functools.partial(Network, 16), variables=nnx.state(module)
    )
    assert_same(data(layer.merged()), data(module))
    layer(IMAGES, training=True)
    model = keras.Sequential([layer])
    outputs = model.predict(IMAGES, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_same(data(loaded.layers[0].merged()), data(layer.merged()))
    assert np.array_equal(loaded.predict(IMAGES, verbose=0), outputs)


def test_an_instance_is_refused_with_the_way_out():
    layer = FlaxLayer(Network(rngs=nnx.Rngs(0)), name="probe")
    with pytest.raises(TypeError, match=r"'probe'.*functools.partial\(Network"):
        layer.get_config()


def test_a_filter_is_refused_where_it_would_have_to_be_saved():
    layer = FlaxLayer(
        Adapted, partition={nnx.LoRAParam: "trainable"}, name="probe"
    )
    with pytest.raises(TypeError, match="'probe': `partition`.*LoRAParam"):
        layer.get_config()


@pytest.mark.parametrize(
    "config",
    [
        {"type": "nnx_class", "class": "os:system"},
        {"type": "nnx_class", "class": "flax.linen:Dense"},
        {
            "type": "partial",
            "function": {"type": "function", "name": "jax.nn:relu"},
            "args": [],
            "keywords": {},
        },
    ],
)
def test_a_file_names_nothing_but_classes_of_nnx(config):
    good = FlaxLayer(Network, name="probe").get_config()
    with pytest.raises(ValueError, match="'probe': `module`"):
        FlaxLayer.from_config({**good, "module": config})


@pytest.mark.parametrize("suffix", [".weights.h5", ".msgpack", ".safetensors"])
def test_weights_of_an_instance_go_through_files(tmp_path, suffix):
    layer = FlaxLayer(Network(rngs=nnx.Rngs(0)))
    other = FlaxLayer(Network(rngs=nnx.Rngs(1)))
    path = tmp_path / f"weights{suffix}"
    if suffix == ".weights.h5":
        models = [keras.Sequential([x]) for x in (layer, other)]
        for model in models:
            model(IMAGES)
        models[0].save_weights(path)
        models[1].load_weights(path)
    else:
        flaxlayer.save_variables(layer, path)
        flaxlayer.load_variables(other, path)
    assert_same(data(other.merged()), data(layer.merged()))


def test_files_are_those_of_nnx_and_its_checkpoints_are_read(tmp_path):
    module = Language(rngs=nnx.Rngs(4))
    layer = FlaxLayer(Language(rngs=nnx.Rngs(5)))
    state = nnx.state(module)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", state)
        checkpointer.save(tmp_path / "pure", nnx.to_pure_dict(state))
    for name in ("state", "pure"):
        layer.set_layer_variables(nnx.state(Language(rngs=nnx.Rngs(5))))
        flaxlayer.load_variables(layer, tmp_path / name)
        assert_same(data(layer.merged()), data(module))
    flaxlayer.save_variables(layer, tmp_path / "ours")
    flaxlayer.save_variables(layer, tmp_path / "ours.msgpack")
    other = Language(rngs=nnx.Rngs(6))
    with ocp.StandardCheckpointer() as checkpointer:
        restored = checkpointer.restore(tmp_path / "ours", nnx.state(other))
    nnx.update(other, restored)
    assert_same(data(other), data(module))
    file = flax.serialization.msgpack_restore(
        (tmp_path / "ours.msgpack").read_bytes()
    )
    assert np.array_equal(
        file["embed"]["embedding"], module.embed.embedding[...]
    )


# In Keras.


def test_rematerialisation_and_time_distribution():
    with keras.RematScope("full"):
        layer = FlaxLayer(Network, seed=0)
        inside = np.array(layer(IMAGES, training=True), copy=True)
    plain = FlaxLayer(Network, seed=0)
    assert np.array_equal(inside, plain(IMAGES, training=True))
    steps = np.stack([IMAGES, IMAGES], 1)
    timed = keras.layers.TimeDistributed(FlaxLayer(Network, seed=0))
    assert timed(steps).shape == (4, 2, 3)


def test_threads_lose_no_step_of_a_stream():
    layer = FlaxLayer(Network, seed=0)
    layer(IMAGES, training=True)
    (count,) = [v for v in layer.weights if v.path.endswith("count")]
    start = int(count.value)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        outputs = list(
            pool.map(
                lambda _: np.array(layer(IMAGES, training=True), copy=True),
                range(24),
            )
        )
    assert int(count.value) == start + 24
    assert len({x.tobytes() for x in outputs}) == 24


def test_rules_and_tables_speak_of_the_paths_of_nnx():
    layer = FlaxLayer(
        Network, seed=0, regularizers={".*/kernel": "l2"}, name="net"
    )
    layer(IMAGES)
    assert len(layer.losses) == 2
    layer.freeze("conv/.*")
    frozen = [
        line.split()[0]
        for line in flaxlayer.tabulate(layer).splitlines()
        if " frozen " in line and "/" in line
    ]
    assert frozen == ["params/conv/bias", "params/conv/kernel"]


def test_rematerialised_modules_and_shared_ones_train():
    class Inner(nnx.Module):
        def __init__(self, rngs):
            self.linear = nnx.Linear(6, 6, rngs=rngs)
            self.drop = nnx.Dropout(0.5, rngs=rngs)

        def __call__(self, x):
            return nnx.tanh(self.drop(self.linear(x)))

    class Outer(nnx.Module):
        def __init__(self, rngs):
            self.inner = Inner(rngs)

        def __call__(self, x):
            step = nnx.remat(lambda inner, x: inner(x))
            return step(self.inner, step(self.inner, x))

        def plain(self, x):
            return self.inner(self.inner(x))

    losses = []
    for method in (None, "plain"):
        layer = FlaxLayer(Outer, method, seed=0, name="net")
        model = keras.Sequential([keras.Input((6,)), layer])
        model.compile("sgd", "mse")
        history = model.fit(
            VECTORS, VECTORS, epochs=3, shuffle=False, verbose=0
        )
        losses.append(history.history["loss"])
    assert losses[0] == losses[1]


def test_a_keras_model_is_called_inside_of_a_module():
    inner = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])

    class Around(nnx.Module):
        def __init__(self):
            self.weights = nnx.Dict(
                {
                    f"w{i}": nnx.Param(jnp.array(v.value))
                    for i, v in enumerate(inner.trainable_variables)
                }
            )

        def __call__(self, x):
            values = [p[...] for _, p in sorted(self.weights.items())]
            outputs, _ = inner.stateless_call(values, [], x)
            return outputs

    layer = FlaxLayer(Around)
    assert np.allclose(layer(VECTORS), inner(VECTORS), atol=1e-6)
    model = keras.Sequential([layer])
    model.compile("sgd", "mse")
    before = np.array(layer.weights[1].value, copy=True)
    model.train_on_batch(VECTORS, np.ones((5, 3)))
    assert not np.array_equal(layer.weights[1].value, before)


def test_a_summary_shows_the_modules_in_it(capsys):
    layer = FlaxLayer(Language, seed=0)
    model = keras.Sequential([keras.Input((12,), dtype="int32"), layer])
    assert [row.name for row in layer.layers][:4] == [
        "blocks",
        "blocks/0",
        "blocks/0/after",
        "blocks/0/attention",
    ]
    model.summary(expand_nested=True)
    (line,) = [
        each
        for each in capsys.readouterr().out.split("\n")
        if "blocks/1/down (Linear)" in each
    ]
    assert "?" in line
    assert "528" in line


@pytest.mark.parametrize("way", ["to linen", "to nnx"])
def test_bridges_of_flax_are_modules_as_they_come(way):
    if way == "to linen":
        module = nnx.bridge.to_linen(nnx.Linear, 6, 3)
    else:
        module = nnx.bridge.ToNNX(nn.Dense(3), rngs=nnx.Rngs(0))
        nnx.bridge.lazy_init(module, jnp.ones((1, 6)))
    layer = FlaxLayer(module, seed=0)
    assert layer(VECTORS).shape == (5, 3)
    assert [p for p in paths(layer) if p.startswith("params")] == [
        "params/bias",
        "params/kernel",
    ]
    model = keras.Sequential([layer])
    model.compile("sgd", "mse")
    before = np.array(layer.trainable_weights[1].value, copy=True)
    model.train_on_batch(VECTORS, np.ones((5, 3)))
    assert not np.array_equal(layer.trainable_weights[1].value, before)
