"""What users write, and what a type checker must say to it: run by Python, read by mypy and pyright.

A line that ends in `# wrong` must be flagged, no other one.
"""
from typing import TYPE_CHECKING

import numpy as np

import tinytorch
from tinytorch import nn
from tinytorch.core.tensor import Tensor
from tinytorch.nn import CrossEntropyLoss, Linear, Loss, Module, MSELoss, ReLU, Sequential
from tinytorch.nn import functional as F

if TYPE_CHECKING:
    from typing_extensions import assert_type
else:
    def assert_type(value, kind):
        "What the checkers are promised holds when the line runs, too."
        assert isinstance(value, kind), (value, kind)


def half_square(input, target):
    error = input - target
    return error * error / 2, error


class HalfSquare(Loss):
    formula = half_square


class Model(Module):
    def __init__(self) -> None:
        self.layers = Sequential(Linear(3, 4), ReLU(), Linear(4, 2))

    def forward(self, input: Tensor) -> Tensor:
        return self.layers(input)


def right() -> None:
    "Use the package as a program does that is right."
    input = Tensor(np.ones((5, 3)), requires_grad=True)
    scores = Model()(input)
    loss = CrossEntropyLoss(label_smoothing=0.1)(scores, [0, 1, 1, 0, 1])
    assert_type(loss, Tensor)
    assert_type(loss.item(), float)
    loss.backward()
    assert input.grad is not None and input.grad.shape == (5, 3)
    assert_type(MSELoss(reduction="sum")(input, np.zeros((5, 3)), sample_weight=[1] * 5), Tensor)
    assert_type(HalfSquare()([1.0, 2.0], [1.0, 0.0]), Tensor)
    assert_type((0.7 * MSELoss() + HalfSquare())(input, input.data), Tensor)
    assert_type(nn.CTCLoss()(np.zeros((4, 1, 3)), [[1, 2]], [4], [2]), Tensor)
    assert_type(nn.InfoNCELoss()(np.eye(3), np.eye(3)), Tensor)
    assert_type(nn.AdaptiveLogSoftmaxWithLoss(8, 9, [4])(np.ones((5, 8)), [1] * 5).loss, Tensor)
    assert_type(ReLU()(input), Tensor)
    assert_type(Linear(3, 2)(input).shape, tuple)  # type: ignore[assert-type]
    assert_type(nn.logsumexp(input), Tensor)
    assert_type(F.huber_loss(input, np.zeros((5, 3)), delta=0.5), Tensor)
    assert_type(F.cross_entropy(scores, [0] * 5, reduction="none", sample_weight=[1] * 5), Tensor)
    assert_type((1 - 2 * input @ np.ones((3, 1)) ** 2).mean(axis=0)[0], Tensor)
    with tinytorch.engine("numpy"):
        assert_type(F.mse_loss([1.0], [2.0]), Tensor)


def wrong(x: Tensor) -> None:
    "Make the mistakes that a type checker finds; never called."
    CrossEntropyLoss(labelsmoothing=1)  # wrong
    MSELoss(reducton="sum")  # wrong
    nn.HuberLoss(delta="1")  # wrong
    MSELoss()(x, x, x)  # wrong
    MSELoss()(x)  # wrong
    nn.CTCLoss()(x, x, lengths=x)  # wrong
    nn.MSLoss()  # wrong
    F.mse_los(x, x)  # wrong
    F.huber_loss(x, x, beta=1.0)  # wrong
    text: str = MSELoss()(x, x)  # wrong
    x.bakward()  # wrong
    tinytorch.engin("numpy")  # wrong
    print(text)


right()
