"""Grading: hostile submissions get a plain sentence, and everybody else's marks are right.

Attacks on the sandbox are in attacks.py. Those on the marks stand below, each in the body of
`squared_error`, in a notebook whose other answers are right.
All are bounded: one process more, a few gigabytes that are never given.
"""
import csv
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import numpy as np
import pytest

import attacks
from tinytorch.checking import answers
from tinytorch.grading import sandbox
from tinytorch.grading import grade as grading
from tinytorch.checking.checks import FILE, from_data, to_data
from tinytorch.exercises import asking
from tinytorch.exercises.check import judge
from tinytorch.exercises.exercises import exercises
from tinytorch.grading.grade import grade
from tinytorch.notebooks.process import Child
from tinytorch.notebooks.notebook import code_cells, read_notebook
from tinytorch.notebooks.project import Project, TitoError

ROOT = Path(__file__).resolve().parents[1]
PROJECT = Project(ROOT)
MODULE = PROJECT.find("04")
LESSON = ROOT / "nbs/04_losses/losses_dev.ipynb"
REASON = sandbox.protection()
ROOTS = hasattr(os, "geteuid") and os.geteuid() == 0
# where root runs these tests
ORDINARY = (["unshare", "--user", "--map-user=1000", "--map-group=1000"]
            if ROOTS and shutil.which("unshare") else [])
RUN = dict(stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600)
safe = pytest.mark.skipif(bool(REASON), reason=REASON)


def test_the_sandbox_is_there():
    "A run of all checks must not skip what follows without a word."
    if os.environ.get("TINYTORCH_SANDBOX") == "required":
        assert REASON == ""


# The sandbox

@pytest.fixture(scope="module")
def attempts(tmp_path_factory):
    "What each attack of attacks.py got, without a sandbox, in one, and in one of an ordinary user."
    if REASON:
        pytest.skip(REASON)
    top = tmp_path_factory.mktemp("attacked")
    for path in [top, *top.parents]:
        if path.owner() == top.owner() and path != Path("/tmp"):
            path.chmod(0o755)
    files = {"home/.ssh/id_rsa": "key", "home/file": "0123456789", "submissions/ann.ipynb": "{}",
             "lib/course_planted.py": "",
             "lib/site-packages" "/tinytorch_planted/losses.py": "solution",
             "lib/site-packages" "/pip.py": ""}
    for name, text in files.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(text)
    for name in "outside", "inside":
        (top / name).mkdir(mode=0o755)
        shutil.copy(attacks.__file__, top / name / "attacks.py")
    plan = {"home": str(top / "home"), "submissions": str(top / "submissions"), "root": str(ROOT),
            "site": str(top / "lib/site-packages"), "pid": os.getpid(), "host": os.uname().nodename}
    first, second = os.openpty()
    plan["terminal"] = os.ttyname(second)
    bus, abstract = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    with socket.create_server(("127.0.0.1", 0)) as server, bus, abstract, open(
        top / "planted", "w") as kept:
        victim = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        name = os.path.join("/tmp", f"tito-{os.getpid()}")
        bus.bind(name)
        abstract.bind(f"\0{name}")
        bus.listen(), abstract.listen()
        argument = json.dumps(plan
                              | {"victim": victim.pid, "port": server.getsockname()[1], "bus": name,
                                 "abstract": name})
        environment = os.environ | {"TINYTORCH_PLANTED": "secret"}
        outside = subprocess.run([sys.executable, "attacks.py", argument], cwd=top / "outside",
                                 env=environment, pass_fds=[kept.fileno()], **RUN)
        inside = subprocess.run(sandbox.sandboxed(top / "inside", ["attacks.py", argument]),
                                env=sandbox.ENVIRONMENT, **RUN)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "geteuid", lambda: 1000)
            ordinary = subprocess.run(
                [*ORDINARY, *sandbox.sandboxed(top / "inside", ["attacks.py", argument])],
                env=sandbox.ENVIRONMENT | {"PATH": os.environ["PATH"]}, **RUN)
        os.remove(name)
        victim.kill()                   # an attack that traces it may have stopped it
        victim.communicate()
    os.close(first), os.close(second)
    return [json.loads(done.stdout) for done in (outside, inside, ordinary)]


@pytest.mark.parametrize("name", attacks.ATTACKS)
def test_attack_fails_in_the_sandbox_only(attempts, name):
    outside, *inside = attempts
    for tried in inside:
        assert not tried[name][0] and "NameError" not in tried[name][1]
    if not outside[name][0]:
        pytest.skip(f"this system refuses it anyway: {outside[name][1]}")


@safe
def test_no_copy_of_the_course_is_shown(tmp_path, monkeypatch):
    """Wherever one is installed: only folders of Python and NumPy are shown, and nothing else in
    them.
    """
    paths, others = sandbox.shown_paths()
    (tmp_path / "look.py").write_text("import os\nprint(*[os.path.join(top, name) for top, _, "
                                      "files in os.walk('/') if not top.startswith('/proc') for "
                                      "name in files], sep='\\n')")
    readable(tmp_path)
    seen = subprocess.run(sandbox.sandboxed(tmp_path, ["look.py"]), env=sandbox.ENVIRONMENT,
                          capture_output=True, text=True).stdout.splitlines()
    assert any("/numpy/" in file for file in seen) and "/course/look.py" in seen
    allowed = [str(path) for path in paths] + ["/course/look.py", "/sandbox.py", "/dev/"]
    assert [file for file in seen
            if not any(file == path or file.startswith(path.rstrip("/") + "/")
                       for path in allowed)] == []
    assert [file for file in seen
            if "tinytorch" in file or "site-packages/" in file and not any(
                f"/{name}" in file for name in sandbox.PACKAGES)] == []


LOOK = ("import json, os; print(json.dumps([{line.split()[0]: line.split()[1:] for line in "
        "open('/proc/self/status')}, os.getresuid() + os.getresgid()]))")


@safe
def test_it_has_no_rights(tmp_path):
    """Where root starts it: another user, in no group, without a right of root; before that, the
    rights to become one and no others.
    """
    (tmp_path / "look.py").write_text(LOOK)
    readable(tmp_path)
    command = sandbox.sandboxed(tmp_path, ["look.py"])
    first = [*command[:command.index("-I")], "-I", "-S", "-c", LOOK]
    (before, _), (status, users) = [
        json.loads(subprocess.run(words, env=sandbox.ENVIRONMENT, **RUN,
                                  **{"extra_groups": [4]} if ROOTS else {}).stdout)
        for words in (first, command)]
    assert status["NoNewPrivs:"] == ["1"] and not any(
        int(status[f"Cap{kind}:"][0], 16) for kind in ("Eff", "Prm", "Amb"))
    if ROOTS:
        assert set(users) == {sandbox.OWNERLESS} and status["Groups:"] == []
        assert int(before["CapPrm:"][0], 16) == 1 << 6 | 1 << 7           # SETGID and SETUID


@safe
def test_everything_is_unshared(tmp_path):
    "Also without the filter of system calls, which not every processor has."
    command = sandbox.sandboxed(tmp_path, ["x.py"])
    look = ("import os; print(*[os.readlink(f'/proc/self/ns/{name}') for name in ('net', 'ipc', "
            "'pid', 'uts', 'mnt')], sep='\\n')")
    inside = subprocess.run([*command[:command.index("-I")], "-I", "-S", "-c", look],
                            env=sandbox.ENVIRONMENT, **RUN).stdout.splitlines()
    outside = [os.readlink(f"/proc/self/ns/{name}") for name in ("net", "ipc", "pid", "uts", "mnt")]
    assert len(inside) == 5 and not set(inside) & set(outside)


STARTS = """import subprocess, sys; sys.path.insert(0, sys.argv[1])
from tinytorch.grading import sandbox
process = subprocess.Popen(sandbox.sandboxed(sys.argv[2], ["stay.py"]), env=sandbox.ENVIRONMENT,
                           start_new_session=True, stdout=subprocess.PIPE)
print(process.stdout.readline(), process.pid, flush=True)
process.wait()"""


@safe
def test_a_killed_run_leaves_no_submission_behind(tmp_path):
    "Nothing of ours can end it then; it may have asked to outlive its parent."
    (tmp_path / "stay.py").write_text("import ctypes, time\nctypes.CDLL(None).prctl(1, 0, 0, 0, 0)\n"
                                      "print('here', flush=True)\ntime.sleep(600)")
    readable(tmp_path)
    run = subprocess.Popen([sys.executable, "-c", STARTS, str(ROOT), str(tmp_path)],
                           stdout=subprocess.PIPE, text=True)
    assert "here" in run.stdout.readline()
    inside = descendants(run.pid)
    assert len(inside) > 1
    run.kill()
    run.wait()
    wait_for_the_end(inside)


@safe
def test_what_never_ends_is_gone_afterwards(tmp_path, monkeypatch):
    "Also where root starts the sandbox, and its process belongs to another user."
    seen, end = [], Child.end

    def spied(child):
        seen.extend(descendants(child.process.pid))
        end(child)

    monkeypatch.setattr(Child, "end", spied)
    shutil.copy(answers.__file__, tmp_path / "answers.py")
    readable(tmp_path)
    cells = [{"number": 1, "code": "def f():\n    import time\n    time.sleep(600)",
              "names": ["f"]}]
    plan = {"cells": cells, "calls": {"f": [[[], {}]]}}
    assert "still running" in asking.ask(sandbox.sandboxed(tmp_path, ["answers.py"]), plan, 3.0,
                                         env=sandbox.ENVIRONMENT)[2]
    assert seen
    wait_for_the_end(seen)


def test_every_call_of_the_filter_is_refused():
    "The filter's jumps end where they should: followed here step by step."
    for machine, architecture in sandbox.PROCESSORS.items():
        steps = sandbox.call_filter(machine)
        program = [(int.from_bytes(steps[i:i + 2], sys.byteorder), steps[i + 2], steps[i + 3],
                    int.from_bytes(steps[i + 4:i + 8], sys.byteorder))
                   for i in range(0, len(steps), 8)]

        def run(number, processor=architecture, first=0, second=0):
            place, value = 0, 0
            while True:
                code, yes, no, operand = program[place]
                if code == 0x06:
                    return operand == 0x7FFF0000
                if code == 0x20:
                    value = {0: number, 4: processor, 16: first, 24: second}[operand]
                else:
                    place += yes if (value == operand if code == 0x15 else value >= operand) else no
                place += 1

        refused = {pair[machine == "aarch64"] for pair in sandbox.CALLS.values()} - {None}
        assert {number for number in range(600) if not run(number)} == refused
        assert not run(0, 0x40000003) and not run(1 << 30)
        prctl, fcntl = [sandbox.ARGUMENTS[name][0][machine == "aarch64"] for name in ("prctl", "fcntl")]
        assert [run(prctl, first=option) for option in (0, 1, 2)] == [True, False, True]
        assert [run(fcntl, first=6, second=k) for k in (1, 5, 6, 7, 38)] == [True, True, False, False, False]


def test_a_change_of_the_inputs_cannot_be_hidden(monkeypatch):
    def change(x):
        np.array_equal = np.array_equiv = lambda *_, **__: True
        x[...] = 0
        return x

    monkeypatch.setattr(np, "array_equal", np.array_equal)
    monkeypatch.setattr(np, "array_equiv", np.array_equiv)
    assert answers.answer(change, [np.ones(3)], {})["changed"] == [0]
    assert answers.answer(lambda x: x, [np.array([np.nan, 0.0])], {})["changed"] == []


def what_answers(package: Path, checks: list) -> dict:
    "The callables of a package that answer an exercise, other than the Tensor's own arithmetic."
    shown = "name", "calls", "expected"
    data = json.dumps([{name: to_data(check)[name] for name in shown} for check in checks])
    done = subprocess.run([sys.executable, str(ROOT / "tests/reaching.py"), str(package)], input=data,
                          capture_output=True, text=True, check=True, cwd=package,
                          env=os.environ | {"TINYTORCH_ENGINE": "numpy"})
    return dict(map(json.loads, done.stdout.splitlines()))


def test_nothing_that_a_submission_sees_answers_an_exercise(tmp_path):
    """However it is reached; also where it is marked with the course's version of others. The rest
    of the package has such things.
    """
    todo, lessons = exercises(PROJECT, MODULE), {}
    checks = {exercise.name: from_data(exercise.check) for exercise in todo}
    below = grading.built_on(PROJECT, MODULE, todo)
    modules = {path.name: grading.module_of(PROJECT, path) for path in MODULE.notebooks}
    course = grading.Course(PROJECT.lib, todo, below, modules, tmp_path)
    for exercise in todo:
        for kept in {frozenset(), frozenset(below[exercise.name])}:
            lessons.setdefault((exercise.notebook, kept), []).append(checks[exercise.name])
    for (lesson, kept), these in lessons.items():
        found = what_answers(course.package(lesson, kept), these)
        assert found == {check.name: [] for check in these}, (lesson, kept)
    forms = "__init__.py", "core/*.py", "nn/*.py", "hosts/__init__.py", "scale/__init__.py"
    files = [file for form in forms for file in PROJECT.lib.glob(form)]
    everything = grading.make_package(PROJECT.lib, tmp_path / "all", files)
    for name in "log_softmax", "soft_cross_entropy":
        assert what_answers(everything, [checks[name]])[name]


def test_a_submission_sees_what_its_lesson_imports(tmp_path):
    "And not the lesson itself."
    lib = PROJECT.lib
    for path in MODULE.notebooks:
        if name := grading.module_of(PROJECT, path):
            module = lib.parent / f"{name.replace('.', '/')}.py"
            shown = grading.prerequisites(module, lib)
            assert module not in shown
            folder = grading.make_package(lib, tmp_path / path.stem, shown)
            code = [cell.code for cell in code_cells(read_notebook(PROJECT, path))
                    if cell.directives.keys() & {"export", "exports", "exporti"}]
            lines = [line for text in code for line in re.findall(
                r"^(?:from tinytorch|import tinytorch)[^(\n]*(?:\([^)]*\))?", text, re.M)]
            subprocess.run([sys.executable, "-c", "\n".join(lines)], cwd=folder, check=True)


def test_a_process_with_solutions_runs_alone(tmp_path, monkeypatch):
    "What it uses of the machine could tell another submission what it has read."
    course = grading.Course(tmp_path, [], {}, {}, tmp_path, protected=False)
    running, seen, runs = [], [], []

    def ask(command, plan, *_, **__):
        running.append(plan["kept"])
        seen.append(sorted(running))
        time.sleep(0.01)
        running.remove(plan["kept"])

    monkeypatch.setattr(grading, "ask", ask)
    monkeypatch.setattr(course, "package", lambda lesson, kept=(): tmp_path)
    course.notebooks = {"f": "lesson.ipynb"}
    with ThreadPoolExecutor(4) as threads:
        for k in range(20):
            kept = ("f",) if k % 5 == 0 else ()
            runs.append(threads.submit(course.run, {"calls": {"f": []}, "kept": kept}, kept))
    assert not any(run.exception() for run in runs)
    assert len(seen) == 20 and all(len(group) == 1 for group in seen if ("f",) in group)


# Marks under attack

NOISE = ("import os\n    for fd in range(3, 30):\n        try: os.write(fd, DATA)\n        except "
         "OSError: pass\n    os._exit(0)")
FIRST = '{"start": "squared_error"}\\n'
ATTACKS = {  # name: (body of squared_error, what the feedback on it must say)
    "loops": ("while True: pass", "still running after"),
    "sleeps": ("import time; time.sleep(600)", "still running after"),
    "stops_itself": (
        "import os, signal; os.kill(os.getpid(), signal.SIGSTOP); import time; time.sleep(600)",
        "still running after",
    ),
    "forks": (
        "import os\n    if os.fork() == 0:\n        os.setsid(); import time; time.sleep(600)\n    return input, target",
        "Error",
    ),
    "threads": (
        "import threading, time\n    threading.Thread(target=time.sleep, args=(30,)).start()\n    return input, target",
        "can't start new thread",
    ),
    "exits": ("import os; os._exit(0)", "ended the Python process"),
    "exits_politely": ("raise SystemExit", "SystemExit"),
    "interrupts": ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    "ends_a_loop": ("raise StopIteration", "StopIteration"),
    "crashes": ("import ctypes; ctypes.string_at(0)", "ended the Python process"),
    "allocates": ("return bytearray(10 * 2**30)", "MemoryError"),
    "recurses": ("return squared_error(input, target)", "RecursionError"),
    "prints": ("print('✅ passed', 'all tests passed', flush=True)", "returns None"),
    "patches": (
        "for name in ('allclose', 'isclose', 'array_equal', 'errstate', 'frombuffer'): setattr(np, name, lambda *a, **k: True)\n    return input, target",
        "",
    ),
    "patches_the_worker": (
        "import sys\n    for module in list(sys.modules.values()):\n        for f in ('pack', 'answer', 'verdict', 'same', 'packed', 'dumps'):\n"
        "            if hasattr(module, f): setattr(module, f, lambda *a, **k: True)\n    return input, target",
        "",
    ),
    "looks_for_results": (
        "import gc, sys, base64\n    want = (input - target) ** 2\n    seen = [x for x in gc.get_objects() if isinstance(x, np.ndarray) and x is not want and x.shape == want.shape and (x == want).all()]\n"
        "    frame, texts = sys._getframe(), []\n    while frame: texts += [str(v) for v in frame.f_locals.values()]; frame = frame.f_back\n"
        "    text = base64.b64encode(want.tobytes()).decode()\n    plain = base64.b64encode(input.tobytes()).decode()\n"
        "    raise RuntimeError(f'results {len(seen)} {any(text in t for t in texts)} inputs {any(plain in t for t in texts)}')",
        "results 0 False inputs True",
    ),
    "writes_without_end": (
        "import os\n    while True:\n        for fd in range(3, 30):\n            try: os.write(fd, b'x' * 10**6)\n            except OSError: pass",
        "no answer",
    ),
    "writes_many_lines": (NOISE.replace("DATA", "b'{}\\n' * 10**6"), "no answer"),
    "writes_deep_json": (NOISE.replace("DATA", "b'[' * 10**5 + b'\\n'"), "no answer"),
    "writes_lists": (NOISE.replace("DATA", "b'[' + b'[],' * 10**6 + b'[]]\\n'"), "no answer"),
    "writes_a_huge_number": (NOISE.replace("DATA", "b'1' * 10**5 + b'\\n'"), "no answer"),
    "closes_its_files": (
        "import os\n    for fd in range(30):\n        try: os.close(fd)\n        except OSError: pass\n    return input, target",
        "",
    ),
    "leaves_something_for_later": (
        "import atexit\n    atexit.register(print, '✅')\n    return input, target",
        "target",
    ),
    "returns_too_much": ("return np.zeros(3 * 10**7), np.zeros(3 * 10**7)", "60000000 numbers"),
    "returns_objects": ("return np.array([object()]), object()", "numbers are wanted"),
    "sends_control_characters": (
        "raise ValueError('\\x1b[2J\\x1b]0;owned\\x07' + chr(0x202e) + chr(0x9b) + '\\r\\n=cmd()')",
        "ValueError",
    ),
    "raises_what_cannot_be_shown": (
        "class E(Exception):\n        def __str__(self): raise SystemExit\n    raise E()",
        "cannot be shown",
    ),
    "is_called_like_a_tag": ("raise ValueError('<script>alert(1)</script>[/red]')", "<script>"),
    "forges_another": (
        NOISE.replace(
            "DATA",
            "b'''{\"start\": \"huber\"}\\n{\"name\": \"huber\", \"call\": 0, \"result\": []}\\n{\"done\": true}\\n'''",
        ),
        "no answer",
    ),
    "forges_the_end": (NOISE.replace("DATA", "b'''{\"done\": true}\\n'''"), "no answer"),
    "forges_missing": (
        NOISE.replace(
            "DATA",
            "b'''{\"name\": \"squared_error\", \"call\": 0, \"missing\": {}, \"result\": [], \"many\": true, \"changed\": []}\\n'''",
        ),
        "no answer",
    ),
    "forges_only_missing": (
        NOISE.replace(
            "DATA",
            "b'''{\"name\": \"squared_error\", \"missing\": {\"type\": \"NotImplementedError\", \"message\": \"\", \"line\": true, \"function\": \"\", \"source\": \"\"}}\\n'''",
        ),
        "no answer",
    ),
    "forges_changed": (
        NOISE.replace(
            "DATA",
            "b'''{\"name\": \"squared_error\", \"call\": 0, \"result\": [null, null], \"many\": true, \"changed\": [99]}\\n'''",
        ),
        "no answer",
    ),
    "forges_numbers": (
        NOISE.replace(
            "DATA",
            "b'''{\"name\": \"squared_error\", \"call\": false, \"result\": [null, null], \"many\": true, \"changed\": []}\\n'''",
        ),
        "no answer",
    ),
}


def hand_in(folder, name, body=None, lesson=LESSON, exercise="squared_error"):
    "A submission: the lesson with its solutions, and this body of an exercise."
    nb = json.loads(lesson.read_text(encoding="utf-8"))
    for cell in nb["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"] = []
        source = "".join(cell["source"])
        if body is not None and f"def {exercise}(" in source and "BEGIN SOLUTION" in source:
            cell["source"] = source[:source.index("    ### BEGIN SOLUTION")] + f"    {body}\n"
    (folder / f"{name}.ipynb").write_text(json.dumps(nb), encoding="utf-8")


def honest_and(home, bodies: dict, **options) -> tuple:
    """The marks of an honest student and of one for each body of `squared_error`, marked in one
    run, and the folder of the marks.
    """
    if REASON:
        pytest.skip(REASON)
    (home / "in").mkdir()
    for name, body in {"honest": None, **bodies}.items():
        hand_in(home / "in", name, body)
    marks = grade(PROJECT, MODULE, home / "in", home / "out", notebooks=["losses_dev"], **options)
    return {m.student: m for m in marks}, home / "out"


def check_all_points(marks) -> None:
    assert len(right(marks["honest"])) == len(marks["honest"].verdicts) >= 14


@pytest.fixture(scope="module")
def marked(tmp_path_factory):
    "All attacks and two honest students, marked in one run."
    if REASON:
        pytest.skip(REASON)
    home = tmp_path_factory.mktemp("class")
    folder, out = home / "submissions", home / "marks"
    folder.mkdir()
    hand_in(folder, "honest")
    hand_in(folder, "half right", "return input - target, 2 * (input - target)")
    for name, (body, _) in ATTACKS.items():
        hand_in(folder, name, body)
    (folder / "no_json.ipynb").write_text("{", encoding="utf-8")
    (folder / "other.ipynb").write_text(
        '{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}', encoding="utf-8")
    (folder / "empty folder").mkdir()
    (folder / "=cmd").mkdir()
    before = {path: path.read_bytes() for path in folder.glob("*.ipynb")}
    marks = {m.student: m
             for m in grade(PROJECT, MODULE, folder, out, notebooks=["losses_dev"], timeout=10.0)}
    assert {path: path.read_bytes() for path in folder.glob("*.ipynb")} == before
    return marks, out, folder


def right(mark):
    return [name for name, verdict in mark.verdicts.items() if verdict.mark == "✅"]


def test_honest_students_get_their_marks(marked):
    marks, _, _ = marked
    count = len(right(marks["honest"]))
    assert count == len(marks["honest"].verdicts) >= 14
    assert (len(right(marks["half right"])) == count - 1
            and "without its square" in marks["half right"].verdicts["squared_error"].text)


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_costs_its_own_exercise_only(marked, name):
    marks, _, _ = marked
    verdict = marks[name].verdicts["squared_error"]
    assert verdict.mark == "❌" and ATTACKS[name][1] in verdict.text, verdict
    harmed = set(marks["honest"].verdicts) - {"squared_error"} - set(right(marks[name]))
    assert not harmed or name in ("patches", "patches_the_worker", "closes_its_files"), harmed


def test_nothing_unseen_reaches_a_page_or_a_table(marked):
    _, out, _ = marked
    for file in [*(out / "feedback").iterdir(), out / "marks.csv", out / "marks.json"]:
        text = file.read_text(encoding="utf-8-sig")
        assert all(c.isprintable() or c == "\n" for c in text), file
    assert "<script" not in (out / "feedback/is_called_like_a_tag.html").read_text(encoding="utf-8")


def test_what_is_no_submission_gets_a_reason(marked):
    marks, _, _ = marked
    assert ("no valid notebook" in marks["no_json"].problem
            and "none of the exercises" in marks["other"].problem
            and "no notebook" in marks["empty folder"].problem)


def test_files(marked):
    marks, out, _ = marked
    rows = list(csv.DictReader((out / "marks.csv").read_text(encoding="utf-8-sig").splitlines()))
    data = json.loads((out / "marks.json").read_text(encoding="utf-8"))
    assert [row["student"].lstrip("'")
            for row in rows] == [m["student"] for m in data["marks"]] == sorted(marks)
    honest = next(row for row in rows if row["student"] == "honest")
    assert (honest["points"] == honest["of"] == str(data["of"])
            and all(not row["student"].startswith("=") for row in rows))
    assert (honest["marked"] == "honest.ipynb" and honest["sandbox"] == "yes"
            and data["sandbox"] is True)
    page = (out / "feedback" / "honest.html").read_text(encoding="utf-8")
    assert f"{data['of']} of {data['of']} points" in page and "✅ <code>huber</code>" in page
    assert len(list((out / "feedback").glob("*.html"))) == len(marks)


@pytest.mark.skipif(os.name != "posix", reason="memory is measured by the module resource")
def test_a_flood_is_not_held_in_memory():
    "64 MB of lists, and lines without end, cost this process little."
    program = ("import sys\nprint('{\"ready\": true}')\n"
               "while True: sys.stdout.write('[' + '[],' * 10**6); sys.stdout.flush()")
    script = ("import json, resource, sys\nfrom tinytorch.exercises.asking import ask\nbefore = "
              "resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
              f"print(ask([sys.executable, '-c', {program!r}], {{'cells': [], 'calls': {{'f': "
              f"[[[], {{}}]]}}}}, 20.0)[2])\n"
              "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)")
    why, kilobytes = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True,
                                    text=True, check=True).stdout.splitlines()
    assert "no answer" in why and int(kilobytes) < 100_000


# What is marked

@safe
@pytest.mark.parametrize("path", [path for path in MODULE.notebooks if any("BEGIN SOLUTION" in cell.source for cell in code_cells(read_notebook(PROJECT, path)))], ids=lambda path: path.stem)
def test_the_courses_own_notebooks_get_all_their_points(tmp_path, path):
    """Handed in as they are; and with one exercise wrong, each in turn in the notebook's own run,
    all points but those of that one.
    """
    folder = tmp_path / "in"
    folder.mkdir()
    names = [exercise.name for exercise in exercises(PROJECT, MODULE)
             if exercise.notebook == path.name]
    hand_in(folder, "right", lesson=path)
    for name in names:
        hand_in(folder, f"wrong {name}", "return 0 * np.asarray(1.0)", path, name)
        hand_in(folder, f"blank {name}", "raise NotImplementedError()", path, name)
    marks = {m.student: m
             for m in grade(PROJECT, MODULE, folder, tmp_path / "out", notebooks=[path.stem])}
    assert right(marks["right"]) == names
    for kind in "wrong", "blank":
        for name in names:
            assert [other for other in names
                    if other not in right(marks[f"{kind} {name}"])] == [name], (kind, name)
    assert all(marks[f"blank {name}"].verdicts[name].mark == "⬜" for name in names)


@safe
def test_a_package_never_holds_the_solution_that_is_marked(tmp_path):
    "Nor one that is built on it; and without exceptions it holds none at all."
    todo = exercises(PROJECT, MODULE)
    below = grading.built_on(PROJECT, MODULE, todo)
    assert (below["cross_entropy"] == {"log_softmax", "shift"} and below["squared_error"] == set()
            and "log_softmax" in below["focal"])
    solutions = {}
    for path in MODULE.notebooks:
        for cell in code_cells(read_notebook(PROJECT, path)):
            if "BEGIN SOLUTION" in cell.source:
                solutions[cell.code.partition("def ")[2].partition("(")[0]] = cell.code
    for kept in [set(), *{frozenset(kept) for kept in below.values() if kept}]:
        folder = grading.make_package(PROJECT.lib, tmp_path / ("-".join(sorted(kept)) or "none"),
                                      PROJECT.lib.glob("nn/*.py"), kept)
        text = "".join(file.read_text(encoding="utf-8") for file in folder.rglob("*.py"))
        assert "SOLUTION" not in text
        for name in below:
            lines = ([line for line in grading.REGION.search(solutions[name])[2].splitlines()
                      if len(line.strip()) > 25] if name in solutions else [])
            shown = [line for line in lines if line in text]
            assert (not shown or name in kept
                    or any(line in solutions[other] for line in shown
                           for other in kept)), (name, shown)
    assert not list(tmp_path.rglob(FILE)) and not list(tmp_path.rglob("mistakes.py"))


@safe
def test_solutions_do_not_come_back_with_the_feedback(tmp_path):
    """An exercise that is marked with the course's helpers may read them, but what it says is not
    handed on.
    """
    (tmp_path / "in").mkdir()
    hand_in(tmp_path / "in", "eve",
            "import dis, io\n    told = io.StringIO(); dis.dis(shift, file=told)\n    raise "
            "RuntimeError('stolen' + told.getvalue())",
            exercise="log_softmax")
    nb = json.loads((tmp_path / "in/eve.ipynb").read_text())
    for cell in nb["cells"]:
        source = "".join(cell["source"])
        if "def shift(" in source and "BEGIN SOLUTION" in source:
            cell["source"] = source[:source.index("    ### BEGIN SOLUTION")] + "    return input"
    (tmp_path / "in/eve.ipynb").write_text(json.dumps(nb))
    marked, = grade(PROJECT, MODULE, tmp_path / "in", tmp_path / "out", notebooks=["losses_dev"])
    assert ("course's shift too" in marked.verdicts["log_softmax"].text
            and "stolen" not in json.dumps([repr(v) for v in marked.verdicts.values()]))
    assert {name for name in marked.verdicts
            if name not in right(marked)} == {"shift", "log_softmax"}


@safe
def test_a_table_of_the_editions_answers_gets_nothing(tmp_path):
    "Nor do its inputs come up again, whatever the seed."
    (tmp_path / "in").mkdir()
    edition = {e.name: from_data(e.check) for e in exercises(PROJECT, MODULE)
               if e.notebook == LESSON.name}
    nb = json.loads(LESSON.read_text(encoding="utf-8"))
    for cell in nb["cells"]:
        source = "".join(cell["source"])
        name = source.partition("def ")[2].partition("(")[0]
        if "BEGIN SOLUTION" in source and name in edition:
            check = edition[name]
            table = {repr([np.asarray(x).tolist() for x in call[0].values()]
                          + sorted(call[1].items())): [y.tolist() for y in results]
                     for call, results in zip(check.calls, check.expected)}
            cell["source"] = (f"#| export\nTABLE_{name} = eval({repr(repr(table))}, {{'nan': "
                              f"float('nan'), 'inf': float('inf')}})\ndef {name}(*arguments, "
                              "**options):\n"
                              f"    found = TABLE_{name}[repr([np.asarray(x).tolist() for x in "
                              "arguments] + sorted(options.items()))]\n"
                              "    found = tuple(np.array(x, arguments[0].dtype) for x in "
                              "found)\n    return found if len(found) > 1 else found[0]\n")
    (tmp_path / "in/max.ipynb").write_text(json.dumps(nb))
    for seed in 0, 1, None:
        marked, = grade(PROJECT, MODULE, tmp_path / "in", tmp_path / f"out{seed}",
                        notebooks=["losses_dev"], seed=seed)
        assert right(marked) == []


# Odd submissions

def packed_up(files: dict) -> bytes:
    "A zip file; a name that ends in @ is a link."
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            info = zipfile.ZipInfo(name.rstrip("@"), (2026, 1, 1, 0, 0, 0))
            info.external_attr = (0o120777 if name.endswith("@") else 0o100644) << 16
            archive.writestr(info, data, zipfile.ZIP_DEFLATED)
    return made.getvalue()


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    "A folder of everything that people and systems put into one, marked."
    if REASON:
        pytest.skip(REASON)
    home = tmp_path_factory.mktemp("odd")
    folder = home / "in"
    folder.mkdir()
    hand_in(home, "lesson")
    hand_in(home, "wrong", "return input, target")
    good, bad = (home / "lesson.ipynb").read_bytes(), (home / "wrong.ipynb").read_bytes()
    scratch = json.dumps({"cells": [{"cell_type": "code", "metadata": {}, "outputs": [],
                                     "execution_count": None,
                                     "source": "#| export\ndef huber(): pass"}],
                          "metadata": {}, "nbformat": 4, "nbformat_minor": 5}).encode()
    code = json.loads(good)
    code["cells"][1]["source"] = "x = [" + "1, " * 10**6 + "]"
    (home / "outside").mkdir()
    files = {"plain.ipynb": good, "ANN.IPYNB": good, "_smith.ipynb": good, "=cmd.ipynb": good,
             "-rf.ipynb": good, "two\nlines.ipynb": good, "x" * 240 + ".ipynb": good,
             os.fsdecode(b"ren\xe9.ipynb"): good, os.fsdecode(b"ren\xe8.ipynb"): bad,
             "eve.ipynb": bad, "eve/losses_dev.ipynb": good, "zoe/losses_dev.ipynb": bad,
             "zoe/losses_dev (1).ipynb": good, "zoe/scratch.ipynb": scratch,
             "zoe/.ipynb_checkpoints/losses_dev-checkpoint.ipynb": bad,
             "old/losses_dev_old.ipynb": bad, "old/new/losses_dev.ipynb": good,
             "zip.zip": packed_up({"a/losses_dev.ipynb": good, "../../climbs.ipynb": scratch,
                                   "__MACOSX/losses_dev.ipynb": bad, "l.ipynb@": b"/etc/passwd"}),
             "inner/work.ZIP": packed_up({"losses_dev.ipynb": good}), "nozip.zip": b"PK nothing",
             "bomb.zip": packed_up({f"{i}.ipynb": b"\0" * 10**7 for i in range(20)}),
             "many.zip": packed_up({f"{i}.ipynb": scratch for i in range(200)}),
             "large.ipynb": b" " * (17 << 20), "latin.ipynb": b'{"cells": "\xe9"}',
             "deep.ipynb": b"[" * 10**5, "code.ipynb": json.dumps(code).encode(),
             "half.ipynb": good[:len(good) // 2], "empty.ipynb": b"", "list.ipynb": b"[]",
             "number.ipynb": b'{"cells": [1], "nbformat": 4}',
             "surrogate.ipynb": good.replace(b"def huber", b"def \\ud800huber"),
             "essay.pdf": b"%PDF", "notes/essay.docx": b""}
    for number, (name, data) in enumerate(files.items()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
        os.utime(folder / name, (10**9 + number, 10**9 + number))
    (home / "outside/secret.ipynb").write_bytes(good)
    (folder / "link.ipynb").symlink_to(home / "outside/secret.ipynb")
    (folder / "linked").symlink_to(home / "outside")
    (folder / "loop.ipynb").symlink_to("loop.ipynb")
    (folder / "device.ipynb").symlink_to("/dev/zero")
    os.mkfifo(folder / "pipe.ipynb")
    os.mkfifo(folder / "pipe.zip")
    (folder / "folder.ipynb").mkdir()
    marks = {m.student: m
             for m in grade(PROJECT, MODULE, folder, home / "out", notebooks=["losses_dev"],
               jobs=2)}
    return marks, home, files


FULL = ("plain", "ANN", "_smith", "=cmd", "-rf", "x" * 240, "eve", "zoe", "old", "zip", "inner")
ODD = {"nozip": "not a zip file", "bomb": "too large", "many": "too large",
       "large": "larger than 16 MB", "latin": "not UTF-8", "deep": "nested too deep",
       "code": "characters of code", "half": "no valid notebook", "empty": "no valid notebook",
       "list": "no valid notebook", "number": "no valid notebook",
       "essay.pdf": "no notebook, folder or zip file", "notes": "no notebook was handed in",
       "link": "is a link", "linked": "is a link", "loop": "is a link", "device": "is a link",
       "pipe": "no regular file", "folder": "no notebook was handed in"}


@pytest.mark.parametrize("student", FULL)
def test_however_it_is_called_it_is_marked(odd, student):
    marks, _, _ = odd
    assert len(right(marks[student])) == len(marks["plain"].verdicts) >= 14, marks[student]


@pytest.mark.parametrize("student", ODD)
def test_what_is_not_marked_has_a_reason(odd, student):
    marks, _, _ = odd
    assert (not right(marks[student])
            and ODD[student] in marks[student].problem), marks[student].problem


def test_which_of_several_is_marked_is_told(odd):
    marks, home, _ = odd
    assert (marks["zoe"].marked == "losses_dev (1).ipynb (the newest of 3 for losses_dev, not losses_dev.ipynb, scratch.ipynb)")
    assert ("the newest of 2" in marks["eve"].marked and "the newest of 2" in marks["old"].marked
            and "is a link" in marks["zip"].problem)
    assert not (home / "climbs.ipynb").exists() and not (home.parent / "climbs.ipynb").exists()


def test_names_that_look_the_same_have_rows_of_their_own(odd):
    marks, home, files = odd
    same = [student for student in marks if student.startswith("ren\ufffd")]
    assert len(same) == 2 and sorted(len(right(marks[student])) for student in same)[1] >= 14
    rows = list(csv.DictReader((home
                                / "out/marks.csv").read_text(encoding="utf-8-sig").splitlines()))
    assert len(rows) == len(marks) == len(list((home / "out/feedback").iterdir())) == len(
        {Path(name).parts[0].rpartition(".")[0] or name for name in marks})
    assert not any(row[name].startswith(("=", "-", "+", "@")) for row in rows
                   for name in ("student", "marked", "problem"))


# What functions return

HOSTILE = """
class Loud(np.ndarray):
    def __array_finalize__(self, other): raise StopIteration
class Array:
    shape = property(lambda self: 1 / 0)
    def __array__(self, *a, **k): raise {error}
class Meta(type):
    __name__ = property(lambda self: 1 / 0)
class Evil(Exception, metaclass=Meta):
    def __str__(self): raise {error}
def generate():
    yield 1
    raise {error}
class List(list):
    def __iter__(self): raise {error}
    def __len__(self): raise {error}
    def __getitem__(self, i): raise {error}
"""
VALUES = [
    "None", "...", "True", "'text'", "b'bytes'", "1j", "object()", "type", "{}", "set()", "[]",
    "()", "((), ())", "[[1], [1, 2]]", "[None, None]", "(input,)", "(input, target, input)",
    "iter([1])", "generate()", "(generate(), generate())", "List([1, 2])", "Array()",
    "(Array(), Array())", "np.array([1]).view(np.recarray)", "np.ma.masked",
    "np.ma.array(input, mask=True)", "np.datetime64('now')", "np.float16(1)", "np.longdouble(1)",
    "np.array(1 + 0j)", "np.array('x')", "np.array([{}])", "np.zeros((0, 3)), np.zeros((3, 0))",
    "np.zeros((1,) * 32)", "np.zeros((1,) * 32), np.zeros((1,) * 32)",
    "np.full(input.shape, np.nan), np.full(input.shape, np.inf)", "10**400, 10**400",
    "-(2**63), 2**64", "float('nan'), float('nan')", "[[]] * 10**5",
    "np.broadcast_to(1.0, (10**6, 10**6)), input", "memoryview(b'1'), memoryview(b'1')",
    "range(10**9)", "lambda: 1", "np.zeros(3, [('a', int)])", "deep", "Loud",
    "input.astype('>f8'), target.astype('>f4')", "np.matrix(input), np.matrix(target)", "print",
    "NotImplemented", "input, None", "None, input", "np.nan", "input.reshape(-1, 1), target.T"]
ERRORS = ["StopIteration", "GeneratorExit", "KeyboardInterrupt", "SystemExit(0)", "RecursionError",
          "MemoryError", "BaseException", "Evil()", "ExceptionGroup('x', [ValueError()])",
          "UnicodeDecodeError('utf-8', b'x', 0, 1, chr(0xd800))", "SyntaxError(object())",
          "SyntaxError('x', (None, 'y', None, 'z'))", "AssertionError",
          "NotImplementedError('\\0')", "OSError(1, 2, 3)"]


@safe
def test_no_return_value_stops_a_class(tmp_path):
    "Each odd value, from each of two functions: an own row, one wrong exercise, and no problem."
    folder = tmp_path / "in"
    folder.mkdir()
    cases = [f"return {value}" for value in VALUES] + [f"raise {error}" for error in ERRORS]
    prefix = HOSTILE.format(error="StopIteration").strip().replace("\n", "\n    ")
    for number, case in enumerate(cases):
        hand_in(folder, f"{number:03}",
                f"deep = []\n    for _ in range(10**5): deep = [deep]\n    {prefix}\n    {case}",
                exercise=["squared_error", "cross_entropy"][number % 2])
    marks = grade(PROJECT, MODULE, folder, tmp_path / "out", notebooks=["losses_dev"], jobs=2)
    for marked, case in zip(marks, cases, strict=True):
        wrong = set(marked.verdicts) - set(right(marked))
        assert marked.problem == "" and len(wrong) == 1, (case, marked)


def random_answer(random):
    "What a process might send instead of an answer: a right one with something else in it."
    odd = [None, True, -1, 0, 10**30, 1.5, "", "x", [], {}, [[]], [None], {"dtype": "<f8"},
           "\x1b[2J", [1, 2], {"a": []}, float("nan")]
    event = {"many": True, "result": [answers.pack(np.zeros(3)), None], "changed": []}
    if random.random() < 0.5:
        event = {"error": {"type": "T", "message": "m", "line": 1, "function": "f", "source": "s"},
                 "changed": []}
    for _ in range(random.randint(1, 3)):
        inner = event
        while isinstance(inner, dict) and inner and random.random() < 0.6:
            key = random.choice(list(inner))
            if not isinstance(inner[key], (dict, list)) or not inner[key]:
                break
            inner = inner[key] if isinstance(inner[key], dict) else inner[key][0]
        if isinstance(inner, dict):
            inner[random.choice([*inner, "missing", "x"])] = random.choice(odd)
    return event


def test_only_answers_are_read():
    "Of changed ones each is refused with a ValueError, or is an answer that the judge can read."
    random, refused = Random(0), 0
    check = from_data(exercises(PROJECT, MODULE)[0].check)
    for _ in range(3000):
        try:
            read = asking.read_answer(random_answer(random), 2)
        except ValueError:
            refused += 1
            continue
        assert set(read) in ({"error", "changed"}, {"many", "result", "changed"})
        assert judge(check, [read] * len(check.calls)).mark in ("❌", "⬜")
    assert refused > 2000


def test_an_answer_missing_beside_a_value_is_refused():
    whole = {"many": True, "result": [None], "changed": []}
    assert asking.read_answer(dict(whole), 2) == whole
    for extra in {"missing": None}, {"error": {}}, {"changed": [True]}, {"changed": [2]}, {
        "result": [None] * 17}, {"result": [{"dtype": "|O8", "shape": [1],
                                             "data": ""}]}, {"many": 1}:
        with pytest.raises(ValueError):
            asking.read_answer(whole | extra, 2)


# Without a sandbox

@pytest.mark.parametrize("options", [["--unprotected"], []], ids=["unprotected", "protected"])
def test_an_ordinary_user_marks(options):
    "Also where these tests run as root. Without a sandbox marks and feedback say so."
    if REASON and not options:
        pytest.skip(REASON)
    if ROOTS and not ORDINARY:
        pytest.skip("root has no way here to run something as another user")
    with tempfile.TemporaryDirectory() as home:
        folder, out = Path(home, "in"), Path(home, "out")
        folder.mkdir()
        hand_in(folder, "ann")
        hand_in(folder, "bob", "while True: pass")
        process = command(folder, out, "--timeout", "20", *options, before=ORDINARY)
        told = process.communicate()[0]
        assert process.returncode == 0, told
        rows = list(csv.DictReader((out / "marks.csv").read_text(
                                       encoding="utf-8-sig").splitlines()))
        data = json.loads((out / "marks.json").read_text(encoding="utf-8"))
        assert ({row["sandbox"] for row in rows} == {"none" if options else "yes"}
                and data["sandbox"] is not bool(options))
        assert (rows[0]["points"] == rows[0]["of"]
                and "still running" in data["marks"][1]["exercises"]["squared_error"]["text"])
        assert ("without a sandbox" in (
                    out / "feedback/ann.html").read_text(encoding="utf-8")) == bool(options)


# The run

@safe
def test_an_interrupted_run_goes_on(tmp_path, monkeypatch):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name in "abc":
        hand_in(folder, name)
    ran, mark, interrupt = [], grading.mark, ["b"]

    def spied(submission, *rest):
        ran.append(submission.student)
        if submission.student in interrupt:
            raise KeyboardInterrupt
        return mark(submission, *rest)

    def run(**options):
        del ran[:]
        grade(PROJECT, MODULE, folder, out, notebooks=["losses_dev"], jobs=1, **options)
        return ran

    monkeypatch.setattr(grading, "mark", spied)
    with pytest.raises(KeyboardInterrupt):
        run()
    assert (out / ".state" / "a.json").exists() and not (out / "marks.csv").exists()
    del interrupt[:]
    assert run() == ["b", "c"] and (out / "marks.csv").exists()
    assert run() == []                                         # nothing has changed
    hand_in(folder, "b", "return input, target")
    assert run() == ["b"]                                      # only what has
    assert run(timeout=11.0) == ["a", "b", "c"]                # a limit
    assert run(timeout=11.0, seed=5) == ["a", "b", "c"] and run(timeout=11.0, seed=5) == []
    seeds = {m["seed"] for m in json.loads((out / "marks.json").read_text())["marks"]}
    assert seeds == {5} and run(timeout=11.0, seed=6) == ["a", "b", "c"]
    (out / ".state" / "a.json").write_text("[" * 10**5)
    (out / ".state" / "b.json").write_bytes(b"\xff\x00")
    assert run(timeout=11.0) == ["a", "b"]                     # damaged
    kept = json.loads((out / ".state/c.json").read_text())
    (out / ".state/c.json").write_text(json.dumps(kept | {"problem": "\x1b[2J"}))
    assert run(timeout=11.0) == ["c"]                          # what steers a terminal


@safe
def test_a_run_for_one_student_keeps_the_others(tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name in "ann", "bob":
        hand_in(folder, name)
    grade(PROJECT, MODULE, folder, out, notebooks=["losses_dev"])
    hand_in(folder, "bob", "return input, target")
    hand_in(folder, "eve")
    marked, = grade(PROJECT, MODULE, folder, out, notebooks=["losses_dev"], students=["bob"])
    rows = {row["student"]: row["points"]
            for row in csv.DictReader((out / "marks.csv").read_text(
                              encoding="utf-8-sig").splitlines())}
    assert list(rows) == ["ann", "bob"] and int(rows["bob"]) < int(rows["ann"])
    marked, = grade(PROJECT, MODULE, folder / "eve.ipynb", out, notebooks=["losses_dev"])
    rows = [row["student"]
            for row in csv.DictReader((out / "marks.csv").read_text(
                              encoding="utf-8-sig").splitlines())]
    assert rows == ["ann", "bob", "eve"] and marked.student == "eve"
    told = command(folder / "eve.ipynb", out).communicate(timeout=600)[0]
    assert "2 marked earlier are kept" in told and "1 submissions marked" in told
    with pytest.raises(TitoError, match="marks of ann for other exercises"):
        grade(PROJECT, MODULE, folder, out, students=["bob"])
    kept = json.loads((out / ".state/ann.json").read_text()) | {"protected": False}
    (out / ".state/ann.json").write_text(json.dumps(kept))
    grade(PROJECT, MODULE, folder, out, notebooks=["losses_dev"], students=["bob"])
    rows = {row["student"]: row["sandbox"]
            for row in csv.DictReader((out / "marks.csv").read_text(
                              encoding="utf-8-sig").splitlines())}
    assert rows == {"ann": "none", "bob": "yes", "eve": "yes"}               # each as it was marked
    with pytest.raises(TitoError, match="no submission of zoe"):
        grade(PROJECT, MODULE, folder, out, students=["zoe"])


@safe
def test_whatever_fails_is_one_students_problem(tmp_path, monkeypatch):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in "abc":
        hand_in(folder, name)
    lessons, save = grading.mark_lessons, grading.save_marks

    def full(file, marked):
        if marked.student == "c":
            raise OSError("disk full")
        save(file, marked)

    def broken(result, *rest):
        if result.student == "b":
            raise RuntimeError("generator raised StopIteration")
        return lessons(result, *rest)

    monkeypatch.setattr(grading, "mark_lessons", broken)
    monkeypatch.setattr(grading, "save_marks", full)
    marks = {m.student: m
             for m in grade(PROJECT, MODULE, folder, tmp_path / "out", notebooks=["losses_dev"])}
    assert ("StopIteration" in marks["b"].problem and "disk full" in marks["c"].problem
            and len(right(marks["a"])) >= 14)


@pytest.mark.parametrize("option", ["--timeout=inf", "--timeout=nan", "--timeout=1e300", "--timeout=0", "--seed=-1", "--seed=x", "--jobs=0"])
def test_a_number_that_cannot_be_is_refused(tmp_path, option):
    told = command(tmp_path, tmp_path / "out", option).communicate()[0]
    assert f"Invalid value for '{option.partition('=')[0]}'" in told and "Traceback" not in told


@safe
def test_trouble_that_passes_is_nobodys_mark(tmp_path, monkeypatch):
    """A sandbox that does not start, a disk that is full while the package is made: told as a
    problem, and tried again in the next run.
    """
    (tmp_path / "in").mkdir()
    for name in "ab":
        hand_in(tmp_path / "in", name)

    def run():
        return [(m.problem, len(right(m)))
                for m in grade(PROJECT, MODULE, tmp_path / "in", tmp_path / "out",
                               notebooks=["losses_dev"], jobs=1)]

    with monkeypatch.context() as patch:
        (tmp_path / "bwrap").write_text("#!/bin/sh\necho bwrap: no namespaces >&2; exit 1\n")
        (tmp_path / "bwrap").chmod(0o755)
        sandbox.protection()
        patch.setattr(sandbox, "bwrap", lambda: str(tmp_path / "bwrap"))
        for problem, count in run():
            assert problem.endswith("did not start: bwrap: no namespaces)") and count == 0
    copy, full = shutil.copyfile, [True]

    def fill_up(source, target):
        if full and str(target).endswith("answers.py"):
            raise OSError(full.pop() and 28, "disk full")
        return copy(source, target)

    monkeypatch.setattr(shutil, "copyfile", fill_up)
    (first, none), (problem, count) = run()
    assert "disk full" in first and none == 0 and problem == "" and count >= 14
    assert [problem for problem, _ in run()] == ["", ""]


def test_a_package_of_links_and_of_files_that_may_not_be_written(tmp_path):
    "The copy without solutions is another file."
    lib, other = tmp_path / "lib", tmp_path / "other.py"
    shutil.copytree(PROJECT.lib, lib)
    losses = lib / "nn/losses.py"
    before = losses.read_bytes()
    losses.rename(other)
    losses.symlink_to(other)
    (lib / "nn/regression_losses.py").chmod(0o444)
    made = grading.make_package(lib, tmp_path / "package", lib.glob("nn/*.py"))
    assert other.read_bytes() == before and b"BEGIN SOLUTION" in before
    for file in losses, lib / "nn/regression_losses.py":
        copy = made / "tinytorch" / file.relative_to(lib)
        assert "SOLUTION" not in copy.read_text() and copy.stat().st_mode & 0o777 == 0o644
        assert not copy.is_symlink()


@safe
def test_marks_that_wait_are_kept(tmp_path):
    (tmp_path / "in").mkdir()
    hand_in(tmp_path / "in", "ann", "def helper(): raise NotImplementedError\n    return helper()")
    hand_in(tmp_path / "in", "bob")
    ann, _ = grade(PROJECT, MODULE, tmp_path / "in", tmp_path / "out", notebooks=["losses_dev"])
    assert ann.verdicts["squared_error"].text == "waits for helper"
    grade(PROJECT, MODULE, tmp_path / "in", tmp_path / "out", notebooks=["losses_dev"],
          students=["bob"])
    rows = csv.DictReader((tmp_path / "out/marks.csv").read_text(encoding="utf-8-sig").splitlines())
    assert [row["student"] for row in rows] == ["ann", "bob"]


def test_a_copy_of_kept_marks_is_no_other_student(tmp_path):
    grading.save_marks(tmp_path / "ann.json", grading.Mark("ann", exercises=["huber"]))
    shutil.copy(tmp_path / "ann.json", tmp_path / "ann (1).json")
    assert [m.student for m in grading.earlier(tmp_path, set(), ["huber"])] == ["ann"]


def test_wrong_folders_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr(sandbox, "protection", lambda: "")
    with pytest.raises(TitoError, match="no file or folder"):
        grade(PROJECT, MODULE, tmp_path / "none", tmp_path / "out")
    with pytest.raises(TitoError, match="has no notebooks"):
        grade(PROJECT, MODULE, tmp_path, tmp_path.parent / "out")
    hand_in(tmp_path, "a")
    with pytest.raises(TitoError, match="inside the folder of submissions"):
        grade(PROJECT, MODULE, tmp_path, tmp_path / "out")
    with pytest.raises(TitoError, match="no notebook lossy"):
        grade(PROJECT, MODULE, tmp_path, tmp_path.parent / "out2", notebooks=["lossy"])


def test_without_a_sandbox_it_refuses(tmp_path, monkeypatch):
    "And as root it does in any case."
    hand_in(tmp_path, "a")
    monkeypatch.setattr(sandbox, "protection", lambda: "bubblewrap is missing. Install it")
    with pytest.raises(TitoError, match="bubblewrap is missing. Install it. Or use --unprotected"):
        grade(PROJECT, MODULE, tmp_path, tmp_path.parent / "out")
    monkeypatch.setattr(os, "geteuid", lambda: 0, raising=False)
    with pytest.raises(TitoError, match="all rights of root"):
        grade(PROJECT, MODULE, tmp_path, tmp_path.parent / "out", protected=False)


def test_the_students_edition_refuses(tmp_path, monkeypatch):
    monkeypatch.setattr(sandbox, "protection", lambda: "")
    edition = tmp_path / "04_losses"
    edition.mkdir()
    (edition / FILE).write_text('{"exercises": []}')
    hand_in(tmp_path, "a")
    with pytest.raises(TitoError, match="no solutions in the student's edition"):
        grade(PROJECT, type(MODULE)(edition), tmp_path, tmp_path.parent / "out")


def command(folder, out, *options, before=(), **more):
    environment = (os.environ
                   | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8", "COLUMNS": "200"})
    return subprocess.Popen([*before, sys.executable, "-m", "tinytorch.tito.cli", "grade",
                             str(folder), "--out", str(out), "--notebook", "losses_dev", *options],
                            cwd=ROOT, stdin=subprocess.DEVNULL, env=environment,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            encoding="utf-8", **more)


@safe
def test_command(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    hand_in(folder, "ann")
    (folder / "[red]bob\x1b[2J.ipynb").write_text("{")
    process = command(folder, tmp_path / "out")
    told = process.communicate()[0]
    assert (process.returncode == 0 and "2 submissions marked" in told and "\x1b" not in told
            and "[red]bob" in told), told


@safe
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGKILL"])
def test_a_signal_ends_everything(tmp_path, name):
    "At once: the answers that never end are given an hour."
    folder, number = tmp_path / "in", getattr(signal, name)
    folder.mkdir()
    for student in "ab":
        hand_in(folder, student, "while True: pass")
    process = command(folder, tmp_path / "out", "--timeout", "3600")
    found = []
    while process.poll() is None and len(found) < 2:
        found = descendants(process.pid, "bwrap")
    assert len(found) == 2, process.communicate()
    everything = descendants(process.pid)
    process.send_signal(number)
    process.communicate(timeout=600)
    if number == signal.SIGKILL:               # nobody waits for the others here
        wait_for_the_end(everything)
    assert process.returncode == (128 + number if number != signal.SIGKILL else -signal.SIGKILL)
    assert not [pid for pid in everything if alive(pid)]


def descendants(pid: int, name: str = "") -> list:
    "The processes below one, of this name."
    try:
        children = [int(child) for task in Path(f"/proc/{pid}/task").iterdir()
                    for child in (task / "children").read_text().split()]
        mine = [pid] if name in Path(f"/proc/{pid}/comm").read_text() and Path(
            f"/proc/{pid}/root").exists() else []
    except OSError:
        return []
    below = [found for child in children for found in descendants(child, name)]
    return below or mine if name else mine + below


def readable(folder) -> None:
    "Let every user read a folder of pytest's."
    for path in folder, *folder.parents:
        if path.owner() == folder.owner() and path != Path("/tmp"):
            path.chmod(0o755)


def wait_for_the_end(pids: list) -> None:
    "Return when none of these is left; pytest hangs, and names the test, if one stays."
    while any(map(alive, pids)):
        time.sleep(0.05)


def alive(pid: int) -> bool:
    "Whether a process is still there, other than as an entry that its parent has not read."
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
