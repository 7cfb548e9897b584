"""Notebooks run, and print what they show.

To run one and keep its pictures, from the folder of notebooks:

    jupyter execute --inplace first_layer.ipynb
"""

import pathlib

import nbclient
import nbformat
import pytest

FOLDER = pathlib.Path(__file__).parents[2] / "docs/notebooks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.ipynb"))


def printed(notebook):
    """The text that each cell prints."""
    return [
        [output["text"] for output in cell.outputs if "text" in output]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def pictures(notebook):
    """How many pictures each cell shows."""
    return [
        sum("image/png" in output.get("data", {}) for output in cell.outputs)
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def test_all_notebooks_are_found():
    assert NAMES == ["first_layer", "lora", "mesh"]


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs(name, tmp_path, importable, monkeypatch):
    monkeypatch.delenv("KERAS_BACKEND", raising=False)  # flaxlayer sets it.
    # A home folder may be read-only, or have settings in it.
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("IPYTHONDIR", str(home / "ipython"))
    folder = tmp_path / "notebook"
    folder.mkdir()
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    shown = printed(notebook), pictures(notebook)
    assert sum(shown[1]) >= 2
    nbclient.NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
    ).execute()
    assert (printed(notebook), pictures(notebook)) == shown
