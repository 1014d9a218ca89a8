"The project's files agree with each other: notebooks, package, README, site, settings."
import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from configparser import ConfigParser
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import tinytorch

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "nbs").rglob("*.ipynb")
                   if not any(part.startswith(("_", ".")) for part in path.relative_to(ROOT).parts))
each_notebook = pytest.mark.parametrize("notebook", NOTEBOOKS)


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def code_cells(notebook: str) -> list:
    "The code cells of a notebook as (source, outputs)."
    return [("".join(cell["source"]), cell["outputs"])
            for cell in json.loads(read(notebook))["cells"] if cell["cell_type"] == "code"]


def python(code: str, *arguments: str, cwd: Path = ROOT) -> str:
    "Run `code` in a new process in which `cwd` is importable; returns what it printed."
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=cwd,
                          env=os.environ | {"PYTHONUTF8": "1"}, encoding="utf-8",
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the project, exported and cleaned from its notebooks, with no generated module
    copied.
    """
    copy = tmp_path_factory.mktemp("copy")
    shutil.copyfile(ROOT / "settings.ini", copy / "settings.ini")
    for name in NOTEBOOKS + [path.relative_to(ROOT).as_posix()
                             for path in (ROOT / "tinytorch").rglob("__init__.py")]:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, copy / name)
    python("from nbdev import clean, doclinks; doclinks.nbdev_export.__wrapped__(); "
           "clean.nbdev_clean.__wrapped__()",
           cwd=copy)
    return copy


def modules(root: Path) -> dict:
    return {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8")
            for path in (root / "tinytorch").rglob("*.py")}


def test_package_is_what_the_notebooks_export(copy):
    here, fresh = modules(ROOT), modules(copy)
    assert not here.keys() - fresh.keys(), "no notebook exports these modules: delete them, or restore the notebook"
    stale = sorted(name for name in fresh if here.get(name) != fresh[name])
    assert not stale, "these modules differ from their notebooks: edit the notebook, then run `tito export --all` or `nbdev_export`"


@each_notebook
def test_notebook_is_clean(copy, notebook):
    assert read(notebook) == (copy / notebook).read_text(
        encoding="utf-8"), f"run `nbdev_clean --fname {notebook}`"
    metadata = json.loads(read(notebook))["metadata"]
    assert metadata.keys() == {"kernelspec"}, f"run `jupytext --set-kernel python3 --update-metadata '{{\"jupytext\": null}}' {notebook}`"


@each_notebook
def test_notebook_has_outputs_and_no_errors(notebook):
    outputs = [output for _, outputs in code_cells(notebook) for output in outputs]
    assert outputs, "run `tito refresh`, which runs the notebooks and saves their outputs"
    assert not [output["evalue"] for output in outputs if output["output_type"] == "error"]
    untested = [source for source, outputs in code_cells(notebook)
                if re.search(r"^test_\w+\(\)", source, re.MULTILINE) and not outputs]
    assert not untested, "these tests ran without saved outputs: run `tito refresh`"


def test_each_module_has_one_notebook():
    exports = Counter(name for notebook in NOTEBOOKS for source, _ in code_cells(notebook)
                      for name in re.findall(r"^#\| *default_exp +(\S+)", source, re.MULTILINE))
    assert not [name for name, count in exports.items() if count > 1], "two notebooks export to one module: nbdev would drop symbols"


def test_readme_is_the_home_page():
    from tinytorch.site.site import write_readme
    assert write_readme(
        ROOT, check=True), "README.md differs from nbs/index.ipynb: run `tito readme`"


def test_commands_in_the_documents_exist():
    text = read("README.md") + read("CONTRIBUTING.md")
    commands = set(re.findall(r"^(?:\S*[/\\])?tito ([a-z]+)|`tito ([a-z]+)", text, re.MULTILINE))
    for command in sorted(filter(None, sum(commands, ()))):
        python("from tinytorch.tito.cli import main; main()", command, "--help")
    targets = set(re.findall(r"^([a-z]+):", read("Makefile"), re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z]+)", text, re.MULTILINE)) <= targets


def test_importing_losses_is_light():
    heavy = {"nbdev", "IPython", "matplotlib", "sklearn", "scipy", "typer", "rich", "torch",
             "nbformat"}
    loaded = python("import sys; from tinytorch.nn import CrossEntropyLoss, Linear; "
                    "print(*{name.partition('.')[0] for name in sys.modules})").split()
    assert "tinytorch" in loaded and not heavy & set(loaded)


def test_no_file_names_a_machine():
    paths = re.compile(
        r"/(?:home|Users|root|work|tmp)/[\w.]|[A-Z]:\\\\?Users|ipykernel_\d|site-packages/\w",
        re.ASCII)
    folders = [path for name in ("nbs", "tinytorch", "tests", ".ci", ".github")
               for path in (ROOT / name).rglob("*")]
    texts = {".ipynb", ".py", ".md", ".yml", ".ini", ".json", ".css", ".txt", ".in", ""}
    for path in [*folders, *ROOT.iterdir()]:
        if (path.is_file() and path.suffix in texts
            and not {".git", ".ipynb_checkpoints", "__pycache__"} & set(path.parts)):
            found = paths.search(path.read_text(encoding="utf-8"))
            assert not found, f"{path.relative_to(ROOT)} has the path of one machine: {found[0]}"


def test_site_lists_every_notebook():
    listed = re.findall(r"[\w/]+\.ipynb",
                        yaml.safe_dump(yaml.safe_load(read("_quarto.yml"))["website"]["sidebar"]))
    assert sorted(f"nbs/{name}" for name in listed) == NOTEBOOKS, "the sidebar in _quarto.yml must list each notebook once"


def test_quarto_configuration_is_the_top_level_one():
    assert read("nbs/_quarto.yml") in (read("_quarto.yml"),
                                       "../_quarto.yml"), "restore it: git checkout nbs/_quarto.yml"


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
@pytest.mark.parametrize("found", [None, "../_quarto.yml", "title: another"])
def test_site_uses_the_top_level_configuration(tmp_path, monkeypatch, links, found):
    from tinytorch.site import site
    monkeypatch.setattr(site, "run_command", lambda *command, cwd: (cwd / "_proc").mkdir())
    if not links:
        monkeypatch.setattr(Path, "symlink_to",
                            lambda *_: (_ for _ in ()).throw(OSError("not allowed")))
    (tmp_path / "nbs").mkdir()
    (tmp_path / "_quarto.yml").write_text("title: top")
    if found:
        (tmp_path / "nbs/_quarto.yml").write_text(found)
    assert (site.prepare(tmp_path) / "_quarto.yml").read_text() == "title: top"
    assert (tmp_path / "nbs/_quarto.yml").read_text() in (found, "title: top", "../_quarto.yml")


def test_settings():
    config = ConfigParser(delimiters=["="])
    config.read(ROOT / "settings.ini", encoding="utf-8")
    settings = config["DEFAULT"]
    assert settings["version"] == tinytorch.__version__, "set the version in settings.ini, then run `nbdev_export`"
    tested = yaml.safe_load(read(".github/workflows/test.yml"))["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert [tested[0], tested[-1]] == [settings["min_python"], settings["max_python"]]
    quarto = yaml.safe_load(read("_quarto.yml"))
    assert quarto["project"]["output-dir"] == settings["doc_path"]
    assert quarto["website"]["site-url"] == settings["doc_host"] + settings["doc_baseurl"]
    assert quarto["website"]["repo-url"] == settings["git_url"]


def requirements(names="requirements$") -> list:
    """The requirements in settings.ini, but those of the benchmark's peers, which follow each
    other; `names` says of which settings.
    """
    config = ConfigParser(delimiters=["="])
    config.read(ROOT / "settings.ini", encoding="utf-8")
    lists = [text for name, text in config["DEFAULT"].items() if re.search(names, name)]
    return [Requirement(text) for text in " ".join(lists).split() if text not in ("jax", "optax")]


def workflows() -> dict:
    "The workflows by name, and that of the student's edition."
    from tinytorch.grading.release import WORKFLOW
    return ({path.name: path.read_text(encoding="utf-8")
             for path in (ROOT / ".github/workflows").iterdir()} | {"classroom.yml": WORKFLOW})


def test_requirements_have_a_floor_and_a_ceiling():
    for requirement in requirements():
        signs = {part.operator for part in requirement.specifier}
        assert signs in ({"=="}, {">=", "<"}) or requirement.name == "setuptools", f"{requirement} needs a floor and a ceiling: name>=1.0,<2"


def test_the_weekly_jobs_test_both_ends_of_the_requirements():
    """The oldest job lets the installer take the floors of settings.ini, so that there is no
    second list.
    """
    job = yaml.safe_load(read(".github/workflows/versions.yml"))["jobs"]["test"]
    jobs = [tuple(item.values()) for item in job["strategy"]["matrix"]["include"]]
    install = next(step["run"] for step in job["steps"] if step.get("name") == "Install")
    assert ('--resolution ${{ matrix.resolution }} -e ".[dev,typing]"' in install
            and "requirements.txt" not in install)
    tested = yaml.safe_load(
        read(".github/workflows/test.yml"))["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert jobs == [("oldest", tested[0], "lowest-direct"),
                    *[("newest", python, "highest") for python in tested]]


def test_locked_releases_are_what_settings_allow():
    """Each with the hashes of its files; nothing that settings.ini asks for is missing, on any
    Python.
    """
    entries = re.split(r"\n(?=\S)", re.sub(r"(?m)^#.*\n", "", read("requirements.txt")))
    locked = {}
    for entry in entries:
        pinned = Requirement(entry.partition("\\")[0].strip())
        assert (re.search(r"--hash=sha256:[0-9a-f]{64}", entry)
                and str(pinned.specifier).startswith("==")), entry[:80]
        locked.setdefault(canonicalize_name(pinned.name), []).append(str(pinned.specifier)[2:])
    for requirement in requirements("^(dev_)?requirements$"):
        found = locked.get(canonicalize_name(requirement.name), [])
        assert (found
                and all(requirement.specifier.contains(version)
                        for version in found)), f"{requirement}, found {found}: run `make lock`"


@pytest.mark.parametrize("name", workflows())
def test_actions_are_pinned_by_commit(name):
    """A tag can be moved to other code.

    One action has one commit, and the comment says which release that is.
    """
    used = [line.strip() for text in workflows().values() for line in text.splitlines()
            if "uses:" in line]
    pins = {line.partition("uses: ")[2] for line in used}
    assert len({pin.partition("@")[0] for pin in pins}) == len(pins)
    for line in workflows()[name].splitlines():
        assert ("uses:" not in line
                or re.search(r"uses: [\w/-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+$", line)), line


def wide(source: str) -> list:
    "The lines of a cell beyond 100 columns, directives such as a picture's description aside."
    return [line for line in source.splitlines()
            if len(line) > 100 and not line.startswith("#|")]


def test_code_keeps_to_100_columns():
    cells = [(notebook, source) for notebook in NOTEBOOKS for source, _ in code_cells(notebook)]
    assert len(cells) > 1000 and wide("x = 1\n" + "y" * 101) == ["y" * 101]
    assert [(notebook, line) for notebook, source in cells for line in wide(source)] == []


# commands of `tito`: the options in their signatures are their help
COMMANDS = {"test", "grade_command", "evaluate_command"}


def long_functions(source: str) -> int:
    """The lines of code in a cell, without docstrings, comments and blanks; tables at its top do
    not count, and neither does a cell with a class or a command.
    """
    kept = [node for node in ast.parse(source).body if not isinstance(node, ast.Assign)]
    if any(isinstance(node, ast.ClassDef) or getattr(node, "name", "") in COMMANDS
           for node in kept):
        return 0
    lines = {i for node in kept for i in range(node.lineno, node.end_lineno + 1)}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef) and ast.get_docstring(node):
            lines -= {*range(node.body[0].lineno, node.body[0].end_lineno + 1)}
    return sum(bool(text.strip()) and text.strip()[0] != "#"
               for i, text in enumerate(source.splitlines(), 1) if i in lines)


def test_exported_cells_and_tests_have_thirty_lines_at_most():
    cells = [(notebook, source) for notebook in NOTEBOOKS for source, _ in code_cells(notebook)
             if re.match(r"#\| ?exports?\b", source) or "def test_unit_" in source]
    assert len(cells) > 500 and len([1 for _, source in cells if "def test_unit_" in source]) > 100
    assert long_functions("def f():\n" + "    x = 1\n" * 30) == 31
    assert [(notebook, source[:80]) for notebook, source in cells
            if long_functions(source) > 30] == []
