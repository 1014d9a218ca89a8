"""PolyLoss, generalised cross-entropy and sparsemax: what mathematics promises, the ends of
float32, and the numbers of optax.
"""
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tinytorch.checking import check_close, check_raises, gradients_of
from tinytorch.nn import CrossEntropyLoss, GeneralizedCrossEntropyLoss, PolyLoss, SparsemaxLoss, log_softmax
from tinytorch.nn.classification_losses import threshold

repeatable = settings(derandomize=True, database=None, deadline=None, max_examples=60)
logits = arrays(float, (3, 5), elements=st.floats(-20, 20))
targets = arrays(int, 3, elements=st.integers(0, 4))
orders = st.permutations(range(5)).map(list)
LOSSES = [PolyLoss, GeneralizedCrossEntropyLoss, SparsemaxLoss]
each_loss = pytest.mark.parametrize("loss_class", LOSSES)


def each(loss_class, *options, **named):
    return loss_class(*options, **named, reduction="none")


def value(loss, *arguments):
    return loss(*arguments).data


def slope(loss, *arguments):
    return gradients_of(loss, [np.asarray(x) for x in arguments],
                        np.ones_like(value(loss, *arguments)))[0]


def surprise(x, t):
    return -log_softmax(x)[np.arange(len(t)), t]


@each_loss
@repeatable
@given(logits, targets, orders, st.floats(-100, 100))
def test_laws_of_all(loss_class, x, t, order, shift):
    loss = each(loss_class)
    assert (value(loss, x, t) >= 0).all()
    check_close(value(loss, x + shift, t), value(loss, x, t), "shifted logits", rtol=1e-6,
                atol=1e-9)
    check_close(value(loss, x[:, order], np.array([order.index(k) for k in t])), value(loss, x, t),
                "classes in another order", rtol=1e-9, atol=1e-12)
    check_close(slope(loss, x, t).sum(1), [0, 0, 0], "the sum of the slope", atol=1e-10)
    assert (slope(loss, x, t)[range(3), t] <= 0).all()
    sure = np.where(np.arange(5) == t[:, None], 1e4, x)
    check_close(value(loss, sure, t), [0, 0, 0], "sure and right")


@each_loss
def test_weights_and_ignored_samples(loss_class):
    rng = np.random.default_rng(0)
    x, t, weight = rng.normal(0, 2, (8, 3)), rng.integers(0, 3, 8), np.array([0.5, 2.0, 7.0])
    single = value(each(loss_class), x, t)
    check_close(value(each(loss_class, weight=weight), x, t), weight[t] * single,
                "each weighted loss", rtol=1e-12)
    check_close(loss_class(weight=weight)(x, t), (weight[t] * single).sum() / weight[t].sum(),
                "their mean", rtol=1e-12)
    kept = t != 1
    check_close(loss_class(ignore_index=1)(x, t), single[kept].mean(), "the mean of the kept",
                rtol=1e-12)
    assert (slope(loss_class(ignore_index=1), x, t)[~kept] == 0).all()
    check_close(loss_class(ignore_index=1)(x, np.ones(8, int)), 0, "all ignored")


@each_loss
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_ends(loss_class, dtype):
    x = np.array([[0, 1e4], [0, 1e30], [-np.inf, 0], [-3e38, 0]], dtype)
    lost = {PolyLoss: lambda gap: gap + 1,
            GeneralizedCrossEntropyLoss: lambda gap: np.ones(4) / 0.7,
            SparsemaxLoss: lambda gap: gap}[loss_class]
    check_close(value(each(loss_class), x, np.zeros(4, int)), lost(x[:, 1].astype(float) - x[:, 0]),
                "wrong and sure", rtol=1e-6)
    pull = 0 if loss_class is GeneralizedCrossEntropyLoss else 1
    check_close(slope(each(loss_class), x, np.zeros(4, int)), np.tile([-pull, pull], (4, 1)),
                "its slope")
    check_close(value(each(loss_class), x, np.ones(4, int)), np.zeros(4), "right and sure")
    check_close(slope(each(loss_class), x, np.ones(4, int)), np.zeros((4, 2)), "its slope")
    assert (np.isnan(value(each(loss_class), [[np.nan, 0.0]], [0])).all()
            and np.isnan(slope(each(loss_class), np.array([[np.nan, 0.0]]), [0])).any())


# --- PolyLoss

@repeatable
@given(logits, targets, st.floats(-1, 5))
def test_poly_lies_between_its_bounds(x, t, epsilon):
    loss, entropy = value(each(PolyLoss, epsilon), x, t), surprise(x, t)
    check_close(loss - entropy, epsilon * -np.expm1(-entropy), "what it adds to cross-entropy",
                atol=1e-9)
    assert (loss <= (1 + max(epsilon, 0)) * entropy + 1e-12).all()


def test_poly_of_0_is_cross_entropy():
    rng = np.random.default_rng(0)
    x, t = rng.normal(0, 3, (9, 4)), rng.integers(0, 4, 9)
    check_close(value(each(PolyLoss, 0.0), x, t), value(each(CrossEntropyLoss), x, t), "the loss",
                rtol=1e-13)
    check_close(slope(each(PolyLoss, 0.0), x, t), slope(each(CrossEntropyLoss), x, t), "its slope",
                rtol=1e-12, atol=1e-16)


def test_poly_errors():
    check_raises(ValueError, lambda: PolyLoss(-1.5), "PolyLoss: epsilon is -1.5", "at least -1")
    check_raises(TypeError, lambda: PolyLoss("1"), "must be a number")


# --- Generalised cross-entropy

@repeatable
@given(logits, targets, st.floats(0.01, 1))
def test_generalised_laws(x, t, q):
    loss, entropy = value(each(GeneralizedCrossEntropyLoss, q), x, t), surprise(x, t)
    assert (loss <= np.minimum(entropy, 1 / q) * (1 + 1e-12)).all(), "below cross-entropy and 1 / q"
    assert (loss >= -np.expm1(-entropy) - 1e-12).all(), "above the absolute error"
    assert (value(each(GeneralizedCrossEntropyLoss, q / 2), x, t) >= loss
            - 1e-12).all(), "it falls with q"
    assert np.abs(slope(each(GeneralizedCrossEntropyLoss, q), x, t)).max() <= 1


def test_generalised_at_its_ends():
    rng = np.random.default_rng(0)
    x, t = rng.normal(0, 3, (9, 4)), rng.integers(0, 4, 9)
    check_close(value(each(GeneralizedCrossEntropyLoss, 1.0), x, t), -np.expm1(-surprise(x, t)),
                "q = 1: the absolute error", rtol=1e-12)
    for q in 1e-6, 1e-12, 1e-30:
        check_close(value(each(GeneralizedCrossEntropyLoss, q), x, t), surprise(x, t),
                    f"q = {q}: cross-entropy", rtol=1e-4)
        check_close(slope(each(GeneralizedCrossEntropyLoss, q), x, t),
                    slope(each(CrossEntropyLoss), x, t), "its slope", rtol=1e-4)


def test_generalised_errors():
    for wrong in 0, -0.1, 1.5:
        check_raises(ValueError, lambda: GeneralizedCrossEntropyLoss(wrong),
                     f"GeneralizedCrossEntropyLoss: q is {wrong}", "greater than 0 and at most 1")


# --- sparsemax

def projection(row):
    "The distribution nearest to `row`, by trying every support."
    best = None
    for size in range(1, len(row) + 1):
        for support in combinations(range(len(row)), size):
            p = np.zeros(len(row))
            p[list(support)] = row[list(support)] - (row[list(support)].sum() - 1) / size
            if (p >= 0).all() and (best is None
                                   or ((p - row) ** 2).sum() < ((best - row) ** 2).sum()):
                best = p
    return best


@repeatable
@given(arrays(float, (3, 5), elements=st.floats(-2, 2)), targets)
def test_sparsemax_is_the_nearest_distribution(x, t):
    p = np.maximum(x - threshold(x), 0)
    check_close(p, [projection(row) for row in x], "sparsemax", atol=1e-9)
    check_close(p.sum(1), [1, 1, 1], "its sum")
    check_close(slope(each(SparsemaxLoss), x, t), p - np.eye(5)[t], "the slope of the loss",
                atol=1e-9)


@repeatable
@given(logits, logits, targets)
def test_sparsemax_is_convex_and_ends(x, y, t):
    loss = each(SparsemaxLoss)
    assert (value(loss, (x + y) / 2, t) <= (value(loss, x, t) + value(loss, y, t)) / 2 + 1e-9).all()
    others = np.where(np.arange(5) == t[:, None], -np.inf, x).max(1)
    lead = x[range(3), t] - others
    assert (((value(loss, x, t) < 1e-12) == (lead > 1 - 1e-6)).all()
            or (np.abs(lead - 1) < 1e-5).any())


def test_sparsemax_keeps_its_digits():
    "Squares of logits near 1e4 leave nothing of the loss in float32; half steps are exact in both."
    x, t = np.array([[0.5, 0.0, -0.25], [2.0, 0.0, 1.5], [0.0, -3e38, -3e38]]), [1, 2, 0]
    exact = value(each(SparsemaxLoss), x, t)
    check_close(value(each(SparsemaxLoss), x.astype("float32"), t), exact, "in float32", rtol=1e-6)
    check_close(slope(each(SparsemaxLoss), x.astype("float32"), t),
                slope(each(SparsemaxLoss), x, t), "the slope in float32", rtol=1e-6)
    check_close(value(each(SparsemaxLoss), (x[:2] + 8192).astype("float32"), t[:2]), exact[:2],
                "shifted, in float32", rtol=1e-6)


# --- By optax 0.2.8 and jax in float64: `python tests/test_classification_losses.py` where they are
# installed prints them.

SCORES, CLASSES = (np.array([[0.5, -2.0, 3.0], [0.25, 0.0, -0.5], [30.0, 0.0, -30.0]]),
                   np.array([0, 1, 2]))
OURS = {"poly, epsilon 2": each(PolyLoss, 2.0), "poly, epsilon -1": each(PolyLoss, -1.0),
        "sparsemax": each(SparsemaxLoss)}
OPTAX = {"poly, epsilon 2": ([4.434319750438316, 2.3695405079497744, 62.00000000000009],
                             [[-1.0640218213241401, 0.007121339430308526, 1.0569004818938317],
                              [0.7515693581410952, -1.1065855849919815, 0.3550162268508862],
                              [0.9999999999999065, 9.3576229688393e-14, -1.0]]),
         "poly, epsilon -1": ([1.6604859943273067, 0.40740309241688344, 59.00000000000009],
                              [[-0.8549059673934349, 0.0057217581940457885, 0.8491842091993891],
                               [0.29053628967195055, -0.4277759152704546, 0.13723962559850414],
                               [0.9999999999999065, 9.3576229688393e-14, -1.0]]),
         "sparsemax": ([2.5, 0.390625, 60.0],
                       [[-1.0, 0.0, 1.0], [0.625, -0.625, 0.0], [1.0, 0.0, -1.0]])}


@pytest.mark.parametrize("name", OURS)
def test_equals_optax(name):
    for what, mine, theirs in zip(
        ("loss", "slope"), (value(OURS[name], SCORES, CLASSES), slope(OURS[name], SCORES, CLASSES)),
        OPTAX[name]):
        check_close(mine, theirs, f"the {what} of optax: {name}", rtol=1e-10, atol=1e-15)


def record():
    "Optax's values and slopes."
    import jax
    jax.config.update("jax_enable_x64", True)
    from optax import losses as o
    hot = np.eye(3)[CLASSES]
    calls = {"poly, epsilon 2": lambda x: o.poly_loss_cross_entropy(x, hot, epsilon=2.0),
             "poly, epsilon -1": lambda x: o.poly_loss_cross_entropy(x, hot, epsilon=-1.0),
             "sparsemax": lambda x: o.multiclass_sparsemax_loss(x, CLASSES)}
    for name, call in calls.items():
        print(f'    "{name}": ({call(SCORES).tolist()},\n        '
              f'{jax.grad(lambda x: call(x).sum())(SCORES).tolist()}),')


if __name__ == "__main__":
    record()
