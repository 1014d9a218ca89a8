"""The curvature of every loss whose formula is known as a graph is that of small steps and of
torch.func.hessian; the others say why they have none.
"""
import importlib
import os
import warnings
from zlib import crc32

import numpy as np
import pytest

import tinytorch.nn
from tinytorch.checking import check_close, check_raises, examples
from tinytorch.core.tensor import Tensor
from tinytorch.nn import DiceLoss, TverskyLoss
from tinytorch.nn.arguments import REAL
from tinytorch.nn.criterion import LOSSES, Loss, RowLoss

dir(tinytorch.nn)                # imports every module, and so fills LOSSES
NO_GRAPH = {"MultiLabelMarginLoss": "cumprod", "LovaszHingeLoss": "argsort",
            "SparsemaxLoss": "sort", "ListMLELoss": "lexsort", "RankNetLoss": ".any",
            **dict.fromkeys(["TripletMarginWithDistanceLoss", "InfoNCELoss", "NTXentLoss",
                             "SupConLoss", "CircleLoss", "LinearCrossEntropyLoss", "CTCLoss"],
                            "no formula of single samples")}
OWN = [name for name, loss in LOSSES.items() if loss.__module__.startswith("tinytorch.")]
GRAPHS = [name for name in OWN if name not in NO_GRAPH]


def host(module):
    "Return a module; skip the tests where it is missing, but not in CI."
    if os.environ.get("CI") == "true":
        return importlib.import_module(module)
    return pytest.importorskip(module)


def calls(name, variants=True, reductions=("mean", "sum")):
    "Yield pairs of a loss and arguments of at most 30 numbers, whose curvature is known."
    loss_class, rng = LOSSES[name], np.random.default_rng(crc32(name.encode()))
    for options in ({}, *(loss_class.variants if variants else ())):
        for loss, arguments in examples(loss_class, options, rng, reductions=reductions):
            indices = loss.task == "segmentation" and arguments[1].dtype.kind == "i"
            if 0 < arguments[0].size <= 30 and not indices:
                yield loss, arguments


def regions():
    """Yield pairs of a loss and arguments with the class of each pixel, whose formula works along
    two axes of a sample.
    """
    rng = np.random.default_rng(0)
    for loss in (DiceLoss(), DiceLoss(ignore_index=1, reduction="sum"),
                 TverskyLoss(0.3, 0.8, 0.0), TverskyLoss(reduction="none", ignore_index=-1)):
        for shape in ((3,), (4, 3), (2, 3, 4), (2, 3, 2, 2)):
            target = rng.integers(0, 3, shape[:1][:len(shape) - 1] + shape[2:])
            if target.ndim:
                target.flat[0] = loss.ignore_index
            yield loss, (rng.normal(size=shape), target)


def gradient(loss, arguments):
    "Return the gradient of the first argument, for the sum of the losses of all samples."
    first = Tensor(arguments[0], requires_grad=True)
    loss(first, *arguments[1:]).sum().backward()
    return first.grad


def by_steps(loss, arguments):
    "Return the Hessian of the first argument by small steps of the gradient."
    x, columns = arguments[0], []
    for k in range(x.size):
        step = np.zeros(x.size)
        step[k] = 1e-6
        step = step.reshape(x.shape)
        up, down = (gradient(loss, (moved, *arguments[1:])) for moved in (x + step, x - step))
        columns.append(((up - down) / 2e-6).ravel())
    return np.stack(columns, axis=1)


@pytest.mark.parametrize("engine, name", [
    *[("numpy", name) for name in GRAPHS],
    *[("numba", name) for name in ("HuberLoss", "BCEWithLogitsLoss", "CrossEntropyLoss",
                                   "TweedieDevianceLoss", "MultiMarginLoss", "ListNetLoss")]])
def test_curvature_is_that_of_small_steps(name, engine):
    if engine == "numba":
        host("numba")
    rng, seen = np.random.default_rng(0), 0
    with tinytorch.engine(engine):
        for loss, arguments in calls(name, engine == "numpy", ("mean",)):
            hessian, v = by_steps(loss, arguments), rng.normal(size=arguments[0].shape)
            what = f"of {loss!r} with {arguments}"
            check_close(loss.curvature(*arguments), np.diag(hessian).reshape(v.shape),
                        f"the curvature {what}", rtol=1e-5, atol=2e-6)
            check_close(loss.hessian_product(*arguments, v), (hessian @ v.ravel()).reshape(v.shape),
                        f"the Hessian's product {what}", rtol=1e-5, atol=5e-6)
            seen += 1
    assert seen


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", GRAPHS)
def test_where_pieces_meet_the_curvature_is_theirs(name, dtype):
    "At 0 and next to it the curvature is that of both sides, where the two sides agree."
    for loss, arguments in calls(name, reductions=("sum",)):
        zero, *rest = [np.asarray(x, dtype if x.dtype.kind == "f" else None) for x in arguments]
        zero = np.zeros_like(zero)
        try:
            sides = [loss.curvature(zero + step, *rest) for step in (1e-3, -1e-3)]
        except ValueError:                                     # 0 is outside its domain
            continue
        agree = np.isclose(*sides, rtol=0.02, atol=1e-3)
        for step in (0, 1e-9, -1e-9, 1e-17, -1e-17):
            found = loss.curvature(zero + zero.dtype.type(step), *rest)
            assert np.isclose(found, sides[0], rtol=0.03, atol=2e-3)[agree].all(), (
                f"{loss!r} beside 0 by {step}: {found}, on the sides {sides}")


def test_the_hessian_of_regions_of_classes():
    for loss, arguments in regions():
        x, rng = arguments[0], np.random.default_rng(0)
        v = rng.normal(size=x.shape)
        found = (by_steps(loss, arguments) @ v.ravel()).reshape(x.shape)
        check_close(loss.hessian_product(*arguments, v), found, f"{loss!r} of {arguments}",
                    rtol=1e-5, atol=1e-8)
        check_raises(TypeError, lambda: loss.curvature(*arguments), "hessian_product")


def pairs(x):
    "Costs what each pair of numbers in a row differs by."
    gap = x[:, :, None] - x[:, None, :]
    slope = 4 * gap.sum(axis=-1)
    return (gap * gap).sum(axis=-1).sum(axis=-1), slope


def numbered(x):
    "Costs the square of each number more, the farther it stands in its row."
    place = np.arange(x.shape[-1], like=x)
    return (place * x * x).sum(axis=-1), 2 * place * x


@pytest.mark.parametrize("engine", ["numpy", "numba"])
@pytest.mark.parametrize("row_formula", [pairs, numbered])
def test_a_formula_may_add_axes_and_number_its_classes(row_formula, engine):
    class Own(RowLoss):
        formula = row_formula
        domain = {"input": REAL}

    if engine == "numba":
        host("numba")
    x, v = np.random.default_rng(0).normal(size=(2, 40, 3))[:, :5]
    own = row_formula(x)[0].mean()
    with tinytorch.engine(engine), warnings.catch_warnings():
        if row_formula is pairs:
            warnings.filterwarnings("ignore", ".*more than one axis of a sample", RuntimeWarning)
        else:
            warnings.simplefilter("error")
        check_close(Own()(x).item(), own, row_formula.__name__)
        check_close(Own().hessian_product(x, v), row_formula(v)[1] / 5, "the Hessian's product")
        if row_formula is pairs:
            check_raises(TypeError, lambda: Own().curvature(x), "more than one axis")
        else:
            check_close(Own().curvature(x), row_formula(np.ones_like(x))[1] / 5, "the curvature")


def test_a_sign_is_that_of_the_piece():
    def smooth_absolute(input, target):
        error = input - target
        exp = np.exp(-np.abs(error))
        return np.abs(error) + exp - 1, np.sign(error) * (1 - exp)

    class SmoothAbsoluteLoss(Loss):
        formula = smooth_absolute

    found = SmoothAbsoluteLoss("none").curvature([2.0, -3.0, 0.0, 1.0], [2.0, -3.0, 0.0, 0.0])
    check_close(found, [1, 1, 1, np.exp(-1)], "the curvature exp(-|error|)")


@pytest.mark.parametrize("name", NO_GRAPH)
def test_a_loss_without_a_graph_says_why(name):
    if LOSSES[name].formula is None:
        options = (3, 2) if name == "LinearCrossEntropyLoss" else ()
        loss, arguments = LOSSES[name](*options), [np.ones((2, 3))] * len(LOSSES[name].domain)
    else:
        loss, arguments = next(examples(LOSSES[name], {}, np.random.default_rng(0)))
    check_raises(TypeError, lambda: loss.curvature(*arguments), name)
    check_raises(TypeError, lambda: loss.curvature(*arguments), NO_GRAPH[name])
    check_raises(TypeError, lambda: loss.hessian_product(*arguments, arguments[0]), name)


def test_every_loss_has_a_graph_or_a_reason():
    assert NO_GRAPH.keys() < set(OWN) and len(GRAPHS) >= 41


@pytest.mark.parametrize("name", ["MSELoss", "CrossEntropyLoss", "CosineDistanceLoss"])
def test_weights_and_reductions_scale_the_curvature(name):
    for loss, arguments in calls(name, False, ("sum",)):
        if arguments[0].ndim != 2:
            continue
        each = loss.curvature(*arguments)
        weight = np.arange(len(each)).astype(float)
        shape = loss.sample_shape(arguments[0])
        samples = weight.reshape(-1, *[1] * (each.ndim - 1))
        check_close(loss.curvature(*arguments, sample_weight=weight), samples * each, "weighted")
        mean = LOSSES[name]()
        count = np.broadcast_to(weight.reshape(-1, *[1] * (len(shape) - 1)), shape).sum()
        check_close(mean.curvature(*arguments, sample_weight=weight), samples * each / count, "a mean")
        check_close(LOSSES[name](reduction="none").curvature(*arguments), each, "of each sample")


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.2}, {"weight": np.array([1., 2, 3, 4])}])
def test_the_bound_of_softmax_losses_is_one(options):
    x, t = np.random.default_rng(1).normal(size=(5, 4)), np.array([0, 1, 2, 3, 3])
    loss = LOSSES["CrossEntropyLoss"](reduction="sum", **options)
    bound = loss.curvature(x, t, bound=True)
    for i, row in enumerate(x):
        hessian = by_steps(loss, (row[None], t[i:i + 1]))
        least = np.linalg.eigvalsh(np.diag(bound[i]) - hessian)[0]
        assert least > -1e-8
        # and the diagonal itself is none
        assert np.linalg.eigvalsh(np.diag(loss.curvature(x, t)[i]) - hessian)[0] < -1e-3


def test_a_number_outside_its_domain_is_told():
    check_raises(ValueError, lambda: LOSSES["BCELoss"]().curvature([1.5], [1.0]), "input[0] is 1.5")
    check_raises(ValueError, lambda: LOSSES["MSELoss"]().hessian_product([1.5], [1.0], [1.0, 2.0]), "v has shape")


FUNCTIONS = {"MSELoss": "mse_loss", "HuberLoss": "huber_loss", "SmoothL1Loss": "smooth_l1_loss",
             "BCELoss": "binary_cross_entropy",
             "BCEWithLogitsLoss": "binary_cross_entropy_with_logits", "KLDivLoss": "kl_div",
             "CrossEntropyLoss": "cross_entropy", "PoissonNLLLoss": "poisson_nll_loss",
             "CosineEmbeddingLoss": "cosine_embedding_loss",
             "TripletMarginLoss": "triplet_margin_loss", "GaussianNLLLoss": "gaussian_nll_loss",
             "MultiLabelSoftMarginLoss": "multilabel_soft_margin_loss"}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_curvature_is_torchs(name):
    torch = host("torch")
    function, seen = getattr(torch.nn.functional, FUNCTIONS[name]), 0
    for loss, arguments in calls(name, False, ("sum",)):
        first, *rest = map(torch.from_numpy, map(np.asarray, arguments))
        if first.ndim != 2:
            continue
        hessian = torch.func.hessian(lambda x: function(x, *rest, reduction="sum"))(first)
        size = first.numel()
        diagonal = torch.diagonal(hessian.reshape(size, size)).reshape(first.shape)
        check_close(loss.curvature(*arguments), diagonal.numpy(), f"the curvature of {name}", atol=1e-6)
        seen += 1
    assert seen


def test_the_second_call_of_many_numbers_is_compiled(monkeypatch):
    "For NumPy a second derivative is dozens of arrays, and boosting asks for it in each round."
    from tinytorch.core import engine

    def fourth_power(input, target):
        error = input - target
        return error**4, 4 * error**3

    class FourthPowerLoss(Loss):
        formula = fourth_power

    compiled = []
    monkeypatch.setattr(engine, "compiled_run", lambda: lambda problem, *_, **options:
                        compiled.append(len(problem.operands[0])))
    with tinytorch.engine("auto"):
        monkeypatch.setattr(engine, "has_numba", lambda: True)
        for size in (100, 100, 100, 5000, 100):
            x = np.linspace(-1, 1, size)
            check_close(FourthPowerLoss("sum").curvature(x, np.zeros(size)), 12 * x**2, "12 x²")
    assert compiled == [5000, 100]


PREPARED = [(tinytorch.nn.GaussianNLLLoss(), ((4, 3), (4, 3), (4,)), ((4, 3), (4, 3), (4, 1))),
            (tinytorch.nn.MultiMarginLoss(), ((3,), (1,)), ((1, 3), (1,)))]


@pytest.mark.parametrize("loss, shapes, long", PREPARED)
def test_arguments_that_a_loss_prepares(loss, shapes, long):
    "A variance for each row, and the class of a single row in an array, mean what they say in a call."
    rng = np.random.default_rng(0)
    short = [rng.uniform(0.5, 1.5, shape) for shape in shapes]
    short[1] = np.zeros(1, int) if shapes[1] == (1,) else short[1]
    whole = [x.reshape(shape) for x, shape in zip(short, long)]
    v = rng.normal(size=shapes[0])
    curvature, product = loss.curvature(*short), loss.hessian_product(*short, v)
    assert curvature.shape == product.shape == shapes[0]
    check_close(curvature.ravel(), loss.curvature(*whole).ravel(), "the curvature")
    check_close(product.ravel(), loss.hessian_product(*whole, v.reshape(long[0])).ravel(),
                "the product")
    torch = host("torch")
    from tinytorch.hosts import to_torch
    value = to_torch(loss).by_graph([torch.tensor(x) for x in short])
    check_close(value.item(), loss(*short).item(), "the loss by the graph")
