"""Partial losses: for any split of the samples the parts add up to the loss and gradient of all."""
import copy
import pickle
from zlib import crc32

import numpy as np
import pytest

import tinytorch
from tinytorch.checking import examples
from tinytorch.core.tensor import Tensor
from tinytorch.nn import (CrossEntropyLoss, CTCLoss, KLDivLoss, LinearCrossEntropyLoss, MSELoss,
                          MultiMarginLoss, TripletMarginWithDistanceLoss)
from tinytorch.nn.criterion import LOSSES
from tinytorch.nn.embedding_losses import BatchLoss
from tinytorch.scale.partial import (PartialLoss, Summary, accumulate, divisor_of, report,
                                     summarize, value_and_gradient)

tinytorch.nn.__all__
NAMES = [name for name, loss in LOSSES.items() if loss.__module__.startswith("tinytorch.")]
CONTRAST = [name for name in NAMES if issubclass(LOSSES[name], BatchLoss)]
FORMULAS = [name for name in NAMES if LOSSES[name].formula is not None]


def rng_of(name):
    return np.random.default_rng(crc32(name.encode()))


def cases(name, samples=12):
    "Losses with options, and arguments of `samples` samples whose first axis is the batch."
    rng = rng_of(name)
    for options in ({}, *LOSSES[name].variants):
        if "each element" in options.values():             # an option of one batch alone
            continue
        yield from examples(LOSSES[name], options, rng, [(samples, 4)], ["mean"])


def cut(arguments, places):
    return [x[places] for x in arguments]


def whole(loss, arguments, **named):
    "The loss and its gradient, by a call."
    x = Tensor(arguments[0], requires_grad=True)
    result = loss(x, *arguments[1:], **named)
    result.backward()
    return result.item(), x.grad


@pytest.mark.parametrize("name", FORMULAS)
def test_any_split_adds_up(name):
    "1,000 random splits of each loss, over its options, with weights and with samples skipped."
    rng, todo = rng_of(name), list(cases(name))
    expected = [(*case, w := rng.integers(0, 3, 12).astype(float),
                 whole(case[0], case[1], sample_weight=w)) for case in todo]
    assert todo
    for k in range(1000):
        loss, arguments, weight, (value, _) = expected[k % len(expected)]
        owner = rng.integers(0, rng.integers(1, 4), 12)
        groups = [np.flatnonzero(owner == g) for g in rng.permutation(owner.max() + 1)]
        total = sum(loss.partial(*cut(arguments, g), sample_weight=weight[g], wrt=())
                    for g in groups)
        assert total.mean() == pytest.approx(value, rel=1e-12, abs=1e-300)


@pytest.mark.parametrize("name", FORMULAS)
def test_gradients_are_those_of_the_whole(name):
    for loss, arguments in cases(name):
        value, gradient = whole(loss, arguments)
        parts = [loss.partial(*cut(arguments, k))
                 for k in (slice(0, 5), slice(5, 5), slice(5, 6), slice(6, 12))]
        total = sum(pickle.loads(pickle.dumps(part)) for part in parts)
        np.testing.assert_allclose(total.mean(), value, rtol=1e-12)
        np.testing.assert_allclose(total.gradient(), gradient, rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(loss.value_and_gradient(*arguments)[1], gradient, rtol=1e-12,
                                   atol=1e-15)


def test_the_mean_of_means_is_another_number():
    loss, x, t = CrossEntropyLoss(), 9 * np.eye(5), np.array([1, 1, -100, 3, -100])
    parts = [loss.partial(x[k], t[k]) for k in (slice(0, 3), slice(3, 5))]
    assert sum(parts).mean() == pytest.approx(loss(x, t).item(), rel=1e-12)
    assert abs(sum(part.mean() for part in parts) / 2 - loss(x, t).item()) > 0.1


@pytest.mark.parametrize("name", CONTRAST)
def test_losses_that_contrast_within_the_batch_say_so(name):
    loss = LOSSES[name]()
    for call in loss.partial, lambda *x: accumulate(loss, 3):
        with pytest.raises(TypeError, match=f"{name} compares the samples of a batch"):
            call(np.ones((4, 2)), np.ones((4, 2)))


def test_losses_without_a_formula():
    rng = np.random.default_rng(0)
    def distance(a, b):
        return ((a - b) * (a - b)).sum(axis=1)
    triplet = TripletMarginWithDistanceLoss(distance_function=distance)
    head = LinearCrossEntropyLoss(6, 5, label_smoothing=0.1)
    vectors = [rng.normal(size=(9, 6)) for _ in range(3)]
    for loss, arguments in (triplet, vectors), (head, [vectors[0], rng.integers(0, 5, 9)]):
        value, gradient = whole(loss, arguments)
        total = sum(loss.partial(*cut(arguments, k)) for k in (slice(0, 2), slice(2, 9)))
        assert total.mean() == pytest.approx(value, rel=1e-12)
        np.testing.assert_allclose(total.gradient(), gradient, rtol=1e-10, atol=1e-14)


def test_ctc():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(9, 5, 4))
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    targets, lengths = rng.integers(1, 4, (5, 3)), np.array([9, 8, 9, 7, 9])
    counts = np.array([1, 2, 3, 2, 1])
    value, gradient = whole(CTCLoss(), [log_probs, targets, lengths, counts])
    parts = [CTCLoss().partial(log_probs[:, k], targets[k], lengths[k], counts[k])
             for k in (slice(0, 2), slice(2, 5))]
    total = sum(parts, PartialLoss())
    assert total.mean() == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(total.gradient(), gradient, rtol=1e-10, atol=1e-14)


def test_batchmean_and_sum():
    rng = np.random.default_rng(0)
    x, t = -rng.exponential(size=(7, 3)), rng.random((7, 3))
    for loss in KLDivLoss(reduction="batchmean"), KLDivLoss(reduction="sum"):
        total = sum(loss.partial(*cut((x, t), k)) for k in (slice(0, 2), slice(2, 7)))
        reached = total.mean() if loss.averages else total.total
        assert reached == pytest.approx(loss(x, t).item(), rel=1e-12)
        np.testing.assert_allclose(value_and_gradient(loss, (x, t))[0], loss(x, t).data,
                                   rtol=1e-12)


def test_arguments_of_which_one_number_stands_for_all():
    loss, rng = LOSSES["MarginRankingLoss"](margin=0.5), np.random.default_rng(0)
    a, b = rng.normal(size=(2, 6))
    total = sum(loss.partial(a[k], b[k], 1.0, wrt=("input1", "input2"))
                for k in (slice(0, 4), slice(4, 6)))
    assert total.mean() == pytest.approx(loss(a, b, 1.0).item(), rel=1e-12)
    np.testing.assert_array_equal(total.gradient("input1"), -total.gradient("input2"))


def test_the_gradient_of_one_number_for_all_is_one_for_each_sample():
    "So that parts, whose numbers may differ, can lie one after the other."
    loss, rng = LOSSES["GaussianNLLLoss"](), np.random.default_rng(0)
    x, t = rng.normal(size=(2, 6, 2))
    total = sum(loss.partial(x[k], t[k], np.array(0.5), wrt="var")
                for k in (slice(0, 4), slice(4, 6)))
    whole = loss.value_and_gradient(x, t, np.full((6, 2), 0.5), wrt="var")[1]
    np.testing.assert_allclose(total.gradient(), whole, rtol=1e-12)


def test_nothing_is_nothing():
    part = MSELoss().partial(np.ones((0, 3)), np.ones((0, 3)))
    assert part.mean() == 0 and sum([part, part]).divisor == 0
    assert sum([]) + PartialLoss(2.0, 1.0) == PartialLoss(2.0, 1.0)


def test_wrong_names_are_told():
    with pytest.raises(ValueError, match="wrt names 'weight'.*input, target"):
        MSELoss().partial([1.0], [1.0], wrt="weight")
    with pytest.raises(ValueError, match="reduction is 'none'"):
        MSELoss(reduction="none").value_and_gradient([1.0], [1.0])
    with pytest.raises(ValueError, match="MSELoss: input has shape"):
        MSELoss().partial(np.ones(3), np.ones(4))
    with pytest.raises(ValueError, match="total is -1"):
        accumulate(MSELoss(), -1)
    for other in MSELoss() + MSELoss(), print:
        with pytest.raises(TypeError, match=r"accumulate: loss is .*to_torch.*first, total"):
            accumulate(other, 3)


def test_inputs_stay_as_they_are():
    x, t = np.ones((3, 2)), np.zeros((3, 2))
    before = copy.deepcopy((x, t))
    MSELoss().partial(x, t, wrt=("input", "target"))
    np.testing.assert_array_equal((x, t), before)


@pytest.mark.parametrize("options", [{}, {"ignore_index": 1}, {"label_smoothing": 0.2},
                                     {"weight": np.array([1.0, 2.0, 0.5])}])
def test_micro_batches_train_as_the_batch(options):
    rng = np.random.default_rng(0)
    loss, x, t = CrossEntropyLoss(**options), rng.normal(size=(10, 3)), rng.integers(0, 3, 10)
    value, gradient = whole(loss, [x, t])
    pieces = [slice(0, 3), slice(3, 4), slice(4, 10)]
    step = accumulate(loss, [divisor_of(loss, x[k], t[k]) for k in pieces])
    parameter, losses = Tensor(x, requires_grad=True), []
    for k in pieces:
        losses.append(step(parameter[k], t[k]))
        losses[-1].backward()
    assert sum(x.item() for x in losses) == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(parameter.grad, gradient, rtol=1e-12, atol=1e-15)


def test_micro_batches_train_a_model_of_pytorch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x, t = torch.tensor(rng.normal(size=(10, 4))), rng.integers(0, 3, 10)
    t[::3] = -100
    models = [torch.nn.Linear(4, 3, dtype=torch.float64) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    torch.nn.functional.cross_entropy(models[0](x), torch.tensor(t)).backward()
    loss = CrossEntropyLoss()
    pieces = [slice(0, 1), slice(1, 3), slice(3, 10)]
    total = sum(divisor_of(loss, np.empty((10, 3))[k], t[k]) for k in pieces)
    for k in pieces:
        logits = models[1](x[k])
        part = loss.partial(logits.detach().numpy(), t[k])
        logits.backward(torch.from_numpy(part.gradients["input"][0]) / total)
    torch.testing.assert_close(models[1].weight.grad, models[0].weight.grad, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.2, "weight": np.arange(1.0, 4)},
                                     {"reduction": "sum"}])
@pytest.mark.parametrize("kind", ["float64", "bfloat16"])
def test_micro_batches_of_a_criterion_of_pytorch(options, kind):
    torch = pytest.importorskip("torch")
    from tinytorch.hosts.torch_host import to_torch
    rng = np.random.default_rng(0)
    x = torch.tensor(rng.normal(size=(10, 3)), dtype=getattr(torch, kind), requires_grad=True)
    t, loss = rng.integers(0, 3, 10), CrossEntropyLoss(**options)
    t[::3] = -100
    expected = to_torch(loss)(x, torch.tensor(t))
    gradient, = torch.autograd.grad(expected, x)
    total = divisor_of(loss, np.empty((10, 3)), t)
    step = accumulate(to_torch(loss), total)
    values = [step(x[k], torch.tensor(t[k])) for k in (slice(0, 1), slice(1, 10))]
    close = {"rtol": 0.02, "atol": 0.01} if kind == "bfloat16" else {"rtol": 1e-12, "atol": 1e-15}
    torch.testing.assert_close(sum(values), expected, **close)
    torch.testing.assert_close(torch.autograd.grad(sum(values), x)[0], gradient, **close)


def test_the_criterion_of_a_divided_loss():
    torch = pytest.importorskip("torch")
    from tinytorch.hosts.torch_host import to_torch
    step = to_torch(accumulate(CrossEntropyLoss(), 4))
    x, t = torch.randn(4, 3), torch.tensor([0, 2, 1, 1])
    torch.testing.assert_close(step(x[:3], t[:3]) + step(x[3:], t[3:]),
                               torch.nn.functional.cross_entropy(x, t))
    half = x.bfloat16()                           # computed by the graph of the sum
    torch.testing.assert_close(step(half[:3], t[:3]) + step(half[3:], t[3:]),
                               torch.nn.functional.cross_entropy(half, t), rtol=1e-2, atol=0)


def test_summaries_add_up_in_any_order():
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=(50, 4)), rng.integers(0, 4, 50)
    x[7], t[11] = x[9], t[9]                      # ties go to the lower index
    loss = CrossEntropyLoss(weight=np.array([1.0, 2.0, 0.5, 1.0]), ignore_index=0)
    each = CrossEntropyLoss(loss.weight, 0, "none")(x, t).data
    parts = [summarize(loss, x[k:k + 9], t[k:k + 9], keep=5, start=k) for k in range(0, 50, 9)]
    for order in rng.permutation(len(parts)), rng.permutation(len(parts)):
        told = report(loss, sum(parts[k] for k in order))
        assert told["loss"] == pytest.approx(loss(x, t).item(), rel=1e-12)
        assert told["perplexity"] == pytest.approx(np.exp(told["loss"]), rel=1e-12)
        assert [w["index"] for w in told["worst"]] == np.argsort(-each, kind="stable")[:5].tolist()
        assert told["by_class"][0] is None
        for k in 1, 2, 3:
            mean = each[t == k].sum() / (loss.weight[k] * (t == k).sum())
            assert told["by_class"][k] == pytest.approx(mean, rel=1e-12)


def test_nan_is_among_the_worst():
    x = np.array([1.0, np.nan, 3.0, -5.0])
    worst = summarize(MSELoss(), x, np.zeros(4), keep=2).worst
    assert worst[0][1] == 1 and np.isnan(worst[0][0]) and worst[1] == (25.0, 3)
    assert (Summary() + Summary()).worst == ()


def test_whole_numbers_have_a_gradient_and_class_indices_none():
    x, t = np.array([[1, 2], [3, 5]]), np.array([[0, 2], [1, 1]])
    for dtype in (int, np.uint8, float):
        value, both = MSELoss().value_and_gradient(x, t.astype(dtype), wrt=("input", "target"))
        np.testing.assert_allclose(both, [(x - t) / 2, (t - x) / 2])
        part = MSELoss().partial(x, t.astype(dtype))
        np.testing.assert_allclose(part.gradient(), (x - t) / 2)
    for loss, target in ((CrossEntropyLoss(), [0, 1]), (MultiMarginLoss(), [0, 1])):
        for call in loss.partial, loss.value_and_gradient:
            with pytest.raises(ValueError, match="'target', but it holds class indices"):
                call(x, target, wrt=("input", "target"))
    soft = CrossEntropyLoss().value_and_gradient(x, np.full((2, 2), 0.5), wrt="target")[1]
    assert soft.shape == (2, 2)


def test_the_value_is_by_the_reduction_of_the_loss():
    x, t = np.array([1.0, 3.0, 5.0]), np.zeros(3)
    for reduction in "mean", "sum":
        loss = MSELoss(reduction=reduction)
        total = sum(loss.partial(x[k], t[k]) for k in (slice(0, 1), slice(1, 3)))
        assert total.value() == pytest.approx(loss(x, t).item(), rel=1e-12)
        np.testing.assert_allclose(total.gradient(), whole(loss, [x, t])[1], rtol=1e-12)
    with pytest.raises(ValueError, match=r"reduction='sum'.*value\(\)"):
        total.mean()
    for call in MSELoss("none").partial, lambda *x: accumulate(MSELoss("none"), 3):
        with pytest.raises(ValueError, match="reduction is 'none'"):
            call(x, t)


@pytest.mark.parametrize("loss, other", [
    (MSELoss(), LOSSES["L1Loss"]()), (MSELoss(), MSELoss(reduction="sum")),
    (CrossEntropyLoss(), CrossEntropyLoss(label_smoothing=0.1)),
    (CrossEntropyLoss(), CrossEntropyLoss(ignore_index=3)),
    (CrossEntropyLoss(np.ones(2000)), CrossEntropyLoss(np.r_[np.ones(999), 2.0, np.ones(1000)]))])
def test_parts_and_summaries_of_different_losses_do_not_add_up(loss, other):
    x = np.zeros((2, 2000))
    t = [0, 1] if isinstance(loss, CrossEntropyLoss) else x
    for make in (lambda one: one.partial(x, t)), lambda one: summarize(one, x, t):
        with pytest.raises(ValueError, match="one part is of .* of one loss with the same options"):
            make(loss) + make(other)
        both = make(loss) + make(copy.deepcopy(loss))
        assert both.divisor == 2 * make(loss).divisor


def test_what_is_no_part_is_not_added():
    part = MSELoss().partial([1.0], [3.0])
    assert part + 0 is part and 0 + part is part and np.int64(0) + part is part
    assert PartialLoss() + part is part and part + PartialLoss() is part
    for wrong in part.mean(), "part", None, np.ones(2), summarize(MSELoss(), [1.0], [2.0]):
        for add in (lambda: part + wrong), lambda: wrong + part:
            with pytest.raises(TypeError, match="is added to it, but only a"):
                add()
    with pytest.raises(TypeError):
        2 * part


def test_gradients_that_are_not_there():
    x, t = np.ones(3), np.zeros(3)
    with pytest.raises(ValueError, match="gradient of an argument is not here, but of none.*wrt"):
        MSELoss().partial(x, t, wrt=()).gradient()
    with pytest.raises(ValueError, match="gradient of target is not here, but of input"):
        MSELoss().partial(x, t).gradient("target")
    with pytest.raises(ValueError, match="the same wrt"):
        MSELoss().partial(x, t) + MSELoss().partial(x, t, wrt=())


def test_parts_of_single_samples():
    rows = np.array([[1.0, 2.0, 0.0], [0.0, 1.0, 1.0]])
    total = sum(CrossEntropyLoss().partial(x, t) for x, t in zip(rows, (2, 0)))
    value, gradient = whole(CrossEntropyLoss(), [rows, np.array([2, 0])])
    assert total.value() == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(total.gradient(), gradient, rtol=1e-12)
    more = total + CrossEntropyLoss().partial(rows, np.array([2, 0]))
    assert more.gradient().shape == (4, 3)
    assert MSELoss().partial(1.0, 3.0).gradient() == -4
    assert sum(MSELoss().partial(x, 0.0) for x in (1.0, 3.0)).gradient().tolist() == [1, 3]


def test_parts_of_other_versions_are_read():
    "A field that is not there has its default; one more is no harm."
    part = MSELoss().partial([1.0], [3.0])
    old = copy.copy(part)
    for name in "loss", "averages", "lone":
        del vars(old)[name]
    vars(old)["more"] = 1
    both = pickle.loads(pickle.dumps(old)) + part
    assert both.mean() == 4 and both.loss == part.loss


SUMS = {"sum": 0.5 * MSELoss() + 2 * KLDivLoss("batchmean") + 0 * LOSSES["L1Loss"](),
        "summed": MSELoss("sum") / 3 + MSELoss()}


@pytest.mark.parametrize("name", SUMS)
def test_sums_of_losses_have_all_that_a_loss_has(name):
    rng, loss = np.random.default_rng(0), SUMS[name]
    x, t = -rng.exponential(size=(7, 3)), rng.random((7, 3))
    value, gradient = whole(loss, [x, t])
    total = sum(loss.partial(x[k], target=t[k]) for k in (slice(0, 2), slice(2, 7)))
    assert total.value() == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(total.gradient(), gradient, rtol=1e-12)
    found = loss.value_and_gradient(input=x, target=t)
    np.testing.assert_allclose(found[0], value, rtol=1e-12)
    np.testing.assert_allclose(found[1], gradient, rtol=1e-12)
    both = loss.value_and_gradient(x, t, wrt=("input", "target"))[1]
    np.testing.assert_allclose(both[0], gradient, rtol=1e-12)
    def terms(method, *more):
        return sum(w * getattr(one, method)(x, t, *more)
                   for w, one in zip(loss.weights, loss.losses))
    np.testing.assert_allclose(loss.curvature(x, t), terms("curvature"), rtol=1e-12)
    np.testing.assert_allclose(loss.hessian_product(x, t, v=x), terms("hessian_product", x))
    with pytest.raises(ValueError, match="PartialSum: one part is of"):
        total + (2 * loss).partial(x, t)


def test_tasks_have_all_that_a_loss_has():
    rng = np.random.default_rng(0)
    outputs = {"a": rng.normal(size=(6, 2)), "b": rng.normal(size=(6, 3))}
    targets = {"a": rng.normal(size=(6, 2)), "b": rng.integers(0, 3, 6)}
    loss = tinytorch.nn.MultiTaskLoss({"a": MSELoss(), "b": CrossEntropyLoss()},
                                                 weights={"b": 3}, learned={"a": "regression"})
    loss.balance(outputs, targets)
    heads = {name: Tensor(x, requires_grad=True) for name, x in outputs.items()}
    result = loss(heads, targets)
    result.backward()
    parts = [loss.partial({n: x[k] for n, x in outputs.items()},
                          {n: x[k] for n, x in targets.items()})
             for k in (slice(0, 4), slice(4, 6))]
    assert sum(parts).mean() == pytest.approx(result.item(), rel=1e-6)
    value, gradients = loss.value_and_gradient(outputs, targets=targets)
    np.testing.assert_allclose(value, result.data, rtol=1e-6)
    for name, head in heads.items():
        np.testing.assert_allclose(gradients[name], head.grad, rtol=1e-6)
        np.testing.assert_allclose(sum(parts).gradient()[name], head.grad, rtol=1e-6)
    np.testing.assert_allclose(loss.curvature(outputs, targets)["b"],
                               3 * CrossEntropyLoss().curvature(outputs["b"], targets["b"]))
    for call in loss.partial, loss.value_and_gradient, loss.curvature:
        with pytest.raises(TypeError, match=r"MultiTaskLoss: .*called with \(outputs, targets\)"):
            call(outputs, tragets=targets)


def test_functions_in_sums():
    def size(input, target):
        return (input * input).mean()
    function = tinytorch.nn.FunctionLoss(size)
    loss, x, t = MSELoss() + 2 * function, np.array([1.0, 3.0]), np.zeros(2)
    np.testing.assert_allclose(loss.value_and_gradient(x, t)[1], whole(loss, [x, t])[1])
    for name in "partial", "curvature":
        with pytest.raises(TypeError, match=rf"FunctionLoss\(size\) has no {name}: of a function"):
            getattr(loss, name)(x, t)


@pytest.mark.parametrize("method", ["__call__", "partial", "value_and_gradient", "curvature",
                                    "hessian_product"])
def test_arguments_have_names(method):
    x, t = np.array([[1.0, 3.0], [2.0, 5.0]]), np.array([0, 1])
    call, v = getattr(CrossEntropyLoss(), method), [x] * (method == "hessian_product")
    named = {"v": x} if v else {}
    expected = call(x, t, *v)
    for found in call(input=x, target=t, **named), call(x, target=t, **named):
        if method == "value_and_gradient":
            assert found[0] == expected[0] and (found[1] == expected[1]).all()
        elif method == "partial":
            assert found.total == expected.total
        else:
            assert np.array_equal(getattr(found, "data", found), getattr(expected, "data", expected))
    for wrong in {"inputs": x, "target": t}, {"input": x}, {"input": x, "target": t, "tagret": t}:
        with pytest.raises(TypeError, match=r"CrossEntropyLoss: .*called with \(input, target\)"):
            call(**wrong, **named)


def test_losses_that_contrast_have_a_gradient_of_the_whole_batch():
    rng = np.random.default_rng(0)
    loss, x, y = LOSSES["InfoNCELoss"](), *rng.normal(size=(2, 5, 3))
    value, gradient = loss.value_and_gradient(x, y)
    expected = whole(loss, [x, y])
    np.testing.assert_allclose(value, expected[0], rtol=1e-12)
    np.testing.assert_allclose(gradient, expected[1], rtol=1e-12)


def test_a_list_of_names_gives_all_their_gradients():
    both = MSELoss().value_and_gradient([1.0], [3.0], wrt=["input", "target"])[1]
    assert len(both) == 2 and both[0] == -both[1]


def test_samples_that_do_not_count_are_not_among_the_worst():
    x, t = np.zeros((5, 3)), np.array([0, -100, 2, 1, 0])
    x[3, 0] = np.nan
    told = summarize(CrossEntropyLoss(), x, t, keep=10, sample_weight=[1, 1, 1, 1, 0])
    assert [index for _, index in told.worst] == [3, 0, 2]
    for keep, error in ((-1, ValueError), (2.5, TypeError), (True, TypeError)):
        with pytest.raises(error, match="summary: keep is"):
            summarize(CrossEntropyLoss(), x, t, keep=keep)


def test_summaries_of_fewer_worst_samples_keep_to_those():
    "Of more the worst are not all known."
    parts = [summarize(MSELoss(), np.array(x), np.zeros(3), keep=keep, start=start)
             for x, keep, start in (([9.0, 8, 7], 1, 0), ([1.0, 2, 3], 3, 3))]
    assert sum(parts).worst == ((81.0, 0),)
    assert (Summary() + parts[1]).worst == parts[1].worst


def test_a_total_of_any_kind():
    for total in 4, 4.0, np.float64(4), np.array(4.0), [1, 3], np.array([1, 3]), (x for x in (1, 3)):
        assert accumulate(MSELoss(), total)([1.0, 3.0], [0.0, 0.0]).item() == 2.5


def test_an_accumulated_criterion_is_a_module_with_its_buffers():
    torch = pytest.importorskip("torch")
    from tinytorch.hosts.torch_host import to_torch
    criterion = to_torch(CrossEntropyLoss(weight=[1.0, 2.0, 3.0])).double()
    step = accumulate(criterion, torch.tensor(4.0))
    assert isinstance(step, torch.nn.Module) and step.weight.dtype == torch.float64
    again = pickle.loads(pickle.dumps(step))
    x, t = torch.randn(4, 3, dtype=torch.float64), torch.tensor([0, 2, 1, 1])
    expected = torch.nn.functional.cross_entropy(x, t, criterion.weight, reduction="sum") / 4
    for one in step, again:
        torch.testing.assert_close(one(x[:1], t[:1]) + one(x[1:], t[1:]), expected)


def test_a_term_of_weight_0_counts_nothing_even_if_it_is_infinite():
    x, t = np.array([1e4, 1.0]), np.ones(2)
    loss = MSELoss() + 0 * LOSSES["PoissonNLLLoss"]()
    assert np.isinf(loss.losses[1](x, t).item())
    for value in loss.value_and_gradient(x, t)[0], loss.partial(x, t).value():
        assert value == MSELoss()(x, t).item()
    np.testing.assert_array_equal(loss.curvature(x, t), MSELoss().curvature(x, t))
