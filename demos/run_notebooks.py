"""Run the notebooks and keep their outputs, without what differs from run to run or tells of the machine.

python demos/run_notebooks.py [NOTEBOOK ...]
"""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parent
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def main(paths: list[Path]) -> None:
    """Run each notebook in the folder it lies in and write it back."""
    for path in paths:
        notebook = nbformat.read(path, as_version=4)
        NotebookClient(
            notebook, timeout=300, record_timing=False, resources={"metadata": {"path": path.parent}}
        ).execute()
        notebook.metadata = nbformat.from_dict(METADATA)  # type: ignore[no-untyped-call]
        for number, cell in enumerate(notebook.cells):
            cell.id, cell.metadata = f"cell-{number:02}", {}
        nbformat.write(notebook, path)
        print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main([Path(arg).resolve() for arg in sys.argv[1:]] or sorted(FOLDER.glob("*.ipynb")))
