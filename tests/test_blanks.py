"\"Run All\" in the student's edition: cells that need a blank say which one, other errors stop as ever, a failing test is short."
import json

import nbformat
import pytest
from real_kernel import run, texts
from test_exercises import ROOT, edition  # noqa: F401

from tinytorch.notebooks.project import new_notebook

QUICK = ("losses_dev", "regression_losses_dev")
BLANK = "def huber(e):\n    # YOUR CODE HERE\n    raise NotImplementedError()"
LOAD = "%load_ext tinytorch.exercises.blanks"


def in_kernel(tmp_path, *cells):
    nb, failed = run(nbformat.reads(json.dumps(new_notebook(LOAD, *cells)), 4), tmp_path, ROOT)
    return [texts(cell) for cell in nb.cells[1:]], failed


def test_cells_that_need_a_blank_say_which_and_go_on(tmp_path):
    cells = [BLANK, "loss = 7", "loss = huber(1)\nother = 2", "def shown():\n    return loss",
             "shown() + other", "loss = 3", "print(loss)",
             "def test_unit_huber():\n    assert huber(0) == 0\n\ntest_unit_huber()",
             "for i in range(2):\n    kept = huber(i)", "kept", "print('end')"]
    said, failed = in_kernel(tmp_path, *cells)
    waits = "⬜ huber is still blank\n"
    assert failed is None, texts(failed)
    assert said == ["", "", waits, "", waits, "", "3\n", waits, waits, waits, "end\n"]


@pytest.mark.parametrize("cell", ["1 / 0", "print(no_such_name)", "raise NotImplementedError('not for floats')", "if x"])
def test_any_other_error_stops(tmp_path, cell):
    said, failed = in_kernel(tmp_path, BLANK, "huber(1)", cell, "print('end')")
    assert (failed is not None and failed.source == cell and said[-1] == ""
            and "Traceback" in said[2] + "Traceback" * (cell == "if x"))


def test_a_failing_test_shows_its_line_and_what_it_says(tmp_path):
    test = ("def check(a, b):\n    assert a == b, 'mean: should be 2, but is 3'\n\ndef "
            "test_unit_mean():\n    check(3, 2)\n\ntest_unit_mean()")
    said, failed = in_kernel(tmp_path, test)
    assert (failed
            and said == ["❌ test_unit_mean, line 5: check(3, 2)\n   mean: should be 2, but is 3"])


def test_an_error_in_a_test_has_its_traceback_below(tmp_path):
    said, failed = in_kernel(tmp_path, "def test_unit_mean():\n    None + 1\n\ntest_unit_mean()")
    assert (failed
            and said[0].startswith("❌ test_unit_mean, line 2: None + 1\n   TypeError: unsupported "
                       "operand") and "Traceback" in said[0])


@pytest.mark.parametrize("path", sorted((ROOT / "nbs").glob("0*/*_dev.ipynb")), ids=lambda path: path.stem)
def test_a_fresh_edition_runs_to_its_end(edition, path, request):  # noqa: F811
    if path.stem not in QUICK and not request.config.getoption("--slow"):
        pytest.skip("slow: runs a whole notebook in a kernel")
    copy = edition / path.relative_to(ROOT)
    nb, failed = run(nbformat.read(copy, as_version=4), copy.parent, edition)
    assert failed is None, texts(failed)
    blanks = copy.read_text(encoding="utf-8").count("YOUR CODE HERE")
    assert bool(blanks) <= any(" is still blank" in texts(cell) for cell in nb.cells
                               if cell.cell_type == "code")


def test_under_nbgrader_a_test_of_a_blank_fails(monkeypatch):
    "There a cell without an error earns its points."
    from types import SimpleNamespace

    from tinytorch.exercises import blanks
    registered = []
    shell = SimpleNamespace(set_custom_exc=lambda *given: registered.append(given),
                            events=SimpleNamespace(register=lambda
                                                   *given: registered.append(given)))
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    blanks.load_ipython_extension(shell)
    assert not registered
    monkeypatch.delenv("NBGRADER_EXECUTION")
    blanks.load_ipython_extension(shell)
    assert registered
