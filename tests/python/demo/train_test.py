"""The demo trains, draws and measures, and says when something is wrong."""

import pytest

from flaxlayer.demo import timing, train

FIELDS = ("build", "first_step", "step")
HEADER = "reference        keras.layers\n"


pytestmark = pytest.mark.usefixtures("importable")


def test_a_short_demo_is_good_enough_and_comes_back(tmp_path, capfd):
    assert train.run(tmp_path, short=True) == 0
    printed = capfd.readouterr().out
    assert "\ntest accuracy 0.9" in printed
    assert "reloaded: 360 predictions, equal to the last bit" in printed
    assert f"picture: {tmp_path / 'digits.png'}" in printed
    assert "flaxlayer kernels (policy: auto)" in printed
    assert "train_on_batch" not in printed
    picture = (tmp_path / "digits.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 20_000
    assert (tmp_path / "model.keras").exists()


def test_a_whole_demo_compares_times_and_says_all_that_is_wrong(
    tmp_path, capfd, monkeypatch
):
    monkeypatch.setattr(train, "_WHOLE", train._Length(1, 1.5))
    monkeypatch.setattr(timing, "_COLD_ROUNDS", 1)
    monkeypatch.setattr(timing, "_STEPS", 2)
    # No module of that name, so that the other process fails.
    monkeypatch.setattr(train.DigitClassifier, "__module__", "never_there")
    assert train.run(tmp_path) == 1
    _, header, rest = capfd.readouterr().out.partition(HEADER)
    assert header
    *times, _, below, _, lost = rest.strip().splitlines()
    assert below.startswith("FAILED: test accuracy 0.")
    assert below.endswith("is below 1.5")
    assert lost == "FAILED: the reloaded model is not the saved one"
    for measured in ("build", "first training step", "training step"):
        (line,) = (line for line in times if line.startswith(measured))
        cells = line.removeprefix(measured).split()
        ours, unit, reference, unit_2, gain, peer, unit_3, gain_2 = cells
        assert unit == unit_2 == unit_3
        assert min(map(float, (ours, reference, peer))) > 0
        for text in (gain, gain_2):
            assert text == "alike" or float(text.removesuffix("x")) > 0
    assert "The reference is flaxlayer with operations of JAX" in rest


def times(seconds, name="step"):
    return timing.Times(**{field: [1.0] for field in FIELDS} | {name: seconds})


@pytest.mark.parametrize(
    ("theirs", "gain"),
    [
        ([4.0, 6.0, 9.0], "2.00x"),
        ([1.0, 1.5, 2.4], "0.50x"),
        ([2.0, 3.1, 3.5], "alike"),
        ([2.001, 3.003, 4.004], "alike"),
        ([9.0, 6.0, 9.0], "2.25x"),
    ],
)
def test_what_is_gained_is_that_of_rounds_in_turn(theirs, gain):
    measured = {"flaxlayer": times([2.0, 3.0, 4.0]), "other": times(theirs)}
    build, _, step = timing._written(measured).splitlines()[1:4]
    assert build.split()[-1] == "alike"
    assert step.split()[-1] == gain


def test_what_is_missing_is_said():
    text = timing._written({"flaxlayer": times([2.0])})
    assert "Without native kernels there is nothing gained" in text
    assert "keras.layers.FlaxLayer is not available" in text
