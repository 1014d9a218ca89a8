"""What the page's worker does, by CPython: run a lesson's cells, then check its exercises.

Only what Pyodide has can be imported, what is no part of Python only after it was asked for, and
no thread can be started. Reads the tasks as JSON from standard input, writes what they gave.
"""
import ast
import json
import runpy
import sys
import threading
from importlib.metadata import packages_distributions

NEEDS = {                  # what comes with a package
    "numpy": {"numpy"}, "scipy": {"scipy"}, "sklearn": {"sklearn", "scipy", "joblib",
                                                        "threadpoolctl"},
    "matplotlib": {"matplotlib", "mpl_toolkits", "pylab", "PIL", "kiwisolver", "cycler", "dateutil",
                   "six", "fontTools", "packaging", "pyparsing", "contourpy"}}
MISSING = {"_multiprocessing", "fcntl", "termios", "curses", "tkinter", "resource"}
OUTSIDE = {*packages_distributions()} - {"tinytorch"}


class Asked:
    "Refuses to import what Pyodide lacks, and what was not asked for."
    packages = {"numpy"}

    def find_spec(self, name, path=None, target=None):
        top, given = name.partition(".")[0], [NEEDS.get(name, set()) for name in self.packages]
        if path is None and top in MISSING | OUTSIDE.difference(*given):
            raise ModuleNotFoundError(f"No module named {top!r}", name=top)


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
    asked = Asked()
    sys.meta_path.insert(0, asked)
    threading.Thread.start = refuse
    page = runpy.run_path(plan["page"])
    results = []
    for task in plan["tasks"]:
        if "check" in task:
            results.append(json.loads(page["check"](task["check"], task["code"], task["data"])))
        else:
            asked.packages |= {*task["packages"]} | imported(task["code"])
            results.append(json.loads(page["run"](task["code"])))
    json.dump(results, out)


if __name__ == "__main__":
    main()
