"""The notebooks run from start to end on the committed baselines, are committed with their outputs, and are small."""

import sys
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = sorted(Path("notebooks").glob("*.ipynb"))
MAX_BYTES = 300_000
NAMES = ["01_read_a_run", "02_fp4_by_hand", "03_roofline", "04_compare_gpus", "05_experts"]


def test_they_are_all_there():
    assert [path.stem for path in NOTEBOOKS] == NAMES


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_with_outputs_and_small(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert path.stat().st_size <= MAX_BYTES
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 2
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_nothing_of_a_machine_is_in_them(path):
    text = path.read_text(encoding="utf-8")
    for word in (str(Path.cwd()), str(Path.home() / "."), "site-packages", "/tmp/"):
        assert word not in text


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_they_run(path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{Path.cwd()}:{Path.cwd() / 'kernels'}")
    monkeypatch.syspath_prepend(str(Path("notebooks").resolve()))
    sys.modules.pop("execute", None)
    import execute

    notebook = execute.execute(path.resolve())
    assert not [o for cell in notebook.cells for o in cell.get("outputs", []) if o["output_type"] == "error"]
