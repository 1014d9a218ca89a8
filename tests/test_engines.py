"""Who runs a formula: `tinytorch.engine`, the environment variable, 'auto', the cache on disk, and
the shortcuts of a loss.
"""
import copy
import os
import pickle
import subprocess
import sys
import types
import warnings
import weakref

import numpy as np
import pytest

import tinytorch
from tinytorch.core import engine
from tinytorch.core.problem import Problem
from tinytorch.core.tensor import Tensor
from tinytorch.nn.criterion import Loss
from tinytorch.nn.evaluation import in_dtype
from tinytorch.nn import BCELoss, CrossEntropyLoss, HingeLoss, HuberLoss, MSELoss, NLLLoss, SmoothL1Loss

needs_numba = pytest.mark.skipif(not engine.has_numba(),
                                 reason="needs Numba: pip install 'tinytorch-losses[fast]'")
rng = np.random.default_rng(0)


def loss_and_gradient(loss, input, target, name=None):
    with tinytorch.engine(name or engine.chosen):
        x = Tensor(input, requires_grad=True)
        result = loss(x, target)
        result.sum().backward()
    return result.data, x.grad


@pytest.mark.parametrize("size", [3, 40_000], ids=["kept", "handed over"])
@pytest.mark.parametrize("above", [1, 2, 3.0, -0.5, 0])
def test_what_comes_from_above_multiplies_the_gradient(above, size):
    input, target = rng.normal(size=(2, size))
    expected = above * loss_and_gradient(MSELoss(), input, target)[1]
    for _ in range(2):                         # the second call may take a shortcut
        x = Tensor(input, requires_grad=True)
        MSELoss()(x, target).backward(np.float64(above))
        assert np.array_equal(x.grad, expected)


def python(code, **environment):
    "What a new process prints."
    environment = ({key: value for key, value in os.environ.items()
                    if not key.startswith("TINYTORCH")} | environment)
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True,
                          text=True, env=environment)
    return done.stdout.strip() + done.stderr.strip().rsplit("\n", 1)[-1]


@pytest.mark.parametrize("name", ["numpy", pytest.param("numba", marks=needs_numba)])
@pytest.mark.parametrize("shape", [(5, 3), (2, 3, 4)])
def test_nll_reads_only_what_its_targets_pick(name, shape):
    log_probs, target = -rng.exponential(size=shape), rng.integers(0, 3, shape[:1] + shape[2:])
    wrong = np.where(np.arange(3).reshape(3, *[1] * len(shape[2:])) == target[:, None], log_probs, 7)
    value, gradient = loss_and_gradient(NLLLoss(), wrong, target, name)
    expected, slope = loss_and_gradient(NLLLoss(), log_probs, target, name)
    assert value == expected and np.array_equal(gradient, slope)
    wrong = np.where(wrong == 7, log_probs, 0.5)
    with tinytorch.engine(name), pytest.raises(ValueError, match=r"is 0\.5, but it must be at most 0"):
        NLLLoss()(wrong, target)


def test_engine_is_a_call_and_a_context():
    before = engine.chosen
    with tinytorch.engine("numpy"):
        with tinytorch.engine("auto"):
            assert engine.chosen == "auto"
        assert engine.chosen == "numpy"
        with pytest.raises(ZeroDivisionError), tinytorch.engine("auto"):
            1 / 0
        assert engine.chosen == "numpy"
    assert engine.chosen == before
    choice = tinytorch.engine("numpy")
    assert engine.chosen == "numpy" and repr(choice) == "engine('numpy')"
    tinytorch.engine(before)
    with pytest.raises(ValueError,
                       match="engine is 'cuda', but it must be one of 'auto', 'numpy', 'numba'"):
        tinytorch.engine("cuda")
    assert engine.chosen == before


@pytest.mark.parametrize("name", ["numpy", "auto"])
def test_environment_variable_chooses(name):
    assert python("from tinytorch.core import engine; print(engine.chosen)",
                  TINYTORCH_ENGINE=name) == name


def test_unknown_engine_in_the_environment_is_named():
    code = "from tinytorch.nn import MSELoss; MSELoss()([1.], [2.])"
    assert "engine is 'fortran', but it must be one of" in python(code, TINYTORCH_ENGINE="fortran")


HIDE = ("import sys; sys.modules['numba'] = None; import importlib.util; importlib.util.find_spec "
        "= lambda name: None\n")


def test_without_numba():
    code = HIDE + "import tinytorch; from tinytorch.nn import MSELoss; import numpy as np\n"
    assert "pip install 'tinytorch-losses[fast]'" in python(code + "tinytorch.engine('numba')")
    assert python(code + "x = np.zeros(2**24, 'f'); print(MSELoss()(x, x).item(), MSELoss()(x, x + 1).item())") == "0.0 1.0"


@needs_numba
def test_auto_compiles_after_enough_numbers(monkeypatch):
    monkeypatch.setattr(engine, "seen", type(engine.seen)())
    ran = []
    # which then declines
    monkeypatch.setattr(engine, "compiled_run", lambda: lambda *args, **options: ran.append(1))
    loss, x = MSELoss(), np.ones(engine.WORTH // 4, "float32")
    with tinytorch.engine("auto"):
        counts = []
        for _ in range(6):
            loss(x, x)
            counts.append(len(ran))
    assert counts == [0, 0, 0, 0, 1, 2]


@needs_numba
def test_a_formula_that_cannot_be_compiled_warns_once_if_asked_for():
    def median(x):
        return (np.median(x) + 0 * x,)

    x = np.arange(5.0)
    problem = Problem(median, (x,), x.shape, x.dtype)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with tinytorch.engine("numba"):
            assert [engine.run(problem).total for _ in range(3)] == [10.0] * 3
    assert [str(w.message) for w in caught] == ["median is not compiled: it uses np.median. NumPy "
                                                "runs it."]


@needs_numba
def test_a_formula_whose_loop_would_differ_stays_with_numpy():
    def by_length(x):
        return (x / len(x),)               # len is a stand-in in a recording

    x = np.arange(1.0, 9.0)
    with tinytorch.engine("numba"), pytest.warns(RuntimeWarning,
                                                 match="gives other numbers when compiled"):
        assert engine.run(Problem(by_length, (x,), x.shape, x.dtype)).total == 4.5


@needs_numba
@pytest.mark.parametrize("loss, input, target", [
    (BCELoss(), [0.5, 0.25], [7.0, 1.0]), (BCELoss(), [-3.0, 0.25], [0.0, 1.0]),
    (HingeLoss(), [0.5, 0.25], [0.5, 1.0]),
    (CrossEntropyLoss(), [[1.0, 2.0]], [[1.5, 0.5]]), (NLLLoss(), [[1.0, -2.0]], [0])])
def test_a_first_call_out_of_bounds_does_not_keep_a_formula_from_being_compiled(
        monkeypatch, loss, input, target):
    from tinytorch.core import loops
    monkeypatch.setattr(loops, "LOOPS", weakref.WeakKeyDictionary())
    with tinytorch.engine("numba"), warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match="but it must"):
            loss(Tensor(input, requires_grad=True), np.array(target))
    kept = [loop for found in loops.LOOPS.values() for pairs in found.values() for _, loop in pairs]
    assert kept and all(isinstance(loop, loops.Loop) for loop in kept)


@needs_numba
def test_nothing_is_compiled_for_no_samples(monkeypatch):
    from tinytorch.core import loops
    monkeypatch.setattr(loops, "LOOPS", weakref.WeakKeyDictionary())
    for make, shape in (MSELoss, (0,)), (CrossEntropyLoss, (0, 3)):
        loss = make(reduction="sum")
        for _ in range(2):
            value, gradient = loss_and_gradient(loss, np.empty(shape), np.empty(shape), "numba")
            assert value == 0 and gradient.shape == shape
    assert not loops.LOOPS


SMALL = ("import tinytorch, numpy as np; from tinytorch.nn import MSELoss; "
         "tinytorch.engine('numba'); print(MSELoss()(np.ones(3), np.zeros(3)).item())")


@needs_numba
def test_loops_are_kept_on_disk_and_found_again(tmp_path):
    assert python(SMALL, TINYTORCH_CACHE=str(tmp_path)) == "1.0"
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nbc")}
    assert kept and python(SMALL, TINYTORCH_CACHE=str(tmp_path)) == "1.0"
    assert kept == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nbc")}


@needs_numba
def test_a_cache_that_cannot_be_written_does_no_harm(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    assert python(SMALL, TINYTORCH_CACHE=str(tmp_path / "file")) == "1.0"


@needs_numba
def test_two_processes_may_compile_at_once(tmp_path):
    commands = [subprocess.Popen([sys.executable, "-c", SMALL], stdout=subprocess.PIPE, text=True,
                 env=os.environ | {"TINYTORCH_CACHE": str(tmp_path)})
                for _ in range(3)]
    assert [process.communicate()[0].strip() for process in commands] == ["1.0"] * 3


@needs_numba
@pytest.mark.parametrize("shape", [(10,), (3, 4), ()])
def test_shortcut_gives_what_the_long_way_gives(shape):
    x, t = rng.uniform(0.1, 0.9, (2, *shape)).astype("float32")
    for loss in MSELoss(), MSELoss("sum"), HuberLoss(), BCELoss(), SmoothL1Loss():
        results = [loss_and_gradient(loss, x, t, "numba") for _ in range(3)]
        assert loss.calls
        for result, gradient in results:
            expected = loss_and_gradient(loss, x, t, "numpy")
            np.testing.assert_allclose(result, expected[0], rtol=1e-6)
            np.testing.assert_allclose(gradient, expected[1], rtol=1e-6)


@needs_numba
def test_shortcut_follows_the_options():
    x, t = np.float32([0.0, 3.0]), np.float32([1.0, 0.0])
    loss = HuberLoss(delta=1.0)
    for delta, reduction in (1.0, "mean"), (2.0, "mean"), (2.0, "sum"), (0.5, "none"):
        loss.delta, loss.reduction = delta, reduction
        for _ in range(2):
            result, gradient = loss_and_gradient(loss, x, t, "numba")
            expected = loss_and_gradient(HuberLoss(reduction, delta), x, t, "numpy")
            np.testing.assert_array_equal(result, expected[0])
            np.testing.assert_array_equal(gradient, expected[1])
    loss = SmoothL1Loss(beta=1.0)                 # whose formula asks whether beta is positive
    for beta in 1.0, 0.0, 0.5, 0.0:
        loss.beta = beta
        for _ in range(2):
            for ours, theirs in zip(loss_and_gradient(loss, x, t, "numba"),
                                    loss_and_gradient(SmoothL1Loss(beta=beta), x, t, "numpy")):
                np.testing.assert_array_equal(ours, theirs)
    weighted = BCELoss()
    p = np.float32([0.25, 0.5])
    for weight in None, np.float32([1, 0]):
        weighted.weight = weight
        for _ in range(2):
            assert loss_and_gradient(
                weighted, p, np.float32([1, 1]), "numba")[0] == loss_and_gradient(
                BCELoss(weight), p, np.float32([1, 1]), "numpy")[0]


@needs_numba
def test_shortcut_still_refuses_bad_values():
    bce, ce = BCELoss(), CrossEntropyLoss()
    p, logits = np.float32([0.2, 0.8]), rng.normal(size=(4, 3)).astype("float32")
    with tinytorch.engine("numba"):
        for _ in range(2):
            bce(p, p), ce(logits, np.array([0, 1, 2, 0]))
        assert bce.calls and ce.calls
        with pytest.raises(ValueError, match=r"target\[1\] is 1.5"):
            bce(p, np.float32([0.5, 1.5]))
        with pytest.raises(ValueError, match=r"input\[0\] is -0.1"):
            bce(np.float32([-0.1, np.nan]), p)
        for wrong in 3, -1:
            with pytest.raises(IndexError, match=rf"target\[3\] is {wrong}"):
                ce(logits, np.array([0, 1, 2, wrong]))
        assert np.isnan(bce(np.float32([np.nan, 0.5]), p).data)
        ignored, gradient = loss_and_gradient(ce, logits, np.array([0, 1, -100, -100]))
        assert ignored == ce(logits[:2], np.array([0, 1])).data and (gradient[2:] == 0).all()


@needs_numba
def test_shortcut_serves_backward_again_and_copies():
    loss, x = MSELoss(), Tensor(np.float32([1, 2]), requires_grad=True)
    with tinytorch.engine("numba"):
        for _ in range(2):
            result = loss(x, np.zeros(2, "float32"))
        result.backward()
        result.backward(3.0)
    np.testing.assert_array_equal(x.grad, [4, 8])
    for other in copy.deepcopy(loss), pickle.loads(pickle.dumps(loss)):
        assert other.calls == {} and other(x, np.zeros(2, "float32")).item() == 2.5


@pytest.mark.parametrize("name", ["numpy", pytest.param("numba", marks=needs_numba)])
def test_what_a_formula_finds_around_it_may_change(name):
    def of(source):
        exec(source, names)

    def loss_now():
        return MyLoss()(x, y).item(), kept(x, y).item(), float(kept.curvature(x, y)[0])

    names, x, y = {}, np.full(1, 3.0), np.zeros(1)
    of("factor = 1.0\n"
       "def helper(d): return factor * d * d\n"
       "def formula(x, y): return helper(x - y), 2 * factor * (x - y), -2 * factor * (x - y)")
    MyLoss = type("MyLoss", (Loss,), {"formula": names["formula"]})
    kept = MyLoss()
    with tinytorch.engine(name):
        assert [loss_now() for _ in range(3)] == [(9, 9, 2)] * 3
        of("factor = 2.0")
        assert [loss_now() for _ in range(3)] == [(18, 18, 4)] * 3
        of("def helper(d): return d")
        assert [loss_now() for _ in range(3)] == [(3, 3, 4)] * 3
        of("factor = 2")
        assert loss_now() == (3, 3, 4)


def test_a_formula_that_reads_a_dictionary_is_not_compiled():
    names, x, y = {"settings": {"factor": 1.0}}, np.full(8, 3.0), np.zeros(8)
    exec("def formula(x, y): return settings['factor'] * (x - y), 1.0 + 0 * x", names)
    MyLoss = type("MyLoss", (Loss,), {"formula": names["formula"], "difference": True})
    with tinytorch.engine("auto"):
        assert MyLoss()(x, y).item() == 3
    if engine.has_numba():
        with tinytorch.engine("numba"), pytest.warns(RuntimeWarning, match="reads settings, which"):
            assert MyLoss()(x, y).item() == 3
        names["settings"]["factor"] = 2.0
        with tinytorch.engine("numba"):
            assert MyLoss()(x, y).item() == 6


def test_a_loss_too_large_for_its_dtype_is_infinite_without_a_warning():
    x = np.full(3, 300, np.float16)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = MSELoss(reduction="sum")(x, 0 * x)
        value = in_dtype(1e6, np.float16)
    assert result.dtype == value.dtype == np.float16 and result.item() == value == np.inf


def helper_module(k: float):
    module = types.ModuleType("a_module_of_ones_own")
    module.k = k
    return module


# what a formula's factor is read from, and what changes it from 2 to 3
PLACES = {
    "a class": ("class Config: k = 2.0", "Config.k", "Config.k = 3.0"),
    "a module": ("settings = module", "settings.k", "settings.k = 3.0"),
    "a function's attribute": ("def helper(): pass\nhelper.k = 2.0", "helper.k", "helper.k = 3.0"),
    "a default": ("def helper(k=2.0): return k", "helper()", "helper.__defaults__ = (3.0,)"),
    "a keyword's default": ("def helper(*, k=2.0): return k", "helper()",
                            "helper.__kwdefaults__['k'] = 3.0"),
    "a list as default": ("def helper(k=[2.0]): return k[0]", "helper()",
                          "helper.__defaults__[0][0] = 3.0"),
    "code": ("def helper(): return 2.0", "helper()",
             "helper.__code__ = (lambda: 3.0).__code__"),
    "globals()": ("k = 2.0", "globals()['k']", "k = 3.0"),
    "a module imported on the way": ("", "__import__('a_module_of_ones_own').k", "module.k = 3.0"),
    "a method": ("class Config:\n    k = 2.0\n    def get(self): return self.k\n"
                 "helper = Config().get", "helper()", "Config.k = 3.0"),
}


@pytest.mark.parametrize("name", ["numpy", pytest.param("numba", marks=needs_numba)])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.filterwarnings("ignore:.*is not compiled:RuntimeWarning")
def test_a_formula_sees_what_changes_around_it(place, name, monkeypatch):
    before, read, change = PLACES[place]
    x, y = np.full(3, 3.0), np.zeros(3)
    names = {"__name__": "a_notebook", "module": helper_module(2.0)}
    monkeypatch.setitem(sys.modules, "a_module_of_ones_own", names["module"])
    exec(f"{before}\ndef formula(x, y): return {read} * (x - y), {read} + 0 * x", names)
    loss = type("MyLoss", (Loss,), {"formula": names["formula"], "difference": True})()
    assert [loss_and_gradient(loss, x, y, name)[0] for _ in range(3)] == [6.0] * 3
    exec(change, names)
    for value, slope in [loss_and_gradient(loss, x, y, name) for _ in range(3)]:
        assert value == 9.0 and (slope == 1.0).all()


@pytest.mark.parametrize("name", ["numpy", pytest.param("numba", marks=needs_numba)])
def test_an_import_inside_a_formula_is_seen(name, monkeypatch):
    names, x, y = {}, np.full(3, 3.0), np.zeros(3)
    module = helper_module(2.0)
    monkeypatch.setitem(sys.modules, "a_module_of_ones_own", module)
    exec("def formula(x, y):\n    from a_module_of_ones_own import k\n"
         "    return k * (x - y), k + 0 * x", names)
    loss = type("MyLoss", (Loss,), {"formula": names["formula"], "difference": True})()
    with tinytorch.engine(name), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert [loss(x, y).item() for _ in range(3)] == [6.0] * 3
        module.k = 3.0
        assert [loss(x, y).item() for _ in range(3)] == [9.0] * 3


def scaled_error(input, target, *, square=True):
    error = input - target
    return (error * error, 2 * error) if square else (np.abs(error), np.sign(error))


def halved(self, input, target):
    return Loss.problem(self, input, target / 2)


# what is changed of a class after a loss of it was called, whose formula is `scaled_error`
CHANGES = {
    "formula": lambda cls: setattr(cls, "formula", lambda x, y: (x - y, 1 + 0 * x)),
    "flag": lambda cls: setattr(cls, "square", False),
    "problem": lambda cls: setattr(cls, "problem", halved),
    "weight": lambda cls: setattr(cls, "weight", np.array([1.0, 2.0, 3.0])),
}


@needs_numba
@pytest.mark.parametrize("change", CHANGES)
def test_a_kept_call_sees_its_class_change(change):
    x, y = np.array([1.0, 2.0, 4.0]), np.array([0.5, 0.0, 1.0])
    results = {}
    for name in "numpy", "numba":
        cls = type("MyLoss", (Loss,), {"formula": scaled_error, "difference": True, "square": True})
        loss = cls()
        before = [loss_and_gradient(loss, x, y, name) for _ in range(3)][-1]
        CHANGES[change](cls)
        after = [loss_and_gradient(loss, x, y / k, name) for k in (1, 1, 2)]
        assert after[0][0] != before[0]
        results[name] = after
    for ours, expected in zip(results["numba"], results["numpy"]):
        np.testing.assert_allclose(ours[0], expected[0], rtol=1e-12)
        np.testing.assert_allclose(ours[1], expected[1], rtol=1e-12)


@needs_numba
def test_a_kept_call_sees_a_problem_of_its_own():
    loss, x, y = MSELoss(), np.array([1.0, 2.0]), np.zeros(2)
    whole = loss.problem
    loss.problem = lambda input, target: whole(input / 2, target)
    assert [loss_and_gradient(loss, x, y, "numba")[0] for _ in range(3)] == [0.625] * 3
