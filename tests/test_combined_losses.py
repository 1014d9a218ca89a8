"""Sums of losses and losses of several tasks: they are linear, they say what their terms came to,
and they keep nothing alive.
"""
import copy
import gc
import pickle
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tinytorch.checking import central_differences, check_close
from tinytorch.core.tensor import Tensor
from tinytorch.nn import (BCEWithLogitsLoss, CrossEntropyLoss, FunctionLoss, HuberLoss, KLDivLoss,
                          L1Loss, Linear, LinearCrossEntropyLoss, Module, MSELoss, MultiTaskLoss,
                          WeightedSum)
from tinytorch.nn.combined_losses import KINDS, Term, check_weight, uncertainty, weighted_sum

repeatable = settings(derandomize=True, database=None, deadline=None, max_examples=60)
numbers = arrays(float, 5, elements=st.floats(-100, 100))
weights = st.floats(0, 1e3)
losses = st.sampled_from([MSELoss(), L1Loss(), HuberLoss(delta=0.5), HuberLoss(reduction="sum"),
                          BCEWithLogitsLoss(pos_weight=[2.0])])
close = {"rtol": 1e-9, "atol": 1e-9}


def size(input, target):
    return (input * input).mean()


def answer(loss, input, target):
    "The value of a loss and the gradients of both arguments."
    x, t = Tensor(input, requires_grad=True), Tensor(target, requires_grad=True)
    value = loss(x, t)
    value.backward(np.ones_like(value.data))
    return value.data, x.grad, t.grad


def check_same(one, other, input, target, what) -> None:
    for ours, expected in zip(answer(one, input, target), answer(other, input, target)):
        check_close(ours, expected, what, **close)


# --- Sums

inputs = {"input": numbers, "target": arrays(float, 5, elements=st.floats(0, 1))}


@repeatable
@given(a=weights, b=weights, one=losses, other=losses, **inputs)
def test_value_and_gradients_are_weighted(a, b, one, other, input, target):
    total = answer(a * one + b * other, input, target)
    for ours, first, second in zip(total, answer(one, input, target), answer(other, input, target)):
        check_close(ours, a * first + b * second, "a * one + b * other", **close)


@repeatable
@given(a=weights, one=losses, other=losses, **inputs)
def test_multiples_are_distributive(a, one, other, input, target):
    check_same(a * (one + other), a * one + a * other, input, target, "a * (one + other)")
    check_same((one + other) / (a + 1), one / (a + 1) + other / (a + 1), input, target,
               "(one + other) / a")


@repeatable
@given(terms=st.permutations([0.5 * MSELoss(), 2 * L1Loss(), HuberLoss(), 0.25 * FunctionLoss(size)]), **inputs)
def test_order_does_not_matter(terms, input, target):
    expected = 0.5 * MSELoss() + 2 * L1Loss() + HuberLoss() + 0.25 * FunctionLoss(size)
    loss = sum(terms)
    assert loss.terms == {}
    check_same(loss, expected, input, target, "the sum in another order")
    assert loss.terms.keys() == expected.terms.keys()
    for name, term in loss.terms.items():        # "auto" may have compiled a formula in between
        check_close(tuple(term), tuple(expected.terms[name]), name, **close)


@repeatable
@given(terms=st.lists(st.tuples(weights, losses), min_size=1, max_size=5), **inputs)
def test_logged_parts_add_up(terms, input, target):
    loss = sum(weight * term for weight, term in terms)
    total = loss(input, target).item()
    check_close(sum(term.part for term in loss.terms.values()), total, "the sum of the parts",
                **close)
    for (weight, term), logged in zip(terms, loss.terms.values(), strict=True):
        assert logged == Term(term(input, target).item(), weight, logged.part)
        assert [type(x) for x in logged] == [float, float, float]


@repeatable
@given(st.lists(st.tuples(st.floats(0, 1e300), losses), min_size=1, max_size=5))
def test_text_makes_the_loss_again(terms):
    loss = WeightedSum([term for _, term in terms], [weight for weight, _ in terms])
    again = eval(repr(loss), {"array": np.array, "float32": np.float32, **globals()})
    assert (isinstance(again, WeightedSum) and again.weights == loss.weights
            and repr(again) == repr(loss))


def test_text():
    assert repr(0.7 * MSELoss() + 0.3 * L1Loss()) == "0.7 * MSELoss(reduction='mean') + 0.3 * L1Loss(reduction='mean')"
    assert repr(sum([MSELoss()])) == "1 * MSELoss(reduction='mean')"
    assert repr(MSELoss()
                + 2 * FunctionLoss(size)) == "MSELoss(reduction='mean') + 2 * FunctionLoss(size)"


def test_weights_of_any_number_type_from_both_sides():
    for two in 2, 2.0, np.float32(2), np.float64(2), np.int64(2), np.float16(2):
        for loss in two * MSELoss(), MSELoss() * two, two * (1 * MSELoss()), (4 * MSELoss()) / two:
            assert loss.weights == [2.0] and type(loss.weights[0]) is float
    assert (0 + MSELoss()).weights == (MSELoss() + 0).weights == [1.0]


def test_nested_sums_are_flat_and_do_not_share_weights():
    inner = 0.5 * MSELoss() + L1Loss()
    outer = 4 * (inner + inner / 2)
    assert (outer.weights == [2, 4, 1, 2]
            and not any(isinstance(loss, WeightedSum) for loss in outer.losses))
    inner.weights[0] = 100
    assert outer.weights == [2, 4, 1, 2]
    before, longer = inner, inner
    longer += HuberLoss()
    assert len(before.losses) == 2 and len(longer.losses) == 3
    loss = plain = MSELoss()
    loss *= 3
    assert isinstance(plain, MSELoss) and loss.weights == [3.0]


def test_losses_are_shared_and_weights_may_be_changed():
    huber = HuberLoss(delta=1.0)
    loss = MSELoss() + huber
    before = loss([4.0], [0.0]).item()
    huber.delta, loss.weights[0] = 2.0, 0.0
    assert (before == 16 + 3.5 and loss([4.0], [0.0]).item() == 6
            and loss.terms["MSELoss"] == Term(16.0, 0.0, 0.0))


class Adversary(Module):
    def __init__(self):
        self.judge = Linear(3, 1, bias=False)

    def forward(self, input, target):
        return self.judge(input).mean()


def test_parameters_and_modes_reach_the_terms():
    head = LinearCrossEntropyLoss(3, 4)
    loss = head + 0.1 * FunctionLoss(Adversary())
    assert [name for name, _ in loss.named_parameters()] == [
        "losses.0.linear.weight", "losses.1.function.judge.weight"]
    assert loss.parameters()[0] is head.linear.weight
    assert not loss.eval().losses[1].function.judge.training and not head.training


def test_losses_of_different_kinds_and_arguments():
    logits, probabilities = np.random.default_rng(0).normal(size=(2, 4, 3))
    probabilities = np.exp(probabilities) / np.exp(probabilities).sum(1, keepdims=True)
    logits = np.log(probabilities[::-1])
    mixed = 0.7 * CrossEntropyLoss() + 0.3 * L1Loss() + 0.1 * KLDivLoss(reduction="batchmean")
    expected = (0.7 * CrossEntropyLoss()(logits, probabilities).item()
                + 0.3 * L1Loss()(logits, probabilities).item()
                + 0.1 * KLDivLoss(reduction="batchmean")(logits, probabilities).item())
    check_close(mixed(logits, probabilities), expected, "a sum of three kinds")
    assert mixed(target=probabilities, input=logits).item() == mixed(logits, probabilities).item()
    head = LinearCrossEntropyLoss(3, 5) + LinearCrossEntropyLoss(3, 5) / 2
    head(Tensor(logits, requires_grad=True), [0, 1, 2, 3]).backward()
    assert list(head.terms) == ["LinearCrossEntropyLoss", "LinearCrossEntropyLoss_2"]
    assert all(p.grad is not None for p in head.parameters()) and len(head.parameters()) == 2


def test_losses_of_single_samples_keep_their_shape():
    x, t = np.arange(6.0).reshape(2, 3), np.ones((2, 3))
    loss = 2 * MSELoss(reduction="none") + L1Loss(reduction="none")
    check_close(loss(x, t), 2 * (x - 1) ** 2 + abs(x - 1), "the losses of single numbers")
    check_close(loss.terms["MSELoss"].part + loss.terms["L1Loss"].part, loss(x, t).data.mean(),
                "the mean of the parts")
    assert (loss(np.zeros((0, 3)), np.zeros((0, 3))).shape == (0, 3)
            and loss.terms["MSELoss"].value == 0)
    upstream = np.arange(6.0).reshape(2, 3)
    tensor = Tensor(x, requires_grad=True)
    loss(tensor, t).backward(upstream)
    check_close(tensor.grad, upstream * (4 * (x - 1) + np.sign(x - 1)),
                "the gradient under weights of samples")


@pytest.mark.parametrize("dtype, rtol", [("float16", 2e-3), ("float32", 1e-6), ("float64", 1e-12)])
def test_dtype_is_kept(dtype, rtol):
    x, t = np.array([1.0, 2.0, 4.0], dtype), np.ones(3, dtype)
    for loss in 0.5 * MSELoss() + 2 * L1Loss(), MultiTaskLoss(
        {"a": 0.5 * MSELoss() + 2 * L1Loss()}, learned={"a": "classification"}):
        tensor = Tensor(x, requires_grad=True)
        result = (loss({"a": tensor}, {"a": t}) if isinstance(loss, MultiTaskLoss)
                  else loss(tensor, t))
        result.backward()
        assert result.dtype == tensor.grad.dtype == dtype
        check_close(result, 13 / 3, "the loss", rtol=rtol)
        check_close(tensor.grad, [0, 1, 5 / 3], "its gradient", rtol=rtol)


def test_a_switched_off_term_counts_nothing():
    loss = MSELoss() + 0 * FunctionLoss(lambda input, target: Tensor(np.inf))
    assert (loss([3.0], [1.0]).item() == 4
            and [term.part for term in loss.terms.values()] == [4.0, 0.0])
    x = Tensor([3.0], requires_grad=True)
    (0 * MSELoss())(x, [1.0]).backward()
    assert x.grad.tolist() == [0]


TYPES = {"text as a weight": (lambda: MSELoss() * "x", TypeError,
                              ["MSELoss(reduction='mean')", "'x'", "0.5 * loss"]),
         "a truth value as a weight": (lambda: True * MSELoss(), TypeError, ["is True"]),
         "a Tensor as a weight": (lambda: MSELoss() * Tensor(2.0), TypeError,
                                  ["Tensor(2.)", "MultiTaskLoss"]),
         "an array of weights": (lambda: np.ones(2) * MSELoss(), TypeError, ["array([1., 1.])"]),
         "an array of weights for a sum": (lambda: np.ones(2) * (MSELoss() + L1Loss()), TypeError,
                                           ["array([1., 1.])"]),
         "a product of losses": (lambda: MSELoss() * L1Loss(), TypeError,
                                 ["L1Loss(reduction='mean')", "a number"]),
         "a negative weight": (lambda: -2 * MSELoss(), ValueError,
                               ["is -2", "at least 0", "its negative"]),
         "no number": (lambda: MSELoss() * np.nan, ValueError, ["is nan"]),
         "too large a number": (lambda: 1e200 * (1e200 * MSELoss()), ValueError, ["is inf"]),
         "a division by text": (lambda: MSELoss() / "x", TypeError, ["the divisor", "'x'"]),
         "a division by 0": (lambda: MSELoss() / 0, ZeroDivisionError, []),
         "a number added": (lambda: MSELoss() + 3, TypeError,
                            ["3 is not a loss", "loss(input, target) + number"]),
         "a Tensor added": (lambda: 1 * MSELoss() + Tensor(1.0), TypeError, ["is not a loss"]),
         "a function added": (lambda: MSELoss() + size, TypeError, ["FunctionLoss(...)"]),
         "a Module added": (lambda: Linear(1, 1) + MSELoss(), TypeError,
                            ["Linear(in_features=1", "FunctionLoss(...)"]),
         "no terms": (lambda: WeightedSum([]), ValueError, ["0 losses"]),
         "too few weights": (lambda: WeightedSum([MSELoss(), L1Loss()], [1]), ValueError,
                             ["2 losses and 1 weights"]),
         "no function": (lambda: FunctionLoss(3), TypeError, ["function is 3"]),
         "a function without result": (lambda: FunctionLoss(print)(), TypeError,
                                       ["FunctionLoss(print)", "returned None"]),
         "different shapes": (lambda: (MSELoss() + L1Loss("none"))([1.0, 2.0], [1.0, 2.0]),
                              ValueError, ["MSELoss ()", "L1Loss (2,)", "the same reduction"]),}


@pytest.mark.parametrize("call, error, texts", TYPES.values(), ids=TYPES)
def test_mistakes_with_sums(call, error, texts):
    with pytest.raises(error) as caught:
        call()
    assert [text for text in texts if text not in str(caught.value)] == []


# --- Several tasks

def two_tasks(**options):
    return MultiTaskLoss({"depth": L1Loss(), "label": CrossEntropyLoss()}, **options)


LEARNED = {"depth": "regression", "label": "classification"}
OUTPUTS = {"depth": np.array([1.0, 2.0, -1.0]),
           "label": np.array([[1.0, 0.0, 2.0], [0.0, 0.5, 0.0]])}
TARGETS = {"depth": np.zeros(3), "label": np.array([2, 0])}


@pytest.mark.parametrize("options", [{}, {"weights": {"label": 3, "depth": 0.5}}, {"learned": LEARNED}, {"weights": {"label": 3}, "learned": {"depth": "regression"}}],
                         ids=["equal", "fixed", "learned", "mixed"])
def test_gradients_by_small_steps(options):
    loss = two_tasks(**options)
    for name, s in loss.log_variances.items():
        s.data = np.array({"depth": 0.7, "label": -1.2}[name])

    def total(depth, label, *variances):
        moved = copy.deepcopy(loss)
        for s, value in zip(moved.log_variances.values(), variances):
            s.data = value
        return moved({"depth": depth, "label": label}, TARGETS).data

    operands = [*OUTPUTS.values(), *[s.data for s in loss.log_variances.values()]]
    tensors = {name: Tensor(x, requires_grad=True) for name, x in OUTPUTS.items()}
    loss(tensors, TARGETS).backward()
    for which, tensor in enumerate([*tensors.values(), *loss.log_variances.values()]):
        check_close(tensor.grad, central_differences(total, operands, which), f"gradient {which}",
                    rtol=1e-6, atol=1e-8)


@repeatable
@given(st.floats(1e-6, 1e6), st.sampled_from(sorted(KINDS)), st.floats(-20, 20))
def test_the_best_variance_is_the_closed_form(value, kind, other):
    factor = KINDS[kind]
    best = uncertainty(np.float64(value), np.log(2 * factor * value), factor=factor)
    check_close(best[0], (1 + np.log(2 * factor * value)) / 2, "the lowest part", **close)
    check_close(best[2], 0, "the slope there", atol=1e-12)
    assert best[0] <= uncertainty(np.float64(value), np.float64(other), factor=factor)[0] + 1e-12


@repeatable
@given(arrays(float, 4, elements=st.floats(-10, 10)), st.floats(1e-3, 1e3))
def test_units_do_not_matter_at_the_best_variance(depth, unit):
    gradients = []
    for scale in (1.0, unit):
        loss = MultiTaskLoss({"depth": MSELoss()}, learned={"depth": "regression"})
        x = Tensor(depth, requires_grad=True)
        loss.log_variances["depth"].data = loss.log_variances["depth"].data.astype(float)
        loss.balance({"depth": x * scale}, {"depth": np.full(4, 11 * scale)})
        loss({"depth": x * scale}, {"depth": np.full(4, 11 * scale)}).backward()
        gradients.append(x.grad)
    check_close(*gradients, "the gradient in other units", rtol=1e-9)


@pytest.mark.parametrize("value", [0.0, 1e-300, 1.0, 1e30])
@pytest.mark.parametrize("s", [-1e30, -1e4, -100.0, 0.0, 100.0, 1e4, 1e30])
def test_uncertainty_is_finite(value, s):
    with np.errstate(all="raise", under="ignore"):
        results = uncertainty(np.array(value), np.array(s), factor=0.5)
    assert np.isfinite(results).all()
    assert uncertainty(np.array(np.inf), np.array(s), factor=0.5)[0] == np.inf


def test_training_finds_the_variances():
    loss = two_tasks(learned=LEARNED)
    for _ in range(300):
        loss.zero_grad()
        loss(OUTPUTS, TARGETS).backward()
        for s in loss.parameters():
            s.data -= 0.3 * s.grad
    start = two_tasks(learned=LEARNED)
    start.balance(OUTPUTS, TARGETS)
    for name, s in loss.log_variances.items():
        check_close(s, start.log_variances[name], f"the log-variance of {name}", rtol=1e-3,
                    atol=1e-4)
    assert [name for name, _ in loss.named_parameters()] == [
        "log_variances.depth", "log_variances.label"]


def test_balance_of_a_solved_task_leaves_it():
    loss = two_tasks(learned=LEARNED)
    loss.balance(OUTPUTS | {"depth": np.zeros(3)}, TARGETS)
    assert loss.log_variances["depth"].item() == 0 and loss.log_variances["label"].item() != 0


@pytest.mark.parametrize("options", [{}, {"learned": LEARNED}, {"weights": {"label": 3}, "learned": {"depth": "regression"}}])
def test_parts_of_tasks_add_up(options):
    loss = two_tasks(**options)
    total = loss(OUTPUTS, TARGETS).item()
    check_close(sum(term.part for term in loss.terms.values()), total, "the sum of the parts")
    check_close(loss.terms["depth"].value, 4 / 3, "the value of a task")
    assert list(loss.terms) == ["depth", "label"]


def test_order_of_names_does_not_matter():
    loss = two_tasks(learned=LEARNED)
    turned = MultiTaskLoss(dict(reversed(loss.losses.items())),
                           learned=dict(reversed(LEARNED.items())))
    check_close(turned(dict(reversed(OUTPUTS.items())), TARGETS), loss(OUTPUTS, TARGETS),
                "the loss in another order")


def test_text_of_tasks_makes_them_again():
    loss = MultiTaskLoss({"a": MSELoss(), "b": 0.5 * MSELoss() + FunctionLoss(size), "c": size},
                         weights={"b": 2, "c": 1}, learned={"a": "regression"})
    again = eval(repr(loss))
    assert (repr(again) == repr(loss) and again.weights == loss.weights
            and again.learned == loss.learned)


def test_tasks_take_part_in_sums():
    loss = (2 * two_tasks()
            + FunctionLoss(lambda outputs, targets: (Tensor(outputs["depth"]) * 1).sum()))
    check_close(loss(OUTPUTS, TARGETS), 2 * two_tasks()(OUTPUTS, TARGETS).item() + 2,
                "a sum with several tasks in it")


TASKS = {
    "a missing output": (lambda: two_tasks()({"depth": [1.0]}, TARGETS), ValueError,
                         ["outputs has the names 'depth'", "needs 'depth', 'label'",
                          "Missing: 'label'"]),
    "an unknown target": (lambda: two_tasks()(OUTPUTS, TARGETS | {"pose": 1}), ValueError,
                          ["targets has the names 'depth', 'label', 'pose'", "Unknown: 'pose'"]),
    "an array": (lambda: two_tasks()(OUTPUTS["depth"], TARGETS), TypeError,
                 ["outputs is a ndarray", "'depth', 'label'"]),
    "weights of some": (lambda: two_tasks(weights={"depth": 1}), ValueError,
                        ["weights has the names 'depth'", "Missing: 'label'"]),
    "weights of what is learned": (lambda: two_tasks(weights={"depth": 1, "label": 1},
                                                     learned={"depth": "regression"}),
                                   ValueError, ["weights", "Unknown: 'depth'"]),
    "an unknown task": (lambda: two_tasks(learned={"pose": "regression"}), ValueError,
                        ["learned has the names 'pose'", "some of 'depth', 'label'"]),
    "an unknown kind": (lambda: two_tasks(learned={"depth": "L1"}), ValueError,
                        ["learned['depth'] is 'L1'", "'regression', 'classification'"]),
    "one kind for all": (lambda: two_tasks(learned="regression"), TypeError, ["learned is a str"]),
    "a negative weight": (lambda: two_tasks(weights={"depth": -1, "label": 1}), ValueError,
                          ["'depth' is -1"]),
    "a list": (lambda: MultiTaskLoss([MSELoss()]), TypeError, ["losses is [MSELoss", "dictionary"]),
    "no task": (lambda: MultiTaskLoss({}), TypeError, ["losses is {}"]),
    "a function without result": (lambda: MultiTaskLoss({"a": print})({"a": ""}, {"a": ""}),
                                  TypeError, ["FunctionLoss(print)", "returned None"]),
    "no loss": (lambda: MultiTaskLoss({"a": 3}), TypeError, ["{'a': 3}"]),
    "different shapes": (lambda: MultiTaskLoss({"a": MSELoss(), "b": L1Loss("none")})(
                             {"a": [1.0], "b": [1.0]}, {"a": [1.0], "b": [1.0]}),
                         ValueError, ["a ()", "b (1,)"]),}


@pytest.mark.parametrize("call, error, texts", TASKS.values(), ids=TASKS)
def test_mistakes_with_tasks(call, error, texts):
    with pytest.raises(error) as caught:
        call()
    assert [text for text in texts if text not in str(caught.value)] == []


# --- Copies, and what is kept alive

def test_copies_and_pickles_are_their_own():
    for loss, arguments in (0.5 * MSELoss() + FunctionLoss(size),
                            (OUTPUTS["depth"],
                             TARGETS["depth"])), (two_tasks(learned=LEARNED), (OUTPUTS, TARGETS)):
        total = loss(*map(tensors_of, arguments))
        for again in copy.deepcopy(loss), pickle.loads(pickle.dumps(loss)):
            assert again.terms == loss.terms and repr(again) == repr(loss)
            assert again(*arguments).item() == total.item()
            if isinstance(loss, WeightedSum):
                again.weights[0] = 7
                assert loss.weights[0] == 0.5
            else:
                again.log_variances["depth"].data[...] = 7
                assert (loss.log_variances["depth"].item() == 0
                        and again.parameters()[0].requires_grad)


def tensors_of(value):
    return ({name: tensors_of(x) for name, x in value.items()} if isinstance(value, dict)
            else Tensor(value, requires_grad=value.dtype.kind == "f"))


def test_logs_keep_no_graph_alive():
    for loss in 0.5 * MSELoss() + L1Loss() + FunctionLoss(size), MultiTaskLoss(
        {"a": MSELoss()}, learned={"a": "regression"}):
        x = Tensor(np.ones(3), requires_grad=True)
        middle = x * 2
        total = (loss({"a": middle}, {"a": np.zeros(3)}) if isinstance(loss, MultiTaskLoss)
                 else loss(middle, np.zeros(3)))
        log, below, above = [loss.terms], weakref.ref(middle), weakref.ref(total)
        del middle, total
        gc.collect()
        assert below() is None and above() is None and log[0]


def test_terms_of_a_failed_call_are_those_of_the_last():
    loss = 1 * MSELoss()
    loss([2.0], [0.0])
    kept = loss.terms
    with pytest.raises(ValueError):
        loss([2.0], [0.0, 1.0])
    assert loss.terms is kept
    loss([3.0], [0.0])
    assert kept["MSELoss"].value == 4 and loss.terms["MSELoss"].value == 9


def test_arguments_stay_as_they_are():
    given = {"weights": {"label": 3}, "learned": {"depth": "regression"}}
    loss = two_tasks(**given)
    loss.weights["label"] = loss.learned["label"] = 5
    assert given == {"weights": {"label": 3}, "learned": {"depth": "regression"}}
    values, chosen = np.ones((2, 3)), np.array([0.0, 2.0])
    for array in values, chosen:
        array.flags.writeable = False
    weighted_sum(values, chosen)
    assert check_weight("a weight", np.float32(0.5)) == 0.5


# --- PyTorch

@pytest.mark.parametrize("kinds", [LEARNED, {"depth": "classification", "label": "regression"}])
@pytest.mark.parametrize("start", [(0.0, 0.0), (1.5, -0.5), (-3.0, 4.0)])
def test_learned_weights_are_those_of_torch(kinds, start):
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    theirs = {name: torch.tensor(x, requires_grad=True) for name, x in OUTPUTS.items()}
    s = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    values = [F.l1_loss(theirs["depth"], torch.tensor(TARGETS["depth"])),
              F.cross_entropy(theirs["label"], torch.tensor(TARGETS["label"]))]
    total = sum(value / ((2 if kinds[name] == "regression" else 1) * sigma**2) + torch.log(sigma)
                for name, value, sigma in zip(kinds, values, torch.exp(s / 2)))
    total.backward()

    ours = {name: Tensor(x, requires_grad=True) for name, x in OUTPUTS.items()}
    loss = two_tasks(learned=kinds)
    for parameter, value in zip(loss.parameters(), start):
        parameter.data = np.array(value)
    result = loss(ours, TARGETS)
    result.backward()
    check_close(result, total.item(), "the loss", rtol=1e-9)
    check_close([p.grad for p in loss.parameters()], s.grad.numpy(),
                "the gradients of the log-variances", rtol=1e-9)
    for name in OUTPUTS:
        check_close(ours[name].grad, theirs[name].grad.numpy(), f"the gradient of {name}",
                    rtol=1e-9)


def test_sums_are_those_of_torch():
    torch = pytest.importorskip("torch")
    x, t = np.random.default_rng(0).normal(size=(2, 4, 3))
    theirs = torch.tensor(x, requires_grad=True)
    total = (0.7 * torch.nn.MSELoss()(theirs, torch.tensor(t))
             + 0.3 * torch.nn.SmoothL1Loss(reduction="sum")(theirs, torch.tensor(t)))
    total.backward()
    ours = Tensor(x, requires_grad=True)
    result = (0.7 * MSELoss() + 0.3 * HuberLoss(reduction="sum"))(ours, t)
    result.backward()
    check_close(result, total.item(), "the loss", rtol=1e-9)
    check_close(ours.grad, theirs.grad.numpy(), "the gradient", rtol=1e-9)
