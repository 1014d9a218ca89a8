"What the judge says to answers that no list has, right and wrong ones, and to odd ones."
import re

import numpy as np
import pytest
import unlisted
from hypothesis import given, settings
from hypothesis import strategies as st
from unlisted import check, function, judged, lines, said_of

from tinytorch.checking.answers import answer
from tinytorch.checking.explain import LONGEST
from tinytorch.checking.judge import BLANK, RIGHT, WAITING, WRONG, verdict

NAMES = sorted(unlisted.solutions())
ANSWERS = lines("wrong.txt", 3)


@pytest.mark.parametrize("name, pattern, text", ANSWERS, ids=[f"{name}: {text[:60]}" for name, _, text in ANSWERS])
def test_a_wrong_answer_is_caught_in_a_sentence_with_an_example(name, pattern, text):
    said = said_of(name, text)
    assert said.mark == WRONG
    assert re.search(r"\w+ \w+", said.text) and not re.search(r"\s\.|\b1 times", said.text)
    assert 0 < len(said.example) <= LONGEST
    shown = re.search(r"should be (.+), but (?:is|are) (.+)$", said.example)
    assert not shown or shown[1] != shown[2], "two numbers that look alike"


def test_most_wrong_answers_are_described_and_half_are_named():
    count = {key: sum(unlisted.figures(half, lambda line: None)[key] for half in (False, True))
             for key in ("all", "described", "named")}
    assert count["described"] >= 0.8 * count["all"] and count["named"] >= 0.5 * count["all"], count


@pytest.mark.parametrize("name, text", lines("right.txt", 2))
def test_a_right_answer_is_not_refused(name, text):
    said = judged(name, function(name, text))
    assert said.mark == RIGHT, (said.text, said.example)


RESULTS = st.deferred(lambda: st.one_of(
                          st.none(), st.booleans(), st.integers(-10**30, 10**30),
                          st.floats(width=16), st.text(max_size=3), st.complex_numbers(),
                          st.sampled_from(
                              [np.zeros((3, 0)), np.float16(3e4), np.array(["a"]), np.array([{}]),
                               np.ma.array([1.0]), np.datetime64("2026-01-01"),
                               np.full((2, 2), np.nan), np.float32(1e38) * np.ones(4),
                               np.array(2**63, np.uint64), object, print, {1: 2}, b"\xff"]),
                          st.lists(RESULTS, max_size=4), st.tuples(RESULTS, RESULTS)))


@settings(derandomize=True, database=None, deadline=None, max_examples=600)
@given(st.sampled_from(NAMES), st.lists(RESULTS, min_size=1, max_size=3))
def test_no_answer_is_too_odd(name, results):
    todo, turn = check(name), iter(range(10**9))
    answers = [answer(lambda *given, **options: results[next(turn) % len(results)],
                      list(arguments.values()), options, todo.positions)
               for arguments, options in todo.calls]
    said = verdict(todo, answers)
    assert said.mark in (RIGHT, WRONG, BLANK, WAITING) and (said.text or said.mark == RIGHT)
    assert len(said.example) <= LONGEST


@settings(derandomize=True, database=None, deadline=None, max_examples=400)
@given(st.sampled_from(NAMES), st.integers(0, 15), st.sampled_from([
    lambda x: x.astype(np.float16), lambda x: x.astype(bool), lambda x: x[..., None], lambda x: x.ravel(), lambda x: x.T, lambda x: x.sum(),
    lambda x: x.astype(np.int8), lambda x: np.array(x, ">f8"), lambda x: np.where(x > 0, np.inf, x), lambda x: x + 1e-9, lambda x: x * 1e300,
    lambda x: x[:0], lambda x: np.broadcast_to(x, (3, *x.shape)), lambda x: np.full_like(x, np.nan), lambda x: x.astype(complex)]))
def test_no_change_of_a_right_answer_is_too_odd(name, part, change):
    todo = check(name)

    def changed(call):
        results = list(todo.expected[call])
        at = part % len(results)
        results[at] = None if results[at] is None else change(np.atleast_1d(results[at]))
        return {"many": len(results) > 1, "changed": [], **packed_or_error(results)}

    said = verdict(todo, [changed(call) for call in range(len(todo.calls))])
    assert said.text or said.mark == RIGHT
    assert len(said.example) <= LONGEST


def packed_or_error(results):
    given = answer(lambda: tuple(results) if len(results) > 1 else results[0], [], {})
    return {key: given[key] for key in given if key in ("result", "error")}
