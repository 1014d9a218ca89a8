"""Focal, Dice, Tversky and Lovász losses: what mathematics promises, where float32 and infinity
bite, and the numbers of optax and Keras.
"""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tinytorch.checking import check_close, check_raises, gradients_of
from tinytorch.nn import (BCEWithLogitsLoss, BinaryFocalLoss, CrossEntropyLoss, DiceLoss,
                          FocalLoss, LovaszHingeLoss, TverskyLoss, log_softmax)
from tinytorch.nn.segmentation_losses import lovasz_hinge

repeatable = settings(derandomize=True, database=None, deadline=None, max_examples=60)
logits = arrays(float, (2, 6), elements=st.floats(-20, 20))
masks = arrays(float, (2, 6), elements=st.sampled_from([0.0, 1.0]))
orders = st.permutations(range(6)).map(list)
gammas, weights = st.floats(0, 5), st.floats(0.01, 2)
REGIONS = [DiceLoss, TverskyLoss, LovaszHingeLoss]
each_region = pytest.mark.parametrize("loss_class", REGIONS)


def value(loss, *arguments):
    return loss(*arguments).data


def slope(loss, *arguments):
    return gradients_of(loss, [np.asarray(x) for x in arguments],
                        np.ones_like(value(loss, *arguments)))[0]


def each(loss_class, *options, **named):
    return loss_class(*options, **named, reduction="none")


def signed(x):
    "A mask as hard predictions, sure beyond any rounding."
    return np.where(np.asarray(x) > 0, np.inf, -np.inf)


def overlap(one, other):
    return ((one > 0) & (other > 0)).sum(-1), ((one > 0) | (other > 0)).sum(-1)


# --- focal

@repeatable
@given(logits, masks, gammas, st.floats(0, 1))
def test_binary_focal_laws(x, t, gamma, alpha):
    focal, entropy = (value(each(BinaryFocalLoss, gamma=gamma), x, t),
                      value(BCEWithLogitsLoss(reduction="none"), x, t))
    assert (focal >= 0).all() and (focal <= entropy * (1 + 1e-12)).all()
    assert (value(each(BinaryFocalLoss, gamma=gamma + 1), x, t) <= focal).all()
    check_close(value(each(BinaryFocalLoss, gamma=gamma), -x, 1 - t), focal,
                "the focal loss of the other class", rtol=1e-12)
    check_close(value(each(BinaryFocalLoss, alpha, gamma), x, t),
                focal * np.where(t == 1, alpha, 1 - alpha), "alpha", rtol=1e-12)
    assert (np.sign(slope(each(BinaryFocalLoss, gamma=gamma), x, t)) == 1 - 2 * t).all()


@repeatable
@given(logits, masks, gammas)
def test_focal_of_two_classes_is_the_binary_one(x, t, gamma):
    pairs = np.stack([0 * x, x], 1)
    check_close(value(each(FocalLoss, gamma), pairs, t.astype(int)),
                value(each(BinaryFocalLoss, gamma=gamma), x, t), "two classes", rtol=1e-6,
                atol=1e-12)


@repeatable
@given(logits, st.integers(0, 5), gammas, orders, st.floats(-100, 100))
def test_focal_laws(x, target, gamma, order, shift):
    t, loss = np.full(2, target), each(FocalLoss, gamma)
    focal = value(loss, x, t)
    assert (focal >= 0).all() and (focal <= value(each(CrossEntropyLoss), x, t) * (1 + 1e-9)).all()
    check_close(value(loss, x + shift, t), focal, "shifted logits", rtol=1e-6, atol=1e-9)
    check_close(value(loss, x[:, order], np.full(2, order.index(target))), focal,
                "classes in another order", rtol=1e-9)
    check_close(slope(loss, x, t).sum(1), [0, 0], "the sum of the slope", atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"weight": np.array([0.2, 1.0, 5.0])}, {"ignore_index": 1}], ids=str)
def test_gamma_0_is_cross_entropy(options):
    rng = np.random.default_rng(0)
    x, t = rng.normal(0, 3, (20, 3)), rng.integers(0, 3, 20)
    one, other = FocalLoss(0.0, **options), CrossEntropyLoss(**options)
    check_close(one(x, t), other(x, t), "FocalLoss(gamma=0)", rtol=1e-14)
    check_close(slope(one, x, t), slope(other, x, t), "its slope", rtol=1e-12, atol=1e-16)
    y, b = rng.normal(0, 3, 20), rng.integers(0, 2, 20).astype(float)
    check_close(slope(each(BinaryFocalLoss, gamma=0.0), y, b), slope(each(BCEWithLogitsLoss), y, b),
                "the slope of BinaryFocalLoss(gamma=0)", rtol=1e-12)


@pytest.mark.parametrize("loss_class", REGIONS)
def test_pixels_of_100_below_0_are_skipped_unless_told_otherwise(loss_class):
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=(3, 5)), rng.integers(0, 2, (3, 5)).astype(float)
    t[:, 2] = -100
    others = np.delete(x, 2, axis=1), np.delete(t, 2, axis=1)
    check_close(each(loss_class)(x, t), each(loss_class)(*others), "without them", rtol=1e-12)
    assert (slope(each(loss_class), x, t)[:, 2] == 0).all()


def test_focus_is_taken_before_weights():
    """`p_t` from the weighted cross-entropy is the bug of many copies: the loss would not be
    linear in the weight.
    """
    rng = np.random.default_rng(1)
    x, t, weight = rng.normal(0, 2, (8, 3)), rng.integers(0, 3, 8), np.array([0.5, 2.0, 7.0])
    check_close(value(each(FocalLoss, weight=weight), x, t),
                weight[t] * value(each(FocalLoss), x, t), "each weighted loss", rtol=1e-12)
    p = np.exp(log_softmax(x))[np.arange(8), t]
    check_close(FocalLoss(weight=weight)(x, t),
                (weight[t] * -((1 - p) ** 2) * np.log(p)).sum() / weight[t].sum(), "their mean",
                rtol=1e-12)


@pytest.mark.parametrize("gamma", [0.0, 0.1, 0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_focal_at_the_ends(gamma, dtype):
    ends = np.array([1e4, 1e30, np.inf, -1e4, -1e30, -np.inf], dtype)
    expected, pulls = [0, 0, 0, *-ends[3:]], [0, 0, 0, -1, -1, -1]
    check_close(value(each(BinaryFocalLoss, gamma=gamma), ends, np.ones(6)), expected, "binary",
                rtol=1e-6)
    check_close(slope(each(BinaryFocalLoss, gamma=gamma), ends, np.ones(6)), pulls, "its slope")
    check_close(slope(each(BinaryFocalLoss, gamma=gamma), -ends, np.zeros(6)), [-x for x in pulls],
                "the slope for a target of 0")
    rows = np.stack([ends, 0 * np.ones_like(ends)], 1)[[0, 1, 3, 4, 5]]
    check_close(value(each(FocalLoss, gamma), rows, np.zeros(5, int)),
                np.array(expected)[[0, 1, 3, 4, 5]], "of classes", rtol=1e-6)
    check_close(slope(each(FocalLoss, gamma), rows, np.zeros(5, int)),
                [[0, 0], [0, 0], [-1, 1], [-1, 1], [-1, 1]], "its slope")


def test_focal_keeps_its_digits():
    "Of sure logits: p is 1 in float32, and 1 - p is not 0."
    for gamma in 0.5, 2.0:
        exact = np.exp(-20.0 * (1 + gamma))
        check_close(value(each(BinaryFocalLoss, gamma=gamma), np.float32([20]), [1.0]), [exact],
                    f"gamma {gamma}", rtol=1e-5, atol=0)
        check_close(slope(each(BinaryFocalLoss, gamma=gamma), np.float32([20]), [1.0]),
                    [-exact * (1 + gamma)], "its slope", rtol=1e-5, atol=0)


# --- regions

@each_region
@repeatable
@given(logits, masks, orders)
def test_regions_have_no_order(loss_class, x, t, order):
    check_close(value(each(loss_class), x[:, order], t[:, order]), value(each(loss_class), x, t),
                "pixels in another order", rtol=1e-9)
    check_close(value(each(loss_class), x[::-1], t[::-1]), value(each(loss_class), x, t)[::-1],
                "images in another order", rtol=1e-12)


@repeatable
@given(logits, masks, weights, weights, weights)
def test_tversky_laws(x, t, alpha, beta, smooth):
    loss = value(each(TverskyLoss, alpha, beta, smooth), x, t)
    assert (loss >= 0).all() and (loss <= 1).all()
    check_close(value(each(TverskyLoss, 0.5, 0.5, smooth / 2), x, t),
                value(each(DiceLoss, smooth), x, t), "the Dice loss", rtol=1e-12)
    twice = value(each(TverskyLoss, alpha, beta, 2 * smooth), np.concatenate([x, x], 1),
                  np.concatenate([t, t], 1))
    check_close(twice, loss, "the image twice, with twice the smoothing", rtol=1e-12)
    pull = slope(each(TverskyLoss, alpha, beta, smooth), x, t)
    assert (pull[t == 1] <= 0).all() and (pull[t == 0] >= 0).all()


@repeatable
@given(masks, masks, weights, weights, weights)
def test_tversky_of_hard_masks(prediction, t, alpha, beta, smooth):
    both, either = overlap(prediction, t)
    check_close(value(each(TverskyLoss, 1.0, 1.0, smooth), signed(prediction), t),
                1 - (both + smooth) / (either + smooth), "intersection over union")
    check_close(value(each(TverskyLoss, alpha, beta, smooth), signed(prediction), t),
                value(each(TverskyLoss, beta, alpha, smooth), signed(t), prediction),
                "prediction and truth exchanged")
    check_close(value(each(DiceLoss, 0.0), signed(t), t), [0, 0], "the truth predicted")


@pytest.mark.parametrize("smooth", [0.0, 1e-6, 1.0])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_empty_regions(smooth, dtype):
    empty, loss = np.zeros((1, 3), dtype), each(DiceLoss, smooth)
    for sure in -1e4, -1e30, -np.inf:
        check_close(value(loss, empty + sure, empty), [0], "nothing predicted of nothing")
        check_close(slope(loss, empty + sure, empty), [[0, 0, 0]], "its slope")
    spread = np.linspace(-90, 5, 20)
    seen = np.array([value(loss, (empty + s).astype(dtype), empty)[0] for s in spread])
    assert (np.diff(seen) >= -1e-6).all() and (smooth or (seen == 1).all())
    pulls = [slope(loss, (empty + s).astype(dtype), empty) for s in spread]
    assert np.isfinite(pulls).all() and (np.asarray(pulls) >= 0).all()


@pytest.mark.parametrize("alpha, beta, expected", [(0.5, 0.0, [-0.25, 0.125, 0.125]), (0.0, 0.5, [0, 0, 0]), (0.5, 0.5, [0, 0, 0])])
def test_faint_predictions_do_not_underflow(alpha, beta, expected):
    "The square of a probability of 1e-38 is 0 in float32; the slope needs none."
    for faint in -50, -70, -80:
        x, t = np.full((1, 3), faint, "float32"), np.float32([[1, 0, 0]])
        check_close(slope(each(TverskyLoss, alpha, beta, 0.0), x, t), [expected],
                    f"the slope at {faint}", rtol=1e-4, atol=1e-12)
        check_close(value(each(TverskyLoss, alpha, beta, 0.0), x, t),
                    value(each(TverskyLoss, alpha, beta, 0.0), x.astype(float), t), "the loss",
                    rtol=1e-5)


def test_nearly_perfect_regions_keep_their_digits():
    x, t = np.where(np.arange(1000) < 300, 12.0, -12.0)[None], (np.arange(1000) < 300)[None] * 1.0
    for what, of in ("loss", value), ("slope", slope):
        exact, single = (of(each(TverskyLoss, 0.3, 0.7), x, t),
                         of(each(TverskyLoss, 0.3, 0.7), x.astype("float32"), t.astype("float32")))
        check_close(single, exact, f"the {what} in float32", rtol=1e-5, atol=0)


@each_region
def test_images_are_regions(loss_class):
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=(2, 3, 4, 5)), (rng.random((2, 3, 4, 5)) < 0.4) * 1.0
    flat = x.reshape(2, -1), t.reshape(2, -1)
    for order in "C", "F":
        check_close(value(each(loss_class), np.asarray(x, order=order), t),
                    value(each(loss_class), *flat), "images", rtol=1e-12)
        upstream = np.array([1.0, 3.0])
        images, rows = (gradients_of(each(loss_class), list(pair), upstream)[0]
                        for pair in ((np.asarray(x, order=order), t), flat))
        check_close(images.reshape(2, -1), rows, "their gradient", rtol=1e-12)
    check_close(loss_class()(np.zeros((0, 4, 5)), np.zeros((0, 4, 5))), 0, "no images")
    assert slope(loss_class(), np.zeros((0, 4, 5)), np.zeros((0, 4, 5))).shape == (0, 4, 5)


@each_region
def test_region_errors(loss_class):
    name, loss = loss_class.__name__, loss_class()
    for other in (2, 20), (2, 1, 4, 5), (2, 5, 4), (2, 4):
        check_raises(ValueError, lambda: loss(np.zeros((2, 4, 5)), np.zeros(other)),
                     f"{name}: input has shape (2, 4, 5) but target has shape {other}")
    check_raises(ValueError, lambda: loss(np.zeros((2, 0, 5)), np.zeros((2, 0, 5))), name,
                 "D at least 1")
    check_raises(ValueError, lambda: loss(np.zeros((2, 4)), np.full((2, 4), 255)),
                 f"{name}: target[0, 0] is 255")


# --- Lovász

@repeatable
@given(logits, logits, masks)
def test_lovasz_is_convex(x, y, t):
    loss = each(LovaszHingeLoss)
    assert (value(loss, (x + y) / 2, t) <= (value(loss, x, t) + value(loss, y, t)) / 2 + 1e-9).all()


@repeatable
@given(logits, masks)
def test_lovasz_lies_between_its_bounds(x, t):
    loss, errors = value(each(LovaszHingeLoss), x, t), np.maximum(1 - (2 * t - 1) * x, 0)
    both, either = overlap(x, t)
    assert (loss >= 1 - both / np.maximum(either, 1) - (either == 0)
            - 1e-12).all(), "it bounds 1 - intersection over union"
    assert (loss <= errors.max(-1) * (1 + 1e-12)).all()
    assert ((loss == 0) == (errors.max(-1) == 0)).all()
    check_close(value(each(LovaszHingeLoss), np.where(t == 1, 1e9, -1e9), t), [0, 0],
                "all right by far")


@repeatable
@given(arrays(float, 8, elements=st.integers(-40, 40).map(lambda n: n / 8)), arrays(float, 8, elements=st.sampled_from([0.0, 1.0])))
def test_lovasz_slope_leads_below(x, t):
    "Where errors tie the slope is one of many; each lies below a convex function."
    pull, loss = slope(each(LovaszHingeLoss), x[None], t[None])[0], each(LovaszHingeLoss)
    rng = np.random.default_rng(0)
    for step in rng.normal(size=(5, 8)):
        assert (value(loss, (x + step)[None], t[None])[0] >= value(loss, x[None], t[None])[0]
                + pull @ step - 1e-9)


def test_lovasz_of_an_empty_image_is_its_worst_pixel():
    x = np.array([[-5.0, 0.5, -0.5]])
    check_close(value(each(LovaszHingeLoss), x, 0 * x), [1.5], "the loss")
    check_close(slope(each(LovaszHingeLoss), x, 0 * x), [[0, 1, 0]], "its slope")


@pytest.mark.parametrize("pixels", [100, 10_000, 1_000_000])
def test_lovasz_keeps_its_digits_in_large_images(pixels):
    "Steps as differences of the index lose all digits of float32 in a million pixels."
    rng = np.random.default_rng(0)
    t, errors = (rng.random((1, pixels)) < 0.02) * 1.0, rng.permutation(pixels)[None] / 2**18 - 1
    x = (2 * t - 1) * (1 - errors)
    assert ((2 * t - 1) * x.astype("float32") == (2 * t - 1)
            * x).all(), "the errors are exact, so both sort alike"
    one, other = lovasz_hinge(x, t), lovasz_hinge(x.astype("float32"), t.astype("float32"))
    for what, exact, small in zip(("value", "slope"), one, other):
        check_close(small, exact, f"the {what} in float32", rtol=2e-6, atol=0)


def test_lovasz_of_infinite_logits():
    x, t = (np.array([[np.inf, -np.inf, np.inf, 1.0], [-np.inf, np.inf, -np.inf, -1.0]]),
            np.array([[0.0, 1, 0, 0], [0, 1, 0, 0]]))
    check_close(value(each(LovaszHingeLoss), x, t), [np.inf, 0], "the loss")
    check_close(slope(each(LovaszHingeLoss), x, t), [[0.5, -0.5, 0, 0], [0, 0, 0, 0]], "its slope")


# --- other libraries. By optax 0.2.8 and jax in float64: `python tests/test_segmentation_losses.py`
# where they are installed prints them.

SCORES, TRUTH = (np.array([[0.5, -2.0, 3.0, 30.0], [-0.25, 4.0, 0.0, -40.0]]),
                 np.array([[1.0, 0, 0, 1], [0, 1, 1, 1]]))
OPTAX = {
    "focal, gamma 0.5": (
        [[0.2912934651463975, 0.043822880991204426, 2.9754183296501915, 2.8625185805491276e-20],
         [0.38108893435966934, 0.00243413540891016, 0.4901290717342736, 40.0]],
        [[-0.3226365328560928, 0.0604552668096537, 1.0002673398454893, -4.293777870823429e-20],
         [0.3968196926216847, -0.003607356024884271, -0.4760856585268422, -1.0]]),
    "focal, alpha 0.25": (
        [[0.01689337262937591, 0.001352672126430281, 2.0747103307689465, 2.0485031559971544e-40],
         [0.08280111844864135, 1.467892430467312e-06, 0.04332169878499658, 10.0]],
        [[-0.034484249337728604, 0.003653205146544573, 0.8450624104761664, -6.145509467990991e-40],
         [0.1560422843436482, -4.337632805384442e-06, -0.07457169878499659, -0.2500000000000001]]),
    "dice": ([0.2165023216035229, 0.2826381065552396],
             [[-0.04270577631988371, 0.01228851593220861, 0.005287504953123913,
               -1.6987685797964798e-14],
              [0.02551609297385195, -0.003273900686880613, -0.04633917146310537,
               -7.874608650878812e-19]]),
    "tversky": ([0.182594175651837, 0.3247968582968951],
                [[-0.05528700537654144, 0.008025104848828003, 0.0034530436280185033,
                  -2.1992300737307705e-14],
                 [0.013563061436496028, -0.0038316427721399493, -0.054233517869088706,
                  -9.216127856743019e-19]])}


def ours(name):
    loss = {"focal, gamma 0.5": each(BinaryFocalLoss, gamma=0.5),
            "focal, alpha 0.25": each(BinaryFocalLoss, 0.25), "dice": each(DiceLoss, 2.0),
            "tversky": each(TverskyLoss, 0.3, 0.7)}[name]
    return value(loss, SCORES, TRUTH), slope(loss, SCORES, TRUTH)


@pytest.mark.parametrize("name", OPTAX)
def test_equals_optax(name):
    """Optax adds `smooth` to half of the Dice fraction: its 1 is our 2.

    Its slope at a sure pixel, 1e-14, has three digits.
    """
    for what, mine, theirs in zip(("loss", "slope"), ours(name), OPTAX[name]):
        check_close(mine, theirs, f"the {what} of optax: {name}", rtol=1e-10, atol=1e-16)


def test_equals_the_examples_of_keras():
    "Keras shows these numbers, of probabilities."
    p, t = np.array([[0.6, 0.4], [0.4, 0.6]]), np.array([[0.0, 1], [0, 0]])
    check_close(value(each(BinaryFocalLoss), np.log(p / (1 - p)), t).mean(1), [0.330, 0.206],
                "keras.losses.binary_focal_crossentropy", atol=5e-4)
    p = np.array([[0.05, 0.9, 0.05], [0.1, 0.85, 0.05]])
    check_close(0.25 * value(each(FocalLoss), np.log(p), [1, 2]), [2.63401289e-04, 6.75912094e-01],
                "keras.losses.categorical_focal_crossentropy", rtol=1e-6)
    with np.errstate(divide="ignore"):
        p, t = (np.array([[0, 1.0, 0, 1], [0.4, 0, 0, 0.9]]),
                np.array([[1.0, 1, 0, 0], [1, 1, 0, 0]]))
        x = np.log(p) - np.log1p(-p)
    check_close(value(each(DiceLoss, 0.0), x, t), [0.5, 0.75757575], "keras.losses.dice", rtol=1e-6)
    check_close(DiceLoss(0.0)(x.reshape(1, 8), t.reshape(1, 8)), 0.6164384,
                "keras.losses.dice of the batch as one region", rtol=1e-6)


def record():
    "Optax's values and slopes."
    import jax
    jax.config.update("jax_enable_x64", True)
    from optax import losses as o
    calls = {"focal, gamma 0.5": lambda x: o.sigmoid_focal_loss(x, TRUTH, gamma=0.5),
             "focal, alpha 0.25": lambda x: o.sigmoid_focal_loss(x, TRUTH, alpha=0.25),
             "dice": lambda x: o.binary_dice_loss(x, TRUTH),
             "tversky": lambda x: o.dice_loss(x[..., None], TRUTH[..., None], alpha=0.3, beta=0.7)}
    for name, call in calls.items():
        print(f'    "{name}": ({call(SCORES).tolist()},\n        '
              f'{jax.grad(lambda x: call(x).sum())(SCORES).tolist()}),')


if __name__ == "__main__":
    record()
