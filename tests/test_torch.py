"""Values and gradients are PyTorch's, in cases generated from the registry; where they are not, on purpose, that is tested too.

Skipped where torch is not installed.
"""
import json
import warnings
from math import inf, nan

import numpy as np
import pytest

import tinytorch.nn
from tinytorch.checking import check_close, check_raises
from tinytorch.core.tensor import Tensor

torch = pytest.importorskip("torch")
from record_torch import FILE, RECORDED, VERSION, answer, cases, losses
from tinytorch.nn.criterion import LOSSES

TOLERANCE = {"float64": {"rtol": 1e-7, "atol": 1e-12}, "float32": {"rtol": 1.3e-6, "atol": 1e-5}}      # float32: torch.testing's


def name(case: dict) -> str:
    "A case in one word, for pytest's report."
    options = [f"{key}={'array' if isinstance(value, np.ndarray) else value}" for key, value in case["options"].items()]
    return "-".join([case["loss"], case["dtype"], *options, *("x".join(map(str, x.shape)) or "number" for x in case["arguments"])])


def ours(case: dict) -> dict:
    "Our value and gradients of a case, as arrays."
    dtype = case["dtype"]
    options = {key: value.astype(dtype) if isinstance(value, np.ndarray) else value for key, value in case["options"].items()}
    tensors = [Tensor(x.astype(dtype), requires_grad=True) if x.dtype.kind == "f" else Tensor(x) for x in map(np.asarray, case["arguments"])]
    result = getattr(tinytorch.nn, case["loss"])(**options)(*tensors)
    result.backward(np.asarray(case["upstream"], dtype=dtype))
    return {"value": result.data, "gradients": [x.grad for x in tensors]}


@pytest.mark.parametrize("case", list(cases(seed=1)), ids=name)
def test_equals_torch(case):
    result, expected = ours(case), answer(case)
    what = f"{case['loss']} with {case['options']} of {case['arguments']}"
    assert result["value"].dtype == expected["value"].dtype
    check_close(result["value"], expected["value"], what, **TOLERANCE[case["dtype"]])
    for gradient, wanted in zip(result["gradients"], expected["gradients"]):
        if wanted is not None:
            assert gradient.dtype == wanted.dtype
            check_close(gradient, wanted, f"a gradient of {what}", **TOLERANCE[case["dtype"]])


@pytest.mark.skipif(torch.__version__.partition("+")[0] != VERSION, reason=f"the record is of torch {VERSION}")
@pytest.mark.parametrize("loss", losses())
def test_record_is_torchs(loss):
    recorded = json.loads(FILE.read_text(encoding="utf-8"))["cases"][loss]
    assert len(recorded) == RECORDED, "run `python tests/record_torch.py`"
    for case in recorded:
        arrays = {key: np.array(value) if key in ("weight", "pos_weight") else value for key, value in case["options"].items()}
        now = answer({**case, "options": arrays})
        check_close(case["value"], now["value"], "a recorded value", rtol=1e-6)
        for old, new in zip(case["gradients"], now["gradients"], strict=True):
            assert (old is None) == (new is None)
            if old is not None:
                check_close(old, new, "a recorded gradient", rtol=1e-6)


# loss, options, arguments, what PyTorch does, what we do: each (error type, text), or (value, gradient of the input)
DIFFERENCES = {
    "shapes that broadcast are most likely a mistake": [
        ("MSELoss", {}, ([[1.0], [2.0]], [1.0, 2.0]), (0.5, [[-0.5], [0.5]]), (ValueError, "(2, 1) but target has shape (2,)")),
        ("L1Loss", {}, ([[1.0], [2.0]], [1.0, 2.0]), (0.5, [[-0.25], [0.25]]), (ValueError, "(2, 1) but target has shape (2,)")),
        ("HuberLoss", {}, ([1.0, 2.0], [1.0]), (0.25, [0.0, 0.5]), (ValueError, "(2,) but target has shape (1,)"))],
    "nothing to take a mean of gives 0": [
        ("CrossEntropyLoss", {}, ([[1.0, 2.0]], [-100]), (nan, [[0.0, 0.0]]), (0.0, [[0.0, 0.0]])),
        ("CrossEntropyLoss", {"ignore_index": 1}, ([[1.0, 2.0]], [1]), (nan, [[0.0, 0.0]]), (0.0, [[0.0, 0.0]])),
        ("CrossEntropyLoss", {"label_smoothing": 0.1, "ignore_index": 1}, ([[1.0, 2.0]], [1]), (nan, [[0.0, 0.0]]), (0.0, [[0.0, 0.0]])),
        ("NLLLoss", {"weight": [0.0, 1.0]}, ([[-1.0, -2.0]], [0]), (nan, [[nan, 0.0]]), (0.0, [[0.0, 0.0]])),
        ("MSELoss", {}, (np.zeros((0, 2)), np.zeros((0, 2))), (nan, np.zeros((0, 2))), (0.0, np.zeros((0, 2)))),
        ("CrossEntropyLoss", {}, (np.zeros((0, 2)), np.zeros(0, int)), (nan, np.zeros((0, 2))), (0.0, np.zeros((0, 2))))],
    "a class of probability 0 costs nothing, even if its logit is -infinity": [
        ("CrossEntropyLoss", {}, ([[0.0, -inf]], [[1.0, 0.0]]), (nan, [[0.0, 0.0]]), (0.0, [[0.0, 0.0]]))],
    "an infinite logit on the right side costs nothing": [
        ("BCEWithLogitsLoss", {}, ([inf, -inf], [1.0, 0.0]), (nan, [0.0, 0.0]), (0.0, [0.0, 0.0]))],
    "a sample of weight 0 is skipped, whatever it holds": [
        ("BCEWithLogitsLoss", {"weight": [0.0, 1.0]}, ([nan, 0.0], [1.0, 1.0]), (nan, [nan, -0.25]), (np.log(2) / 2, [0.0, -0.25])),
        ("NLLLoss", {"weight": [0.0, 1.0]}, ([[-inf, -1.0], [-2.0, -3.0]], [0, 1]), (nan, [[0.0, 0.0], [0.0, -1.0]]), (3.0, [[0.0, 0.0], [0.0, -1.0]])),
        ("CrossEntropyLoss", {"weight": [0.0, 1.0]}, ([[nan, nan], [0.0, 0.0]], [0, 1]), (nan, [[nan, nan], [0.5, -0.5]]),
         (np.log(2), [[0.0, 0.0], [0.5, -0.5]]))],
    "a NaN is passed on, as by all other losses": [
        ("BCELoss", {}, ([nan], [1.0]), (RuntimeError, "input should be between 0 and 1"), (nan, [nan]))],
    "a target outside [0, 1] is no probability": [
        ("BCEWithLogitsLoss", {}, ([0.0], [2.0]), (np.log(2), [-1.5]), (ValueError, "target[0] is 2, but it must lie in [0, 1]")),
        ("BCELoss", {}, ([0.5], [2.0]), (RuntimeError, "target should be between 0 and 1"), (ValueError, "target[0] is 2")),
        ("CrossEntropyLoss", {}, ([[0.0, 0.0]], [[1.5, -0.5]]), (np.log(2), [[-1.0, 1.0]]), (ValueError, "target[0, 0] is 1.5"))],
    "whole numbers are taken for what they are": [
        ("CrossEntropyLoss", {}, ([[0.0, 0.0]], [[0, 1]]), (RuntimeError, "floating point type for target"), (np.log(2), [[0.5, -0.5]])),
        ("CrossEntropyLoss", {}, ([[0.0, 0.0]], [1.0]), (RuntimeError, "target dtype to be Long"), (np.log(2), [[0.5, -0.5]]))],
}


def by_torch(loss, options, input, target):
    "PyTorch's value and gradient of the input."
    options = {key: torch.tensor(value, dtype=torch.float64) if isinstance(value, list) else value for key, value in options.items()}
    input = torch.tensor(input, dtype=torch.float64, requires_grad=True)
    target = torch.tensor(target, dtype=torch.float64 if np.asarray(target).dtype.kind == "f" else torch.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")         # of shapes that differ
        result = getattr(torch.nn, loss)(**options)(input, target)
        result.backward()
    return result.detach().numpy(), input.grad.numpy()


def by_us(loss, options, input, target):
    "Our value and gradient of the input."
    input = Tensor(np.asarray(input), requires_grad=True)
    result = getattr(tinytorch.nn, loss)(**options)(input, Tensor(np.asarray(target)))
    result.backward()
    return result.data, input.grad


@pytest.mark.parametrize("reason", DIFFERENCES)
def test_difference_is_deliberate(reason):
    for loss, options, arguments, theirs, mine in DIFFERENCES[reason]:
        for compute, expected, who in (by_torch, theirs, "PyTorch's"), (by_us, mine, "our"):
            if isinstance(expected[0], type):
                check_raises(expected[0], lambda: compute(loss, options, *arguments), expected[1])
            else:
                for found, wanted in zip(compute(loss, options, *arguments), expected):
                    check_close(found, wanted, f"{who} {loss} with {options} of {arguments}, or its gradient,")


def test_target_slope_at_sure_probabilities_is_that_of_the_limited_loss():
    "BCELoss limits logarithms to -100, so its slope for the target is 100 at most; PyTorch's is that of the loss without the limit."
    target = torch.tensor([0.0], requires_grad=True)
    torch.nn.BCELoss()(torch.tensor([0.0]), target).backward()
    assert target.grad.tolist() == [inf]
    mine = Tensor(np.zeros(1), requires_grad=True)
    tinytorch.nn.BCELoss()(np.zeros(1), mine).backward()
    assert mine.grad.tolist() == [100]
