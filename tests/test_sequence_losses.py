"""CTC against an enumeration of all alignments and against PyTorch: values, gradients, lengths,
extremes, and errors with their text.
"""
from itertools import groupby, product
from math import comb, inf, log, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinytorch.nn.functional as F
import tinytorch.nn.sequence_losses as module
from tinytorch.checking import check_close, check_raises
from tinytorch.core.tensor import Tensor
from tinytorch.nn import CTCLoss, log_softmax

repeatable = settings(derandomize=True, database=None, deadline=None, max_examples=60)


def said(path, blank) -> list:
    "What a path reads as."
    return [label for label, _ in groupby(path) if label != blank]


def by_enumeration(log_probs, labels, blank=0) -> float:
    "The loss of one sample, (T, C), from every path there is."
    steps, classes = log_probs.shape
    scores = [sum(log_probs[t, c] for t, c in enumerate(path))
              for path in product(range(classes), repeat=steps)
              if said(path, blank) == list(labels)]
    best = max(scores, default=-inf)
    return -best - np.log(sum(np.exp(score - best) for score in scores)) if best > -inf else inf


def problem(rng, steps=5, samples=3, classes=3, most=3, scale=1.0, dtype="float64") -> tuple:
    """Logits, labels (N, S), both lengths and a blank: long, short, empty and impossible samples
    are among them.
    """
    blank = int(rng.integers(0, classes))
    labels = rng.integers(0, classes - 1, (samples, most))
    return (rng.normal(0, scale, (steps, samples, classes)).astype(dtype),
            labels + (labels >= blank), rng.integers(0, steps + 1, samples),
            rng.integers(0, most + 1, samples), blank)


def one_after_another(labels, counts):
    return np.concatenate([row[:count] for row, count in zip(labels, counts)])


def gradient_of(loss, log_probs, *rest, upstream=None):
    "The value, and the gradient of `log_probs`."
    x = Tensor(log_probs, requires_grad=True)
    value = loss(x, *rest)
    value.backward(np.ones(value.shape, value.dtype) if upstream is None else upstream)
    return value.data, x.grad


# --- the definition

@pytest.mark.parametrize("seed", range(30))
def test_equals_the_sum_over_all_paths(seed):
    logits, labels, lengths, counts, blank = problem(np.random.default_rng(seed))
    x = log_softmax(logits)
    expected = [by_enumeration(x[:length, n], labels[n, :count], blank)
                for n, (length, count) in enumerate(zip(lengths, counts))]
    check_close(CTCLoss(blank, "none")(x, labels, lengths, counts), expected,
                f"the losses of problem {seed}", rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_gradient_is_the_slope(seed, reduction):
    rng = np.random.default_rng(seed)
    logits, labels, lengths, counts, blank = problem(rng)
    # rows need not be normalised
    loss, x = (CTCLoss(blank, reduction, zero_infinity=True),
               log_softmax(logits) - rng.exponential(0.3, logits.shape))
    upstream = rng.normal(size=3 if reduction == "none" else ())
    _, gradient = gradient_of(loss, x, labels, lengths, counts, upstream=upstream)
    for place in np.ndindex(x.shape):
        step = np.zeros(x.shape)
        step[place] = 1e-6
        ends = [(loss(x + sign * step, labels, lengths, counts).data * upstream).sum()
                for sign in (1, -1)]
        check_close(gradient[place], (ends[0] - ends[1]) / 2e-6, f"the slope at {place}", rtol=1e-5,
                    atol=1e-8)


@pytest.mark.parametrize("steps, counts", [(40, 12), (120, 1), (7, 0)])
def test_number_of_alignments(steps, counts):
    "S labels, none equal to the one before, have T + S over 2 S alignments."
    labels = np.arange(counts) % 2 + 1
    value = CTCLoss(reduction="sum")(np.zeros((steps, 3)), labels, steps, counts)
    check_close(value, -log(comb(steps + counts, 2 * counts)),
                "minus the logarithm of the number of alignments", rtol=1e-12)


def test_mean_divides_by_the_target_lengths():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(9, 3, 4)), rng.integers(1, 4, (3, 3))
    x, lengths, counts = log_softmax(logits), [9, 8, 9], [3, 1, 0]
    each = CTCLoss(reduction="none")(x, labels, lengths, counts).data
    assert CTCLoss()(x, labels, lengths, counts).item() == pytest.approx(
        (each / [3, 1, 1]).mean(), rel=1e-12)
    assert CTCLoss(reduction="sum")(x, labels, lengths,
                                    counts).item() == pytest.approx(each.sum(), rel=1e-12)


# --- PyTorch

@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("dtype, rtol, atol", [("float64", 1e-7, 1e-12), ("float32", 1e-4, 1e-5)])
def test_equals_torch(seed, dtype, rtol, atol):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    sizes = dict(steps=int(rng.integers(1, 20)), samples=int(rng.integers(1, 6)),
                 classes=int(rng.integers(2, 7)), most=int(rng.integers(1, 7)))
    logits, labels, lengths, counts, blank = problem(rng, **sizes, scale=[1, 10][seed % 2],
                                                     dtype=dtype)
    targets = labels if seed % 3 else one_after_another(labels, counts)
    for reduction, zero in product(["none", "mean", "sum"], [False, True]):
        upstream = rng.uniform(0.5, 2,
                               sizes["samples"] if reduction == "none" else ()).astype(dtype)
        theirs = torch.tensor(logits, requires_grad=True)
        middle = theirs.log_softmax(-1)
        middle.retain_grad()
        expected = torch.nn.CTCLoss(blank, reduction, zero)(
            middle, *map(torch.tensor, (targets, lengths, counts)))
        expected.backward(torch.tensor(upstream))
        ours = Tensor(logits, requires_grad=True)
        value = CTCLoss(blank, reduction, zero)(log_softmax(ours), targets, lengths, counts)
        value.backward(upstream)
        assert value.dtype == ours.grad.dtype == dtype and value.shape == tuple(expected.shape)
        check_close(value, expected.detach().numpy(), f"the loss with {reduction}, {zero}",
                    rtol=rtol, atol=atol)
        # NaN where the loss is infinite
        check_close(ours.grad, theirs.grad.numpy(),
                    f"the logits' gradient with {reduction}, {zero}", rtol=rtol, atol=atol)
        # theirs has the probabilities added, in the time steps of a sample that counts
        if dtype == "float64" and reduction == "sum":
            _, slope = gradient_of(CTCLoss(blank, reduction, zero), middle.detach().numpy(),
                                   targets, lengths, counts, upstream=upstream)
            finite = np.isfinite(CTCLoss(blank, "none")(middle.detach().numpy(), targets, lengths,
                                                        counts).data)
            counted = (np.arange(sizes["steps"])[:, None] < lengths) & finite
            added = np.where(counted[:, :, None], np.exp(middle.detach().numpy()) * upstream, 0)
            check_close(slope + added, middle.grad.numpy(), "the gradient of the log-probabilities",
                        rtol=1e-7, atol=1e-12)


def test_equals_torch_in_a_batch_of_usual_size():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(150, 8, 80)) * 3, rng.integers(1, 80, (8, 30))
    lengths, counts = rng.integers(100, 151, 8), rng.integers(10, 31, 8)
    theirs, ours = torch.tensor(logits, requires_grad=True), Tensor(logits, requires_grad=True)
    expected = torch.nn.CTCLoss()(theirs.log_softmax(-1),
                                  *map(torch.tensor, (labels, lengths, counts)))
    value = CTCLoss()(log_softmax(ours), labels, lengths, counts)
    expected.backward()
    value.backward()
    check_close(value, expected.item(), "the loss", rtol=1e-10)
    check_close(ours.grad, theirs.grad.numpy(), "the gradient", rtol=1e-7, atol=1e-14)


def test_equals_optax():
    "optax 0.2.8's ctc_loss, recorded: it takes logits, samples first, and masks."
    logits = np.cos(np.arange(72.0)).reshape(6, 3, 4)
    value = CTCLoss(reduction="none")(log_softmax(logits), [[1, 2, 2], [3, 1, 0], [2, 0, 0]],
                                      [6, 5, 4], [3, 2, 1])
    check_close(value, [4.762561804, 3.889635038, 2.766124656], "optax's losses", rtol=1e-9)


# --- laws

draws = st.integers(0, 2**32 - 1)


@repeatable
@given(draws)
def test_samples_do_not_see_each_other(seed):
    "A batch is its samples one by one, in any order, whatever stands in the padding."
    rng = np.random.default_rng(seed)
    logits, labels, lengths, counts, blank = problem(rng, steps=7, samples=4, classes=4)
    x, loss = log_softmax(logits), CTCLoss(blank, "none")
    value, gradient = gradient_of(loss, x, labels, lengths, counts)
    for n in range(4):
        alone, slope = gradient_of(loss, x[:lengths[n] or 1, n], labels[n, :counts[n]],
                                   int(lengths[n]), int(counts[n]))
        assert alone.shape == ()
        check_close(value[n], alone, f"sample {n}", rtol=1e-12, atol=1e-12)
        check_close(gradient[:len(slope), n], slope, f"the gradient of sample {n}", rtol=1e-9,
                    atol=1e-12)
        assert (gradient[len(slope):, n] == 0).all()
    order = rng.permutation(4)
    x[np.arange(7)[:, None] >= lengths] = nan
    padding = np.where(np.arange(labels.shape[1]) < counts[:, None], labels, -100)
    check_close(loss(x[:, order], padding[order], lengths[order], counts[order]), value[order],
                "the samples in another order, with padding of NaN and -100", rtol=1e-12)


@repeatable
@given(draws)
def test_slopes_add_up_to_minus_one_at_each_time_step(seed):
    logits, labels, lengths, counts, blank = problem(np.random.default_rng(seed), steps=8,
                                                     scale=5.0)
    x, loss = log_softmax(logits), CTCLoss(blank, "none", zero_infinity=True)
    value, gradient = gradient_of(loss, x, labels, lengths, counts)
    possible = np.isfinite(CTCLoss(blank, "none")(x, labels, lengths, counts).data)
    assert (value >= 0).all() and (gradient <= 0).all()
    check_close(gradient.sum(axis=-1), -1.0 * ((np.arange(8)[:, None] < lengths) & possible),
                "the sums of the slopes", rtol=1e-12)


@repeatable
@given(draws)
def test_symmetries(seed):
    """A factor for all classes of a time step, another numbering of the classes, and the reversed
    order of everything.
    """
    rng = np.random.default_rng(seed)
    logits, labels, lengths, counts, blank = problem(rng, samples=1, classes=4, steps=6)
    x, labels, counts = log_softmax(logits)[:, 0], labels[0, :counts[0]], int(counts[0])
    value = CTCLoss(blank, "sum")(x, labels, 6, counts).item()
    factors = -rng.exponential(size=(6, 1))
    assert CTCLoss(blank, "sum")(x + factors, labels, 6, counts).item() == pytest.approx(
        value - factors.sum(), rel=1e-9, abs=1e-9)
    places = rng.permutation(4)
    assert CTCLoss(int(places[blank]), "sum")(x[:, np.argsort(places)], places[labels], 6,
                                              counts).item() == pytest.approx(value, rel=1e-12)
    assert CTCLoss(blank, "sum")(x[::-1], labels[::-1], 6,
                                 counts).item() == pytest.approx(value, rel=1e-12)


# --- extremes

@pytest.mark.parametrize("far", [1e2, 1e4, 1e15, 1e30, 1e300])
def test_huge_log_probs_give_finite_slopes(far):
    rng = np.random.default_rng(0)
    x = rng.choice([0.0, -far], (12, 3, 4))
    value, gradient = gradient_of(CTCLoss(reduction="none"), x, [[1, 1, 2], [3, 2, 1], [1, 0, 0]],
                                  [12, 12, 11], [3, 3, 1])
    assert np.isfinite(value).all() and np.isfinite(gradient).all()
    check_close(gradient.sum(axis=-1), -1.0 * (np.arange(12)[:, None] < [12, 12, 11]),
                "the sums of the slopes", rtol=1e-12)


def test_small_probabilities_are_not_lost():
    """The best beginning is a dead end by far; the only alignment that fits is e to the -10000 at
    each step.
    """
    x = np.full((6, 3), -1e4)
    x[:, 2] = 0                                     # sure that all is label 2, but the target is 1
    value, gradient = gradient_of(CTCLoss(reduction="sum"), x, [1], 6, 1)
    check_close(value, 6e4 - log(comb(7, 2)), "21 alignments of probability exp(-60000)",
                rtol=1e-12)
    check_close(gradient[:, 2], np.zeros(6), "the slope of the class that no alignment uses")


def test_zero_probabilities():
    "Classes that the model excludes: no NaN, and the slope is that of what is left."
    x = np.log([[0.5, 0.5, 0], [0, 1, 0], [0.5, 0, 0.5]],
               where=np.array([[1, 1, 0], [0, 1, 0], [1, 0, 1]], bool), out=np.full((3, 3), -inf))
    value, gradient = gradient_of(CTCLoss(reduction="sum"), x, [1, 2], 3, 2)
    check_close(value, np.log(2), "two alignments of probability 1/4")
    check_close(gradient, [[-0.5, -0.5, 0], [0, -1, 0], [0, 0, -1]], "its gradient")
    value, gradient = gradient_of(CTCLoss(reduction="sum"), x, [2, 1], 3, 2)
    assert value == inf and np.isnan(gradient).all()


@pytest.mark.parametrize("steps", [3000, 20_000])
def test_long_sequences(steps):
    value, gradient = gradient_of(CTCLoss(reduction="sum"),
                                  np.full((steps, 3), -np.log(3), "float32"), [1, 2, 2], steps, 3)
    # of alignments; a blank must be between the equal labels
    count = comb(steps + 2, 6)
    check_close(value, steps * log(3) - log(count), "the loss", rtol=1e-6)
    check_close(gradient.sum(axis=-1), -np.ones(steps), "the sums of the slopes", rtol=1e-6)


def test_impossible_samples():
    x, labels, lengths, counts = (log_softmax(np.ones((4, 3, 3))),
                                  [[1, 1, 1], [1, 2, 1], [1, 0, 0]], [4, 4, 0], [3, 3, 1])
    value, gradient = gradient_of(CTCLoss(reduction="none"), x, labels, lengths, counts)
    assert value[0] == inf and np.isfinite(value[1]) and value[2] == inf
    assert (np.isnan(gradient[:, 0]).all() and np.isfinite(gradient[:, 1]).all()
            and (gradient[:, 2] == 0).all())
    kept, gradient = gradient_of(CTCLoss(reduction="none", zero_infinity=True), x, labels, lengths,
                                 counts)
    assert (kept.tolist() == [0, value[1], 0] and (gradient[:, [0, 2]] == 0).all()
            and gradient[:, 1].any())
    assert CTCLoss(zero_infinity=True)(x, labels, lengths,
                                       counts).item() == pytest.approx(value[1] / 9)


def test_nan_passes_through():
    x = log_softmax(np.ones((4, 2, 3)))
    x[1, 0, 0] = nan
    for zero in False, True:
        value, gradient = gradient_of(CTCLoss(reduction="none", zero_infinity=zero), x, [[1], [1]],
                                      [4, 4], [1, 1])
        assert (np.isnan(value[0]) and np.isnan(gradient[:, 0]).any() and np.isfinite(value[1])
                and np.isfinite(gradient[:, 1]).all())


# --- what may be passed

@pytest.mark.parametrize("dtype, rtol", [("float16", 2e-3), ("float32", 1e-6)])
def test_narrow_dtypes(dtype, rtol):
    logits, labels, lengths, counts, blank = problem(np.random.default_rng(4), steps=9, classes=5)
    x = log_softmax(logits).astype(dtype)
    value, gradient = gradient_of(CTCLoss(blank, zero_infinity=True), x, labels, lengths, counts)
    expected, slope = gradient_of(CTCLoss(blank, zero_infinity=True), x.astype(float), labels,
                                  lengths, counts)
    assert value.dtype == gradient.dtype == dtype
    check_close(value, expected, f"the value in {dtype}", rtol=rtol)
    check_close(gradient, slope, f"the gradient in {dtype}", rtol=rtol, atol=1e-4 * rtol)


def test_bfloat16():
    dtype = np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
    x = log_softmax(np.cos(np.arange(24.0)).reshape(4, 2, 3)).astype(dtype)
    value, gradient = gradient_of(CTCLoss(), x, [[1], [2]], [4, 4], [1, 1])
    assert value.dtype == gradient.dtype == dtype
    check_close(value.astype(float), CTCLoss()(x.astype(float), [[1], [2]], [4, 4], [1, 1]),
                "the value in bfloat16", rtol=1e-2)


def test_ways_to_pass_the_same():
    x = log_softmax(np.cos(np.arange(40.0)).reshape(5, 2, 4))
    expected, gradient = gradient_of(CTCLoss(), x, np.array([[1, 2], [3, 3]]), np.array([5, 4]),
                                     np.array([2, 2]))
    for kind, other in product([list, np.array, np.float32, np.uint8, Tensor], repeat=2):
        # behind target_lengths there may be anything
        for targets in [[1, 2], [3, 3]], [1, 2, 3, 3], [[1, 2, 9], [3, 3, 0]]:
            assert CTCLoss()(x, kind(targets), other([5, 4]), kind([2, 2])).item() == expected
    for layout in np.asfortranarray(x), x[:, ::-1].copy()[:, ::-1], np.repeat(
        x, 2, axis=2)[:, :, ::2]:
        value, slope = gradient_of(CTCLoss(), layout, [[1, 2], [3, 3]], [5, 4], [2, 2])
        assert value == expected and (slope == gradient).all()
    one = CTCLoss(reduction="none")(x[:, 0], [1, 2], 5, 2)
    assert (one.shape == ()
            and one.item() == CTCLoss(reduction="none")(x[:, 0], [[1, 2]], [5],
                                            np.array([[2]])).item())
    assert F.ctc_loss(x, [[1, 2], [3, 3]], [5, 4], [2, 2], blank=0, reduction="mean",
                      zero_infinity=True).item() == expected


def test_nothing_is_changed_and_backward_may_be_called_again():
    arguments = (log_softmax(np.cos(np.arange(40.0)).reshape(5, 2, 4)), np.array([[1, 2], [3, 3]]),
                 np.array([5, 4]), np.array([2, 2]))
    copies = [x.copy() for x in arguments]
    x = Tensor(arguments[0], requires_grad=True)
    value = CTCLoss()(x, *arguments[1:])
    value.backward()
    once = x.grad.copy()
    value.backward(np.array(3.0))
    check_close(x.grad, 4 * once, "the gradients of two calls, added up", rtol=1e-12)
    assert all((a == b).all() for a, b in zip(arguments, copies))


def test_evaluation_does_not_walk_back(monkeypatch):
    x = log_softmax(np.cos(np.arange(40.0)).reshape(5, 2, 4))
    expected = CTCLoss()(Tensor(x, requires_grad=True), [[1, 2], [3, 3]], [5, 4], [2, 2]).item()
    monkeypatch.setattr(module, "posteriors", None)
    monkeypatch.setattr(module, "class_slopes", None)
    widths = []
    walk = module.forward_scores
    monkeypatch.setattr(module, "forward_scores",
                        lambda emissions, *rest: widths.append(
                            emissions.shape[2]) or walk(emissions, *rest))
    value = CTCLoss()(x, [[1, 2], [3, 3]], [5, 4], [2, 2])
    assert value.item() == expected and not value.requires_grad and widths == [2]


# --- errors

GOOD = {"log_probs": np.zeros((5, 2, 4)), "targets": [[1, 2], [3, 1]], "input_lengths": [5, 5],
        "target_lengths": [2, 2]}
WRONG = {
    "one axis": ({"log_probs": np.zeros(4)}, ValueError, ["log_probs has shape (4,)", "(T, N, C)"]),
    "four axes": ({"log_probs": np.zeros((1, 5, 2, 4))}, ValueError,
                  ["log_probs has shape (1, 5, 2, 4)"]),
    "no time": ({"log_probs": np.zeros((0, 2, 4))}, ValueError,
                ["log_probs has shape (0, 2, 4)", "not empty"]),
    "no samples": ({"log_probs": np.zeros((5, 0, 4)), "targets": np.zeros((0, 2)),
                    "input_lengths": [], "target_lengths": []},
                   ValueError, ["(5, 0, 4)", "not empty"]),
    "no classes": ({"log_probs": np.zeros((5, 2, 0))}, ValueError, ["(5, 2, 0)", "not empty"]),
    "text": ({"log_probs": np.full((5, 2, 4), "a")}, TypeError, ["log_probs has dtype"]),
    "too few input lengths": ({"input_lengths": [5]}, ValueError,
                              ["input_lengths has 1 numbers", "2 samples"]),
    "one number for two samples": ({"input_lengths": 5}, ValueError,
                                   ["input_lengths has 1 numbers", "Give one length for each"]),
    "too many target lengths": ({"target_lengths": [2, 2, 2]}, ValueError,
                                ["target_lengths has 3 numbers", "2 samples"]),
    "longer than the signal": ({"input_lengths": [5, 6]}, ValueError,
                               ["input_lengths[1] is 6", "0..5", "5 time steps"]),
    "negative input length": ({"input_lengths": [-1, 5]}, ValueError, ["input_lengths[0] is -1"]),
    "infinite input length": ({"input_lengths": [inf, 5]}, ValueError, ["input_lengths[0] is inf"]),
    "longer than the targets": ({"target_lengths": [2, 3]}, ValueError,
                                ["target_lengths[1] is 3", "0..2", "targets has shape (2, 2)"]),
    "negative target length": ({"target_lengths": [-2, 2]}, ValueError,
                               ["target_lengths[0] is -2"]),
    "half a time step": ({"input_lengths": [4.5, 5]}, ValueError,
                         ["input_lengths[0] is 4.5", "whole number"]),
    "lengths of nothing": ({"input_lengths": None}, TypeError, ["input_lengths has dtype object"]),
    "label too large": ({"targets": [[1, 4], [3, 1]]}, IndexError,
                        ["label 1 of sample 0 in targets is 4", "classes 0..3"]),
    "label too large, in a row": ({"targets": [1, 2, 3, 9]}, ValueError,
                                  ["label 1 of sample 1 in targets is 9"]),
    "negative label": ({"targets": [[1, 2], [-1, 1]]}, IndexError,
                       ["label 0 of sample 1 in targets is -1",
                        "target_lengths must leave it out"]),
    "infinite label": ({"targets": [[1, 2], [inf, 1]]}, IndexError,
                       ["label 0 of sample 1 in targets is inf"]),
    "blank as a label": ({"targets": [[1, 0], [3, 1]]}, ValueError,
                         ["label 1 of sample 0 in targets is 0", "the blank", "target_lengths"]),
    "fraction as a label": ({"targets": [[1, 2.5], [3, 1]]}, ValueError,
                            ["targets[0, 1] is 2.5", "whole number"]),
    "NaN as a label": ({"targets": [[1, nan], [3, 1]]}, ValueError, ["targets[0, 1] is nan"]),
    "a single label": ({"targets": 1}, ValueError, ["targets has shape ()", "(2, S)"]),
    "three axes of labels": ({"targets": [[[1, 2], [3, 1]]]}, ValueError,
                             ["targets has shape (1, 2, 2)"]),
    "too few rows of labels": ({"targets": [[1, 2]]}, ValueError,
                               ["targets has shape (1, 2)", "2 samples"]),
    "too many rows of labels": ({"targets": [[1, 2]] * 3}, ValueError,
                                ["targets has shape (3, 2)", "2 samples"]),
    "too few labels in a row": ({"targets": [1, 2, 3]}, ValueError,
                                ["targets has 3 labels", "add up to 4"]),
    "too many labels in a row": ({"targets": [1, 2, 3, 3, 3]}, ValueError,
                                 ["targets has 5 labels", "add up to 4", "(2, S)"]),
    "rows of different lengths": ({"targets": [[1, 2], [3]]}, ValueError,
                                  ["the rows of targets have different lengths"]),}


@pytest.mark.parametrize("wrong, error, texts", WRONG.values(), ids=WRONG)
def test_wrong_argument_is_named(wrong, error, texts):
    check_raises(error, lambda: CTCLoss()(**GOOD | wrong), "CTCLoss", *texts)


def test_wrong_option_is_named():
    check_raises(ValueError, lambda: CTCLoss(blank=4)(**GOOD), "CTCLoss: blank is 4",
                 "classes 0..3")
    check_raises(ValueError, lambda: CTCLoss(blank=-1), "CTCLoss: blank is -1")
    for wrong in 0.5, "a", True, None:
        check_raises(TypeError, lambda: CTCLoss(blank=wrong), f"CTCLoss: blank is {wrong!r}")
    check_raises(ValueError, lambda: CTCLoss(reduction="average"),
                 "CTCLoss: reduction is 'average'")


TORCH_RAISES = ["one axis", "four axes", "no time", "no samples", "no classes",
                "too few input lengths", "too many target lengths", "longer than the signal",
                "negative input length", "longer than the targets", "negative target length",
                "half a time step", "a single label", "three axes of labels",
                "too few rows of labels", "too many rows of labels", "too few labels in a row",
                "too many labels in a row"]


@pytest.mark.parametrize("name", TORCH_RAISES)
def test_torch_raises_too(name):
    torch = pytest.importorskip("torch")
    arguments = {key: torch.tensor(value) for key, value in (GOOD | WRONG[name][0]).items()}
    with pytest.raises((RuntimeError, ValueError, IndexError)):
        torch.nn.CTCLoss()(**arguments)


def test_repr_makes_the_loss_again():
    loss = CTCLoss(2, "sum", True)
    assert repr(loss) == "CTCLoss(blank=2, reduction='sum', zero_infinity=True)" == repr(
        eval(repr(loss)))
