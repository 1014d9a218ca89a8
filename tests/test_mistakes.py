"""What each known mistake gives is what it gave when its sentence was written. After a change on
purpose: `python tests/test_mistakes.py` writes the numbers anew.
"""
import json
from pathlib import Path

import numpy as np
import pytest

from tinytorch.checking import check_of
from tinytorch.checking.mistakes import MISTAKES_BY_NAME

FILE = Path(__file__).parent / "answers/known_mistakes.json"
RECORDED = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}


def weighed(array, by: int) -> float:
    "The numbers of an array as one, of a size that lets each count; `by`: the place of its call."
    x = np.where(np.isfinite(array), array, 0).astype(float).ravel()
    return by * float(np.arange(1, x.size + 1) @ (np.sign(x) * np.log1p(np.abs(x))))


def summary(results: list) -> list:
    "A mistake's results in all calls: their numbers as one, how many are not finite, the errors."
    arrays = [(k, x) for k, result in enumerate(results, 1) if not isinstance(result, str)
              for x in result if x is not None]
    return [round(sum(weighed(x, k) for k, x in arrays), 4),
            sum(int((~np.isfinite(x)).sum()) for _, x in arrays),
            *sorted(result for result in results if isinstance(result, str))]


def summaries(name: str) -> dict:
    check = check_of(name, np.random.default_rng(7))
    return {mistake.text: summary(mistake.results) for mistake in check.mistakes}


@pytest.mark.parametrize("name", [*MISTAKES_BY_NAME])
def test_a_known_mistake_gives_what_it_gave(name):
    found, recorded = summaries(name), RECORDED[name]
    assert found.keys() == recorded.keys()
    for text, (number, *rest) in found.items():
        assert rest == recorded[text][1:], text
        assert number == pytest.approx(recorded[text][0], rel=1e-5, abs=1e-3), text


def test_no_exercise_has_gone():
    assert MISTAKES_BY_NAME.keys() == RECORDED.keys()


if __name__ == "__main__":
    FILE.write_text(json.dumps({name: summaries(name) for name in MISTAKES_BY_NAME}, indent=1)
                    + "\n", encoding="utf-8")
