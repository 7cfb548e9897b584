"""The time of an import."""

from benchmarks import package

_IS_COMPILED = "import colorsys, os; assert os.path.exists(colorsys.__cached__)"


def test_an_import_is_of_compiled_modules_whatever_the_environment(monkeypatch):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    times = package.import_times("import os", _IS_COMPILED, 2)
    assert {len(ms) for ms in times["import os"].values()} == {2}
