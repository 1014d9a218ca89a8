"""The guides and the changelog name commands, options, exercises, files and links that exist, and
the newest version is this one.
"""
import json
import re
import shlex
from configparser import ConfigParser
from pathlib import Path

import pytest
from typer.main import get_command

from tinytorch.tito.cli import app
from tinytorch.exercises.exercises import find_exercises, solution_lines
from tinytorch.notebooks.notebook import code_cells, read_notebook
from tinytorch.notebooks.project import Project
from tinytorch.grading.release import telling

ROOT = Path(__file__).resolve().parents[1]
PROJECT = Project(ROOT)
LESSON = PROJECT.find("04")
EXERCISES = {exercise.name for path in LESSON.notebooks
             for exercise in find_exercises(PROJECT, path)}
PAGES = ["nbs/guide/students.ipynb", "nbs/guide/instructors.ipynb",
         "nbs/core/how_it_works.ipynb", "CHANGELOG.md"]
TITO = get_command(app)
SITE = "https://tinytorch.github.io/tinytorch/"
each_page = pytest.mark.parametrize("page", PAGES)


def cells(page: str) -> list:
    "The cells of a page as (type, source, outputs)."
    text = (ROOT / page).read_text(encoding="utf-8")
    if page.endswith(".md"):
        return [("markdown", text, [])]
    return [(cell["cell_type"], "".join(cell["source"]), cell.get("outputs", []))
            for cell in json.loads(text)["cells"]]


def prose(page: str) -> str:
    return "\n".join(source for kind, source, _ in cells(page) if kind == "markdown")


def code(page: str) -> str:
    return "\n".join(source for kind, source, _ in cells(page) if kind == "code")


def printed(page: str) -> str:
    outputs = [output for _, _, outputs in cells(page) for output in outputs]
    return "\n".join("".join(output.get("text", output.get("data", {}).get("text/markdown", "")))
                     for output in outputs)


def commands(page: str) -> list:
    """Every command with `tito` on the page: in backticks, on a line of its own, run by a cell, or
    told by another.
    """
    found = (re.findall(r"`tito ([^`]+)`", prose(page))
             + re.findall(r"^tito (.+)$", prose(page), re.M))
    found += (re.findall(r'\b(?:tito|command)\("([^"]+)"', code(page))
              + re.findall(r"^(?:\$ |A hint: )tito (.+)$", printed(page), re.M))
    return sorted(set(found))


def test_commands_are_found():
    assert {"start 04", "test 04", "export 04", "status", "doctor", "hint 04 squared_error",
            "reset 04 huber"} <= set(commands(PAGES[0]))
    assert {"release edition",
            "grade submissions --out marks --notebook losses_dev "
            "--timeout 8"} <= set(commands(PAGES[1]))


@pytest.mark.parametrize("page, command", [(page, command) for page in PAGES for command in commands(page)])
def test_command_exists(page, command):
    """Read by the command line itself, but not run.

    Mentioned without its arguments it is accepted, too.
    """
    name, *arguments = shlex.split(command.replace("...", ""))
    assert name in TITO.commands, f"there is no command `tito {name}`"
    try:
        TITO.commands[name].make_context(name, list(arguments))
    except Exception as error:
        assert type(error).__name__ == "MissingParameter", f"tito {command}: {error.format_message()}"
    for option, value in zip(arguments, arguments[1:]):
        if option in ("-e", "--exercise") and not value.isupper():
            assert value in EXERCISES
        if option == "--notebook":
            assert (LESSON.folder / f"{value}.ipynb").exists()
    named = [argument for argument in arguments[:2] if not argument.startswith("-")]
    if name in ("hint", "reset", "solution") and named:
        assert named.pop() in EXERCISES | {"EXERCISE", "NAME"}
    if (name in ("test", "start", "export", "hint", "reset") and named
        and not arguments[0].startswith("-")):
        assert PROJECT.find(named[0]) == LESSON


@each_page
def test_exercises_exist(page):
    named = (re.findall(r'\b(?:write|show|watch)\("(\w+)"', code(page))
             + re.findall(r"(\w+)=f?\"+ {4}", code(page)))
    assert set(named) <= EXERCISES
    if "students" in page:
        assert named


@each_page
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)\s]+)\)", prose(page) + printed(page))
    assert links
    for link in links:
        if link.startswith(SITE):
            assert (ROOT / "nbs"
                    / link.removeprefix(SITE).replace(".html", ".ipynb")).exists(), link
        elif not link.startswith("https://"):
            assert ((ROOT / page).parent / link.partition("#")[0]).exists(), link


@each_page
def test_files_exist(page):
    "Files and folders in backticks: in the project, or else written by `tito`."
    tito = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tinytorch").glob("*/*.py"))
    for name in re.findall(r"`((?:[\w.]+/)*[\w.]*\.(?:py|md|ipynb|json|csv|html)|(?:nbs|tests|tinytorch|\.tito)(?:/\w+)*/?)`", prose(page)):
        here = (ROOT / name).exists() or (LESSON.folder / name).exists() or "NAME" in name
        assert here or all(part in tito for part in name.split("/")), name
    for test in re.findall(r"`(test_unit_\w+)\(\)`", prose(page)):
        assert any(f"def {test}(" in path.read_text(encoding="utf-8")
                   for path in LESSON.notebooks), test


def test_first_hour_gives_one_solution_away():
    "That of the first exercise, which it says is a gift."
    text, given = code(PAGES[0]) + prose(PAGES[0]), set()
    for path in LESSON.notebooks:
        for cell in code_cells(read_notebook(PROJECT, path)):
            lines = [line for line in solution_lines(cell.source) if telling(line)]
            if lines and all(line in text for line in lines):
                given.add(re.findall(r"^def (\w+)", cell.source, re.M)[0])
    assert given == {"squared_error"}


@each_page
def test_pictures_are_described(page):
    for _, source, outputs in cells(page):
        if any("image/png" in output.get("data", {}) for output in outputs):
            assert re.search(r'^#\| fig-alt: ".{60,}"$', source, re.M), source[:80]


@each_page
def test_outputs_do_not_depend_on_the_run(page):
    "No times, no temporary folders, no dates."
    assert not re.search(r"\d\.\d s\b|Temp[\\/]|tmp\w{6}|20\d\d-\d\d-\d\d", printed(page))


def test_newest_version_is_this_one():
    text, settings = ((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
                      ConfigParser(delimiters=["="]))
    settings.read(ROOT / "settings.ini", encoding="utf-8")
    versions = re.findall(r"^## \[([^\]]+)\] - (\d{4}-\d\d-\d\d|Unreleased)$", text, re.M)
    assert versions and len(versions) == len(re.findall("^## ", text, re.M)), "a version has the heading `## [0.1.0] - 2026-01-31`, or Unreleased"
    assert versions[0][0] == settings["DEFAULT"]["version"]
    assert all(re.search(rf"^\[{re.escape(version)}\]: https://", text, re.M)
               for version, _ in versions)
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall("^### (.+)$", text, re.M)) <= kinds
