"""The Python behind the Run and Check buttons of the site, on the site's own package, in an empty
folder.
"""
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tinytorch.exercises.exercises import find_exercises, exercises
from tinytorch.notebooks.project import Project
from tinytorch.site.pages import code_of, zip_package, runs

ROOT = Path(__file__).resolve().parents[1]
PROJECT = Project(ROOT)
LESSONS = [path for module in PROJECT.modules() if module.number
           for path in module.notebooks if runs(path)]
each_lesson = pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)


@pytest.fixture(scope="session")
def package(tmp_path_factory):
    "The folder of the unpacked archive that the site's pages load."
    folder = tmp_path_factory.mktemp("package")
    zip_package(PROJECT.lib, folder / "package.zip")
    zipfile.ZipFile(folder / "package.zip").extractall(folder / "unpacked")
    return folder / "unpacked"


@pytest.fixture(scope="session")
def checks():
    "The checks that the site's pages read, by exercise."
    return {exercise.name: exercise.check for module in PROJECT.modules() if module.number
            for exercise in exercises(PROJECT, module)}


def carried_out(package, folder, tasks, seconds=300):
    "What the page's Python says to each task, in a process of its own that starts in `folder`."
    plan = {"package": str(package), "page": str(ROOT / "nbs/web/page.py"), "tasks": tasks}
    done = subprocess.run([sys.executable, "-I", ROOT / "tests/page_runner.py"], cwd=folder,
                          input=json.dumps(plan), capture_output=True, encoding="utf-8",
                          timeout=seconds)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def cells_of(path):
    return [cell for cell in code_of(json.loads(path.read_bytes()), PROJECT.lib)
            if not cell["alone"]]


@each_lesson
def test_every_cell_runs_and_every_exercise_is_checked(package, checks, tmp_path, path):
    "A blank, a solution, and a wrong answer are called what they are, one after the other."
    tasks, wanted = [], []
    for cell in cells_of(path):
        if exercise := cell["exercise"]:
            name = exercise["name"]
            wrong = exercise["blank"].replace("raise NotImplementedError()", "return None")
            for code, mark in ((exercise["blank"], "⬜"), (wrong, "❌"), (cell["code"], "✅")):
                tasks.append({"check": name, "code": code, "data": json.dumps(checks[name])})
                wanted.append((name, mark))
        tasks.append(cell)
    said = [*zip(tasks, carried_out(package, tmp_path, tasks))]
    failed = [(task["code"][:200], messages[0]["text"]) for task, messages in said
              if "check" not in task and messages[-1] != {"done": True}]
    judged = [(task["check"], result["mark"]) for task, result in said if "check" in task]
    assert tasks and not failed
    assert judged == wanted and len(wanted) == 3 * len(find_exercises(PROJECT, path))
    assert not [*tmp_path.iterdir()], "a cell left a file behind"


def squared_error(body):
    return f"def squared_error(input, target):\n    {body}"


@pytest.mark.parametrize("code, mark, words", [
    (squared_error("return (input - target) ** 2, input - target"), "❌", "2"),
    (squared_error("return input -"), "❌", "SyntaxError in line 2"),
    (squared_error("return unknown"), "❌", "NameError in line 2 of its cell: `return unknown`"),
    ("def another(): pass", "❌", "does not define squared_error"),
    ("import sys; sys.exit()", "❌", "SystemExit"),
    (squared_error("e = input - target; return e * e, 2 * e"), "✅", "known mistakes ruled out")])
def test_a_mistake_is_named(package, checks, tmp_path, code, mark, words):
    data = json.dumps(checks["squared_error"])
    said, = carried_out(package, tmp_path, [{"check": "squared_error", "code": code, "data": data}])
    assert said["mark"] == mark and words in said["text"]


def test_later_cells_use_a_right_answer_only(package, checks, tmp_path):
    data = json.dumps(checks["squared_error"])
    right = squared_error("e = input - target; return e * e, 2 * e  # mine")
    cell = {"packages": [], "code": "squared_error.__code__.co_filename"}
    before = {"packages": [], "code": squared_error("return 'the lesson'")}
    ask = {"packages": [], "code": "str(squared_error(3.0, 1.0))"}
    check = {"check": "squared_error", "data": data}
    said = carried_out(package, tmp_path, [before, check | {"code": squared_error("return 1, 2")},
                                           ask, check | {"code": right}, ask, cell])
    assert said[2][0]["text"] == "'the lesson'" and said[4][0]["text"] == "'(4.0, 4.0)'"


def test_what_a_cell_shows(package, tmp_path):
    def task(code, *packages): return {"code": code, "packages": packages}
    said = carried_out(package, tmp_path, [
        task("x = 1\nx"), task("x;"), task("x = 2"), task("def f():\n    1 / 0\nf()"), task("y ="),
        task("class H:\n    def _repr_html_(self): return '<b>1</b>'\nH()"),
        task("import inspect\ndef g(): return 7\ninspect.getsource(g)"),
        task("import matplotlib.pyplot as plt\nplt.figure().alt = 'a line'; plt.plot([1, 2]);"),
        task("import torch"), task("import tkinter"),
        task("import tinytorch\nprint(tinytorch.__file__)\ntinytorch.__file__")])
    texts = [messages[0].get("text", "") for messages in said]
    assert texts[:3] == ["1", "", ""] and said[1] == said[2] == [{"done": True}]
    assert "line 3" in texts[3] and "1 / 0" in texts[3] and "page.py" not in texts[3]
    assert "ZeroDivisionError" in texts[3] and said[3][-1] == {"done": False}
    assert "SyntaxError" in texts[4] and said[5][0] == {"html": "<b>1</b>"}
    assert "return 7" in texts[6]
    assert said[7][0]["alt"] == "a line" and said[7][0]["png"] and said[7][-1] == {"done": True}
    assert all("ModuleNotFoundError" in text for text in texts[8:10]), texts[8:10]
    assert str(package) in texts[10]
