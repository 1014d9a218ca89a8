"""Faults that users of other libraries reported, one test for each kind: the right number, or an
error that says what to do.
"""
import asyncio
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import tinytorch
from tinytorch import nn
from tinytorch.checking import blocks_of
from tinytorch.core import engine
from tinytorch.core.problem import Problem
from tinytorch.core.tensor import Tensor
from tinytorch.nn import functional as F
from tinytorch.nn.arguments import check_number
from tinytorch.nn.criterion import LOSSES, Loss, RowLoss
from tinytorch.nn.evaluation import KEPT
from tinytorch.nn.linear_cross_entropy import LinearCrossEntropy

nan = np.nan
nn.__all__                      # imports every module that registers losses
engines = pytest.mark.parametrize(
    "name",
    ["numpy",
     pytest.param("numba", marks=pytest.mark.skipif(not engine.has_numba(), reason="needs Numba"))])


def squared_rows(input, target):
    error = input - target
    return (error * error).sum(axis=-1), 2 * error


class Halved(RowLoss):
    formula = squared_rows

    def problem(self, input, target):
        problem = super().problem(input, target)
        return problem.but(operands=(problem.operands[0], problem.operands[1] / 2))


class WithoutNegatives(RowLoss):
    formula = squared_rows

    def problem(self, input, target):
        problem = super().problem(input, target)
        return problem.but(weight=(target >= 0).all(axis=-1)) if (target < 0).any() else problem


class Doubled(RowLoss):
    formula = squared_rows

    def state(self, *operands, **fields):
        return super().state(operands[0], 2 * operands[1], **fields)


@engines
def test_a_problem_of_ones_own_needs_no_rule(name):
    x, t = np.random.default_rng(0).normal(size=(2, 4, 3))
    with tinytorch.engine(name):
        for loss, target in (Halved("sum"), t / 2), (Doubled("sum"), 2 * t):
            assert [loss(x, t).item()
                    for _ in range(3)] == pytest.approx([((x - target)**2).sum()] * 3)
        loss, positive = WithoutNegatives("sum"), np.abs(t)
        for _ in range(3):
            assert loss(x, positive).item() == pytest.approx(((x - positive)**2).sum())
            assert loss(x, t).item() == pytest.approx((((x - t)**2).sum(1) * (t >= 0).all(1)).sum())


def test_methods_that_state_a_problem_are_known():
    """Whoever overrides a method that the statement of a problem enters is not cached: so all of
    them are listed.
    """
    from tinytorch.nn.criterion import STATING
    x, index = np.random.default_rng(0).normal(size=(4, 3)), np.array([0, 1, 2, 0])
    called = set()

    def note(frame, event, argument):
        if (event == "call" and frame.f_globals.get("__name__") == "tinytorch.nn.criterion"
            and "self" in frame.f_locals):
            called.add(frame.f_code.co_name)

    calls = [(nn.MSELoss(), (x, x)), (nn.BCEWithLogitsLoss(pos_weight=[1., 2., 3.]), (x, x * 0)),
             (nn.CrossEntropyLoss([1., 2., 3.]), (x, index)),
             (nn.CrossEntropyLoss(label_smoothing=0.1, ignore_index=1), (x, index)),
             (nn.CategoricalHingeLoss(), (x, index)), (nn.CosineDistanceLoss(), (x, x))]
    for loss, arguments in calls:
        sys.setprofile(note)
        try:
            loss.problem(*arguments)
        finally:
            sys.setprofile(None)
    assert ({name for name in called if name.isidentifier()}
            - {"check_weight", "check_probabilities"} <= set(STATING))


def test_a_problem_is_immutable():
    problem = nn.MSELoss().problem(np.ones(3), np.zeros(3))
    with pytest.raises(AttributeError):
        problem.weight = np.ones(3)
    assert problem.repeatable and not problem.but(weight=np.ones(3)).repeatable
    assert not problem.but().repeatable and problem.weight is None


@pytest.mark.parametrize("call", [
    lambda x: nn.NLLLoss()(x, [0]), lambda x: nn.KLDivLoss()(x, [[0.5, 0.5]]), lambda x: nn.KLDivLoss(log_target=True)(np.log(x), x),
    lambda x: F.nll_loss(x, [0]), lambda x: nn.CTCLoss()(np.array([x]), [[1]], [1], [1]), lambda x: nn.DPOLoss()(x, -x, -x, -x)])
def test_log_probabilities_are_at_most_0(call):
    with pytest.raises(ValueError, match="must be at most 0.*(CrossEntropyLoss|sum of)"):
        call(np.array([[0.9, 0.1]]))


def test_rounding_of_log_probabilities_is_allowed():
    for dtype in "float16", "float32", "float64":
        logits = np.random.default_rng(0).normal(size=(100, 3)).astype(dtype) * 30
        nn.NLLLoss()(nn.log_softmax(logits), np.zeros(100, int))
        nn.NLLLoss()(logits - nn.logsumexp(logits, keepdim=True), np.zeros(100, int))


CLASSES = ["CrossEntropyLoss", "NLLLoss", "PolyLoss", "GeneralizedCrossEntropyLoss",
           "SparsemaxLoss", "FocalLoss", "CategoricalHingeLoss", "MulticlassPerceptronLoss",
           "ArcFaceLoss"]


@pytest.mark.parametrize("name", CLASSES)
def test_one_class_is_none(name):
    for shape in (5, 1), (1,):
        with pytest.raises(ValueError,
                           match=f"{name}: input has shape .* one class.*BCEWithLogitsLoss"):
            getattr(nn, name)()(np.zeros(shape) - 0.5, np.zeros(shape[:-1], int))
    with pytest.raises(ValueError, match="BCEWithLogitsLoss"):
        nn.CrossEntropyLoss()([[0.3], [-2.0]], [[1.0], [0.0]])


def test_labels_in_the_shape_of_the_scores_are_asked_about():
    with pytest.raises(
        ValueError,
        match=r"input of shape \(3, C\).*the probabilities of the classes of one sample"):
        nn.CrossEntropyLoss()([0.3, 2.0, -1.0], [0, 1, 1])
    assert nn.CrossEntropyLoss()([0.3, 2.0], [0.0, 1.0]).item() == pytest.approx(
        nn.CrossEntropyLoss()([0.3, 2.0], 1).item())


class Quantity(np.ndarray):
    unit = "m"


class Measured:
    units = "m"

    def __array__(self, dtype=None, copy=None):
        return np.ones(2)


@pytest.mark.parametrize("wrong, text", [
    (np.ma.array([1.0, -9999.0], mask=[0, 1]), "masked array.*sample_weight"), ([np.ma.masked, 1.0], "masked array"),
    ([np.ma.array([1.0], mask=[1])], "masked array"), (np.ones(2).view(Quantity), "has the unit m"), (Measured(), "has the unit m"),
    ([Measured()], "has the unit m"), (np.array(["2020-01-01", "2020-01-02"], "M8[D]"), "dates"), (np.array([1, 2], "m8[s]"), "dates"),
    ([Tensor(1.0), Tensor(2.0)], "list of Tensors.*stack"), (["cat", "dog"], "np.unique"), (np.array(["cat", None], object), "np.unique")])
def test_nothing_is_dropped_silently(wrong, text):
    for call in (lambda: nn.MSELoss()(wrong, [1.0, 1.0]), lambda: nn.MSELoss()([1.0, 1.0], wrong),
                 lambda: nn.BCELoss(weight=wrong),
                 lambda: nn.MSELoss()([1.0, 1.0], [1.0, 1.0], sample_weight=wrong)):
        with pytest.raises(TypeError, match=text):
            call()


@engines
def test_foreign_byte_order_and_matrices(name):
    with tinytorch.engine(name):
        with pytest.raises(IndexError, match=r"target\[0\] is -256"):
            nn.CrossEntropyLoss()(np.arange(300.0)[None], np.array([-256], ">i2"))
        assert nn.CrossEntropyLoss()(
            np.arange(300.0)[None], np.array([299], ">i4")).item() == nn.CrossEntropyLoss()(
            np.arange(300.0)[None], [299]).item()
        assert nn.MSELoss()(np.matrix([[1.0, 2.0]]), np.matrix([[1.0, 4.0]])).item() == 2
        weighted = nn.CrossEntropyLoss(np.array([1, 2], ">f8"))([[0.0, 1.0]], [1])
        assert weighted.item() == pytest.approx(nn.CrossEntropyLoss([1.0, 2.0])(
                                                    [[0.0, 1.0]], [1]).item())


@engines
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("size", [3, KEPT + 1])
def test_a_change_of_the_input_never_changes_the_gradient(name, reduction, size):
    x, t = np.random.default_rng(0).normal(size=(2, size, 2)).astype("float32")
    index = np.zeros(size, int)
    upstream = np.ones(size if reduction == "none" else (), "float32")
    with tinytorch.engine(name):
        for loss, target in (nn.MSELoss(reduction), t), (
            nn.CrossEntropyLoss(reduction=reduction),
            index), (nn.BCEWithLogitsLoss(reduction=reduction), t > 0):
            up = (np.ones(x.shape, "float32") if reduction == "none" and loss.rows is False
                  else upstream)
            leaf = Tensor(x.copy(), requires_grad=True)
            loss(leaf, target).backward(up)
            expected, leaf = leaf.grad, Tensor(x.copy(), requires_grad=True)
            result = loss(leaf, target)
            leaf.data[...] = 7
            result.backward(up)
            np.testing.assert_array_equal(leaf.grad, expected)
            leaf.data[...], leaf.grad = 9, None
            if leaf.size <= KEPT:
                result.backward(up)
                np.testing.assert_array_equal(leaf.grad, expected)
            else:
                with pytest.raises(RuntimeError, match="second time.*Call the loss again"):
                    result.backward(up)


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_a_change_of_the_input_of_other_losses(reduction):
    rng = np.random.default_rng(0)
    up = np.ones(2 if reduction == "none" else ())
    log_probs, hidden, weight = (nn.log_softmax(rng.normal(size=(5, 2, 4))),
                                 rng.normal(size=(2, 3)), rng.normal(size=(4, 3)))
    cases = [(lambda x: nn.CTCLoss(reduction=reduction)(x, [[1, 2], [3, 1]], [5, 5], [2, 2]),
              log_probs),
             (lambda x: F.linear_cross_entropy(x, weight, [0, 1], reduction=reduction), hidden),
             (lambda x: nn.InfoNCELoss(reduction=reduction)(x, hidden[::-1]), hidden)]
    for call, x in cases:
        leaf = Tensor(x.copy(), requires_grad=True)
        call(leaf).backward(up)
        expected, leaf = leaf.grad, Tensor(x.copy(), requires_grad=True)
        result = call(leaf)
        for _ in range(2):
            leaf.data[...], leaf.grad = 0.5, None
            result.backward(up)
            np.testing.assert_allclose(leaf.grad, expected)


@pytest.mark.parametrize("name", [name for name, loss in LOSSES.items()])
def test_arguments_in_the_place_of_options(name):
    loss = LOSSES[name]
    if "Linear" not in name:
        with pytest.raises(TypeError, match=rf"Write {name}\(\)\({', '.join(loss.domain)}\)"):
            loss(*[Tensor([1.0, 2.0], requires_grad=True)] * 2)


@pytest.mark.parametrize("loss, target, advice", [
    (nn.BCEWithLogitsLoss(), [0.0, 255.0], "target / 255"), (nn.BCEWithLogitsLoss(), [0.0, 128.0, 255.0], "divided by 255"),
    (nn.BCELoss(), [-1.0, 1.0], r"\(target \+ 1\) / 2"), (nn.BCELoss(), [1.0, 2.0], "target - 1"), (nn.BCELoss(), [0.0, 1.0, 2.0], "CrossEntropyLoss"),
    (nn.BCELoss(), [12.5, 99.0], "divided by 100"), (nn.BCELoss(), [-0.5, 0.5], "MSELoss"), (nn.HingeLoss(), [0.0, 1.0], r"2 \* target - 1"),
    (nn.HingeLoss(), [0.0, 255.0], "127.5"), (nn.HingeLoss(), [0.0, 1.0, 3.0], "CrossEntropyLoss"), (nn.HingeLoss(), [0.5, -0.5], "np.where"),
    (nn.BinaryFocalLoss(), [0.0, 255.0], "target / 255"), (nn.BinaryFocalLoss(), [0.3, 0.6], "target > 0.5")])
def test_advice_follows_from_what_was_seen(loss, target, advice):
    with pytest.raises(ValueError, match=advice):
        loss(np.full(len(target), 0.5), target)


def test_each_thread_and_task_has_its_own_engine():
    first, second, seen = threading.Event(), threading.Event(), {}

    def one():
        with tinytorch.engine("numpy"):
            first.set()
            second.wait(10)
        seen["one"] = engine.chosen

    def two():
        first.wait(10)
        with tinytorch.engine("auto"):
            second.set()
            threads[0].join(10)
            seen["two"] = engine.chosen

    threads = [threading.Thread(target=function) for function in (one, two)]
    before = engine.chosen
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert seen["two"] == "auto" and engine.chosen == before

    async def task(name):
        with tinytorch.engine(name):
            await asyncio.sleep(0)
            return engine.chosen

    async def both():
        return await asyncio.gather(task("numpy"), task("auto"), task("numpy"))

    with ThreadPoolExecutor() as apart:  # another test's browser may hold this thread's event loop
        assert apart.submit(asyncio.run, both()).result() == ["numpy", "auto", "numpy"]
    assert engine.chosen == before


def python(code, **environment):
    "What a new process prints, and its warnings."
    environment = ({key: value for key, value in os.environ.items()
                    if not key.startswith(("TINYTORCH", "XDG"))} | environment)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          env=environment)
    return done.stdout.strip(), done.stderr


COMPILED = """
import tinytorch, numpy as np
from tinytorch.core import engine, loops
from tinytorch.nn import MSELoss
tinytorch.engine('numba')
assert MSELoss()(np.ones(3), np.zeros(3)).item() == 1
print(all(isinstance(loop, loops.Loop) for kinds in loops.LOOPS.values() for pairs in kinds.values() for _, loop in pairs), loops.cache_folder())
"""
needs_numba = pytest.mark.skipif(not engine.has_numba(), reason="needs Numba")


@needs_numba
@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:len(data) // 2], lambda data: data[:-40] + bytes(40), lambda data: b"\0" * len(data)])
def test_a_damaged_cache_is_mended(damage, tmp_path):
    assert python(COMPILED, TINYTORCH_CACHE=str(tmp_path))[0].startswith("True")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {".py", ".nbi", ".nbc", ".sum"} <= {path.suffix for path in files}
    for path in files:
        whole = path.read_bytes()
        path.write_bytes(damage(whole))
        out, errors = python(COMPILED, TINYTORCH_CACHE=str(tmp_path))
        assert out.startswith("True") and "not compiled" not in errors, (path, errors)
        if path.suffix == ".py":
            assert path.read_bytes() == whole


@needs_numba
def test_the_cache_of_a_user_without_a_home_goes_with_the_process(tmp_path):
    "expanduser() fails where neither HOME nor the user's entry is known."
    code = ("import pathlib\ndef fail(self): raise RuntimeError('no "
            "home')\npathlib.Path.expanduser = fail\n" + COMPILED)
    out, _ = python(code, TMPDIR=str(tmp_path))
    assert (out == f"True {tmp_path / os.path.basename(out.split()[1])}"
            and not list(tmp_path.glob("tinytorch-*")))


@needs_numba
@pytest.mark.skipif(os.name == "nt", reason="POSIX modes")
def test_a_cache_that_others_can_write_is_not_used(tmp_path):
    folder = tmp_path / "loops"
    folder.mkdir()
    folder.chmod(0o777)
    out, _ = python(COMPILED, TINYTORCH_CACHE=str(tmp_path))
    assert out.startswith("True") and not out.endswith(str(folder)) and not list(folder.iterdir())


@needs_numba
def test_loops_that_nobody_uses_are_removed(tmp_path):
    python(COMPILED, TINYTORCH_CACHE=str(tmp_path))
    kept = list(tmp_path.rglob("loop_*"))
    for path in kept:
        os.utime(path, (1, 1))
    python("from tinytorch.core.loops import cache_folder; cache_folder()",
           TINYTORCH_CACHE=str(tmp_path))
    assert kept and not list(tmp_path.rglob("loop_*"))


@needs_numba
def test_an_old_loop_that_is_still_used_stays(tmp_path):
    python(COMPILED, TINYTORCH_CACHE=str(tmp_path))
    kept = list(tmp_path.rglob("loop_*"))
    for path in kept:
        if path.suffix != ".sum":
            os.utime(path, (1, 1))
    python("from tinytorch.core.loops import cache_folder; cache_folder()",
           TINYTORCH_CACHE=str(tmp_path))
    assert {".py", ".sum"} <= {path.suffix for path in kept} and all(path.exists() for path in kept)


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such modes")
def test_the_cache_folder_is_the_users_own_whatever_is_usual(tmp_path):
    code = "import os; os.umask(0); from tinytorch.core.loops import cache_folder as f; print(f())"
    folder = tmp_path / "new/loops"
    assert python(code, TINYTORCH_CACHE=str(tmp_path / "new"))[0] == str(folder)
    assert folder.stat().st_mode & 0o777 == 0o700


@needs_numba
def test_a_failure_of_the_compiler_is_told_once_under_auto(monkeypatch):
    from tinytorch.core import loops
    monkeypatch.setattr(loops, "load_loop", lambda source: 1 / 0)
    monkeypatch.setattr(engine, "WORTH", 0)

    def fresh(x):
        return x * 3, 3 + 0 * x

    problem = Problem(fresh, (np.ones(5),), (5,), np.dtype(float))
    with tinytorch.engine("auto"), pytest.warns(
        RuntimeWarning, match="fresh is not compiled: division by zero") as caught:
        assert [engine.run(problem).total for _ in range(3)] == [15.0] * 3
    assert len(caught) == 1


def test_engines_hold_no_formula():
    import gc
    import weakref

    def formula(x):
        return x * 2, 2 + 0 * x

    with tinytorch.engine("numba" if engine.has_numba() else "numpy"):
        engine.run(Problem(formula, (np.ones(5),), (5,), np.dtype(float)))
    with tinytorch.engine("auto"):
        engine.run(Problem(formula, (np.ones(5),), (5,), np.dtype(float)))
    reference = weakref.ref(formula)
    del formula
    gc.collect()
    assert reference() is None


@engines
def test_sums_have_the_same_bits(name):
    "Whatever the number of threads, the size of blocks and what else is computed."
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=(2, 1_500_000)).astype("float32")
    logits, index = rng.normal(size=(3000, 300)).astype("float32"), rng.integers(0, 300, 3000)
    with tinytorch.engine(name):
        for loss, arguments in (nn.MSELoss("sum"), (x, t)), (
            nn.BCEWithLogitsLoss(reduction="sum"),
            (x, t > 0)), (nn.CrossEntropyLoss(reduction="sum"), (logits, index)):
            problem = loss.problem(*arguments)
            totals = {engine.run(problem, threads=n).total for n in (1, 2, 3, 5)}
            for n in 1, 2:
                gradients = [np.empty(arguments[0].shape, "float32"),
                             *[None] * (len(problem.operands) - 1)]
                totals.add(engine.run(problem, gradients, threads=n).total)
            assert len(totals) == 1, (loss, totals)


def test_every_call_takes_sample_weight():
    "A skipped sample with NaN and a wrong label gives what the batch without it gives."
    rng = np.random.default_rng(0)
    x, y, labels, weight = (rng.normal(size=(5, 4)), rng.normal(size=(5, 4)),
                            np.array([0, 1, 1, 0, 1]), np.array([1.0, 0, 1, 1, 1]))
    used = weight > 0
    broken, broken_labels = np.where(used[:, None], x, nan), np.where(used, labels, -9)
    for loss in nn.InfoNCELoss(), nn.InfoNCELoss(
        symmetric=True), nn.NTXentLoss(), nn.InfoNCELoss(reduction="sum"):
        assert loss(broken, y,
                    sample_weight=weight).item() == pytest.approx(loss(x[used], y[used]).item())
    for loss in nn.SupConLoss(), nn.CircleLoss(gamma=4.0), nn.SupConLoss(reduction="none"):
        np.testing.assert_allclose(
            loss(broken, broken_labels, sample_weight=weight).data.reshape(-1)[
                used if loss.reduction == "none" else slice(None)],
            loss(x[used], labels[used]).data.reshape(-1))
    head = nn.AdaptiveLogSoftmaxWithLoss(4, 10, [2, 5], div_value=2.0)
    assert head(broken, broken_labels, sample_weight=weight).loss.item() == pytest.approx(
        head(x[used], labels[used]).loss.item())
    leaf = Tensor(rng.normal(size=(3, 4)), requires_grad=True)
    F.linear_cross_entropy(broken, leaf, broken_labels, sample_weight=weight).backward()
    gradient, leaf.grad = leaf.grad, None
    F.linear_cross_entropy(x[used], leaf, labels[used]).backward()
    np.testing.assert_allclose(gradient, leaf.grad)
    logs = nn.log_softmax(rng.normal(size=(6, 5, 4)))
    some = np.where(used[:, None], logs, nan)
    targets = np.where(used[:, None], [[1, 2], [3, 1], [1, 1], [2, 3], [1, 3]], 99)
    given = nn.CTCLoss()(some, targets, [6] * 5, [2] * 5, sample_weight=weight)
    assert given.item() == pytest.approx(nn.CTCLoss()(logs[:, used], targets[used], [6] * 4,
                                                      [2] * 4).item())
    triplet = nn.TripletMarginWithDistanceLoss()
    assert triplet(broken, y, -y, sample_weight=weight).item() == pytest.approx(
        triplet(x[used], y[used], -y[used]).item())
    both = 0.5 * nn.MSELoss() + nn.L1Loss()
    assert both(broken, y,
                sample_weight=weight).item() == pytest.approx(both(x[used], y[used]).item())
    tasks = nn.MultiTaskLoss({"a": nn.MSELoss(), "b": nn.CrossEntropyLoss()})
    given = tasks({"a": broken, "b": broken}, {"a": y, "b": broken_labels}, sample_weight=weight)
    assert given.item() == pytest.approx(tasks({"a": x[used], "b": x[used]},
                                               {"a": y[used], "b": labels[used]}).item())
    assert F.cross_entropy(
        broken, broken_labels, sample_weight=weight).item() == pytest.approx(
        F.cross_entropy(x[used], labels[used]).item())


@pytest.mark.parametrize("weight, text", [([1.0, 2.0], r"has shape \(2,\)"), ([1.0, -1.0, 1.0], r"sample_weight\[1\] is -1"), ([1.0, nan, 1.0], "is nan"),
                                          ([1.0, np.inf, 1.0], "is inf"), (np.ones((3, 2, 1)), r"\(3, 2, 1\)")])
def test_sample_weights_are_checked(weight, text):
    with pytest.raises(ValueError, match=text):
        nn.MSELoss()(np.ones((3, 2)), np.zeros((3, 2)), sample_weight=weight)
    assert nn.MSELoss()(np.ones((3, 2)), np.zeros((3, 2)), sample_weight=[0, 0, 0]).item() == 0


def test_out_of_bounds_where_it_does_not_count():
    p, t = np.array([0.5, 7.0, nan]), np.array([1.0, 255.0, 0.0])
    for name in ["numpy", *["numba"] * engine.has_numba()]:
        with tinytorch.engine(name):
            expected = pytest.approx(np.log(2))
            assert nn.BCELoss()(p, t, sample_weight=[1, 0, 0]).item() == expected
            assert nn.BCELoss(weight=[1.0, 0.0, 0.0], reduction="sum")(p, t).item() == expected
            assert nn.CrossEntropyLoss()([[0.0, 0.0], [nan, nan]], [1, 300],
                                         sample_weight=[2, 0]).item() == expected
            with pytest.raises(ValueError, match=r"input\[1\] is 7"):
                nn.BCELoss()(p, t, sample_weight=[1, 1, 0])


def test_a_loss_of_ones_own_stays_out_of_the_registry():
    class Toy(Loss):
        formula = squared_rows

    assert "Toy" not in LOSSES


def test_function_along_another_axis_sums_exactly():
    ones = np.zeros((2**25, 2), np.float32)
    np.testing.assert_allclose(nn.logsumexp(ones, dim=0), np.log(2**25), rtol=1e-6)
    leaf = Tensor(np.random.default_rng(0).normal(size=(3, 4, 5)), requires_grad=True)
    for dim in 0, 1, -2:
        expected = np.moveaxis(nn.log_softmax(np.moveaxis(leaf.data, dim, -1)), -1, dim)
        np.testing.assert_allclose(nn.log_softmax(leaf, dim=dim).data, expected)
        for function in (lambda x: nn.log_softmax(x, dim), lambda x: nn.logsumexp(x, dim=dim),
                         lambda x: nn.logsumexp(x, dim, True)):
            leaf.grad, upstream = (
                None, np.cos(np.arange(function(leaf).size)).reshape(function(leaf).shape))
            function(leaf).backward(upstream)
            up, down = leaf.data.copy(), leaf.data.copy()
            up[1, 2, 3] += 1e-6
            down[1, 2, 3] -= 1e-6
            slope = ((function(up) - function(down)) * upstream).sum() / 2e-6
            assert leaf.grad[1, 2, 3] == pytest.approx(slope, rel=1e-6)


def test_a_nan_anywhere_gives_nan_in_losses_that_are_no_single_formula():
    "Those of formulas are held to it by the contract."
    rng = np.random.default_rng(0)
    a, b, c = rng.normal(size=(3, 4, 3))
    head = nn.AdaptiveLogSoftmaxWithLoss(3, 6, [2], div_value=1.0)
    triplet, swapped = (nn.TripletMarginWithDistanceLoss(),
                        nn.TripletMarginWithDistanceLoss(swap=True))
    cases = [(nn.InfoNCELoss(symmetric=True), [a, b]), (nn.NTXentLoss(), [a, b]),
             (lambda x: nn.SupConLoss()(x, [0, 1, 0, 1]), [a]),
             (lambda x: nn.CircleLoss()(x, [0, 1, 0, 1]), [a]), (triplet, [a, b, c]),
             (swapped, [a, b, c]), (0.5 * nn.MSELoss() + nn.L1Loss(), [a, b]),
             (lambda x, w, t: F.linear_cross_entropy(x, w, t),
              [a, rng.normal(size=(5, 3)), np.full((4, 5), 0.2)]),
             (lambda x: head(x, [0, 3, 1, 5]).loss, [a]),
             (lambda x: nn.CTCLoss()(x, [[1, 2], [2, 1]], [4, 4], [2, 2]),
              [nn.log_softmax(rng.normal(size=(4, 2, 3)))])]
    for loss, arguments in cases:
        for which, x in enumerate(arguments):
            for place in np.ndindex(x.shape):
                broken = [y.copy() for y in arguments]
                broken[which][place] = nan
                assert np.isnan(loss(*broken).item()), (loss, which, place)


@engines
def test_equal_vectors_of_any_length_have_the_cosine_1(name):
    with tinytorch.engine(name):
        for features in range(1, 9):
            for size in 1.0, 3.3, 1e20, 1e-20, 1e-30:
                x = np.full((1, features), size, "float32")
                assert (
                    nn.CosineEmbeddingLoss()(x, x, [1]).item()
                    == 0
                    == nn.CosineDistanceLoss()(x, x).item()
                )


def test_a_row_alone_is_added_as_among_others():
    """NumPy adds along one row in another order than along many: the engine never cuts a piece
    down to one row.
    """
    rng = np.random.default_rng(0)
    logits, index = rng.normal(size=(50, 20)).astype("float32"), rng.integers(0, 20, 50)
    with tinytorch.engine("numpy"):
        whole = nn.CrossEntropyLoss(reduction="none")(logits, index).data
        for size in 1, 7, 21, 100:
            with blocks_of(size):
                assert nn.CrossEntropyLoss(
                    reduction="none")(logits, index).data.tobytes() == whole.tobytes()


def test_a_formula_that_changes_its_input_is_stopped():
    def careless(input):
        input -= 1
        return input, input

    x = np.ones(3)
    with tinytorch.engine("numpy"), pytest.raises(
        ValueError, match="careless changes its input. Make a new array"):
        engine.run(Problem(careless, (x,), x.shape, x.dtype))
    assert (x == 1).all()


@pytest.mark.parametrize("command", [["-c", "import tinytorch.checking"], ["-m", "tinytorch_cli", "test", "04"]])
def test_without_assertions_nothing_is_checked(command):
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True,
                          env=os.environ | {"PYTHONOPTIMIZE": "1"})
    assert done.returncode and "PYTHONOPTIMIZE" in done.stderr and "damaged" not in done.stderr


@pytest.mark.parametrize("value", [True, np.nan, 0, 3, "1"])
def test_an_option_that_is_no_number_of_its_range(value):
    with pytest.raises((TypeError, ValueError), match="delta is .* must be"):
        check_number("HuberLoss", "delta", value, 0, 2, open=True)


def test_the_number_that_is_named_is_one_that_counts():
    with pytest.raises(ValueError, match=r"\b7\.5\b") as seen:
        nn.BCELoss()(np.array([3.25, 7.5]), np.array([0.0, 1.0]),
                     sample_weight=np.array([0.0, 1.0]))
    assert "3.25" not in str(seen.value)


@engines
@pytest.mark.parametrize("before, after", [("none", "mean"), ("mean", "none"), ("sum", "none")])
def test_backward_belongs_to_the_call_and_not_to_what_the_loss_became(before, after, name):
    x, t = np.arange(9.0).reshape(3, 3), np.eye(3)
    hidden, layer = np.eye(3), np.ones((3, 3))
    for loss, arguments in ((nn.CosineDistanceLoss(), (x, t)), (nn.MSELoss(), (x, t)),
                            (nn.CrossEntropyLoss(), (x, np.array([0, 1, 2]))),
                            (LinearCrossEntropy(), (hidden, layer, None, np.array([0, 1, 2])))):
        loss.reduction, slopes = before, []
        for later in before, after:
            loss.reduction = before
            leaf = Tensor(arguments[0], requires_grad=True)
            with tinytorch.engine(name):
                loss(leaf, *arguments[1:])
                result = loss(leaf, *arguments[1:])
                loss.reduction = later
                result.backward(np.arange(1.0, 1 + result.size).reshape(result.shape))
            slopes.append(leaf.grad)
        np.testing.assert_array_equal(*slopes)


def test_whole_weights_count_exactly_whatever_the_mean_divides_by():
    input = np.log(np.random.default_rng(0).dirichlet(np.ones(12), 5)).reshape(5, 3, 4)
    target, times = np.exp(input[::-1]), [2, 0, 3, 1, 1]
    found = nn.KLDivLoss("batchmean")(input, target, sample_weight=times).item()
    expected = nn.KLDivLoss("batchmean")(np.repeat(input, times, 0), np.repeat(target, times, 0))
    assert found == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize("swap", [False, True])
def test_a_triplet_of_weight_0_may_hold_nan_and_has_no_slope(swap):
    anchor, positive, negative = np.random.default_rng(0).normal(size=(3, 3, 2))
    leaves = [Tensor(np.where([[0], [1], [0]], nan, x), requires_grad=True)
              for x in (anchor, positive, negative)]
    loss = nn.TripletMarginWithDistanceLoss(swap=swap, margin=9.0)
    loss(*leaves, sample_weight=[1, 0, 2]).backward()
    used = [Tensor(x[[0, 2, 2]], requires_grad=True) for x in (anchor, positive, negative)]
    loss(*used).backward()
    for leaf, part in zip(leaves, used):
        np.testing.assert_allclose(leaf.grad, [part.grad[0], [0, 0], part.grad[1:].sum(0)])
    with pytest.raises(ValueError, match="sample_weight has shape"):
        loss(*leaves, sample_weight=[1, 0])


def test_a_triplet_that_holds_no_numbers_is_named():
    with pytest.raises(TypeError, match="TripletMarginWithDistanceLoss: positive has dtype"):
        nn.TripletMarginWithDistanceLoss()([[1.0]], [["a"]], [[1.0]])
