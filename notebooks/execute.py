"""Run the notebooks in place, or check them: python notebooks/execute.py [--check] [NAME...].

In: notebooks/*.ipynb. Out: the same files with fresh outputs, or with --check nothing but an error where one fails. Outputs
keep what a reader needs (text, tables, PNG) and lose what changes from run to run (times, counts of the kernel, widget state).
"""

import sys
from pathlib import Path

import nbformat
from jupyter_client import AsyncKernelManager
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parent
TIMEOUT_S = 120


class IpcManager(AsyncKernelManager):
    """Talks to the kernel through files, not ports that others on the machine could read."""

    transport = "ipc"


def execute(path: Path) -> nbformat.NotebookNode:
    """The notebook with the outputs of a fresh kernel that starts in the repository's root; raises CellExecutionError."""
    notebook = nbformat.read(path, as_version=4)
    place = {"metadata": {"path": str(FOLDER.parent)}}
    NotebookClient(notebook, kernel_manager_class=IpcManager, timeout=TIMEOUT_S, resources=place).execute()
    for cell in notebook.cells:
        cell.metadata.clear()
        for output in cell.get("outputs", []):
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
    return notebook


def main(arguments: list[str]) -> None:
    """Every notebook, or the named ones."""
    names = [name for name in arguments if not name.startswith("-")]
    for path in [FOLDER / name for name in names] or sorted(FOLDER.glob("*.ipynb")):
        notebook = execute(path)
        if "--check" not in arguments:
            nbformat.write(notebook, path)
        print(f"{path.name}: {len(notebook.cells)} cells, {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1:])
