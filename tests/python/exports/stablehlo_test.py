"""Models as programs of JAX: what a server computes is what they compute."""

import pathlib
import re
import sys

import jax
import keras
import numpy as np
import pytest

import flaxlayer
from flaxlayer import serving
from flaxlayer.exports import endpoint, inputs, stablehlo
from tests.python.exports import exported_models as models


@pytest.fixture(scope="module")
def layers():
    """Also one that changes its seed."""
    return {**models.of_all_kinds(), "noisy": models.noisy()}


@pytest.fixture(scope="module")
def exported(layers, tmp_path_factory):
    """All of them in one export, with what the check has said of it."""
    path = tmp_path_factory.mktemp("exported") / "models"
    _, _, specs = models.decoder()
    report = flaxlayer.export(layers, path, inputs={"step": specs})
    return report, serving.load(path)


def same(received, expected):
    flat = jax.tree_util.tree_leaves_with_path
    for (path, a), (other, b) in zip(
        flat(received), flat(expected), strict=True
    ):
        assert path == other
        assert np.asarray(a).dtype == np.asarray(b).dtype
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_all_of_it_was_compared_with_no_difference(exported, layers):
    report, _ = exported
    assert {each.endpoint for each in report.compared} == set(layers)
    assert {each.difference for each in report.compared} == {0.0}
    assert {each.tolerance for each in report.compared} == {0.0}
    tokens = [e.sizes for e in report.compared if e.endpoint == "tokens"]
    assert len({sizes["batch"] for sizes in tokens}) == 3
    assert len({sizes["ids_1"] for sizes in tokens}) == 2
    assert report.platforms == ("cpu",)
    assert report.reader == f"JAX {jax.__version__} on cpu"
    assert re.search(r"tokens\(batch=1, ids_1=16\): differs by 0", str(report))


@pytest.mark.parametrize("batch", [1, 7])
def test_a_model_is_what_its_predict_is(exported, layers, batch):
    _, served = exported
    images, ids = models.data(batch, 8, 8, 1), np.arange(6 * batch) % 5
    ids = ids.reshape(batch, 6)
    both = {
        "second": models.data(batch, 9, 3),
        "first": models.data(batch, 9, 3, seed=1),
    }
    for name, x in (("images", images), ("tokens", ids), ("added", both)):
        expected = layers[name].predict(x, batch_size=batch, verbose=0)
        same(served.endpoints[name](x), expected)


def test_the_arguments_are_those_of_the_layer(exported, layers):
    _, served = exported
    a, b = models.data(3, 4), models.data(3, 3)
    expected = layers["pair"](a, b, scale=np.float32(2))
    same(served.endpoints["pair"](a, b, scale=2.0), expected)
    x, mask = models.data(2, 4, 3), np.array([[1, 1, 0, 0], [1, 1, 1, 0]], bool)
    expected = layers["masked"](x, mask=mask)
    same(served.endpoints["masked"](x, mask=mask), expected)
    # Or one after the other, in the model's order.
    first, second = models.data(2, 5, 3, seed=1), models.data(2, 5, 3)
    added = served.endpoints["added"]
    assert [a.name for a in added.inputs] == ["second", "first"]
    same(added(second, first), added({"first": first, "second": second}))


def test_the_sizes_that_are_not_known_have_names(exported):
    _, served = exported
    shown = repr(served)
    assert "masked(x: float32[batch, x_1, 3], mask: bool[batch, x_1])" in shown
    # It takes any batch, though it was built by one of two.
    assert "pair(a: float32[batch, 4], b: float32[batch, 3], scale: float" in (
        shown
    )
    # Its lengths are added, so they are one.
    assert "first: float32[batch, size_1, 3]" in shown
    # Keras casts what it is given.
    assert "bfloat16" not in shown.partition("pair(")[2].partition(" -> ")[0]


def test_random_numbers_go_on_as_those_of_the_layer_do(exported, layers):
    _, served = exported
    x = models.data(4, 3)
    before = layers["noisy"].seed_generator.state.value
    results = [np.asarray(served.endpoints["noisy"](x)) for _ in range(3)]
    same(layers["noisy"].seed_generator.state.value, before)
    assert not np.array_equal(results[0], results[1])
    for result in results:
        same(result, layers["noisy"](x))


def test_a_cache_goes_in_and_out_of_each_step(exported):
    _, served = exported
    layer, cache, _ = models.decoder()
    sequence, other = models.data(2, models.STEPS, 8), cache
    for i in range(models.STEPS):
        step = sequence[:, i : i + 1]
        expected, new = layer(step, cache=cache)
        received, also = served.endpoints["step"](step, cache=other)
        cache, other = new["cache"], also["cache"]
        same(received, expected)
        same(other, cache)


def test_methods_of_one_trained_module_share_its_weights(exported):
    _, served = exported
    ends = served.signature.endpoints
    assert set(ends["encode"].weights) | set(ends["decode"].weights) == set(
        ends["whole"].weights
    )
    x = models.data(3, 4)
    code = served.endpoints["encode"](x)
    same(served.endpoints["decode"](code), served.endpoints["whole"](x))


def test_a_model_that_was_built_by_a_batch_takes_any(tmp_path):
    model = keras.Sequential([keras.layers.Dense(2)])
    model(models.data(5, 3))
    flaxlayer.export(model, tmp_path / "m", check=False)
    (spec,) = serving.load(tmp_path / "m").endpoints["serve"].inputs
    assert spec.shape == ("batch", 3)


def test_weights_that_only_look_alike_are_not_shared(tmp_path):
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(3), keras.layers.Dense(3)]
    )
    flaxlayer.export(model, tmp_path / "m", check=False)
    # Both biases are zeros.
    assert len(serving.load(tmp_path / "m").signature.weights) == 4
    other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)])
    ends = {"one": model, "other": other}
    flaxlayer.export(ends, tmp_path / "n", check=False)
    # They are at one place in their models, and so are other kernels.
    assert len(serving.load(tmp_path / "n").signature.weights) == 6


def test_models_that_share_some_layers_keep_the_others(tmp_path):
    shared = keras.layers.Dense(3)
    ends = {}
    for name in ("one", "other"):
        x = keras.Input((3,))
        ends[name] = keras.Model(x, shared(keras.layers.Dense(3)(x)))
    twin = keras.models.clone_model(ends["one"])
    twin.set_weights(ends["one"].get_weights())
    ends["twin"] = twin
    flaxlayer.export(ends, tmp_path / "m", check=False)
    served = serving.load(tmp_path / "m")
    assert {
        name: len(set(each.weights))
        for name, each in served.signature.endpoints.items()
    } == {"one": 4, "other": 4, "twin": 4}
    x = models.data(3, 3)
    for name, model in ends.items():
        same(
            served.endpoints[name](x),
            model.predict(x, batch_size=3, verbose=0),
        )


def test_inputs_in_a_dict_in_a_list_have_their_own_names(tmp_path):
    b, a, c = (keras.Input((2,), name=name) for name in "bac")
    model = keras.Model([{"b": b, "a": a}, c], [b - a + c])
    flaxlayer.export(model, tmp_path / "m", check=False)
    served = serving.load(tmp_path / "m")
    arrays = {name: models.data(3, 2, seed=i) for i, name in enumerate("abc")}
    order = [each.name for each in served.endpoints["serve"].inputs]
    assert sorted(order) == ["a", "b", "c"]
    (received,) = served.endpoints["serve"].flat([arrays[n] for n in order])
    same(received, arrays["b"] - arrays["a"] + arrays["c"])


def test_a_first_axis_of_another_size_is_no_batch(tmp_path):
    layer = flaxlayer.JaxLayer(
        lambda params, inputs: inputs[0] @ params @ inputs[1].T,
        lambda rng, inputs: jax.random.normal(rng, (3, 3)),
        seed=0,
    )
    x, table = models.data(8, 3), models.data(10, 3)
    layer([x, table])
    flaxlayer.export(layer, tmp_path / "m", check=False)
    served = serving.load(tmp_path / "m")
    shapes = [each.shape for each in served.endpoints["serve"].inputs]
    assert shapes == [("batch", 3), (10, 3)]
    same(served([x[:5], table]), layer([x[:5], table]))


def test_each_size_that_is_not_known_has_a_name_of_its_own(tmp_path):
    names = ("a-b", "a_b", "größe", "n" * 80)
    inputs = [keras.Input((None, 3), name=name) for name in names]
    dense = keras.layers.Dense(2)
    model = keras.Model(inputs, [dense(x) for x in inputs])
    flaxlayer.export(model, tmp_path / "m", check=False)
    served = serving.load(tmp_path / "m")
    sizes = [each.shape[1] for each in served.endpoints["serve"].inputs]
    assert sizes == ["a_b_1", "a_b_1_1", "gr__e_1", "n" * 46 + "_1"]
    arrays = [models.data(2, i, 3) for i in range(1, 5)]
    assert [y.shape[1] for y in served(arrays)] == [1, 2, 3, 4]


def test_numbers_of_64_bits_are_compared_where_they_are_there(tmp_path):
    with jax.enable_x64(True):
        layer = flaxlayer.FlaxLayer(
            models.Autoencoder(), seed=0, dtype="float64"
        )
        layer.build((None, 4))
        report = flaxlayer.export(layer, tmp_path / "m")
    assert len(report.compared) == 3
    with pytest.raises(serving.BadExport, match="Set JAX_ENABLE_X64=1"):
        serving.load(tmp_path / "m")


class NoMode(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(2)

    def call(self, inputs):
        return self.dense(inputs[0]["x"])


def test_a_model_need_not_take_a_mode(tmp_path):
    model, inputs = NoMode(), [{"x": models.data(3, 4)}]
    model(inputs)
    spec = [{"x": jax.ShapeDtypeStruct(("batch", 4), "float32")}]
    flaxlayer.export(model, tmp_path / "m", inputs=spec, check=False)
    same(serving.load(tmp_path / "m")(inputs), jax.jit(model)(inputs))


def test_the_reader_finds_what_is_in_the_working_directory(
    tmp_path, monkeypatch
):
    package = pathlib.Path(flaxlayer.__file__).parents[1]
    others = [p for p in sys.path if p and pathlib.Path(p) != package]
    monkeypatch.chdir(package)
    monkeypatch.setattr(sys, "path", ["", *others])
    assert flaxlayer.export(models.of_nnx(), tmp_path / "m").compared


def test_a_single_endpoint_is_called_by_the_model(tmp_path):
    layer = models.of_nnx()
    report = flaxlayer.export(layer, tmp_path / "m", check=False)
    assert str(report).endswith("not compared")
    assert report.size == sum(
        file.stat().st_size for file in (tmp_path / "m").iterdir()
    )
    served = serving.load(str(tmp_path / "m"))
    x = models.data(4, 3)
    same(served(x), layer(x))
    assert list(served.endpoints) == ["serve"]


def test_programs_for_platforms_that_are_not_here(tmp_path):
    report = flaxlayer.export(
        models.tokens(), tmp_path / "m", platforms=("cuda", "tpu")
    )
    assert report.compared == ()
    assert report.note == (
        "nothing was compared: 'cpu' is none of these platforms"
    )
    with pytest.raises(serving.BadExport, match=r"\['cuda', 'tpu'\]"):
        serving.load(tmp_path / "m")
    report = flaxlayer.export(
        models.of_nnx(), tmp_path / "n", platforms=["tpu", "cpu"]
    )
    assert len(report.compared) == 3
    assert report.note == "not compared on tpu"


def test_a_model_may_rely_on_what_is_true_of_its_sizes(tmp_path):
    """It has no more than ten positions."""

    def call_fn(params, inputs):
        return inputs + jax.lax.slice_in_dim(params, 0, inputs.shape[1])

    spec = keras.KerasTensor((None, None, 3))
    layer = flaxlayer.JaxLayer(
        call_fn,
        lambda rng, inputs: jax.random.normal(rng, (10, 3)),
        inputs_spec=spec,
    )
    layer.build(spec.shape)
    length = jax.ShapeDtypeStruct(("batch", "length", 3), "float32")
    with pytest.raises(ValueError, match=r"constraints=\[.length <= 512.\]"):
        flaxlayer.export(layer, tmp_path / "m", inputs=length)
    report = flaxlayer.export(
        layer,
        tmp_path / "m",
        inputs=length,
        constraints=["length <= 10"],
    )
    assert [each.sizes["length"] for each in report.compared] == [8, 7, 8]
    served = serving.load(tmp_path / "m")
    served(models.data(1, 10, 3))
    with pytest.raises(ValueError, match="that length <= 10. Received: .* 11"):
        served(models.data(1, 11, 3))


def program(layer, spec=None):
    found = inputs.of(layer, spec, "it")
    return stablehlo.exported(
        endpoint.ExportedEndpoint("serve", layer, found, "it"), ("cpu",)
    )


def test_native_handlers_are_called_by_name_and_version(
    native_kernels, tmp_path
):
    layer = models.noisy("native")
    report = flaxlayer.export(layer, tmp_path / "m")
    assert {each.difference for each in report.compared} == {0.0}
    served = serving.load(tmp_path / "m")
    handlers = served.signature.endpoints["serve"].handlers
    assert handlers == {"flaxlayer_fold_in": 1, "flaxlayer_rng_fold": 1}
    same(served(models.data(2, 3)), layer(models.data(2, 3)))
    # Words of a shape that is known are native as well.
    spec = jax.ShapeDtypeStruct((2, 3), "float32")
    handlers = stablehlo.handlers_of(program(layer, spec))
    assert "flaxlayer_random_bits" in handlers
    assert "@flaxlayer_rng_fold.v1(" in program(layer).mlir_module()


def test_without_being_asked_for_handlers_are_not_called(native_kernels):
    assert stablehlo.handlers_of(program(models.noisy("auto"))) == {}


def test_jax_alone_exports_handlers_only_where_it_is_told_to(native_kernels):
    layer = models.noisy("native")
    function = jax.jit(
        lambda x: layer.stateless_call(
            [v.value for v in layer.trainable_variables],
            [v.value for v in layer.non_trainable_variables],
            x,
        )[0]
    )
    spec = jax.ShapeDtypeStruct((2, 3), "float32")
    with pytest.raises(ValueError, match=r"flaxlayer_rng_fold\.v1"):
        jax.export.export(function)(spec)
    allowed = [
        jax.export.DisabledSafetyCheck.custom_call(f"flaxlayer_{name}.v1")
        for name in ("rng_fold", "fold_in", "random_bits")
    ]
    jax.export.export(function, disabled_checks=allowed)(spec)


def test_native_handlers_of_other_platforms_there_are_none(
    native_kernels, tmp_path
):
    with pytest.raises(ValueError, match="for several platforms"):
        flaxlayer.export(
            models.noisy("native"), tmp_path / "m", platforms=("cpu", "cuda")
        )
    assert list(tmp_path.iterdir()) == []
