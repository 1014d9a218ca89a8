"""Grading, attacked a second time: what a function may do to the process that answers, and what a
folder of submissions may hold.

Each attack costs its own exercise or its own submission, and nobody else's; none stops or delays a
run.
"""
import base64
import csv
import io
import json
import math
import os
import re
import stat
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tinytorch.exercises.asking import read_answer
from tinytorch.exercises.check import judge
from tinytorch.grading.feedback import harmless, name_of
from tinytorch.grading import grade as grading
from tinytorch.grading.grade import (fresh_check, gather, grade, inside, lesson_of, make_package,
                                     printable, read_zip, submissions)
from test_grade import (LESSON, MODULE, PROJECT, REASON, ROOT, check_all_points, hand_in,
                        honest_and, right, safe)

SEND = ("import json, os\n    def send(event):\n        for fd in range(3, 40):\n            try: "
        "os.write(fd, (json.dumps(event) + chr(10)).encode())\n            except OSError: pass\n "
        "   ")
NUMBERS = "{'dtype': '<f8', 'shape': [3], 'data': 'AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'}"


def forged(result, **more):
    event = (f"{{'name': 'squared_error', 'call': 0, 'many': True, 'result': {result}, 'changed': "
             f"[]}} | {more!r}")
    return SEND + f"send({event}); os._exit(0)"


BODIES = {      # of squared_error: none is right
    "a whole answer": forged(f"[{NUMBERS}, {NUMBERS}]"),
    "an empty answer": forged("[]"),
    "many nothings": forged("[None] * 16"),
    "no elements": forged("[{'dtype': '<f8', 'shape': [0, 2**40], 'data': ''}] * 2"),
    "an endless shape": forged("[{'dtype': '<f8', 'shape': [2**70], 'data': ''}] * 2"),
    "a shape of truths": forged("[{'dtype': '<f8', 'shape': [True], 'data': 'AAAAAAAAAAA='}] * 2"),
    "objects": forged("[{'dtype': '|O8', 'shape': [1], 'data': 'AAAAAAAAAAA='}] * 2"),
    "a pickle": forged("[{'dtype': '<f8', 'shape': [1], 'data': 'gASVAAAAAAAAAAA='}] * 2"),
    "records": forged("[{'dtype': [['a', '<f8']], 'shape': [1], 'data': ''}] * 2"),
    "a wide type": forged("[{'dtype': '<f99', 'shape': [1], 'data': ''}] * 2"),
    "dates": forged("[{'dtype': '<M8', 'shape': [1], 'data': ''}] * 2"),
    "a line within a type": forged("[{'dtype': '<f8' + chr(10), 'shape': [1], 'data': ''}] * 2"),
    "no base 64": forged("[{'dtype': '<f8', 'shape': [1], 'data': '!' * 12}] * 2"),
    "too little": forged("[{'dtype': '<f8', 'shape': [10**9], 'data': 'AAAA'}] * 2"),
    "a verdict": forged("[]", mark="✅", points=100),
    "another protocol": SEND + "send({'passed': True}); send({'end': 1, 'printed': 0, 'outputs': []}); os._exit(0)",
    "the start again": SEND + "send({'start': 'squared_error'}); os._exit(0)",
    "a call of the future": SEND + "send({'name': 'squared_error', 'call': 10**100, 'many': True, 'result': [None], 'changed': []}); os._exit(0)",
    "one key twice": "import os\n    for fd in range(3, 40):\n        try: os.write(fd, b'{\"name\": \"x\", \"name\": \"squared_error\", \"call\": 0, \"many\": true, \"result\": [], \"changed\": []}' + bytes([10]))\n        except OSError: pass\n    os._exit(0)",
    "no UTF-8": "import os\n    for fd in range(3, 40):\n        try: os.write(fd, bytes([255, 254, 10]))\n        except OSError: pass\n    os._exit(0)",
    "not a number": "import os\n    for fd in range(3, 40):\n        try: os.write(fd, b'NaN' + bytes([10]))\n        except OSError: pass\n    os._exit(0)",
    "half a line": "import os, time\n    for fd in range(3, 40):\n        try: os.write(fd, b'{\"name\": ')\n        except OSError: pass\n    time.sleep(600)",
    "swapped streams": "import os\n    for fd in range(3, 40):\n        try: os.dup2(1, fd)\n        except OSError: pass\n    return input, target",
    "a stream through proc": "import os\n    for fd in range(3, 40):\n        try: open(f'/proc/self/fd/{fd}', 'w').write('{}' + chr(10))\n        except OSError: pass\n    return input, target",
    "its own memory": "import os\n    file = os.open('/proc/self/mem', os.O_RDWR)\n    os.pwrite(file, b'x' * 64, id(input))\n    return input, target",
    "signals to all": "import os, signal\n    os.kill(-1, signal.SIGKILL)\n    os.killpg(0, signal.SIGKILL)\n    return input, target",
    "an alarm": "import signal\n    signal.setitimer(signal.ITIMER_REAL, 0.05)\n    while True: pass",
    "deaf to signals": "import signal\n    for number in range(1, 65):\n        try: signal.signal(number, signal.SIG_IGN)\n        except (OSError, ValueError): pass\n    while True: pass",
    "a loop that cannot be interrupted": "return 'x' in ('a' * 10**6 for _ in iter(int, 1))",
    "a slow regular expression": "import re; re.match('(a+)+$', 'a' * 60 + 'b')",
    "a power": "return 9 ** (9 ** 9)",
    "numbers of its own": "class Number(float):\n        def __eq__(self, other): return True\n        def __sub__(self, other): return Number(0)\n        __rsub__ = __sub__\n    return Number(1), Number(1)",
    "arrays of its own": "class Array(np.ndarray):\n        def __array_ufunc__(self, *a, **k): return True\n        def __array_function__(self, *a, **k): return True\n    return np.zeros(input.shape).view(Array), np.zeros(input.shape).view(Array)",
    "tuples of its own": "class Pair(tuple):\n        def __len__(self): return 2\n        def __iter__(self): return iter((input, target))\n        def __getitem__(self, i): return self\n    return Pair(())",
    "an interface of its own": "class Array:\n        __array_interface__ = {'shape': (10**6,), 'typestr': '<f8', 'data': (8, False), 'version': 3}\n    return Array(), Array()",
    "a hook of exits": "import sys, threading\n    sys.exit = sys.excepthook = threading.excepthook = lambda *a: None\n    sys.settrace(lambda *a: 1 / 0); sys.setprofile(lambda *a: 1 / 0)\n    return input, target",
    "a finaliser": "class Late:\n        def __del__(self): import os; os.write(3, b'{}')\n    np.late = Late()\n    return input, target",
    "a changed import": "import sys\n    class Finder:\n        def find_spec(self, *a): import os; os._exit(0)\n    sys.meta_path.insert(0, Finder())\n    return input, target",
    "a changed json": "import json\n    json.dumps = lambda event, **k: '{\"done\": true}'\n    json.encoder.JSONEncoder.encode = json.dumps\n    return input, target",
    "changed builtins": "import builtins\n    builtins.isinstance = builtins.zip = builtins.enumerate = builtins.print = lambda *a, **k: True\n    return input, target",
    "changed arguments": "input[...] = target[...] = np.nan\n    return input, target",
    "the frames above": "import sys\n    frame = sys._getframe()\n    while frame:\n        frame.f_locals.update(arguments=[], result=None, changed=[]); frame = frame.f_back\n    return input, target",
    "no numbers": "return np.full(input.shape, np.nan), np.full(input.shape, np.nan)",
    "broadcasts": "return np.broadcast_to(np.float64(0), (1, *input.shape)), np.broadcast_to(np.float64(0), (1, *input.shape))",
    "code of a page": "raise ValueError('</code><img src=x onerror=alert(1)>{{ 7*7 }}{% raw %}\\u2028]]>')",
    "words of the judge": "raise ValueError('✅ squared_error, 2 of 2')",
}


@pytest.fixture(scope="module")
def attacked(tmp_path_factory):
    "All of these and an honest student, marked in one run."
    return honest_and(tmp_path_factory.mktemp("attacked"), BODIES)


CRIPPLED = {"swapped streams", "a hook of exits", "a changed json", "changed builtins",
            "a changed import", "its own memory", "a finaliser"}


@pytest.mark.parametrize("name", BODIES)
def test_an_attack_costs_its_own_exercise(attacked, name):
    marks, out = attacked
    assert marks[name].problem == "" and marks[name].verdicts["squared_error"].mark == "❌"
    assert (name in CRIPPLED
            or set(right(marks["honest"])) - set(right(marks[name])) == {"squared_error"})
    text = next(file for file in (out / "feedback").iterdir()
                if f"Feedback for {name}<" in file.read_text(
                    encoding="utf-8")).read_text(encoding="utf-8")
    assert "<img" not in text and "7*7" not in text.replace("{{ 7*7 }}", "")


def test_the_honest_student_keeps_all_points(attacked):
    check_all_points(attacked[0])


# Files

CODE = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None,
        "source": "x = 1"}


def lesson() -> dict:
    return json.loads(LESSON.read_text(encoding="utf-8"))


def with_cells(*sources) -> bytes:
    "The lesson and further cells."
    nb = lesson()
    nb["cells"] = nb["cells"] + [CODE | {"source": source} for source in sources]
    return json.dumps(nb).encode()


def changed(**more) -> bytes:
    return json.dumps(lesson() | more).encode()


NOTEBOOKS = {      # name: content; each is marked in full, or has a plain reason
    "many cells": with_cells(*["1"] * 200_000),
    "many small functions": with_cells(*["def f(): 0"] * 40_000),
    "many markers": with_cells("### BEGIN SOLUTION\n" * 20_000),
    "many directives": with_cells("#| export\n" * 40_000),
    "many spaces": with_cells(" " * 400_000 + "x", "\n" * 400_000),
    "deep brackets": with_cells("(" * 200_000),
    "deep signs": with_cells("-" * 200_000 + "1"),
    "deep sums": with_cells("1" + "+1" * 100_000),
    "deep attributes": with_cells("x" + ".a" * 100_000),
    "deep calls": with_cells("x" + "()" * 100_000),
    "deep conditions": with_cells("1 if 1 else " * 30_000 + "1"),
    "deep lambdas": with_cells("lambda: " * 40_000 + "1"),
    "a long number": with_cells("9" * 300_000),
    "a null": with_cells("x = 1\0"),
    "lines without end": with_cells("x = 1\\\n" * 50_000),
    "magic": with_cells("%%bash\nrm -rf /", "!curl localhost", "%load_ext x", "?", "x??"),
    "deep JSON": b'{"cells": ' + b"[" * 500_000,
    "a long number in JSON": b'{"nbformat": ' + b"4" * 100_000 + b"}",
    "a cell of numbers": changed(cells=[CODE | {"source": [1, None, {}]}]),
    "a source that is a dictionary": changed(cells=[CODE | {"source": {"a": 1}}]),
    "a cell that is a list": changed(cells=[[], 1, None]),
    "cells that are a dictionary": changed(cells={"0": CODE}),
    "another format": changed(nbformat=3, worksheets=[]),
    "metadata that are a list": changed(metadata=[1]),
    "metadata of another language": changed(metadata={"kernelspec": {"name": "../../bin/sh", "language": "R"}}),
    "a list": b"[]",
    "nothing": b"",
    "zeros": b"\0" * 10**6,
    "half of a character": with_cells("x = '\ud83d'"),
    "another encoding": json.dumps(lesson()).encode("utf-16"),
    "a mark of order": b"\xef\xbb\xbf" + json.dumps(lesson()).encode(),
    "names twice": b'{"cells": [], ' + json.dumps(lesson()).encode()[1:],
    "=HYPERLINK(1)": b"{}", "+1+cmd": b"{}", "@SUM(1)": b"{}", "-2": b"{}", "|x": b"{}", "\t=1": b"{}", "，=1": b"{}", "＝1": b"{}",
    "<script>alert(1)<.script>": b"{}", "{{ 7*7 }}": b"{}", "a\u202egnp": b"{}", "a\u0301": b"{}", "\u00e1": b"{}", "CON": b"{}", "x" * 200: b"{}"}


def packed(*members, method=zipfile.ZIP_DEFLATED) -> bytes:
    "A zip file of (name, content)."
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", method) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, content in members:
            archive.writestr(name, content)
    return data.getvalue()


def link(name, mode=stat.S_IFLNK | 0o777):
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info


def encrypted() -> bytes:
    "A zip file that says that its member is encrypted."
    data = bytearray(packed(("a.ipynb", json.dumps(lesson()))))
    for sign, place in (b"PK\3\4", 6), (b"PK\1\2", 8):
        data[data.index(sign) + place] |= 1
    return bytes(data)


def undated() -> bytes:
    data = bytearray(packed(("a.ipynb", json.dumps(lesson()))))
    for sign, place in (b"PK\3\4", 10), (b"PK\1\2", 12):
        data[data.index(sign) + place:data.index(sign) + place + 4] = b"\xff" * 4
    return bytes(data)


@pytest.mark.parametrize("cells, words", [([CODE] * 5_001, "more than 5,000 cells"), ([CODE | {"source": "x" * 250_001}] * 2, "more than 500,000 characters")])
def test_what_takes_long_to_read_is_refused(cells, words):
    "And what is just as large as allowed is not."
    with pytest.raises(ValueError, match=words):
        lesson_of({"cells": cells}, [])
    assert lesson_of({"cells": [CODE] * 5_000}, []) == ("", 0)


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such modes")
def test_the_package_can_be_read_in_the_sandbox_whatever_is_usual(tmp_path):
    "Another user reads it there, also where an instructor's new files are private."
    usual = os.umask(0o077)
    try:
        folder = make_package(PROJECT.lib, tmp_path / "package", PROJECT.lib.glob("nn/*.py"))
    finally:
        os.umask(usual)
    assert not [path for path in [folder, *folder.rglob("*")]
                if path.stat().st_mode & 0o777 != (0o755 if path.is_dir() else 0o644)]


# Names

def test_no_name_can_take_the_file_or_the_row_of_another():
    "The names that other students' odd names are turned into are odd themselves."
    for student in "Ann Lee", "a\x07b", "é" * 200:
        assert name_of(name_of(student)) != name_of(student)
        assert printable(printable(student)) != printable(student) or printable(student) == student
    for device in "con", "aux.x", "nul", "com1", "lpt9.tar.gz":
        assert name_of(device).startswith(f"{device}-")            # Windows would open it
    assert name_of("conny") == "conny" and name_of("con-x") == "con-x"
    assert name_of("ann_lee") == "ann_lee" and printable("Ann (2)") == "Ann (2)"


@pytest.mark.parametrize("name", ["x;=1+1", "x;\t@A1", "x\t+1", "x\n-2", "x; ＝1", "=1;=2"])
def test_no_cell_begins_with_a_formula_where_semicolons_part_cells(name):
    "As in the spreadsheets of many countries, also where the file has commas."
    assert not re.search(r"(^|[;\t\n])\s*[=+\-@|%＝＋－＠]", harmless(name))
    assert harmless("a; b - c=1") == "a; b - c=1"


# Numbers

ODD_NUMBERS = {      # dtype: bytes of one number
    "<f16": b"\xff\x00\xff\x7f" * 4, "|b1": b"\xff", "<f2": b"\x01\x7c", ">f8": b"\0" * 7 + b"\1",
    "<i8": b"\0" * 7 + b"\x80", "<u8": b"\xff" * 8, "<f8": b"\1\0\0\0\0\0\xf0\x7f"}


@pytest.mark.parametrize("dtype", ODD_NUMBERS)
def test_odd_numbers_are_judged_without_a_word_to_the_terminal(dtype):
    check, answers = fresh_check("squared_error", 1), []
    for arguments, _ in check.calls:
        shape = np.shape(next(iter(arguments.values())))
        data = base64.b64encode(ODD_NUMBERS[dtype] * math.prod(shape)).decode()
        part = {"dtype": dtype, "shape": list(shape), "data": data}
        answers.append(read_answer({"many": True, "result": [part, part], "changed": []}, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        verdict = judge(check, answers)
    assert verdict.mark == "❌" and "cannot be judged" not in verdict.text


WHOLE = json.dumps(lesson())
ZIPS = {      # name: (content, words of the reason; None: marked)
    "a bomb": (packed(*[(f"{i}.ipynb", b"0" * 2**24) for i in range(8)]), "too large"),
    "a bomb in a bomb": (packed(("a.zip", packed(("a.ipynb", b"0" * 2**24)))), "no notebook"),
    "many members": (packed(*[(f"{i}.ipynb", "{}") for i in range(20_000)]), "too large"),
    "many others": (packed(*[(f"{i}.txt", "") for i in range(20_000)], ("a.ipynb", WHOLE)), None),
    "absolute names": (packed(("/etc/planted.ipynb", WHOLE)), None),
    "names that climb": (packed(("../../../planted.ipynb", WHOLE), ("..\\..\\planted2.ipynb", WHOLE)), "no notebook"),
    "a drive": (packed(("C:\\planted.ipynb", WHOLE)), None),
    "one name twice": (packed(("a.ipynb", "{}"), ("a.ipynb", WHOLE)), None),
    "a link": (packed((link("a.ipynb"), "/etc/passwd")), "link"),
    "a pipe": (packed((link("a.ipynb", stat.S_IFIFO | 0o777), WHOLE)), None),
    "a device": (packed((link("a.ipynb", stat.S_IFCHR | 0o777), WHOLE)), None),
    "encrypted": (encrypted(), "encrypted"),
    "no date": (undated(), None),
    "broken": (packed(("a.ipynb", WHOLE)).replace(b"PK\3\4", b"PK\3\5"), "cannot be read"),
    "cut off": (packed(("a.ipynb", WHOLE))[:-30], "cannot be read"),
    "no zip": (b"PK" * 1000, "cannot be read"),
    "a name that is a formula": (packed(("=cmd|' !A0.ipynb", "{}")), "no valid notebook"),
    "a name that is code": (packed(("<img src=x onerror=alert(1)>.ipynb", "{}")), "no valid notebook")}


ZEROS = b"0" * 2**26          # a few thousand bytes when packed


@pytest.mark.skipif(os.name != "posix", reason="needs a limit on memory")
@pytest.mark.parametrize("method, words", [("ZIP_LZMA", "rare method"), ("ZIP_BZIP2", "rare method"), ("ZIP_DEFLATED", "too large")])
def test_a_bomb_takes_no_memory(tmp_path, method, words):
    "Python's zipfile unpacks LZMA and bzip2 without the bound that it keeps for others."
    data = packed(("a.ipynb", ZEROS), ("b.ipynb", WHOLE), method=getattr(zipfile, method))
    (tmp_path / "a.zip").write_bytes(data)
    tracemalloc.start()
    try:
        problems = []
        read_zip(tmp_path / "a.zip", problems)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert words in problems[0] and len(data) < 10**6 and most < 2 * 2**25


def test_a_folder_a_hundred_deep_is_searched(tmp_path):
    deep = tmp_path.joinpath("ann", *["f"] * 100)
    deep.mkdir(parents=True)
    (deep / "a.ipynb").write_text(WHOLE, encoding="utf-8")
    problems, [ann] = [], submissions(tmp_path)
    assert [notebook.name for notebook in gather(ann, problems)] == ["a.ipynb"] and not problems


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux")
def test_a_folder_that_becomes_a_link_meanwhile_is_not_read(tmp_path, monkeypatch):
    "Where students write to the folder themselves, one could swap it just after it was listed."
    (tmp_path / "private").mkdir()
    (tmp_path / "in/ann").mkdir(parents=True)
    for name in "private", "in/ann":
        (tmp_path / name / "losses_dev.ipynb").write_text(WHOLE, encoding="utf-8")

    def listed_then_swapped(folder, problems):
        found = inside(folder, problems)
        folder.rename(tmp_path / "was")
        folder.symlink_to(tmp_path / "private")
        return found

    [ann], problems = submissions(tmp_path / "in"), []
    monkeypatch.setattr(grading, "inside", listed_then_swapped)
    assert gather(ann, problems) == [] and "became a link" in problems[0]


@pytest.mark.skipif(os.name != "posix", reason="needs links")
def test_a_folder_of_submissions_may_be_reached_by_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real/ann.ipynb").write_text(WHOLE, encoding="utf-8")
    (tmp_path / "link").symlink_to("real")
    for path in tmp_path / "link", tmp_path / "link/ann.ipynb":
        [ann], problems = submissions(path), []
        assert ann.student == "ann" and len(gather(ann, problems)) == 1 and not problems


@safe
def test_no_file_stops_a_class(tmp_path):
    "And nothing is written but in the folder of marks."
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    hand_in(folder, "honest")
    for name, data in NOTEBOOKS.items():
        (folder / f"{name}.ipynb").write_bytes(data)
    for name, (data, _) in ZIPS.items():
        (folder / f"{name}.zip").write_bytes(data)
    (folder / "a folder that is a loop").mkdir()
    (folder / "a folder that is a loop/again").symlink_to(folder, target_is_directory=True)
    (folder / "a link to a folder").symlink_to(ROOT / "nbs/04_losses", target_is_directory=True)
    (folder / "a link to solutions.ipynb").symlink_to(LESSON)
    (folder / "an endless file.ipynb").symlink_to("/dev/zero")
    os.mkfifo(folder / "a pipe that nobody feeds.ipynb")
    (folder / "a folder.ipynb").mkdir()
    above = {path for path in tmp_path.parent.iterdir()}
    marks = {m.student: m
             for m in grade(PROJECT, MODULE, folder, out, notebooks=["losses_dev"], timeout=60.0)}
    whole = len(right(marks["honest"]))
    assert (whole >= 14 and {path for path in tmp_path.parent.iterdir()} == above
            and sorted(p.name for p in tmp_path.iterdir()) == ["in", "out"])
    for name, mark in marks.items():
        assert "could not be marked" not in mark.problem and "Traceback" not in mark.problem, mark
        assert (mark.problem or len(right(mark)) == whole
                or name.startswith(("deep", "a null", "magic", "half", "many", "lines",
                    "a long"))), mark
    for name, (_, words) in ZIPS.items():
        assert (words in marks[name].problem + marks[name].marked if words
                else len(right(marks[name])) == whole), marks[name]
    for name in ("a link to solutions", "an endless file", "a link to a folder",
                 "a pipe that nobody feeds"):
        assert ("link" in marks[name].problem
                or "no regular file" in marks[name].problem), marks[name]
    for row in csv.reader((out / "marks.csv").read_text(encoding="utf-8-sig").splitlines()):
        assert not [text for text in row if text.lstrip("\t ")[:1] in tuple("=+-@|＝")], row
    for page in (out / "feedback").iterdir():
        text = page.read_text(encoding="utf-8")
        assert ("<script" not in text and "<img" not in text and ">49<" not in text
                and "\u202e" not in text)
