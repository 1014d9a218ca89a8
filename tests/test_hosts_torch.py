"""Every loss whose graph is known passes PyTorch's own checks of first and second derivatives;
the others work on tensors in memory.
"""
import copy
import io
from functools import partial

import numpy as np
import pytest

from tinytorch.checking import check_close, check_raises
import tinytorch.nn
from tinytorch.nn import (BCEWithLogitsLoss, CircleLoss, CrossEntropyLoss, CTCLoss, DiceLoss,
                          HuberLoss, InfoNCELoss, LinearCrossEntropyLoss, MSELoss, NTXentLoss,
                          SparsemaxLoss, SupConLoss, TripletMarginWithDistanceLoss)
from tinytorch.nn.criterion import LOSSES, Loss
from test_hosts import GRAPHS, calls, host, regions

torch = host("torch")
from tinytorch.hosts import to_torch


def tensors(arguments):
    "Return the arguments as tensors; those of real numbers require a gradient."
    return [torch.from_numpy(np.array(x)).requires_grad_(x.dtype.kind == "f") for x in
            map(np.asarray, arguments)]


def one_call(name):
    "Yield a call for each kind of target, of an input of two axes where the loss takes one."
    for loss, arguments in calls(name, False, ("mean",)):
        if arguments[0].ndim == 2:
            yield loss, arguments


@pytest.mark.parametrize("name", GRAPHS)
def test_gradcheck_and_gradgradcheck(name):
    seen = 0
    for loss, arguments in one_call(name):
        criterion, inputs = to_torch(loss), tensors(arguments)
        for x, argument in zip(inputs, loss.domain):
            x.requires_grad_(x.requires_grad and argument not in loss.constant
                             and not getattr(loss.domain[argument], "ends", False))
        assert torch.autograd.gradcheck(criterion, inputs)
        assert torch.autograd.gradgradcheck(criterion, inputs)
        seen += 1
    assert seen


@pytest.mark.parametrize("name", GRAPHS)
def test_the_graph_gives_what_the_engine_gives(name):
    "For all options, shapes and reductions, with weights of samples, one of which is 0."
    rng = np.random.default_rng(0)
    for loss, arguments in calls(name, True, LOSSES[name].reductions):
        shape = loss.sample_shape(arguments[0])
        weight = rng.uniform(0, 2, shape)
        weight.reshape(-1)[:1] *= len(shape) == 0
        for weights in (None, torch.from_numpy(weight)):
            results = []
            for by in ("engine", "graph"):
                criterion, inputs = to_torch(loss), tensors(arguments)
                call = criterion if by == "engine" else criterion.by_graph
                value = call(inputs if by == "graph" else inputs[0], weights) if by == "graph" \
                    else criterion(*inputs, sample_weight=weights)
                value.sum().backward()
                results.append([value.detach().numpy(), inputs[0].grad.numpy()])
            for ours, theirs in zip(*results):
                check_close(theirs, ours, f"by graph {loss!r} of {arguments}", rtol=1e-9,
                            atol=1e-10)


@pytest.mark.parametrize("name", GRAPHS)
def test_whole_numbers_are_no_class_indices(name):
    "Targets of 0 and 1, counts and levels are numbers, also where their dtype is an integer's."
    seen = 0
    for loss, arguments in calls(name, True, ("mean",)):
        arguments = [arguments[0], *[np.rint(x).astype(int) for x in arguments[1:]]]
        try:
            own = loss(*arguments).item()
        except ValueError:                                     # fractions only
            continue
        value = to_torch(loss).by_graph([torch.from_numpy(np.asarray(x)) for x in arguments])
        check_close(value.item(), own, f"{loss!r} of {arguments}")
        seen += 1
    assert seen


@pytest.mark.parametrize("name", GRAPHS)
def test_torch_func(name):
    "grad, vmap and hessian give the engine's gradient and our curvature."
    for loss, arguments in one_call(name):
        criterion, (first, *rest) = to_torch(loss), [x.detach() for x in tensors(arguments)]
        gradient = torch.func.grad(lambda x: criterion(x, *rest))(first)
        again = first.clone().requires_grad_()
        criterion(again, *rest).backward()
        check_close(gradient.numpy(), again.grad.numpy(), f"torch.func.grad of {loss!r}")
        hessian = torch.func.hessian(lambda x: criterion(x, *rest))(first)
        diagonal = hessian.reshape(first.numel(), -1).diagonal().reshape(first.shape)
        check_close(diagonal.numpy(), loss.curvature(*arguments), f"hessian of {loss!r}", atol=1e-9)
        each = torch.func.vmap(lambda *row: criterion(*[x[None] for x in row]))(first, *rest)
        alone = [criterion(*[x[i:i + 1] for x in (first, *rest)]) for i in range(len(first))]
        check_close(each.numpy(), torch.stack(alone).numpy(), f"vmap of {loss!r}")


def test_regions_of_classes():
    "By the engine and by the graph, with first and second derivatives and weights of samples."
    for loss, arguments in regions():
        criterion, (x, target) = to_torch(loss), tensors(arguments)
        weight = torch.linspace(0, 1, len(x)) if x.ndim > 1 else None
        results = [criterion(x, target, sample_weight=weight),
                   criterion.by_graph([x, target], weight)]
        gradients = [torch.autograd.grad(value.sum(), x)[0] for value in results]
        for engine, graph in (results, gradients):
            check_close(graph.detach().numpy(), engine.detach().numpy(), f"{loss!r} of {arguments}")
        loss_of = partial(criterion, target=target, sample_weight=weight)
        assert torch.autograd.gradcheck(loss_of, x)
        assert torch.autograd.gradgradcheck(loss_of, x)


def test_an_index_beyond_the_classes_of_a_region_is_nan_by_the_graph():
    x, target = torch.zeros(1, 3, 2), torch.tensor([[0, 3]])
    assert to_torch(DiceLoss()).by_graph([x, target]).isnan()
    assert to_torch(DiceLoss(ignore_index=3)).by_graph([x, target]).isfinite()


@pytest.mark.parametrize("loss, target", [(HuberLoss(), torch.zeros(4, 3)),
                                          (CrossEntropyLoss(), torch.tensor([0, 2, 1, -100]))])
def test_other_devices(loss, target):
    x = torch.randn(4, 3)
    assert to_torch(loss).to("meta")(x.to("meta"), target.to("meta")).shape == ()


INDICES, NUMBERS = torch.tensor([0, 2, 1, 1, -100, 0]), torch.linspace(0, 1, 18).reshape(6, 3)


def cosines(a, b):
    return 1 - tinytorch.nn.cosine_similarity(a, b)


CTC = (torch.tensor([[1, 2], [2, 1]]), torch.tensor([5, 4]), torch.tensor([2, 1]))


@pytest.mark.parametrize("make, rest", [
    (InfoNCELoss, [NUMBERS]), (NTXentLoss, [NUMBERS]), (SupConLoss, [INDICES]),
    (CircleLoss, [INDICES]), (TripletMarginWithDistanceLoss, [NUMBERS, NUMBERS.flip(0)]),
    (partial(TripletMarginWithDistanceLoss, distance_function=cosines), [NUMBERS, NUMBERS]),
    (CTCLoss, CTC)])
def test_one_compiled_graph_without_a_formula(make, rest):
    "Losses of single samples whose shape is not that of a formula."
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((5, 2, 3) if make is CTCLoss else (6, 3), generator=generator).log_softmax(-1)
    criterion = to_torch(make(reduction="none"))
    torch.compiler.reset()
    compiled = torch.compile(criterion, backend="aot_eager", fullgraph=True)
    for n in (6, 5) if make is not CTCLoss else (6,):
        found = []
        for call in (criterion, compiled):
            first = x[:n].clone().requires_grad_()
            value = call(first, *[y[:n] for y in rest])
            value.backward(torch.arange(1.0, 1 + value.numel()))
            found.append((value.detach(), first.grad))
        assert torch.equal(found[0][0], found[1][0])
        assert torch.allclose(found[0][1], found[1][1])


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("make, target", [
    (HuberLoss, NUMBERS), (partial(CrossEntropyLoss, [1.0, 2, 3]), INDICES),
    (CrossEntropyLoss, NUMBERS / NUMBERS.sum(1, keepdim=True)), (SparsemaxLoss, INDICES.abs() % 3),
    (DiceLoss, NUMBERS), (lambda reduction: 2 * MSELoss(reduction) + HuberLoss(reduction), NUMBERS)])
def test_one_compiled_graph(make, target, reduction):
    "torch.compile has no break in its graph: forward, backward, weights, other lengths, no gradient."
    criterion = to_torch(make(reduction=reduction))
    x = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))

    def step(criterion, x, t, weight=None):
        x = x.clone().requires_grad_(torch.is_grad_enabled())
        value = criterion(2 * x, t, sample_weight=weight)
        if x.requires_grad:
            value.backward(torch.arange(1.0, 1 + value.numel()).reshape(value.shape))
        return value.detach(), x.grad
    torch.compiler.reset()                 # its limit of compilations counts those of all tests
    compiled = torch.compile(criterion, backend="aot_eager", fullgraph=True)
    weight = torch.linspace(0, 2, 6)
    for n, grad in ((6, True), (5, True), (4, True), (3, True), (6, False)):
        for given in ((x[:n], target[:n]), (x[:n], target[:n], weight[:n])):
            with torch.set_grad_enabled(grad):
                theirs, ours = step(criterion, *given), step(compiled, *given)
            assert torch.equal(ours[0], theirs[0])
            assert not grad or torch.allclose(ours[1], theirs[1])


def test_a_compiled_criterion_keeps_its_options_apart():
    "Two criteria, a copy with another buffer, and a dtype of 16 bits, in one compiled function."
    one, other = to_torch(CrossEntropyLoss(weight=[1.0, 2, 3])), to_torch(MSELoss())
    changed = copy.deepcopy(one)
    changed.weight.fill_(1)
    x, t = torch.randn(6, 3), INDICES
    for criterion, target in ((one, t), (other, NUMBERS), (changed, t)):
        f = torch.compile(lambda x, t: criterion(x, t), backend="aot_eager", fullgraph=True)
        assert torch.equal(f(x, target), criterion(x, target))
        half = x.bfloat16()
        assert f(half, target).dtype == criterion(half, target).dtype
    assert not torch.allclose(one(x, t), changed(x, t))


@pytest.mark.parametrize("transform", [
    torch.func.grad, torch.func.hessian, lambda f: lambda x: torch.func.jvp(f, (x,), (x,))[1],
    lambda f: torch.func.vmap(lambda x: f(x.expand(6, 3)))])
def test_transforms_in_a_compiled_function(transform):
    "The operation has no forward mode, and PyTorch would take that for a derivative of 0."
    criterion, x = to_torch(CrossEntropyLoss()), torch.randn(6, 3, dtype=torch.float64)
    derivative = transform(lambda x: criterion(x, INDICES))
    torch.compiler.reset()
    assert torch.allclose(torch.compile(derivative, backend="aot_eager")(x), derivative(x))


@pytest.mark.parametrize("loss, target, shape", [(MSELoss(), NUMBERS, ()),
                                                 (CrossEntropyLoss(reduction="none"), INDICES, (6,))])
def test_the_operation_is_what_it_says(loss, target, shape):
    "PyTorch's own checks of an operation: its schema, its shapes, its gradient."
    from tinytorch.hosts.torch_host import loss_operation
    criterion, x = to_torch(loss), torch.randn(6, 3, requires_grad=True)
    change = torch.ones(shape)
    for given in (None, change):
        torch.library.opcheck(loss_operation, ([x, target], None, given, [True, False],
                                               criterion.name))


def test_tensors_are_not_copied(monkeypatch):
    "The engine gets the tensor's own memory; its gradient array is the tensor's gradient."
    from tinytorch.hosts import torch_host
    seen = []
    real = torch_host.evaluate

    def evaluate(loss, arrays, weight, wanted):
        result, gradients = real(loss, arrays, weight, wanted)

        def made(change):
            seen.extend([arrays[0], gradients(change)[0]])
            return [seen[1], None]
        return result, made
    monkeypatch.setattr(torch_host, "evaluate", evaluate)
    x = torch.randn(1000, 100, requires_grad=True)
    to_torch(MSELoss())(x, torch.zeros(1000, 100)).backward()
    assert [each.ctypes.data for each in seen] == [x.data_ptr(), x.grad.data_ptr()]


@pytest.mark.parametrize("loss, target", [(HuberLoss("none"), torch.zeros(4, 3)),
                                          (CrossEntropyLoss(reduction="none"), torch.tensor([0, 2, 1, -100]))])
def test_many_gradients_at_once(loss, target):
    "Jacobians and Hessians as autograd.functional computes them, row by row or all rows at once."
    x, criterion = torch.linspace(-2, 2, 12).reshape(4, 3), to_torch(loss)
    functional = torch.autograd.functional
    for derivative, f in ((functional.jacobian, lambda x: criterion(x, target)),
                          (functional.hessian, lambda x: criterion(x, target).sum())):
        rows, at_once = [derivative(f, x, vectorize=vectorize) for vectorize in (False, True)]
        check_close(at_once.numpy(), rows.numpy(), f"{derivative.__name__} of {loss!r}", atol=1e-6)


def test_second_backward_and_create_graph_of_a_large_loss():
    x = torch.randn(300, 300, dtype=torch.float64, requires_grad=True)
    value = to_torch(MSELoss("sum"))(x, torch.zeros_like(x))
    first, = torch.autograd.grad(value, x, retain_graph=True)
    second, = torch.autograd.grad(value, x, retain_graph=True)
    third, = torch.autograd.grad(value, x, create_graph=True)
    assert torch.equal(first, second) and torch.allclose(first, third)
    assert torch.allclose(torch.autograd.grad(third.sum(), x)[0], torch.full_like(x, 2))


@pytest.mark.parametrize("loss, shape", [(HuberLoss(), ()), (CrossEntropyLoss(), (3,)),
                                         (CrossEntropyLoss(weight=[1.0, 3.0, 2.0]), (3,))])
def test_weights_stay_in_every_kind_of_gradient(loss, shape):
    "A second call, one to be differentiated again, and the graph; a sample of weight 0 may be NaN."
    x = torch.randn(6, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x[3] = torch.nan
    t, weight = torch.arange(6) % 3, torch.tensor([1.0, 2, 0.5, 0, 3, 1], dtype=torch.float64)
    t, criterion = t if shape else t.double(), to_torch(loss)
    x.requires_grad_()
    value = criterion(x, t, sample_weight=weight)
    own = loss.value_and_gradient(x.detach().numpy(), t.numpy(), sample_weight=weight.numpy())[1]
    assert np.isfinite(own).all() and not own[3].any()
    for how in ({"retain_graph": True}, {"retain_graph": True}, {"create_graph": True}):
        found, = torch.autograd.grad(value, x, **how)
        check_close(found.detach().numpy(), own, f"a gradient with {how}")
    by_graph = torch.func.grad(lambda x: criterion(x, t, sample_weight=weight))(x.detach())
    check_close(by_graph.numpy(), own, "a gradient by the graph")


def test_forward_mode_and_linearize():
    "Also outside `torch.func.jvp`, where a tensor with a tangent has an array as any other has."
    from torch.autograd import forward_ad
    x, t, criterion = torch.randn(4, 3), torch.randn(4, 3), to_torch(HuberLoss())
    true = torch.func.jvp(lambda x: torch.nn.functional.huber_loss(x, t), (x,), (t,))[1]
    with forward_ad.dual_level():
        value = criterion(forward_ad.make_dual(x, t), t)
        assert torch.allclose(forward_ad.unpack_dual(value).tangent, true)
    assert torch.allclose(torch.func.linearize(lambda x: criterion(x, t), x)[1](t), true)


def test_forward_mode_twice_is_no_silent_zero():
    x, criterion = torch.randn(4, 3), to_torch(HuberLoss())

    def along(f):
        return lambda x: torch.func.jvp(f, (x,), (torch.ones_like(x),))[1]

    def value(x):
        return criterion(x, torch.zeros(4, 3))
    check_raises(NotImplementedError, lambda: along(along(value))(x), "torch.func.hessian")
    second = torch.func.grad(lambda x: along(value)(x))(x)             # the other way around
    assert torch.allclose(torch.func.jvp(torch.func.grad(value), (x,), (torch.ones_like(x),))[1],
                          second)


def test_buffers_are_arguments_of_a_functional_call():
    "Their gradient, a batch of them, and one that is a parameter."
    x, t, criterion = torch.randn(6, 3), INDICES, to_torch(CrossEntropyLoss(weight=[1.0, 2, 3]))

    def ours(weight):
        return torch.func.functional_call(criterion, {"weight": weight}, (x, t))

    def theirs(weight):
        used = t != -100
        each = torch.where(used, weight[t.clamp(0)], 0)
        values = torch.nn.functional.cross_entropy(x, t, reduction="none")
        return (each * values).sum() / each.sum()
    weights = torch.tensor([[1.0, 1, 1], [0.5, 1, 4]])
    assert torch.allclose(torch.func.vmap(ours)(weights), torch.stack([*map(theirs, weights)]))
    for gradient in (torch.func.grad, lambda f: lambda w: torch.autograd.grad(f(w), w)[0]):
        first = weights[1].clone().requires_grad_()
        assert torch.allclose(gradient(ours)(first), gradient(theirs)(first), atol=1e-6)


def test_state_dict_and_to():
    weight = torch.tensor([1.0, 2.0, 3.0])
    criterion, theirs = (to_torch(CrossEntropyLoss(weight=[3.0, 2.0, 1.0])),
                         torch.nn.CrossEntropyLoss(weight=weight))
    criterion.load_state_dict(theirs.state_dict())
    x, t = torch.randn(5, 3), torch.tensor([0, 1, 2, 0, 1])
    assert torch.allclose(criterion(x, t), theirs(x, t))
    criterion.double(), theirs.double()
    assert criterion.weight.dtype == torch.float64
    assert torch.allclose(criterion(x.double(), t), theirs(x.double(), t), rtol=1e-12)
    assert criterion(x.double(), t).dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_and_autocast(dtype):
    x, t = torch.randn(8, 3), torch.tensor([0, 1, 2, 0, 1, 2, 0, 0])
    criterion = to_torch(CrossEntropyLoss())
    half = x.to(dtype).requires_grad_()
    value = criterion(half, t)
    value.backward()
    assert value.dtype == half.grad.dtype == dtype
    with torch.autocast("cpu", dtype):
        value = criterion(x.to(dtype), t)
        wide = criterion(x.double(), t)
    assert value.dtype == torch.float32 and wide.dtype == torch.float64
    assert torch.allclose(wide, torch.nn.CrossEntropyLoss()(x.double(), t), rtol=1e-12)
    assert torch.allclose(value, torch.nn.CrossEntropyLoss()(x.to(dtype).float(), t))


def test_a_loss_without_a_graph_works_once_and_says_why():
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    t, criterion = torch.tensor([0, 1, 2, 0]), to_torch(SparsemaxLoss())
    assert torch.autograd.gradcheck(lambda x: criterion(x, t), x)
    check_raises(TypeError, lambda: criterion(x.to("meta"), t.to("meta")), "np.sort")
    check_raises(TypeError, lambda: torch.func.hessian(criterion)(x, t), "np.sort")


@pytest.mark.parametrize("loss", [MSELoss(), BCEWithLogitsLoss()])
def test_a_tensor_by_mistake_is_told_the_way(loss):
    x = torch.zeros(3, requires_grad=True)
    check_raises(TypeError, lambda: loss(x, torch.zeros(3)), "to_torch")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_that_holds_a_criterion_is_saved_and_copied(dtype):
    "Also after a call by the graph, whose functions cannot be pickled."
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.criterion = (torch.nn.Linear(4, 3),
                                          to_torch(CrossEntropyLoss(weight=[1.0, 2.0, 3.0])))

        def forward(self, x, t):
            return self.criterion(self.layer(x), t)
    model, x, t = Model().to(dtype), torch.randn(8, 4).to(dtype), torch.arange(8) % 3
    value = model(x, t)
    torch.func.grad(lambda scores: model.criterion(scores, t))(torch.zeros(8, 3))
    assert torch.equal(copy.deepcopy(model)(x, t), value)
    file = io.BytesIO()
    torch.save(model.criterion, file)
    file.seek(0)
    again = torch.load(file, weights_only=False)
    assert again.weight.dtype == dtype and torch.equal(again(model.layer(x), t), value)


def test_arguments_by_name_and_of_other_libraries():
    pandas, criterion = host("pandas"), to_torch(MSELoss())
    x, t = torch.tensor([1.0, 2.0, 4.0]), [0.0, 0.0, 1.0]
    for target in (torch.tensor(t), np.array(t, "f"), t, pandas.Series(t, index=[7, 8, 9])):
        assert abs(criterion(x, target=target).item() - 14 / 3) < 1e-6
        assert torch.equal(criterion(input=x, target=target), criterion(x, target))
    for weight in (torch.tensor([1.0, 0, 2]), np.array([1.0, 0, 2]), [1, 0, 2], pandas.Series([1, 0, 2])):
        assert abs(criterion(x, t, sample_weight=weight).item() - 19 / 3) < 1e-6
        half = criterion(x.bfloat16(), torch.tensor(t), sample_weight=weight)
        assert abs(half.item() - 19 / 3) < 0.05
    check_raises(TypeError, lambda: criterion(x, label=t), "(input, target)")
    check_raises(TypeError, lambda: criterion(x), "(input, target)")
    check_raises(TypeError, lambda: criterion(x.bfloat16()), "(input, target)")


def test_weights_of_samples_have_a_gradient():
    x, weight = torch.tensor([1.0, 2.0, 3.0]), torch.ones(3, requires_grad=True)
    to_torch(MSELoss("sum"))(x, torch.zeros(3), sample_weight=weight).backward()
    assert weight.grad.tolist() == [1.0, 4.0, 9.0]


def test_a_sum_of_losses_goes_by_the_graph_too():
    x, t = torch.randn(2, 1, 4, 4, dtype=torch.float64), torch.ones(2, 1, 4, 4).double()
    criterion = to_torch(0.5 * BCEWithLogitsLoss(pos_weight=[2.0]) + DiceLoss())
    first = x.clone().requires_grad_()
    criterion(first, t).backward()
    check_close(torch.func.grad(criterion)(x, t).numpy(), first.grad.numpy(), "the gradient")
    assert abs(criterion(x.bfloat16(), t).item() - criterion(x, t).item()) < 0.05


@pytest.mark.parametrize("loss, told", [
    (HuberLoss, "Pass HuberLoss(...)"), (torch.nn.MSELoss(), "such as HuberLoss()"),
    (LinearCrossEntropyLoss(4, 3), "parameters of its own")])
def test_what_is_no_loss_to_carry_is_told(loss, told):
    check_raises(TypeError, lambda: to_torch(loss), "to_torch: ")
    check_raises(TypeError, lambda: to_torch(loss), told)


def test_a_formula_whose_surroundings_change_is_recorded_anew():
    names = {}
    exec("factor = 1.0\n"
         "def formula(x, y): return factor * (x - y) ** 2, 2 * factor * (x - y)", names)
    MyLoss = type("MyLoss", (Loss,), {"formula": names["formula"], "difference": True})
    criterion, x = to_torch(MyLoss()), torch.ones(1, requires_grad=True)

    def twice():
        slope, = torch.autograd.grad(criterion(x, torch.zeros(1)), x, create_graph=True)
        return slope.item(), torch.autograd.grad(slope, x)[0].item()

    assert twice() == (2, 2)
    names["factor"] = 3.0
    assert twice() == (6, 6)
    assert torch.func.grad(criterion)(torch.ones(1), torch.zeros(1)).item() == 6
