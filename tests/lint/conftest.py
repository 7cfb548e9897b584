import textwrap

import pytest


@pytest.fixture
def check(tmp_path):
    """Runs a check on a repository of these files."""

    def check(problems, files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text), encoding="utf-8")
        build_files = [name for name in files if name.endswith("BUILD")]
        return problems(tmp_path, build_files)

    return check
