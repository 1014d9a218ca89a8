"What a reader of a page trips over: headings that stand twice, headings inside code."
import json
import re
from collections import Counter

import pytest
from test_project import NOTEBOOKS, ROOT


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


def cells_of(notebook: str) -> list:
    return json.loads((ROOT / notebook).read_text(encoding="utf-8"))["cells"]


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_each_heading_has_its_own_anchor(notebook):
    assert not twins(cells_of(notebook)), "name what the section is about: 'The trap: overflow'"


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_no_heading_is_swallowed_by_a_code_cell(notebook):
    assert not swallowed(cells_of(notebook)), "make it a Markdown cell"


def test_the_checks_see_what_they_look_for():
    markdown = [{"cell_type": "markdown", "source": text}
                for text in ("## The trap\n", "Text.\n## The trap", "```\n# note\n# note\n```")]
    assert twins(markdown) == ["The trap"]
    code = {"cell_type": "code", "source": ["# ### Exercise: huber\n", "#| export\n", "## Fix"]}
    assert swallowed([code]) == ["# ### Exercise: huber", "## Fix"]
