"""The `flaxlayer` command, also where the package cannot be used."""

import importlib.metadata
import os
import pathlib
import re
import subprocess
import sys
import tomllib

import pytest

import flaxlayer
from flaxlayer import command_line, doctor
from flaxlayer.demo import command as demo


def printed(capsys, *words):
    """What is printed by words after which the command ends by itself."""
    with pytest.raises(SystemExit) as ended:
        command_line.main(words)
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_pip_installs_this_command():
    project = tomllib.loads(pathlib.Path("pyproject.toml").read_text())
    entry = importlib.metadata.EntryPoint(
        "flaxlayer", project["project"]["scripts"]["flaxlayer"], "scripts"
    )
    assert entry.load() is command_line.main


def test_it_says_its_version(capsys):
    text = printed(capsys, "--version")
    assert text == f"flaxlayer {flaxlayer.__version__}\n"


def test_help_names_the_commands_and_their_options(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = printed(capsys, "--help")
    assert re.search(r"^ +demo +train a small network", text, re.MULTILINE)
    assert re.search(r"^ +doctor +say what flaxlayer", text, re.MULTILINE)
    text = printed(capsys, "demo", "--help")
    assert re.search(r"^ +--out FOLDER ", text, re.MULTILINE)
    assert "(default: flaxlayer-demo)" in text
    assert re.search(r"^ +--short ", text, re.MULTILINE)
    assert "native kernels" in printed(capsys, "doctor", "--help")


@pytest.mark.parametrize("words", [(), ("other",), ("doctor", "--json")])
def test_what_is_no_command_is_refused(words, capsys):
    with pytest.raises(SystemExit) as ended:
        command_line.main(words)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("usage: flaxlayer ")


def test_a_command_gets_its_options_and_gives_its_status(monkeypatch):
    monkeypatch.setattr(doctor, "run", lambda: 3)
    assert command_line.main(["doctor"]) == 3
    asked = []
    monkeypatch.setattr(demo, "run", lambda options: asked.append(options) or 4)
    assert command_line.main(["demo", "--short", "--out", "x"]) == 4
    assert asked[0].short
    assert asked[0].out == pathlib.Path("x")


# As where nothing that flaxlayer needs is installed.
BARE = """
import sys, warnings

for name in ("flax", "jax", "jaxlib", "keras", "numpy", "packaging"):
    sys.modules[name] = None
warnings.simplefilter("ignore")

from flaxlayer import command_line

statuses = [command_line.main([word]) for word in ("doctor", "demo")]
print(*statuses)
command_line.main(["--version"])
"""


def test_it_starts_where_nothing_else_does():
    result = subprocess.run(
        [sys.executable, "-c", BARE],
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    *report, last, statuses, version = result.stdout.splitlines()
    assert report[0] == f"flaxlayer {flaxlayer.__version__}"
    assert last.startswith("flaxlayer cannot be used: ")
    assert statuses == "1 1"
    assert version == f"flaxlayer {flaxlayer.__version__}"
    assert result.stderr.startswith("flaxlayer demo: flaxlayer.FlaxLayer ")
    assert result.stderr.count("\n") == 1
