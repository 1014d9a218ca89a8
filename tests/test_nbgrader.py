"""The notebooks work with nbgrader 0.9: it makes the student's version and marks what is handed in.

Slow, for it installs nbgrader into an environment of its own: `pytest --slow
tests/test_nbgrader.py`.
"""
import ast
import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tinytorch.exercises.exercises import (annotate, blank, find_exercises, function_names, parse,
                                           test_of as first_test, uses)
from tinytorch.notebooks.notebook import text_of
from tinytorch.notebooks.project import Project

ROOT = Path(__file__).resolve().parents[1]
PROJECT = Project(ROOT)
QUICK = ("losses_dev", "embedding_losses_dev")
LESSONS = [path for path in PROJECT.find("04").notebooks if find_exercises(PROJECT, path)]


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_metadata_is_in_step(path):
    "`tito refresh` sets it. Ids are unique, and every exercise has a test that gives its points."
    nb = json.loads(path.read_text(encoding="utf-8"))
    before = [cell["metadata"].get("nbgrader") for cell in nb["cells"]]
    annotate(nb)
    assert [cell["metadata"].get("nbgrader") for cell in nb["cells"]] == before
    ids = [data["grade_id"] for data in before if data]
    assert len(ids) == len(set(ids))
    assert sum(data.get("points", 0) for data in before if data) == sum(
        exercise.points for exercise in find_exercises(PROJECT, path))


def definitions(nb) -> list:
    """The cells of a notebook cut down to imports, functions, classes and assignments, as (cell,
    syntax tree).
    """
    kinds = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign)
    found = []
    for cell in nb["cells"]:
        source = text_of(cell)
        if (cell["cell_type"] == "code" and (tree := parse(source))
            and not source.startswith("#| slow")):
            tree.body = [node for node in tree.body if isinstance(node, kinds)]
            found.append((cell, tree))
    return found


def define(trees, space):
    "Run trees; an assignment that needs what was left out is left out, too."
    for tree in trees:
        for node in tree.body:
            try:
                exec(compile(ast.Module([node], []), "cell", "exec"), space)
            except Exception:
                if not isinstance(node, ast.Assign):
                    raise


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_blank_costs_its_points(path, monkeypatch, request):
    "With one exercise blanked, the test that gives its points fails; with none, no test does."
    if path.stem not in QUICK and not request.config.getoption("--slow"):
        pytest.skip("slow: runs every unit test twice for each exercise")
    from tinytorch.nn.criterion import LOSSES
    monkeypatch.chdir(path.parent)
    before = dict(LOSSES)
    nb = json.loads(path.read_text(encoding="utf-8"))
    cells = definitions(nb)
    numbers = {id(cell): number for number, (cell, _) in enumerate(cells)}
    graph = {name: uses(text_of(cell)) - {name} for cell, _ in cells
             for name in function_names(text_of(cell))}
    tests = {name: cell["metadata"].get("nbgrader", {}).get("points") for cell, _ in cells
             for name in function_names(text_of(cell)) if name.startswith("test_unit_")}
    space = {"__name__": "lesson"}
    try:
        define([tree for _, tree in cells], space)
        for cell, _ in cells:
            data = cell["metadata"].get("nbgrader", {})
            if not data.get("solution"):
                continue
            name = data["grade_id"]
            below = [test for test in tests if place(cells, test) > numbers[id(cell)]]
            test = first_test(name, below, graph)
            assert tests[test], f"{test} gives no points"
            space[test]()
            exported = [tree for other, tree in cells[numbers[id(cell)]:]
                        if "export" in text_of(other).partition("\n")[0]]
            define([ast.parse(blank(text_of(cell))), *exported[1:]], space)
            with pytest.raises(NotImplementedError):
                space[test]()
            define(exported, space)
    finally:
        LOSSES.clear()
        LOSSES.update(before)


def place(cells, name) -> int:
    return next(number for number, (cell, _) in enumerate(cells)
                if name in function_names(text_of(cell)))


@pytest.fixture(scope="module")
def nbgrader(request, tmp_path_factory):
    "A function that runs nbgrader in a course of its own."
    if not request.config.getoption("--slow"):
        pytest.skip("slow: installs nbgrader")
    home = tmp_path_factory.mktemp("nbgrader")
    subprocess.run([sys.executable, "-m", "venv", home / "env"], check=True)
    python = next((home / "env").glob("[bS]*/python*"))
    site = subprocess.run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
                          check=True, capture_output=True, text=True).stdout.strip()
    Path(site, "ours.pth").write_text(f"{sysconfig.get_path('purelib')}\n{ROOT}\n")
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
                    "nbgrader>=0.9,<0.10"],
                   check=True)
    course = home / "course"
    (course / "source" / "losses").mkdir(parents=True)
    (course / "nbgrader_config.py").write_text("c = get_config()\nc.CourseDirectory.course_id = "
                                               "'tinytorch'\n")
    environment = os.environ | {"PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
                                "PYTHONPATH": str(ROOT), "TINYTORCH_ENGINE": "numpy"}

    def run(*arguments):
        done = subprocess.run([python, "-m", "nbgrader", *arguments], cwd=course, env=environment,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert done.returncode == 0, done.stdout[-3000:]
        return course

    return run, python, environment


def test_nbgrader_generates_and_grades(nbgrader):
    run, python, environment = nbgrader
    lesson = ROOT / "nbs/04_losses/losses_dev.ipynb"
    course = run("--version")
    folder = course / "source" / "losses"
    for file in (lesson, *lesson.parent.glob("*.json"), *lesson.parent.glob("*.txt")):
        (folder / file.name).write_bytes(file.read_bytes())
    run("generate_assignment", "losses")
    released = json.loads((course / "release" / "losses" / lesson.name).read_text(encoding="utf-8"))
    text = json.dumps(released)
    assert ("BEGIN SOLUTION" not in text
            and text.count("YOUR CODE HERE") == len(find_exercises(PROJECT, lesson))
            and "#| exports" in text)
    handed_in = course / "submitted" / "ann" / "losses"
    handed_in.mkdir(parents=True)
    for file in folder.iterdir():
        (handed_in / file.name).write_bytes(file.read_bytes())
    run("autograde", "losses", "--student", "ann")
    code = ("from nbgrader.api import Gradebook; g = Gradebook('sqlite:///gradebook.db'); s = "
            "g.find_submission('losses', 'ann'); print(s.score, s.max_score)")
    done = subprocess.run([python, "-c", code], cwd=course, env=environment, capture_output=True,
                          text=True)
    score, most = map(float, done.stdout.split())
    assert score == most == sum(exercise.points
                                for exercise in find_exercises(PROJECT, lesson)), done.stderr
