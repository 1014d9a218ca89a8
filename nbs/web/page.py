"""Runs the cells of a page, and checks its exercises: read by `run.js` into Pyodide, and by the tests."""
import ast
import base64
import io
import json
import linecache
import os
import sys
import traceback
import types

os.environ["MPLBACKEND"] = "agg"
sys.modules["__main__"] = types.ModuleType("__main__")
NAMES = vars(sys.modules["__main__"])      # what the cells have defined
CELLS = []                                 # their sources, which tracebacks and `inspect` read


def compiled(code, tree=None, kind="exec"):
    "Compile a cell; its file name is its number."
    if tree is None:
        CELLS.append(f"<cell {len(CELLS) + 1}>")
        linecache.cache[CELLS[-1]] = len(code), None, code.splitlines(True), CELLS[-1]
    return compile(code if tree is None else tree, CELLS[-1], kind, dont_inherit=True,
                   flags=ast.PyCF_ONLY_AST if tree is None else 0)


def execute(code):
    "Run a cell; return the value of its last line, None if that is no expression or ends in `;`."
    tree, last = compiled(code), None
    if tree.body and isinstance(tree.body[-1], ast.Expr):
        last = ast.Expression(tree.body.pop().value)
    exec(compiled(code, tree), NAMES)
    value = eval(compiled(code, last, "eval"), NAMES) if last else None
    return None if code.rstrip().endswith(";") else value


def said(error):
    "An error as a traceback that begins in the reader's cell."
    frames = traceback.extract_tb(error.__traceback__)
    first = next((i for i, frame in enumerate(frames) if frame.filename in CELLS), len(frames))
    shown = traceback.TracebackException.from_exception(error)
    shown.stack = traceback.StackSummary.from_list(frames[first:])
    return "".join(shown.format(chain=False)).removeprefix("Traceback (most recent call last):\n")


def figures():
    "The open figures of matplotlib as PNG, with the descriptions of the plotting functions."
    if "matplotlib.pyplot" not in sys.modules:
        return []
    import matplotlib.pyplot as plt
    found = []
    for figure in map(plt.figure, plt.get_fignums()):
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=80)
        found.append({"png": base64.b64encode(file.getvalue()).decode(),
                      "alt": getattr(figure, "alt", "")})
    plt.close("all")
    return found


def shown(value):
    "What a notebook shows of a value: a chart, HTML, or text."
    chart = getattr(value, "_repr_mimebundle_", dict)().get("application/vnd.vegalite.v5+json")
    markup = getattr(value, "_repr_html_", lambda: None)()
    if chart:
        return [{"chart": json.dumps(chart)}]
    return [{"html": markup} if markup else {"text": repr(value)}] if value is not None else []


def run(code):
    "Run a cell; return as JSON what it shows, at the end whether it went well."
    try:
        found = shown(execute(code)) + figures() + [{"done": True}]
    except BaseException as error:
        found = [{"text": said(error), "error": True}, {"done": False}]
    sys.stdout.flush()
    sys.stderr.flush()
    return json.dumps(found)


def answered(code, name):
    "The function that an answer defines, with what the cells before it have defined."
    names = {key: value for key, value in NAMES.items() if key != name}
    exec(compile(compiled(code), CELLS[-1], "exec"), names)
    if name not in names:
        raise NameError(f"the answer does not define {name}. Keep the line `def {name}...`.")
    return names[name]


def check(name, code, data):
    """Judge the answer to an exercise, whose check is `data`; return the verdict as JSON.

    Later cells use a right answer; a wrong one changes nothing for them.
    """
    from tinytorch.checking.answers import describe_error
    from tinytorch.checking.checks import from_data
    from tinytorch.checking.judge import RIGHT, judged, verdict
    known = from_data(json.loads(data))
    try:
        function = answered(code, name)
    except BaseException as error:
        found = verdict(known, [{"missing": describe_error(error)}])
    else:
        found = judged(known, function)
    if found.mark == RIGHT:
        exec(compile(code, CELLS[-1], "exec"), NAMES)
        found.text = (f"right in {len(known.calls)} calls, {len(known.mistakes)} known mistakes "
                      "ruled out")
    return json.dumps({"mark": found.mark, "text": found.text, "example": found.example,
                       "fix": found.fix})
