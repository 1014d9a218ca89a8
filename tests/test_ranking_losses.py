"""Rankings, levels and preferences: what mathematics promises, lists of different lengths, and the
numbers of optax.
"""
import itertools
from decimal import Decimal, localcontext
from math import factorial, inf, log

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import tinytorch
from tinytorch.checking import check_close, check_raises, gradients_of
from tinytorch.core.tensor import Tensor
from tinytorch.nn import (BCEWithLogitsLoss, BPRLoss, CoralLoss, CrossEntropyLoss, DPOLoss,
                          ListMLELoss, ListNetLoss, RankingSoftmaxLoss, RankNetLoss, functional,
                          log_softmax)

repeatable = settings(derandomize=True, database=None, deadline=None, max_examples=60)
scores = arrays(float, (2, 5), elements=st.floats(-20, 20))
levels = arrays(float, (2, 5), elements=st.integers(0, 3).map(float))
orders = st.lists(st.permutations(range(5)), min_size=2,
                  max_size=2).map(lambda rows: np.array(rows, float))
numbers = arrays(float, 6, elements=st.floats(-50, 50))
LISTS = [RankNetLoss, ListNetLoss, RankingSoftmaxLoss, ListMLELoss]
each_list = pytest.mark.parametrize("loss_class", LISTS)
by_order = pytest.mark.parametrize("loss_class", [RankNetLoss, ListMLELoss])
each_engine = pytest.mark.parametrize("engine", ["numpy", "numba"])


def value(loss_class, *arguments, **options):
    return loss_class(reduction="none", **options)(*arguments).data


def slope(loss_class, *arguments, **options):
    return gradients_of(loss_class(reduction="sum", **options),
                        [np.asarray(x) for x in arguments])[0]


# --- Pairs

@repeatable
@given(numbers, numbers)
def test_bpr_of_both_orders_differs_by_the_lead(p, n):
    check_close(value(BPRLoss, p, n) - value(BPRLoss, n, p), n - p, "BPR of both orders", atol=1e-9)
    assert (value(BPRLoss, p, n) >= np.maximum(n - p, 0)).all()


@repeatable
@given(numbers, numbers, numbers)
def test_bpr_is_convex_and_falls_with_the_lead(p, q, n):
    assert (value(BPRLoss, (p + q) / 2, n) <= (value(BPRLoss, p, n) + value(BPRLoss, q, n)) / 2
            + 1e-9).all()
    assert (value(BPRLoss, p + 1, n) < value(BPRLoss, p, n)).all()


def test_bpr_of_infinite_leads():
    check_close(value(BPRLoss, np.array([inf, 0.0, 0.0]), np.array([0.0, -inf, inf])), [0, 0, inf],
                "BPR of infinite leads")
    check_close(slope(BPRLoss, np.array([inf, 0.0, 0.0]), np.array([0.0, -inf, inf])), [0, 0, -1],
                "its slope")


@pytest.mark.parametrize("loss_class", [RankNetLoss, ListMLELoss])
@repeatable
@given(numbers, numbers)
def test_a_list_of_two_is_a_pair(loss_class, p, n):
    pairs = np.stack([n, p], axis=-1)
    check_close(value(loss_class, pairs, np.broadcast_to([0.0, 1.0], pairs.shape)),
                value(BPRLoss, p, n), "a list of two", rtol=1e-12, atol=1e-12)


# --- Lists

@each_list
@repeatable
@given(x=scores, t=orders, shift=st.floats(-100, 100))
def test_the_order_of_scores_counts_not_their_level(loss_class, x, t, shift):
    check_close(value(loss_class, x + shift, t), value(loss_class, x, t),
                "scores that are all higher", rtol=1e-9, atol=1e-9)
    check_close(slope(loss_class, x, t).sum(axis=-1), [0, 0], "the sum of the slopes of a list",
                atol=1e-12)


@each_list
@repeatable
@given(x=scores, t=orders, order=st.permutations(range(5)))
def test_where_items_stand_does_not_matter(loss_class, x, t, order):
    check_close(value(loss_class, x[:, order], t[:, order]), value(loss_class, x, t),
                "the list in another order", rtol=1e-10, atol=1e-12)
    check_close(slope(loss_class, x[:, order], t[:, order]), slope(loss_class, x, t)[:, order],
                "its slope", rtol=1e-10, atol=1e-12)


@each_list
@repeatable
@given(x=scores, y=scores, t=levels)
def test_losses_of_lists_are_convex_and_not_negative(loss_class, x, y, t):
    one, other = value(loss_class, x, t), value(loss_class, y, t)
    assert ((value(loss_class, (x + y) / 2, t) <= (one + other) / 2 + 1e-9).all()
            and (one >= 0).all())


@by_order
@repeatable
@given(x=scores, t=levels, factor=st.floats(0.1, 10), shift=st.floats(-5, 5))
def test_only_the_order_of_relevances_counts(loss_class, x, t, factor, shift):
    for other in (factor * t + shift, np.exp(t), t**3):
        assert np.array_equal(value(loss_class, x, other), value(loss_class, x, t))


@by_order
@repeatable
@given(x=scores, t=orders)
def test_the_right_order_costs_less_than_any_exchange_of_neighbours(loss_class, x, t):
    ranked = np.sort(x, axis=-1)
    right = value(loss_class, ranked, np.broadcast_to(np.arange(5.0), x.shape))
    assert (right <= value(loss_class, ranked, t) + 1e-9).all()


def test_ranknet_without_ordered_pairs_costs_nothing():
    x, t = np.array([[3.0, 1.0]]), np.ones((1, 2))
    assert RankNetLoss()(x, t).item() == 0 and not slope(RankNetLoss, x, t).any()


@repeatable
@given(x=scores, t=scores)
def test_listnet_is_cross_entropy_with_shares_as_probabilities(x, t):
    share = np.exp(log_softmax(t))
    share = share / share.sum(axis=-1, keepdims=True)
    check_close(value(ListNetLoss, x, t), value(CrossEntropyLoss, x, share),
                "ListNet against cross-entropy", rtol=1e-9, atol=1e-9)
    check_close(value(ListNetLoss, x, t), value(RankingSoftmaxLoss, x, share),
                "ListNet against the ranking softmax of shares", rtol=1e-9, atol=1e-9)


@repeatable
@given(x=scores, t=scores, shift=st.floats(-100, 100))
def test_listnet_is_lowest_where_scores_are_relevances(x, t, shift):
    lowest = value(ListNetLoss, t, t)
    assert (lowest <= value(ListNetLoss, x, t) + 1e-9).all()
    check_close(value(ListNetLoss, t + shift, t - shift), lowest,
                "scores that are the relevances, shifted,", rtol=1e-9, atol=1e-9)
    check_close(slope(ListNetLoss, t, t), np.zeros(t.shape), "the slope there")


@repeatable
@given(x=scores, t=levels, factor=st.floats(0, 10))
def test_ranking_softmax_is_linear_in_the_relevances(x, t, factor):
    check_close(value(RankingSoftmaxLoss, x, factor * t), factor * value(RankingSoftmaxLoss, x, t),
                "relevances times a factor", rtol=1e-9, atol=1e-9)


def test_ranking_softmax_refuses_negative_relevances():
    check_raises(ValueError, lambda: RankingSoftmaxLoss()([[1.0, 2.0]], [[1.0, -1.0]]),
                 "RankingSoftmaxLoss", "target[0, 1] is -1", "at least 0")


@repeatable
@given(x=arrays(float, 4, elements=st.floats(-10, 10)))
def test_listmle_is_a_distribution_over_orders(x):
    every = np.array(list(itertools.permutations(range(4))), float)
    losses = value(ListMLELoss, np.broadcast_to(x, every.shape), every)
    check_close(np.exp(-losses).sum(), 1, "the probabilities of all orders", rtol=1e-12)
    check_close(slope(ListMLELoss, np.broadcast_to(x, every.shape), every).T @ np.exp(-losses),
                np.zeros(4), "the mean slope over the orders", atol=1e-12)


@pytest.mark.parametrize("length", [1, 2, 7, 40])
def test_listmle_of_equal_scores(length):
    check_close(ListMLELoss()(np.full(length, 3.0), np.arange(float(length))),
                log(factorial(length)), "equal scores", rtol=1e-12, atol=0)


def by_decimals(x, t):
    "The loss and the slope of ListMLE in 60 digits."
    with localcontext() as context:
        context.prec = 60
        order = sorted(range(len(x)), key=lambda i: -t[i])
        exps = [Decimal(float(x[i])).exp() for i in order]
        loss, slopes = Decimal(0), [Decimal(-1)] * len(x)
        for k in range(len(order)):
            rest = sum(exps[k:])
            loss += (rest / exps[k]).ln()
            for j in range(k, len(order)):
                slopes[order[j]] += exps[j] / rest
        return float(loss), [float(slope) for slope in slopes]


@pytest.mark.parametrize("dtype, digits", [("float64", 1e-14), ("float32", 5e-7)])
@pytest.mark.parametrize("spread", [1, 30, 1000, 10000])
def test_listmle_is_exact_for_scores_near_and_far(spread, dtype, digits):
    rng = np.random.default_rng(spread)
    x, t = (spread * rng.normal(size=(3, 7))).astype(dtype), rng.normal(size=(3, 7))
    exact = [by_decimals(*row) for row in zip(x, t)]
    check_close(value(ListMLELoss, x, t.astype(dtype)), [loss for loss, _ in exact], "the loss",
                rtol=digits, atol=0)
    check_close(slope(ListMLELoss, x, t.astype(dtype)), [slopes for _, slopes in exact],
                "the slope", rtol=digits, atol=7 * digits)


def test_listmle_takes_differences_before_sums():
    x, t = (np.arange(6, dtype="float32")[None] / 2,
            np.array([[2.0, 5.0, 0.0, 1.0, 4.0, 3.0]], "float32"))
    far = x + np.float32(2**22)                # exact, but the next number is 0.5 away
    assert (np.array_equal(value(ListMLELoss, far, t), value(ListMLELoss, x, t))
            and np.array_equal(slope(ListMLELoss, far, t), slope(ListMLELoss, x, t)))


def test_listmle_keeps_equal_relevances_as_they_stand():
    x, ties = np.array([[3.0, 1.0, 2.0]]), np.array([[1.0, 0.0, 0.0]])
    check_close(value(ListMLELoss, x, ties), value(ListMLELoss, x, [[2.0, 1.0, 0.0]]),
                "a list with ties")


# --- Items that are not there

@each_engine
@each_list
@pytest.mark.filterwarnings("ignore:.*is not compiled:RuntimeWarning")
def test_items_that_are_out_do_not_count(loss_class, engine):
    if engine == "numba":
        pytest.importorskip("numba")
    rng = np.random.default_rng(0)
    x, t = rng.normal(0, 3, (40, 6)), rng.uniform(0, 3, (40, 6))
    x[rng.random(x.shape) < 0.4] = -inf
    x[3] = -inf
    short = [(row[row > -inf][None], relevance[row > -inf][None]) for row, relevance in zip(x, t)]
    with tinytorch.engine(engine):
        for far in (t, np.where(x == -inf, 1e6, t)):
            check_close(value(loss_class, x, far),
                        [value(loss_class, *pair)[0] if pair[0].size else 0 for pair in short],
                        "lists with gaps", rtol=1e-10, atol=1e-12)
            slopes = slope(loss_class, x, far)
            assert not slopes[x == -inf].any()
            check_close(slopes[x > -inf],
                        np.concatenate([slope(loss_class, *pair)[0] for pair in short
                                        if pair[0].size]),
                        "their slopes", rtol=1e-10, atol=1e-12)


@each_list
def test_unknown_relevance_makes_the_list_unknown_unless_the_item_is_out(loss_class):
    x, t = (np.array([[1.0, 2.0, 2.0], [1.0, -inf, 2.0]]),
            np.array([[1.0, np.nan, 1.0], [1.0, np.nan, 0.0]]))
    assert list(np.isnan(value(loss_class, x, t))) == [True, False]
    assert not np.isnan(slope(loss_class, x, t)[1]).any()


@each_list
def test_scores_of_infinity_added_as_padding(loss_class):
    x, padding = (Tensor(np.array([[1.0, 2.0, 5.0]]), requires_grad=True),
                  np.array([[0.0, 0.0, -inf]]))
    loss_class()(x + padding, np.array([[1.0, 0.0, 2.0]])).backward()
    check_close(x.grad,
                [[*slope(loss_class, np.array([[1.0, 2.0]]), np.array([[1.0, 0.0]]))[0], 0]],
                "the slope of a padded list")


# Recorded from optax 0.2.8 in float64: scores, relevances, which items are valid, the loss of each
# list, the gradient of their mean.
SCORES, RELEVANCES = ([[2.0, 1.0, 3.0], [1.0, 0.5, 1.5], [0.0, -1.0, 4.0]],
                      [[1.0, 0.0, 0.0], [0.0, 2.0, 1.0], [0.5, 0.5, 0.0]])
OPTAX = [
    ([[1, 1, 1], [1, 1, 1], [1, 1, 1]], [1.4076059644443801, 4.040809011925203, 4.524744890138822],
     [[-0.25175717631506744, 0.03001019105679349, 0.22174698525827397],
      [0.3071958857184984, -0.48034294344081907, 0.1731470577223207],
      [-0.1607106727098985, -0.1644755789382303, 0.3251862516481288]]),
    ([[1, 1, 0], [1, 1, 1], [0, 1, 1]], [0.31326168751822286, 4.040809011925203, 2.503357674244559],
     [[-0.08964714045666503, 0.08964714045666503, 0.0],
      [0.3071958857184984, -0.48034294344081907, 0.1731470577223207],
      [0.0, -0.16555119151261918, 0.1655511915126192]])]


@pytest.mark.parametrize("valid, losses, gradient", OPTAX, ids=["whole lists", "where"])
def test_ranking_softmax_is_that_of_optax(valid, losses, gradient):
    x, t = np.where(np.array(valid, bool), SCORES, -inf), np.array(RELEVANCES)
    check_close(value(RankingSoftmaxLoss, x, t), losses, "the loss of each list", rtol=1e-12)
    check_close(gradients_of(RankingSoftmaxLoss(), [x, t])[0], gradient, "the gradient of the mean",
                rtol=1e-12, atol=1e-15)
    check_close(functional.ranking_softmax_loss(x, t), np.mean(losses), "the functional form",
                rtol=1e-12)


# --- Levels

@repeatable
@given(x=arrays(float, (6, 4), elements=st.floats(-50, 50)), t=arrays(np.int64, 6, elements=st.integers(0, 4)), weight=arrays(float, 4, elements=st.floats(0, 5)))
def test_coral_is_binary_cross_entropy_of_the_answers(x, t, weight):
    answers = (np.arange(4) < t[:, None]).astype(float)
    check_close(value(CoralLoss, x, t, weight=weight),
                (weight * value(BCEWithLogitsLoss, x, answers)).sum(axis=-1), "CORAL", rtol=1e-12,
                atol=1e-12)
    check_close(slope(CoralLoss, x, t, weight=weight),
                weight * slope(BCEWithLogitsLoss, x, answers), "its slope", rtol=1e-12, atol=1e-12)


@repeatable
@given(x=arrays(float, (3, 4), elements=st.floats(-20, 20)), t=arrays(np.int64, 3, elements=st.integers(0, 4)))
def test_coral_of_the_scale_turned_round(x, t):
    check_close(value(CoralLoss, -x[:, ::-1], 4 - t), value(CoralLoss, x, t),
                "levels counted from above", rtol=1e-12, atol=1e-12)


@repeatable
@given(x=arrays(float, 5, elements=st.floats(-5, 5)), t=st.integers(0, 5))
def test_coral_grows_with_the_distance_of_levels(x, t):
    falling = -np.sort(-x)
    each = [value(CoralLoss, falling, level).item() for level in range(6)]
    best = int((falling > 0).sum())
    assert (all(each[k] <= each[k - 1] + 1e-12 for k in range(1, best + 1))
            and all(each[k] <= each[k + 1] + 1e-12 for k in range(best, 5)))


@repeatable
@given(t=st.lists(st.integers(0, 4), min_size=1, max_size=30))
def test_coral_of_biases_alone_has_its_minimum_at_the_shares_in_order(t):
    t = np.array(t)
    share = np.array([(t > k).mean() for k in range(4)])
    assume((share > 0).all() and (share < 1).all())
    biases = np.log(share / (1 - share))
    assert (np.diff(biases) <= 0).all()
    gradient = slope(CoralLoss, np.broadcast_to(biases, (len(t), 4)), t).sum(axis=0)
    check_close(gradient, np.zeros(4), "the slope of the biases", atol=1e-9)


def test_coral_takes_levels_of_any_type():
    x = np.array([[1.0, -1.0], [0.5, 0.2]])
    expected = CoralLoss()(x, [2, 0])
    for t in (np.array([2, 0], "uint8"), np.array([2.0, 0.0], "float32"), Tensor([2.0, 0.0]),
              np.array([2, 0], "int64")):
        check_close(CoralLoss()(x, t), expected, "levels of another type", rtol=1e-12)
    assert CoralLoss()(x.astype("float32"), [2, 0]).dtype == np.float32
    check_close(CoralLoss()(x[:, :1], np.array([True, False])),
                BCEWithLogitsLoss()(x[:, 0], [1.0, 0.0]), "two levels")
    assert CoralLoss()(x[0], 2).shape == ()


@pytest.mark.parametrize("target, error_type, texts", [
    ([3, 0], IndexError, ["target[0] is 3", "(2, 2)", "levels 0..2"]), ([0, -1], ValueError, ["target[1] is -1", "levels 0..2"]),
    ([0.5, 0], ValueError, ["target[0] is 0.5", "whole number"]), ([np.nan, 0], ValueError, ["target[0] is nan", "whole number"]),
    ([[0], [1]], ValueError, ["target has shape (2, 1)", "(2,)"])], ids=str)
def test_coral_refuses_other_levels(target, error_type, texts):
    check_raises(error_type, lambda: CoralLoss()(np.zeros((2, 2)), target), "CoralLoss", *texts)


def test_coral_of_sure_answers():
    x = np.array([[inf, 1e4, -1e30, -inf]])
    check_close(value(CoralLoss, x, [2]), [0], "sure and right")
    check_close(slope(CoralLoss, x, [2]), np.zeros((1, 4)), "its slope")
    check_close(value(CoralLoss, x[:, 1:3], [0]), [1e4], "sure and wrong")


# --- Preferences

texts = st.tuples(*[arrays(float, 4, elements=st.floats(-500, 0))] * 4)


@repeatable
@given(texts, st.floats(0.01, 5))
def test_dpo_is_bpr_of_the_implicit_rewards(given, beta):
    chosen, rejected = beta * (given[0] - given[2]), beta * (given[1] - given[3])
    check_close(value(DPOLoss, *given, beta=beta), value(BPRLoss, chosen, rejected), "DPO",
                rtol=1e-9, atol=1e-9)
    check_close(slope(DPOLoss, *given, beta=beta), beta * slope(BPRLoss, chosen, rejected),
                "its slope", rtol=1e-9, atol=1e-9)


@repeatable
@given(texts, st.floats(0, 0.5))
def test_dpo_smoothing_mixes_both_orders(given, e):
    turned = given[1], given[0], given[3], given[2]
    mixed = (1 - e) * value(DPOLoss, *given) + e * value(DPOLoss, *turned)
    check_close(value(DPOLoss, *given, label_smoothing=e), mixed, "smoothed DPO", rtol=1e-9,
                atol=1e-9)
    check_close(value(DPOLoss, *turned, label_smoothing=0.5),
                value(DPOLoss, *given, label_smoothing=0.5), "DPO that knows nothing", rtol=1e-9,
                atol=1e-9)


@repeatable
@given(st.floats(0.01, 0.5), st.floats(0.05, 3), st.floats(-200, 0))
def test_dpo_smoothed_is_lowest_where_the_model_doubts_as_much(e, beta, other):
    base = np.full(1, -100.0)
    lead = base + log((1 - e) / e) / beta
    check_close(slope(DPOLoss, lead, base, base, base, beta=beta, label_smoothing=e), [0],
                "the slope at the minimum", atol=1e-12)
    assert (DPOLoss(beta, e)(lead, base, base, base).item() <= DPOLoss(beta, e)(
                [other], base, base, base).item() + 1e-6)


@repeatable
@given(texts, st.floats(-100, 0))
def test_dpo_counts_gains_only(given, shift):
    moved = given[0] + shift, given[1], given[2] + shift, given[3]
    check_close(value(DPOLoss, *moved), value(DPOLoss, *given),
                "chosen texts that are likelier for both models", rtol=1e-9, atol=1e-9)
    check_close(value(DPOLoss, *given[:2], *given[:2]), np.full(4, log(2)),
                "a model that is its reference")


def test_dpo_moves_the_model_and_not_its_reference():
    gradients = gradients_of(DPOLoss(), [np.zeros(3)] * 4, None)
    check_close(gradients[:2], [[-0.05 / 3] * 3, [0.05 / 3] * 3], "the gradients of the model")
    assert gradients[2] is None and gradients[3] is None


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dpo_of_long_and_of_impossible_texts(dtype):
    chosen, rejected = (np.array([-1e4, 0.0, 0.0, -inf], dtype),
                        np.array([0.0, -1e4, -inf, 0.0], dtype))
    zero = np.zeros(4, dtype)
    check_close(value(DPOLoss, chosen, rejected, zero, zero, beta=1.0), [1e4, 0, 0, inf],
                "the loss")
    check_close(slope(DPOLoss, chosen, rejected, zero, zero, beta=1.0), [-1, 0, 0, -1], "its slope")


@pytest.mark.parametrize("options, error_type, text", [
    ({"beta": 0}, ValueError, "greater than 0"), ({"beta": -0.1}, ValueError, "greater than 0"), ({"beta": None}, TypeError, "beta is None"),
    ({"label_smoothing": 0.6}, ValueError, "at most 0.5"), ({"label_smoothing": -0.1}, ValueError, "at least 0")], ids=str)
def test_dpo_refuses_other_options(options, error_type, text):
    check_raises(error_type, lambda: DPOLoss(**options), "DPOLoss", text)


def test_functional_forms():
    pair, texts = ([2.0, 0.0], [1.0, 0.0]), ([-2.0, -1.0], [-3.0, -1.0], [-2.5, -0.5], [-2.0, -1.5])
    row = [[1.0, 0.0, 2.0]], [[2.0, 1.0, 0.0]]
    for function, loss, arguments in [(functional.bpr_loss, BPRLoss(), pair),
                                      (functional.rank_net_loss, RankNetLoss(), row),
                                      (functional.list_net_loss, ListNetLoss(), row),
                                      (functional.list_mle_loss, ListMLELoss(), row),
                                      (functional.coral_loss, CoralLoss(), ([[2.0, 0.0]], [1])),
                                      (functional.dpo_loss, DPOLoss(), texts)]:
        assert function(*arguments).item() == loss(*arguments).item()


def test_gains_of_long_texts_are_exact():
    """The log-probability of a long text is large, and near that of the reference: their
    difference is exact.
    """
    chosen, rejected = np.float32(-10000), np.float32(-3.25)
    gain = DPOLoss(beta=1.0)([chosen], [rejected], [chosen - np.float32(0.5)], [rejected]).item()
    assert gain == pytest.approx(np.log1p(np.exp(-0.5)), rel=1e-6)
    other = DPOLoss(beta=1.0)([-0.3], [-10000.0], [-0.2], [-10000.0]).item()
    assert other == pytest.approx(np.log1p(np.exp(0.1)), rel=1e-6)
