"""Losses from likelihoods: what mathematics promises, the shapes of a variance, and the formulas
of other libraries.
"""
import itertools
from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import tinytorch
from tinytorch.checking import check_close, check_raises, gradients_of
from tinytorch.core.tensor import Tensor
from tinytorch.nn import CrossEntropyLoss, GaussianNLLLoss, KLDivLoss, MSELoss, PoissonNLLLoss, TweedieDevianceLoss, log_softmax
from tinytorch.nn.activations import Softmax

repeatable = settings(derandomize=True, database=None, deadline=None, max_examples=60)
scores = arrays(float, (3, 4), elements=st.floats(-20, 20))
counts = arrays(float, 6, elements=st.integers(0, 50).map(float))
positive = arrays(float, 6, elements=st.floats(0.01, 100))
POWERS = (1, 1.3, 1.5, 1.9, 2)


def softmax(x):
    return np.exp(log_softmax(x))


# --- Poisson

@repeatable
@given(counts, st.floats(-3, 5))
def test_poisson_is_lowest_at_the_mean(target, other):
    mean = target.mean() + 1e-9
    assert (PoissonNLLLoss()(np.full(6, np.log(mean)), target).item() <= PoissonNLLLoss()(
                np.full(6, other), target).item() + 1e-9)


@repeatable
@given(positive, counts, st.booleans())
def test_poisson_of_a_rate_is_that_of_its_logarithm(rate, target, full):
    by_rate, by_log = PoissonNLLLoss(log_input=False, full=full, eps=0), PoissonNLLLoss(full=full)
    check_close(by_rate(rate, target), by_log(np.log(rate), target), "the loss of rates", rtol=1e-9,
                atol=1e-9)
    one, other = gradients_of(by_rate, [rate, target]), gradients_of(by_log, [np.log(rate), target])
    check_close(one[0] * rate, other[0], "the slope of rates, by the chain rule,", rtol=1e-9,
                atol=1e-9)
    check_close(one[1], other[1], "the slope of counts", rtol=1e-9, atol=1e-9)


@repeatable
@given(arrays(float, 6, elements=st.floats(-5, 5)), arrays(float, 6, elements=st.floats(-5, 5)), counts)
def test_poisson_is_convex(one, other, target):
    loss = PoissonNLLLoss()
    assert (loss((one + other) / 2, target).item() <= (loss(one, target).item()
                                           + loss(other, target).item()) / 2 + 1e-9)


def test_poisson_in_full_is_near_the_logarithm_of_the_probability():
    target = np.array([0.0, 1.0, 2.0, 5.0, 20.0])
    factorials = np.array([1, 1, 2, 120, 2432902008176640000.0])
    exact = -np.log(3.0**target * np.exp(-3.0) / factorials)
    each = PoissonNLLLoss(full=True, reduction="none")(np.full(5, np.log(3.0)), target).data
    assert (np.abs(each - exact) <= [1e-12, 1e-12, 0.05, 0.02, 0.005]).all()


@pytest.mark.parametrize("options", [{}, {"full": True}, {"log_input": False, "eps": 0.0}, {"log_input": False, "eps": 0.0, "full": True}], ids=str)
def test_poisson_of_nothing_expected_and_nothing_seen(options):
    loss = PoissonNLLLoss(**options)
    input = np.array([-inf if loss.log_input else 0.0])
    assert loss(input, [0.0]).item() == 0
    assert gradients_of(loss, [input, np.zeros(1)])[0] == (0 if loss.log_input else 1)
    assert loss(input, [1.0]).item() == inf


# --- Gauss

@repeatable
@given(positive, positive, positive, st.floats(0.1, 10))
def test_gaussian_scale_law(x, t, var, factor):
    loss = GaussianNLLLoss(eps=0)
    check_close(loss(factor * x, factor * t, factor**2 * var),
                loss(x, t, var).data + np.log(factor), "the loss in another unit", rtol=1e-9,
                atol=1e-9)


@repeatable
@given(positive, positive, positive)
def test_gaussian_is_lowest_at_mean_and_squared_error(x, t, var):
    loss = GaussianNLLLoss(eps=1e-12)
    best = np.maximum((x - t) ** 2, 1e-12)
    assert loss(x, t, best).item() <= loss(x, t, var).item() + 1e-9
    assert loss(t, t, var).item() <= loss(x, t, var).item() + 1e-9
    check_close(loss(x, t, 1.0), MSELoss()(x, t).data / 2, "the loss at variance 1", rtol=1e-12)


VARIANCES = [(), (1, 1, 1), (2, 3), (2, 3, 1), (1, 3, 4), (2, 1, 4), (1, 1, 4), (2, 3, 4)]


@pytest.mark.parametrize("engine", ["numpy", "numba"])
@pytest.mark.parametrize("reduction", ["none", "mean"])
@pytest.mark.parametrize("shape", VARIANCES, ids=str)
def test_gaussian_variance_stands_for_many(shape, reduction, engine):
    if engine == "numba":
        pytest.importorskip("numba")
    rng = np.random.default_rng(0)
    x, t, var = rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 3, 4)), rng.uniform(0.1, 3, shape)
    whole = np.array(np.broadcast_to(var[..., None] if shape == (2, 3) else var, x.shape))
    upstream = rng.uniform(1, 2, x.shape if reduction == "none" else ())
    loss = GaussianNLLLoss(full=True, reduction=reduction)
    with tinytorch.engine(engine):
        for _ in range(2):                     # the second call may take a shortcut
            check_close(loss(x, t, var), loss(x, t, whole),
                        f"the loss with a variance of shape {shape}", rtol=1e-12)
            few, many = (gradients_of(loss, [x, t, var], upstream),
                         gradients_of(loss, [x, t, whole], upstream))
            axes = (tuple(i for i, n in enumerate(shape) if n == 1) if len(shape) == 3 else 2
                    if shape else None)
            check_close(few[2], many[2].sum(axes, keepdims=len(shape) == 3),
                        f"the gradient of a variance of shape {shape}", rtol=1e-10)
            check_close(few[0], many[0], "the gradient of the input", rtol=1e-12)


@pytest.mark.parametrize("shape", [(), (1, 1, 1), (2, 3, 1), (1, 3, 4), (2, 1, 4)], ids=str)
def test_gaussian_target_may_have_length_1(shape):
    rng = np.random.default_rng(0)
    x, t, var = rng.normal(size=(2, 3, 4)), rng.normal(size=shape), rng.uniform(0.1, 3, (2, 1, 4))
    whole = np.array(np.broadcast_to(t, x.shape))
    check_close(GaussianNLLLoss()(x, t, var), GaussianNLLLoss()(x, whole, var), "the loss",
                rtol=1e-12)
    few, many = (gradients_of(GaussianNLLLoss(), [x, t, var])[1],
                 gradients_of(GaussianNLLLoss(), [x, whole, var])[1])
    axes = tuple(i for i, n in enumerate(shape) if n == 1) if shape else None
    check_close(few, many.sum(axes, keepdims=bool(shape)), "the gradient of the target", rtol=1e-10)


def test_gaussian_variance_without_the_last_axis_of_a_square():
    var = np.array([1.0, 4.0])
    each = GaussianNLLLoss(reduction="none")(np.ones((2, 2)), np.zeros((2, 2)), var).data
    assert each[0, 0] == each[0, 1] != each[1, 0]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("number", [2, 0.1])
def test_gaussian_variance_is_a_number(dtype, number):
    x, t = np.ones((2, 3), dtype), np.zeros((2, 3), dtype)
    result = GaussianNLLLoss()(x, t, number)
    assert result.dtype == dtype
    check_close(result, GaussianNLLLoss()(x, t, np.full((2, 3), number, dtype)),
                "the loss with a number as variance", rtol=1e-12)
    assert GaussianNLLLoss()([1.0, 2.0], [0.0, 0.0], number).dtype == np.float32
    assert GaussianNLLLoss()([[1.0, 2.0]], [[0.0, 0.0]], [number]).dtype == np.float32


@pytest.mark.parametrize("shape", [(3,), (4,), (2,), (3, 4), (2, 3, 2), (1, 2, 3, 4), (2, 4)], ids=str)
def test_gaussian_variance_that_does_not_fit(shape):
    check_raises(ValueError,
                 lambda: GaussianNLLLoss()(np.zeros((2, 3, 4)), np.zeros((2, 3, 4)),
                                           np.ones(shape)),
                 "GaussianNLLLoss: var has shape", str(shape), "(2, 3, 4)")


def test_gaussian_errors():
    one = np.ones(2)
    check_raises(ValueError, lambda: GaussianNLLLoss()(one, one, -1.0), "var[0] is -1",
                 "at least 0")
    check_raises(ValueError, lambda: GaussianNLLLoss()(one, np.ones(3), 1.0),
                 "target has shape (3,)")
    check_raises(TypeError, lambda: GaussianNLLLoss()(one, one, None), "var has dtype object")
    check_raises(TypeError, lambda: GaussianNLLLoss(True), "positional")
    check_raises(ValueError, lambda: GaussianNLLLoss(eps=-1), "eps is -1")


def test_gaussian_variance_in_pytorch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    for shape, full, eps, reduction in itertools.product(
        [(2, 3), (2, 3, 1), (1, 3, 4), (2, 1, 4), (2, 3, 4)], [True, False], [1e-6, 0.5],
        ["none", "mean", "sum"]):
        given = [rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 3, 4)),
                 rng.choice([0, 1e-7, 0.3, 2.0], shape)]
        tensors = [torch.tensor(x, requires_grad=True) for x in given]
        theirs = torch.nn.GaussianNLLLoss(full=full, eps=eps, reduction=reduction)(*tensors)
        theirs.sum().backward()
        loss = GaussianNLLLoss(full=full, eps=eps, reduction=reduction)
        check_close(loss(*given), theirs.detach().numpy(),
                    f"{loss!r} with a variance of shape {shape}", rtol=1e-7)
        for mine, tensor in zip(gradients_of(loss, given, np.ones(theirs.shape)), tensors):
            check_close(mine, tensor.grad.numpy(),
                        f"a gradient of {loss!r} with a variance of shape {shape}", rtol=1e-7)


# --- Kullback and Leibler

@repeatable
@given(scores, scores)
def test_divergence_is_none_only_of_equals(one, other):
    loss = KLDivLoss(reduction="batchmean")
    q, p = log_softmax(one), softmax(other)
    assert loss(q, p).item() >= -1e-12
    assert abs(loss(np.log(p + 1e-300), p).item()) < 1e-12
    total = np.abs(np.exp(q) - p).sum(1)
    assert loss(q, p).item() >= (total**2).mean() / 2 - 1e-12          # Pinsker's inequality


@repeatable
@given(scores, scores, st.permutations(range(4)))
def test_divergence_laws(one, other, order):
    loss, q, p = KLDivLoss(reduction="batchmean"), log_softmax(one), softmax(other)
    check_close(loss(q[:, order], p[:, order]), loss(q, p),
                "the divergence of classes in another order", rtol=1e-9)
    check_close(loss(q, p), KLDivLoss(reduction="sum")(q, p).data / 3, "batchmean")
    check_close(KLDivLoss(reduction="batchmean", log_target=True)(q, log_softmax(other)),
                loss(q, p), "the divergence by log_target", rtol=1e-9, atol=1e-12)
    check_close(gradients_of(KLDivLoss(log_target=True), [q, log_softmax(other)])[1],
                gradients_of(KLDivLoss(), [q, p])[1] * p,
                "the slope for a log-probability, by the chain rule", rtol=1e-9)
    entropy = -(p * np.log(p)).sum(1).mean()
    check_close(loss(q, p).item(), CrossEntropyLoss()(one, p).item() - entropy,
                "the divergence, by cross-entropy and entropy", rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("log_target", [False, True])
def test_a_class_of_probability_0_has_no_part(log_target):
    loss, target = (KLDivLoss(reduction="none", log_target=log_target),
                    np.full(3, -inf if log_target else 0.0))
    given = [np.array([-1.0, -inf, 0.0]), target]
    assert not loss(*given).data.any()
    assert not np.any(gradients_of(loss, given, np.ones(3)))


def test_divergence_of_a_number_and_of_nothing():
    for reduction in "batchmean", "mean", "sum", "none":
        assert KLDivLoss(reduction=reduction)(np.array(-1.0), np.array(0.5)).shape == ()
    assert KLDivLoss(reduction="batchmean")(np.zeros((0, 3)), np.zeros((0, 3))).item() == 0


def test_a_target_behind_a_softmax_gets_no_nan():
    "exp(-1000) is 0 in float64: the class has no part in the loss, nor in the gradient."
    scores = Tensor(np.array([[0.0, -1000.0, 1.0]]), requires_grad=True)
    KLDivLoss(reduction="batchmean")(np.log([[0.2, 0.3, 0.5]]), Softmax()(scores)).backward()
    assert np.isfinite(scores.grad).all() and scores.grad[0, 1] == 0


# log-probabilities and probabilities; optax 0.2.8's losses of the rows, and their gradients
LOG_Q, P = np.array([[-0.2, -1.7], [-3.0, -0.05]]), np.array([[0.6, 0.4], [1.0, 0.0]])
LOG_P = np.log([[0.6, 0.4], [0.9, 0.1]])


def test_optax_kl_divergence():
    loss = KLDivLoss(reduction="none")
    check_close(loss(LOG_Q, P).data.sum(1), [0.1269883329907436, 3.0], "optax.losses.kl_divergence")
    check_close(gradients_of(loss, [LOG_Q, P], np.ones((2, 2)))[0], [[-0.6, -0.4], [-1.0, 0.0]],
                "its gradient")


def test_optax_kl_divergence_with_log_targets():
    loss = KLDivLoss(reduction="none", log_target=True)
    check_close(loss(LOG_Q, LOG_P).data.sum(1), [0.1269883329907436, 2.3799170266085516],
                "optax.losses.kl_divergence_with_log_targets")
    input, target = gradients_of(loss, [LOG_Q, LOG_P], np.ones((2, 2)))
    check_close(input, [[-0.6, -0.4], [-0.9, -0.1]], "its gradient")
    check_close(target,
                [[0.4135046257404056, 0.713483707250338],
                 [3.505175535907956, -0.12525850929940457]],
                "its gradient for the target")


def test_optax_generalized_kl_divergence_is_half_a_poisson_deviance():
    loss = TweedieDevianceLoss(power=1, reduction="none")
    check_close(loss(LOG_Q, P).data.sum(1) / 2, [0.12840261012146006, 3.001016492868578],
                "optax.losses.generalized_kl_divergence")
    check_close(gradients_of(loss, [LOG_Q, P], np.ones((2, 2)))[0] / 2,
                [[0.21873075307798184, -0.2173164759472654],
                 [-0.950212931632136, 0.951229424500714]],
                "its gradient")


# --- Tweedie

@repeatable
@given(positive, positive, st.sampled_from(POWERS), st.floats(0.1, 10))
def test_deviance_laws(mean, target, power, factor):
    loss = TweedieDevianceLoss(power, log_input=False, reduction="none")
    each = loss(mean, target).data
    assert (each >= 0).all() and not loss(target, target).data.any()
    check_close(loss(factor * mean, factor * target), factor ** (2 - power) * each,
                "the deviance in another unit", rtol=1e-6, atol=1e-12)
    slope = gradients_of(loss, [mean, target], np.ones(6))[0]
    assert (np.sign(slope) == np.sign(mean - target))[np.abs(mean / target - 1) > 1e-12].all()
    check_close(TweedieDevianceLoss(power, reduction="none")(np.log(mean), target), each,
                "the deviance by logarithms", rtol=1e-6, atol=1e-12)


@repeatable
@given(positive, positive)
def test_deviance_is_continuous_in_its_power(mean, target):
    at = [TweedieDevianceLoss(power, log_input=False, reduction="none")(mean, target).data
          for power in (1, 1 + 1e-10, 2 - 1e-10, 2)]
    check_close(at[1], at[0], "the deviance next to the Poisson end", rtol=1e-7, atol=1e-12)
    check_close(at[2], at[3], "the deviance next to the gamma end", rtol=1e-7, atol=1e-12)


@repeatable
@given(arrays(float, 6, elements=st.floats(0, 100)), st.sampled_from(POWERS[:-1]), st.floats(-3, 5))
def test_deviance_is_lowest_at_the_mean(target, power, other):
    loss = TweedieDevianceLoss(power)
    assert (loss(np.full(6, np.log(target.mean() + 1e-12)),
                 target).item() <= loss(np.full(6, other), target).item() + 1e-6)


@pytest.mark.parametrize("power", POWERS)
def test_deviance_is_scikit_learns(power):
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    mean, target = (rng.exponential(2, 50) + 0.01,
                    rng.exponential(2, 50) * (rng.random(50) < (1.1 if power == 2 else 0.6)))
    check_close(TweedieDevianceLoss(power, log_input=False)(mean, target),
                metrics.mean_tweedie_deviance(target, mean, power=power), "mean_tweedie_deviance",
                rtol=1e-9)


@pytest.mark.parametrize("power", POWERS[:-1])
def test_deviance_of_nothing_expected_and_nothing_seen(power):
    loss = TweedieDevianceLoss(power)
    assert loss([-inf], [0.0]).item() == 0
    assert gradients_of(loss, [np.array([-inf]), np.zeros(1)])[0] == 0
    check_close(loss([0.0], [0.0]), 2 / (2 - power), "the deviance of 0 from 1")


def test_deviance_errors():
    check_raises(ValueError, lambda: TweedieDevianceLoss(power=0), "power is 0",
                 "at least 1 and at most 2")
    check_raises(ValueError, lambda: TweedieDevianceLoss(power=2)([0.0], [0.0]), "target[0] is 0",
                 "below 2")
    check_raises(ValueError, lambda: TweedieDevianceLoss(log_input=False)([0.0], [1.0]),
                 "input[0] is 0", "log_input=True")
    assert TweedieDevianceLoss(power=1.99)([0.0], [0.0]).item() > 0
