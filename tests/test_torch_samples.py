"""PyTorch's own samples of losses, from the generators of its test suite: value and gradients are
the same, in both precisions.

Where they are not, the sample falls under a reason that the page "Where we differ" lists, and does
what it says there.
Skipped without torch.
"""
import dataclasses
import warnings

import numpy as np
import pytest

import tinytorch.nn
from tinytorch.checking import check_close, check_raises
from tinytorch.core.tensor import Tensor
from tinytorch.nn import functional as F

torch = pytest.importorskip("torch")
pytest.importorskip("expecttest")                # torch's generators need it
from test_torch import DIFFERENCES
from torch.testing._internal import common_nn
from torch.testing._internal.common_methods_invocations import op_db
from torch.testing._internal.common_modules import module_db

TOLERANCE = {torch.float64: {"rtol": 1e-7, "atol": 1e-10},
             torch.float32: {"rtol": 2e-5, "atol": 2e-5}}
# of CTC, which PyTorch adds up in float32 along all time steps; here in float64
COARSE = {"rtol": 1e-3, "atol": 1e-3}
# options of PyTorch's layers that say where and how numbers are kept
PLACES = {"device", "dtype"}
OPERATIONS = [op for op in op_db
              if op.name.startswith("nn.functional.") and op.name.split(".")[-1] in dir(F)]
MODULES = [info for info in module_db if info.name.endswith("Loss")]
SIGNS = {"soft_margin_loss", "hinge_embedding_loss", "margin_ranking_loss", "cosine_embedding_loss"}


# --- The same call here and there

def ours(value, wrap=True):
    "A torch argument or option as ours."
    if isinstance(value, torch.nn.PairwiseDistance):
        return tinytorch.nn.PairwiseDistance(value.norm, value.eps, value.keepdim)
    if isinstance(value, torch.nn.LinearCrossEntropyOptions):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return tinytorch.nn.LinearCrossEntropyOptions(fields.pop("batch_chunk_size"), **fields)
    if not isinstance(value, torch.Tensor):
        return value
    array = value.detach().numpy().copy()
    return Tensor(array, requires_grad=value.requires_grad) if wrap else array


def theirs(value):
    "A torch argument, apart from all others."
    return (value.detach().clone().requires_grad_(value.requires_grad)
            if isinstance(value, torch.Tensor) else value)


def results(call, arguments, options, tensor) -> list:
    """The value of a call and the gradient of each argument that has one, as arrays.

    `tensor`: how an array becomes one.
    """
    loss = call(*arguments, **options)
    leaves = [x for x in (*arguments, *options.values())
              if isinstance(x, (Tensor, torch.Tensor)) and x.requires_grad]
    value = loss.detach().numpy()
    upstream = 1.5 + np.cos(np.arange(value.size)).reshape(value.shape)
    loss.backward(tensor(np.asarray(upstream, value.dtype)))
    return [value,
            *[None if x.grad is None else x.grad if isinstance(x, Tensor) else x.grad.numpy()
              for x in leaves]]


def compare(name, torchs, mine, arguments, options, dtype):
    "One sample, here and there."
    shapes = [tuple(x.shape) for x in arguments if isinstance(x, torch.Tensor)]
    what = f"{name} of {shapes} with {', '.join(options) or 'no options'}"
    call = [ours(x) for x in arguments], {key: ours(x) for key, x in options.items()}
    reason, error, text = difference(name, arguments, options)
    if reason:
        assert reason in DIFFERENCES, f"no page lists this reason: {reason}"
    if error:
        return check_raises(error, lambda: mine(*call[0], **call[1]), text)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")          # of chunks that PyTorch leaves out
        expected = results(torchs, [theirs(x) for x in arguments],
                           {key: theirs(x) for key, x in options.items()}, torch.from_numpy)
    found = results(mine, *call, np.asarray)
    if reason:                                   # nothing to take a mean of
        return check_close(found[0], np.nan_to_num(expected[0], nan=0), what)
    assert found[0].dtype == expected[0].dtype
    for one, other in zip(found, expected, strict=True):
        assert (one is None) == (other is None), what
        if one is not None:
            check_close(one, other, what,
                        **(COARSE if name == "ctc_loss" and dtype == torch.float32
                           else TOLERANCE[dtype]))


# --- Where we differ

def difference(name, arguments, options) -> tuple:
    "Why a sample has another answer here, (reason, error, text of the error), or three times None."
    reason = {"margin": "margin: labels of other sizes are most likely a mistake: they are weights in disguise"}
    tensors = [x for x in arguments if isinstance(x, torch.Tensor)]
    input, target = tensors[0], tensors[-1]
    if name in SIGNS and not (target.abs() == 1).all():
        return reason["margin"], ValueError, "must be -1 or 1"
    if (name == "poisson_nll_loss" and (target < 0).any()
        or name == "kl_div" and not options.get("log_target") and (target < 0).any()):
        return ("likelihood: counts, rates and probabilities are not negative", ValueError,
                "must be at least 0")
    if name == "gaussian_nll_loss" and tensors[1].ndim not in (0, input.ndim):
        return ("likelihood: shapes that broadcast are most likely a mistake", ValueError,
                "they must be equal")
    if (name in ("multilabel_soft_margin_loss", "binary_cross_entropy_with_logits")
        and (tensors[1].min() < 0 or tensors[1].max() > 1)):
        where = "margin" if name.startswith("multi") else "core"
        return (f"{where}: a target outside [0, 1] is no probability", ValueError,
                "must lie in [0, 1]")
    if (name == "cross_entropy" and not target.is_floating_point()
        and (target == options.get("ignore_index", -100)).all()):
        return "core: nothing to take a mean of gives 0", None, None
    return None, None, None


def of_logits(function, softmax):
    """CTC as a function of logits: its slope for log-probabilities is another here, that for
    logits is the same.
    """
    return lambda logits, *rest, **options: function(softmax(logits), *rest, **options)


def of_negatives(function):
    """A function of log-probabilities as one of any numbers, which PyTorch's samples are: positive
    ones are refused here, as the page says.
    """
    def call(input, target, **options):
        return function(-abs(input),
                        -abs(target) if options.get("log_target") or getattr(
                            function, "log_target", False) else target,
                        **options)
    return call


# --- The samples

@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("op", OPERATIONS, ids=lambda op: op.name.split(".")[-1] + "-" + op.variant_test_name)
def test_function(op, dtype):
    torch.manual_seed(0)
    name = op.name.split(".")[-1]
    torchs, mine = op.op, getattr(F, name)
    if name == "ctc_loss":
        torchs, mine = (of_logits(torchs, lambda x: x.log_softmax(-1)),
                        of_logits(mine, F.log_softmax))
    if name in ("nll_loss", "kl_div"):
        torchs, mine = of_negatives(torchs), of_negatives(mine)
    for sample in op.sample_inputs("cpu", dtype, requires_grad=True):
        compare(name, torchs, mine, [sample.input, *sample.args], sample.kwargs, dtype)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("info", MODULES, ids=lambda info: info.module_cls.__name__)
def test_module(info, dtype):
    torch.manual_seed(0)
    name = info.module_cls.__name__
    for sample in info.module_inputs_func(info, "cpu", dtype, True, True):
        made = sample.constructor_input
        options = {key: ours(x, wrap=False) for key, x in made.kwargs.items() if key not in PLACES}
        torchs, mine = (info.module_cls(*made.args, **made.kwargs).to(dtype),
                        getattr(tinytorch.nn, name)(*made.args, **options))
        if name == "LinearCrossEntropyLoss":     # the same weights
            mine.linear.weight, mine.linear.bias = (ours(torchs.linear.weight),
                                                    ours(torchs.linear.bias))
        if name == "CTCLoss":
            torchs, mine = (of_logits(torchs, lambda x: x.log_softmax(-1)),
                            of_logits(mine, F.log_softmax))
        if name in ("NLLLoss", "KLDivLoss"):
            torchs, mine = of_negatives(torchs), of_negatives(mine)
        arguments, named = sample.forward_input.args, sample.forward_input.kwargs
        # PyTorch's samples are logarithms of negative numbers, too
        if name == "KLDivLoss":
            arguments = [torch.nan_to_num(x.detach(), nan=0.5).requires_grad_(x.requires_grad)
                         for x in arguments]
        compare_module(name, torchs, mine, [*arguments, *named.values()], made.kwargs, dtype)


@pytest.mark.parametrize("case", common_nn.criterion_tests, ids=lambda case: case.get("fullname"))
def test_criterion_without_a_batch(case):
    torch.manual_seed(0)
    torchs = case["constructor"]().double()
    given = [case[f"{which}_fn"]() if f"{which}_fn" in case else torch.randn(case[f"{which}_size"])
             for which in ("input", "target")]
    arguments = [x.double() if x.is_floating_point() else x for part in given
                 for x in (part if isinstance(part, tuple) else (part,))]
    name = type(torchs).__name__
    mine = getattr(tinytorch.nn, name)(reduction=torchs.reduction)
    if name in ("NLLLoss", "KLDivLoss"):
        torchs, mine = of_negatives(torchs), of_negatives(mine)
    compare_module(name, torchs, mine, [arguments[0].requires_grad_(), *arguments[1:]], {},
                   torch.float64)


def compare_module(name, torchs, mine, arguments, options, dtype):
    "A sample of a class; its options are in the two objects already, and say where we differ."
    function = (next(key for key in dir(F)
                     if getattr(F, key).__doc__.startswith(f"`{name}` as a function."))
                if name != "LinearCrossEntropyLoss" else "")
    compare(function, lambda *given, **_: torchs(*given), lambda *given, **_: mine(*given),
            arguments,
            {key: x for key, x in options.items() if key in ("log_target", "ignore_index")}, dtype)


def test_there_are_samples():
    "So that the tests above do not become empty with another version of torch."
    assert len(OPERATIONS) >= 22 and len(MODULES) >= 20 and len(common_nn.criterion_tests) >= 48
