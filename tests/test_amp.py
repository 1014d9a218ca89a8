"""Loss scaling: torch.amp.GradScaler's scale step by step, skipped steps, saved states, and what
goes wrong in words.
"""
import copy
import doctest
import subprocess
import sys

import numpy as np
import pytest

from tinytorch import amp
from tinytorch.amp import GradScaler, cast
from tinytorch.core.tensor import Tensor
from tinytorch.nn import CrossEntropyLoss, Linear

pytestmark = pytest.mark.filterwarnings("error")

RULES = {"defaults": {}, "short interval": {"growth_interval": 3},
         "always grows": {"growth_interval": 1, "init_scale": 1.0},
         "odd factors": {"growth_factor": 1.7, "backoff_factor": 0.3, "growth_interval": 2},
         "near the top": {"init_scale": 2.0**125, "growth_interval": 1, "growth_factor": 4.0}}
each_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)


def parameter(*values):
    return Tensor(np.array(values, np.float32), requires_grad=True)


def backward(scaler, weight, slope):
    "A backward pass whose true slopes are `slope`."
    weight.zero_grad()
    scaler.scale((weight * np.float32(slope)).sum()).backward()


def take(scaler, weight, slope, step=lambda: "stepped"):
    "One step of training; whether it was taken, and the scale for the next."
    backward(scaler, weight, slope)
    done = scaler.step(step, weight)
    scaler.update()
    return done == "stepped", scaler.get_scale()


def test_defaults():
    assert GradScaler().state_dict() == {"scale": 65536.0, "growth_factor": 2.0,
                                         "backoff_factor": 0.5, "growth_interval": 2000,
                                         "_growth_tracker": 0}


@each_rule
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
def test_scale_is_torchs(rule, share):
    torch = pytest.importorskip("torch")
    ours, theirs, rng = (GradScaler(**rule), torch.amp.GradScaler("cpu", **rule),
                         np.random.default_rng(0))
    weight = parameter(1.0, 2.0)
    peer = torch.tensor([1.0, 2.0], requires_grad=True)
    sgd = torch.optim.SGD([peer], lr=0.25)
    for _ in range(60):
        slope = rng.choice([np.inf, -np.inf, np.nan]) if rng.random() < share else 1e-30
        before = peer.detach().clone()
        sgd.zero_grad()
        theirs.scale((peer * slope).sum()).backward()
        theirs.unscale_(sgd)
        backward(ours, weight, slope)
        taken = ours.step(lambda: True, weight)
        np.testing.assert_allclose(weight.grad, peer.grad.numpy(), rtol=1e-6)
        peer.grad.fill_(1.0) if np.isfinite(slope) else None
        theirs.step(sgd)
        assert bool(taken) == (not torch.equal(peer.detach(), before))
        theirs.update(), ours.update()
        assert ours.get_scale() == pytest.approx(theirs.get_scale(), rel=1e-5)
        assert ours.state_dict()["_growth_tracker"] == theirs.state_dict()["_growth_tracker"]


def test_states_are_exchanged_with_torch():
    torch = pytest.importorskip("torch")
    theirs = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=5)
    ours = GradScaler()
    ours.load_state_dict(theirs.state_dict())
    assert ours.state_dict() == theirs.state_dict()
    take(ours, parameter(1.0), 1.0)
    theirs.load_state_dict(ours.state_dict())
    assert theirs.state_dict() == ours.state_dict() and ours.state_dict()["_growth_tracker"] == 1


@each_rule
def test_scale_by_hand(rule):
    "The rule as the documentation words it, without torch."
    rng, scaler, weight = np.random.default_rng(1), GradScaler(**rule), parameter(1.0)
    state = scaler.state_dict()
    scale, clean = state["scale"], 0
    for overflow in rng.random(200) < 0.2:
        taken, found = take(scaler, weight, np.inf if overflow else 0.0)
        clean = 0 if overflow else clean + 1
        scale *= state["backoff_factor"] if overflow else 1
        if clean == state["growth_interval"]:
            scale, clean = scale * state["growth_factor"] if scale * state["growth_factor"] < 2**128 else scale, 0
        assert (taken, found) == (not overflow, pytest.approx(scale))


def test_gradients_are_divided_once_and_in_place():
    scaler, weight = GradScaler(init_scale=1024.0), parameter(1.0, 2.0)
    backward(scaler, weight, 3.0)
    held = weight.grad
    assert held.tolist() == [3072, 3072]
    scaler.unscale_([weight, weight])
    assert weight.grad is held and held.tolist() == [3, 3] and held.dtype == np.float32
    assert scaler.step(lambda: weight.grad.tolist(), weight) == [3, 3]


def test_float32_division_keeps_what_float16_cannot():
    weight, scaler = parameter(1.0), GradScaler()
    backward(scaler, weight, 1e-9)
    scaler.unscale_(weight)
    assert weight.grad == np.float32(1e-9)


def test_nothing_changes_in_a_skipped_step():
    weight, scaler = parameter(1.0, 2.0), GradScaler()
    weight.grad = np.array([np.nan, 1], np.float32)
    assert scaler.step(lambda: pytest.fail("stepped on NaN"), weight) is None
    assert weight.data.tolist() == [1, 2]


def test_one_broken_gradient_skips_all_its_optimizer_steps_and_no_other():
    scaler, good, bad = GradScaler(), parameter(1.0), parameter(1.0)
    for order in (good, bad), (bad, good):
        good.grad, bad.grad, before = (np.ones(1, np.float32), np.full(1, np.inf, np.float32),
                                       scaler.get_scale())
        assert [scaler.step(lambda: True, p)
                for p in order] == [True if p is good else None for p in order]
        scaler.update()
        # one overflow counts for the scale of all
        assert scaler.get_scale() == before / 2
    good.grad, bad.grad = np.ones(1, np.float32), np.full(1, np.inf, np.float32)
    assert scaler.step(lambda: True, [good, bad]) is None


def test_parameters_without_a_gradient_are_left_alone():
    scaler, used, unused = GradScaler(), parameter(1.0), parameter(1.0)
    backward(scaler, used, 1.0)
    assert scaler.step(lambda: True, [used, unused]) is True and unused.grad is None


def test_the_rest_is_divided_by_step():
    scaler, first, second = GradScaler(init_scale=4.0), parameter(1.0), parameter(1.0)
    scaler.scale((first + second).sum()).backward()
    scaler.unscale_(first)
    scaler.step(lambda: None, [first, second])
    assert first.grad.tolist() == second.grad.tolist() == [1]


class Descent:
    def __init__(self, parameters):
        self.parameters = parameters

    def step(self):
        for p in self.parameters:
            p.data = p.data - p.grad
        return "done"


def test_who_may_step_and_where_parameters_come_from():
    model = Linear(2, 1, rng=0)
    for sources in ([Descent(model.parameters())], [lambda: "done", model],
                    [lambda: "done", iter(model.parameters())], [Descent([]), model.parameters()],
                    [lambda: "done", tuple(model.parameters())]):
        scaler = GradScaler()
        model.zero_grad()
        scaler.scale(model(np.ones((3, 2))).sum()).backward()
        assert scaler.step(*sources) == "done"
        assert model.bias.grad.tolist() == [3]


def test_not_enabled_is_as_if_it_were_not_there():
    scaler, weight = GradScaler(enabled=False), parameter(1.0)
    loss = (weight * 2).sum()
    assert scaler.scale(loss) is loss
    scaler.unscale_(weight), scaler.update(), scaler.load_state_dict({})
    assert (scaler.step(lambda: "done") == "done" and scaler.get_scale() == 1.0
            and scaler.state_dict() == {})


def test_state_round_trip_goes_on_alike():
    weight, first = parameter(1.0), GradScaler(growth_interval=4)
    for slope in (1.0, np.inf, 1.0, 1.0, 1.0):
        take(first, weight, slope)
    second = GradScaler()
    second.load_state_dict(first.state_dict())
    third = copy.deepcopy(first)
    for slope in (1.0, 1.0, np.nan, 1.0):
        assert take(first, weight, slope) == take(second, weight,
                                                  slope) == take(third, weight, slope)


def test_a_loaded_state_forgets_a_half_done_step():
    scaler, weight = GradScaler(), parameter(1.0)
    backward(scaler, weight, 1.0)
    scaler.unscale_(weight)
    scaler.load_state_dict(GradScaler().state_dict())
    with pytest.raises(RuntimeError, match="needs the gradients of a step"):
        scaler.update()


def twice(method):
    def call():
        scaler, weight = GradScaler(), parameter(1.0)
        backward(scaler, weight, 1.0)
        method(scaler, weight), method(scaler, weight)
    return call


def half_weights():
    scaler, weight = GradScaler(init_scale=2.0), Tensor(np.ones(1, np.float16), requires_grad=True)
    scaler.scale(weight.sum()).backward()
    scaler.step(print, weight)


def without(name):
    state = GradScaler().state_dict()
    del state[name]
    GradScaler().load_state_dict(state)


def never_finite():
    scaler, weight = GradScaler(), parameter(1.0)
    for _ in range(200):
        take(scaler, weight, np.nan)


MISTAKES = {
    "divided twice": (twice(lambda s, w: s.unscale_(w)), RuntimeError,
                      ["unscale_ was already called", "call update() after each step"]),
    "divided after the step": (twice(lambda s, w: (s.step(int, w), s.unscale_(w))), RuntimeError,
                               ["unscale_ was already called"]),
    "stepped twice": (twice(lambda s, w: s.step(int, w)), RuntimeError,
                      ["step was already called", "Call update() once"]),
    "update before a step": (lambda: GradScaler().update(), RuntimeError,
                             ["update needs the gradients of a step", "Call step()"]),
    "updated twice": (twice(lambda s, w: (s.step(int, w), s.update(), s.update())), RuntimeError,
                      ["update needs the gradients"]),
    "no backward": (lambda: GradScaler().step(int, parameter(1.0)), RuntimeError,
                    ["no parameter has a gradient", "scaler.scale(loss).backward()"]),
    "weights in float16": (half_weights, ValueError,
                           ["a parameter is float16", "cast(parameter, 'float16')"]),
    "a function without parameters": (lambda: GradScaler().step(lambda: 1 / 0), TypeError,
                                      ["Tensors to train are needed, but function has none",
                                       "model.parameters()"]),
    "names with parameters": (lambda: GradScaler().unscale_(Linear(2, 1).named_parameters()),
                              TypeError, ["but list has none"]),
    "an empty list": (lambda: GradScaler().unscale_([]), TypeError, ["but list has none"]),
    "a loss that is a number": (lambda: GradScaler().scale(1.5), TypeError,
                                ["scale needs the loss as a Tensor, not float"]),
    "the device first, as in torch": (lambda: GradScaler("cuda"), TypeError,
                                      ["the scale is 'cuda'", "must be a number"]),
    "scale of 0": (lambda: GradScaler(init_scale=0), ValueError,
                   ["the scale is 0", "at least 1.17549e-38"]),
    "scale beyond float32": (lambda: GradScaler(init_scale=1e39), ValueError,
                             ["the scale is 1e+39", "at most 3.40282e+38"]),
    "scale that is NaN": (lambda: GradScaler(init_scale=np.nan), ValueError, ["the scale is nan"]),
    "no growth": (lambda: GradScaler(growth_factor=1.0), ValueError,
                  ["growth_factor is 1.0", "greater than 1"]),
    "no back-off": (lambda: GradScaler(backoff_factor=1.0), ValueError,
                    ["backoff_factor is 1.0", "less than 1"]),
    "back-off to 0": (lambda: GradScaler(backoff_factor=0.0), ValueError,
                      ["backoff_factor is 0.0", "greater than 0"]),
    "interval of 0": (lambda: GradScaler(growth_interval=0), ValueError,
                      ["growth_interval is 0", "at least 1"]),
    "an empty state": (lambda: GradScaler().load_state_dict({}), RuntimeError,
                       ["the state is empty", "enabled=False"]),
    "half a state": (lambda: without("_growth_tracker"), ValueError,
                     ["the state has no _growth_tracker", "state_dict()"]),
    "a state out of range": (lambda: GradScaler().load_state_dict(
                                 GradScaler().state_dict() | {"scale": np.inf}),
                             ValueError, ["the scale is inf"]),
    "NaN at every scale": (never_finite, FloatingPointError,
                           ["infinite or NaN at any scale", "Look for NaN"]),
    "cast to whole numbers": (lambda: cast([1.0], "int32"), TypeError,
                              ["cast: dtype is int32", "floating-point"]),}


@pytest.mark.parametrize("call, error, texts", MISTAKES.values(), ids=MISTAKES)
def test_mistake_is_named(call, error, texts):
    with pytest.raises(error) as caught:
        call()
    assert [text for text in texts if text not in str(caught.value)] == []


def test_a_refused_call_leaves_the_gradients_as_they_are():
    scaler, good, half = (GradScaler(), parameter(1.0),
                          Tensor(np.ones(1, np.float16), requires_grad=True))
    backward(scaler, good, 1.0)
    with pytest.raises(ValueError, match="float16"):
        scaler.unscale_([good, half])
    assert good.grad == 65536
    scaler.unscale_(good)
    with pytest.raises(RuntimeError, match="already"):
        scaler.unscale_(good)
    assert good.grad == 1


def test_a_bad_state_leaves_the_old_one():
    scaler = GradScaler(init_scale=4.0)
    with pytest.raises(ValueError):
        scaler.load_state_dict({"scale": 8.0, "growth_factor": 2.0, "backoff_factor": 3.0,
                                "growth_interval": 2, "_growth_tracker": 0})
    assert scaler.state_dict() == GradScaler(init_scale=4.0).state_dict()


@pytest.mark.parametrize("name", ["float16", "float32", "float64", "bfloat16"])
def test_scaled_losses_of_any_type(name):
    dtype = np.dtype(pytest.importorskip("ml_dtypes").bfloat16 if name == "bfloat16" else name)
    x = Tensor(np.array([2.0], dtype), requires_grad=True)
    scaled = GradScaler(init_scale=256.0).scale(x)
    scaled.backward(np.ones(1))
    assert scaled.dtype == (np.float64 if name == "float64" else np.float32) and scaled.data == 512
    assert x.grad == 256 and x.grad.dtype == dtype


def test_a_float16_loss_backs_off_below_its_largest_number():
    weight, scaler = parameter(1.0), GradScaler()
    for _ in range(2):
        weight.zero_grad()
        scaler.scale(cast(weight, "float16").sum()).backward()
        scaler.step(lambda: None, weight)
        scaler.update()
        assert scaler.get_scale() == 32768


def test_bfloat16_parameters_are_allowed():
    bfloat16 = np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
    weight, scaler = Tensor(np.ones(2, bfloat16), requires_grad=True), GradScaler()
    scaler.scale(weight.sum()).backward()
    scaler.unscale_(weight)
    assert weight.grad.tolist() == [1, 1] and weight.grad.dtype == bfloat16


def test_cast_rounds_both_ways():
    x = Tensor(np.array([1.0, 2049.0, 1e6, np.nan], np.float32), requires_grad=True)
    y = cast(x, np.float16)
    y.backward(np.array([1e-9, 1, 2, 3], np.float16))
    np.testing.assert_array_equal(y.data, np.array([1, 2048, np.inf, np.nan], np.float16))
    assert y.dtype == np.float16 and x.grad.dtype == np.float32 and x.grad.tolist() == [0, 1, 2, 3]
    assert x.data[1] == 2049
    wide = cast(z := Tensor(np.ones(3, np.float16), requires_grad=True), "float64")
    wide.backward(np.array([1.0, 1e6, 1e-9]))
    assert (wide.dtype == np.float64 and z.grad.dtype == np.float16
            and z.grad.tolist() == [1, np.inf, 0])


def test_cast_to_the_same_type_shares_no_memory():
    x = Tensor([1.0, 2.0], requires_grad=True)
    assert not np.shares_memory(cast(x, np.float32).data, x.data)


def test_small_slopes_come_back():
    """Slopes of a mean over many classes: zero in float16, right once the loss is scaled and the
    gradient divided in float32.
    """
    rng = np.random.default_rng(0)
    master = Tensor(rng.normal(size=(64, 5000)).astype(np.float32), requires_grad=True)
    labels = rng.integers(0, 5000, 64)

    def gradient(scaler):
        master.zero_grad()
        scaler.scale(CrossEntropyLoss()(cast(cast(master, "float16"), "float32"), labels)
                     * 0.001).backward()
        scaler.unscale_(master)
        return master.grad

    lost, found = gradient(GradScaler(enabled=False)), gradient(GradScaler())
    CrossEntropyLoss()(exact := Tensor(master.data, requires_grad=True), labels).backward()
    assert (lost == 0).mean() > 0.99 and (found == 0).mean() < 0.001
    np.testing.assert_allclose(found, exact.grad * 0.001, rtol=0.01, atol=1e-12)


def test_examples():
    assert doctest.testmod(amp).failed == 0


def test_import_is_light():
    loaded = subprocess.run([sys.executable, "-c",
                             "import sys, tinytorch.amp; print(*sys.modules)"],
                            capture_output=True, text=True, check=True).stdout
    assert (not {"ml_dtypes", "matplotlib", "sklearn", "nbdev", "numba"}
            & {name.partition(".")[0] for name in loaded.split()})
