"""Plant small faults in the package, one at a time in a copy of it, and say which no test notices.

    python tests/mutants.py --count 100 --seed 0 --only core/ nn/

A fault meets the tests that enter its function, first those of the files that speak of it. Which
functions a test enters is seen when its file is first run; `.cache/mutants` keeps that until the
file or the package changes.

Neither mutmut nor cosmic-ray draws a sample by seed and chooses tests by function, and mutmut
wraps each function in another, which the recorder of formulas cannot follow."""
import argparse, ast, contextlib, copy, difflib, hashlib, inspect, json, multiprocessing, os, random
import re, shutil, signal, sys, tempfile, time
from itertools import islice
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OTHER = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
         ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn,
         ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And, ast.Add: ast.Sub, ast.Sub: ast.Add,
         ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult, ast.FloorDiv: ast.Mult,
         ast.Mod: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd}
JUDGED = ["core/", "nn/", "checking", *[f"tito/{name}" for name in (
    "answers", "copies", "exercises", "explain", "feedback", "grade", "judge", "mutants",
    "notebooks", "release", "sandbox", "worker")]]
# a fault in these must not find loops made without it
COMPILER = {"writer", "loops", "fastmath", "trace"}


def changed(node, **fields):
    "Return the source of a node with other fields."
    node = copy.copy(node)
    vars(node).update(fields)
    return f"({ast.unparse(node)})"


def faults(node):
    "Yield (node to replace, its new text) for the faults of one node."
    match node:
        case ast.Compare(ops=[op]) if type(op) in OTHER:
            yield node, changed(node, ops=[OTHER[type(op)]()])
        case ast.BinOp(op=op) | ast.BoolOp(op=op) if type(op) in OTHER:
            yield node, changed(node, op=OTHER[type(op)]())
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield node, f"({ast.unparse(node.operand)})"
        case ast.Constant(value=bool()):
            yield node, str(not node.value)
        case ast.Constant(value=int() | float()):
            yield node, repr(node.value + 1)
        case ast.Return(value=ast.expr()):
            yield node, "return None"
        case ast.Raise() | ast.AugAssign() | ast.Expr(value=ast.Call()) | ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield node, "pass"
        case ast.Call(keywords=keywords):
            for k in keywords:
                yield node, changed(node, keywords=[x for x in keywords if x is not k])
    if isinstance(node, (ast.If, ast.IfExp, ast.While)):
        yield node.test, f"(not ({ast.unparse(node.test)}))"
    for decorator in getattr(node, "decorator_list", []):
        yield decorator, None


def nodes(node, name):
    """Yield each node below one and the method or function it stands in, without annotations and
    the words of messages.
    """
    yield node, name
    for kind, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if (isinstance(child, ast.AST) and kind not in ("annotation", "returns")
                and not isinstance(child, ast.JoinedStr)):
                method = isinstance(node, ast.ClassDef) and getattr(child, "name", "")
                yield from nodes(child, f"{name}.{method}" if method else name)


def replaced(source, node, text):
    "Return the source with another text in the place of a node, or without a decorator."
    lines = source.encode().splitlines(keepends=True)
    start = sum(map(len, lines[:node.lineno - 1])) + node.col_offset
    end = sum(map(len, lines[:node.end_lineno - 1])) + node.end_col_offset
    whole = source.encode()
    start = start if text is not None else whole.rindex(b"@", 0, start)
    return (whole[:start] + (text or "").encode() + whole[end:]).decode()


def places(path):
    "Yield (path, method or function, node, its new text) for the faults of a module."
    for top in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(top, (ast.FunctionDef, ast.ClassDef)):
            for node, name in nodes(top, top.name):
                yield from ((path, name, *fault) for fault in faults(node))


def mutants(every):
    "Yield (path, method or function, source with a fault in it) for those that are Python."
    for path, name, node, text in every:
        made = replaced(path.read_text(encoding="utf-8"), node, text)
        with contextlib.suppress(SyntaxError):
            compile(made, path.name, "exec")
            yield path, name, made


def watch() -> set:
    """Append each function of the package that this process enters to the file named in the
    environment; return the code that is done with.
    """
    import os, sys, threading
    seen, file = set(), open(os.environ["ENTERED"], "ab", buffering=0)

    def profile(frame, event, _):
        code = frame.f_code
        if event == "call" and code not in seen:
            seen.add(code)
            _, ours, name = code.co_filename.rpartition("/tinytorch/")
            if ours:
                file.write(f"{name} {code.co_qualname}\n".encode())
    threading.setprofile(profile)
    sys.setprofile(profile)
    return seen


class Recorder:
    """Record which functions of the package each test enters: itself, in the programs that it
    starts, or in a fixture that it shares.
    """
    def __init__(self):
        self.file, self.seen = Path(os.environ["ENTERED"]), watch()
        self.failed, self.shared, self.found = set(), {}, {}

    def since(self, place=0) -> set:
        "Return the functions entered since the file had that length."
        self.seen.clear()
        return set(self.file.read_bytes()[place:].decode().splitlines())

    def pytest_collection_finish(self):
        self.found[""] = 0, sorted(self.since())     # what every test of the file relies on

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef):
        self.seen.clear()
        place = self.file.stat().st_size
        try:
            return (yield)
        finally:
            if fixturedef.scope != "function":
                self.shared[fixturedef] = self.since(place)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item):
        os.truncate(self.file, 0)
        self.seen.clear()
        began, result = time.monotonic(), (yield)
        fixtures = sum(map(list, item._fixtureinfo.name2fixturedefs.values()), [])
        names = self.since().union(*[self.shared.get(fixture, ()) for fixture in fixtures])
        if item.nodeid not in self.failed:
            self.found[item.nodeid] = time.monotonic() - began, sorted(names)
        return result

    def pytest_runtest_logreport(self, report):
        if not report.passed:
            self.failed.add(report.nodeid)


class Chosen:
    "Run chosen tests in their order; tell each that starts, and the first that fails."
    def __init__(self, tests, tell):
        self.rank, self.tell = {test: k for k, test in enumerate(tests)}, tell

    def pytest_collection_modifyitems(self, items):
        items[:] = sorted((x for x in items if x.nodeid in self.rank),
                          key=lambda x: self.rank[x.nodeid])

    def pytest_runtest_logstart(self, nodeid):
        self.tell((nodeid, False))

    def pytest_runtest_logreport(self, report):
        if report.failed:
            self.tell((report.nodeid, True))

    def pytest_collectreport(self, report):
        if report.failed:
            self.tell((f"the import of {report.nodeid}", True))


def run(folder, cache, file, tests, pipe):
    """Run these tests of a file, or all of them and record them, in a copy of the project, in a
    process forked from one that has imported pytest and Numba.
    """
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.chdir(folder)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1), os.dup2(1, 2)
    os.environ.update(PYTHONPATH=os.pathsep.join([str(folder), str(cache)]),
                      PYTHONDONTWRITEBYTECODE="1", TINYTORCH_CACHE=str(cache / "loops"),
                      ENTERED=str(cache / "entered"))
    sys.path.insert(0, str(folder))
    sys.dont_write_bytecode = True
    plugin = Chosen(tests, pipe.send) if tests else Recorder()
    code = pytest.main(["-q", "-p", "no:cacheprovider", *["-x"] * bool(tests), f"tests/{file}"],
                       plugins=[plugin])
    pipe.send((f"pytest, which ends with {code}" if code else "", True) if tests
              else plugin.found)


@contextlib.contextmanager
def process(*arguments):
    "Do `run` in a process that ends with all that it has started; give the pipe to read from."
    ours, theirs = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.Process(target=run, args=(*arguments, theirs))
    child.start()
    theirs.close()
    try:
        yield ours
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.join()


def recorded(folder, cache, file) -> dict:
    "Return the seconds and the functions of each test of a file that passes."
    package = b"".join(x.read_bytes() for x in sorted((ROOT / "tinytorch").rglob("*.py")))
    name = hashlib.sha256(package + file.read_bytes()).hexdigest()[:20]
    kept, hook = ROOT / f".cache/mutants/{name}.json", cache / "sitecustomize.py"
    if not kept.exists():
        hook.write_text(inspect.getsource(watch) + "\n\nwatch()\n")
        with process(folder, cache, file.name, []) as pipe:
            found = pipe.recv()
        hook.unlink()
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(found))
    return json.loads(kept.read_text())


def near(path, name) -> list:
    """Return the test files that speak of a module or of this function, the nearest first: its
    own, then those that name the function most often, then those that name most of the module.
    """
    names = {x.name for x in ast.parse(path.read_text(encoding="utf-8")).body if hasattr(x, "name")}
    module, top = f"{path.parent.name}.{path.stem} ", name.split(".")[0]

    def nearness(file):
        text = file.read_text(encoding="utf-8")
        words = re.findall(r"\w+", text)
        return (file.stem == f"test_{path.stem}", words.count(top), module in text,
                len(names & set(words)))
    ranked = sorted(((nearness(x), x) for x in ROOT.glob("tests/test_*.py")), reverse=True)
    return [file for (*speaks, _), file in ranked if any(speaks)]


def choose(found, path, name) -> dict:
    """Return the tests, with their seconds, that enter a function or, where none enters it, its
    module; the quick ones first.
    """
    module, entering = path.relative_to(ROOT / "tinytorch").as_posix(), {}
    _, imported = found[""]
    for test, (took, names) in list(found.items())[1:]:
        here = [x.partition(" ")[2] for x in [*names, *imported] if x.startswith(f"{module} ")]
        if here:
            entering[test] = took, any(f"{x}.".startswith(f"{name}.") for x in here)
    quick = sorted(entering, key=entering.get)
    mine = [test for test in quick if entering[test][1]]
    return {test: entering[test][0] for test in mine or quick}


def outcome(folder, cache, file, tests) -> str:
    "Return the test of these that fails, or nothing."
    test, failed = "", False
    with process(folder, cache, file.name, list(tests)) as pipe:
        while not failed:
            if not pipe.poll(60 + 10 * tests.get(test, 0)):
                return f"{test or file.name}, which hangs"
            try:
                test, failed = pipe.recv()
            except EOFError:
                return f"{test or file.name}, whose process ends"
    return test


def caught(folder, cache, path, name, made, seconds) -> tuple:
    "Return the test that notices a fault, or nothing, and how many were run."
    place, source, count, began = folder / path.relative_to(ROOT), path.read_bytes(), 0, 0.0
    for file in near(path, name):
        if began and time.monotonic() - began > seconds:
            break
        tests = choose(recorded(folder, cache, file), path, name)
        began = began or time.monotonic()
        place.write_text(made, encoding="utf-8")
        try:
            test = outcome(folder, cache, file, tests) if tests else ""
        finally:
            place.write_bytes(source)
            if path.stem in COMPILER:
                shutil.rmtree(cache / "loops", ignore_errors=True)
        count += len(tests)
        if test:
            return test, count
    return "", count


def report(number, path, name, made, test, count) -> list:
    "Lines about a mutant: the test that caught it, or the fault."
    title = f"{number:4} {path.relative_to(ROOT / 'tinytorch')} {name}: "
    if test:
        return [f"{title}caught by {test}"]
    diff = difflib.unified_diff(path.read_text(encoding="utf-8").splitlines(), made.splitlines(),
                                lineterm="", n=0)
    return [f"{title}SURVIVED {count} tests", *list(diff)[2:]]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in ("count", 100), ("seed", 0), ("seconds", 100):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--only", nargs="*", default=JUDGED, help="parts of paths in tinytorch/")
    parser.add_argument("--numbers", nargs="*", type=int, help="only these of the sample")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    paths = [x for x in sorted((ROOT / "tinytorch").rglob("*.py"))
             if any(part in x.relative_to(ROOT / "tinytorch").as_posix() for part in options.only)]
    every = [x for path in paths for x in places(path)]
    random.Random(options.seed).shuffle(every)
    chosen = list(islice(mutants(every), options.count))
    import numba, numpy  # noqa: F401 - each child has them
    with tempfile.TemporaryDirectory() as temporary:
        began, survived, cache = time.monotonic(), 0, Path(temporary) / "caches"
        cache.mkdir(0o700)
        skip = shutil.ignore_patterns(".*", "__pycache__", "_*s", "*.egg-info")
        folder = Path(shutil.copytree(ROOT, Path(temporary) / "copy", ignore=skip))
        for number, mutant in enumerate(chosen, 1):
            if not options.numbers or number in options.numbers:
                test, count = caught(folder, cache, *mutant, options.seconds)
                survived += not test
                print("\n     ".join(report(number, *mutant, test, count)), flush=True)
        print(f"{len(chosen) - survived} of {len(chosen)} caught, of {len(every)} possible; "
              f"seed {options.seed}, {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
