"The API reference: each public name once, with everything, and all of it true."
import ast
import contextlib
import html
import inspect
import io
import json
import re
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from test_contract import NOT_COMPILED
from test_headings import broken
from tinytorch import nn
from tinytorch.checking import examples, gradients_of
from tinytorch.nn.criterion import LOSSES
from tinytorch.site import reference
from tinytorch.site.pages import SiteError
from tinytorch.site.reference import MODULES, PARTS, names, write_reference

matplotlib.use("Agg")
ROOT = Path(__file__).resolve().parents[1]
FULL = [module for module in MODULES if module != "nn.functional"]
EVERYWHERE = [(module, name) for module in FULL for name in names(module)]
FUNCTIONS = list(names("nn.functional"))
each_name = pytest.mark.parametrize("module, name", EVERYWHERE,
                                    ids=[name for _, name in EVERYWHERE])
each_function = pytest.mark.parametrize("name", FUNCTIONS)


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict:
    "The text of each page by its name."
    folder = tmp_path_factory.mktemp("pages")
    write_reference(ROOT, folder)
    return {path.name: path.read_text(encoding="utf-8")
            for path in (folder / "reference").iterdir()}


@pytest.fixture(scope="module")
def entries(pages) -> dict:
    "The text of each entry by (page, name), from its heading to the next."
    return {(page, found[1]): found[2] for page, text in pages.items()
            for found in re.finditer(r"^##+ (\S+) \{#\1\}\n(.*?)(?=^##+ |\Z)", text, re.M | re.S)}


def page(module: str) -> str:
    return module.rpartition(".")[2] + ".qmd"


def tables(text: str) -> list:
    "The tables of an entry as lists of rows, each a list of cells."
    found = re.findall(r"(?:^\|.*\n)+", text, re.M)
    return [[[cell.strip() for cell in line.strip("| \n").split(" | ")]
             for line in table.splitlines()] for table in found]


def blocks(text: str) -> list:
    "The blocks of code of an entry, each with the output shown below it."
    found = re.findall(r"^```python\n(.*?)\n```\n(?:\n::: \{.cell-output "
                       r".cell-output-display\}\n<pre><code>(.*?)</code></pre>\n:::\n)?",
                       text, re.M | re.S)
    return [(code, html.unescape(output)) for code, output in found]


def run(code: str, given: dict) -> str:
    "What the statements print, one after another, as in Python's console."
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        for statement in ast.parse(code).body:
            if not isinstance(statement, ast.Expr): exec(ast.unparse(statement), given)
            elif (value := eval(ast.unparse(statement), given)) is not None: print(repr(value))
    return printed.getvalue().rstrip()


def check_signature(text: str, thing) -> None:
    "The block shows every parameter with its kind and default."
    header = ast.parse(
        f"def {text.replace('F.', '', 1) if text.startswith('F.') else text}: pass").body[0].args
    shown = [*header.posonlyargs, *header.args, *filter(None, [header.vararg]), *header.kwonlyargs,
             *filter(None, [header.kwarg])]
    real = [p for p in inspect.signature(thing).parameters.values() if p.name != "self"]
    assert [x.arg for x in shown] == [p.name for p in real]
    assert [x.arg for x in header.kwonlyargs] == [p.name for p in real if p.kind is p.KEYWORD_ONLY]
    assert [x.annotation is None for x in shown] == [p.annotation is p.empty for p in real]
    defaults = [ast.literal_eval(x) for x in [*header.defaults, *header.kw_defaults]
                if x is not None]
    assert defaults == [p.default for p in real if p.default is not p.empty]


def test_every_public_name_has_its_entry(pages):
    headings = [name for module in FULL
                for name in re.findall(r"^## (\S+)", pages[page(module)], re.M)]
    offered = {name for name in nn.__all__
               if isinstance(value := getattr(nn, name), type) or inspect.isfunction(value)}
    criterion = {name for name in offered
                 if getattr(nn, name).__module__.split(".")[-1] in (
                     "criterion", "arguments", "evaluation")}
    others = {"Tensor", "cat", "stack", "engine", "GradScaler", "cast", "explore",
              "explore_outlier", "linear_cross_entropy", "panels", "plot_loss", "plot_losses", "plot_training",
              "plot_landscape", "plot_samples", "plot_worst", "plot_reliability", "Results"}
    assert sorted(headings) == sorted(offered - criterion - PARTS
                                      | others), "add the module to MODULES"
    assert re.findall(r"^## (\S+)", pages["functional.qmd"],
                      re.M) == dir(nn.functional) == FUNCTIONS
    assert {page(module) for module in MODULES} | {"index.qmd"} == pages.keys()


def test_index_lists_every_name_once(pages):
    listed = re.findall(r"^- \[`(\w+)`\]\((\w+\.qmd)#(\w+)\)(?: \(([\w -]+)\))?: \S",
                        pages["index.qmd"], re.M)
    assert [(name, place) for name, place, _, _ in listed] == [
        (name, page(module)) for module in MODULES for name in names(module)]
    assert all(name == anchor for name, _, anchor, _ in listed)
    assert {name: task for name, _, _, task in listed if task} == {
        name: loss.task for name, loss in LOSSES.items()
        if loss.__module__.startswith("tinytorch.")}


@each_name
def test_entry_has_everything(entries, module, name):
    text, thing = entries[page(module), name], names(module)[name]
    check_signature(blocks(text)[0][0], thing)
    table = next((table for table in tables(text)
                  if table[0] == ["Parameter", "Type", "Default", "Meaning"]),
                 [[], []])
    assert [row[0] for row in table[2:]] == [f"`{p}`" for p in inspect.signature(thing).parameters]
    assert all(len(row) == 4 and row[3] for row in table[2:])
    for key in ("Shapes", "Range", "Errors", "Source"):
        assert (f"\n**{key}:** " in text) == bool(reference.said(thing, key))
    if name in LOSSES:
        facts = next(table for table in tables(text)
                     if table[0] == ["Argument", "Holds", "Gradient"])
        assert ([row[0].strip("`") for row in facts[2:]] == [*thing.domain, "sample_weight"]
                and f"**Task:** {thing.task}." in text)
        assert all(row[2] == "no" for row in facts[2:] if row[0].strip("`") in thing.constant)


IN_REGISTRY = [(module, name) for module, name in EVERYWHERE if name in LOSSES]
each_loss = pytest.mark.parametrize("module, name", IN_REGISTRY,
                                    ids=[name for _, name in IN_REGISTRY])


@each_loss
def test_loss_has_formula_reductions_and_relatives(entries, module, name):
    text, loss = entries[page(module), name], LOSSES[name]
    *formulas, reductions = re.findall(r"^\$\$\n(.*?)\n\$\$$", text, re.M | re.S)
    assert formulas and all(r"\ell" in formula for formula in formulas)
    assert all(formula.count("{") == formula.count("}") for formula in formulas)
    told = set(re.findall(r"\\texttt\{(\w+)\}", reductions))
    assert told == set(loss.reductions)
    assert "\n**Returns:** a `Tensor`" in text and "\n**See also:** [" in text
    assert ('<img alt="' in text) == (name not in reference.NOT_DRAWN)


def test_formulas_are_written_once(monkeypatch):
    "A formula stands in the reference only where the lesson shows none that is the loss's own."
    given = reference.VARIANTS
    monkeypatch.setattr(reference, "VARIANTS", {})
    shown = {name for name in given if reference.formulas(ROOT, LOSSES[name])}
    # whose lesson shows the mean over a batch
    assert {*given} < {*LOSSES} and shown == {"LinearCrossEntropyLoss"}


def test_a_mean_that_is_no_average_is_not_told_as_one():
    class Halved(nn.MSELoss):
        def forward(self, *arguments, **more):
            value = super().forward(*arguments, **more)
            return value * 0.5 if self.reduction == "mean" else value
    try: assert reference.averages(nn.MSELoss) and not reference.averages(Halved)
    finally: LOSSES.pop("Halved", None)


@each_loss
def test_each_option_is_used_in_an_example(entries, module, name):
    used = "\n".join(code for code, _ in blocks(entries[page(module), name])[1:])
    missing = {option for option in inspect.signature(LOSSES[name]).parameters
               if not re.search(rf"\b{option}=", used)}
    # its calls begin with a layer that is made before
    assert not missing or name == "LinearCrossEntropyLoss"


@each_loss
def test_an_option_that_makes_no_difference_is_not_shown(module, name):
    shown = [got for code, got in reference.option_examples(LOSSES[name]) if "'none'" not in code]
    made = dict(reference.run_imports(reference.START))
    for code, _ in reference.run_example(name, reference.parse_docstring(LOSSES[name].__doc__).example,
                                         module): exec(code, made)
    plain = reference.with_option(LOSSES[name], "reduction", "mean")
    if plain: assert run(plain, made) not in shown


@each_loss
def test_the_loss_in_a_picture_moves(module, name):
    if name not in reference.NOT_DRAWN: assert np.ptp(reference.course(LOSSES[name])[1]) > 0.01


FORMULAS = [(module, name) for module, name in EVERYWHERE
            if name in LOSSES and LOSSES[name].formula is not None]


@pytest.mark.parametrize("module, name", FORMULAS, ids=[name for _, name in FORMULAS])
def test_gradients_are_as_the_table_says(entries, module, name):
    thing = names(module)[name]
    has = dict.fromkeys(thing.domain, "no")
    for loss, arguments in examples(thing, {}, np.random.default_rng(0), reductions=["sum"]):
        has |= {argument: "yes"
                for argument, gradient in zip(thing.domain, gradients_of(loss, arguments))
                if gradient is not None}
    facts = next(table for table in tables(entries[page(module), name])
                 if table[0][0] == "Argument")
    assert {row[0].strip("`"): row[2] for row in facts[2:]} == has | {"sample_weight": "no"}


def test_compiled_is_what_the_compiler_says(pages):
    texts = "".join(pages.values())
    found = re.findall(r"\*\*Compiled:\*\* (.*?)\. \*\*Function", texts)
    reasons = [why.removeprefix("no: the formula ") for why in found if why.startswith("no:")]
    assert (len(found) == len([name for _, name in EVERYWHERE if name in LOSSES])
            and len(reasons) == len(NOT_COMPILED))
    assert all(any(word in reason for reason in reasons) for word in NOT_COMPILED.values())


@each_name
def test_examples_print_what_is_shown(entries, module, name):
    mine = [text for (place, heading), text in entries.items()
            if place == page(module) and heading.partition(".")[0] == name]
    for text in mine:
        given, shown = {}, blocks(text)[1:]
        exec(reference.imports(module), given)
        assert shown, "no example"
        assert [(code, run(code, given)) for code, _ in shown] == shown


@each_function
def test_function_is_called_as_shown(entries, name):
    text, given = entries["functional.qmd", name], {}
    (signature, _), *shown = blocks(text)
    check_signature(signature, getattr(nn.functional, name))
    exec(reference.imports("nn.functional"), given)
    assert shown and f"F.{name}(" in shown[-1][0]
    assert [(code, run(code, given)) for code, _ in shown] == shown


def test_functions_with_a_weight_explain_it(entries):
    explained = {name for name in FUNCTIONS if "| `weight` |" in entries["functional.qmd", name]}
    assert explained == {"mse_loss", "l1_loss", "huber_loss"}


def test_papers_are_links(pages):
    text = "".join(pages.values())
    for kind, address, form in (("doi", "https://doi.org/", r"10\.\d{4,9}/[\w.:()/-]*\w"),
                                ("arXiv", "https://arxiv.org/abs/", r"\d{4}\.\d{4,5}")):
        links = re.findall(rf"\[{kind}:([^\]]+)\]\(([^)]+)\)", text)
        assert len(links) > 10 and len(links) == len(re.findall(rf"\b{kind}:", text))
        assert all(target == address + number and re.fullmatch(form, number)
                   for number, target in links)


@each_name
def test_lesson_and_source_are_where_the_links_lead(entries, module, name):
    text = entries[page(module), name]
    heading, notebook, anchor = re.search(r"^Lesson: \[(.+?)\]\(\.\./(\S+)#(\S+)\)", text,
                                          re.M).groups()
    cells = json.loads((ROOT / "nbs" / notebook).read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells]
    where = next(i for i, source in enumerate(sources)
                 if re.search(rf"^(class|def) {name}\b", source, re.M))
    assert (any(re.search(rf"^#+ {re.escape(heading)}$", source, re.M)
                for source in sources[:where]) and anchor == name.lower())
    check_source(text, name)


@pytest.mark.parametrize("name", [f"{name}.{method}" for module in FULL for name, thing in names(module).items() for method in reference.methods_of(thing)])
def test_source_of_methods(entries, name):
    check_source(next(text for (_, heading), text in entries.items() if heading == name),
                 name.partition(".")[2])


def check_source(text: str, name: str) -> None:
    "The link of an entry names the lines of the definition, and no code before or after."
    link = re.search(
        r"\[Source\]\(https://github\.com/tinytorch/tinytorch/blob/main/(\S+\.py)#L(\d+)-L(\d+)\)",
        text)
    code, first, last = (ROOT / link[1]).read_text(encoding="utf-8"), int(link[2]), int(link[3])
    nodes = [node for node in ast.walk(ast.parse(code))
             if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == name]
    ends = {min(x.lineno for x in [*node.decorator_list, node]): node.end_lineno for node in nodes}
    assert (first in ends and last >= ends[first]
            and not re.findall(r"^ *[^\s#]", "\n".join(code.splitlines()[ends[first]:last]), re.M))


def test_what_is_said_elsewhere_is_said_here(pages):
    assert not [line for text in pages.values() for line in text.splitlines()
                if re.search(r"(^\*\*\w+:\*\*|\|) as (for \[|there)", line)]


def test_links_between_pages_lead_somewhere(pages):
    for name, text in pages.items():
        for target, anchor in re.findall(r"\]\((\w+\.qmd)(?:#([\w.]+))?\)", text):
            assert not anchor or f"{{#{anchor}}}" in pages[target], f"{name}: {target}#{anchor}"


def test_rows_of_tables_are_whole(pages):
    assert sum(text.count("\n| --- |") for text in pages.values()) > 100
    assert not [row for text in pages.values() for row in broken(text)]


def test_pages_are_in_order(pages):
    for text in pages.values():
        assert re.match(r'---\ntitle: "Reference[\w: ]*"\ndescription: "\S[^"]+"\n---\n', text)
        levels = [len(found)
                  for found in re.findall(
                      r"^(#+) ", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M)]
        assert (levels[0] == 2
                and all(later <= level + 1 and later > 1
                        for level, later in zip(levels, levels[1:])))
        assert all(len(row) == len(table[0]) for table in tables(text) for row in table)


@pytest.mark.parametrize("old, new, says", [("    0.875", "    0.5", "printed"), ("HuberLoss()(", "HuberLoss(width=1)(", "failed")])
def test_a_wrong_example_stops_the_pages(monkeypatch, tmp_path, old, new, says):
    monkeypatch.setattr(nn.HuberLoss, "__doc__", nn.HuberLoss.__doc__.replace(old, new))
    with pytest.raises(SiteError, match=f"example of HuberLoss {says}"):
        write_reference(ROOT, tmp_path)
    assert not list(tmp_path.rglob("*.qmd"))
