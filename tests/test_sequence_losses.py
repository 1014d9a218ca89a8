"CTCLoss against PyTorch over random problems, and its errors."
import numpy as np
import pytest

from tinytorch.checking import check_raises
from tinytorch.core.tensor import Tensor
from tinytorch.nn import CTCLoss, log_softmax


def problem(seed):
    "Logits, labels, lengths and a blank: short, long, empty and impossible targets among them."
    rng = np.random.default_rng(seed)
    frames, samples, classes, most = rng.integers(1, 9), rng.integers(1, 5), rng.integers(2, 5), rng.integers(0, 4)
    logits = rng.normal(0, rng.choice([1, 10]), (frames, samples, classes))
    lengths, inputs = rng.integers(0, most + 1, samples), rng.integers(0, frames + 1, samples) if seed % 2 else np.full(samples, frames)
    blank = int(rng.integers(0, classes))
    labels = rng.integers(0, classes - 1, (samples, max(most, 1)))
    return logits, labels + (labels >= blank), inputs, lengths, blank


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_equals_torch(seed, reduction):
    torch = pytest.importorskip("torch")
    logits, labels, inputs, lengths, blank = problem(seed)
    for zero in False, True:
        theirs = torch.tensor(logits, requires_grad=True)
        expected = torch.nn.CTCLoss(blank, reduction, zero)(theirs.log_softmax(2), *map(torch.tensor, (labels, inputs, lengths)))
        ours = Tensor(logits, requires_grad=True)
        result = CTCLoss(blank, reduction, zero)(log_softmax(ours), labels, inputs, lengths)
        np.testing.assert_allclose(result.data, expected.detach().numpy(), rtol=1e-7, atol=1e-9)
        upstream = np.random.default_rng(seed).uniform(0.5, 2, result.shape)
        expected.backward(torch.tensor(upstream))
        result.backward(upstream)
        known = np.isfinite(theirs.grad.numpy())           # PyTorch's is NaN where the loss is infinite; ours is 0
        np.testing.assert_allclose(ours.grad[known], theirs.grad.numpy()[known], rtol=1e-7, atol=1e-9)
        assert np.isfinite(ours.grad).all()


@pytest.mark.parametrize("dtype, rtol", [("float16", 5e-3), ("float32", 1e-5), ("float64", 1e-12)])
def test_dtype_is_kept(dtype, rtol):
    logits, labels, inputs, lengths, blank = problem(4)
    x = log_softmax(logits).astype(dtype)
    tensor, before = Tensor(x, requires_grad=True), x.copy()
    loss = CTCLoss(blank, zero_infinity=True)(tensor, labels, inputs, lengths)
    loss.backward()
    assert loss.dtype == tensor.grad.dtype == dtype and (x == before).all()
    np.testing.assert_allclose(loss.data, CTCLoss(blank, zero_infinity=True)(x.astype(float), labels, inputs, lengths).data, rtol=rtol)


def test_concatenated_targets_and_single_sequences():
    logits, labels, inputs, lengths, blank = problem(6)
    x = log_softmax(logits)
    each = CTCLoss(blank, "none")(x, labels, inputs, lengths).data
    joined = np.concatenate([row[:n] for row, n in zip(labels, lengths)])
    np.testing.assert_allclose(CTCLoss(blank, "none")(x, joined, inputs, lengths).data, each)
    for i in range(len(each)):
        one = CTCLoss(blank, "none")(x[:, i], labels[i, :lengths[i]], int(inputs[i]), int(lengths[i]))
        assert one.shape == () and np.isclose(one.item(), each[i]) or one.item() == each[i]


def test_a_long_sequence_does_not_underflow():
    x = log_softmax(np.zeros((3000, 1, 3)))
    assert 3000 * np.log(3) * 0.5 < CTCLoss(reduction="sum")(x, [[1, 2]], [3000], [2]).item() < 3000 * np.log(3)


GOOD = dict(log_probs=np.zeros((5, 2, 4)), targets=[[1, 2], [3, 1]], input_lengths=[5, 5], target_lengths=[2, 2])


@pytest.mark.parametrize("wrong, error, texts", [
    (dict(log_probs=np.zeros(4)), ValueError, ["log_probs has shape (4,)", "(T, N, C)"]),
    (dict(log_probs=np.zeros((0, 2, 4))), ValueError, ["T at least 1"]),
    (dict(input_lengths=[5]), ValueError, ["input_lengths has shape (1,)", "2 samples"]),
    (dict(input_lengths=[6, 5]), ValueError, ["input_lengths[0] is 6", "has 5"]),
    (dict(input_lengths=[5, -1]), ValueError, ["input_lengths[1] is -1"]),
    (dict(target_lengths=[2, 3]), ValueError, ["target_lengths[1] is 3", "has 2"]),
    (dict(target_lengths=[1.5, 2]), TypeError, ["target_lengths has dtype", "whole numbers"]),
    (dict(targets=[[1, 4], [3, 1]]), IndexError, ["targets[0, 1] is 4", "classes 0..3"]),
    (dict(targets=[[1, 2], [-1, 1]]), IndexError, ["targets[1, 0] is -1"]),
    (dict(targets=[[1, 0], [3, 1]]), ValueError, ["targets[0, 1] is 0, the blank"]),
    (dict(targets=[1, 2, 3]), ValueError, ["targets has shape (3,)", "add up to 4"]),
    (dict(targets=[[1, 2]]), ValueError, ["targets has shape (1, 2)", "2 samples"]),
    (dict(log_probs=np.full((5, 2, 4), "a")), TypeError, ["log_probs has dtype"])])
def test_bad_input_is_named(wrong, error, texts):
    check_raises(error, lambda: CTCLoss()(**GOOD | wrong), "CTCLoss", *texts)


def test_bad_options_are_named():
    check_raises(ValueError, lambda: CTCLoss(blank=4)(**GOOD), "blank is 4", "0..3")
    check_raises(TypeError, lambda: CTCLoss(blank="a"), "blank is 'a'")
    check_raises(ValueError, lambda: CTCLoss(reduction="average"), "reduction is 'average'")
