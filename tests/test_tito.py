"""The `tito` command from outside: each test runs it in a process of its own, on a small project
in a temporary folder.
"""
import base64
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

from tinytorch.notebooks.export import check_syntax
from tinytorch.notebooks.project import TitoError, new_notebook

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = """[DEFAULT]
repo = toy
lib_name = toy
version = 0.1
user = me
author = me
tst_flags = notest slow
update_pyproject = False
"""
NUMBERS = ["# Numbers\n\n> A lesson.", "#| default_exp nn.numbers", "#| export\ndef double(x):\n    return 2 * x",
           "## Checks", """def test_unit_double():
    print("🔬 Unit Test: double...")
    assert double(3) == 6, "double(3) must be 6"
    print("✅ double doubles")
    print("📈 Progress: double ✓")

test_unit_double()""", "print('not a check')\ndouble(21)"]
SHAPES = ["# Shapes", "#| default_exp shapes", "from toy.nn.numbers import double",
          "#| export\ndef square(x):\n    return x * x",
          "assert square(double(2)) == 16\nprint('✅ square squares')"]


def save(path, cells):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(new_notebook(*cells), ensure_ascii=False, indent=1),
                    encoding="utf-8")


@pytest.fixture
def project(tmp_path):
    root = tmp_path / "with a space"
    root.mkdir()
    (root / "settings.ini").write_text(SETTINGS)
    save(root / "nbs/01_numbers/numbers_dev.ipynb", NUMBERS)
    save(root / "nbs/02_shapes/shapes_dev.ipynb", SHAPES)
    return root


def environment(**extra):
    keep = {key: value for key, value in os.environ.items()
            if key not in ("IN_TEST", "PYTHONPATH", "COLUMNS")}
    return {**keep, "PYTHONPATH": str(ROOT), **extra}


def tito(root, *args, **extra):
    return subprocess.run([sys.executable, "-m", "tinytorch.tito.cli", *args], cwd=root,
                          env=environment(**extra), stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8",
                          timeout=600)


def fails(done, code, *texts):
    "The command failed as it should: with this status, these texts, and no traceback."
    assert done.returncode == code, done.stdout + done.stderr
    said = done.stdout + done.stderr
    assert "Traceback" not in said
    for text in texts: assert text in re.sub(r"\s+", " ", said), said


def hashes(root):
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts}


# --- finding --------------------------------------------------------------------------------------
# -----------------

HELP = """
import sys
from tinytorch.tito.cli import main
sys.argv = ["tito", "--help"]
try: main()
finally: print("loaded:", *sorted({name.partition(".")[0] for name in sys.modules}))
"""


def test_help_lists_the_commands_and_loads_nothing_heavy(tmp_path):
    done = subprocess.run([sys.executable, "-c", HELP], cwd=tmp_path, env=environment(),
                          capture_output=True, encoding="utf-8")
    assert done.returncode == 0
    loaded = set(done.stdout.rpartition("loaded:")[2].split())
    assert "typer" in loaded and not loaded & {
        "numpy", "numba", "matplotlib", "IPython", "nbdev", "fastcore", "execnb", "jinja2"}
    for name in ("export", "test", "refresh", "status", "demo", "docs", "readme", "doctor",
                 "tito test 04"): assert name in done.stdout


def test_version():
    import tinytorch
    assert tito(ROOT, "--version").stdout == f"tito {tinytorch.__version__}\n"


@pytest.mark.parametrize("columns", ["0", "1", "x", ""])
def test_a_terminal_of_any_width_shows_something(project, columns):
    "rich prints nothing where COLUMNS is 0, as some terminals say."
    done = tito(project, "--version", COLUMNS=columns)
    assert done.returncode == 0 and "".join(done.stdout.split()).startswith("tito")


def test_help_imports_nothing_heavy():
    code = ("import sys, tinytorch.tito.cli; print(*sorted({m.partition('.')[0] for m in "
            "sys.modules}))")
    loaded = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True,
                            text=True).stdout.split()
    assert (not {"nbdev", "fastcore", "matplotlib", "sklearn", "IPython", "execnb", "numpy"}
            & set(loaded))


@pytest.mark.parametrize("name", ["01_numbers", "numbers", "01", "1", "nbs/01_numbers/", "NUMBERS"])
def test_names_of_a_module(project, name):
    assert tito(project, "export", name).stdout.startswith("toy/nn/numbers.py: new")


def test_module_as_an_option_and_from_a_folder_below(project):
    assert "toy/nn/numbers.py" in tito(project / "nbs/02_shapes", "export", "--module", "01").stdout


def test_unknown_module(project):
    fails(tito(project, "test", "nubmers"), 2, "no module 'nubmers'", "did you mean 'numbers'?",
          "01_numbers, 02_shapes")


@pytest.mark.parametrize("args", [["test"], ["export", "01", "--all"]])
def test_a_module_or_all(project, args):
    fails(tito(project, *args), 2, "Name a module")


def test_module_without_notebooks(project):
    (project / "nbs/03_empty").mkdir()
    fails(tito(project, "test", "03"), 1, "nbs/03_empty has no notebook")


def test_outside_a_project_it_is_the_one_it_was_installed_from(tmp_path):
    assert "04_losses" in tito(tmp_path, "status").stdout


def test_no_project_at_all(tmp_path):
    shutil.copytree(ROOT / "tinytorch", tmp_path / "site/tinytorch",
                    ignore=shutil.ignore_patterns("__pycache__"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    fails(tito(elsewhere, "status", PYTHONPATH=str(tmp_path / "site")), 2, "There is no project in",
          "settings.ini")


# --- export ---------------------------------------------------------------------------------------
# -----------------

def test_export_touches_only_its_own_file_and_says_what_changed(project):
    assert tito(project, "export", "--all").returncode == 0
    before = hashes(project)
    save(project / "nbs/01_numbers/numbers_dev.ipynb",
         NUMBERS[:3] + ["#| export\ndef triple(x):\n    return 3 * x"])
    save(project / "nbs/02_shapes/shapes_dev.ipynb", SHAPES[:2])
    wanted = hashes(project)
    done = tito(project, "export", "01")
    assert re.fullmatch(r"toy/nn/numbers.py: \+5 -1 lines; new names: triple\n",
                        done.stdout), done.stdout + done.stderr
    after = hashes(project)
    assert after.pop("toy/nn/numbers.py") != wanted.pop(
        "toy/nn/numbers.py") == before["toy/nn/numbers.py"]
    assert after == wanted
    assert tito(project, "export", "01").stdout == "toy/nn/numbers.py: unchanged\n"


@pytest.mark.parametrize("every", [True, False])
def test_export_gives_the_bytes_of_nbdev_export(project, tmp_path, every):
    twin = tmp_path / "twin"
    shutil.copytree(project, twin)
    subprocess.run([sys.executable, "-c",
                    "from nbdev.doclinks import nbdev_export; nbdev_export()"],
                   cwd=twin, env=environment(), check=True)
    done = tito(project, "export", *(["--all"] if every else ["01", "02"]))
    assert done.returncode == 0, done.stderr
    mine, theirs = hashes(project), hashes(twin)
    if not every: theirs = {name: value for name, value in theirs.items()
                            if not name.rpartition("/")[2].startswith("_")}
    assert mine == theirs and "toy/nn/numbers.py" in mine


@pytest.mark.parametrize("now", ["def broken(:\n", None])
def test_export_mends_a_broken_or_missing_file(project, now):
    tito(project, "export", "--all")
    file = project / "toy/nn/numbers.py"
    good = file.read_bytes()
    file.write_text(now) if now else file.unlink()
    assert tito(project, "export", "01").returncode == 0
    assert file.read_bytes() == good


BAD = {"syntax": (["#| export\n\ndef half(x):\n    return x /"], "cell [3], line 4: SyntaxError",
                  "return x /"),
       "magic": (["#| export\n%time x = 1"], "cell [3], line 2: SyntaxError"),
       "nowhere": (None, "no `#| default_exp`"),
       "elsewhere": (["#| export other\nx = 1"], "cell [3] exports to another module"),
       "outside": (["#| default_exp ../evil"], "which is no name of a module"),}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("every", [True, False])
def test_export_of_a_bad_notebook_leaves_the_package_as_it_was(project, case, every):
    tito(project, "export", "--all")
    cells, *texts = BAD[case]
    save(project / "nbs/01_numbers/numbers_dev.ipynb",
         NUMBERS[:3] + cells if cells else NUMBERS[2:3])
    save(project / "nbs/02_shapes/shapes_dev.ipynb", SHAPES[:3])
    before = hashes(project)
    fails(tito(project, "export", *(["--all"] if every else ["02", "01"])), 1,
          "nbs/01_numbers/numbers_dev.ipynb", *texts)
    assert hashes(project) == before


NO_NOTEBOOK = {"cut off": (lambda text: text[:200], "is no valid notebook: line"),
               "a list": (lambda text: "[1, 2]", "is no valid notebook: it has no list of cells"),
               "a strange cell": (
                   lambda text: '{"nbformat": 4, "cells": [{"cell_type": "code", "source": 3}]}',
                   "item 1 of its cells"),
               "empty": (lambda text: "", "is no valid notebook: line 1"),
               "merge conflict": (lambda text: text.replace(
                                      '\n "cells"', '\n<<<<<<< HEAD\n "cells"'),
                                  "merge conflict"),}


@pytest.mark.parametrize("case", NO_NOTEBOOK)
def test_no_valid_notebook(project, case):
    tito(project, "export", "--all")
    change, text = NO_NOTEBOOK[case]
    path = project / "nbs/01_numbers/numbers_dev.ipynb"
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    before = hashes(project)
    for command in (["export", "01"], ["export", "--all"], ["test", "01"],
                    ["refresh", "01"])[:4 if case == "cut off" else 1]:
        fails(tito(project, *command), 1, text)
    assert hashes(project) == before
    if case == "cut off": assert text in tito(project, "status").stdout


def test_a_warning_of_pythons_stops_no_export():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_syntax("x = '\\d'", "cell [1]")


@pytest.mark.parametrize("offset, line", [({}, 2), ({"offset": 3}, 5)])
def test_wrong_syntax_is_said_with_its_line(offset, line):
    with pytest.raises(TitoError, match=rf"^cell \[1\], line {line}: SyntaxError: .*: y =$"):
        check_syntax("x = 1\ny =", "cell [1]", **offset)


def test_two_notebooks_for_one_file(project):
    save(project / "nbs/01_numbers/numbers_more_dev.ipynb", NUMBERS[:2] + ["#| export\nx = 1"])
    fails(tito(project, "export", "01"), 1, "both export to nn.numbers")
    assert not (project / "toy").exists()


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX")
def test_killed_while_exporting(project):
    """Killed at any moment, the package's file is the old one or the new one, and the next export
    works.
    """
    tito(project, "export", "01")
    file, old = project / "toy/nn/numbers.py", (project / "toy/nn/numbers.py").read_bytes()
    save(project / "nbs/01_numbers/numbers_dev.ipynb", NUMBERS[:3] + ["#| export\nx = 1"])
    begun = time.monotonic()
    tito(project, "export", "01")
    whole, new = time.monotonic() - begun, file.read_bytes()
    for i in range(8):
        file.write_bytes(old)
        process = subprocess.Popen([sys.executable, "-m", "tinytorch.tito.cli", "export", "01"],
                                   cwd=project, env=environment(), stdout=subprocess.DEVNULL)
        time.sleep(whole * (0.4 + i * 0.08))
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert file.read_bytes() in (old, new)
    assert tito(project, "export", "01").returncode == 0 and file.read_bytes() == new


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX")
@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_killed_at_the_worst_moment(project, tmp_path, moment):
    "Killed between writing and renaming: the old file is whole."
    tito(project, "export", "01")
    file, old = project / "toy/nn/numbers.py", (project / "toy/nn/numbers.py").read_bytes()
    save(project / "nbs/01_numbers/numbers_dev.ipynb", NUMBERS[:3] + ["#| export\nx = 1"])
    blocker = tmp_path / "kill"
    blocker.mkdir()
    (blocker / "sitecustomize.py").write_text(f"import os, signal\nos.{moment} = lambda *a: "
                                              "os.kill(os.getpid(), signal.SIGKILL)\n")
    done = tito(project, "export", "01", PYTHONPATH=os.pathsep.join([str(blocker), str(ROOT)]))
    assert done.returncode == -signal.SIGKILL and file.read_bytes() == old
    for left in file.parent.glob(".*.tmp"): os.utime(left, (0, 0))
    assert tito(project, "export", "01").returncode == 0 and file.read_bytes() != old
    assert not list(file.parent.glob(".*.tmp"))


# --- test -----------------------------------------------------------------------------------------
# -----------------

def test_good_run(project):
    tito(project, "export", "01")
    done = tito(project, "test", "--all")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.split(" s  ")[1] for line in done.stdout.splitlines() if " s  " in line]
    assert lines == ["🔬 Unit Test: double...", "✅ double doubles", "📈 Progress: double ✓",
                     "✅ square squares"]
    assert "not a check" not in done.stdout and done.stdout.count("✓ passed") == 2
    assert "not a check" in tito(project, "test", "01", "--verbose").stdout


def test_the_notebook_on_disk_counts_not_the_package(project):
    tito(project, "export", "--all")
    save(project / "nbs/01_numbers/numbers_dev.ipynb",
         [cell.replace("2 * x", "3 * x") for cell in NUMBERS])
    fails(tito(project, "test", "01"), 1, "double(3) must be 6")


def test_failing_cell(project):
    tito(project, "export", "01")
    save(project / "nbs/01_numbers/numbers_dev.ipynb",
         [cell.replace("2 * x", "3 * x") for cell in NUMBERS] + ["print('✅ never')"])
    done = tito(project, "test", "01", "02")
    fails(done, 1, "✗ nbs/01_numbers/numbers_dev.ipynb",
          "cell [3] under “Checks”, line 3, in test_unit_double",
          '> 3 assert double(3) == 6, "double(3) must be 6"', "AssertionError: double(3) must be 6",
          "✗ cell [3]")
    assert " s  ✅ double doubles" not in done.stdout and "never" not in done.stdout
    assert "✅ square squares" in done.stdout and "✓ passed" in done.stdout
    assert len(done.stdout.splitlines()) < 30


def test_error_raised_in_the_package(project):
    tito(project, "export", "01")
    save(project / "nbs/02_shapes/shapes_dev.ipynb",
         SHAPES[:3] + ["# Use", "#| hide\n\ndouble(None)"])
    fails(tito(project, "test", "02"), 1, "cell [3] under “Use”, line 3", "> 3 double(None)",
          "TypeError", "raised in toy/nn/numbers.py:10, in double")


TROUBLE = {"syntax": ("x = (1,\n\ny = )", "line 3", "SyntaxError"),
           "exit": ("import os\nos._exit(0)", "the Python process ended in cell [2] (exit code 0)"),
           "sys.exit": ("import sys\nsys.exit('bye')", "SystemExit: bye"),
           "hangs": ("import time\ntime.sleep(60)", "still running after"),
           "prints for ever": ("while True: print('again')", "still running after"),
           "recursion": ("def f(): f()\nf()", "RecursionError"),
           "no such module": ("import no_such_module",
                              "No module named 'no_such_module' (run: pip install"),
           "of ours": ("import toy.nothing",
                       "No module named 'toy.nothing' (run: tito export --all)"),
           "input": ("input('Your name? ')", "EOFError"),
           "long message": ("raise ValueError('\\n'.join(['many lines'] * 500))",
                            "ValueError: many lines", "..."),}
if os.name == "posix":
    TROUBLE["crash"] = ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)",
                        "the Python process ended in cell [2] (signal SIGSEGV)")


@pytest.mark.parametrize("case", TROUBLE)
def test_trouble_in_a_cell_ends_in_a_sentence(project, case):
    tito(project, "export", "--all")
    source, *texts = TROUBLE[case]
    save(project / "nbs/01_numbers/numbers_dev.ipynb", ["# Numbers", "x = 1", source])
    # on a busy machine the first may end before cell [2] starts
    limits = [2, 8, 32] if "still running" in texts[0] else [60]
    for seconds in limits:
        done = tito(project, "test", "01", "--timeout", str(seconds))
        if "cell [2]" in done.stdout:
            break
    fails(done, 1, "cell [2]", *texts)
    assert len(done.stdout.splitlines()) < 35


def test_megabytes_are_not_shown(project):
    save(project / "nbs/01_numbers/numbers_dev.ipynb",
         ["# Numbers", "for i in range(300_000): print('✅ again')", "print('✅ after')"])
    done = tito(project, "test", "01")
    assert (done.returncode == 0 and "cell [1] printed 2,400,000 characters" in done.stdout
            and "✅ after" in done.stdout)
    assert len(done.stdout) < 400_000


def test_directives(project):
    save(project / "nbs/01_numbers/numbers_dev.ipynb",
         ["# Numbers", "#| eval: false\n1 / 0", "#| notest\n1 / 0", "#| slow\nprint('✅ slow')",
          "#| hide\n%%time\nx = 1", "import nbdev; nbdev.nbdev_export()"])
    done = tito(project, "test", "01")
    assert done.returncode == 0 and "✅ slow" not in done.stdout, done.stdout
    assert "✅ slow" in tito(project, "test", "01", "--slow").stdout
    assert not (project / "toy").exists()


def test_a_fresh_process_in_the_folder_of_the_notebook(project):
    (project / "nbs/01_numbers/data.txt").write_text("here")
    (project / "nbs/01_numbers/helper.py").write_text("x = 1")
    save(project / "nbs/01_numbers/numbers_dev.ipynb", ["# Numbers", "assert open('data.txt').read() == 'here'", """
import sys
import helper
assert not {"typer", "rich", "tinytorch"} & set(sys.modules)"""])
    done = tito(project, "test", "01")
    assert done.returncode == 0, done.stdout


def is_running(pid):
    try: return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError: return False


@pytest.mark.skipif(not Path("/proc").exists(), reason="needs /proc")
@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)] if os.name == "posix" else [])
def test_stopped_from_outside(project, number, code):
    "Ctrl-C says so; after Ctrl-C or a kill, no lesson is left running."
    save(project / "nbs/01_numbers/numbers_dev.ipynb",
         ["# Numbers", "import os, time\nprint('✅', os.getpid())\ntime.sleep(3600)"])
    process = subprocess.Popen([sys.executable, "-m", "tinytorch.tito.cli", "test", "01"],
                               cwd=project, env=environment(PYTHONUNBUFFERED="1"),
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8")
    pid = next(int(line.split()[-1]) for line in process.stdout if "✅" in line)
    assert is_running(pid)
    process.send_signal(number)
    _, said = process.communicate(timeout=600)
    assert process.returncode == code and "Traceback" not in said
    if number == signal.SIGINT: assert "Stopped." in said
    while is_running(pid):      # pytest hangs, and names the test, if it stays
        time.sleep(0.05)


# --- refresh --------------------------------------------------------------------------------------
# -----------------

PLOT = """import matplotlib.pyplot as plt
plt.plot([1, 2, 4]);"""


def test_refresh_saves_outputs_and_a_second_one_changes_nothing(project):
    tito(project, "export", "--all")
    path = project / "nbs/01_numbers/numbers_dev.ipynb"
    save(path, NUMBERS + [PLOT, "object()", "#| slow\n'measured'"])
    nb = json.loads(path.read_text(encoding="utf-8"))
    nb["cells"][-1]["outputs"] = [dict(output_type="stream", name="stdout", text=["1.2 s\n"])]
    path.write_text(json.dumps(nb), encoding="utf-8")
    assert "outputs saved" in tito(project, "refresh", "01").stdout
    first, before = path.read_bytes(), hashes(project)
    outputs = [cell.get("outputs") for cell in json.loads(first)["cells"]]
    assert (outputs[5][0]["text"] == ["not a check\n"]
            and outputs[5][1]["data"]["text/plain"] == ["42"])
    assert (b"matplotlib" not in base64.b64decode(outputs[6][0]["data"]["image/png"])
            and "0x" not in str(outputs[7]) and outputs[8][0]["text"] == ["1.2 s\n"])
    assert "unchanged" in tito(project, "refresh", "01").stdout and hashes(project) == before
    subprocess.run([sys.executable, "-c",
                    "from nbdev.clean import nbdev_clean; nbdev_clean('nbs/01_numbers')"],
                   cwd=project, env=environment(), check=True)
    assert hashes(project) == before
    tito(project, "refresh", "01", "--slow")
    assert json.loads(
        path.read_bytes())["cells"][8]["outputs"][0]["data"]["text/plain"] == ["'measured'"]


@pytest.mark.parametrize("last", ["1 / 0", "print('x' * 2_000_000)", "import os; os._exit(0)", "if x"])
def test_refresh_leaves_a_failing_notebook_as_it_was(project, last):
    path = project / "nbs/01_numbers/numbers_dev.ipynb"
    save(path, [*NUMBERS, last])
    before = hashes(project)
    fails(tito(project, "refresh", "01"), 1, "cell [5]")
    assert hashes(project) == before


def test_refresh_does_not_overwrite_what_was_saved_meanwhile(project):
    path = project / "nbs/01_numbers/numbers_dev.ipynb"
    save(path,
         ["# Numbers", "from pathlib import Path\nPath('numbers_dev.ipynb').write_text('edited')"])
    fails(tito(project, "refresh", "01"), 1, "the file was changed while it ran")
    assert path.read_text() == "edited"


def test_the_demo_is_for_its_own_project(project):
    fails(tito(project, "demo"), 1, "This tito belongs to", "pip install -e")


# --- status, doctor
# ------------------------------------------------------------------------------------------------

def test_status(project):
    tito(project, "export", "01")
    (project / "nbs/03_empty").mkdir()
    rows = {line.split()[0]: line for line in tito(project, "status").stdout.splitlines()
            if line.strip()}
    assert re.search(r"numbers_dev.ipynb +✓ in step +1 +✗ 0 of 4", rows["01_numbers"])
    assert "✗ not exported" in rows["02_shapes"] and "✗ no notebook yet" in rows["03_empty"]


def test_doctor(project):
    tito(project, "export", "--all")
    both = os.pathsep.join(map(str, [ROOT, project]))
    done = tito(project, "doctor", PYTHONPATH=both)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "✗" not in done.stdout and "Python ≥ 3.10" in done.stdout
    fails(tito(project, "doctor"), 1, "No module named 'toy'", "pip install -e")
    (project / "toy/nn/numbers.py").write_text("x = ")
    done = tito(project, "doctor", PYTHONPATH=both)
    fails(done, 1, "differs: nbs/01_numbers/numbers_dev.ipynb", "tito export --all")


def test_another_package_than_the_projects_is_told(project, tmp_path):
    "As after `pip install git+...`: the package that Python imports has its home elsewhere."
    other = tmp_path / "elsewhere"
    shutil.copytree(project, other)
    tito(project, "export", "--all"), tito(other, "export", "--all")
    both = os.pathsep.join(map(str, [ROOT, other]))
    fails(tito(project, "doctor", PYTHONPATH=both, COLUMNS="300"), 1,
          f"is another one, {(other / 'toy').resolve()}", "pip install -e")
    ini = project / "settings.ini"
    ini.write_text(ini.read_text().replace("lib_name = toy", "lib_name = tinytorch"))
    for command in ["export", "01"], ["test", "01"]:
        assert "Python imports another tinytorch than this project's" in tito(
            project, *command).stdout


def test_doctor_compares_versions(project):
    (project / "settings.ini").write_text(
        SETTINGS + "requirements = numpy<1.0\ndev_requirements = no-such-package>=2\n")
    fails(tito(project, "doctor"), 1, "✗ numpy<1.0", "✗ no-such-package>=2 missing",
          "pip install -e")


# --- a missing package
# ---------------------------------------------------------------------------------------------

def without(tmp_path, *packages):
    "The PYTHONPATH of a Python in which these packages cannot be imported."
    folder = tmp_path / "blocker"
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(f"""import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {packages}: raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocker())
""")
    return os.pathsep.join([str(folder), str(ROOT)])


@pytest.mark.parametrize("command", [["export", "01"], ["export", "--all"], ["test", "01"], ["refresh", "01"], ["status"]])
def test_without_nbdev(project, tmp_path, command):
    fails(tito(project, *command, PYTHONPATH=without(tmp_path, "nbdev")), 1,
          'nbdev is not installed; run: pip install -e ".[dev]"')


@pytest.mark.parametrize("package", ["typer", "rich", "IPython", "execnb"])
def test_without_another(project, tmp_path, package):
    fails(tito(project, "test", "01", PYTHONPATH=without(tmp_path, package)), 1,
          f'{package} is not installed; run: pip install -e ".'
          + ("[tito]" if package in ("typer", "rich") else "[dev]"))


def test_the_doctor_without_anything(project, tmp_path):
    (project / "settings.ini").write_text(
        SETTINGS + "requirements = numpy\ndev_requirements = nbdev==2.4.14 matplotlib\n")
    done = tito(project, "doctor",
                PYTHONPATH=without(tmp_path, "nbdev", "matplotlib", "numpy", "IPython"))
    fails(done, 1, "✗ nbdev==2.4.14 missing", "✗ matplotlib", "cannot tell without nbdev",
          'pip install -e ".[dev]"')


# --- consoles -------------------------------------------------------------------------------------
# -----------------

def test_a_console_that_is_not_utf8(project):
    done = tito(project, "test", "01", PYTHONIOENCODING="cp1252", PYTHONUTF8="0", LC_ALL="C")
    assert done.returncode == 0 and "✅ double doubles" in done.stdout


@pytest.mark.parametrize("args", [["test", "01"], ["status"], ["--help"]])
def test_a_pipe_that_is_closed_early(project, args):
    process = subprocess.Popen([sys.executable, "-m", "tinytorch.tito.cli", *args], cwd=project,
                               env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               encoding="utf-8")
    process.stdout.close()
    assert process.stderr.read() == "" and process.wait(10) == 1
    process.stderr.close()
