"""Values and gradients are PyTorch's, in cases generated from the registry; where they are not, on
purpose, that is tested too.

Skipped where torch is not installed.
"""
import builtins
import json
import warnings
from math import inf

import numpy as np
import pytest

import tinytorch.nn
from tinytorch.checking import check_close, check_raises
from tinytorch.core.tensor import Tensor

torch = pytest.importorskip("torch")
from record_torch import FILE, RECORDED, VERSION, answer, cases, losses

# float32: torch.testing's
TOLERANCE = {"float64": {"rtol": 1e-7, "atol": 1e-12}, "float32": {"rtol": 1.3e-6, "atol": 1e-5}}


def name(case: dict) -> str:
    "A case in one word, for pytest's report."
    options = [f"{key}={'array' if isinstance(value, np.ndarray) else value}"
               for key, value in case["options"].items()]
    return "-".join([case["loss"], case["dtype"], *options,
                     *("x".join(map(str, x.shape)) or "number" for x in case["arguments"])])


def ours(case: dict) -> dict:
    "Our value and gradients of a case, as arrays."
    dtype = case["dtype"]
    options = {key: value.astype(dtype) if isinstance(value, np.ndarray) else value
               for key, value in case["options"].items()}
    tensors = [Tensor(x.astype(dtype), requires_grad=True) if x.dtype.kind == "f" else Tensor(x)
               for x in map(np.asarray, case["arguments"])]
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
        arrays = {key: np.array(value) if key in ("weight", "pos_weight") else value
                  for key, value in case["options"].items()}
        now = answer({**case, "options": arrays})
        check_close(case["value"], now["value"], "a recorded value", rtol=1e-6)
        for old, new in zip(case["gradients"], now["gradients"], strict=True):
            assert (old is None) == (new is None)
            if old is not None:
                check_close(old, new, "a recorded gradient", rtol=1e-6)


# the cases in tinytorch/data/differences: loss, options, arguments, what PyTorch does, what we do;
# each (error type, text), or (value, gradient of the first argument)
DIFFERENCES = {f"{path.stem}: {reason}": cases
               for path in sorted((FILE.parent / "differences").glob("*.json"))
               for reason, cases in json.loads(path.read_text(encoding="utf-8")).items()}


def arrays(arguments) -> list:
    "Recorded arguments as arrays of float64 or int64; {\"zeros\": shape} stands for an empty one."
    return [np.zeros(x["zeros"], int if "integers" in x else float) if isinstance(x, dict)
            else np.asarray(x) for x in arguments]


def result_of(loss, first, torchs=False):
    "Value and gradient of the first argument, as arrays."
    loss.sum().backward()
    return (loss.detach().numpy(), first.grad.numpy()) if torchs else (loss.data, first.grad)


def by_torch(loss, options, arguments):
    options = {key: torch.tensor(value, dtype=torch.float64) if isinstance(value, list) else value
               for key, value in options.items()}
    tensors = [torch.from_numpy(x.copy()) for x in arrays(arguments)]
    tensors[0].requires_grad_(tensors[0].is_floating_point())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")         # of shapes that differ
        return result_of(getattr(torch.nn, loss)(**options)(*tensors), tensors[0], torchs=True)


def by_us(loss, options, arguments):
    tensors = [Tensor(x) for x in arrays(arguments)]
    tensors[0].requires_grad = tensors[0].dtype.kind == "f"
    return result_of(getattr(tinytorch.nn, loss)(**options)(*tensors), tensors[0])


@pytest.mark.parametrize("reason", DIFFERENCES)
def test_difference_is_deliberate(reason):
    for loss, options, arguments, theirs, mine in DIFFERENCES[reason]:
        for compute, expected, who in (by_torch, theirs, "PyTorch's"), (by_us, mine, "our"):
            if isinstance(expected[0], str):
                check_raises(getattr(builtins, expected[0]),
                             lambda: compute(loss, options, arguments), expected[1])
            else:
                for found, wanted in zip(compute(loss, options, arguments), expected):
                    check_close(found, arrays([wanted])[0],
                                f"{who} {loss} with {options} of {arguments}, or its gradient,")


def test_target_slope_at_sure_probabilities_is_that_of_the_limited_loss():
    """BCELoss limits logarithms to -100, so its slope for the target is 100 at most; PyTorch's is
    that of the loss without the limit.
    """
    target = torch.tensor([0.0], requires_grad=True)
    torch.nn.BCELoss()(torch.tensor([0.0]), target).backward()
    assert target.grad.tolist() == [inf]
    mine = Tensor(np.zeros(1), requires_grad=True)
    tinytorch.nn.BCELoss()(np.zeros(1), mine).backward()
    assert mine.grad.tolist() == [100]
