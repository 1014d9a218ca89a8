"""Kills `tito` at random moments and looks for what is lost: `python tests/kills.py [--times 100]
[COMMAND ...]`.

It works on a copy of the project. After each kill every file must be as it was or as the finished
command leaves it. After every tenth, and the last, the command runs again where the kill left off:
it must succeed, leave what a run that nobody kills leaves, and no folder beside an edition.
"""
import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
IGNORED = shutil.ignore_patterns(".git", ".venv", "__pycache__", ".tito", "_docs", "_proc", "_demo",
                                 "*.egg-info", ".pytest_cache", ".hypothesis")
SOLUTION = "### BEGIN SOLUTION"


class Case:
    "A command, the files that it should change, and the folder it makes."

    def __init__(self, *arguments, changes=(), makes=None, prepare=lambda root: None):
        self.arguments, self.changes, self.makes, self.prepare = arguments, changes, makes, prepare


def stale(*names):
    "Make files differ from what the command writes."
    def prepare(root):
        for name in names:
            with open(root / name, "a", encoding="utf-8") as file:
                file.write("\n# as it was before\n")
    return prepare


def untidy(root):
    "Give a notebook something that cleaning removes."
    path = root / "nbs/04_losses/losses_dev.ipynb"
    nb = json.loads(path.read_text(encoding="utf-8"))
    nb["metadata"]["author"] = "somebody"
    path.write_text(json.dumps(nb), encoding="utf-8")


def handed_in(root):
    (root.parent / "in").mkdir(exist_ok=True)
    for name in "ann", "bob":
        shutil.copy(root / "nbs/04_losses/losses_dev.ipynb", root.parent / f"in/{name}.ipynb")


LOSSES, LESSON = "tinytorch/nn/losses.py", "nbs/04_losses/losses_dev.ipynb"
CASES = {"export": Case("export", "losses_dev", changes=[LOSSES], prepare=stale(LOSSES)),
         "refresh": Case("refresh", "--no-run", "losses_dev", changes=[LESSON], prepare=untidy),
         "reset": Case("reset", "04", "squared_error", changes=[LESSON]),
         "readme": Case("readme", changes=["README.md"], prepare=stale("README.md")),
         "test": Case("test", "04", "squared_error"), "hint": Case("hint", "04", "squared_error"),
         "release": Case("release", "../edition", makes="edition"),
         "grade": Case("grade", "../in", "--out", "../marks", "--notebook", "losses_dev",
                       "--timeout", "60", makes="marks", prepare=handed_in)}


def run(case, root, until=None):
    "Run the command, or kill it after some seconds; return its exit status and what it said."
    process = subprocess.Popen(
        [sys.executable, "-m", "tinytorch.tito.cli", *case.arguments], cwd=root,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"},
        start_new_session=True)
    try:
        _, said = process.communicate(timeout=until)
    except subprocess.TimeoutExpired:
        process.kill()
        _, said = process.communicate()
    return process.returncode, said


def files(folder):
    "The content of the files of a folder, without what commands keep for themselves."
    own = (".tito", "__pycache__", ".git", ".state")
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*")
            if path.is_file() and not set(own) & set(
                path.relative_to(folder).parts) and not path.name.endswith(".tmp")}


def lost(case, root, before, after, parent):
    "What a kill has damaged."
    now = files(root)
    told = [f"{name} is neither old nor new" for name in before
            if now.get(name) not in (before[name], after.get(name))]
    told += [f"{name} appeared" for name in now.keys() - before.keys()]
    if case.makes == "edition" and (made := root.parent / case.makes).exists():
        told += [f"{name} is missing in the edition" for name in parent if name not in files(made)]
    for path in (root / ".tito").rglob("*.json"):
        json.loads(path.read_text(encoding="utf-8"))
    for path in (root / ".tito").rglob("*.ipynb"):      # the copies that `reset` makes
        told += ([f"the copy {path.name} is not whole"]
                 * (path.read_bytes() not in (before[LESSON], after[LESSON])))
    return told


def beside(root):
    "Folders with solutions that nobody asked for."
    return [str(path) for path in root.parent.iterdir()
            if path.name not in (root.name, "in", "marks", "fresh", "edition")]


def clear(case, root, fresh):
    "Put everything back."
    for path in fresh.rglob("*"):
        if path.is_file():
            shutil.copy2(path, root / path.relative_to(fresh))
    if case.makes:
        shutil.rmtree(root.parent / case.makes, ignore_errors=True)


def resumed(name, root, after, made):
    "What is wrong with the run that follows a kill."
    case = CASES[name]
    if case.makes == "edition":                # is whole, if it is there: `lost` has seen to that
        shutil.rmtree(root.parent / case.makes, ignore_errors=True)
    elif case.changes and all(files(root)[name] == after[name] for name in case.changes):
        return []                              # it had done its work
    status, said = run(case, root)
    told = [f"the next run fails: {said.decode()}"] * (status != 0)
    told += [f"{path} is left" for path in beside(root)]
    told += [f"{file} differs after the next run" for file in after
             if files(root).get(file) != after[file]]
    if case.makes and files(root.parent / case.makes).keys() != made.keys():
        told.append(f"the next run makes another {case.makes}")
    return told


def try_one(name, times, chance):
    "Kill one command so often; return what was lost."
    case, told = CASES[name], []
    with tempfile.TemporaryDirectory(prefix="kills-") as home:
        root, fresh = Path(home, "project"), Path(home, "fresh")
        shutil.copytree(ROOT, root, ignore=IGNORED)
        case.prepare(root)
        shutil.copytree(root, fresh, ignore=IGNORED)
        before, begun = files(root), time.monotonic()
        (status, said), seconds = run(case, root), time.monotonic() - begun
        after, made = files(root), files(root.parent / case.makes) if case.makes else {}
        assert status == 0, f"{name} fails by itself: {said.decode()}"
        killed = again = 0
        while killed < times:
            clear(case, root, fresh)
            if run(case, root, chance.uniform(0.1, 1.0) * seconds)[0] < 0:
                killed += 1
                told += lost(case, root, before, after, made)
                if killed % 10 == 0 or killed == times:
                    told, again = told + resumed(name, root, after, made), again + 1
                    print(f"{name}: {killed} so far, {len(told)} faults", flush=True)
    print(f"{name}: {killed} runs killed within {seconds:.1f} s, {again} runs after a kill, "
          f"{len(told)} faults", *sorted(set(told)), sep="\n  ", flush=True)
    return told


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("commands", nargs="*", default=list(CASES), metavar="COMMAND")
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    sys.exit(any([try_one(name, chosen.times, random.Random(chosen.seed))
                  for name in chosen.commands]))
