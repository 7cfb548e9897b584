"""What the demo's command line takes, and what it says where it cannot run."""

import argparse
import importlib.util
import pathlib
import sys
import types

import pytest

from flaxlayer.demo import command


def parsed(*words):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(words)


class Runs(list):
    """What training was asked for, where some packages are absent."""

    absent = ()


@pytest.fixture
def runs(monkeypatch):
    """Notes what training would be asked for, and does none."""
    runs = Runs()

    def run(out, *, short):
        assert out.is_dir()
        runs.append((out.name, short))
        return 7

    fake = types.ModuleType("flaxlayer.demo.train")
    fake.run = run
    monkeypatch.setitem(sys.modules, fake.__name__, fake)
    monkeypatch.setattr("flaxlayer.demo.train", fake, raising=False)
    # Whether they are installed here or not.
    find_spec = importlib.util.find_spec

    def find(name, package=None):
        if name in ("matplotlib", "sklearn"):
            return None if name in runs.absent else object()
        return find_spec(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find)
    return runs


def test_files_go_into_a_folder_below_the_current_one(
    runs, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert command.run(parsed()) == 7
    assert command.run(parsed("--short", "--out", "a/b")) == 7
    assert runs == [("flaxlayer-demo", False), ("b", True)]
    assert (tmp_path / "flaxlayer-demo").is_dir()


@pytest.mark.parametrize(
    ("absent", "said"),
    [
        (["sklearn"], "scikit-learn missing"),
        (["matplotlib", "sklearn"], "matplotlib and scikit-learn missing"),
    ],
)
def test_packages_that_are_missing_are_named_with_their_extra(
    absent, said, runs, tmp_path, capsys
):
    runs.absent = absent
    assert command.run(parsed("--out", str(tmp_path))) == 1
    assert not runs
    assert capsys.readouterr().err == (
        f'flaxlayer demo: {said}; run pip install "flaxlayer[examples]"\n'
    )


def test_a_folder_that_cannot_be_made_is_named(runs, tmp_path, capsys):
    file = tmp_path / "file"
    file.touch()
    assert command.run(parsed("--out", str(file))) == 1
    assert not runs
    message = capsys.readouterr().err
    assert message.startswith("flaxlayer demo: --out must be a folder")
    assert str(file) in message
    assert message.count("\n") == 1


def test_an_installation_that_is_broken_is_no_traceback(
    runs, monkeypatch, capsys
):
    class Broken:
        @property
        def FlaxLayer(self):  # noqa: N802
            raise ImportError("cannot be used: no keras")

    monkeypatch.setattr(command, "flaxlayer", Broken())
    assert command.run(parsed("--out", str(pathlib.Path("never")))) == 1
    assert not runs
    assert not pathlib.Path("never").exists()
    assert capsys.readouterr().err == (
        "flaxlayer demo: cannot be used: no keras\n"
    )
