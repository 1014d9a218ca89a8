"""What the page's worker does, by CPython: run a lesson's cells, then check its exercises.

Only what Pyodide has can be imported, what is no part of Python only after it was asked for, and
no thread can be started; there is one core. Reads the tasks as JSON from standard input, writes what they gave.
"""
import ast
import json
import os
import runpy
import sys
import threading
from importlib.metadata import packages_distributions

MISSING = {"_multiprocessing", "curses", "tkinter", "resource", "torch"}
OUTSIDE = {"pydoc_data", *packages_distributions()} - {"tinytorch"}


class Guarded:
    """A finder that does not find, for the cells and our package, what Pyodide lacks and the
    packages that were not asked for; what other packages import comes with them.
    """
    packages, own = {"numpy"}, ("<cell",)

    def __init__(self, finder): self.finder = finder

    def __getattr__(self, name): return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        frame, top = sys._getframe(1), name.partition(".")[0]
        while "importlib" in frame.f_code.co_filename: frame = frame.f_back
        hidden = path is None and (top in MISSING or top in OUTSIDE - self.packages)
        if not (hidden and frame.f_code.co_filename.startswith(self.own)):
            return self.finder.find_spec(name, path, target)


def imported(code):
    "The packages that Pyodide finds in the imports of a cell; none if it cannot be read."
    try: nodes = [*ast.walk(ast.parse(code))]
    except SyntaxError: return set()
    return ({name.name.partition(".")[0] for node in nodes if isinstance(node, ast.Import)
             for name in node.names}
            | {node.module.partition(".")[0] for node in nodes
               if isinstance(node, ast.ImportFrom) and node.module})


def refuse(thread):
    raise RuntimeError("can't start new thread")


def main():
    plan = json.load(sys.stdin)
    out, sys.stdout = sys.stdout, sys.stderr
    sys.path.insert(0, plan["package"])
    Guarded.own += (plan["package"],)
    sys.meta_path[:] = map(Guarded, sys.meta_path)
    threading.Thread.start = refuse
    os.cpu_count = lambda: 1
    if hasattr(os, "sched_getaffinity"): del os.sched_getaffinity
    page = runpy.run_path(plan["page"])
    results = []
    for task in plan["tasks"]:
        if "check" in task:
            results.append(json.loads(page["check"](task["check"], task["code"], task["data"])))
        else:
            Guarded.packages |= {*task["packages"]} | imported(task["code"])
            results.append(json.loads(page["run"](task["code"])))
    json.dump(results, out)


if __name__ == "__main__":
    main()
