"""The page about exports, with its code for TensorFlow and onnxruntime."""

import os
import pathlib
import re
import subprocess
import sys


def test_all_code_of_the_page_runs(tmp_path):
    text = pathlib.Path("docs/guide/export.md").read_text(encoding="utf-8")
    # What is marked `py` is not run where the extras are missing.
    blocks = re.findall(r"^```(python|py)\n(.*?)^```$", text, re.S | re.M)
    assert {kind for kind, _ in blocks} == {"python", "py"}
    code = "\n".join(block for _, block in blocks)
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "saved/1/saved_model.pb").exists()
    assert (tmp_path / "classifier.onnx").exists()
