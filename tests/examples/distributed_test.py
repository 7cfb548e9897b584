"""Several processes train a model, and one reads it."""

import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]


def test_processes_train_what_one_reads(tmp_path):
    script = ROOT / "examples/distributed/train.py"
    # A test that Bazel runs leaves a script's own folder out.
    paths = [str(script.parent), str(ROOT / "python"), *filter(None, sys.path)]
    result = subprocess.run(
        [sys.executable, script, f"--out={tmp_path}"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]
    # What all have measured together is what one measures.
    together, alone = re.findall(r"test accuracy (\S+)", result.stdout)
    assert together == alone
    # Its weights were in parts, and the run is done.
    assert "P(None, 'model')" in result.stdout
    assert os.listdir(tmp_path) == ["weights.msgpack"]
