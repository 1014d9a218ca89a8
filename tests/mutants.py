"""Plant small faults in the package, one at a time in a copy of it, and say which no test notices.

    python tests/mutants.py --count 100 --seed 0 --only core/ nn/

A fault meets the tests that speak of its function, then the others of the files that speak of its
module. A test that fails without the fault counts as none. What has become of each is kept in
`.cache/mutants`, so that a sample can be run in parts: `--numbers 1 2 3`. Faults that change
nothing that anybody could see stand in `equivalent_mutants.json`, each with the reason.

Neither mutmut nor cosmic-ray draws a sample by seed and chooses tests by function, and mutmut
wraps each function in another, which the recorder of formulas cannot follow."""
import argparse, ast, contextlib, copy, hashlib, importlib, inspect, json
import multiprocessing, os, re, shutil, signal, sys, tempfile, time
from collections import Counter
from dataclasses import dataclass, field
from itertools import groupby, islice
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BATCH = 5                                  # faults, after which what was found is kept
WORDS = "caught", "equivalent", "survived", "undecided", "not run"
EQUIVALENT = ROOT / "tests/equivalent_mutants.json"
OTHER = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
         ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn,
         ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And, ast.Add: ast.Sub, ast.Sub: ast.Add,
         ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult, ast.FloorDiv: ast.Mult,
         ast.Mod: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd}
JUDGED = ["core/", "nn/", "checking/", "notebooks/", "exercises/", "grading/"]
# a fault in these must not find loops made without it, nor leave its own
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


@dataclass
class Fault:
    "A small change of the package: where, by what words it is known, and the module with it."
    path: Path
    function: str
    text: str
    source: str = field(repr=False)

    def __str__(self):
        return f"{self.path.relative_to(ROOT / 'tinytorch').as_posix()} {self.function}: {self.text}"

    @property
    def basis(self) -> str:
        return hashlib.sha256(self.path.read_bytes()).hexdigest()[:16]


def places(path):
    "Yield (function, line and change in words, node, its new text) for the faults of a module."
    source = path.read_text(encoding="utf-8")
    lines, seen = source.split("\n"), Counter()
    for top in ast.parse(source).body:
        if isinstance(top, (ast.FunctionDef, ast.ClassDef)):
            for node, name in nodes(top, top.name):
                for old, new in faults(node):
                    text = f"{lines[old.lineno - 1].strip()} | {ast.unparse(old)} -> {new}"
                    seen[name, text] += 1
                    number = seen[name, text]
                    yield name, text + f" ({number})" * (number > 1), old, new


def sample(paths: list, seed: int):
    """Yield the faults of these modules that are Python, in an order that the seed and the words
    of each fault give: an edit elsewhere in the package leaves the others in their order.
    """
    every = [(path, *place) for path in paths for place in places(path)]

    def rank(place):
        return hashlib.sha256(f"{seed} {place[0].stem} {place[1]} {place[2]}".encode()).digest()

    for path, name, text, node, new in sorted(every, key=rank):
        made = replaced(path.read_text(encoding="utf-8"), node, new)
        with contextlib.suppress(SyntaxError):
            compile(made, path.name, "exec")
            yield Fault(path, name, text, made)


class Collector:
    "Collect the tests, each with the text in which names are looked for."
    def __init__(self):
        self.found = []

    def pytest_collection_finish(self, session):
        for item in session.items:
            code = inspect.getsource(item.function) if hasattr(item, "function") else ""
            self.found.append((item.nodeid, squeezed(item.nodeid + code)))


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


def run(folder, cache, tests, pipe):
    """Run these tests, all of one file, or collect all tests, in a copy of the project, in a
    process forked from one that has imported pytest and Numba.
    """
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.chdir(folder)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1), os.dup2(1, 2)
    os.environ.update(PYTHONPATH=str(folder), PYTHONDONTWRITEBYTECODE="1",
                      TINYTORCH_CACHE=str(cache), PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    sys.path.insert(0, str(folder))
    sys.dont_write_bytecode = True
    plugin = Chosen(tests, pipe.send) if tests else Collector()
    what = ["-x", tests[0].partition("::")[0]] if tests else ["--collect-only", "tests"]
    code = pytest.main(["-q", "-p", "no:cacheprovider", *what], plugins=[plugin])
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


def squeezed(name: str) -> str:
    "Return a name as it is compared: HuberLoss and huber_loss are the same."
    return name.replace("_", "").lower()


def near(path, name, found) -> list:
    """Return the tests for a function, those of a file together, the nearest file first: of the
    files that speak of its module all, those that name the function, its class or its method first;
    of other files only those. Where that is none, the tests for the modules that import this one.
    """
    names = {x.name for x in ast.parse(path.read_text(encoding="utf-8")).body if hasattr(x, "name")}
    words, ranked = {squeezed(x) for x in name.split(".") if not x.startswith("__")}, []
    for file, tests in groupby(found, key=lambda test: test[0].partition("::")[0]):
        text, tests = (ROOT / file).read_text(encoding="utf-8"), list(tests)
        naming = {test: sum(word in said for word in words) for test, said in tests}
        nearness = (Path(file).stem == f"test_{path.stem}",
                    f"{path.parent.name}.{path.stem} " in text,
                    len(names & set(re.findall(r"\w+", text))), sum(map(bool, naming.values())))
        chosen = sorted((test for test in naming if naming[test] or any(nearness[:3])),
                        key=lambda test: -naming[test])
        ranked += [(nearness, chosen)] if chosen else []
    if not ranked:
        using = [x for x in path.parent.glob("*.py") if f".{path.stem} import" in x.read_text()]
        return [tests for x in using for tests in near(x, x.stem, found)]
    return [chosen for _, chosen in sorted(ranked, reverse=True)]


def test_in(said: str) -> str:
    "Return the name of the test in what is said of it."
    return re.sub(r"^caught by |, (which hangs|whose process ends|which ends with .*)$", "", said)


def outcome(folder, cache, tests, until) -> tuple:
    """Return the test of these that fails, or nothing, and whether the time has sufficed.

    No word for five minutes means that a test hangs.
    """
    test, failed = "", False
    with process(folder, cache, tests) as pipe:
        while not failed:
            if not pipe.poll(min(300, until - time.monotonic() + 1)):
                late = time.monotonic() > until
                return ("", False) if late else (f"{test}, which hangs", True)
            try:
                test, failed = pipe.recv()
            except EOFError:
                return f"{test}, whose process ends", True
    return test, True


class Planted:
    "The copy of the project that faults are planted in, one at a time."
    def __init__(self, home: Path):
        skip = shutil.ignore_patterns(".*", "__pycache__", "_*s", "*.egg-info")
        self.folder, self.cache = Path(shutil.copytree(ROOT, home / "copy", ignore=skip)), home / "loops"
        with process(self.folder, self.cache, []) as pipe:
            self.tests = pipe.recv()

    @contextlib.contextmanager
    def fault(self, fault):
        place = self.folder / fault.path.relative_to(ROOT)
        before, loops = place.read_bytes(), self.cache
        self.cache = loops.with_name("others") if fault.path.stem in COMPILER else loops
        place.write_text(fault.source, encoding="utf-8")
        try:
            yield
        finally:
            place.write_bytes(before)
            shutil.rmtree(loops.with_name("others"), ignore_errors=True)
            self.cache = loops

    def met(self, fault, seconds: float) -> str:
        "Return what became of a fault."
        until, count = time.monotonic() + seconds, 0
        for tests in near(fault.path, fault.function, self.tests):
            with self.fault(fault):
                test, enough = outcome(self.folder, self.cache, tests, until)
            if test:
                return f"caught by {test}"
            if not enough:
                return f"undecided after more than {count} tests"
            count += len(tests)
        return f"survived {count} tests"

    def fails(self, tests: list) -> set:
        "Return which of these tests fail, or bring no other news, without any fault."
        found = set()
        for _, group in groupby(sorted(tests), key=lambda test: test.partition("::")[0]):
            group = list(group)
            while group:
                said, _ = outcome(self.folder, self.cache, group, time.monotonic() + 3600)
                test = test_in(said)
                found |= {test} if test in group else set(group) if said else set()
                group = group[group.index(test) + 1:] if test in group else []
        return found


class Kept:
    "What became of faults in earlier runs, as long as the module and the test stay as they are."
    file = ROOT / ".cache/mutants/outcomes.json"

    def __init__(self):
        self.all = json.loads(self.file.read_text()) if self.file.exists() else {}

    def basis(self, fault, said: str) -> list:
        test = ROOT / test_in(said).partition("::")[0]
        return [fault.basis, hashlib.sha256(test.read_bytes()).hexdigest()[:16]
                if said.startswith("caught by tests/") and test.is_file() else ""]

    def get(self, fault) -> str:
        said, *basis = self.all.get(str(fault), [""])
        return said if said and basis == self.basis(fault, said) else ""

    def put(self, fault, said: str) -> None:
        self.all[str(fault)] = [said, *self.basis(fault, said)]
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(json.dumps(self.all, indent=1, ensure_ascii=False))


def run_batch(planted, kept, chosen: list, outcomes: list, batch: list, seconds: float) -> None:
    "Run some of the sample, and then, without a fault, the tests that have caught them."
    for i in batch:
        outcomes[i] = planted.met(chosen[i], seconds)
        print(f"{i + 1:4} {outcomes[i]}", flush=True)
    caught = {i: test_in(outcomes[i]) for i in batch if outcomes[i].startswith("caught by tests/")}
    fails = planted.fails(list(set(caught.values())))
    for i in batch:
        if caught.get(i) in fails:
            outcomes[i] = f"undecided: {caught[i]} fails without it, too"
        kept.put(chosen[i], outcomes[i])


def settled(chosen: list, options) -> list:
    "Return what has become of each fault; run those that are asked for, or are not caught so far."
    equivalent, kept = json.loads(EQUIVALENT.read_text(encoding="utf-8")), Kept()
    outcomes = [f"equivalent: {equivalent[str(fault)]}" if str(fault) in equivalent
                else kept.get(fault) or "not run" for fault in chosen]
    todo = [i for i, said in enumerate(outcomes) if (
        i + 1 in options.numbers if options.numbers is not None
        else not said.startswith(("caught", "equivalent")))]
    if todo:
        for name in "numba", "torch", "hypothesis", "matplotlib.pyplot":       # each child has them
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
        with tempfile.TemporaryDirectory() as temporary:
            planted = Planted(Path(temporary))
            for start in range(0, len(todo), BATCH):
                run_batch(planted, kept, chosen, outcomes, todo[start:start + BATCH], options.seconds)
    return outcomes


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in ("count", 100), ("seed", 0), ("seconds", 300):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--only", nargs="*", default=JUDGED, help="parts of paths in tinytorch/")
    parser.add_argument("--numbers", nargs="*", type=int,
                        help="run only these of the sample; the default is those not caught so far")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    paths = [x for x in sorted((ROOT / "tinytorch").rglob("*.py"))
             if any(part in x.relative_to(ROOT / "tinytorch").as_posix() for part in options.only)]
    chosen = list(islice(sample(paths, options.seed), options.count))
    outcomes = settled(chosen, options)
    for number, (fault, said) in enumerate(zip(chosen, outcomes), 1):
        print(f"{number:4} {fault}\n     {said}")
    score = Counter(re.match(r"not run|\w+", said)[0] for said in outcomes)
    print(f"{len(chosen)} faults of seed {options.seed}: "
          + ", ".join(f"{score[word]} {word}" for word in WORDS))


if __name__ == "__main__":
    main()
