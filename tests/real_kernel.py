"""Runs notebooks as Jupyter does: in a kernel of their own, cell by cell, until a cell's reply is
an error.
"""
import copy
import os

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError


def run(nb, folder, root, **environment):
    """Run a copy of the notebook `nb` in `folder` with the package in `root`; return it, and the
    cell that ended it, if one did.

    As "Run All" it goes on as long as the replies of the kernel are "ok". Cells that only measure
    are left out.
    """
    nb = nbformat.from_dict(copy.deepcopy(nb))
    nb.cells = [cell for cell in nb.cells if not cell.source.startswith("#| slow")]
    for cell in nb.cells:
        if cell.cell_type == "code": cell.outputs = []
    keep = {name: value for name, value in os.environ.items()
            if name not in ("IN_TEST", "MPLBACKEND", "PYTHONPATH")}
    more = {"PYTHONPATH": str(root), "TINYTORCH_ENGINE": "numpy", **environment}
    client = NotebookClient(nb, timeout=300, kernel_name="python3",
                            resources={"metadata": {"path": str(folder)}})
    try:
        client.execute(env=keep | more)
    except CellExecutionError:
        return nb, next(cell for cell in nb.cells
                        if any(o.output_type == "error" for o in cell.get("outputs", [])))
    return nb, None


def pictures(cell) -> int:
    return sum("image/png" in output.get("data", {}) for output in cell.get("outputs", []))


def texts(cell) -> str:
    "What a cell shows as text; what is printed may come in pieces."
    shown = ""
    for output in cell.get("outputs", []):
        if output["output_type"] != "stream" and shown and not shown.endswith("\n"):
            shown += "\n"
        shown += (output.get("text") or output.get("data", {}).get("text/plain", "")
                  or "\n".join(output.get("traceback", [])))
    return shown
