"The types that checkers and editors see: the stubs are in step, and mypy and pyright agree on uses."
import json
import os
import runpy
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import tinytorch
from tinytorch import nn
from tinytorch.notebooks.stubs import class_stub, stubs

ROOT = Path(__file__).resolve().parents[1]
USES = ROOT / "tests/uses.py"
STUBS = [ROOT / "tinytorch" / name for name in stubs()]


def needs(checker: str):
    "Skip a test where a checker is missing; in CI it must be there."
    missing = find_spec(checker) is None and os.environ.get("CI") != "true"
    return pytest.mark.skipif(missing, reason=f'needs {checker}: pip install -e ".[typing]"')


def output(folder: Path, *command: str) -> str:
    "Run a checker in a folder, and return what it prints."
    done = subprocess.run([sys.executable, "-m", *command], cwd=folder, capture_output=True,
                          env=os.environ | {"MYPYPATH": str(ROOT)}, encoding="utf-8")
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout


def mypy(folder: Path, *files: Path) -> set:
    "Return the errors that mypy finds, as pairs (file, line)."
    lines = output(folder, "mypy", "--output=json", "--follow-imports=silent",
                   "--cache-dir", str(folder / "cache"), *map(str, files)).splitlines()
    found = [json.loads(line) for line in lines if line.startswith("{")]
    return {(Path(folder, error["file"]).resolve(), error["line"]) for error in found
            if error["severity"] == "error"}


def pyright(_: Path, *files: Path) -> set:
    "Return the errors that pyright finds, as pairs (file, line)."
    version = ".".join(map(str, sys.version_info[:2]))
    said = json.loads(output(ROOT, "pyright", "--outputjson", "--pythonpath", sys.executable,
                             "--pythonversion", version, *map(str, files)))
    assert said["summary"]["filesAnalyzed"] == len(files)
    return {(Path(error["file"]).resolve(), error["range"]["start"]["line"] + 1)
            for error in said["generalDiagnostics"] if error["severity"] == "error"}


def test_stubs_are_in_step():
    for name, text in stubs().items():
        stale = (ROOT / "tinytorch" / name).read_text(encoding="utf-8") != text
        assert not stale, f"tinytorch/{name} differs from the package: run `make export`"


def test_uses_are_right_when_they_run():
    runpy.run_path(str(USES))


@pytest.mark.parametrize("check", [pytest.param(mypy, marks=needs("mypy"), id="mypy"),
                                   pytest.param(pyright, marks=needs("pyright"), id="pyright")])
def test_a_checker_flags_what_is_wrong_and_nothing_else(check, tmp_path):
    lines = USES.read_text(encoding="utf-8").splitlines()
    wrong = {(USES, number) for number, line in enumerate(lines, 1) if line.endswith("# wrong")}
    assert len(wrong) > 10 and check(tmp_path, USES, *STUBS) == wrong


def test_a_class_of_ones_own_is_declared_as_it_is_called():
    class Ratio(nn.Module):
        def __init__(self, floor: float = 1.0, *, name=None):
            self.floor = floor

        def forward(self, input, other):
            return input

    assert class_stub(Ratio, {"Module"}) == "\n    ".join([
        "class Ratio(Module):", "floor: float",
        "def __init__(self, floor: float = 1.0, *, name: Any = None) -> None: ...",
        "def __call__(self, input: ArrayLike, other: Any) -> Tensor: ..."])


def test_dir_lists_each_name_once():
    names = nn.__dir__()
    assert len(names) == len({*names}) and {"MSELoss", "Linear", "functional"} <= {*names}
    assert "engine" in dir(tinytorch) and "engine" not in vars(tinytorch)
