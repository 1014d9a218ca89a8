"The lesson's pages: headings, questions and facts; its figures have names on their axes."
import json
import re
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (after the choice of the backend)
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output  # noqa: E402

from tinytorch.interactive import Quiz, matches  # noqa: E402
from tinytorch.nn import losses  # noqa: E402
from tinytorch.notebooks.notebook import read_notebook  # noqa: E402
from tinytorch.notebooks.project import Project  # noqa: E402
from tinytorch.notebooks.running import cells_to_run  # noqa: E402
from tinytorch.site.pages import document, dress, public_links, signatures_in  # noqa: E402
from tinytorch.site.reference import public_addresses  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "nbs/04_losses"
PAGES = ["losses_dev", "losses_use_dev"]
FAMILIES = sorted(path.stem for path in FOLDER.glob("*_dev.ipynb"))
QUESTIONS = json.loads((ROOT / "tinytorch/data/quiz.json").read_text(encoding="utf-8"))
each_page = pytest.mark.parametrize("page", PAGES)


def sources(page: str, kind: str) -> list:
    nb = json.loads((FOLDER / f"{page}.ipynb").read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in nb["cells"] if cell["cell_type"] == kind]


def nameless(figure) -> list:
    "What the axes of a figure lack: pictures without axes, such as photos, lack nothing."
    shown = [ax for ax in figure.axes if ax.axison or ax.name == "3d"]
    return [lack for ax in shown for lack, there in
            (("x axis", ax.get_xlabel()), ("title", ax.get_title())) if not there] + [
        "z axis" for ax in shown if ax.name == "3d" and not (ax.get_ylabel() and ax.get_zlabel())]


def wrong_title(figure) -> bool:
    "Whether a panel says loss, but shows negative numbers."
    return any(ax.get_title() == "loss" and any(np.nanmin(line.get_ydata()) < 0 for line in ax.lines)
               for ax in figure.axes)


@each_page
def test_figures_name_their_axes(page, monkeypatch):
    monkeypatch.chdir(FOLDER)
    project, path, space = Project(ROOT), FOLDER / f"{page}.ipynb", {"__name__": "__main__"}
    plt.close("all")
    count = 0
    for cell in cells_to_run(project, path, read_notebook(project, path)):
        exec(compile(cell.code, page, "exec"), space)
        for figure in map(plt.figure, plt.get_fignums()):
            count += 1
            assert not nameless(figure) and not wrong_title(figure), cell.source
        plt.close("all")
    assert count > 8


def test_a_figure_without_names_is_found():
    figure, ax = plt.subplots()
    assert nameless(figure) == ["x axis", "title"]
    ax.set(xlabel="step", title="loss")
    ax.plot([1, -1])
    assert not nameless(figure) and wrong_title(figure)
    surface = figure.add_subplot(projection="3d")
    surface.set(xlabel="x", ylabel="y", title="surface")
    assert nameless(figure) == ["z axis"]
    surface.set(zlabel="z")
    assert not nameless(figure)
    plt.close(figure)


@pytest.mark.parametrize("page", FAMILIES)
def test_traps_have_names(page):
    assert not re.search(r"^#+ The (trap|fix)$", "\n".join(sources(page, "markdown")), re.M)


def test_questions_have_answers():
    text = "\n".join(sources("losses_dev", "markdown"))
    assert text.count("**Question.**") == text.count("<summary>Answer</summary>") > 8


@pytest.mark.parametrize("page", FAMILIES)
def test_a_question_that_a_cell_answers_has_a_folded_answer(page):
    cells = json.loads((FOLDER / f"{page}.ipynb").read_text(encoding="utf-8"))["cells"]
    for cell, below in zip(cells, cells[1:]):
        text = "".join(cell["source"])
        last = text.rpartition("**Question.**")[2]
        asked = cell["cell_type"] == "markdown" and last != text and "\n\n" not in last.strip()
        shown = below["cell_type"] == "code" and not "".join(below["source"]).startswith("#| hide")
        assert not (asked and shown), text


@pytest.mark.parametrize("part, number", [(part, number) for part in QUESTIONS
                                          for number in range(1, len(QUESTIONS[part]) + 1)])
def test_quick_questions_have_the_right_answers(part, number):
    "Each answer is what its expression gives."
    asked = QUESTIONS[part][number - 1]
    shown = eval(asked["shown"], vars(losses) | {"np": np})
    assert matches(asked["answer"], shown), (asked["question"], shown)
    assert "✅" in Quiz(QUESTIONS[part])(number, asked["answer"])
    assert asked["answer"] in asked.get("choices", [asked["answer"]])


def test_the_best_constant_of_msle():
    "Said in the table of regression_losses_dev."
    from tinytorch.nn import MSLELoss
    targets = np.array([0.0, 3.0, 10.0, 200.0])
    best = np.exp(np.log1p(targets).mean()) - 1
    cost = [MSLELoss()(np.full(4, guess), targets).item() for guess in (0.99 * best, best, 1.01 * best)]
    assert cost[1] == min(cost)
    text = (FOLDER / "regression_losses_dev.ipynb").read_text(encoding="utf-8")
    assert "| `exp(mean(log(1 + t))) - 1` |" in text


def documented(shown: str, code: str, *more) -> str:
    "What a page with `more` cells makes of what nbdev shows for `f` of this code."
    shown = f'---\n\n[source](https://x.io/f.py#L1){{target="_blank"}}\n\n{shown}'
    cell = new_code_cell("show_doc(f)", outputs=[
        new_output("display_data", {"text/markdown": shown})])
    cell["has_sd"] = True
    document(SimpleNamespace(cells=[cell, *more]), SimpleNamespace(cells=[new_code_cell(code)]))
    return cell.outputs[0].data["text/markdown"]


def test_a_name_is_no_heading():
    "Its code or its signature says it; the link to the source is its anchor, unless a heading is."
    code, shown = "def f(x): pass", "### f\n\n```python\n\ndef f(\n    x\n)\n\n```\n\n*Return 1.*\n"
    link = "[Source of `f`](https://x.io/f.py#L1){%s.source}\n"
    assert documented(shown, code, new_code_cell(code)) == link % "#f "
    assert documented(shown, code) == link % "#f " + "\n```python\ndef f(x)\n```\n\nReturn 1.\n"
    for heading in ("# F", "### `f`"):
        assert documented(shown, code, new_markdown_cell(heading)).startswith(link % "")
    assert "#f " in documented(shown, code, new_markdown_cell("# f and g"))


def test_only_public_names_become_links():
    public = public_addresses()
    page = ('<a href="https://me.io/%s"><code>x</code></a>')
    for address in ("04_losses/losses_dev.html#huberloss", "01_tensor/tensor_dev.html#tensor",
                    "01_tensor/tensor_dev.html#tensor.backward", "core/engine_dev.html#engine"):
        assert public_links(page % address, "https://me.io", public) == page % address
    # a formula, helpers of a lesson, of the machinery, and a name that only looks like a public one
    for address in ("04_losses/losses_dev.html#huber", "04_losses/losses_dev.html#shift",
                    "01_tensor/tensor_dev.html#keep", "core/problem_dev.html#problem",
                    "notebooks/running_dev.html#run", "core/problem_dev.html#tensor"):
        assert public_links(page % address, "https://me.io", public) == "<code>x</code>"
    other = '<a href="https://you.io/a.html#b"><code>x</code></a> <a href="https://me.io/a.html#b">x</a>'
    assert public_links(other, "https://me.io", public) == other


def test_docstrings_are_not_emphasised_in_part():
    "nbdev emphasises the first line of a docstring, even where its sentence goes on."
    shown = ("#### f\n\n```python\n\ndef f(\n    x, *, y\n)->int:\n\n```\n\n"
             "*Return `x`, or what*\nfollows it, *always*.")
    text = documented(shown, "def f(x, *, y) -> int:\n    pass")
    assert text.endswith("Return `x`, or what\nfollows it, *always*.") and "f(x, *, y) -> int" in text


def test_signatures_are_without_what_only_a_command_line_reads():
    code = ("def f(a: Annotated[Optional[list[str]], Option('-a', help='A.')] = None, *,\n"
            "      b: dict[str, Annotated[int, 'B']] = {}) -> Annotated[bool, 'C']: pass")
    (_, shown), = signatures_in(code)
    assert shown.split("\n")[1] == ("def f(a: Optional[list[str]]=None, *, b: dict[str, int]={}) "
                                    "-> bool")


def test_options_in_docstrings_keep_their_hyphens():
    shown = ("### f\n\n```python\n\ndef f(\n    x\n)\n\n```\n\n*Return all.*\n\n"
             "With --all, (--no-run), `a --b` and ---, that is x--y, everything.")
    assert documented(shown, "def f(x):\n    pass").endswith(
        "With `--all`, (`--no-run`), `a --b` and ---, that is x--y, everything.")


@pytest.mark.parametrize("code, fold", [
    ("assert rows[0] > 0.5", True), ("def test_unit_f(): pass", True), ("assertion = 1", False),
    ("x = 1\nassert x", False)])
def test_cells_that_only_check_are_folded(code, fold):
    notebook = SimpleNamespace(cells=[new_code_cell(code)])
    dress(notebook)
    assert notebook.cells[0].source.startswith("#| code-fold: true\n") == fold


@pytest.mark.parametrize("page", [
    "scale/evaluate_dev", "scale/partial_dev", "scale/dask_dev", "bench/bench_dev",
    "checking/mistakes_dev", *(f"04_losses/{page}" for page in PAGES)])
def test_results_are_no_raw_dictionaries(page):
    cells = json.loads((ROOT / f"nbs/{page}.ipynb").read_text(encoding="utf-8"))["cells"]
    shown = ["".join(output["data"]["text/plain"]) for cell in cells
             for output in cell.get("outputs", []) if "text/plain" in output.get("data", {})]
    assert shown and [text for text in shown if text.startswith(("{", "[{"))] == []
