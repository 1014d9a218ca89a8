"The structure of the package: imports go one way, and a call stays short enough to be read."
import ast
import re
import sys
from collections import defaultdict
from graphlib import TopologicalSorter
from pathlib import Path

import numpy as np

import tinytorch
from tinytorch.core.tensor import Tensor
from tinytorch.nn import MSELoss

ROOT = Path(tinytorch.__file__).parent
MODULES = {".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"):
           path for path in ROOT.rglob("*.py") if path.name != "_modidx.py"}
DOORS = {"tinytorch", "tinytorch.checking", "tinytorch.hosts", "tinytorch.nn", "tinytorch.scale"}   # import when asked


def imported(module: str) -> set:
    "Return the modules of the package that a module imports, in functions and by name as well."
    names, package = set(), module.split(".")[:-1]
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            base = [*package[:len(package) + 1 - node.level]] if node.level else []
            start = ".".join([*base, *filter(None, [node.module])])
            names |= {start, *[f"{start}.{alias.name}" for alias in node.names]}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Constant) and re.fullmatch(r"tinytorch(\.\w+)+", str(node.value)):
            names.add(node.value)
    return (names & set(MODULES)) - DOORS - {module}


def test_imports_have_no_circle():
    graph = {module: imported(module) for module in MODULES if module not in DOORS}
    assert graph["tinytorch.nn.losses"] > {"tinytorch.nn.criterion"}
    TopologicalSorter(graph).prepare()      # raises CycleError, which names the circle


# from the ground up; `data` holds files, and the modules beside the wings belong to one each
WINGS = [{"core"}, {"nn", "amp"}, {"hosts", "scale"}, {"checking"}, {"notebooks"}, {"exercises"},
         {"grading"}, {"site", "plotting", "interactive", "bench"}, {"tito"}]


def floor(module: str) -> int:
    "Return how high the wing of a module stands."
    return next(i for i, wings in enumerate(WINGS) if module.split(".")[1] in wings)


def test_imports_go_down():
    modules = MODULES.keys() - DOORS - {"tinytorch.data"}
    assert {floor(module) for module in modules} == set(range(len(WINGS)))
    up = [(module, other) for module in modules for other in imported(module) & modules
          if floor(other) > floor(module)]
    assert up == []


def test_a_call_enters_few_functions():
    entered, loss = set(), MSELoss()
    input, target = Tensor([1.0, 2.0], requires_grad=True), Tensor([0.0, 0.0])

    def listen(frame, event, _):
        if event == "call" and frame.f_code.co_filename.startswith(str(ROOT)):
            entered.add(frame.f_code)

    with tinytorch.engine("numpy"):
        loss(input, target).backward()
        input.zero_grad()
        before = sys.getprofile()
        sys.setprofile(listen)
        try:
            loss(input, target).backward()
        finally:
            sys.setprofile(before)
    names = sorted([code.co_name for code in entered if not code.co_name.endswith("comp>")])
    assert "squared_error" in names
    assert len(names) <= 22, names
    assert np.array_equal(input.grad, [1.0, 2.0])


def top_level(tree) -> set:
    "Return the names that a module defines at its top level, private ones aside."
    names = set()
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {part.id for target in targets for part in ast.walk(target)
                      if isinstance(part, ast.Name)}
    return {name for name in names if not name.startswith("_")}


def test_a_name_has_one_meaning():
    "`tanh` is the activation of the lessons, and the same function as compiled loops compute it."
    defined = defaultdict(set)
    for module, path in MODULES.items():
        for name in top_level(ast.parse(path.read_text(encoding="utf-8"))):
            defined[name].add(module)
    assert "squared_error" in defined
    twins = {name: modules for name, modules in defined.items() if len(modules) > 1}
    assert twins.keys() <= {"tanh", "main"}, twins


# what docstrings of functions begin with; add a verb that is missing
VERBS = set("""
Add Build Call Change Check Choose Clean Compute Copy Divide Do Draw Dress End Exit Export Fill
Fit Forget Give Go Hand Have Hold Join Keep Lay Let Limit Make Mark Measure Move Note Open Plot
Print Put Raise Read Record Refuse Remove Render Restore Return Reverse Run Save Say Send Serve Set Show
Start State Sum Switch Take Tell Test Time Train Turn Wait Warn Write Yield
""".split())


def without_verb(tree) -> list:
    "Return the functions whose docstring begins with something else than a verb; not properties."
    named = [(node, ast.get_docstring(node)) for node in ast.walk(tree)
             if isinstance(node, ast.FunctionDef)]
    properties = {"property", "cached_property"}
    return [node.name for node, text in named
            if text and re.match(r"\S+?(?=\W|$)", text)[0] not in VERBS
            and not properties & {getattr(mark, "id", "") for mark in node.decorator_list}]


def test_docstrings_begin_with_a_verb():
    plant = 'def f():\n    "The square."\ndef g():\n    "Return the square."'
    assert without_verb(ast.parse(plant)) == ["f"]
    assert [(module, name) for module, path in MODULES.items()
            for name in without_verb(ast.parse(path.read_text(encoding="utf-8")))] == []


def test_what_runs_in_threads_parses_one_at_a_time():
    "Python 3.11's `ast.parse` fails when another thread parses as well: `exercises.parse` waits."
    alone = [module for module, file in MODULES.items() if module.split(".")[1:2] == ["grading"]
             and "ast.parse(" in file.read_text(encoding="utf-8")]
    assert alone == []
