"""Exercises that are answered in the page: the blank, the verdict, what is kept and what is handed
out. The judge itself is tested by `tests/test_page.py`; Pyodide without NumPy cannot run it, so a
small one stands in for it here.
"""
import json
import re
from pathlib import Path

import pytest

from places import package
from test_site import LESSON, run_cell, with_pyodide

JUDGE = '''
import json

def check(name, code, data):
    "Stands in for the judge, which needs NumPy."
    names = {}
    exec(code, names)
    known = json.loads(data)["name"] == name
    right = known and names[name](5, 1) == (16, 8)
    return json.dumps({"mark": "✅" if right else "❌", "text": "seen", "example": name + "(5, 1)",
                       "fix": "" if right else "Square it."})
'''
ANSWER = ("def squared_error(input, target):\n"
          "    return (input - target) ** 2, 2 * (input - target)\n")


def lesson(watch, limit=60, **options):
    "The lesson's page with Pyodide, this limit in seconds, and a judge that needs no NumPy."
    package("pyodide")
    watched = watch(**options)
    page = watched.page
    with_pyodide(page)
    page.route("**/losses_dev.html", lambda route: route.fulfill(
        response=(response := route.fetch()),
        body=re.sub(r'(<meta name="pyodide" content=")[^"]*', r"\g<1>/pyodide/",
                    response.text()).replace('data-limit="60"', f'data-limit="{limit}"')))
    page.route("**/web/page.py", lambda route: route.fulfill(
        body=route.fetch().text() + JUDGE, content_type="text/x-python"))

    # the cells before an exercise need NumPy, and are left out
    page.route("**/losses_dev.ipynb.json", lambda route: route.fulfill(
        json=[cell | {"alone": True} for cell in route.fetch().json()]))
    watched.open(LESSON)
    page.wait_for_selector("textarea.answer")
    return watched


def bar_of(page, name):
    "The answer to an exercise, and the buttons below it."
    answer = page.get_by_label(f"Your answer: {name}", exact=True)
    return answer, answer.locator("xpath=following-sibling::*[1]")


def checked(page, name, code=None):
    "What Check says, once it has said it."
    answer, bar = bar_of(page, name)
    if code is not None: answer.fill(code)
    bar.get_by_role("button", name="Check").click()
    page.wait_for_function("(bar) => !bar.querySelector('button').disabled",
                           arg=bar.element_handle(), timeout=60000)
    return bar.locator(".run-output").inner_text()


def test_every_exercise_shows_its_blank(watch, site):
    watched = lesson(watch)
    cells = json.loads((site / "notebooks/04_losses/losses_dev.ipynb.json").read_text("utf-8"))
    exercises = [cell["exercise"] for cell in cells if cell["exercise"]]
    answers = watched.page.locator("textarea.answer")
    assert answers.count() == len(exercises) == 14
    assert [answers.nth(i).input_value() for i in range(14)] == [e["blank"] for e in exercises]
    assert all("raise NotImplementedError()" in e["blank"] for e in exercises)
    folds = watched.page.locator("details.code-fold", has_text="Solution")
    assert folds.count() == 14 and not any(folds.nth(i).evaluate("(fold) => fold.open")
                                           for i in range(14))
    assert all((site / f"checks/{e['name']}.json").is_file() for e in exercises)
    assert "SOLUTION" not in watched.page.inner_text("main")
    assert not watched.problems and not watched.strangers


def test_without_scripts_the_blank_comes_first(watch):
    watched = watch(java_script_enabled=False)
    page = watched.page
    page.goto(watched.address + LESSON)
    text = page.inner_html("main")
    assert text.index("YOUR CODE HERE") < text.index("<summary>Solution</summary>")


def test_check_names_the_mistake(watch):
    page = lesson(watch).page
    said = checked(page, "squared_error", ANSWER.replace("** 2", "* 2"))
    assert "❌ seen" in said and "squared_error(5, 1)" in said and "The way out" in said
    assert "Square it." not in said, "the way out is folded"
    said = checked(page, "squared_error", ANSWER)
    assert "✅ seen" in said and "way out" not in said


def test_an_endless_loop_stops_alone(watch):
    page = lesson(watch, limit=3).page
    said = checked(page, "squared_error", "while True: pass")
    assert "Still running after 3 s, so it was stopped" in said
    assert "✅ seen" in checked(page, "squared_error", ANSWER), "the next check runs"
    said = run_cell(page, 0, "while True: pass")
    assert "Still running" in said and run_cell(page, 0, "6 * 7") == "42"


def test_stop(watch):
    page = lesson(watch).page
    answer, bar = bar_of(page, "squared_error")
    stop = bar.get_by_role("button", name="Stop")
    assert not stop.is_visible()
    assert "✅" in checked(page, "squared_error", ANSWER)
    answer.fill("while True: pass")
    bar.get_by_role("button", name="Check").click()
    stop.click()
    bar.get_by_text("Stopped.").wait_for()
    assert not stop.is_visible() and "✅" in checked(page, "squared_error", ANSWER)


def test_answers_survive_a_reload_and_reset_forgets_them(watch):
    page = lesson(watch).page
    answer, _ = bar_of(page, "huber")
    blank = answer.input_value()
    answer.fill("# mine")
    page.reload()
    answer, bar = bar_of(page, "huber")
    answer.wait_for()
    assert answer.input_value() == "# mine"
    assert "# mine" not in bar_of(page, "squared_error")[0].input_value()
    bar.get_by_role("button", name="Reset").click()
    assert answer.input_value() == blank
    page.reload()
    assert bar_of(page, "huber")[0].input_value() == blank


def test_a_new_line_is_indented(watch):
    page = lesson(watch).page
    answer, _ = bar_of(page, "huber")
    answer.fill("def huber(input, target):")
    answer.press("End")
    answer.press("Enter")
    answer.press_sequentially("x = 1")
    answer.press("Enter")
    answer.press_sequentially("y")
    assert answer.input_value() == "def huber(input, target):\n    x = 1\n    y"


def test_the_notebook_with_the_answers(watch, site):
    page = lesson(watch).page
    bar_of(page, "huber")[0].fill("# mine")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download with your answers").click()
    assert download.value.suggested_filename == "losses_dev.ipynb"
    text = Path(download.value.path()).read_text(encoding="utf-8")
    notebook = json.loads(text)
    before = json.loads((site / "notebooks/04_losses/losses_dev.ipynb").read_text("utf-8"))
    source = ["".join(cell["source"]) for cell in notebook["cells"]]
    changed = [i for i, cell in enumerate(before["cells"]) if "".join(cell["source"]) != source[i]]
    assert len(changed) == 14 and "BEGIN SOLUTION" not in text
    assert sum(source[i].endswith("# mine") for i in changed) == 1
    assert all(source[i].startswith("#| export") for i in changed)
    assert sum("raise NotImplementedError()" in source[i] for i in changed) == 13


@pytest.mark.parametrize("width, dark", [(1280, False), (390, True)])
def test_exercises_are_accessible(watch, width, dark):
    watched = lesson(watch, width=width, dark=dark)
    page = watched.page
    checked(page, "squared_error", ANSWER.replace("** 2", "* 2"))
    page.evaluate((package("axe-core") / "axe.min.js").read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    assert [(v["id"], v["nodes"][0]["html"][:200]) for v in found
            if v["impact"] in ("serious", "critical")] == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    answer, bar = bar_of(page, "squared_error")
    answer.focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Check"
