"""Margin losses: what mathematics promises, how they are related, ties and infinite scores, and
the numbers of optax.
"""
import tracemalloc
from math import inf, log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import tinytorch
from tinytorch.checking import check_close, check_raises, gradients_of
from tinytorch.core.tensor import Tensor
from tinytorch.nn.arguments import label_lists
from tinytorch.nn import (CategoricalHingeLoss, HingeEmbeddingLoss, HingeLoss, MarginRankingLoss,
                          MulticlassPerceptronLoss, MultiLabelMarginLoss, MultiLabelSoftMarginLoss,
                          MultiMarginLoss, PerceptronLoss, SoftMarginLoss, SquaredHingeLoss)

pytestmark = pytest.mark.filterwarnings("error", "ignore:multilabel_margin is not compiled")
repeatable = settings(derandomize=True, database=None, deadline=None, max_examples=60)
scores = arrays(float, 6, elements=st.floats(-20, 20))
signs = arrays(float, 6, elements=st.sampled_from([-1.0, 1.0]))
rows = arrays(float, (3, 5), elements=st.floats(-20, 20))
classes = arrays(int, 3, elements=st.integers(0, 4))
sets = arrays(bool, (3, 5))
orders = st.permutations(range(5)).map(list)
HINGES = [HingeLoss, SquaredHingeLoss, PerceptronLoss, SoftMarginLoss]
RIVALS = {"p=1": (MultiMarginLoss, {}), "p=2": (MultiMarginLoss, {"p": 2, "margin": 0.5}),
          "best": (CategoricalHingeLoss, {}), "perceptron": (MulticlassPerceptronLoss, {})}
each_hinge = pytest.mark.parametrize("loss_class", HINGES)
each_rival = pytest.mark.parametrize("loss_class, options", RIVALS.values(), ids=RIVALS)


@pytest.fixture(params=["numpy", "numba"])
def engine(request):
    if request.param == "numba":
        pytest.importorskip("numba")
    with tinytorch.engine(request.param):
        yield


def value(loss_class, *arguments, **options):
    return loss_class(reduction="none", **options)(*arguments).data


def slopes(loss_class, *arguments, **options):
    return gradients_of(loss_class(reduction="sum", **options), [np.asarray(x) for x in arguments])


def slope(loss_class, *arguments, **options):
    return slopes(loss_class, *arguments, **options)[0]


def lists(member):
    "Sets of classes, as rows of truths, as lists of indices that end with -1."
    return np.array([[*np.flatnonzero(row), *[-1] * (~row).sum()] for row in member])


def convex(loss_class, x, y, *others, **options):
    ends = value(loss_class, x, *others, **options), value(loss_class, y, *others, **options)
    return (value(loss_class, (x + y) / 2, *others, **options) <= np.add(*ends) / 2 + 1e-9).all()


# --- One score

@each_hinge
@repeatable
@given(scores, scores, signs)
def test_laws_of_hinges(loss_class, x, y, t):
    assert (value(loss_class, x, t) >= 0).all() and convex(loss_class, x, y, t)
    assert (slope(loss_class, x, t) * t <= 0).all(), "it never pulls away from the target"
    check_close(value(loss_class, -x, -t), value(loss_class, x, t),
                "scores and targets of the other sign")
    check_close(slope(loss_class, -x, -t), -slope(loss_class, x, t), "their slope")


@repeatable
@given(scores, signs, st.floats(0.01, 100))
def test_hinges_are_related(x, t, scale):
    hinge, perceptron, soft = (value(loss_class, x, t)
                               for loss_class in (HingeLoss, PerceptronLoss, SoftMarginLoss))
    check_close(value(SquaredHingeLoss, x, t), hinge**2, "the squared hinge")
    assert ((hinge == 0) == (t * x >= 1)).all() and ((perceptron == 0) == (t * x >= 0)).all()
    check_close(value(PerceptronLoss, scale * x, t), scale * perceptron,
                "the perceptron's loss of scaled scores")
    assert ((perceptron <= soft).all() and (soft <= perceptron + log(2)).all()
            and (hinge <= perceptron + 1).all())


def test_slopes_at_corners(engine):
    one = np.array([1.0])
    for loss_class, corner, pull in (HingeLoss, 1.0, -1), (
        SquaredHingeLoss, 1.0, 0), (PerceptronLoss, 0.0, -1), (SoftMarginLoss, 0.0, -0.5):
        check_close(slope(loss_class, corner * one, one), [pull],
                    f"the slope of {loss_class.__name__} at {corner}")
        check_close(slope(loss_class, -corner * one, -one), [-pull],
                    f"the slope of {loss_class.__name__} at {-corner}")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_hinges_at_the_ends(dtype, engine):
    x, t = (np.array([inf, inf, -inf, -inf, 1e30, -1e30], dtype),
            np.array([1, -1, 1, -1, 1, 1], dtype))
    for loss_class, far, pull in (HingeLoss, 1e30, 1), (PerceptronLoss, 1e30, 1), (
        SoftMarginLoss, 1e30, 1), (SquaredHingeLoss, {"float32": inf, "float64": 1e60}[dtype],
                                   2e30):
        end = inf if loss_class is SquaredHingeLoss else 1
        check_close(value(loss_class, x, t), [0, inf, inf, 0, 0, far],
                    f"{loss_class.__name__} at the ends")
        check_close(slope(loss_class, x, t), [0, end, -end, 0, 0, -pull],
                    f"the slope of {loss_class.__name__} there")


@pytest.mark.parametrize("loss_class", [*HINGES, HingeEmbeddingLoss])
def test_labels_of_0_are_refused(loss_class, engine):
    check_raises(ValueError, lambda: loss_class()([5.0, 5.0], [1.0, 0.0]),
                 f"{loss_class.__name__}: target[1] is 0", "2 * target - 1")


# --- Two things compared

@repeatable
@given(scores, scores, signs, st.floats(-2, 3), st.floats(0.01, 100), st.floats(-100, 100))
def test_laws_of_margin_ranking(a, b, t, margin, scale, shift):
    loss = value(MarginRankingLoss, a, b, t, margin=margin)
    assert (loss >= 0).all()
    check_close(value(MarginRankingLoss, b, a, -t, margin=margin), loss,
                "the pair the other way round")
    check_close(value(MarginRankingLoss, a + shift, b + shift, t, margin=margin), loss,
                "both scores shifted", atol=1e-9)
    check_close(value(MarginRankingLoss, scale * a, scale * b, t, margin=scale * margin),
                scale * loss, "all scaled", atol=1e-9)
    first, second, _ = slopes(MarginRankingLoss, a, b, t, margin=margin)
    check_close(first, -second, "the slopes of both scores")
    check_close(value(MarginRankingLoss, a, 0 * a, t, margin=1.0), value(HingeLoss, a, t),
                "against a score of 0, the hinge")
    check_close(slopes(MarginRankingLoss, a, 0 * a, t, margin=1.0)[0], slope(HingeLoss, a, t),
                "its slope")


def test_margin_ranking_of_infinite_leads(engine):
    a, b, t = np.array([inf, 0.0, 0.0]), np.array([0.0, inf, inf]), np.array([1.0, -1.0, 1.0])
    check_close(value(MarginRankingLoss, a, b, t, margin=1.0), [0, 0, inf], "the loss")
    for what, mine, expected in zip(("first", "second", "target"),
                                    slopes(MarginRankingLoss, a, b, t, margin=1.0),
                                    ([0, 0, -1], [0, 0, 1], [0, 0, inf])):
        check_close(mine, expected, f"the slope of the {what}")


def test_one_target_stands_for_all_pairs(engine):
    a, b, t = Tensor([2.0, 0.0, 1.0]), Tensor([1.5, 3.0, 1.0]), Tensor(1.0, requires_grad=True)
    loss = MarginRankingLoss(1.0, "sum")(a, b, t)
    loss.backward()
    check_close(loss, 0.5 + 4 + 1, "the sum")
    check_close(t.grad, -0.5 + 3 + 0, "the slope of the target")


@repeatable
@given(arrays(float, 6, elements=st.floats(0, 20)), signs, st.floats(0, 5))
def test_laws_of_hinge_embedding(x, t, margin):
    loss = value(HingeEmbeddingLoss, x, t, margin=margin)
    check_close(loss[t == 1], x[t == 1], "similar things cost their distance")
    check_close(loss[t == -1],
                value(MarginRankingLoss, x, 0 * x, 1 + 0 * x, margin=margin)[t == -1],
                "others are asked to rank above 0")
    check_close(value(HingeEmbeddingLoss, x, t)[t == -1], value(HingeLoss, x, -t)[t == -1],
                "with margin 1, the hinge")


def test_hinge_embedding_at_corners_and_ends(engine):
    x, t = np.array([1.0, inf, inf, 0.0]), np.array([-1.0, -1.0, 1.0, 1.0])
    check_close(value(HingeEmbeddingLoss, x, t), [0, 0, inf, 0], "the loss")
    check_close(slope(HingeEmbeddingLoss, x, t), [-1, 0, 1, 1], "its slope")


# --- One class of several

@each_rival
@repeatable
@given(x=rows, y=rows, t=classes, order=orders, shift=st.floats(-100, 100))
def test_laws_of_rivals(loss_class, options, x, y, t, order, shift):
    loss, pull = value(loss_class, x, t, **options), slope(loss_class, x, t, **options)
    assert (loss >= 0).all() and convex(loss_class, x, y, t, **options)
    check_close(value(loss_class, x + shift, t, **options), loss, "shifted scores", rtol=1e-6,
                atol=1e-9)
    check_close(value(loss_class, x[:, order], np.array([order.index(k) for k in t]), **options),
                loss, "classes in another order")
    check_close(pull.sum(1), [0, 0, 0], "the sum of the slope", atol=1e-9)
    assert (np.where(np.arange(5) == t[:, None], -pull,
                     pull) >= 0).all(), "the target is pulled up, rivals down"


@repeatable
@given(rows, classes, st.floats(-2, 3), st.floats(0.01, 100))
def test_rivals_are_related(x, t, margin, scale):
    lead = x[range(3), t] - np.where(np.arange(5) == t[:, None], -inf, x).max(1)
    best, every = value(CategoricalHingeLoss, x, t), 5 * value(MultiMarginLoss, x, t)
    check_close(best, np.maximum(1 - lead, 0), "the categorical hinge")
    check_close(value(MulticlassPerceptronLoss, x, t), np.maximum(-lead, 0),
                "the perceptron's loss")
    assert (best <= every + 1e-9).all() and (every <= 4 * best + 1e-9).all()
    for p in 1, 2:
        scaled = value(MultiMarginLoss, scale * x, t, p=p, margin=scale * margin)
        check_close(scaled, scale**p * value(MultiMarginLoss, x, t, p=p, margin=margin),
                    "all scaled", rtol=1e-6, atol=1e-6)


@repeatable
@given(scores, arrays(int, 6, elements=st.integers(0, 1)))
def test_two_classes_are_one_score(x, t):
    x = np.round(x)                    # leads of exactly 0 and 1 too
    pair, sign = np.stack([0 * x, x], axis=1), 2.0 * t - 1
    for of_pairs, of_scores in (CategoricalHingeLoss, HingeLoss), (
        MulticlassPerceptronLoss, PerceptronLoss):
        check_close(value(of_pairs, pair, t), value(of_scores, x, sign), of_pairs.__name__)
        check_close(slope(of_pairs, pair, t)[:, 1], slope(of_scores, x, sign),
                    f"the slope of {of_pairs.__name__}")
    check_close(2 * value(MultiMarginLoss, pair, t), value(HingeLoss, x, sign), "MultiMarginLoss")
    check_close(2 * value(MultiMarginLoss, pair, t, p=2), value(SquaredHingeLoss, x, sign),
                "MultiMarginLoss with p=2")
    check_close(2 * slope(MultiMarginLoss, pair, t, p=2)[:, 1], slope(SquaredHingeLoss, x, sign),
                "its slope")


def test_ties_share_the_slope_and_learning_can_start(engine):
    x, t = np.array([[0.0, 0, 0, 0], [1, 0, 0, -1], [2, 0, 0, 0]]), np.array([0, 0, 0])
    check_close(slope(CategoricalHingeLoss, x, t),
                [[-1, 1 / 3, 1 / 3, 1 / 3], [-1, 0.5, 0.5, 0], [0, 0, 0, 0]],
                "the slope of the categorical hinge")
    check_close(slope(MulticlassPerceptronLoss, x, t),
                [[-1, 1 / 3, 1 / 3, 1 / 3], [0, 0, 0, 0], [0, 0, 0, 0]],
                "the slope of the perceptron")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_masked_and_infinite_scores(dtype, engine):
    "A score of -inf takes a class out; the others keep their loss and slope."
    x, t = np.array([[0.5, -inf, 1, 0], [inf, 0, -inf, 1], [-inf, 0, 1, 1], [0, -inf, -inf, -inf]],
                    dtype), np.array([0, 0, 0, 0])
    check_close(value(CategoricalHingeLoss, x, t), [1.5, 0, inf, 0], "the categorical hinge")
    check_close(slope(CategoricalHingeLoss, x, t),
                [[-1, 0, 1, 0], [0] * 4, [-1, 0, 0.5, 0.5], [0] * 4], "its slope")
    check_close(value(MultiMarginLoss, x, t), [0.5, 0, inf, 0], "multi-margin")
    check_close(slope(MultiMarginLoss, x, t),
                [[-0.5, 0, 0.25, 0.25], [0] * 4, [-0.75, 0.25, 0.25, 0.25], [0] * 4], "its slope")
    check_close(value(MultiLabelMarginLoss, x, lists(np.arange(4) == t[:, None])), [0.5, 0, inf, 0],
                "multi-label margin of one label")
    single = np.array([[3.0]], dtype)
    check_close(value(MultiMarginLoss, single, [0]), [0],
                "multi-margin without a rival, as in PyTorch")
    check_close(slope(MultiMarginLoss, single, np.array([0])), [[0]], "its slope")


@pytest.mark.parametrize("level", [1e4, 1e8, 3e37])
def test_the_margin_is_kept_among_large_scores(level, engine):
    "In float32, 1e8 - 1 is 1e8: the lead has to be taken before the margin is added."
    x = np.full((1, 3), level, "float32")
    check_close(value(CategoricalHingeLoss, x, [0]), [1], "the categorical hinge of equal scores")
    check_close(value(MultiMarginLoss, x, [0]), [2 / 3], "multi-margin")
    check_close(value(MultiLabelMarginLoss, x, [[0, -1, -1]]), [2 / 3], "multi-label margin")


def test_the_mean_with_weights_divides_by_the_samples(engine):
    rng = np.random.default_rng(0)
    x, t, weight = rng.normal(size=(7, 3)), rng.integers(0, 3, 7), np.array([0.0, 0.5, 7.0])
    single = value(MultiMarginLoss, x, t)
    check_close(value(MultiMarginLoss, x, t, weight=weight), weight[t] * single,
                "each weighted loss")
    check_close(MultiMarginLoss(weight=weight)(x, t), (weight[t] * single).sum() / 7, "their mean")
    check_close(value(MultiMarginLoss, [[inf, inf]], [0], weight=np.array([0.0, 1.0])), [0],
                "a class of weight 0, whatever its score")


def test_multi_margin_errors():
    for wrong in 0, 3, 1.5:
        check_raises(ValueError, lambda: MultiMarginLoss(p=wrong), f"MultiMarginLoss: p is {wrong}")
    for loss_class in MultiMarginLoss, CategoricalHingeLoss, MulticlassPerceptronLoss, MultiLabelMarginLoss:
        check_raises(ValueError,
                     lambda: loss_class()(
                         np.zeros((2, 0)),
                         np.zeros((2, 0) if loss_class is MultiLabelMarginLoss else 2, int)),
                     "input has shape (2, 0)")
        check_raises(ValueError, lambda: loss_class()(np.zeros((2, 3, 4)), np.zeros((2, 4), int)),
                     "input has shape (2, 3, 4)")


# --- Several labels

@repeatable
@given(rows, rows, sets, orders)
def test_laws_of_multilabel_margin(x, y, member, order):
    labels = lists(member)
    loss, pull = value(MultiLabelMarginLoss, x, labels), slope(MultiLabelMarginLoss, x, labels)
    assert (loss >= 0).all() and convex(MultiLabelMarginLoss, x, y, labels)
    check_close(value(MultiLabelMarginLoss, x[:, order], lists(member[:, order])), loss,
                "classes in another order")
    check_close(pull.sum(1), [0, 0, 0], "the sum of the slope", atol=1e-9)
    assert ((np.where(member, -pull, pull) >= 0).all()
            and (loss[member.all(1) | ~member.any(1)] == 0).all())
    check_close(value(MultiLabelMarginLoss, x, lists(~member)),
                value(MultiLabelMarginLoss, -x, labels),
                "the other classes, with scores of the other sign")


@repeatable
@given(x=rows, t=classes, order=orders)
def test_lists_of_labels(x, t, order):
    "One label is a class; the order of a list, and what follows its end, do not matter."
    one = lists(np.arange(5) == t[:, None])
    check_close(value(MultiLabelMarginLoss, x, one), value(MultiMarginLoss, x, t), "one label")
    check_close(slope(MultiLabelMarginLoss, x, one), slope(MultiMarginLoss, x, t), "its slope")
    length = t[0]
    listed = np.tile([*order[:length], -1, *order[length + 1:]], (3, 1))
    bare = np.where(np.arange(5) < length, np.sort(np.where(np.arange(5) < length, listed, 9)), -1)
    check_close(value(MultiLabelMarginLoss, x, listed), value(MultiLabelMarginLoss, x, bare),
                "a list in another order, with a rest")
    check_close(slope(MultiLabelMarginLoss, x, listed), slope(MultiLabelMarginLoss, x, bare),
                "its slope")


def test_multilabel_margin_needs_no_pairs_of_classes():
    x = np.random.default_rng(0).normal(size=(64, 1000)).astype("float32")
    labels = np.where(np.arange(1000) < 5, np.arange(1000), -1) * np.ones((64, 1), int)
    tracemalloc.start()
    MultiLabelMarginLoss()(Tensor(x, requires_grad=True), labels).backward()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * x.nbytes, f"{peak / x.nbytes:.1f} times the input; all pairs are 1000 times"


def test_multilabel_errors(engine):
    x = np.zeros((2, 3))
    for wrong, error, text in (1.5, ValueError, "whole number"), (
        -2, ValueError, "ended by -1"), (3, IndexError, "0..2"), (3, ValueError, "0..2"), (
        np.nan, ValueError, "whole number"):
        labels = np.array([[0.0, -1, -1], [1, wrong, -1]])
        check_raises(error, lambda: MultiLabelMarginLoss()(x, labels),
                     "MultiLabelMarginLoss: target[1, 1] is", text)
    check_raises(ValueError, lambda: MultiLabelMarginLoss()(x, np.array([0, 1])),
                 "input has shape (2, 3)", "target has shape (2,)")
    check_raises(ValueError, lambda: MultiLabelSoftMarginLoss()(x, x - 1),
                 "MultiLabelSoftMarginLoss: target[0, 0] is -1", "(target + 1) / 2")


@repeatable
@given(rows, rows, sets, arrays(float, 5, elements=st.floats(0, 3)), orders)
def test_laws_of_multilabel_soft_margin(x, y, member, weight, order):
    t, soft = member.astype(float), value(SoftMarginLoss, x, 2.0 * member - 1)
    loss = value(MultiLabelSoftMarginLoss, x, t, weight=weight)
    check_close(loss, (weight * soft).mean(1), "the weighted mean of soft margins")
    assert convex(MultiLabelSoftMarginLoss, x, y, t, weight=weight)
    check_close(value(MultiLabelSoftMarginLoss, -x, 1 - t, weight=weight), loss,
                "scores and labels exchanged")
    check_close(value(MultiLabelSoftMarginLoss, x[:, order], t[:, order], weight=weight[order]),
                loss, "classes in another order")


@repeatable
@given(rows)
def test_multilabel_soft_margin_is_least_at_the_logits_of_its_target(x):
    p = 1 / (1 + np.exp(-x))
    check_close(slope(MultiLabelSoftMarginLoss, x, p), np.zeros((3, 5)),
                "the slope at the target's logits", atol=1e-12)
    check_close(slopes(MultiLabelSoftMarginLoss, x, p)[1], -x / 5, "the slope of the target",
                rtol=1e-15, atol=0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_multilabel_soft_margin_at_the_ends(dtype, engine):
    x, t = (np.array([[inf, -inf], [1e30, -1e30], [-inf, 0]], dtype),
            np.array([[1, 0], [1, 0], [1, 0.5]], dtype))
    check_close(value(MultiLabelSoftMarginLoss, x, t), [0, 0, inf], "the loss")
    check_close(slope(MultiLabelSoftMarginLoss, x, t), [[0, 0], [0, 0], [-0.5, 0]], "its slope")
    weight = np.array([0.0, 2.0])
    for lost in inf, -inf, np.nan:
        x, t = np.array([[lost, 0.0]], dtype), np.array([[0, 1]], dtype)
        check_close(value(MultiLabelSoftMarginLoss, x, t, weight=weight), [log(2)],
                    f"{lost} in a class of weight 0")
        for what, mine, expected in zip(("input", "target"),
                                        slopes(MultiLabelSoftMarginLoss, x, t, weight=weight),
                                        ([[0, -0.5]], [[0, 0]])):
            check_close(mine, expected, f"the slope of the {what}")


# --- By optax 0.2.8 and jax in float64, away from corners: `python tests/test_margin_losses.py`
# where they are installed prints them.

X, SIGN = np.array([2.0, 0.5, -1.0, 0.25, 30.0, -1e4]), np.array([1.0, 1.0, 1.0, -1.0, -1.0, 1.0])
ROWS, CLASSES = np.array([[0.5, -2.0, 3.0], [0.25, 0.0, -0.5], [30.0, 0.0, -30.0],
                          [-4.0, -2.5, -5.0]]), np.array([0, 0, 2, 1])
OURS = {"hinge_loss": (HingeLoss, X, SIGN), "perceptron_loss": (PerceptronLoss, X, SIGN),
        "multiclass_hinge_loss": (CategoricalHingeLoss, ROWS, CLASSES),
        "multiclass_perceptron_loss": (MulticlassPerceptronLoss, ROWS, CLASSES)}
OPTAX = {
    "hinge_loss": ([0.0, 0.5, 2.0, 1.25, 31.0, 10001.0],
        [-0.0, -1.0, -1.0, 1.0, 1.0, -1.0]),
    "perceptron_loss": ([0.0, 0.0, 1.0, 0.25, 30.0, 10000.0],
        [-0.0, -0.0, -1.0, 1.0, 1.0, -1.0]),
    "multiclass_hinge_loss": ([3.5, 0.75, 61.0, 0.0],
        [[-1.0, 0.0, 1.0], [-1.0, 1.0, 0.0], [1.0, 0.0, -1.0], [0.0, 0.0, 0.0]]),
    "multiclass_perceptron_loss": ([2.5, 0.0, 60.0, 0.0],
        [[-1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [1.0, 0.0, -1.0], [0.0, 0.0, 0.0]])}


@pytest.mark.parametrize("name", OURS)
def test_equals_optax(name):
    for what, mine, theirs in zip(("loss", "slope"), (value(*OURS[name]), slope(*OURS[name])),
                                  OPTAX[name]):
        check_close(mine, theirs, f"the {what} of optax: {name}", rtol=1e-12)


def record():
    "Optax's values and slopes."
    import jax
    jax.config.update("jax_enable_x64", True)
    from optax import losses
    for name, (_, x, t) in OURS.items():
        call = getattr(losses, name)
        print(f'    "{name}": ({call(x, t).tolist()},\n        '
              f'{jax.grad(lambda x: call(x, t).sum())(x).tolist()}),')


if __name__ == "__main__":
    record()


def test_label_lists_for_tests_have_every_length():
    lists = label_lists(np.random.default_rng(0), (2, 5, 4))
    lengths = (lists >= 0).sum(-1)
    assert set(lengths.ravel()) == {0, 1, 2, 3, 4}
    for row, length in zip(lists.reshape(-1, 4), lengths.ravel()):
        assert len(set(row[:length])) == length and (row[length:] == -1).all()
