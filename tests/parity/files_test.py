"""Files that Keras's own layers wrote, read into ours."""

import json
import zipfile

import keras
import numpy as np
import pytest

import flaxlayer
from flaxlayer import peer_files
from tests.parity import models, peer

IMAGES = np.random.RandomState(0).randn(32, 8, 8, 1).astype("float32")
VECTORS = np.random.RandomState(2).randn(32, 6).astype("float32")
LABELS = np.random.RandomState(3).randint(0, 3, 32).astype("int32")


def trained(layer, inputs):
    model = keras.Sequential([keras.Input(inputs.shape[1:]), layer])
    model.compile(
        "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    model.fit(inputs, LABELS, 8, verbose=0)
    return model


def assert_same_model(ours, theirs, inputs):
    for ours_weight, weight in zip(ours.weights, theirs.weights, strict=True):
        np.testing.assert_array_equal(ours_weight, weight)
    np.testing.assert_array_equal(
        ours.predict(inputs, verbose=0), theirs.predict(inputs, verbose=0)
    )


CASES = {
    "flax": (
        lambda c: c.FlaxLayer(models.ConvNet()),
        IMAGES,
    ),
    "flax_unbound_method": (
        lambda c: c.FlaxLayer(
            models.ConvNet(), method=models.apply_without_flag
        ),
        IMAGES,
    ),
    "flax_bound_method": (
        lambda c: c.FlaxLayer(
            models.Counter(),
            method=models.Counter().__call__,
            variables={"counts": {"calls": 0}},
        ),
        VECTORS,
    ),
    "jax": (
        lambda c: c.JaxLayer(models.mlp_call, models.mlp_init),
        VECTORS,
    ),
}


@pytest.mark.parametrize("case", ["flax", "flax_unbound_method", "jax"])
def test_weights_file_of_the_peer(case, tmp_path):
    make, inputs = CASES[case]
    theirs = trained(make(peer), inputs)
    theirs.save_weights(tmp_path / "peer.weights.h5")
    ours = keras.Sequential([keras.Input(inputs.shape[1:]), make(flaxlayer)])
    ours.load_weights(tmp_path / "peer.weights.h5")
    assert_same_model(ours, theirs, inputs)


@pytest.mark.parametrize("case", ["flax", "flax_unbound_method", "jax"])
def test_model_file_of_the_peer(case, tmp_path):
    make, inputs = CASES[case]
    theirs = trained(make(peer), inputs)
    path = tmp_path / "peer.keras"
    theirs.save(path)
    before = path.read_bytes()

    ours = flaxlayer.load_model(path)

    assert path.read_bytes() == before
    assert type(ours.layers[0]).__module__.startswith("flaxlayer.")
    assert_same_model(ours, theirs, inputs)
    # The optimizer came along: training goes on as the peer's would. The
    # state of its random numbers is not in the peer's files.
    ours.layers[0].seed_generator.state.assign(
        np.asarray(theirs.layers[0].seed_generator.state)
    )
    for model in (ours, theirs):
        model.fit(inputs, LABELS, 8, verbose=0, shuffle=False)
    assert_same_model(ours, theirs, inputs)


def test_bound_method_of_the_peer(tmp_path):
    make, inputs = CASES["flax_bound_method"]
    theirs = keras.Sequential([keras.Input(inputs.shape[1:]), make(peer)])
    theirs.predict(inputs, verbose=0)
    theirs.save(tmp_path / "peer.keras")
    ours = flaxlayer.load_model(tmp_path / "peer.keras")
    assert_same_model(ours, theirs, inputs)


def test_nested_layers_of_the_peer(tmp_path):
    inner = keras.Sequential(
        [
            keras.Input(VECTORS.shape[1:]),
            peer.JaxLayer(models.mlp_call, models.mlp_init),
        ]
    )
    inputs = keras.Input(VECTORS.shape[1:])
    theirs = keras.Model(inputs, inner(inputs))
    theirs.save(tmp_path / "peer.keras")
    ours = flaxlayer.load_model(tmp_path / "peer.keras")
    assert isinstance(ours.layers[1].layers[0], flaxlayer.JaxLayer)
    assert_same_model(ours, theirs, VECTORS)


def test_custom_objects_reach_the_layer(tmp_path):
    class Local(models.ConvNet):
        pass

    with keras.saving.custom_object_scope({"Local": Local}):
        theirs = trained(peer.FlaxLayer(Local()), IMAGES)
    theirs.save(tmp_path / "peer.keras")
    ours = flaxlayer.load_model(
        tmp_path / "peer.keras", custom_objects={"Local": Local}
    )
    assert_same_model(ours, theirs, IMAGES)


def test_our_own_files_load_as_well(tmp_path):
    model = trained(flaxlayer.FlaxLayer(models.ConvNet()), IMAGES)
    model.save(tmp_path / "ours.keras")
    loaded = flaxlayer.load_model(tmp_path / "ours.keras")
    assert_same_model(loaded, model, IMAGES)


def test_too_few_numbered_weights_change_nothing(tmp_path):
    theirs = trained(peer.FlaxLayer(models.Attention()), VECTORS[:, None])
    theirs.save_weights(tmp_path / "peer.weights.h5")
    ours = trained(flaxlayer.FlaxLayer(models.ConvNet()), IMAGES)
    before = [np.array(weight, copy=True) for weight in ours.weights]
    with pytest.raises(
        ValueError, match="file numbers 14 weights.* this layer has 13"
    ):
        ours.load_weights(tmp_path / "peer.weights.h5")
    for old, weight in zip(before, ours.weights, strict=True):
        np.testing.assert_array_equal(weight, old)


def test_file_that_is_no_archive(tmp_path):
    (tmp_path / "model.keras").write_bytes(b"not a zip file")
    with pytest.raises(ValueError, match="is not a `.keras` file"):
        flaxlayer.load_model(tmp_path / "model.keras")


def test_a_configuration_that_unpacks_to_too_much_is_not_read(
    tmp_path, monkeypatch
):
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", '{"a": "' + "a" * 1000 + '"}')
    monkeypatch.setattr(peer_files, "_MAX_CONFIG_BYTES", 1000)
    with pytest.raises(ValueError, match="it declares 1009 bytes"):
        flaxlayer.load_model(path)


def test_the_limit_of_a_configuration_is_beyond_any_and_below_any_memory():
    assert 1 << 24 <= peer_files._MAX_CONFIG_BYTES <= 1 << 28


@pytest.mark.parametrize("config", [None, "{", "[" * 100_000])
def test_archive_without_a_configuration(config, tmp_path):
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", "{}")
        if config is not None:
            archive.writestr("config.json", config)
    with pytest.raises(ValueError, match="config.json"):
        flaxlayer.load_model(path)


def test_archive_that_expands_too_far(tmp_path, monkeypatch):
    from flaxlayer import peer_files

    monkeypatch.setattr(peer_files, "_MAX_UNPACKED_BYTES", 1 << 20)
    path = tmp_path / "model.keras"
    config = {"module": "keras.layers", "class_name": "FlaxLayer"}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", bytes(1 << 22))
    with pytest.raises(ValueError, match="unpack to"):
        flaxlayer.load_model(path)


def test_converted_config_is_still_untrusted(tmp_path):
    theirs = trained(peer.FlaxLayer(models.ConvNet()), IMAGES)
    theirs.save(tmp_path / "peer.keras")
    crafted = tmp_path / "crafted.keras"
    with (
        zipfile.ZipFile(tmp_path / "peer.keras") as source,
        zipfile.ZipFile(crafted, "w") as target,
    ):
        for info in source.infolist():
            data = source.read(info)
            if info.filename == "config.json":
                config = json.loads(data)
                layer = config["config"]["layers"][1]
                layer["config"]["module"] = {
                    "module": "os",
                    "class_name": "function",
                    "config": "system",
                    "registered_name": "system",
                }
                data = json.dumps(config)
            target.writestr(info, data)
    with pytest.raises(
        ValueError, match="`module` names 'os:system', which is not a fun"
    ):
        flaxlayer.load_model(crafted)
