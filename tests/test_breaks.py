"""Break an exported formula in the notebook; `tito test --module 04_losses --notebooks` must fail
and name the mistake.

Each break is a plausible mistake of a student, planted in a copy of the project.
"""
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LESSON = Path("nbs/04_losses/losses_dev.ipynb")

# formula, what stands there, what is planted, what the report must say
BREAKS = [
    ("squared_error", "return error * error, 2 * error", "return error * error, error",
     "squared_error: the slope lacks the factor 2."),
    ("squared_error", "return error * error, 2 * error", "return np.abs(error), 2 * error",
     "squared_error: the value is the absolute error."),
    ("squared_error", "error = input - target\n    return error",
     "input -= target\n    error = input\n    return error",
     "squared_error: it changes its input `input`."),
    ("absolute_error", "np.sign(error)", "np.where(error >= 0, 1, -1)",
     "absolute_error: the slope at the target is 1 or -1."),
    ("huber", "return clipped * (error - 0.5 * clipped), clipped",
     "return 0.5 * error * error, clipped", "huber: the square is kept everywhere."),
    ("smooth_l1", "return slope * (error - 0.5 * clipped), slope",
     "return clipped * (error - 0.5 * clipped), clipped", "smooth_l1: this is Huber's loss."),
    ("binary_cross_entropy", "log_p = np.maximum(np.log(input), -100)",
     "log_p = np.log(np.clip(input, 1e-7, 1))",
     "binary_cross_entropy: the value is wrong only where `input` is 0 and `target` is positive"),
    ("binary_cross_entropy", "np.log1p(-input)", "np.log(1 - input)",
     "binary_cross_entropy: 1 - p rounds to 1 for small p."),
    ("binary_cross_entropy_with_logits", "q = np.maximum(exp, logits <= 0) / (1 + exp)",
     "q = 1 - p", "the slope at the logit 40 for a target of 1 should be [-0.], but is [0.]."),
    ("binary_cross_entropy_with_logits", "target * pos_weight, if_positive", "target, if_positive",
     "binary_cross_entropy_with_logits: pos_weight is not used."),
    ("shift", "input.max(axis=dim, keepdims=True)", "input.max(keepdims=True)",
     "shift: this is the maximum of the whole array."),
    ("log_softmax", "return shifted - np.log(", "return np.exp(shifted) / (",
     "log_softmax: the result has an exponential too much, or lacks a logarithm."),
    ("nll", "return -log_probs[rows, target], slope", "return -log_probs.mean(axis=-1), slope",
     "nll: you averaged over every class."),
    ("cross_entropy", "slope[rows, target] -= 1\n    return", "return",
     "cross_entropy: the slope is the softmax."),
    ("soft_cross_entropy", "-times(target, log_probs).sum(axis=-1)",
     "-times(target, log_probs).mean(axis=-1)",
     "soft_cross_entropy: you took a mean over the classes."),
    ("soft_cross_entropy", "-times(target, log_probs)", "-(target * log_probs)",
     "soft_cross_entropy: a masked class (logit -infinity, target 0) gives NaN."),
    ("smooth_labels", "/ target.shape[-1]", "",
     "smooth_labels: label_smoothing is not divided by the number of classes."),]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    "A copy of what `tito test` needs."
    copy = tmp_path_factory.mktemp("project")
    shutil.copy(ROOT / "settings.ini", copy)
    shutil.copytree(ROOT / "tinytorch", copy / "tinytorch",
                    ignore=shutil.ignore_patterns("__pycache__"))
    (copy / LESSON).parent.mkdir(parents=True)
    for file in (LESSON, *(ROOT / LESSON).parent.glob("*.json"),
                 *(ROOT / LESSON).parent.glob("*.txt")):
        shutil.copy(ROOT / file, copy / LESSON.parent)
    return copy


def tito_test(project):
    environment = (os.environ
                   | {"PYTHONPATH": str(project), "PYTHONIOENCODING": "utf-8", "COLUMNS": "200"})
    return subprocess.run([sys.executable, "-m", "tinytorch.tito.cli", "test", "--module",
                           "04_losses", "--notebooks"],
                          cwd=project, env=environment, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, encoding="utf-8", timeout=600)


@pytest.mark.parametrize("name, right, wrong, says", BREAKS, ids=[f"{b[0]}: {b[3]}" for b in BREAKS])
def test_break_is_named(project, name, right, wrong, says):
    original = (ROOT / LESSON).read_text(encoding="utf-8")
    notebook = json.loads(original)
    planted = 0
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code" and f"\ndef {name}(" in source and right in source:
            cell["source"] = source.replace(right, wrong, 1)
            planted += 1
    assert planted == 1, f"the solution of {name} no longer reads {right!r}; mend this test"
    (project / LESSON).write_text(json.dumps(notebook), encoding="utf-8")
    result = tito_test(project)
    assert result.returncode == 1, result.stdout
    assert f"AssertionError: {says}" in result.stdout, result.stdout
