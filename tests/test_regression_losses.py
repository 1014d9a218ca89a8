"""Quantile, log-cosh, logarithmic and percentage errors: what mathematics promises, and the
formulas of other libraries.
"""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tinytorch.checking import check_close, check_raises, gradients_of
from tinytorch.nn import HuberLoss, L1Loss, LogCoshLoss, MAPELoss, MSELoss, MSLELoss, QuantileLoss

repeatable = settings(derandomize=True, database=None, deadline=None, max_examples=60)
numbers = arrays(float, 6, elements=st.floats(-1e3, 1e3))
amounts = arrays(float, 6, elements=st.floats(0, 1e6))
shares = st.floats(0.01, 0.99)
LOSSES = [QuantileLoss(0.9), QuantileLoss(0.2), LogCoshLoss(), MSLELoss(), MAPELoss(),
          MAPELoss(eps=1.0)]


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
@repeatable
@given(amounts, amounts)
def test_equal_costs_nothing_and_all_else_something(loss, x, t):
    assert loss(x, x).item() == 0 and not gradients_of(loss, [x, x])[0].any()
    assert loss(x, t).item() >= 0
    assert loss(x, t).item() > 0 or np.allclose(x, t, atol=1e-150)


@pytest.mark.parametrize("loss", [QuantileLoss(0.9), LogCoshLoss(), MAPELoss()], ids=repr)
@repeatable
@given(numbers, numbers, numbers)
def test_convex(loss, one, other, target):
    middle, ends = (loss((one + other) / 2, target).item(),
                    (loss(one, target).item() + loss(other, target).item()) / 2)
    assert middle <= ends * (1 + 1e-12) + 1e-9


# --- quantiles

@repeatable
@given(numbers, numbers, shares, st.floats(0.1, 10))
def test_quantile_laws(x, t, quantile, factor):
    loss = QuantileLoss(quantile)
    check_close(loss(x, t), QuantileLoss(1 - quantile)(t, x), "the loss with sides exchanged",
                rtol=1e-9)
    check_close(loss(factor * x, factor * t), factor * loss(x, t).data, "the loss in another unit",
                rtol=1e-9)
    check_close(loss(x, t).data + QuantileLoss(1 - quantile)(x, t).data, L1Loss()(x, t),
                "two quantiles that mirror each other", rtol=1e-9)


@repeatable
@given(arrays(float, 20, elements=st.floats(-100, 100)), shares)
def test_quantile_is_lowest_at_the_quantile(target, quantile):
    loss = QuantileLoss(quantile)
    best = np.quantile(target, quantile, method="inverted_cdf")
    lowest = loss(np.full(20, best), target).item()
    assert all(lowest <= loss(np.full(20, other), target).item() + 1e-9 for other in target)


def test_rare_quantiles_keep_their_digits():
    for dtype, rtol in ("float32", 1e-7), ("float64", 1e-15):
        error = np.array([1e-30, 1, 1e4, 1e30, np.inf], dtype)
        check_close(QuantileLoss(0.99999, reduction="none")(error, 0 * np.ones_like(error)),
                    error * (1 - 0.99999), f"{dtype} losses at 0.99999", rtol=rtol, atol=0)


def test_quantile_errors():
    for wrong in -0.1, 1.5, 90:
        check_raises(ValueError, lambda: QuantileLoss(wrong), f"QuantileLoss: quantile is {wrong}",
                     "at least 0 and at most 1")
    check_raises(TypeError, lambda: QuantileLoss([0.1, 0.9]), "must be a number")


# --- log-cosh

@repeatable
@given(numbers, numbers)
def test_log_cosh_lies_between_its_bounds(x, t):
    each, error = LogCoshLoss(reduction="none")(x, t).data, np.abs(x - t)
    assert (each <= np.minimum(error**2 / 2, error) * (1 + 1e-12)).all()
    assert (each >= error - np.log(2) - 1e-12).all()
    check_close(each, LogCoshLoss(reduction="none")(t, x), "log-cosh with arguments exchanged")
    assert (each <= HuberLoss(reduction="none")(x, t).data * (1 + 1e-12)).all()


def test_log_cosh_keeps_its_digits():
    "Next to 0 it is e² / 2 - e⁴ / 12; both expressions agree where one takes over from the other."
    error = 10.0 ** np.arange(-150, -2)
    each = LogCoshLoss(reduction="none")(error, 0 * error).data
    check_close(each, error**2 / 2 - error**4 / 12 + error**6 / 45, "log-cosh of small errors",
                rtol=1e-14, atol=0)
    for dtype, rtol in ("float64", 4e-16), ("float32", 3e-7):
        e = np.array([np.nextafter(1, 0), 1, np.nextafter(1, 2)], dtype)
        check_close(LogCoshLoss(reduction="none")(e, 0 * e), np.log(np.cosh(e.astype(float))),
                    f"{dtype} log-cosh of errors next to 1", rtol=rtol, atol=0)


def test_optax_log_cosh():
    "Values and gradients of optax 0.2.8; next to 0 it has 8 digits."
    error = np.array([-30.0, -1.5, -1e-4, 0.0, 0.3, 2.0, 700.0])
    loss = LogCoshLoss(reduction="none")
    check_close(loss(error, 0 * error),
                [29.306852819440056, 0.8554401710137968, 4.999999969612645e-09, 0.0,
                 0.04434076992594038, 1.3250027473578645, 699.3068528194401],
                "optax.losses.log_cosh", rtol=1e-12, atol=1e-16)
    check_close(gradients_of(loss, [error, 0 * error], np.ones(7))[0],
                [-1, -0.9051482536448665, -9.999999966664452e-05, 0, 0.29131261245159085,
                 0.9640275800758168, 1],
                "its gradient", rtol=1e-12)


def test_optax_squared_error_is_ours_and_l2_loss_half_of_it():
    error = np.array([-30.0, -1.5, -1e-4, 0.0, 0.3, 2.0, 700.0])
    each = MSELoss(reduction="none")(error, 0 * error).data
    check_close(each, [900, 2.25, 1e-8, 0, 0.09, 4, 490000], "optax.losses.squared_error",
                rtol=1e-12)
    check_close(each / 2, [450, 1.125, 5e-9, 0, 0.045, 2, 245000], "optax.losses.l2_loss",
                rtol=1e-12)


# --- ratios and percentages

@repeatable
@given(amounts, amounts, st.floats(1, 100))
def test_squared_log_error_counts_ratios(x, t, factor):
    loss = MSLELoss()
    check_close(loss(x, t), loss(t, x), "the loss with arguments exchanged", rtol=1e-12)
    check_close(loss((1 + x) * factor - 1, (1 + t) * factor - 1), loss(x, t),
                "the loss of amounts in proportion", rtol=1e-6, atol=1e-12)
    check_close(loss(x, t), ((np.log1p(x) - np.log1p(t)) ** 2).mean(), "the loss by its definition",
                rtol=1e-6, atol=1e-12)


def test_squared_log_error_keeps_its_digits():
    x = np.array([1e7, 1e30, 0, 1e-6], "float32")
    t = np.array([1e7 + 1, 0, 1e30, 2e-6], "float32")
    exact = [1e-14, np.log(1e30) ** 2, np.log(1e30) ** 2, 1e-12]
    check_close(MSLELoss(reduction="none")(x, t), exact,
                "the float32 loss of amounts that are near and far", rtol=1e-5, atol=0)


@repeatable
@given(numbers, numbers.map(lambda x: np.where(np.abs(x) < 0.1, 0.1, x)), st.floats(0.1, 100))
def test_percentages_have_no_unit(x, t, factor):
    check_close(MAPELoss()(factor * x, factor * t), MAPELoss()(x, t), "the loss in another unit",
                rtol=1e-9)
    check_close(MAPELoss(reduction="none")(x, t).data * np.abs(t) / 100,
                L1Loss(reduction="none")(x, t), "per cent times the target", rtol=1e-9)


def test_percentage_of_small_targets():
    loss = MAPELoss(eps=0.01, reduction="none")
    check_close(loss([0.01, 0.01, 0.01], [0.0, 0.005, -0.005]), [100, 50, 150],
                "the loss of targets below eps", rtol=1e-5)
    check_raises(ValueError, lambda: MAPELoss(eps=0), "eps is 0", "greater than 0")


@pytest.mark.parametrize("loss, name, options", [(QuantileLoss(0.8), "mean_pinball_loss", {"alpha": 0.8}), (MSLELoss(), "mean_squared_log_error", {}),
                                                 (MAPELoss(), "mean_absolute_percentage_error", {})], ids=["pinball", "msle", "mape"])
def test_scikit_learns(loss, name, options):
    metrics = pytest.importorskip("sklearn.metrics")
    x, t = np.random.default_rng(0).exponential(3, (2, 50))
    factor = 100 if name == "mean_absolute_percentage_error" else 1
    check_close(loss(x, t), factor * getattr(metrics, name)(t, x, **options), name, rtol=1e-10)
