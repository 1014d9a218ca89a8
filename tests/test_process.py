"""A child process that sends what it should not is ended, with all that it started, and one
sentence says why: a worker that runs a notebook, and one that answers for a student's functions.
"""
import json
import os
import sys
import threading
import time
from pathlib import Path

import pytest

from tinytorch.exercises import asking
from tinytorch.exercises.asking import ask
from tinytorch.notebooks import worker
from tinytorch.notebooks.process import RUNNING, Child, ProtocolError, check_fields, end_all
from tinytorch.notebooks.project import Project, TitoError, new_notebook
from tinytorch.notebooks.running import refresh, run_notebook

PROC = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
START, END = {"start": 1}, {"end": 1, "printed": 0, "outputs": []}
ERROR = {"type": "T", "message": "m", "missing": None, "cell": 1, "line": 1, "test": None,
         "raised": {"file": "f", "line": 1, "name": "n"}}


@pytest.fixture
def notebook(tmp_path):
    "A notebook of two cells, in a project of its own."
    (tmp_path / "settings.ini").write_text("[DEFAULT]\nlib_name = toy\nlib_path = toy\n"
                                           "nbs_path = nbs\n")
    path = tmp_path / "nbs/01_numbers/numbers_dev.ipynb"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(new_notebook("# Numbers", "x = 1", "y = 2")), encoding="utf-8")
    return path


@pytest.fixture
def run(notebook, monkeypatch, tmp_path):
    "Run the notebook with another program in the worker's place; return what is said."
    def with_worker(program, run=run_notebook, **options):
        (tmp_path / "worker.py").write_text(program, encoding="utf-8")
        with monkeypatch.context() as patch:
            patch.setattr(worker, "__file__", str(tmp_path / "worker.py"))
            done = run(Project(tmp_path), notebook, **{"timeout": 60.0} | options)
        assert not RUNNING
        return done.problem and done.problem.message

    return with_worker


def sends(*reports) -> str:
    "A program that sends these lines, and then waits."
    lines = [report if isinstance(report, str) else json.dumps(report) for report in reports]
    data = "".join(line + "\n" for line in lines).encode("utf-8", "surrogateescape")
    return f"import os, time\ninput()\nos.write(1, {data!r})\ntime.sleep(600)"


def output(**fields) -> list:
    return [START, END | {"outputs": [{"output_type": "stream", "name": "stdout", "text": "x"}
                                      | fields]}]


WHOLE = [START, END, {"start": 2}, END | {"end": 2}]
DEEP = "[" * 100_000 + "]" * 100_000
NO_REPORTS = {
    "no JSON": ["Traceback"], "an empty line": [""], "a list": ["[]"], "a number": ["1"],
    "nested deeply": [f'{{"line": {DEEP}}}'], "a long number": ['{"start": ' + "1" * 5000 + "}"],
    "no UTF-8": ['{"line": "\udcff"}'],
    "no report": [{}], "an unknown one": [{"take": 1}], "fields of two": [START | {"line": "x"}],
    "a field too many": [START, END | {"more": 1}], "a field too few": [START, {"end": 1}],
    "yes as a number": [{"start": True}], "a text as a number": [{"start": "1"}],
    "a number as a text": [START, {"line": 3}], "a fraction": [START, END | {"printed": 0.5}],
    "outputs by name": [START, END | {"outputs": {}}], "a number as output": [START, END | {"outputs": [3]}],
    "a strange output": output(output_type="evil"), "an output's text": output(text=3),
    "an output too much": output(more=1), "half a letter": output(text="\ud800"),
    "an empty error": [START, END, {"error": {}}],
    "an error without a type": [START, END, {"error": ERROR | {"type": None}}],
    "an error in a strange cell": [START, END, {"error": ERROR | {"cell": "1"}}],
    "an error from nowhere": [START, END, {"error": ERROR | {"raised": ["f", 1, "n"]}}],
    "an error before the first cell": [{"error": ERROR}],
    "two errors": [START, END, {"error": ERROR}, {"error": ERROR}],
    "another cell": [{"start": 2}], "no cell": [{"start": 3}], "a cell twice": [START, END, START],
    "a start before the end": [START, {"start": 2}], "an end without a start": [END],
    "another cell's end": [START, END | {"end": 2}], "an end twice": [START, END, END],
    "passed at once": [{"passed": True}], "passed too early": [*WHOLE[:3], {"passed": True}],
    "passed with an error": [*WHOLE, {"error": ERROR}, {"passed": True}],
    "failed without an error": [*WHOLE, {"passed": False}], "passed as a number": [*WHOLE, {"passed": 1}]}


@pytest.mark.parametrize("case", NO_REPORTS)
def test_what_is_no_report_ends_the_notebook(run, case):
    said = run(sends(*NO_REPORTS[case]))
    assert "the Python process was stopped" in said and ", since it sent " in said
    assert "\n" not in said and len(said) < 200


def test_reports_in_order_are_taken(run, notebook):
    assert run(sends(*WHOLE, {"passed": True})) is None
    assert run(sends(START, END, {"error": ERROR}, {"passed": False})) == "T: m"
    many = output(data={"text/plain": ["1"]}, output_type="display_data", metadata={})
    del many[1]["outputs"][0]["name"], many[1]["outputs"][0]["text"]
    program = sends(*many, *WHOLE[2:], {"passed": True})
    assert run(program, refresh) is None and "text/plain" in notebook.read_text(encoding="utf-8")


FLOODS = {"of one line": ("while True: sys.stdout.write('x' * 10**6)",
                          "a line of more than 8,388,608 bytes"),
          "of lines": ("while True: print('{\"line\": \"' + 'x' * 10**6 + '\"}')",
                       "more lines than are allowed")}


@pytest.mark.parametrize("case", FLOODS)
def test_a_flood_ends_the_notebook(run, case):
    program, words = FLOODS[case]
    said = run(f"import sys\ninput()\n{program}")
    assert said == f"the Python process was stopped before the first cell, since it sent {words}"


def test_lines_that_never_end_do_not_stop_the_clock(run):
    "Each comes in time; all together they do not."
    begun = time.monotonic()
    said = run("import time\nwhile True: print('{\"line\": \"\"}', flush=True); time.sleep(0.001)",
               timeout=2.0)
    assert "still running after 2 s" in said and time.monotonic() - begun < 30


def test_a_report_that_is_cut_off_is_the_end_of_the_process(run):
    "As one that is killed while it writes."
    said = run("import sys\ninput()\nprint('{\"sta', end='', flush=True)\nsys.exit('out of memory')")
    assert said == "the Python process ended before the first cell (exit code 1): out of memory"


def test_standard_error_is_kept_to_its_end(run):
    said = run("import sys\ninput()\nfor _ in range(300): print('x' * 10**4, file=sys.stderr)\n"
               "sys.exit('the last')")
    assert said.endswith("(exit code 1): the last")


READY = "print('{\"ready\": true}', flush=True)\n"


def test_a_plan_that_is_not_read_stops_no_clock():
    "It is larger than a pipe holds."
    plan = {"cells": [], "calls": {"f": [[["x" * 10**6], {}]]}}
    found = ask([sys.executable, "-c", READY + "import time; time.sleep(600)"], plan, 1.0)
    assert found[:2] == ({}, "?") and "still running" in found[2]


DAEMON = """import os, sys, time
input()
if os.fork() == 0:
    os.setsid()
    if {twice} and os.fork(): os._exit(0)
    with open({file!r} + "~", "w") as file: file.write(str(os.getpid()))
    os.rename({file!r} + "~", {file!r})
    time.sleep(600)
while not os.path.exists({file!r}): time.sleep(0.01)
{then}
"""


def is_running(pid) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def wait_for_the_end(file) -> None:
    "pytest hangs, and names the test, if the process whose number is in the file stays."
    pid = int(file.read_text())
    while is_running(pid):
        time.sleep(0.02)


@PROC
@pytest.mark.parametrize("twice", [False, True], ids=["once", "twice"])
@pytest.mark.parametrize("then, words", [("time.sleep(600)", "still running"),
                                         ("os._exit(3)", "exit code 3")])
def test_a_daemon_ends_with_its_notebook(run, tmp_path, then, words, twice):
    "In a session of its own, of a parent that lives or has ended; it holds the pipe open."
    file, begun = tmp_path / "daemon", time.monotonic()
    program = DAEMON.format(twice=twice, file=str(file), then=then)
    assert words in run(program, timeout=2.0 if "sleep" in then else 300.0)
    assert time.monotonic() - begun < 60
    wait_for_the_end(file)


@PROC
def test_a_daemon_ends_with_its_answers(tmp_path):
    file = tmp_path / "daemon"
    program = READY + DAEMON.format(twice=True, file=str(file),
                                    then="print('{}', flush=True); time.sleep(9)")
    plan = {"cells": [], "calls": {"f": [[[], {}]]}}
    assert ask([sys.executable, "-c", program], plan, 60.0)[2].endswith("no answer")
    wait_for_the_end(file)


@pytest.mark.parametrize("program, words", [
    ("print('x' * 2**18 + 'y')", "no answer"), ("print('{\"start\": ' + '[' * 10**5 + ']' * 10**5 + '}')", "no answer"),
    ("while True: print('{\"start\": \"f\"}')", "no answer"), ("print('{\"start\": true}')", "no answer"),
    ("print('{\"start\": \"f\"}'); print('{\"name\": \"f\", \"call\": true}')", "no answer"),
    ("raise SystemExit", "it ended the Python process")])
def test_what_is_no_answer_ends_the_asking(program, words):
    plan = {"cells": [], "calls": {"f": [[[], {}]]}}
    found, current, why = ask(
        [sys.executable, "-c", f"{READY}{program}\nimport time; time.sleep(600)"], plan, 60.0)
    assert words in why and current in ("?", "f") and not found and not RUNNING


@pytest.mark.parametrize("program, words", [
    ("import sys; sys.exit('no room')", "no room"), ("", "it ended at once"), ("print('[' * 10**6)", "something else first"),
    ("print('{\"start\": \"f\"}')", "something else first"), ("import time; time.sleep(600)", "not within 2 s")])
def test_a_process_that_does_not_start_is_nobodys_wrong_answer(program, words, monkeypatch):
    "Nothing of a student's has been run then: it is told as an error, not as an answer."
    monkeypatch.setattr(asking, "STARTUP", 2.0 if "sleep" in program else 60.0)
    with pytest.raises(TitoError, match=f"did not start: .*{words}"):
        ask([sys.executable, "-c", program], {"cells": [], "calls": {"f": [[[], {}]]}}, 60.0)
    assert not RUNNING


def test_a_lesson_that_writes_to_every_file_cannot_end_the_command(notebook, tmp_path):
    "Its own process sends the reports: what it sends besides is no report, or comes too early."
    source = ("import os\nfor fd in range(3, 30):\n    try: os.write(fd, b'{\"passed\": true}\\n')\n"
              "    except OSError: pass")
    notebook.write_text(json.dumps(new_notebook("# Numbers", source, "1 / 0")), encoding="utf-8")
    said = run_notebook(Project(tmp_path), notebook).problem.message
    assert said == ("the Python process was stopped in cell [1], since it sent the end of the "
                    "notebook too early")


def test_a_page_too_large_is_no_page(notebook, tmp_path):
    "10 MB in one output."
    source = "from IPython.display import HTML\nHTML('x' * 10**7)"
    notebook.write_text(json.dumps(new_notebook("# Numbers", source)), encoding="utf-8")
    before = notebook.read_bytes()
    said = refresh(Project(tmp_path), notebook).problem.message
    assert "in cell [1], since it sent a line of more than" in said
    assert notebook.read_bytes() == before


def test_one_long_line_is_cut(notebook, tmp_path):
    source = "print('✅' * 10**7)"
    notebook.write_text(json.dumps(new_notebook("# Numbers", source)), encoding="utf-8")
    lines = []
    run = run_notebook(Project(tmp_path), notebook, on_line=lines.append)
    assert run.problem is None and [len(line) for line in lines] == [100_000]
    assert "printed 10,000,001 characters" in run.notes[0]


def test_all_children_end_at_once():
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    with Child(command, {}, 10, 100) as one, Child(command, {}, 10, 100) as two:
        assert RUNNING == {one, two}
        threading.Timer(0.3, end_all).start()
        with pytest.raises(EOFError):
            one.receive(time.monotonic() + 60)
        two.process.wait(60)
    assert not RUNNING


def test_fields():
    assert check_fields({"a": 1, "b": None}, a=int, b=(str, type(None))) == {"a": 1, "b": None}
    for data in ({"a": 1}, {"a": 1, "b": 1}, {"a": 1, "b": None, "c": 1}, {"a": True, "b": None},
                 {"a": None, "b": None}, [("a", 1), ("b", None)], None):
        with pytest.raises(ProtocolError):
            check_fields(data, a=int, b=(str, type(None)))


@PROC
def test_what_runs_inside_hands_the_marks_on():
    "A child's child can be found by both of their names, if the one between them has ended."
    program = ("import json, os\nfrom tinytorch.notebooks.process import MARK\n"
               "print(json.dumps({'mark': os.environ[MARK]}))")
    inner = (f"import json, sys, time\nfrom tinytorch.notebooks.process import Child\n"
             f"with Child([sys.executable, '-c', {program!r}], {{}}, 1000, 1000) as child:\n"
             "    print(json.dumps(child.receive(time.monotonic() + 60) | {'inner': child.name}))")
    with Child([sys.executable, "-c", inner], {}, 1000, 1000, cwd=Path(__file__).parents[1],
               env=os.environ) as child:
        said = child.receive(time.monotonic() + 60)
        assert said["mark"].split()[-2:] == [child.name, said["inner"]]
