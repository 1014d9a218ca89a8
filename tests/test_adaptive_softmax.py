"AdaptiveLogSoftmaxWithLoss against PyTorch with the same weights, and its errors."
import numpy as np
import pytest

from tinytorch.checking import check_raises
from tinytorch.core.tensor import Tensor
from tinytorch.nn import AdaptiveLogSoftmaxWithLoss

CASES = [((16, 50, [5, 20]), {}), ((16, 50, [5, 20]), {"head_bias": True}), ((12, 30, [10]), {"div_value": 2.0}), ((64, 40, [1, 2, 39]), {"head_bias": True})]


def pair(torch, arguments, options):
    "Our layer and PyTorch's, in float64, with the same weights."
    theirs = torch.nn.AdaptiveLogSoftmaxWithLoss(*arguments, **options).double()
    ours = AdaptiveLogSoftmaxWithLoss(*arguments, **options)
    names = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        name = name.replace("layers.", "")
        assert parameter.shape == tuple(names[name].shape)
        parameter.data = names[name].detach().numpy().copy()
    assert len(ours.parameters()) == len(names)
    return ours, theirs


@pytest.mark.parametrize("arguments, options", CASES)
@pytest.mark.parametrize("targets", ["all", "head", "tail", "one", "single"])
def test_equals_torch(arguments, options, targets):
    torch = pytest.importorskip("torch")
    ours, theirs = pair(torch, arguments, options)
    rng, (features, classes, cutoffs) = np.random.default_rng(0), arguments
    low, high = {"head": (0, cutoffs[0]), "tail": (cutoffs[-1], classes)}.get(targets, (0, classes))
    shape = () if targets == "single" else (1,) if targets == "one" else (9,)
    x, t = rng.normal(size=(*shape, features)), rng.integers(low, high, shape)
    mine, their = Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    result, expected = ours(mine, t), theirs(their, torch.tensor(t))
    np.testing.assert_allclose(result.output.data, expected.output.detach().numpy(), rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(result.loss.item(), expected.loss.item(), rtol=1e-7)
    result.loss.backward()
    expected.loss.backward()
    np.testing.assert_allclose(mine.grad, their.grad.numpy(), rtol=1e-7, atol=1e-12)
    names = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        gradient = names[name.replace("layers.", "")].grad
        if gradient is not None and parameter.grad is not None:
            np.testing.assert_allclose(parameter.grad, gradient.numpy(), rtol=1e-7, atol=1e-12)
        else:
            assert gradient is None or not gradient.any()
    batch = np.atleast_2d(x)
    np.testing.assert_allclose(ours.log_prob(batch).data, theirs.log_prob(torch.tensor(batch)).detach().numpy(), rtol=1e-7)


@pytest.mark.parametrize("cutoffs", [[], [0], [20, 5], [5, 5], [50], [2.5], [True]])
def test_bad_cutoffs_are_named(cutoffs):
    check_raises(ValueError, lambda: AdaptiveLogSoftmaxWithLoss(16, 50, cutoffs), "AdaptiveLogSoftmaxWithLoss", f"cutoffs is {cutoffs}", "49")


def test_bad_input_is_named():
    layer = AdaptiveLogSoftmaxWithLoss(8, 50, [5, 20], div_value=2.0)
    check_raises(ValueError, lambda: layer(np.ones((2, 7)), [1, 2]), "input has shape (2, 7)", "(N, 8)")
    check_raises(ValueError, lambda: layer(np.ones((2, 8)), [1]), "input has shape (2, 8)", "target has shape (1,)")
    check_raises(IndexError, lambda: layer(np.ones((2, 8)), [1, 50]), "target[1] is 50", "0..49")
    check_raises(ValueError, lambda: layer(np.ones((2, 8)), [1, 0.5]), "target[1] is 0.5")
    check_raises(ValueError, lambda: AdaptiveLogSoftmaxWithLoss(8, 50, [5, 20]), "cluster 1 has hidden states of length 0")
    check_raises(ValueError, lambda: AdaptiveLogSoftmaxWithLoss(8, 50, [5], div_value=0), "div_value is 0")
    assert layer(np.ones((0, 8)), np.zeros(0, int)).loss.item() == 0
