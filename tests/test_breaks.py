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
     "without the factor 2"),
    ("squared_error", "return error * error, 2 * error", "return np.abs(error), 2 * error",
     "the absolute error"),
    ("squared_error", "error = input - target\n    return error",
     "input -= target\n    error = input\n    return error", "changes its input"),
    ("absolute_error", "np.sign(error)", "np.where(error >= 0, 1, -1)", "1 or -1 at the target"),
    ("huber", "return clipped * (error - 0.5 * clipped), clipped",
     "return 0.5 * error * error, clipped", "the square everywhere"),
    ("smooth_l1", "return slope * (error - 0.5 * clipped), slope",
     "return clipped * (error - 0.5 * clipped), clipped", "Huber's loss"),
    ("binary_cross_entropy", "log_p = np.maximum(np.log(input), -100)",
     "log_p = np.log(np.clip(input, 1e-7, 1))", "a clipped probability"),
    ("binary_cross_entropy", "np.log1p(-input)", "np.log(1 - input)", "use log1p(-p)"),
    ("binary_cross_entropy_with_logits", "q = np.maximum(exp, logits <= 0) / (1 + exp)",
     "q = 1 - p", "1 - p, which rounds to 0"),
    ("binary_cross_entropy_with_logits", "target * pos_weight, if_positive", "target, if_positive",
     "pos_weight left out"),
    ("shift", "input.max(axis=dim, keepdims=True)", "input.max(keepdims=True)",
     "the maximum of the whole array"),
    ("log_softmax", "return shifted - np.log(", "return np.exp(shifted) / (",
     "the softmax without the logarithm"),
    ("nll", "return -log_probs[rows, target], slope", "return -log_probs.mean(axis=-1), slope",
     "an average over every class"),
    ("cross_entropy", "slope[rows, target] -= 1\n    return", "return", "subtract 1 at the target"),
    ("soft_cross_entropy", "-times(target, log_probs).sum(axis=-1)",
     "-times(target, log_probs).mean(axis=-1)", "a mean over the classes"),
    ("soft_cross_entropy", "-times(target, log_probs)", "-(target * log_probs)", "masked class"),
    ("smooth_labels", "/ target.shape[-1]", "", "not divided by the number of classes"),]


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
    assert says in result.stdout, result.stdout
