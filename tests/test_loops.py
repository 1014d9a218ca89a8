"""A formula's loop gives what NumPy gives: every operation that is recorded, at every kind of
number, in every layout.
"""
import warnings
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

import tinytorch
from tinytorch.core import engine
from tinytorch.core.problem import Problem
from tinytorch.core.trace import CLASSES, ROWS, Unknown, Untraceable, broadcast, surroundings
from tinytorch.nn import CrossEntropyLoss

pytest.importorskip("numba")
from tinytorch.core import loops  # noqa: E402

rng = np.random.default_rng(0)
SPECIAL = np.array([0, -0.0, 1, -1, np.inf, -np.inf, np.nan, 1e-45, -1e-40, 3e38, -3e38, 0.5, 2, 3,
                    88, 89, -104, 1e-8])
# longer than a chunk
PAIRS = np.concatenate(
    [rng.normal(size=(2, 1300)), [x.ravel() for x in np.meshgrid(SPECIAL, SPECIAL)]], axis=1)


def alias(x, y):
    a = x - y
    b = a
    b -= 1
    return a * a, b


def in_place(x, y):
    a = x + 1
    a *= y
    np.abs(a, out=a)
    return a, np.exp(np.minimum(x, 3), out=x * 1)


POINTWISE = {"alias": alias, "in place": in_place,
             "extremes": lambda x, y: (np.maximum(x, y), np.minimum(x, y)),
             "extremes of a constant": lambda x, y: (np.maximum(x, 0), np.minimum(1, y)),
             "clip and sign": lambda x, y: (np.clip(x, -1, 1), np.sign(y)),
             "where": lambda x, y: (np.where(x > y, x, -y), np.where(np.isnan(x), 0, y)),
             "truth": lambda x, y: ((x > 0) * y, (x > 0) & (y < 1) | ~(x == y)),
             "truth as a number": lambda x, y: (1 - (x >= 0), np.logical_not(x) * 1.0),
             "powers": lambda x, y: (x**2, np.abs(x)**0.5),
             "more powers": lambda x, y: (x**3, np.abs(x)**y),
             "negative powers": lambda x, y: ((np.abs(x) + 1)**-1, x**0),
             "tanh": lambda x, y: (np.tanh(x), np.expm1(np.minimum(y, 5))),
             "logarithms": lambda x, y: (np.log(x), np.log1p(y)),
             "roots": lambda x, y: (np.sqrt(x), np.reciprocal(y)),
             "constants": lambda x, y: (x * 0 + 1, 1.0 + 0 * y),
             "finite": lambda x, y: (np.isfinite(x) * 1.0, np.isinf(y) * 2.0),
             "division": lambda x, y: (x / y, y / 2), "squares": lambda x, y: (np.square(x), +y),
             "filled": lambda x, y: (np.zeros_like(x) + y, np.ones_like(y) * x)}


def both(formula, *operands, threads=None, **fields):
    """Total, values and slopes by NumPy and by the loop; a warning, such as that of a fallback, is
    an error.
    """
    results = []
    samples = operands[0].shape[:-1] if fields.get("rows") else operands[0].shape
    loops.warned.clear()
    for name in ("numpy", "numba"):
        slope, values = (np.empty(operands[0].shape, operands[0].dtype),
                         np.empty(samples, operands[0].dtype))
        with tinytorch.engine(name), warnings.catch_warnings():
            warnings.simplefilter("error")
            part = engine.run(Problem(formula, operands, samples, operands[0].dtype, **fields),
                              [slope], values, threads=threads)
        results.append((part.total, values, slope))
    return zip(*results)


def assert_same(ours, theirs, dtype):
    # below, digits are lost in both
    rtol, tiny = (1e-5, 1e-37) if dtype == "float32" else (1e-12, 1e-300)
    np.testing.assert_allclose(np.where(np.abs(ours) < tiny, 0, ours),
                               np.where(np.abs(theirs) < tiny, 0, theirs), rtol=rtol)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", POINTWISE)
def test_operations_at_every_kind_of_number(name, dtype):
    with np.errstate(all="ignore"):
        x, y = PAIRS.astype(dtype)
        for ours, theirs in both(POINTWISE[name], x, y):
            assert_same(ours, theirs, dtype)


def temperature(logits, target, *, scale, weight):
    """Uses the number of classes, an option and an array of the classes, a sum, a mean, a smallest
    number and class indices as numbers.
    """
    z = scale * logits - logits.mean(axis=-1, keepdims=True) - np.min(logits, axis=1, keepdims=True)
    total = (weight * z / logits.shape[-1]).sum(axis=1)
    rows = np.arange(len(target))
    slope = np.tanh(z) * weight
    slope[rows, target] += 1
    slope[rows, target] *= 2
    return total + target - z[rows, target], slope


@pytest.mark.parametrize("classes", [1, 2, 7, 40, 1500])
@pytest.mark.parametrize("samples", [1, 3, 700])
def test_row_formulas_for_any_number_of_classes(classes, samples):
    logits, target = rng.normal(size=(samples, classes)), rng.integers(0, classes, samples)
    for scale in 0.5, 3:
        options = {"scale": scale, "weight": rng.uniform(size=classes)}
        for ours, theirs in both(temperature, logits, target, rows=True, options=options):
            np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12)


def branches(x, y, *, power, mode):
    if mode == "plain" and power > 1:
        return x**2 + y, 2 * x
    return (power * x + y if power != 0 else y), x * 0 + power


def test_options_that_decide_are_asked_again():
    x, y = rng.normal(size=(2, 50))
    for power in 2, 0, 1, 3, 0.5, 0, 2:
        for mode in "plain", "other":
            for ours, theirs in both(branches, x, y, options={"power": power, "mode": mode}):
                np.testing.assert_allclose(ours, theirs, rtol=1e-13)


def squared(x, y):
    return (x - y)**2, 2 * (x - y)


LAYOUTS = {"transposed": lambda a: a.T, "strided": lambda a: a[::2, 1::3],
           "reversed": lambda a: a[:, ::-1],
           "one row for all": lambda a: np.broadcast_to(a[0], a.shape),
           "misaligned": lambda a: np.frombuffer(b"x" + a.tobytes(),
                                                 np.uint8)[1:].view(a.dtype).reshape(a.shape),
           "swapped": lambda a: a.astype(">f8"), "narrow": lambda a: a.astype("float16"),
           "whole": lambda a: a.astype(int), "empty": lambda a: a[:0]}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_layouts(layout, threads):
    x, y = rng.normal(size=(2, 300, 400)) * 3
    x, y = LAYOUTS[layout](x), LAYOUTS[layout](y)
    x.flags.writeable = False
    results = []
    for name in ("numpy", "numba"):
        slope, values = np.empty(x.shape), np.empty(x.shape)
        weight = np.broadcast_to(np.arange(x.shape[-1]) % 3.0, x.shape)
        with tinytorch.engine(name), warnings.catch_warnings():
            warnings.simplefilter("error")
            part = engine.run(Problem(squared, (x, y), x.shape, np.dtype(float), weight=weight),
                              [slope], values, 0.5, threads)
        results.append((part.total, values, slope))
    for ours, theirs in zip(*results):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


@pytest.mark.parametrize("place", [0, 70_000, 2_999_999])
def test_a_number_out_of_bounds_is_met_anywhere(place):
    x = rng.uniform(size=3_000_000).astype("float32")
    x[5] = np.nan
    for name in ("numpy", "numba"):
        with tinytorch.engine(name):
            problem = Problem(squared, (x, x), x.shape, x.dtype, bounds=((0.0, 1.0, False), None),
                              weight=np.where(np.isnan(x), 0, 1).astype("float32"))
            assert np.isfinite(engine.run(problem).total)
            before, x[place] = x[place], 1.5
            assert np.isnan(engine.run(problem).total)
            x[place] = before


def test_many_threads_at_once():
    def square(x):
        return x * x + 1, 2 * x

    data = rng.normal(size=(16, 5000))
    with tinytorch.engine("numba"), ThreadPoolExecutor(8) as pool:
        totals = list(pool.map(lambda x: engine.run(Problem(square, (x,), x.shape, x.dtype)).total,
                               data))
    np.testing.assert_allclose(totals, (data**2 + 1).sum(axis=1))


def test_formulas_of_one_name_are_told_apart():
    def make(factor):
        return lambda x: (factor * x, factor + 0 * x)

    x = rng.normal(size=100)
    for factor in 2.0, 3.0:
        for ours, theirs in both(make(factor), x):
            np.testing.assert_allclose(ours, theirs, rtol=1e-12)


@pytest.mark.parametrize("formula", [lambda x: (np.sort(x),), lambda x: (x if x[0] > 0 else -x,), lambda x: (x.real,), lambda x: (np.asarray(x) * 1,),
                                     lambda x: (np.array([float(v) for v in x]),), lambda x: (x @ np.eye(len(x)),), lambda x: (np.cumsum(x),),
                                     lambda x: (x + len(x),), lambda x: (x[::-1],), lambda x: (x * np.arange(len(x)),)])
def test_what_is_not_compiled_runs_with_numpy(formula):
    x = np.arange(1.0, 30.0)
    problem = Problem(formula, (x,), x.shape, x.dtype)
    with tinytorch.engine("numba"), pytest.warns(RuntimeWarning, match="is not compiled"):
        assert engine.run(problem).total == formula(x)[0].sum()


def test_rows_are_never_taken_for_classes():
    "Also where there are as many of them, so that NumPy would combine them."
    assert broadcast((ROWS, CLASSES), (ROWS, 1), (CLASSES,)) == (ROWS, CLASSES)
    with pytest.raises(Untraceable, match="combines arrays of axes"):
        broadcast((ROWS, CLASSES), (ROWS,))


def test_the_largest_of_very_small_numbers():
    logits = np.array([[-1e35, -2e35], [-3e35, -2e35]])
    with tinytorch.engine("numba"), warnings.catch_warnings():
        # a loop that differs from its formula warns, and is not used
        warnings.simplefilter("error")
        assert CrossEntropyLoss(reduction="none")(logits, np.array([0, 1])).data.tolist() == [0, 0]


def test_a_kept_loop_is_not_used_by_another_version(tmp_path, monkeypatch):
    monkeypatch.setattr(loops, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(loops, "execute", lambda path: SimpleNamespace(loop=path))
    before = loops.load_loop("loop = 1")
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / "fastmath.py"
    other.write_text("changed")
    assert loops.load_loop("loop = 1") == before
    monkeypatch.setattr(loops.fastmath, "__file__", str(other))
    assert loops.load_loop("loop = 1") != before


@pytest.mark.parametrize("order, samples", [("apart", (3, 2)), ("turned", (3,)), ("", (3,))])
def test_a_loop_has_the_tiles_that_are_asked_for(order, samples):
    input = np.zeros((samples[0], 4, *samples[1:]), np.float32)
    loss, arguments = CrossEntropyLoss(), (input, np.zeros(samples, int))
    loop = loops.find(loss.problem(*loss.fit(*arguments)), (True, False), False, order)
    assert isinstance(loop, loops.Loop), loop
    assert loop.tiles == order and ("first, last, size" in loop.source) == bool(order)


def test_what_lasts_has_no_surroundings():
    assert surroundings(np.square) == ()
    assert [type(x) for x in surroundings(SimpleNamespace())] == [Unknown]
