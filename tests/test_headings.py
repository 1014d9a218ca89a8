"""What a reader of a page trips over: headings that stand twice or inside code, rows of tables that
break, links within links, dictionaries as results.
"""
import json
import re
from collections import Counter

import pytest
from test_project import NOTEBOOKS, ROOT
from tinytorch._modidx import d as SYMBOLS


def twins(cells: list) -> list:
    "The headings that stand more than once in the Markdown of a notebook, outside fenced code."
    text = "\n\n".join("".join(cell["source"]) for cell in cells
                       if cell["cell_type"] == "markdown")
    prose = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    headings = Counter(re.findall(r"^#+ +(.+?)\s*$", prose, re.M))
    return [heading for heading, count in headings.items() if count > 1]


def swallowed(cells: list) -> list:
    "The comments in code cells that are headings of Markdown."
    return [line for cell in cells if cell["cell_type"] == "code"
            for line in "".join(cell["source"]).splitlines() if re.match(r"# ?#+ \w", line)]


def broken(text: str) -> list:
    r"The rows of Markdown tables with other columns than their head, as by a `|` without its `\`."
    found, head = [], ""
    for line in text.splitlines():
        head = line.startswith("|") and (head or line)
        if head and len(set(len(re.findall(r"(?<!\\)\|", row)) for row in (head, line))) > 1:
            found.append(line)
    return found


def nested(cells: list) -> list:
    "The links of Markdown whose text is a name of the package, which nbdev makes a link itself."
    names = {symbol.rpartition(".")[2] for module in SYMBOLS["syms"].values() for symbol in module}
    return [link for cell in cells if cell["cell_type"] == "markdown"
            for link, name in re.findall(r"(\[[^\]\n]*`([\w.]+)`[^\]\n]*\]\()", "".join(cell["source"]))
            if name in names]


def unanswered(cells: list) -> list:
    """The questions to the reader of a notebook without a folded answer below them, and lists of
    questions.
    """
    text = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    asked = re.findall(r"(\*\*[^*\n]*[Qq]uestion[^*\n]*\*\*.*)\s*(<details><summary>Answer)?", text)
    listed = re.findall(r"^(?:[-*]|\d+\.) .*\?$", text, re.M)
    return [question for question, answer in asked if not answer] + listed


def dictionaries(cells: list) -> list:
    "The results that cells show as Python's dictionaries."
    results = [output.get("data", {}) for cell in cells for output in cell.get("outputs", [])]
    return ["".join(data["text/plain"]) for data in results
            if [*data] == ["text/plain"] and "{" in "".join(data["text/plain"])]


def shown(cell) -> str:
    "What a cell shows as Markdown."
    if cell["cell_type"] == "markdown": return "".join(cell["source"])
    printed = "output: asis" in "".join(cell["source"])
    return "\n\n".join("".join(output.get("data", {}).get("text/markdown", "")
                               or output.get("text", "") * printed)
                       for output in cell.get("outputs", []))


def cells_of(notebook: str) -> list:
    return json.loads((ROOT / notebook).read_text(encoding="utf-8"))["cells"]


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_each_heading_has_its_own_anchor(notebook):
    assert not twins(cells_of(notebook)), "name what the section is about: 'The trap: overflow'"


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_no_heading_is_swallowed_by_a_code_cell(notebook):
    assert not swallowed(cells_of(notebook)), "make it a Markdown cell"


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_rows_of_tables_are_whole(notebook):
    assert not [row for cell in cells_of(notebook) for row in broken(shown(cell))]


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_no_link_is_within_a_link(notebook):
    assert not nested(cells_of(notebook)), "write the name alone: nbdev links it"


each_lesson = pytest.mark.parametrize("notebook", [name for name in NOTEBOOKS
                                                   if re.match(r"nbs/(\d|guide)", str(name))])


@each_lesson
def test_each_question_has_a_folded_answer(notebook):
    assert not unanswered(cells_of(notebook))


@each_lesson
def test_no_result_of_a_lesson_is_a_dictionary(notebook):
    assert not dictionaries(cells_of(notebook)), "make a table of it: tinytorch.plotting.Results"


def test_the_checks_see_what_they_look_for():
    markdown = [{"cell_type": "markdown", "source": text}
                for text in ("## The trap\n", "Text.\n## The trap", "```\n# note\n# note\n```")]
    assert twins(markdown) == ["The trap"]
    fold = "\n\n<details><summary>Answer</summary>\n\n1.\n\n</details>"
    for text in ("**Question.** How many?", "**A question to try.** Why?\n\n## Next" + fold,
                 "# Questions\n\n1. How long does it take?\n2. Write a loss.", "A. **Question:** Is it?"):
        assert len(unanswered([{"cell_type": "markdown", "source": text}])) == 1, text
    for text in ("**Question.** How many?" + fold, "What is it? A loss.", "- Yes."):
        assert not unanswered([{"cell_type": "markdown", "source": text}]), text
    linked = {"cell_type": "markdown", "source": "[`huber`](a.ipynb), [`what`](b), [huber](c)"}
    assert nested([linked]) == ["[`huber`]("]
    result = {"data": {"text/plain": ["(1,\n", " {'loss': 2})"]}}
    table = {"data": {"text/html": "<table>", "text/plain": "{"}}
    assert dictionaries([{"outputs": [result, table]}]) == ["(1,\n {'loss': 2})"]
    code = {"cell_type": "code", "source": ["# ### Exercise: huber\n", "#| export\n", "## Fix"]}
    assert swallowed([code]) == ["# ### Exercise: huber", "## Fix"]
    head = "| Function | Arguments |\n|---|---|\n"
    assert broken(head + "| `f` | `x: int | None` |") == ["| `f` | `x: int | None` |"]
    assert not broken(head + "| `f` | `x: int \\| None` |\n\n| a |\n|---|\n| b |")
    printed = {"cell_type": "code", "source": "#| output: asis\nf()", "outputs": [{"text": ["| a |"]}]}
    assert shown(printed) == "| a |" and not shown(printed | {"source": "f()"})
