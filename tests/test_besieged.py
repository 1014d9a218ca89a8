"""Grading, attacked a third time: sieges.py holds what a function may do to the process that
answers, without ending it at once, and what a notebook may be.

None gets the points of the exercise, costs another student a point, or reaches a terminal, a table
or a page with more than text.
"""
import csv
import json
import re

import pytest

from sieges import SIEGES, body_of
from tinytorch.grading.grade import grade
from test_grade import (LESSON, MODULE, PROJECT, check_all_points, hand_in, honest_and, right,
                        safe)


@pytest.fixture(scope="module")
def besieged(tmp_path_factory):
    "All of these and an honest student, marked in one run."
    bodies = {name: body_of(function) for name, function in SIEGES.items()}
    return honest_and(tmp_path_factory.mktemp("besieged"), bodies)


CRIPPLES = ("has_", "is_", "says_", "audits", "encodes", "compares", "changes_the_workers",
            "opens_all", "makes_its", "turns_", "copies_", "cannot_", "listens", "ends_with")


@pytest.mark.parametrize("name", SIEGES)
def test_a_siege_takes_nothing(besieged, name):
    marks, _ = besieged
    verdict = marks[name].verdicts["squared_error"]
    assert marks[name].problem == "" and verdict.mark in ("❌", "⬜", "🚧")
    assert "NameError" not in verdict.text and "AttributeError" not in verdict.text
    lost = set(right(marks["honest"])) - set(right(marks[name])) - {"squared_error"}
    assert not lost or name.startswith(CRIPPLES), lost


def test_the_honest_student_keeps_all_points(besieged):
    check_all_points(besieged[0])


def test_what_they_say_is_text(besieged):
    _, out = besieged
    for file in [*(out / "feedback").iterdir(), *out.glob("*.csv"), out / "marks.json"]:
        text = file.read_text(encoding="utf-8-sig")
        assert all(c.isprintable() or c == "\n" for c in text), file
        if file.suffix == ".html":
            assert "<script" not in text
    for row in csv.reader((out / "marks.csv").read_text(encoding="utf-8-sig").splitlines()):
        assert not [cell for cell in row if re.match(r"\s*[=+@|]", cell)]


# Notebooks

def cell(source: str) -> dict:
    return {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None,
            "source": source}


def changed(change, **more) -> dict:
    "The lesson with a change of each cell."
    nb = json.loads(LESSON.read_text(encoding="utf-8"))
    for each in nb["cells"]:
        change(each)
    return nb | more


def with_text(change) -> dict:
    return changed(lambda each: each.update(source=change("".join(each["source"]))))


def in_the_cell(first_lines: str) -> dict:
    "The lesson with further lines in the cell of `squared_error`."
    return with_text(lambda text: first_lines + text if "def squared_error(" in text
                     and "BEGIN SOLUTION" in text else text)


def nothing(each):
    pass


ODD = {      # name: (notebook, how many exercises are not right, or words of the problem)
    "ids that are the same": (lambda: changed(lambda each: each.update(id="same")), 0),
    "no ids": (lambda: changed(lambda each: each.pop("id", None)), 0),
    "ids that are lists": (lambda: changed(lambda each: each.update(id=[{}])), 0),
    "no metadata": (lambda: changed(lambda each: [each.pop(key, None) for key in (
        "metadata", "outputs", "execution_count")]), 0),
    "metadata that are null": (lambda: changed(lambda each: each.update(
        metadata=None, outputs=None, execution_count="x")), 0),
    "large outputs": (lambda: changed(lambda each: each.update(outputs=["x" * 10**4])), 0),
    "ends of lines of Windows": (lambda: with_text(lambda t: t.replace("\n", "\r\n")), 0),
    "ends of lines of old": (lambda: with_text(lambda t: t.replace("\n", "\r")), 0),
    "tabs in directives": (lambda: with_text(lambda t: t.replace("#| exp", "#|\texp")), 0),
    "odd directives": (lambda: in_the_cell("#| export: [\n#|\n#| {}\n#| : :\n"), 0),
    "an export that climbs": (lambda: in_the_cell("#| export ../../planted\n"), 0),
    "magic": (lambda: in_the_cell("%%time\n"), 1),
    "everything twice": (lambda: changed(nothing, cells=changed(nothing)["cells"] * 2), 0),
    "a minor format of its own": (lambda: changed(nothing, nbformat_minor="x", metadata=None), 0),
    "format 3": (lambda: changed(nothing, nbformat=3, worksheets=[]), "format 4"),
    "format 5": (lambda: changed(nothing, nbformat=5), "format 4"),
    "format true": (lambda: changed(nothing, nbformat=True), "format 4"),
    "cells of a list of types": (lambda: changed(lambda each: each.update(cell_type=["code"])),
                                 "no type and source"),
    "raw cells": (lambda: changed(lambda each: each.update(cell_type="raw")), "none of the"),
    "half a letter in an output": (lambda: changed(lambda each: each.update(outputs="\ud800")),
                                   "half of a character"),
    "a cell that exits": (lambda: changed(nothing, cells=[
        cell("#| export\nimport os; os._exit(0)"), *changed(nothing)["cells"]]), 14),
    "a cell that fills the memory": (lambda: changed(nothing, cells=[
        cell("#| export\nx = []\nwhile True: x.append(bytearray(2**26))"),
        *changed(nothing)["cells"]]), 0),
    "async": (lambda: with_text(lambda t: t.replace("def squared_error(", "async def squared_error(")), 1),
    "letters of another width": (lambda: with_text(lambda t: t.replace("def squared_", "def ｓquared_")), 0)}


@safe
def test_a_notebook_of_any_kind_has_its_row(tmp_path):
    (tmp_path / "in").mkdir()
    for name, (make, _) in ODD.items():
        (tmp_path / f"in/{name}.ipynb").write_text(json.dumps(make()), encoding="utf-8")
    marks = {m.student: m for m in grade(PROJECT, MODULE, tmp_path / "in", tmp_path / "out",
                                         notebooks=["losses_dev"])}
    assert marks.keys() == ODD.keys()
    for name, (_, expected) in ODD.items():
        if isinstance(expected, str):
            assert expected in marks[name].problem, marks[name].problem
        else:
            assert marks[name].problem == "", name
            assert len(marks[name].verdicts) - len(right(marks[name])) == expected, name
