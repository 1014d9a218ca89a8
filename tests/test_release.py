"""What `tito release` hands out: no solution, however it is marked; one lesson alone; nothing left
behind when it is stopped.
"""
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_exercises import edition  # noqa: F401

from tinytorch.notebooks.project import Project, TitoError, new_notebook
from tinytorch.grading import release as releasing
from tinytorch.grading.release import blanked, leaks, release, solved

ROOT = Path(__file__).resolve().parents[1]
SOLUTION = ("#| exports\ndef double(number):\n    \"Twice a number.\"\n    ### BEGIN SOLUTION\n   "
            " doubled_number = number + number\n    return doubled_number\n    ### END SOLUTION")


def notebook(tmp_path, *cells):
    path = tmp_path / "nbs/04_losses/losses_dev.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "settings.ini").write_text("[DEFAULT]\nlib_name = toy\n")
    path.write_text(json.dumps(new_notebook("# Lesson", "#| default_exp nn.losses", *cells)),
                    encoding="utf-8")
    return Project(tmp_path), path


def sources(nb):
    return ["".join(cell["source"]) for cell in nb["cells"]]


def test_a_folder_that_another_run_fills_meanwhile_is_refused(tmp_path, monkeypatch):
    "It is looked at only once the project's lock is held."
    project, dest = notebook(tmp_path / "project", SOLUTION)[0], tmp_path / "edition"

    @contextlib.contextmanager
    def after_another(project):
        dest.mkdir()
        (dest / "README.md").write_text("whole")
        yield

    monkeypatch.setattr(releasing, "locked", after_another)
    with pytest.raises(TitoError, match="is not empty"):
        release(project, dest)
    assert sorted(os.listdir(tmp_path)) == ["edition", "project"]


@pytest.mark.parametrize("end", ["\r\n", "\r", "\n"])
def test_any_end_of_line_is_blanked(tmp_path, end):
    text = "\n".join(sources(blanked(*notebook(tmp_path, SOLUTION.replace("\n", end)))))
    assert "doubled_number" not in text and text.count("# YOUR CODE HERE") == 1


@pytest.mark.parametrize("begin", ["###BEGIN SOLUTION", "# BEGIN SOLUTION", "### Begin Solution", "# BEGIN", "### Begin", "### BEGIN SOLUTON"])
def test_another_spelling_is_refused_by_name(tmp_path, begin):
    with pytest.raises(TitoError, match=f"losses_dev.ipynb: `{begin}` is no marker"):
        blanked(*notebook(tmp_path, SOLUTION.replace("### BEGIN SOLUTION", begin)))


def test_an_exercise_without_a_marked_solution_is_refused(tmp_path):
    plain = SOLUTION.replace("    ### BEGIN SOLUTION\n", "").replace("    ### END SOLUTION", "")
    with pytest.raises(TitoError,
                       match="no solution is marked under the heading “Exercise: double"):
        blanked(*notebook(tmp_path, "### Exercise: double (1 point)", plain))


def test_what_installs_a_package_stays_out_and_blanks_are_passed(tmp_path):
    found = sources(blanked(*notebook(tmp_path,
                                      "import sys\nif 'google.colab' in sys.modules:\n    %pip "
                                      "install tinytorch",
                                      SOLUTION)))
    assert (not any("pip install" in source for source in found)
            and "%load_ext tinytorch.exercises.blanks" in found[1])


@pytest.mark.parametrize("text", ["doubled_number=number+number", "if 1:\n    doubled_number = (number +\n        number)", "# so: doubled_number = number + number"])
@pytest.mark.parametrize("file", ["a.py", "b.ipynb", "c.md"])
def test_the_last_look_reads_statements(tmp_path, text, file):
    """Not the lines that the cutter cuts: other spaces, line ends and brackets are the same
    statement.
    """
    told = solved(SOLUTION.replace("### BEGIN SOLUTION", "# begin solution"))
    assert told == {"doubled_number = number + number", "return doubled_number"}
    content = json.dumps(new_notebook(text)) if file.endswith("ipynb") else text
    (tmp_path / file).write_text(content)
    found = [statement for _, statement in leaks(tmp_path, told)]
    assert found == ["doubled_number = number + number"] or file == "c.md" and "(" in text


def test_one_lesson_alone(tmp_path):
    found = release(Project(ROOT), tmp_path / "edition", ["losses_dev"])
    assert ({exercise.notebook for exercise in found} == {"losses_dev.ipynb"}
            and sum(exercise.points for exercise in found) == 27)
    folder = tmp_path / "edition/nbs/04_losses"
    assert ((folder / "losses_dev.ipynb").exists()
            and not (folder / "ranking_losses_dev.ipynb").exists())
    names = {entry["name"]
             for entry in json.loads((folder
                         / "exercises.json").read_text(encoding="utf-8"))["exercises"]}
    assert names == {exercise.name for exercise in found}
    with pytest.raises(TitoError, match="tensor_dev has no exercises"):
        release(Project(ROOT), tmp_path / "other", ["tensor_dev"])
    assert sorted(os.listdir(tmp_path)) == ["edition"]
    workflow = (tmp_path / "edition/.github/workflows/classroom.yml").read_text(encoding="utf-8")
    assert "tito test 04" in workflow and 'pip install -e ".[dev]"' in workflow


@pytest.mark.skipif(not shutil.which("git"), reason="needs Git")
def test_git_in_the_environment_is_left_alone(tmp_path):
    teacher = tmp_path / "teacher"
    subprocess.run(["git", "init", "--quiet", str(teacher)], check=True)
    environment = os.environ | {"GIT_DIR": str(teacher / ".git"), "GIT_WORK_TREE": str(teacher),
                                "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", "tinytorch.tito.cli", "release",
                    str(tmp_path / "edition"), "--notebook", "losses_dev"],
                   cwd=ROOT, env=environment, check=True, capture_output=True)
    count = [subprocess.run(["git", "--git-dir", str(folder / ".git"), "rev-list", "--all",
                             "--count"],
               capture_output=True, text=True).stdout.strip()
             for folder in (teacher, tmp_path / "edition")]
    assert count == ["0", "1"]


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX")
@pytest.mark.parametrize("delay", [0.5, 1.0, 1.5, 2.0, 2.5, 3.0])
def test_killed_it_leaves_no_solution(tmp_path, delay):
    process = subprocess.Popen([sys.executable, "-m", "tinytorch.tito.cli", "release",
                                str(tmp_path / "edition")],
                               cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)},
                               stdout=subprocess.DEVNULL, start_new_session=True)
    time.sleep(delay)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    statements = {"error = input - target", "return error * error, 2 * error"}
    files = [file for file in tmp_path.rglob("*") if file.suffix in (".ipynb", ".py")]
    assert not any("BEGIN SOLUTION" in file.read_text(encoding="utf-8", errors="replace")
                   for file in files if file.suffix == ".ipynb")
    assert not [file for file in files
                if file.name == "losses.py" and any(text in file.read_text(encoding="utf-8")
                                    for text in statements)]


DAMAGE = {"an empty package": ("tinytorch/__init__.py", ""),
          "an empty tito": ("tinytorch/tito/__init__.py", ""),
          "half of cli": ("tinytorch/tito/cli.py", 0.5),
          "half of notebooks": ("tinytorch/notebooks/project.py", 0.5),
          "no worker": ("tinytorch/notebooks/worker.py", None),
          "zeros": ("tinytorch/notebooks/project.py", "\0" * 100),
          "another text": ("tinytorch/tito/cli.py", "main = 3\n"),
          "an empty module": ("tinytorch/notebooks/project.py", ""),
          "an end": ("tinytorch/tito/cli.py", "raise SystemExit\n"),
          "an interruption": ("tinytorch/notebooks/project.py", "raise KeyboardInterrupt\n")}


@pytest.mark.parametrize("case", DAMAGE)
def test_the_package_is_written_again_whatever_stands_in_it(edition, tmp_path, case, request):
    """`tito export --all` works when tito's own files are damaged; any other command says so in a
    sentence.
    """
    if (case not in ("an empty package", "half of notebooks")
        and not request.config.getoption("--slow")):
        pytest.skip("slow: exports all notebooks")
    shutil.copytree(edition, root := tmp_path / "mine")
    for name in "tests", ".git":
        shutil.rmtree(root / name, ignore_errors=True)
    for wing in "checking", "notebooks", "exercises", "tito":
        shutil.copytree(ROOT / "nbs" / wing, root / "nbs" / wing)
    name, damage = DAMAGE[case]
    before = (root / name).read_text(encoding="utf-8")
    if damage is None:
        (root / name).unlink()
    else:
        (root / name).write_text(damage if isinstance(damage, str) else before[
                                     :int(len(before) * damage)],
                                 encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(root)}
    tito = lambda *arguments: subprocess.run(
        [sys.executable, str(root / "tinytorch_cli.py"), *arguments], cwd=root, env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    first = tito("status")
    assert ("Traceback" not in first.stdout
            and (first.returncode == 0 or "tito export --all" in first.stdout)), first.stdout
    done = tito("export", "--all")
    assert done.returncode == 0 and "Traceback" not in done.stdout, done.stdout
    assert ((root / name).read_text(encoding="utf-8").strip() == before.strip()
            or name.endswith("__init__.py"))
    assert tito("status").returncode == 0


def test_where_the_notebooks_are_missing_it_says_what_to_copy(edition, tmp_path):
    shutil.copytree(edition, root := tmp_path / "mine")
    (root / "tinytorch/notebooks/project.py").write_text("x = (")
    done = subprocess.run([sys.executable, "tinytorch_cli.py", "export", "--all"], cwd=root,
                          env=os.environ | {"PYTHONPATH": str(root)}, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    assert (done.returncode == 1 and "Copy the folder tinytorch again" in done.stdout
            and "Traceback" not in done.stdout), done.stdout
