"""The code of the guide to backends runs where it says that it is run.

Its blocks are of `py`, not `python` as those of pages that run on JAX.
"""

import pathlib
import re
import runpy

PAGE = pathlib.Path(__file__).parents[3] / "docs/guide/backends.md"


def test_the_code_of_the_page_runs(tmp_path, monkeypatch):
    text = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"^```py\n(.*?)^```$", text, re.S | re.M)
    assert len(blocks) > 5
    monkeypatch.chdir(tmp_path)
    # A file: AutoGraph reads the source of a tf.function.
    program = tmp_path / "page.py"
    program.write_text("\n".join(blocks), encoding="utf-8")
    runpy.run_path(str(program))
