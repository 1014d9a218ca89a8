"Properties of the losses that mathematics promises, for inputs that Hypothesis chooses."
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tinytorch.checking import blocks_of, gradients_of
from tinytorch.core.tensor import Tensor
from tinytorch.nn import (BCELoss, BCEWithLogitsLoss, CrossEntropyLoss, HuberLoss, L1Loss, MSELoss,
                          NLLLoss, SmoothL1Loss, log_softmax, logsumexp)

# the same examples in every run, and no example database
settings.register_profile("repeatable", derandomize=True, database=None, deadline=None,
                          max_examples=60)
settings.load_profile("repeatable")

REGRESSION = [MSELoss(), L1Loss(), HuberLoss(), HuberLoss(delta=0.3), SmoothL1Loss(beta=2.0),
              SmoothL1Loss(beta=0)]
each_regression = pytest.mark.parametrize("loss", REGRESSION, ids=repr)
floats = st.floats(-1e3, 1e3, width=32).map(lambda x: round(x, 3))
sizes = st.integers(1, 8)


def close(a, b, rtol=1e-9, atol=1e-9):
    np.testing.assert_allclose(getattr(a, "data", a), getattr(b, "data", b), rtol=rtol, atol=atol)


@st.composite
def pairs(draw, elements=floats):
    "An input and a target of the same shape."
    shape = draw(st.lists(st.integers(1, 5), max_size=3).map(tuple))
    return (draw(arrays(float, shape, elements=elements)),
            draw(arrays(float, shape, elements=elements)))


@st.composite
def batches(draw, elements=floats):
    "Logits (N, C), class indices (N,) and probabilities (N, C)."
    n, c = draw(sizes), draw(st.integers(2, 6))
    share = draw(arrays(float, (n, c), elements=st.floats(0.01, 1)))
    return draw(arrays(float, (n, c), elements=elements)), draw(
        arrays(int, n, elements=st.integers(0, c - 1))), share / share.sum(1, keepdims=True)


probabilities = st.floats(0, 1, width=32)


# --- regression

@each_regression
@given(pairs())
def test_regression_is_a_distance(loss, pair):
    x, t = pair
    assert loss(x, t).item() >= 0
    assert loss(x, x).item() == 0 and not gradients_of(loss, [x, x])[0].any()
    close(loss(x, t), loss(t, x))
    assert loss(x, t).item() > 0 or np.array_equal(x, t)


@each_regression
@given(pairs(), floats)
def test_regression_sees_only_the_difference(loss, pair, shift):
    x, t = pair
    close(loss(x + shift, t + shift), loss(x, t), rtol=1e-6, atol=1e-6)
    input, target = gradients_of(loss, [x, t])
    close(input, -target)


@given(pairs(), st.floats(-100, 100))
def test_scale_laws(pair, factor):
    x, t = pair
    close(MSELoss()(factor * x, factor * t), factor**2 * MSELoss()(x, t).data, atol=1e-6)
    close(L1Loss()(factor * x, factor * t), abs(factor) * L1Loss()(x, t).data, atol=1e-6)
    if factor > 0.01:
        close(HuberLoss(delta=factor)(factor * x, factor * t), factor**2 * HuberLoss()(x, t).data,
              rtol=1e-7, atol=1e-6)


@given(pairs(), st.floats(0.01, 100))
def test_huber_and_smooth_l1_are_one_family(pair, delta):
    x, t = pair
    close(HuberLoss(delta=delta)(x, t), delta * SmoothL1Loss(beta=delta)(x, t).data)
    close(gradients_of(HuberLoss(delta=delta), [x, t])[0],
          delta * gradients_of(SmoothL1Loss(beta=delta), [x, t])[0])


@given(pairs())
def test_huber_lies_between_its_limits(pair):
    x, t = pair
    huber = HuberLoss(reduction="none")(x, t).data
    assert ((huber <= MSELoss("none")(x, t).data / 2 + 1e-9).all()
            and (huber <= L1Loss("none")(x, t).data + 1e-9).all())
    close(HuberLoss(delta=1e6)(x, t), MSELoss()(x, t).data / 2)


@given(pairs())
def test_mean_and_median_are_the_best_constants(pair):
    x = pair[0].ravel()
    for loss, best in (MSELoss(), x.mean()), (L1Loss(), np.median(x)):
        lowest = loss(np.full_like(x, best), x).item()
        for other in (*x, best + 0.1, best - 0.1):
            assert lowest <= loss(np.full_like(x, other), x).item() + 1e-9 * (1 + lowest)


# --- convexity

CONVEX = [MSELoss(), L1Loss(), HuberLoss(), SmoothL1Loss(beta=0.3), BCEWithLogitsLoss(),
          BCEWithLogitsLoss(pos_weight=3.0)]


def below_chord(loss, a, b, target, share):
    "Whether the loss between two inputs lies on or below the straight line between their losses."
    between = loss(share * a + (1 - share) * b, target).item()
    chord = share * loss(a, target).item() + (1 - share) * loss(b, target).item()
    return between <= chord + 1e-9 * (1 + abs(chord))


@pytest.mark.parametrize("loss", CONVEX, ids=repr)
@given(pairs(), st.data(), st.floats(0, 1))
def test_convex_in_the_input(loss, pair, data, share):
    a, b = pair
    target = data.draw(arrays(float, a.shape, elements=probabilities))
    assert below_chord(loss, a, b, target, share)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@given(batches(), st.data(), st.floats(0, 1))
def test_cross_entropy_is_convex_in_the_logits(smoothing, batch, data, share):
    a, index, probability = batch
    b = data.draw(arrays(float, a.shape, elements=floats))
    for target in (index, probability):
        assert below_chord(CrossEntropyLoss(label_smoothing=smoothing), a, b, target, share)


# --- binary

@given(pairs(st.floats(-10, 10)), st.data())
def test_logits_and_probabilities_agree(pair, data):
    x = pair[0]
    t = data.draw(arrays(float, x.shape, elements=probabilities))
    close(BCEWithLogitsLoss()(x, t), BCELoss()(1 / (1 + np.exp(-x)), t), rtol=1e-6, atol=1e-6)


@given(pairs(probabilities))
def test_bce_is_not_negative_and_lowest_at_the_target(pair):
    p, t = pair
    loss = BCELoss(reduction="none")
    assert (loss(p, t).data >= 0).all()
    assert (loss(t, t).data <= loss(p, t).data + 1e-6).all()
    hard = np.round(t)
    assert (loss(hard, hard).data == 0).all()


@given(pairs(), st.data())
def test_exchanging_the_classes_changes_nothing(pair, data):
    x = pair[0]
    t = data.draw(arrays(float, x.shape, elements=probabilities))
    close(BCEWithLogitsLoss()(x, t), BCEWithLogitsLoss()(-x, 1 - t), atol=1e-6)
    p = data.draw(arrays(float, x.shape, elements=st.integers(0, 1024).map(lambda k: k / 1024)))
    close(BCELoss()(p, t), BCELoss()(1 - p, 1 - t), atol=1e-5)


@given(arrays(float, 6, elements=floats), arrays(float, 6, elements=probabilities))
def test_binary_is_two_classes(x, t):
    rows = np.stack([np.zeros(6), x], axis=1)
    close(BCEWithLogitsLoss()(x, t), CrossEntropyLoss()(rows, np.stack([1 - t, t], axis=1)))


# --- classes

@given(batches(), st.floats(-1e3, 1e3))
def test_shifting_all_logits_changes_nothing(batch, shift):
    x, index, probability = batch
    for target in (index, probability):
        close(CrossEntropyLoss()(x + shift, target), CrossEntropyLoss()(x, target), atol=1e-8)
    close(log_softmax(x + shift), log_softmax(x), atol=1e-8)
    close(logsumexp(x + shift), logsumexp(x) + shift, atol=1e-8)


@given(batches())
def test_log_softmax_is_a_distribution(batch):
    x = batch[0]
    close(np.exp(log_softmax(x)).sum(axis=-1), np.ones(len(x)))
    assert (log_softmax(x) <= 0).all()
    assert (logsumexp(x) >= x.max(axis=-1)).all()
    assert (logsumexp(x) <= x.max(axis=-1) + np.log(x.shape[1]) + 1e-9).all()
    close(log_softmax(log_softmax(x)), log_softmax(x), atol=1e-8)


@given(batches())
def test_cross_entropy_is_nll_of_log_softmax(batch):
    x, index, _ = batch
    leaves = [Tensor(x, requires_grad=True) for _ in range(2)]
    one, other = CrossEntropyLoss()(leaves[0], index), NLLLoss()(log_softmax(leaves[1]), index)
    close(one, other)
    one.backward()
    other.backward()
    close(leaves[0].grad, leaves[1].grad)


@given(batches(), st.floats(0, 1), st.data())
def test_one_hot_targets_are_indices(batch, smoothing, data):
    x, index, _ = batch
    one_hot = np.eye(x.shape[1])[index]
    loss = CrossEntropyLoss(label_smoothing=smoothing)
    close(loss(x, index), loss(x, one_hot))
    close(gradients_of(loss, [x, index])[0], gradients_of(loss, [x, one_hot])[0])
    weight = data.draw(arrays(float, x.shape[1], elements=st.floats(0.1, 3)))
    close(CrossEntropyLoss(weight, reduction="sum")(x, index),
          CrossEntropyLoss(weight, reduction="sum")(x, one_hot))


@given(batches(), st.floats(0, 1))
def test_label_smoothing_blends_the_target_with_the_uniform_one(batch, smoothing):
    x, index, probability = batch
    for target, whole in (index, np.eye(x.shape[1])[index]), (probability, probability):
        blended = (1 - smoothing) * whole + smoothing / x.shape[1]
        close(CrossEntropyLoss(label_smoothing=smoothing)(x, target),
              CrossEntropyLoss()(x, blended))


@given(batches())
def test_cross_entropy_is_lowest_at_the_target(batch):
    x, index, probability = batch
    loss = CrossEntropyLoss(reduction="none")
    assert (loss(x, index).data >= 0).all()
    entropy = -(probability * np.log(probability)).sum(axis=1)
    close(loss(np.log(probability), probability), entropy)
    assert (loss(x, probability).data >= entropy - 1e-9).all()


@given(batches(), st.randoms(use_true_random=False))
def test_order_of_samples_and_classes_does_not_matter(batch, random):
    x, index, probability = batch
    samples, classes = (random.sample(range(n), n) for n in x.shape)
    place = np.argsort(classes)
    for target, other in (index, place[index][samples]), (
        probability, probability[samples][:, classes]):
        close(CrossEntropyLoss()(x[samples][:, classes], other), CrossEntropyLoss()(x, target))


@given(batches())
def test_gradient_of_cross_entropy_sums_to_zero(batch):
    x, index, probability = batch
    for target in (index, probability):
        gradient = gradients_of(CrossEntropyLoss(), [x, target])[0]
        close(gradient.sum(axis=1), np.zeros(len(x)))
        assert (np.abs(gradient) <= 1 / len(x) + 1e-12).all()


@given(batches(), st.integers(0, 5))
def test_ignored_samples_are_as_if_absent(batch, ignored):
    x, index, _ = batch
    kept = index != ignored
    loss = CrossEntropyLoss(ignore_index=ignored)
    close(loss(x, index), CrossEntropyLoss()(x[kept], index[kept]))
    gradient = gradients_of(loss, [x, index])[0]
    assert not gradient[~kept].any()
    close(gradient[kept], gradients_of(CrossEntropyLoss(), [x[kept], index[kept]])[0])


@given(batches(), st.integers(1, 5))
def test_whole_weights_are_repeated_samples(batch, times):
    x, index, _ = batch
    weight = np.arange(x.shape[1]) % times + 1
    repeated = np.repeat(np.arange(len(x)), weight[index])
    close(CrossEntropyLoss(weight.astype(float))(x, index),
          CrossEntropyLoss()(x[repeated], index[repeated]))


# --- blocks

@given(batches(), st.integers(1, 60), st.sampled_from(["none", "mean", "sum"]))
def test_blocks_never_change_the_answer(batch, size, reduction):
    x, index, probability = batch
    cases = [(CrossEntropyLoss(reduction=reduction), [x, index]),
             (CrossEntropyLoss(reduction=reduction, label_smoothing=0.1), [x, index]),
             (CrossEntropyLoss(reduction=reduction), [x, probability]),
             (MSELoss(reduction), [x, probability]),
             (BCEWithLogitsLoss(reduction=reduction, pos_weight=np.arange(1.0, x.shape[1] + 1)),
              [x, probability])]
    for loss, arguments in cases:
        upstream = np.full(loss(*arguments).shape, 1.5)
        whole = [loss(*arguments).data, *gradients_of(loss, arguments, upstream)]
        with blocks_of(size):
            for one, other in zip([loss(*arguments).data, *gradients_of(loss, arguments, upstream)],
                                  whole):
                if other is not None:
                    close(one, other, rtol=1e-12, atol=1e-12)
