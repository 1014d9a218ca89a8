"""Around the marks: who a file is from, tables that Canvas and Moodle take, what the instructor
adds, and copies.

What the two platforms write and take was read in their sources: Canvas' lib/content_zipper.rb and
lib/gradebook_importer.rb,
Moodle's mod/assign/classes/downloader.php and mod/assign/feedback/offline/importgradeslib.php.
"""
import csv
import json
import os
import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
from test_grade import LESSON, MODULE, PROJECT, command, hand_in, right, safe

from tinytorch.checking import check_raises
from tinytorch.grading import grade as grading
from tinytorch.grading.copies import similar, shape
from tinytorch.exercises.exercises import Exercise, listed
from tinytorch.grading.feedback import Comment, read_comments
from tinytorch.grading.grade import Mark, grade, submissions, write_out
from tinytorch.checking.judge import RIGHT, WRONG, Verdict
from tinytorch.notebooks.project import TitoError

EXERCISES = [
    Exercise("huber", "losses_dev.ipynb", "", "def huber():\n    raise NotImplementedError()", 2),
    Exercise("nll", "losses_dev.ipynb", "", "def nll():\n    raise NotImplementedError()", 3)]
KNOWN = {"huber": "def huber():\n    return 1", "nll": "def nll():\n    return 2"}


def write(out, marks, comments=None, todo=EXERCISES) -> list:
    "Write what is made of marks; return what is said."
    said = []
    write_out(out, MODULE, todo, marks, comments or {}, KNOWN, said.append)
    return said


def rows(file) -> list:
    return list(csv.reader(file.read_text(encoding="utf-8-sig").splitlines()))


# Names

@pytest.mark.parametrize("name, expected", [
    ("doejane_12345_67890_losses_dev.ipynb", ("doejane_12345", "12345", "canvas", False)),
    ("doejane_LATE_12345_67890_losses_dev-2.ipynb", ("doejane_12345", "12345", "canvas", True)),
    ("d_oejane_LATE_12345_67890_losses dev (1).zip", ("d_oejane_12345", "12345", "canvas", True)),
    ("müllerjörg_12345_67890_losses_dev.ipynb", ("müllerjörg_12345", "12345", "canvas", False)),
    ("doejane_12345_67890_smithbob_LATE_777_888_losses.ipynb", ("doejane_12345", "12345", "canvas", False)),
    ("doejane_12345_67890_x_assignsubmission_file_x.ipynb", ("doejane_12345", "12345", "canvas", False)),
    ("anon_a1B2c_67890_losses_dev.ipynb", ("anon_a1B2c", "a1B2c", "canvas", False)),
    ("LATE_anon_a1B2c_67890_losses_12_dev.ipynb", ("anon_a1B2c", "a1B2c", "canvas", True)),
    ("Jane Doe_12345_assignsubmission_file_", ("Jane Doe_12345", "12345", "moodle", False)),
    ("Jane Doe_12345_assignsubmission_file", ("Jane Doe_12345", "12345", "moodle", False)),
    ("Jane_12345_assignsubmission_file_losses_dev.ipynb", ("Jane_12345", "12345", "moodle", False)),
    ("Jane_12345_assignsubmission_file_smithbob_777_888_losses.ipynb", ("Jane_12345", "12345", "moodle", False)),
    ("Jane_12345_assignsubmission_file_Bob_99_assignsubmission_file_x.ipynb", ("Jane_12345", "12345", "moodle", False)),
    ("ann.ipynb", ("ann", "", "", False)),
    ("hw_1_ann.ipynb", ("hw_1_ann", "", "", False)),
])
def test_who_a_file_is_from(tmp_path, name, expected):
    (tmp_path / name).mkdir() if "." not in name else (tmp_path / name).write_text("{}")
    one, = submissions(tmp_path)
    assert (one.student, one.id, one.platform, one.late) == expected


def test_files_of_one_student_belong_together_and_others_do_not(tmp_path):
    for name in ("doe_1_71_losses.ipynb", "doe_LATE_1_72_more.ipynb", "doe_2_73_losses.ipynb",
                 "hw_2026_11_ann.ipynb", "hw_2026_11_bob.ipynb"):
        (tmp_path / name).write_text("{}")
    found = {one.student: (len(one.paths), one.late) for one in submissions(tmp_path)}
    assert found == {"doe_1": (2, True), "doe_2": (1, False), "hw_2026_11_ann": (1, False),
                     "hw_2026_11_bob": (1, False)}


def test_a_pattern_of_ones_own(tmp_path):
    for name in "Losses - ann (s123) late.ipynb", "Losses - bob (s124).ipynb", "other.ipynb":
        (tmp_path / name).write_text("{}")
    found = submissions(tmp_path, r"Losses - (?P<student>\w+) \((?P<id>\w+)\)(?P<late> late)?")
    assert [(one.student, one.id, one.late) for one in found] == [
        ("ann_s123", "s123", True), ("bob_s124", "s124", False), ("other", "", False)]
    assert [one.student
            for one in submissions(tmp_path,
                       r"Losses - (?P<student>\w+).*")] == ["ann", "bob", "other"]
    with pytest.raises(TitoError, match=r"--names \(a is no regular expression"):
        submissions(tmp_path, "(a")
    with pytest.raises(TitoError, match="does not say what the student is"):
        submissions(tmp_path, ".*")


# Tables for Canvas and Moodle

def canvas_takes(table: list) -> dict:
    "The points by student's number, read by the rules of Canvas' importer."
    head, possible, *students = table
    assert len(head) > 3 and "Student" in head[0] and "ID" in head[1]
    assert (re.search(r"SIS\s+User\s+ID", head[2]) and re.search(r"SIS\s+Login\s+ID", head[3])
            and "Section" in head[4])
    assert len(head) == 6 and "Points Possible" in possible[0] and float(possible[5]) == 5
    return {int(row[1]): float(row[5]) for row in students}


def moodle_takes(table: list) -> dict:
    "The points by participant, read by the rules of Moodle's importer, in English."
    head, *students = table
    place = {name: head.index(name) for name in ("Identifier", "Grade", "Last modified (grade)")}
    return {int(row[place["Identifier"]][len("Participant "):]): float(row[place["Grade"]])
            for row in students}


def test_what_canvas_and_moodle_take(tmp_path):
    good, half = ({"huber": Verdict(RIGHT), "nll": Verdict(RIGHT)},
                  {"huber": Verdict(RIGHT), "nll": Verdict(WRONG, "no")})
    marks = [Mark("doe, jane_12", good, id="12", platform="canvas", late=True),
             Mark("roe_13", half, id="13", platform="canvas"),
             Mark("bad_14", problem="is no notebook", id="14", platform="canvas"),
             Mark("anon_a1", good, id="a1", platform="canvas"),
             Mark("Jane Doe_21", half, id="21", platform="moodle"), Mark("ann", good)]
    assert write(tmp_path, marks) == []
    assert canvas_takes(rows(tmp_path / "canvas.csv")) == {12: 5, 13: 2}
    assert moodle_takes(rows(tmp_path / "moodle.csv")) == {21: 2}
    assert not (tmp_path / "canvas.csv").read_bytes().startswith(b"\xef\xbb\xbf")
    head, *others = rows(tmp_path / "marks.csv")
    assert head == ["student", "id", "late", "points", "of", "huber", "nll", "comments", "marked",
                    "problem", "sandbox"]
    assert [row[:5] for row in others][:3] == [["doe, jane_12", "12", "yes", "5", "5"],
                                               ["roe_13", "13", "", "2", "5"],
                                               ["bad_14", "14", "", "0", "5"]]
    write(tmp_path / "plain", [Mark("ann", good)])
    assert sorted(file.name
                  for file in (tmp_path / "plain").glob("*.csv")) == ["copies.csv", "marks.csv"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes among its files")
def test_comments_in_a_pipe_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "comments.csv")
    check_raises(TitoError, lambda: read_comments(tmp_path / "comments.csv", {}), "no regular file")


def by_hand(tmp_path, text: str) -> Comment:
    "A comment as it is read from the file."
    with open(tmp_path / "by_hand.txt", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["student", "exercise", "points", "comment"],
                                    ["a", "", "", text]])
    return read_comments(tmp_path / "by_hand.txt", {})["a", ""]


@pytest.mark.parametrize("student", ["=1+1", "+1", "@SUM(A1)", "-2", "|x", "\t=1", "<script>alert(1)</script>", "\"><img src=x>", "a\nb,c"])
def test_names_and_code_are_text(tmp_path, student):
    code = f"def huber():\n\treturn '</pre><script>{student}'  # \x1b[2J\u202e\r{'x' * 20}"
    shown = grading.printable(student)
    marks = [Mark(f"{shown}_7", {"huber": Verdict(WRONG, shown, shown)}, {"huber": code}, id="7",
                  platform=platform, marked=shown, problem=shown)
             for platform in ("canvas", "moodle")]
    write(tmp_path, marks, {(f"{shown}_7", "huber"): by_hand(tmp_path, student)})
    for file in tmp_path.glob("*.csv"):
        for row in rows(file):
            assert not any(cell.lstrip()[:1] in tuple("=+@|") or cell[:1] == "-" and cell != "-"
                           for cell in row), row
    page, = (tmp_path / "feedback").glob("*.html")
    text = page.read_text(encoding="utf-8")
    assert "<script" not in text and "<img" not in text and "&lt;/pre&gt;" in text
    assert all(c.isprintable() or c == "\n" for c in text)


# By hand

def test_comments_are_kept_and_count(tmp_path):
    file = tmp_path / "comments.csv"
    assert read_comments(file, {}) == {}
    text = ('student,exercise,points,comment\nann,huber,1.5,"nearly, \nsee page 3 '
            '<b>"\n\'=bob,,,Come and see me\nann,nll,,\n')
    file.write_text(text, encoding="utf-8")
    comments = read_comments(file, {"huber": 2, "nll": 3})
    half = {"huber": Verdict(WRONG, "no"), "nll": Verdict(RIGHT)}
    for _ in range(2):
        write(tmp_path, [Mark("ann", dict(half)), Mark("=bob", dict(half))], comments)
        assert file.read_text(encoding="utf-8") == text
    ann, bob = rows(tmp_path / "marks.csv")[1:]
    assert (ann[3] == "4.5" and ann[5:8] == ["1.5", "3", "huber: nearly, see page 3 <b>"]
            and bob[3] == "3" and bob[7] == "Come and see me")
    page = (tmp_path / "feedback/ann.html").read_text(encoding="utf-8")
    assert ("1.5 of 2 by hand" in page and "see page 3 &lt;b&gt;" in page
            and "4.5 of 5 points" in page)
    data = {entry["student"]: entry
            for entry in json.loads((tmp_path / "marks.json").read_text(encoding="utf-8"))["marks"]}
    assert data["ann"]["points"] == 4.5 and data["ann"]["exercises"]["huber"]["points"] == 1.5


@pytest.mark.parametrize("text, said", [
    ("name,points\n", "its first line should be student,exercise,points,comment"),
    ("student,exercise,points,comment\nann,huber,3,\n", "line 2 has 3 points. Write a number from 0 to 2"),
    ("student,exercise,points,comment\nann,huber,-1,\n", "line 2 has -1 points"),
    ("student,exercise,points,comment\nann,huber,nan,\n", "line 2 has nan points"),
    ("student,exercise,points,comment\nann,,1,\n", "line 2 has points, but names no exercise"),
    ("student,exercise,points,comment\nann,huber,1,good, but\n", "line 2 has too many columns. Put the comment in quotes"),
    ("student,exercise,points,comment\nann,huber,1,\nann,huber,2,\n", "line 3 is about the same as line 2"),
    ("student,exercise,points,comment\nann,huber,1,gr\xfcn\n".encode("latin-1"), "not in UTF-8"),
])
def test_comments_that_cannot_be_understood_are_told(tmp_path, text, said):
    file = tmp_path / "comments.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(TitoError, match=re.escape(said)):
        read_comments(file, {"huber": 2})


def test_other_spreadsheets(tmp_path):
    file = tmp_path / "comments.csv"
    file.write_bytes("\ufeffstudent;exercise;points;comment\r\nann;huber;0,5;\"nearly; almost\"\r\n;;;\r\n".encode())
    assert read_comments(file, {"huber": 2}) == {("ann", "huber"): Comment(
                                                     "nearly; almost", 0.5, 2)}


# Copies

OWN = ("def {}(x, y):\n    total = [{} * value + i for i, value in enumerate(x) if value > 0]\n   "
       " return sum(total) / len(total)")
NAMES = ["one", "two", "three", "four", "five", "six"]


def answers(number: int, names=NAMES) -> dict:
    return {name: OWN.format(name, number + 10 * i) for i, name in enumerate(names)}


@pytest.mark.parametrize("old, new, same", [
    ("total", "result", True), ("value", "v", True), ("(x, y)", "(x: 'array', y) -> float", True), ("    total =", "    'Doc.'\n    total =", True),
    ("    return", "    # so\n\n    return", True), ("x if", "(x) if", True), ("sum", "max", False), ("> 0", ">= 0", False), ("* value", "* i", False), ("x, y", "y, x", False)])
def test_only_names_comments_and_layout_are_dropped(old, new, same):
    text = OWN.format("one", 3)
    changed = (text.replace(old, new) if "x if" not in old
               else text.replace("enumerate(x)", "enumerate((x))"))
    assert changed != text and (shape(changed, "one") == shape(text, "one")) == same


def test_parameters_may_have_other_names():
    text = OWN.format("one", 3)
    assert shape(re.sub(r"\bx\b", "data", text), "one") == shape(text, "one") != shape(
        re.sub(r"enumerate\(x\)", "enumerate(y)", text), "one")


def test_what_is_no_python_has_no_shape():
    assert (shape("def one(:", "one") == "" and shape("x = 1", "one") == ""
            and shape("", "one") == "")
    assert shape("def one():\n    return " + "-" * 5000 + "1", "one") == ""


def test_whole_submissions_are_compared():
    ours = {name: [OWN.format(name, 99)] for name in NAMES}
    mine = answers(1)
    renamed = {name: text.replace("total", "t").replace("value", "v")
               for name, text in mine.items()}
    assert similar({"ann": mine, "bob": renamed, "eve": answers(2)}, ours,
                 {}) == [("ann", "bob", 6, 6, False)]
    five = renamed | {"one": OWN.format("one", 7)}
    assert similar({"ann": mine, "bob": five}, ours, {}) == [("ann", "bob", 5, 6, False)]
    four = five | {"two": OWN.format("two", 7)}
    assert similar({"ann": mine, "bob": four}, ours, {}) == []
    few = answers(1, NAMES[:3])
    assert similar({"ann": few, "bob": few}, ours, {}) == []
    assert similar({"ann": few, "bob": few}, ours, {"ann": ["x"], "bob": ["x"]}) == []


def test_nobody_is_accused_of_the_obvious():
    "Ten who write the same two lines, whole classes with the course's answers, and blanks."
    obvious = {name: f"def {name}(x, y):\n    e = x - y\n    return e**2, 2 * e" for name in NAMES}
    ours = {name: [OWN.format(name, 99), f"def {name}(x, y):\n    raise NotImplementedError()"]
            for name in NAMES}
    for number in 2, 3, 10:
        assert similar({i: obvious | answers(i, NAMES[:4]) for i in range(number)}, ours, {}) == []
        assert similar({i: {name: each[number % 2] for name, each in ours.items()}
                      for i in range(number)},
                     ours, {}) == []
    assert similar({i: answers(1) for i in range(10)}, ours, {}) == []
    assert len(similar({i: answers(1) if i < 3 else answers(i) for i in range(20)}, ours, {})) == 3


def test_the_same_file_is_listed(tmp_path):
    ours = {name: [OWN.format(name, 1)] for name in NAMES}
    files = {"ann": "a", "bob": "a", "eve": "b"}
    assert similar({who: {name: each[0] for name, each in ours.items()} for who in files}, ours,
                 {}) == []
    blanks = {name: f"def {name}(x, y):\n    raise NotImplementedError()" for name in NAMES}
    assert similar({"ann": blanks, "bob": blanks}, {name: [text] for name, text in blanks.items()},
                 files) == []
    assert similar({who: {name: each[0] for name, each in ours.items()} for who in files}, ours,
                 files) == [("ann", "bob", 6, 6, True)]


# What is run again

def test_what_is_marked_again_and_together():
    chosen = [SimpleNamespace(name=name, source=f"def {name}(x):\n    raise NotImplementedError()")
              for name in ("a", "b", "c", "d")]
    course = SimpleNamespace(below={"a": set(), "b": {"a"}, "c": {"a"}, "d": {"a"}})
    verdicts = {name: Verdict(WRONG) for name in "abc"} | {"d": Verdict(RIGHT)}
    code = {name: f"def {name}(x):\n    return {name}" for name in "abcd"}
    again = grading.built_on_wrong
    assert again(course, chosen, verdicts, code) == {frozenset("a"): ["b", "c"]}
    assert again(course, chosen, verdicts,
                 code | {"b": chosen[1].source}) == {frozenset("a"): ["c"]}
    assert again(course, chosen, verdicts | {"a": Verdict(RIGHT)}, code) == {}


@safe
def test_the_whole_way(tmp_path, monkeypatch):
    """Canvas' names, a comment, a copy; then other points: nothing is run again, and nothing by
    hand is lost.
    """
    folder, out, ran, mark = tmp_path / "in", tmp_path / "out", [], grading.mark
    folder.mkdir()
    bodies = {
        "squared_error": "e = np.subtract(input, target)\n    return e**2, e + e",
        "absolute_error": "e = input - target\n    return np.sqrt(e * e) + 0 * e, np.sign(e) * 1.0",
        "huber": "e = input - target\n    small = abs(e) <= delta\n    return np.where(small, e**2 / 2, delta * (abs(e) - delta / 2)), np.where(small, e, delta * np.sign(e))",
        "smooth_labels": "return (1 - label_smoothing) * target + label_smoothing / target.shape[-1] + 0",
    }
    hand_in_all(folder, "doejane_LATE_11_901_losses_dev", bodies)
    hand_in_all(folder, "roebob_12_902_losses_dev",
                {name: re.sub(r"\be\b", "difference", text) for name, text in bodies.items()})
    hand_in(folder, "honest_13_903_losses_dev")
    monkeypatch.setattr(grading, "mark",
                        lambda submission, *rest: ran.append(
                            submission.student) or mark(submission, *rest))

    def run() -> tuple:
        said = []
        del ran[:]
        marks = grade(PROJECT, MODULE, folder, out, notebooks=["losses_dev"], note=said.append)
        return {m.student: m for m in marks}, said

    marks, said = run()
    assert (sorted(marks) == sorted(ran) == ["doejane_11", "honest_13", "roebob_12"]
            and marks["doejane_11"].late)
    assert said == ["doejane_11 and roebob_12: 4 of 4 answers are alike but for names"]
    assert rows(out / "copies.csv")[1:] == [["doejane_11", "roebob_12", "4", "4", ""]]
    assert len(right(marks["honest_13"])) == len(marks["honest_13"].verdicts)
    page = (out / "feedback/doejane_11.html").read_text(encoding="utf-8")
    assert "np.subtract(input, target)" in page and "late" in page
    (out / "comments.csv").write_text("student,exercise,points,comment\nhonest_13,huber,1,Say "
                                      "why\nhonest_1,huber,1,\nhonest_13,hubert,1,\n",
                                      encoding="utf-8")
    _, said = run()
    assert (not ran and said[0].endswith("there is no student honest_1. Did you mean honest_13?")
            and said[1].endswith("there is no exercise hubert. Did you mean huber?"))
    before = rows(out / "canvas.csv")
    monkeypatch.setattr(grading, "listed",
                        lambda *given: [replace(e, points=10 * e.points) for e in listed(*given)])
    marks, _ = run()
    after = rows(out / "canvas.csv")
    assert not ran and float(after[1][5]) == 10 * float(before[1][5])
    assert {row[0]: float(row[5]) for row in after[1:]}["honest"] == float(after[1][5]) - 20 + 1
    hand_in(folder, "honest_13_903_losses_dev", "return input, target")
    run()
    assert (ran == ["honest_13"]
            and "Say why" in (out / "feedback/honest_13.html").read_text(encoding="utf-8"))
    (out / "comments.csv").write_text("student,exercise,points,comment\nhonest_13,huber,99,\n")
    hand_in(folder, "new")
    with pytest.raises(TitoError, match="99 points"):
        run()
    assert ran == []


def hand_in_all(folder, name, bodies: dict) -> None:
    "The lesson with these bodies of its exercises."
    nb = json.loads(LESSON.read_text(encoding="utf-8"))
    for cell in nb["cells"]:
        source = "".join(cell["source"])
        for exercise, body in bodies.items():
            if f"def {exercise}(" in source and "BEGIN SOLUTION" in source:
                cell["source"] = source[:source.index("    ### BEGIN SOLUTION")] + f"    {body}\n"
    (folder / f"{name}.ipynb").write_text(json.dumps(nb), encoding="utf-8")


@safe
def test_the_command_says_what_it_found(tmp_path):
    (tmp_path / "in").mkdir()
    hand_in(tmp_path / "in", "week1 - ann")
    told = command(tmp_path / "in", tmp_path / "out", "--names",
                   r"week1 - (?P<student>.+)").communicate(timeout=600)[0]
    assert "1 submissions marked" in told and rows(tmp_path / "out/marks.csv")[1][0] == "ann", told
    told = command(tmp_path / "in", tmp_path / "out", "--names", "(").communicate(timeout=600)[0]
    assert "is no regular expression" in told and "Traceback" not in told


@safe
def test_a_right_value_with_a_wrong_slope_has_its_share_where_that_is_asked_for(tmp_path):
    "Half of the 2 points of `huber`; a right answer has all, one that is wrong throughout none."
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    value = ("e = input - target\n    value = np.where(abs(e) <= delta, e * e / 2, delta * "
             "(abs(e) - delta / 2))\n    ")
    hand_in(folder, "half", value + "return value, e", exercise="huber")
    hand_in(folder, "none", value + "return 2 * value, e", exercise="huber")
    hand_in(folder, "right")
    column = ([exercise.name for exercise in listed(PROJECT, MODULE)
               if exercise.notebook == LESSON.name].index("huber") + 5)
    for partial, points in (False, ["0", "0", "2"]), (True, ["1", "0", "2"]):
        grade(PROJECT, MODULE, folder, out, notebooks=["losses_dev"], partial=partial)
        assert [row[column] for row in rows(out / "marks.csv")[1:]] == points
    assert "value ✅, slope of input ❌" in (out / "feedback/half.html").read_text(encoding="utf-8")
