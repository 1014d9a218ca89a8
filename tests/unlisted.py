"""Answers to exercises that no list of mistakes has: wrong ones and right ones, and what the judge
says to them.

`python tests/unlisted.py` prints the figures; `--held-out` those of the half that the judge was not
tuned on.
"""
import collections
import inspect
import re
import sys
from functools import cache
from pathlib import Path

import numpy as np

from tinytorch.checking import check_of, solution_of
from tinytorch.exercises.exercises import REGION, find_exercises, function_names
from tinytorch.checking import judge
from tinytorch.checking.judge import RIGHT, from_data, to_data
from tinytorch.notebooks.notebook import code_cells, read_notebook
from tinytorch.notebooks.project import Project

HERE = Path(__file__).resolve().parent
PROJECT = Project(HERE.parent)
LESSON = PROJECT.find("04")


@cache
def solutions() -> dict:
    "The cell of each exercise with its solution, and the names that its module has."
    names = {exercise.name for path in LESSON.notebooks
             for exercise in find_exercises(PROJECT, path)}
    cells = [cell for path in LESSON.notebooks for cell in code_cells(read_notebook(PROJECT, path))
             if REGION.search(cell.source)]
    return {name: (cell.source, vars(inspect.getmodule(solution_of(name))))
            for cell in cells for name in function_names(cell.code) if name in names}


def function(name: str, text: str):
    "The answer that a line describes."
    source, names = solutions()[name]
    names = names | {"__name__": "unlisted"}         # no class of it enters the registry
    if text.startswith("= "):
        return eval(text[2:], names)
    old, new = text.split(" => ")
    region = REGION.search(source)
    start, end = region.span(2)
    assert old in source[start:end], (name, old)
    exec(source[:start] + source[start:end].replace(old, new) + source[end:], names)
    return names[name]


def lines(file: str, fields: int) -> list:
    "The lines of a file of answers, as lists of fields."
    text = (HERE / "answers" / file).read_text(encoding="utf-8")
    return [line.rstrip("\n").split(" | ", fields - 1) for line in text.splitlines()
            if line and line[0] != "#"]


@cache
def check(name: str, seed: int = 7):
    return from_data(to_data(check_of(name, np.random.default_rng(seed))))


def judged(name: str, answered, seed: int = 7):
    "The verdict on a function."
    return judge.judged(check(name, seed), answered)


@cache
def said_of(name: str, text: str):
    "The verdict on the answer that a line describes."
    return judged(name, function(name, text))


PLAIN = re.compile("largest difference|it differs|does not give|differs")


def figures(held_out: bool, tell=print) -> dict:
    "How many wrong answers of one half are caught, described in words and named."
    count, part = collections.Counter(), lines("wrong.txt", 3)[int(held_out)::2]
    for name, pattern, text in part:
        said = said_of(name, text)
        words = said.mark != RIGHT and not PLAIN.search(said.text)
        named = words and bool(re.search(pattern, said.text))
        count.update(caught=said.mark != RIGHT, described=words, named=named, all=1)
        if not named:
            tell(f"{name} | {text}\n    {said.mark} {said.text}\n    {said.example[:150]}")
    return dict(count)


if __name__ == "__main__":
    refused = 0
    for name, text in lines("right.txt", 2):
        said = judged(name, function(name, text))
        if said.mark != RIGHT:
            refused += 1
            print("REFUSED", name, text, said.text, said.example)
    print("right answers:", len(lines("right.txt", 2)), "refused:", refused)
    print("held out" if "--held-out" in sys.argv else "tuned", figures("--held-out" in sys.argv))
