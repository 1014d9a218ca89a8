"""The weights of elements that torch 2.13 gives `mse_loss`, `l1_loss` and `huber_loss`: value and
gradients are PyTorch's.
"""
import numpy as np
import pytest

from tinytorch.checking import check_close, check_raises
from tinytorch.core.tensor import Tensor
from tinytorch.nn import functional as F

RNG = np.random.default_rng(0)
X, T, W = RNG.normal(size=(4, 3)), RNG.normal(size=(4, 3)), RNG.uniform(0, 2, (4, 3))
each = pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "huber_loss"])


@each
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_weighted_functions_are_torchs(name, reduction, dtype):
    torch = pytest.importorskip("torch")
    arrays = [x.astype(dtype) for x in (X, T, W)]
    mine, theirs = ([Tensor(x, requires_grad=True) for x in arrays],
                    [torch.tensor(x, requires_grad=True) for x in arrays])
    ours = getattr(F, name)(*mine[:2], reduction=reduction, weight=mine[2])
    other = getattr(torch.nn.functional, name)(*theirs[:2], reduction=reduction, weight=theirs[2])
    check_close(ours, other.detach().numpy(), name, rtol=1e-5 if dtype == "float32" else 1e-10)
    ours.backward(np.ones(ours.shape, dtype))
    other.backward(torch.ones_like(other))
    for x, y in zip(mine, theirs):
        check_close(x.grad, y.grad.numpy(), f"a gradient of {name}",
                    rtol=1e-5 if dtype == "float32" else 1e-10)


def test_what_the_mean_divides_by():
    x, t, w = np.array([1.0, 2.0]), np.zeros(2), np.array([1.0, 3.0])
    assert F.mse_loss(x, t, weight=w).item() == 13 / 4 and F.l1_loss(x, t, weight=w).item() == 7 / 4
    assert F.huber_loss(x, t, weight=w).item() == (0.5 + 3 * 1.5) / 2


@each
def test_weights_of_0_cost_nothing(name):
    assert getattr(F, name)(X, T, weight=np.zeros((4, 3))).item() == 0
    check_raises(ValueError, lambda: getattr(F, name)(X, T, weight=np.ones(3)),
                 "weight has shape (3,)")
