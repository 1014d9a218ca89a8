"""Files of ours that were cut, edited or replaced: each is told in a sentence or made anew, whatever
stands in it.
"""
import copy
import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tinytorch.checking import check_of
from tinytorch.exercises import check, exercises as ex, progress
from tinytorch.checking.answers import pack, unpack
from tinytorch.checking.checks import to_data
from tinytorch.grading.grade import Mark, load_marks, save_marks, started, write_out
from tinytorch.checking.judge import RIGHT, WRONG, Verdict
from tinytorch.notebooks.notebook import locked, read_notebook, write_file
from tinytorch.notebooks.project import Project, TitoError, new_notebook
from tinytorch.grading.sandbox import libraries

ROOT = Path(__file__).resolve().parents[1]
ODD = [None, True, -1, 10**400, float("nan"), "", "\ud800", "../../x.ipynb", "\0", [1], [[]], {},
       {"a": 1}]
BLANK_CELL = ("#| exports\ndef squared_error(input, target):\n    # YOUR CODE HERE\n"
              "    raise NotImplementedError()")
ENTRY = asdict(ex.Exercise("squared_error", "a_dev.ipynb", "00000001", BLANK_CELL, 2, ["Try."],
                           to_data(check_of("squared_error", np.random.default_rng(0)))))


@pytest.mark.parametrize("changes", [
    *({name: odd} for name in ("dtype", "shape", "data") for odd in (5, None, "?", [-1], [True], [2])),
    {"dtype": "|O8"}, {"dtype": "<f9"}, {"shape": [1] * 9}, {"shape": [3, 10**30]}, {"more": 1}])
def test_what_is_no_packed_array_is_refused(changes):
    with pytest.raises(ValueError):
        unpack(pack(np.zeros(3)) | changes)
    for odd in ODD:
        with pytest.raises(ValueError, match="^no array$"):
            unpack(odd)


def places(value, at=(), deep=5):
    "Yield the way to everything in data, of long lists to the first two entries."
    if at:
        yield at
    entries = (value.items() if isinstance(value, dict)
               else list(enumerate(value))[:2] if isinstance(value, list) else ())
    for key, entry in entries if deep else ():
        yield from places(entry, (*at, key), deep - 1)


def damaged(data):
    "Yield the data with one odd value in each place, or without what is there."
    for way in places(data):
        for odd in [*ODD, ...]:
            made = copy.deepcopy(data)
            folder = made
            for key in way[:-1]:
                folder = folder[key]
            if odd is ...:
                del folder[way[-1]]
            else:
                folder[way[-1]] = odd
            yield way, odd, made


@pytest.fixture
def edition(tmp_path):
    "A student's edition with one exercise, answered."
    (tmp_path / "settings.ini").write_text("[DEFAULT]\nlib_name = tinytorch\n")
    nb = new_notebook("#| default_exp nn.a", BLANK_CELL.replace("raise NotImplementedError()",
                                                               "return 1, 2"))
    write_file(tmp_path / "nbs/04_a/a_dev.ipynb", json.dumps(nb).encode())
    write_file(tmp_path / "nbs/04_a/exercises.json", json.dumps({"exercises": [ENTRY]}).encode())
    project = Project(tmp_path)
    return project, project.find("04")


def answers(plan, folder, timeout):
    "Answer every call with nothing, as a function without a return would."
    return {name: [{"many": False, "result": [None], "changed": []} for _ in calls]
            for name, calls in json.loads(json.dumps(plan))["calls"].items()}, None, ""


def everything(project, module):
    "Do what reads the exercises of an edition: status, hint, check, reset."
    progress.points(project, module)
    progress.next_hint(project, module, "squared_error")
    every = ex.exercises(project, module)
    found = check.check_notebook(project, module.folder / "a_dev.ipynb", every, run=answers)
    progress.remember(project, module, [(exercise, found[exercise.name]) for exercise in every])
    progress.reset(project, module, "squared_error")


def test_exercises_of_any_kind_are_read_or_told(edition):
    project, module = edition
    notebook, told = module.folder / "a_dev.ipynb", 0
    before = notebook.read_bytes()
    everything(project, module)
    for way, odd, data in damaged({"exercises": [ENTRY]}):
        notebook.write_bytes(before)
        (module.folder / "exercises.json").write_text(json.dumps(data))
        try:
            everything(project, module)
        except TitoError as error:
            told += "damaged" in str(error) or "no exercise" in str(error)
        except Exception as error:
            raise AssertionError(f"{way}: {odd!r:.50}") from error
    assert told > 200


@pytest.mark.parametrize("text", ['{"\\ud800": 1}', "[" * 10**5, "[]", '{"04_a": 1}', '{"04_a": {"squared_error": {}}}', "\0", '{"04', "9" * 5000])
@pytest.mark.parametrize("name", ["marks.json", "hints.json"])
def test_what_tito_keeps_is_made_anew(edition, name, text):
    project, module = edition
    (project.root / ".tito").mkdir()
    (project.root / ".tito" / name).write_text(text)
    everything(project, module)
    progress.points(project, module)
    assert json.loads((project.root / ".tito" / name).read_text())


@pytest.mark.skipif(os.name != "posix", reason="needs links")
def test_a_link_to_itself_is_replaced(edition):
    project, module = edition
    (project.root / ".tito").mkdir()
    for name in "marks.json", "hints.json":
        (project.root / ".tito" / name).symlink_to(name)
    everything(project, module)
    assert not (project.root / ".tito/marks.json").is_symlink()


@pytest.fixture
def terminal():
    "The path of a device that nobody writes to, and that no file can take the place of."
    first, second = os.openpty()
    yield os.ttyname(second)
    os.close(first)
    os.close(second)


@pytest.mark.skipif(os.name != "posix", reason="needs pipes and devices")
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_file_is_neither_read_nor_replaced(edition, terminal, kind):
    "It could block for ever; and a link to a device would have put a file in the device's place."
    make = {"pipe": os.mkfifo, "device": lambda path: path.symlink_to(terminal), "folder": os.mkdir}
    project, module = edition
    kept, notebook = project.root / ".tito", module.folder / "a_dev.ipynb"
    kept.mkdir()
    before = notebook.read_bytes()
    notebook.unlink()
    for path in [kept / name for name in ("marks.json", "hints.json", "ann.json")] + [notebook]:
        make[kind](path)
        with pytest.raises(TitoError, match="could not be written.*: it is no regular file"):
            write_file(path, b"{}")
        assert not path.is_file()
    assert load_marks(kept / "ann.json") is None
    for action in everything, lambda *a: progress.reset(*a, "squared_error"):
        with pytest.raises(TitoError, match="no regular file"):
            action(project, module)
    notebook.unlink() if kind != "folder" else notebook.rmdir()
    notebook.write_bytes(before)
    assert progress.points(project, module) == (0, 2)
    with pytest.raises(TitoError, match="could not be written.*no regular file"):
        everything(project, module)


@pytest.mark.parametrize("name", ["a[1].txt", "a**.txt", "a?.txt"])
def test_a_file_may_have_a_name_that_looks_like_a_pattern(tmp_path, name):
    (tmp_path / ".a1.txt.1.tmp").write_text("")
    os.utime(tmp_path / ".a1.txt.1.tmp", (1, 1))
    write_file(tmp_path / name, b"x")
    assert (tmp_path / name).read_bytes() == b"x" and (tmp_path / ".a1.txt.1.tmp").exists()


def test_kept_marks_of_any_kind_are_read_or_made_again(tmp_path):
    todo, file = [ex.Exercise(**ENTRY)], tmp_path / ".state/ann.json"
    solutions = {"squared_error": BLANK_CELL}
    whole = Mark("ann", {"squared_error": Verdict(WRONG, "is wrong", parts=f"value {RIGHT}, slope {WRONG}")},
                 {"squared_error": "x"}, {"a_dev.ipynb": "1"}, exercises=["squared_error"])
    save_marks(file, whole)
    assert load_marks(file) == whole
    again = 0
    for way, odd, data in damaged(asdict(whole)):
        file.write_text(json.dumps(data))
        mark = load_marks(file)
        again += mark is None
        if mark is not None:
            mark.partial = True
            try:
                write_out(tmp_path / "out", Folder, todo, [mark], {}, solutions, print)
            except Exception as error:
                raise AssertionError(f"{way}: {odd!r:.50}") from error
    assert again > 100


class Folder:
    folder = Path("04_a")


@pytest.mark.parametrize("text", ["-5", "9" * 5000, "\0", "", "1.5"])
def test_an_odd_seed_is_one_or_another_is_drawn(tmp_path, text):
    (tmp_path / "seed").write_text(text)
    assert started(tmp_path) >= 0 and np.random.default_rng([started(tmp_path), 1])


@pytest.mark.skipif(not shutil.which("ldd"), reason="needs ldd")
def test_a_library_in_a_folder_with_spaces_is_shown(tmp_path, monkeypatch):
    "As the interpreter's own is, of a user whose name has one."
    (tmp_path / "ldd").write_text("#!/bin/sh\nprintf '\\tliba.so => /opt/Ann Lee/liba.so (0x0001)\\n"
                                  "\\t/lib64/ld.so (0x0002)\\n\\tlinux-vdso.so.1 (0x0003)\\n'\n")
    (tmp_path / "ldd").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert libraries(["/bin/true"]) == ["/lib64/ld.so", "/opt/Ann Lee/liba.so"]


def tito(line, folder):
    "Run `tito` in a line of a shell; return its exit status and what it said."
    done = subprocess.run(["sh", "-c", f'"$0" -m tinytorch.tito.cli {line}', sys.executable],
                          cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=300,
                          stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8")
    return done.returncode, done.stdout + done.stderr


shell = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux")


@shell
@pytest.mark.parametrize("line, status, words", [
    ("hint 04 squared_error >&-", 0, ""), ("hint 04 squared_error <&- >&- 2>&-", 0, ""),
    ("hint 04 squared_error > /dev/full", 1, "tito: No space left on device")])
def test_a_stream_that_takes_nothing(edition, line, status, words):
    project, _ = edition
    assert tito(line, project.root) == (status, words + "\n" * bool(words))


@shell
def test_a_folder_that_was_deleted(tmp_path):
    (tmp_path / "gone").mkdir()
    line = '--help > /dev/null; cd gone && rmdir ../gone && "$0" -m tinytorch.tito.cli status'
    status, said = tito(line, tmp_path)
    assert status == 2 and said.startswith("tito: The current folder was deleted")


@shell
def test_a_lock_that_is_no_file(edition):
    project, _ = edition
    (project.root / ".tito").mkdir()
    os.mkfifo(project.root / ".tito/lock")
    with pytest.raises(TitoError, match="lock cannot be written: .*seek"):
        with locked(project):
            pass


@shell
def test_a_folder_of_any_name(edition, tmp_path):
    "With spaces, a new line, other letters, and what a shell would run."
    project, _ = edition
    home = tmp_path / "my course\n☃ $(touch planted) 'x'"
    shutil.copytree(project.root, home, ignore=shutil.ignore_patterns(home.name))
    line = "test 04 squared_error; test ! -e planted && test -e .tito/marks.json"
    status, said = tito(line, home)
    assert status == 0 and "squared_error" in said and "Traceback" not in said


@pytest.mark.skipif(os.name != "posix", reason="another lock")
def test_waiting_for_another_tito_is_told(tmp_path, capsys, monkeypatch):
    import fcntl
    asked = []

    def flock(_, how):
        asked.append(how)
        if how & fcntl.LOCK_NB:
            raise BlockingIOError
        assert "Waiting for another tito" in capsys.readouterr().err

    monkeypatch.setattr(fcntl, "flock", flock)
    with locked(SimpleNamespace(root=tmp_path, show=str)):
        assert asked == [fcntl.LOCK_EX | fcntl.LOCK_NB, fcntl.LOCK_EX]
