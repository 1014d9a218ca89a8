"""The student's path: right answers in any form are accepted, mistakes get their name, and a
student's work is never lost.

`KNOWN` holds the mistakes that are named from a table. `UNSEEN` are further wrong answers, which
only their properties give away.
"""
import gc
import json
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from unlisted import judged

from tinytorch.checking import check_of
from tinytorch.checking.mistakes import MISTAKES_BY_NAME, at, logistic, one_hot_rows
from tinytorch.exercises import exercises as exercises_module, progress
from tinytorch.exercises.exercises import (find_exercises, function_names, made_check,
                                           solution_lines)
from tinytorch.exercises.progress import reset
from tinytorch.checking.judge import RIGHT, WRONG
from tinytorch.nn import losses
from tinytorch.nn.losses import (binary_cross_entropy, binary_cross_entropy_with_logits,
                                 log_softmax, logsumexp, soft_cross_entropy, times)
from tinytorch.notebooks.notebook import code_cells, read_notebook
from tinytorch.notebooks.project import Project, TitoError

ROOT = Path(__file__).resolve().parents[1]
PROJECT = Project(ROOT)
LESSON = PROJECT.find("04")


MISTAKES = [(name, text, code) for name, known in MISTAKES_BY_NAME.items()
            for text, _, code in known.mistakes]


@pytest.mark.parametrize("name, text, code", MISTAKES, ids=[f"{name}: {text[:60]}" for name, text, _ in MISTAKES])
def test_known_mistake_is_named(name, text, code):
    said = judged(name, code)
    assert said.mark == WRONG and said.text == text
    assert 0 < len(said.example) <= 200


def in_place(e, t):
    e -= t
    return e * e, 2 * e


def last_dropped(logits, target):
    value, slope = (-at(log_softmax(logits), target),
                    np.exp(log_softmax(logits)) - one_hot_rows(logits, target))
    value[-1], slope[-1] = 0, 0
    return value, slope


def loops_one_short(input, target):
    value = np.zeros_like(input)
    for i in range(len(input) - 1):
        value[i] = abs(input[i] - target[i])
    return value, np.sign(input - target)


# exercise, a wrong answer that is in no table, what must be said
UNSEEN = [
    ("squared_error", in_place, "changes its input `input`"),
    ("squared_error", lambda input, target: None, "returns None"),
    ("squared_error", lambda input, target: (input - target) ** 2, "should return 2 results"),
    (
        "squared_error",
        lambda input, target: (2 * (input - target), (input - target) ** 2),
        "is what the slope",
    ),
    (
        "squared_error",
        lambda input, target: ((input - target) ** 2, np.zeros_like(input)),
        "is 0 everywhere",
    ),
    (
        "squared_error",
        lambda input, target: (3 * (input - target) ** 2, 2 * (input - target)),
        "3 times too large",
    ),
    (
        "squared_error",
        lambda input, target: ((input - target) ** 2 / input.shape[-1], 2 * (input - target)),
        "is divided by the length of a row",
    ),
    (
        "squared_error",
        lambda input, target: (-((input - target) ** 2), 2 * (input - target)),
        "opposite sign",
    ),
    (
        "squared_error",
        lambda input, target: (((input - target) ** 2)[:, None], 2 * (input - target)),
        "has an axis too many",
    ),
    (
        "squared_error",
        lambda input, target: ((input - target).astype(np.int64) ** 2, 2 * (input - target)),
        "whole numbers",
    ),
    (
        "squared_error",
        lambda input, target: (input * input, 2 * (input - target)),
        "does not depend on `target`",
    ),
    ("squared_error", lambda input, target: ("a", "b"), "numbers are wanted"),
    ("squared_error", lambda input: (input, input), "TypeError"),
    ("absolute_error", loops_one_short, "only in the last"),
    (
        "absolute_error",
        lambda input, target: (np.abs(input - target) + 1e-3, np.sign(input - target)),
        "value",
    ),
    ("huber", lambda input, target, delta: (undefined, delta), "NameError"),  # noqa: F821
    ("huber", lambda input, target: (input, target), "it has no argument `delta`"),
    (
        "binary_cross_entropy_with_logits",
        lambda logits, target, pos_weight=1.0: (
            *binary_cross_entropy_with_logits(logits, target, pos_weight)[:1],
            logistic(logits),
            *binary_cross_entropy_with_logits(logits, target, pos_weight)[2:],
        ),
        "slope of `logits`",
    ),
    (
        "binary_cross_entropy_with_logits",
        lambda logits, target, pos_weight=1.0: binary_cross_entropy_with_logits(
            logits, target, pos_weight
        )[:2],
        "should return 3 results",
    ),
    (
        "logsumexp",
        lambda input, dim=-1, keepdim=False: (
            np.log(np.exp(input - 100).sum(axis=dim, keepdims=keepdim)) + 100
        ),
        "infini",
    ),
    (
        "log_softmax",
        lambda input, dim=-1: (
            input - np.expand_dims(np.log(np.exp(input - 5).sum(axis=dim)) + 5, dim)
        ),
        "infini",
    ),
    ("log_softmax", lambda input, dim=-1: 2 * log_softmax(input, dim), "2 times too large"),
    (
        "nll",
        lambda log_probs, target: (
            -at(log_probs, target)[:, None],
            -one_hot_rows(log_probs, target),
        ),
        "has an axis too many",
    ),
    ("cross_entropy", last_dropped, "only in the last"),
    (
        "cross_entropy",
        lambda logits, target: (
            -at(log_softmax(logits), target),
            2 * (np.exp(log_softmax(logits)) - one_hot_rows(logits, target)),
        ),
        "2 times too large",
    ),
    (
        "cross_entropy",
        lambda logits, target: (
            -at(log_softmax(logits), 0 * target),
            np.exp(log_softmax(logits)) - one_hot_rows(logits, target),
        ),
        "does not depend on `target`",
    ),
    (
        "cross_entropy",
        lambda logits, target: (
            -at(log_softmax(logits), target),
            (np.exp(log_softmax(logits)) - one_hot_rows(logits, target)).T,
        ),
        "transposed",
    ),
    (
        "soft_cross_entropy",
        lambda logits, target: (
            -times(target, log_softmax(logits)).sum(-1, keepdims=True),
            *soft_cross_entropy(logits, target)[1:],
        ),
        "has an axis too many",
    ),
    (
        "smooth_labels",
        lambda target, label_smoothing: (
            target.__imul__(1 - label_smoothing) + label_smoothing / target.shape[-1]
        ),
        "changes its input `target`",
    ),
    (
        "class_weights",
        lambda target, weight, ignored: np.where(ignored, 0, weight[target]),
        "should return 2 results",
    ),
]


@pytest.mark.parametrize("name, function, text", UNSEEN, ids=[f"{name}: {text}" for name, _, text in UNSEEN])
def test_unseen_mistake_is_described(name, function, text):
    said = judged(name, function)
    assert said.mark == WRONG and text in said.text, said


def loops(logits, target):
    values, slopes = [], []
    for row, t in zip(logits, target):
        m = max(row)
        exps = [float(np.exp(x - m)) for x in row]
        values.append(m + np.log(sum(exps)) - row[t])
        slopes.append([e / sum(exps) - (i == t) for i, e in enumerate(exps)])
    return np.array(values), np.array(slopes)


def einsum(logits, target):
    one_hot = np.eye(logits.shape[-1], dtype=logits.dtype)[target]
    logs = log_softmax(logits)
    return -np.einsum("ij,ij->i", one_hot, np.where(one_hot > 0, logs, 0)), np.exp(logs) - one_hot


def taken(logits, target):
    logs = log_softmax(logits.astype(np.float64))
    slope = np.exp(logs)
    np.put_along_axis(slope, target[:, None], np.take_along_axis(slope, target[:, None], -1) - 1,
                      -1)
    return -np.take_along_axis(logs, target[:, None], -1)[:, 0], slope


def branches(input, target, delta):
    value, slope = np.empty_like(input), np.empty_like(input)
    for i in np.ndindex(input.shape):
        e = input[i] - target[i]
        value[i], slope[i] = ((e * e / 2, e) if abs(e) <= delta
                              else (delta * (abs(e) - delta / 2), delta * np.sign(e)))
    return value, slope


def masked_sigmoid(x):
    return np.where(x >= 0, 1 / (1 + np.exp(-np.abs(x))),
                    np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x))))


def soft_plus(logits, target, pos_weight=1.0):
    yes, no = np.logaddexp(0, -logits), np.logaddexp(0, logits)
    value = times(pos_weight * target, yes) + times(1 - target, no)
    return (value,
            (1 - target) * masked_sigmoid(logits) - pos_weight * target * masked_sigmoid(-logits),
            pos_weight * yes - no)


# the same, otherwise: other algebra, loops, einsum, float64 inside, lists, other functions of NumPy
ALTERNATIVES = [
    ("squared_error", lambda input, target: (np.square(input - target), 2 * input - 2 * target)),
    ("squared_error", lambda input, target: ((target - input) ** 2, -2 * (target - input))),
    ("squared_error",
     lambda input, target: [np.power(np.subtract(input, target), 2), 2.0 * (input - target)]),
    ("squared_error",
     lambda input, target: ((input.astype(np.float64) - target) ** 2,
                            2 * (input.astype(np.float64) - target))),
    ("squared_error",
     lambda input, target: (np.einsum("...,...->...", input - target, input - target),
                            (input - target) + (input - target))),
    ("absolute_error",
     lambda input, target: (np.maximum(input - target, target - input), np.sign(input - target))),
    ("absolute_error",
     lambda input, target: (np.sqrt((input - target) ** 2),
                            np.where(input > target, 1.0, np.where(input < target, -1.0, 0.0)))),
    ("absolute_error",
     lambda input, target: (np.abs(target - input),
                            (input > target).astype(input.dtype) - (input < target))),
    ("huber", branches),
    ("huber",
     lambda input, target, delta: (np.where(np.abs(input - target) <= delta,
                                            (input - target) ** 2 / 2,
                                            delta * np.abs(input - target) - delta**2 / 2),
                                   np.clip(input - target, -delta, delta))),
    ("huber",
     lambda input, target, delta: (
         np.minimum(np.abs(input - target), delta) * (
             np.abs(input - target) - np.minimum(np.abs(input - target), delta) / 2),
         np.sign(input - target) * np.minimum(np.abs(input - target), delta))),
    ("smooth_l1",
     lambda input, target, beta: tuple(
         x / beta for x in branches(input, target, beta)) if beta else (
         abs(input - target), np.sign(input - target))),
    ("binary_cross_entropy",
     lambda input, target: (np.where(target == 1, -np.maximum(np.log(input), -100),
                                     binary_cross_entropy(input, target)[0]),
                            binary_cross_entropy(input, target)[1],
                            np.maximum(np.log1p(-input), -100) - np.maximum(np.log(input), -100))),
    ("binary_cross_entropy",
     lambda input, target: (binary_cross_entropy(input, target)[0],
                            (1 - target) * input / np.maximum(
                                input * (1 - input), 1e-12) - target * (
                                1 - input) / np.maximum(input * (1 - input), 1e-12),
                            binary_cross_entropy(input, target)[2])),
    ("binary_cross_entropy_with_logits", soft_plus),
    ("binary_cross_entropy_with_logits",
     lambda logits, target, pos_weight=1.0: tuple(
         x.astype(np.float64) for x in soft_plus(logits.astype(np.float64), target, pos_weight))),
    ("shift",
     lambda input, dim: (input - np.nan_to_num(np.max(input, axis=dim, keepdims=True), neginf=0),
                         np.nan_to_num(np.max(input, axis=dim, keepdims=True), neginf=0))),
    ("logsumexp",
     lambda input, dim=-1, keepdim=False: np.logaddexp.reduce(input, axis=dim, keepdims=keepdim)),
    ("logsumexp",
     lambda input, dim=-1, keepdim=False: input.max(axis=dim, keepdims=keepdim) + np.log(
         np.sum(np.exp(input - input.max(axis=dim, keepdims=True)), axis=dim, keepdims=keepdim))),
    ("logsumexp",
     lambda input, dim=-1, keepdim=False: input.max(axis=dim, keepdims=keepdim) + np.log1p(
         np.exp(input - input.max(axis=dim, keepdims=True)).sum(axis=dim, keepdims=keepdim) - 1)),
    ("log_softmax",
     lambda input, dim=-1: input - np.logaddexp.reduce(input, axis=dim, keepdims=True)),
    ("log_softmax",
     lambda input, dim=-1: np.moveaxis(
         np.array([row - logsumexp(row) for row in np.moveaxis(input, dim, -1)], input.dtype), -1, dim)),
    ("nll",
     lambda log_probs, target: (np.array([-row[t] for row, t in zip(log_probs, target)]),
                                -np.eye(log_probs.shape[-1])[target])),
    ("nll",
     lambda log_probs, target: (-np.take_along_axis(log_probs, target[:, None], 1).ravel(),
                                -one_hot_rows(log_probs, target))),
    ("class_weights",
     lambda target, weight, ignored: (np.take(weight, target) * ~ignored,
                                      (np.take(weight, target)
                                       * ~ignored).astype(np.float64).sum())),
    ("class_weights",
     lambda target, weight, ignored: (
         np.where(ignored, 0, weight[target]),
         float(sum(float(w) for w in np.where(ignored, 0, weight[target]).flat)))),
    ("cross_entropy", loops), ("cross_entropy", einsum), ("cross_entropy", taken),
    ("cross_entropy",
     lambda logits, target: (logsumexp(logits) - at(logits, target),
                             np.exp(logits - logsumexp(logits)[:, None]) - np.eye(
                                 logits.shape[1], dtype=logits.dtype)[target])),
    ("soft_cross_entropy",
     lambda logits, target: (times(target, -log_softmax(logits)).sum(-1),
                             np.exp(log_softmax(logits)) * target.sum(-1)[:, None] - target,
                             -log_softmax(logits))),
    ("soft_cross_entropy",
     lambda logits, target: (np.nansum(np.where(target > 0, -target * log_softmax(logits), 0), axis=1),
                             np.einsum("ij,i->ij", np.exp(log_softmax(logits)),
                                       target.sum(-1)) - target,
                             logsumexp(logits)[:, None] - logits)),
    ("smooth_labels",
     lambda target, label_smoothing: target + label_smoothing * (1 / target.shape[-1] - target)),
    ("smooth_labels",
     lambda target, label_smoothing: target * (1 - label_smoothing) + np.full_like(
         target, label_smoothing / target.shape[1])),]


@pytest.mark.parametrize("name, function", ALTERNATIVES, ids=[f"{name} {i}" for i, (name, _) in enumerate(ALTERNATIVES)])
def test_right_answer_in_another_form_is_accepted(name, function):
    said = judged(name, function)
    assert said.mark == RIGHT, said


def test_enough_of_both():
    assert (len(MISTAKES) >= 60 and len(ALTERNATIVES) >= 25
            and {name for name, _ in ALTERNATIVES} >= {
                e.name for e in find_exercises(PROJECT, LESSON.notebooks[0])})


EXERCISES = [e for path in LESSON.notebooks for e in find_exercises(PROJECT, path)]


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda e: e.name)
def test_exercise_is_complete(exercise):
    """A docstring with an example and what to return, two hints, points, a solution of 2 to 10
    lines, and a check.
    """
    cell = next(c for c in code_cells(read_notebook(PROJECT, LESSON.folder / exercise.notebook))
                if f"def {exercise.name}(" in c.source and "BEGIN SOLUTION" in c.source)
    assert "Returns" in cell.source and "Example" in cell.source, "what to return, and an example"
    assert len(exercise.hints) == 2 and exercise.points >= 1
    assert 1 <= len(solution_lines(cell.source)) <= 10
    assert check_of(exercise.name, np.random.default_rng(0)) is not None


# The whole way, on disk

@pytest.fixture(scope="module")
def edition(tmp_path_factory):
    "The student's edition, as `tito release` makes it."
    folder = tmp_path_factory.mktemp("course") / "student"
    done = tito(ROOT, "release", str(folder))
    assert done.returncode == 0, done.stdout
    return folder


@pytest.fixture
def student(edition, tmp_path):
    "A copy of the student's edition."
    shutil.copytree(edition, tmp_path / "mine")
    return tmp_path / "mine"


def tito(root, *arguments, **more):
    environment = (os.environ
                   | {"PYTHONPATH": str(root), "PYTHONIOENCODING": "utf-8", "COLUMNS": "200"})
    return subprocess.run([sys.executable, "-m", "tinytorch.tito.cli", *arguments], cwd=root,
                          env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, encoding="utf-8", timeout=300, **more)


def write(root, name, body):
    "Fill the blank of an exercise as a student would."
    path = root / "nbs/04_losses/losses_dev.ipynb"
    nb = json.loads(path.read_text(encoding="utf-8"))
    filled = 0
    for cell in nb["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code" and f"def {name}(" in source and "YOUR CODE HERE" in source:
            cell["source"] = source.replace("    # YOUR CODE HERE\n    raise NotImplementedError()",
                                            body).splitlines(True)
            filled += 1
    assert filled == 1
    path.write_text(json.dumps(nb), encoding="utf-8")
    return path


def test_no_solution_is_in_the_edition(edition):
    "Every line of every solution that says something, against every line of every file."
    lines = {line for path in PROJECT.notebooks()
             for cell in code_cells(read_notebook(PROJECT, path))
             for line in solution_lines(cell.source)}
    lines = {line for line in lines if len(line) > 16 and not line.startswith("#")}
    assert len(lines) > 40
    for file in edition.rglob("*"):
        if file.is_file() and ".git" not in file.relative_to(edition).parts:
            text = file.read_text(encoding="utf-8", errors="replace")
            found = [line for line in lines
                     if any(form in text
                            for form in (f" {line}\n", f" {line}\\n",
                                         json.dumps(line)[1:-1] + "\\n"))]
            assert not found, f"{file.relative_to(edition)}: {found}"
    if shutil.which("git"):
        assert "The student's edition" in subprocess.run(
            ["git", "log", "--oneline"], cwd=edition, capture_output=True, text=True).stdout
    assert (not (edition / "tinytorch/checking/mistakes.py").exists()
            and not list(edition.rglob("*mistakes*")))


def test_a_solution_that_is_blank_in_the_package_is_told(monkeypatch):
    "As after `tito reset` and `tito export` in the instructor's edition."
    def blank(*arguments, **options):
        raise NotImplementedError

    monkeypatch.setattr(losses, "shift", blank)
    for name in "shift", "log_softmax":
        with pytest.raises(TitoError, match=f"the solution of {name}, or one that it needs, is blank"):
            made_check(name, np.random.default_rng(0))
    with pytest.raises(TitoError, match="no function that draws its calls"):
        made_check("nothing", np.random.default_rng(0))


def test_edition_is_refused_where_something_is(tmp_path):
    (tmp_path / "mine.txt").write_text("work")
    done = tito(ROOT, "release", str(tmp_path))
    assert (done.returncode == 1 and "is not empty" in done.stdout
            and os.listdir(tmp_path) == ["mine.txt"])


def test_a_student_works(student):
    first = tito(student, "test", "04")
    assert (first.returncode == 1 and "⬜ squared_error" in first.stdout and "❌" not in first.stdout
            and "📈 Progress: 0 of" in first.stdout)
    write(student, "squared_error", "    error = input - target\n    return error * error, error")
    write(student, "cross_entropy",
          "    logs = log_softmax(logits)\n    return -logs[np.arange(len(target)), target], "
          "np.exp(logs)",)
    write(student, "absolute_error", "    return np.abs(input - target), np.sign(input - target)")
    write(student, "nll", "    return (")
    second = tito(student, "test", "04").stdout
    assert ("❌ squared_error: the slope" in second and "2 times too small" in second
            or "half the square" in second or "factor 2" in second)
    assert (
        "squared_error(input=[4.], target=[1.]): the slope of `input` should be [6.], but is [3.]"
        in second
    )
    assert ("🚧 cross_entropy: waits for log_softmax" in second and "✅ absolute_error" in second
            and "❌ nll: SyntaxError in line" in second)
    assert "⬜ huber" in second and "📈 Progress: 1 of" in second
    assert ("04_losses" in tito(student, "status").stdout
            and "1 of" in tito(student, "status").stdout)


def test_hints_come_one_after_the_other(student):
    one, two, again = (tito(student, "hint", "04", "huber").stdout for _ in range(3))
    assert one.startswith("Hint 1 of 2") and two.startswith("Hint 2 of 2") and again == two
    assert "did you mean 'huber'" in tito(student, "hint", "04", "hubert").stdout


def test_solutions_are_the_instructors(student):
    assert "error = input - target" in tito(ROOT, "solution", "04", "squared_error").stdout
    done = tito(student, "solution", "04", "squared_error")
    assert done.returncode == 1 and "no solutions in the student's edition" in done.stdout


def test_reset_changes_one_cell_and_keeps_a_copy(student):
    path = write(student, "squared_error", "    return 1, 2")
    write(student, "absolute_error", "    return np.abs(input - target), np.sign(input - target)")
    nb = json.loads(path.read_text(encoding="utf-8"))
    nb["cells"].append({"cell_type": "code", "id": "mine", "metadata": {}, "source": ["my_own = 1"],
                        "outputs": [], "execution_count": None})
    path.write_text(json.dumps(nb), encoding="utf-8")
    done = tito(student, "reset", "04", "squared_error")
    assert done.returncode == 0, done.stdout
    after = json.loads(path.read_text(encoding="utf-8"))
    changed = [i for i, (a, b) in enumerate(zip(nb["cells"], after["cells"], strict=True))
               if "".join(a["source"]) != "".join(b["source"])]
    assert (len(changed) == 1
            and "raise NotImplementedError()" in "".join(after["cells"][changed[0]]["source"]))
    copies = list((student / ".tito/backups").glob("losses_dev-*.ipynb"))
    assert len(copies) == 1 and json.loads(copies[0].read_text(encoding="utf-8")) == nb


def test_a_loop_without_end_is_named_and_the_others_are_checked(student):
    write(student, "squared_error", "    while True: pass")
    write(student, "absolute_error", "    import os; os._exit(0)")
    write(student, "huber",
          "    error = input - target\n    c = np.clip(error, -delta, delta)\n    return c * "
          "(error - c / 2), c")
    done = tito(student, "test", "04", "--timeout", "15").stdout
    assert ("❌ squared_error: still running after 15 s" in done
            and "❌ absolute_error: it ended the Python process" in done and "✅ huber" in done)


def test_export_uses_the_students_code_and_keeps_their_cells(student):
    path = write(student, "squared_error", "    return 3 * (input - target), input * 0")
    before = path.read_bytes()
    assert tito(student, "export", "04").returncode == 0 and path.read_bytes() == before
    code = "from tinytorch.nn import MSELoss; print(MSELoss()([2.], [1.]).item())"
    done = subprocess.run([sys.executable, "-c", code], cwd=student,
                          env=os.environ | {"PYTHONPATH": str(student)}, capture_output=True,
                          text=True)
    assert done.stdout.strip() == "3.0", done.stderr


def test_watch_checks_again_on_save(student):
    environment = os.environ | {"PYTHONPATH": str(student), "PYTHONIOENCODING": "utf-8",
                                "COLUMNS": "200", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen([sys.executable, "-m", "tinytorch.tito.cli", "test", "04", "-e",
                                "squared_error", "--watch"],
                               cwd=student, env=environment, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True, encoding="utf-8")
    try:
        for line in process.stdout:
            if line.startswith("Watching"):
                write(student, "squared_error",
                      "    error = input - target\n    return error ** 2, 2 * error")
            if "✅ squared_error" in line:
                break
        else:
            raise AssertionError("it ended")
    finally:
        process.kill()
        process.wait()


def test_cells_are_read_by_many_threads():
    """Python 3.11's parser is not safe in threads: a garbage collection in the midst of it lets
    another thread in.
    """
    source = "def f(x):\n" + "".join(f"    y{i} = [x + {i} * (x - (x / (x + {i}))), {{'a': [x]}}]\n"
                                     for i in range(60))
    pause, threshold = sys.getswitchinterval(), gc.get_threshold()
    collected = lambda *_: sum(range(200))
    sys.setswitchinterval(1e-6), gc.set_threshold(50), gc.callbacks.append(collected)
    try:
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(function_names, [source] * 200)) == [["f"]] * 200
    finally:
        sys.setswitchinterval(pause), gc.set_threshold(*threshold), gc.callbacks.remove(collected)


def test_damaged_checks_are_told(student):
    (student / "nbs/04_losses/exercises.json").write_text("{}")
    done = tito(student, "test", "04")
    assert done.returncode == 1 and "exercises.json is damaged" in done.stdout


# A student's work is never lost

@pytest.fixture
def copied(student):
    "Project, module and notebook of a copy of the student's edition, with work in it."
    path = write(student, "squared_error", "    return 1, 2")
    project = Project(student)
    return project, project.find("04"), path


def test_a_full_disk_leaves_the_notebook_as_it_was(copied, monkeypatch):
    project, module, path = copied
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TitoError, match="could not be written, and is as it was: No space left"):
        reset(project, module, "squared_error")
    assert (path.read_bytes() == before and not list(path.parent.glob("*.tmp"))
            and not list(path.parent.glob(".*.tmp")))


def test_saving_meanwhile_is_noticed(copied, monkeypatch):
    project, module, path = copied
    real = progress.write_file

    def meanwhile(file, data):
        "JupyterLab saves after the copy was made."
        real(file, data)
        if file != path:
            path.write_bytes(path.read_bytes().replace(b"return 1, 2", b"return 3, 4"))

    monkeypatch.setattr(progress, "write_file", meanwhile)
    with pytest.raises(TitoError, match="was saved by another program just now"):
        reset(project, module, "squared_error")
    assert b"return 3, 4" in path.read_bytes()


@pytest.mark.parametrize("delay", [0.05, 0.3, 0.5, 0.6, 0.7, 0.9])
def test_a_killed_reset_loses_nothing(copied, delay):
    _, _, path = copied
    before = path.read_bytes()
    environment = os.environ | {"PYTHONPATH": str(path.parents[2])}
    process = subprocess.Popen([sys.executable, "-m", "tinytorch.tito.cli", "reset", "04",
                                "squared_error"],
                               cwd=path.parents[2], env=environment, stdout=subprocess.DEVNULL)
    time.sleep(delay)
    process.kill()
    process.wait()
    after = path.read_bytes()
    assert (after == before
            or b"return 1, 2" not in after and len(json.loads(after)["cells"]) == len(
                json.loads(before)["cells"]))
    if after != before:
        assert any(copy.read_bytes() == before
                   for copy in (path.parents[2] / ".tito/backups").glob("*.ipynb"))


# What the command line says

def lesson(root):
    path = root / "nbs/04_losses/losses_dev.ipynb"
    return path, json.loads(path.read_text(encoding="utf-8"))


def put(root, name, source):
    "Replace the whole cell of an exercise."
    path, nb = lesson(root)
    cell = next(cell for cell in nb["cells"]
                if cell["cell_type"] == "code" and f"def {name}(" in "".join(cell["source"]))
    cell["source"] = source.splitlines(True)
    path.write_text(json.dumps(nb), encoding="utf-8")


def add_cell(root, source):
    path, nb = lesson(root)
    nb["cells"].insert(3,
                       {"cell_type": "code", "id": f"new{len(nb['cells'])}", "metadata": {},
                        "source": [source], "outputs": [], "execution_count": None})
    path.write_text(json.dumps(nb), encoding="utf-8")


ANSWER = "    error = input - target\n    return error * error, 2 * error"
HEAD = "#| exports\ndef squared_error(input, target):\n"


def above_the_raise(root): put(root, "squared_error",
                               f"{HEAD}    error = input - target\n    # YOUR CODE HERE\n    "
                               "raise NotImplementedError()\n    return error * error, 2 * error")


def not_exported(root): put(root, "squared_error", f"def squared_error(input, target):\n{ANSWER}")


def renamed(root): put(root, "squared_error", f"{HEAD.replace('squared_error', 'squared')}{ANSWER}")


def helper(root):
    add_cell(root, "def half(x):\n    return x / 2")
    write(root, "squared_error", "    return half(input), input")


def imported(root):
    add_cell(root, "import math")
    write(root, "squared_error", "    return math.pi * input, input")


def mine(root):
    (root / "nbs/04_losses/mine.py").write_text("def f(x): return x")
    write(root, "squared_error", "    from mine import f\n    return f(input), input")


BLAMED = [(above_the_raise, "Delete that line"),
          (not_exported, "not exported: its first line should be `#| exports`"),
          (renamed, "its cell defines `squared`, but the function must be called `squared_error`"),
          (helper, "`half` is missing: cell [3] defines it, but is not exported"),
          (imported, "`math` is missing: cell [3] imports it"),
          (mine, "`mine.py` stands beside the notebook")]


@pytest.mark.parametrize("spoil, text", BLAMED, ids=[spoil.__name__ for spoil, _ in BLAMED])
def test_the_notebook_is_to_blame(student, spoil, text):
    spoil(student)
    done = tito(student, "test", "04", "squared_error")
    assert (done.returncode == 1 and "❌ squared_error" in done.stdout
            and text in done.stdout), done.stdout


def test_an_exercise_waits_for_what_it_uses_also_alone(student):
    write(student, "log_softmax", "    return logits * 2")
    write(student, "cross_entropy",
          "    logs = log_softmax(logits)\n    return -logs[np.arange(len(target)), target], "
          "np.exp(logs)")
    for arguments in ["04", "-e", "cross_entropy"], ["04", "cross_entropy"], ["cross_entropy"]:
        done = tito(student, "test", *arguments).stdout
        assert "🚧 cross_entropy: waits for log_softmax" in done and "❌" not in done, done


def test_the_first_lines_are_of_this_lesson_and_the_last_is_the_next_step(student):
    write(student, "squared_error", ANSWER)
    write(student, "huber", "    return input, target")
    lines = tito(student, "test", "04").stdout.splitlines()
    assert (lines[0] == "nbs/04_losses/losses_dev.ipynb"
            and "⬜ nbs/04_losses/ranking_losses_dev.ipynb: not begun" in "\n".join(lines))
    assert len(lines) < 45 and lines[-1] == "A hint: tito hint 04 huber"
    tito(student, "reset", "huber")
    assert (
        tito(student, "test", "04").stdout.splitlines()[-1]
        == "Next: absolute_error in nbs/04_losses/losses_dev.ipynb"
    )


def test_all_of_a_notebook_is_to_be_exported(student):
    for exercise in find_exercises(PROJECT, PROJECT.find("04").folder / "losses_dev.ipynb"):
        cell = next(cell
                    for cell in code_cells(
                        read_notebook(PROJECT, PROJECT.find("04").folder / "losses_dev.ipynb"))
                    if f"def {exercise.name}(" in cell.source)
        put(student, exercise.name, cell.source)
    done = tito(student, "test", "losses_dev").stdout
    assert "All 27 points of losses_dev.ipynb" in done and "tito export 04" in done, done


def test_an_endless_loop_is_named_while_it_runs(student):
    write(student, "squared_error", "    while True: pass")
    done = tito(student, "test", "04", "squared_error", "--timeout", "10").stdout
    assert done.index("⏳ squared_error is still running; it is "
                      "stopped after 10 s") < done.index("❌ squared_error")


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.name)
def test_hints_are_plain_text(exercise):
    for hint in exercise.hints:
        text = progress.plain_text(hint)
        assert not set("$\\{}") & set(re.sub(r"`[^`]*`", "", text)), text


def test_hint_without_a_module(student):
    assert (tito(student, "hint", "huber").stdout.startswith("Hint 1 of 2")
            and max(map(len, tito(student, "hint", "huber").stdout.splitlines())) <= 100)


# Markers

@pytest.mark.parametrize("marker", ["###BEGIN SOLUTION", "# BEGIN SOLUTION", "### Begin Solution", "### BEGIN SOLUTIONS", "# BEGIN", "### Begin", "### BEGIN  SOLUTION", "x = 1 ### BEGIN SOLUTION"])
def test_another_spelling_of_a_marker_is_refused(marker):
    with pytest.raises(ValueError, match="is no marker; write `### BEGIN SOLUTION`"):
        exercises_module.blank(f"def f():\n    {marker}\n    return 1\n    ### END SOLUTION")


@pytest.mark.parametrize("end", ["\r\n", "\r", "\n"])
def test_any_end_of_line_is_cut(end):
    nb = {"source": end.join(["def f():", "    ### BEGIN SOLUTION", "    return 1",
                              "    ### END SOLUTION"])}
    assert (
        exercises_module.blank(exercises_module.text_of(nb))
        == "def f():\n    # YOUR CODE HERE\n    raise NotImplementedError()"
    )


# Odd files: one sentence, nothing lost

def test_two_resets_at_once_undo_both(copied):
    _, _, path = copied
    write(path.parents[2], "absolute_error", "    return 3, 4")
    environment = os.environ | {"PYTHONPATH": str(path.parents[2])}
    both = [subprocess.Popen([sys.executable, "-m", "tinytorch.tito.cli", "reset", name],
                 cwd=path.parents[2], env=environment, stdout=subprocess.DEVNULL)
            for name in ("squared_error", "absolute_error")]
    assert [process.wait() for process in both] == [0, 0]
    text = path.read_text(encoding="utf-8")
    assert "return 1, 2" not in text and "return 3, 4" not in text


def test_duplicate_ids_reset_the_right_cell(copied):
    project, module, path = copied
    nb = json.loads(path.read_text(encoding="utf-8"))
    wanted = next(i for i, cell in enumerate(nb["cells"])
                  if "return 1, 2" in "".join(cell["source"]))
    nb["cells"][3]["id"] = nb["cells"][wanted + 1]["id"] = nb["cells"][wanted]["id"]
    path.write_text(json.dumps(nb), encoding="utf-8")
    reset(project, module, "squared_error")
    after = json.loads(path.read_text(encoding="utf-8"))
    assert [i for i, (a, b) in enumerate(zip(nb["cells"], after["cells"], strict=True))
            if a["source"] != b["source"] and "".join(
                a["source"]) != "".join(b["source"])] == [wanted]


ODD = {"half a character": '"\\ud83d"', "deep": "[" * 100_000 + "]" * 100_000,
       "cut": '{"04_losses": {"squ', "a list": "[1, 2]",
       "numbers": '{"huber": -3, "04_losses": 7, "squared_error": {}}',
       "not UTF-8": b"\xff\xfe\x00", "empty": ""}


@pytest.mark.parametrize("case", ODD)
def test_odd_files_of_ours_are_begun_anew(student, case):
    write(student, "squared_error", ANSWER)
    (student / ".tito").mkdir(exist_ok=True)
    for name in "marks.json", "hints.json":
        (student / ".tito" / name).write_bytes(ODD[case] if isinstance(ODD[case], bytes)
                                               else ODD[case].encode())
    for command in ["test", "04", "squared_error"], ["hint", "huber"], ["status"]:
        done = tito(student, *command)
        assert done.returncode == 0 and "Traceback" not in done.stdout, done.stdout
    assert re.search(r"\b1 of \d+ points", done.stdout)


def test_a_folder_where_a_file_should_be(student):
    for name in "marks.json", "hints.json":
        (student / ".tito" / name).mkdir(parents=True)
    for command in ["test", "04", "squared_error"], ["hint", "huber"], ["status"]:
        assert "Traceback" not in tito(student, *command).stdout


@pytest.mark.parametrize("case", ["half a character", "deep", "cut", "not UTF-8"])
def test_an_odd_notebook_is_told_and_left(student, case):
    path, nb = lesson(student)
    nb["cells"][4]["source"] = ["HERE"]
    content = (ODD[case] if isinstance(ODD[case], bytes)
               else json.dumps(nb).replace('"HERE"', ODD[case]).encode())
    path.write_bytes(content)
    for command in ["test", "04"], [
        "reset", "squared_error"], ["hint", "huber"], ["export", "04"], ["status"]:
        done = tito(student, *command)
        assert "Traceback" not in done.stdout and path.read_bytes() == content, done.stdout
        assert command[0] in ("hint", "status") or done.returncode, done.stdout


COMMANDS = {"reset": ["reset", "squared_error"], "export": ["export", "04"],
            "hint": ["hint", "huber"], "test": ["test", "04", "squared_error"]}


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX")
@pytest.mark.parametrize("command", COMMANDS)
def test_random_kills_lose_nothing(copied, command, request):
    """Killed at any moment, a file is as it was or as it should become, and the next command
    works. 100 kills with --slow.
    """
    _, _, path = copied
    root, before = path.parents[2], path.read_bytes()
    package, rng = root / "tinytorch/nn/losses.py", np.random.default_rng()
    environment = os.environ | {"PYTHONPATH": str(root)}
    for _ in range(100 if request.config.getoption("--slow") else 5):
        path.write_bytes(before)
        process = subprocess.Popen([sys.executable, "-m", "tinytorch.tito.cli", *COMMANDS[command]],
                                   cwd=root, env=environment, stdout=subprocess.DEVNULL)
        time.sleep(rng.uniform(0.05, 1.2))
        process.kill()
        process.wait()
        after = path.read_bytes()
        copies = (root / ".tito/backups").glob("*.ipynb")
        assert (after == before
                or json.loads(after) and any(copy.read_bytes() == before for copy in copies))
        compile(package.read_text(encoding="utf-8"), "losses.py", "exec")
    assert tito(root, "status").returncode == 0


def test_the_inputs_of_two_seeds_are_never_the_same():
    "An edition's checks would be a table of the answers that are marked."
    def calls(name, seed):
        return repr([[np.asarray(x).tolist() for x in call.values()] + sorted(options.items())
                     for call, options in check_of(name, np.random.default_rng(seed)).calls])
    names = [e.name for path in LESSON.notebooks for e in find_exercises(PROJECT, path)]
    assert len(names) > 60
    assert [name for name in names if len({calls(name, seed) for seed in range(20)}) < 20] == []


def test_the_results_of_two_seeds_are_never_the_same():
    """Nor would a table do that answers what it does not know with what came out for other inputs,
    or with 0.
    """
    names = [e.name for path in LESSON.notebooks for e in find_exercises(PROJECT, path)]
    for name in names:
        checks = [check_of(name, np.random.default_rng(seed)) for seed in range(12)]
        inputs = [[repr([np.asarray(x).tolist() for x in call.values()] + sorted(options.items()))
                   for call, options in check.calls] for check in checks]
        known = {text for text in inputs[0] if all(text in each for each in inputs)}
        fresh = [[[np.zeros(0) if x is None else x for x in results]
                  for text, results in zip(each, check.expected) if text not in known]
                 for each, check in zip(inputs, checks)]
        texts = {repr([[(x.shape, (1.0 * x).round(6).tolist()) for x in results] for results in each])
                 for each in fresh}
        assert len(texts) == 12, name
        assert all(any(np.nan_to_num(x).any() for results in each for x in results)
                   for each in fresh), name
