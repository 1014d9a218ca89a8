"""Plant small faults in the package, one at a time in a copy of it, and say which no test notices.

    python tests/mutants.py --count 100 --seed 0 --only core/ nn/

Neither mutmut nor cosmic-ray draws a sample by seed and chooses tests by module, and mutmut wraps
each function in another, which the recorder of formulas cannot follow."""
import argparse, ast, contextlib, copy, difflib, multiprocessing, os, random, re, shutil, signal, sys
import tempfile, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

ROOT = Path(__file__).resolve().parent.parent
OTHER = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
         ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn,
         ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And, ast.Add: ast.Sub, ast.Sub: ast.Add,
         ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult, ast.FloorDiv: ast.Mult,
         ast.Mod: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd}
# The tests of what every loss shares come last; these losses stand for the others.
SHARED = ["engine", "engines", "faults", "contract"]
LOSSES = "MSELoss or BCEWith or CrossEntropyLoss or CosineEmb or MultiMargin or TverskyLoss"
# a fault in these must not find loops made without it
COMPILER = {"writer", "loops", "fastmath", "trace"}
SLOW = "long_graphs or memory"


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


def inside(node):
    "Yield the nodes below one, without annotations and the words of messages."
    for name, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if (isinstance(child, ast.AST) and name not in ("annotation", "returns")
                and not isinstance(child, ast.JoinedStr)):
                yield child
                yield from inside(child)


def replaced(source, node, text):
    "Return the source with another text in the place of a node, or without a decorator."
    lines = source.encode().splitlines(keepends=True)
    start = sum(map(len, lines[:node.lineno - 1])) + node.col_offset
    end = sum(map(len, lines[:node.end_lineno - 1])) + node.end_col_offset
    whole = source.encode()
    start = start if text is not None else whole.rindex(b"@", 0, start)
    return (whole[:start] + (text or "").encode() + whole[end:]).decode()


def mutants(path):
    "Yield the sources of a module with one fault in a function or a class."
    source = path.read_text(encoding="utf-8")
    for top in ast.parse(source).body:
        if isinstance(top, (ast.FunctionDef, ast.ClassDef)):
            for node in [top, *inside(top)]:
                for place, text in faults(node):
                    made = replaced(source, place, text)
                    with contextlib.suppress(SyntaxError):
                        compile(made, path.name, "exec")
                        yield path, made


def tests_of(path):
    """Return the test files of a module: its own, or the one that names most of what it exports;
    then the shared ones.
    """
    names = re.findall(r"'(\w+)'",
                       path.read_text(encoding="utf-8").partition("__all__ =")[2].partition("]")[0])
    files = sorted((ROOT / "tests").glob("test_*.py"))
    shared = [f"test_{x}.py" for x in SHARED if path.parent.name in ("core", "nn")]
    texts = {x.name: x.read_text(encoding="utf-8") for x in files if x.name not in shared}
    if shared:      # what starts programs is slow, and about other things
        texts = {name: text for name, text in texts.items() if "tinytorch.tito" not in text}
    near = max(texts,
               key=lambda x: (x == f"test_{path.stem}.py",
                              len(set(re.findall(r"\w+", texts[x])) & set(names))))
    return (([] if f"test_{path.stem}.py" in shared else [near])
            + sorted(shared, key=lambda x: x != f"test_{path.stem}.py"))


class FirstFailure:
    "Tell the first test that fails, as a plugin of pytest."
    def __init__(self, tell): self.tell = tell
    def pytest_runtest_logreport(self, report): self.tell(report.nodeid) if report.failed else None
    def pytest_collectreport(self, report): self.tell(
        f"{report.nodeid} (import)") if report.failed else None


def test(folder, cache, files, losses, pipe):
    """Run test files in a copy of the project, in a process forked from one that has imported
    pytest and Numba.
    """
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.chdir(folder)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1), os.dup2(1, 2)
    os.environ.update(PYTHONPATH=str(folder), PYTHONDONTWRITEBYTECODE="1",
                      TINYTORCH_CACHE=str(cache))
    sys.path.insert(0, str(folder))
    sys.dont_write_bytecode = True
    chosen = f"not ({SLOW}) and (not test_contract or {losses})"
    import pytest
    code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-k", chosen,
                        *[f"tests/{x}" for x in files]],
                       plugins=[FirstFailure(pipe.send)])
    pipe.send("" if code == 0 else f"pytest ended with {code}")


def outcome(folder, path, made, limit, caches, files=None):
    "Return the test that notices a fault, or nothing."
    place, source = folder / path.relative_to(ROOT), path.read_text(encoding="utf-8")
    place.write_text(made, encoding="utf-8")
    cache = (Path(tempfile.mkdtemp(dir=caches)) if path.stem in COMPILER and made != source
             else caches)
    classes = re.findall(r"^class (\w+Loss)\b", source, re.M)[:4]
    ours, theirs = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.Process(target=test,
                                    args=(folder, cache, files or tests_of(path),
                                          " or ".join(classes) or LOSSES, theirs))
    child.start()
    theirs.close()
    try:
        return ours.recv() if ours.poll(limit) else f"still running after {limit} s"
    except EOFError:
        return "the process ended"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.join()
        place.write_text(source, encoding="utf-8")


def report(number, path, made, caught) -> list:
    "Lines about a mutant: the test that caught it, or the fault."
    name = f"{number:4} {path.relative_to(ROOT / 'tinytorch')}: "
    if caught:
        return [name + ("" if caught.startswith(("still", "nothing")) else "caught by ") + caught]
    diff = difflib.unified_diff(path.read_text(encoding="utf-8").splitlines(), made.splitlines(),
                                lineterm="", n=0)
    return [name + "SURVIVED", *list(diff)[2:]]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in ("count", 100), ("seed", 0), ("limit", 300), ("jobs", 2):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--only", nargs="*", default=["core/", "nn/"],
                        help="parts of paths below tinytorch/")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    paths = [x for x in sorted((ROOT / "tinytorch").rglob("*.py"))
             if any(part in x.relative_to(ROOT / "tinytorch").as_posix() for part in options.only)]
    every = [x for path in paths for x in mutants(path)]
    chosen = random.Random(options.seed).sample(every, min(options.count, len(every)))
    import numba, numpy, pytest  # noqa: F401 - each child has them
    with tempfile.TemporaryDirectory() as temporary:
        free, began, survived, sound, late = SimpleQueue(), time.monotonic(), [], {}, 0
        (caches := Path(temporary) / "caches").mkdir(0o700)
        for k in range(options.jobs):
            skip = shutil.ignore_patterns(".*", "__pycache__", "_*s", "*.egg-info")
            free.put(shutil.copytree(ROOT, Path(temporary) / f"copy{k}", ignore=skip))

        def judge(mutant):
            folder = free.get()
            try:
                caught = outcome(folder, *mutant, options.limit, caches)
                if "::" in caught and caught not in sound:
                    path, _ = mutant
                    sound[caught] = not outcome(folder, path, path.read_text(encoding="utf-8"),
                                                options.limit, caches, [caught[6:]])
                return (mutant,
                        caught if sound.get(caught, True) else f"nothing: {caught} fails anyway")
            finally:
                free.put(folder)

        with ThreadPoolExecutor(options.jobs) as pool:
            try:
                for number, (mutant, caught) in enumerate(pool.map(judge, chosen), 1):
                    late += caught.startswith("still running")
                    survived += [mutant] * (not caught or caught.startswith("nothing"))
                    print("\n     ".join(report(number, *mutant, caught)), flush=True)
            except BaseException:        # Ctrl-C, SIGTERM: nobody waits for what still runs
                pool.shutdown(wait=False, cancel_futures=True)
                for child in multiprocessing.active_children():
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(child.pid, signal.SIGKILL)
                raise
        print(f"{len(chosen) - len(survived) - late} of {len(chosen)} caught, {late} undecided "
              f"(out of time), of {len(every)} possible; seed {options.seed}, "
              f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
