"""Grading: hostile submissions get a plain sentence, and everybody else's marks are right.

Each attack stands in the body of `squared_error`, in a notebook whose other answers are right. All attacks are bounded:
a few hundred processes, a few gigabytes that are never given.
"""
import csv
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tinytorch.tito import grade as grading
from tinytorch.tito import sandbox
from tinytorch.tito.grade import grade
from tinytorch.tito.notebooks import Project, TitoError

ROOT = Path(__file__).resolve().parents[1]
PROJECT = Project(ROOT)
MODULE = PROJECT.find("04")
LESSON = ROOT / "nbs/04_losses/losses_dev.ipynb"
safe = pytest.mark.skipif(not sandbox.protection()[0], reason=sandbox.protection()[1])

ATTACKS = {      # name: (body of squared_error, what the feedback on it must say)
    "loops": ("while True: pass", "still running after"),
    "sleeps": ("import time; time.sleep(600)", "still running after"),
    "forks": ("import os\n    for _ in range(300):\n        if os.fork() == 0:\n            import time; time.sleep(30); os._exit(0)", "BlockingIOError"),
    "threads": ("import threading, time\n    for _ in range(300): threading.Thread(target=time.sleep, args=(30,)).start()", "can't start new thread"),
    "exits": ("import os; os._exit(0)", "ended the Python process"),
    "exits_politely": ("raise SystemExit", "SystemExit"),
    "crashes": ("import ctypes; ctypes.string_at(0)", "ended the Python process"),
    "allocates": ("return bytearray(10 * 2**30)", "MemoryError"),
    "recurses": ("return squared_error(input, target)", "RecursionError"),
    "prints": ("print('✅ passed', 'all tests passed', flush=True)", "returns None"),
    "patches": ("for name in ('allclose', 'isclose', 'array_equal', 'errstate', 'frombuffer'): setattr(np, name, lambda *a, **k: True)\n    return input, target", ""),
    "patches_the_checker": ("import sys\n    for name, module in list(sys.modules.items()):\n        if 'tito' in name or name == '__main__':\n"
                            "            for f in ('pack', 'answer', 'verdict', 'same'): setattr(module, f, lambda *a, **k: True)\n    return input, target", ""),
    "writes_without_end": ("import os\n    while True:\n        for fd in range(3, 30):\n            try: os.write(fd, b'x' * 10**6)\n            except OSError: pass", ""),
    "returns_too_much": ("return np.zeros(3 * 10**7), np.zeros(3 * 10**7)", ""),
    "returns_objects": ("return np.array([object()]), object()", "numbers are wanted"),
    "forges": ("import os\n    line = b'{\"start\": \"huber\"}\\n{\"name\": \"huber\", \"call\": 0, \"result\": []}\\n{\"done\": true}\\n'\n    for fd in range(3, 30):\n"
               "        try: os.write(fd, line)\n        except OSError: pass\n    os._exit(0)", ""),
}
NEED_NAMESPACES = {
    "reads": ("import glob, os\n    tops = [*FOLDERS, '/tmp', '/home', '/root']\n"
              "    files = [p for top in tops for depth in ('*', '*/*', '*/*/*') for p in glob.glob(os.path.join(top, depth))]\n"
              "    raise RuntimeError('found ' + repr([p for p in files if os.path.basename(p) in ('honest.ipynb', 'mistakes.py', 'seed', 'marks.csv', 'test_grade.py')]))", "found []"),
    "reads_the_environment": ("import os; raise RuntimeError(repr([k for k in os.environ if 'SECRET' in k]) + repr([p for p in os.listdir('/proc') if p.isdigit() and int(p) > 20]))", "[][]"),
    "connects": ("import socket; socket.create_connection(('127.0.0.1', PORT), timeout=2)", "OSError"),
    "writes_to_submissions": ("import os\n    for folder in FOLDERS:\n        try:\n            os.makedirs(folder, exist_ok=True)\n"
                              "            open(os.path.join(folder, 'honest.ipynb'), 'w').write('gone')\n        except OSError: pass\n    return input, target", ""),
    "kills": ("import os, signal\n    for pid in (os.getppid(), -1, 0):\n        try: os.kill(pid, signal.SIGTERM)\n        except OSError: pass\n    return input, target", ""),
}


def hand_in(folder, name, body=None):
    "A submission: the lesson with its solutions, and this body of `squared_error`."
    nb = json.loads(LESSON.read_text(encoding="utf-8"))
    for cell in nb["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"] = []
        source = "".join(cell["source"])
        if body is not None and "def squared_error(" in source and "BEGIN SOLUTION" in source:
            cell["source"] = source[:source.index("    ### BEGIN SOLUTION")] + f"    {body}\n"
    (folder / f"{name}.ipynb").write_text(json.dumps(nb), encoding="utf-8")


@pytest.fixture(scope="module")
def marked(tmp_path_factory):
    "All attacks and two honest students, marked in one run."
    if not sys.platform.startswith("linux"):
        pytest.skip("the attacks are only tried where limits hold")
    home = tmp_path_factory.mktemp("class")
    folder, out = home / "submissions", home / "marks"
    folder.mkdir()
    hand_in(folder, "honest")
    hand_in(folder, "half right", "return input - target, 2 * (input - target)")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        port = server.getsockname()[1]
        for name, (body, _) in ATTACKS.items():
            hand_in(folder, name, body)
        for name, (body, _) in NEED_NAMESPACES.items() if sandbox.protection()[0] else ():
            hand_in(folder, name, body.replace("PORT", str(port)).replace("FOLDERS", repr([str(folder), str(out), str(ROOT / "tests")])))
        (folder / "no_json.ipynb").write_text("{", encoding="utf-8")
        (folder / "other.ipynb").write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}', encoding="utf-8")
        (folder / "empty folder").mkdir()
        (folder / "=cmd").mkdir()
        os.environ["MY_SECRET"] = "42"
        before = {path: path.read_bytes() for path in folder.glob("*.ipynb")}
        marks = {m.student: m for m in grade(PROJECT, MODULE, folder, out, notebooks=["losses_dev"], timeout=3.0)}
        with pytest.raises(TimeoutError):
            server.accept()
    assert {path: path.read_bytes() for path in folder.glob("*.ipynb")} == before
    return marks, out, folder


def right(mark):
    return [name for name, verdict in mark.verdicts.items() if verdict.mark == "✅"]


def test_honest_students_get_their_marks(marked):
    marks, _, _ = marked
    count = len(right(marks["honest"]))
    assert count == len(marks["honest"].verdicts) >= 14
    assert len(right(marks["half right"])) == count - 1 and "without its square" in marks["half right"].verdicts["squared_error"].text


@pytest.mark.parametrize("name", [*ATTACKS, *(pytest.param(name, marks=safe) for name in NEED_NAMESPACES)])
def test_attack_costs_its_own_exercise_only(marked, name):
    marks, _, _ = marked
    verdict = marks[name].verdicts["squared_error"]
    assert verdict.mark == "❌" and (ATTACKS | NEED_NAMESPACES)[name][1] in verdict.text, verdict
    harmed = set(marks["honest"].verdicts) - {"squared_error"} - set(right(marks[name]))
    assert not harmed or name in ("patches", "patches_the_checker", "writes_without_end", "forges"), harmed


def test_what_is_no_submission_gets_a_reason(marked):
    marks, _, _ = marked
    assert "no valid notebook" in marks["no_json"].problem and "none of the exercises" in marks["other"].problem and "no notebook" in marks["empty folder"].problem


def test_files(marked):
    marks, out, _ = marked
    rows = list(csv.DictReader((out / "marks.csv").read_text(encoding="utf-8-sig").splitlines()))
    data = json.loads((out / "marks.json").read_text(encoding="utf-8"))
    assert [row["student"].lstrip("'") for row in rows] == [m["student"] for m in data["marks"]] == list(marks)
    honest = next(row for row in rows if row["student"] == "honest")
    assert honest["points"] == honest["of"] == str(data["of"]) and all(not row["student"].startswith("=") for row in rows)
    page = (out / "feedback" / "honest.html").read_text(encoding="utf-8")
    assert f"{data['of']} of {data['of']} points" in page and "✅ <code>huber</code>" in page
    assert len(list((out / "feedback").glob("*.html"))) == len(marks)
    assert "&lt;" in (out / "feedback" / "recurses.html").read_text(encoding="utf-8") or "<script" not in (out / "feedback" / "recurses.html").read_text(encoding="utf-8")


def test_nothing_is_left_running(marked):
    "Neither the forks nor the sleepers."
    if not os.path.isdir("/proc") or os.geteuid() != 0:
        pytest.skip("needs /proc, and users of their own")
    until = time.monotonic() + 10          # the sleepers would stay for longer
    while (left := running()) and time.monotonic() < until:
        time.sleep(0.2)
    assert left == []


def running() -> list:
    "The processes of the sandboxes' users."
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if 0 <= os.stat(f"/proc/{pid}").st_uid - sandbox.OWNERLESS < 64:
                found.append(pid)
        except OSError:
            pass
    return found


def test_an_interrupted_run_goes_on(tmp_path, monkeypatch):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name in "abc":
        hand_in(folder, name)
    ran = []
    mark = grading.mark

    def once(submission, *rest):
        ran.append(submission.student)
        if submission.student == "b":
            raise KeyboardInterrupt
        return mark(submission, *rest)

    monkeypatch.setattr(grading, "mark", once)
    with pytest.raises(KeyboardInterrupt):
        grade(PROJECT, MODULE, folder, out, notebooks=["losses_dev"], jobs=1)
    assert (out / ".state" / "a.json").exists() and not (out / "marks.csv").exists()
    monkeypatch.setattr(grading, "mark", lambda submission, *rest: ran.append(submission.student) or mark(submission, *rest))
    del ran[:]
    grade(PROJECT, MODULE, folder, out, notebooks=["losses_dev"], jobs=1)
    assert "a" not in ran and (out / "marks.csv").exists()
    seed = json.loads((out / "marks.json").read_text())["seed"]
    grade(PROJECT, MODULE, folder, out, notebooks=["losses_dev"], jobs=1)
    assert json.loads((out / "marks.json").read_text())["seed"] != seed          # other inputs in another run


def test_wrong_folders_are_told(tmp_path):
    with pytest.raises(TitoError, match="no folder"):
        grade(PROJECT, MODULE, tmp_path / "none", tmp_path / "out")
    with pytest.raises(TitoError, match="has no notebooks"):
        grade(PROJECT, MODULE, tmp_path, tmp_path.parent / "out")
    hand_in(tmp_path, "a")
    with pytest.raises(TitoError, match="inside the folder of submissions"):
        grade(PROJECT, MODULE, tmp_path, tmp_path / "out")
    with pytest.raises(TitoError, match="no notebook lossy"):
        grade(PROJECT, MODULE, tmp_path, tmp_path.parent / "out2", notebooks=["lossy"])


def test_command(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    hand_in(folder, "ann")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8", "COLUMNS": "200"}
    done = subprocess.run([sys.executable, "-m", "tinytorch.tito.cli", "grade", str(folder), "--out", str(tmp_path / "out"), "--notebook", "losses_dev"], cwd=ROOT,
                          env=environment, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0 and "1 submissions marked" in done.stdout, done.stdout + done.stderr


def test_no_seed_gives_the_inputs_of_the_edition(tmp_path, monkeypatch):
    "A submission that holds the results of the edition's inputs gets nothing for them, whatever the seed."
    drawn = []
    monkeypatch.setattr(grading, "exercises", lambda project, module, rng=None: drawn.append(rng.bytes(8)) or [])
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.ipynb").write_text("{}")
    for seed in (0, 1):
        grade(PROJECT, MODULE, tmp_path / "in", tmp_path / f"out{seed}", seed=seed)
    assert len({*drawn, np.random.default_rng(0).bytes(8), np.random.default_rng(1).bytes(8)}) == 4
