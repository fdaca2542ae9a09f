"""The notebooks of the documentation run, and were run as they are."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

NOTEBOOKS = sorted((REPOSITORY / "docs" / "notebooks").glob("*.ipynb"))


def test_there_are_notebooks() -> None:
    assert len(NOTEBOOKS) == 3


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook(path: Path, tmp_path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert path.stat().st_size < 100_000

    def kinds(cells: list) -> list:
        return [[sorted(output.get("data", [])) for output in cell.outputs] for cell in cells]

    before = kinds(cells)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": tmp_path}}).execute()
    assert kinds(cells) == before


def test_the_readme(tmp_path: Path) -> None:
    text = (REPOSITORY / "bindings" / "python" / "README.md").read_text(encoding="utf-8")
    code = text.split("```python\n")[1].split("```")[0]
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("(5, 8)") and "layer" in done.stdout
    assert (tmp_path / "ioi.svg").read_text(encoding="utf-8").lstrip().startswith("<svg")
