"`check_exercise`, the last line of a lesson's test, wherever a notebook may run."
import json
import sys

import numpy as np
import pytest

from tinytorch import checking
from tinytorch.checking import check_exercise, check_of, exercise
from tinytorch.nn.losses import huber
from tinytorch.checking.checks import FILE, to_data
from tinytorch.checking.judge import judged


def without_factor(input, target, *, delta):
    "Huber's loss whose square lacks its 1/2."
    value, slope = huber(input, target, delta=delta)
    return np.where(np.abs(input - target) <= delta, 2 * value, value), slope


without_factor.__name__ = "huber"


@pytest.fixture(autouse=True)
def nothing_failed_before(monkeypatch):
    monkeypatch.setattr(checking, "FAILED", set())


def write_checks(folder):
    check = check_of("huber", np.random.default_rng(3))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).write_text(json.dumps({"exercises": [
        {"name": "other", "check": {}}, {"name": "huber", "check": to_data(check)}]}))
    return check


def test_the_authors_notebook_asks_the_judge(capsys):
    check = check_of("huber", np.random.default_rng(0))
    check_exercise(huber)
    assert capsys.readouterr().out == (f"✅ huber: right in {len(check.calls)} calls, "
                                       f"{len(check.mistakes)} known mistakes ruled out\n")
    said = judged(check, without_factor)
    for again in False, True:
        with pytest.raises(AssertionError) as seen:
            check_exercise(without_factor)
        assert str(seen.value) == "\n".join([f"huber: {said.told(again)}", said.parts,
                                             said.example])


@pytest.mark.parametrize("count, said", [(0, ""), (1, ", 1 known mistake ruled out"),
                                         (2, ", 2 known mistakes ruled out")])
def test_mistakes_are_counted_in_words(monkeypatch, capsys, count, said):
    check = check_of("huber", np.random.default_rng(0))
    check.mistakes = check.mistakes[:count]
    monkeypatch.setattr(exercise, "check_of", lambda name, rng: check)
    check_exercise(huber)
    assert capsys.readouterr().out == f"✅ huber: right in {len(check.calls)} calls{said}\n"


def test_the_students_edition_has_its_checks_beside_the_notebook(tmp_path, monkeypatch, capsys):
    check = write_checks(tmp_path)
    monkeypatch.setitem(sys.modules, "tinytorch.checking.mistakes", None)
    monkeypatch.chdir(tmp_path)
    check_exercise(huber)
    assert f"right in {len(check.calls)} calls" in capsys.readouterr().out
    with pytest.raises(AssertionError, match="the square lacks the factor 1/2"):
        check_exercise(without_factor)


def test_a_folder_elsewhere_finds_the_checks_of_the_package(tmp_path, monkeypatch):
    "nbgrader copies a notebook; the package that is installed is still the student's edition."
    write_checks(tmp_path / "nbs" / "04_losses")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr("tinytorch.__file__", str(tmp_path / "tinytorch" / "__init__.py"))
    monkeypatch.setitem(sys.modules, "tinytorch.checking.mistakes", None)
    with pytest.raises(AssertionError, match="the square lacks the factor 1/2"):
        check_exercise(without_factor)


def test_without_any_checks_it_says_so_and_gives_no_mark(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tinytorch.checking.mistakes", None)
    monkeypatch.chdir(tmp_path)
    check_exercise(without_factor)
    said = capsys.readouterr().out
    assert said.startswith("⬜ huber: only the lines of this test are checked") and "✅" not in said


def test_a_blank_is_no_mistake():
    def blank(input, target, *, delta):
        raise NotImplementedError()

    blank.__name__ = "huber"
    with pytest.raises(NotImplementedError, match="huber: not started"):
        check_exercise(blank)
