"""pytest collects every notebook in nbs/ as one test and runs it as `tito test` does: from disk,
in a process of its own.
"""
import json
import os
from importlib.util import find_spec
from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).resolve().parent / "nbs"


def pytest_addoption(parser):
    parser.addoption(
        "--slow", action="store_true",
        help="also run the notebooks' cells marked slow, which measure time and memory")


def pytest_collect_file(file_path, parent):
    if file_path.suffix == ".ipynb" and file_path.is_relative_to(NOTEBOOKS):
        if not any(part.startswith(("_", ".")) for part in file_path.relative_to(NOTEBOOKS).parts):
            return NotebookFile.from_parent(parent, path=file_path)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    "Skip a test that stops because an optional library is missing; in CI all are installed."
    try:
        return (yield)
    except (ImportError, NotebookFailed) as error:
        said = error.args[0].message if isinstance(error, NotebookFailed) else str(error)
        if os.environ.get("CI") == "true" or "Install it with: pip install" not in said:
            raise
        pytest.skip(said)


class NotebookFile(pytest.File):
    def collect(self):
        yield Notebook.from_parent(self, name="cells")


def missing(path) -> set:
    "Return the libraries that a notebook imports and that are not installed."
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    source = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    found = [line.split()[1].partition(".")[0] for line in source.splitlines()
             if line.startswith(("import ", "from "))]
    return {name.rstrip(",;") for name in found if not find_spec(name.rstrip(",;"))}


class Notebook(pytest.Item):
    def runtest(self):
        if os.environ.get("CI") != "true" and (names := missing(self.path)):
            pytest.skip(f"needs {', '.join(sorted(names))}")
        from tinytorch.notebooks.project import TitoError, find_project
        from tinytorch.notebooks.running import Failure, run_notebook
        try:
            problem = run_notebook(find_project(NOTEBOOKS), self.path,
                                   slow=self.config.getoption("slow")).problem
        except TitoError as error:
            problem = Failure(str(error))
        if problem:
            raise NotebookFailed(problem)

    def repr_failure(self, excinfo, style=None):
        if not isinstance(excinfo.value, NotebookFailed):
            return super().repr_failure(excinfo, style)
        problem = excinfo.value.args[0]
        lines = [problem.message]
        if problem.cell:
            lines += [f"in cell [{problem.cell.number}]"
                      + (f", line {problem.line}:" if problem.line else "")]
        lines += [f"{'>' if failed else ' '} {number:3}  {text}"
                  for number, text, failed in problem.excerpt()]
        return "\n".join([*lines, *filter(None, [problem.raised])])

    def reportinfo(self):
        return self.path, None, self.nodeid


class NotebookFailed(Exception):
    "A cell of a notebook failed; its argument is the `Failure`."
