"""Every loss whose graph is known is a function of JAX: value, gradient and Hessian are ours, and
pass JAX's own checker; under jit, vmap, with weights, in both precisions.
"""
import copy
import pickle
from contextlib import contextmanager

import numpy as np
import pytest

from tinytorch.checking import check_close, check_raises
from tinytorch.core.tensor import Tensor
from tinytorch.nn import (BCEWithLogitsLoss, CrossEntropyLoss, HuberLoss, MSELoss, SoftMarginLoss,
                          SparsemaxLoss)
from tinytorch.nn.criterion import LOSSES
from test_hosts import GRAPHS, calls, host, regions

jax = host("jax")
import jax.numpy as jnp
from jax.test_util import check_grads
from tinytorch.hosts import to_jax
from tinytorch.scale.partial import with_reduction

EXACT = {"float64": {"rtol": 1e-9, "atol": 1e-9}, "float32": {"rtol": 2e-4, "atol": 2e-5}}


@contextmanager
def wide(on):
    "Let JAX have 64 bits, or not."
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", on)
    yield
    jax.config.update("jax_enable_x64", before)


@pytest.fixture
def x64():
    with wide(True):
        yield


def variable(loss):
    "Return the positions of the arguments that have a gradient, whose small steps are allowed."
    return [i for i, (name, domain) in enumerate(loss.domain.items())
            if name not in loss.constant and not getattr(domain, "ends", False)]


def split(loss, arguments):
    "Return a function of the arguments that have a gradient, and these."
    moved = [i for i in variable(loss) if arguments[i].dtype.kind == "f"]
    f = to_jax(loss)

    def function(*changing):
        given = list(arguments)
        for i, x in zip(moved, changing):
            given[i] = x
        return f(*given)
    return function, [jnp.asarray(arguments[i]) for i in moved]


def one_call(name):
    "Return a call for each kind of target, of an input of two axes."
    found = {}
    for loss, arguments in calls(name, False, ("mean",)):
        if arguments[0].ndim == 2:
            found.setdefault(arguments[-1].dtype.kind, (loss, arguments))
    return found.values()


@pytest.mark.parametrize("name", GRAPHS)
def test_jaxs_own_checker(name, x64):
    "First and second derivatives, forward and backward, are those of small steps."
    assert one_call(name)
    for loss, arguments in one_call(name):
        check_grads(*split(loss, arguments), order=2, atol=1e-3, rtol=1e-3)


def test_regions_of_classes(x64):
    for loss, (x, target) in regions():
        f, added, v = to_jax(loss), with_reduction(loss, "sum"), np.sin(np.arange(x.size))
        check_close(np.asarray(jax.jit(f)(x, target)), loss(x, target).numpy(), f"{loss!r} of {x}")
        value, slope = added.value_and_gradient(x, target)
        total = to_jax(added)
        check_close(np.asarray(jax.grad(total)(x, target)), slope, f"the gradient of {loss!r}")
        hessian = np.asarray(jax.hessian(total)(x, target)).reshape(x.size, x.size)
        product = added.hessian_product(x, target, v.reshape(x.shape))
        check_close(hessian @ v, product.ravel(), f"the Hessian of {loss!r}", atol=1e-12)


@pytest.mark.parametrize("name", GRAPHS)
def test_value_and_gradient_are_the_engines(name, x64):
    "For all options, shapes and reductions, with weights of samples, one of which is 0."
    rng = np.random.default_rng(0)
    for loss, arguments in calls(name, True, LOSSES[name].reductions):
        shape = loss.sample_shape(arguments[0])
        weight = rng.uniform(0, 2, shape)
        weight.reshape(-1)[:1] *= len(shape) == 0
        for weights in (None, weight):
            f = to_jax(loss)
            value, back = jax.vjp(lambda x: f(x, *arguments[1:], sample_weight=weights), arguments[0])
            own = loss(*arguments, sample_weight=weights).numpy()
            check_close(np.asarray(value), own, f"{loss!r} of {arguments}", **EXACT["float64"])
            added = with_reduction(loss, "sum") if loss.reduction == "none" else loss
            ours = added.value_and_gradient(*arguments, sample_weight=weights)[1]
            check_close(np.asarray(back(jnp.ones_like(value))[0]), ours,
                        f"the gradient of {loss!r} of {arguments}", **EXACT["float64"])


@pytest.mark.parametrize("dtype", EXACT)
@pytest.mark.parametrize("name", GRAPHS)
def test_jit_grad_vmap_and_hessian(name, dtype):
    "In float32 without x64, as JAX starts, and in float64 with it."
    with wide(dtype == "float64"):
        for loss, arguments in one_call(name):
            arguments = [x.astype(dtype) if x.dtype.kind == "f" else x for x in arguments]
            f, first = to_jax(loss), arguments[0]
            what, near = f"{loss!r} of {arguments}", EXACT[dtype]
            value, gradient = jax.jit(jax.value_and_grad(f))(*arguments)
            ours, slope = loss.value_and_gradient(*arguments)
            assert value.dtype == gradient.dtype == dtype
            check_close(np.asarray(value), ours, f"jit of {what}", **near)
            check_close(np.asarray(gradient), slope, f"grad of {what}", **near)
            hessian = np.asarray(jax.jit(jax.hessian(f))(*arguments)).reshape(first.size, -1)
            check_close(np.diag(hessian).reshape(first.shape), loss.curvature(*arguments),
                        f"hessian of {what}", **near)
            check_close(hessian, hessian.T, f"the Hessian's two halves of {what}", **near)
            each = jax.vmap(lambda *row: f(*[x[None] for x in row]))(*arguments)
            alone = [f(*[x[i:i + 1] for x in arguments]) for i in range(len(first))]
            check_close(np.asarray(each), np.asarray(alone), f"vmap of {what}", **near)


def at_seams(loss, arguments):
    "Yield the arguments as they are, and with inputs where pieces of formulas meet."
    first, *rest = arguments
    yield arguments
    for seam in (0.0, 1.0, -1.0, *[x for x in rest if x.shape == first.shape and x.dtype.kind == "f"]):
        moved = np.broadcast_to(np.asarray(seam, first.dtype), first.shape).copy()
        try:
            loss(moved, *rest)
        except ValueError:                                     # outside its domain
            continue
        yield [moved, *rest]


@pytest.mark.parametrize("name", GRAPHS)
def test_second_derivatives_are_ours(name, x64):
    "The whole Hessian, also where pieces of a formula meet: there JAX's own rules choose a side."
    for loss, arguments in one_call(name):
        hessian, unit = jax.jit(jax.hessian(to_jax(loss))), np.eye(arguments[0].size)
        for given in at_seams(loss, arguments):
            what = f"the Hessian of {loss!r} of {given}"
            theirs = np.asarray(hessian(*given)).reshape(unit.shape)
            ours = [loss.hessian_product(*given, v.reshape(given[0].shape)).ravel() for v in unit]
            check_close(theirs, np.stack(ours, axis=1), what, **EXACT["float64"])
            check_close(np.diag(theirs), loss.curvature(*given).ravel(), what, **EXACT["float64"])


@pytest.mark.parametrize("loss", [MSELoss(), BCEWithLogitsLoss(), SoftMarginLoss()])
def test_the_slope_is_the_formulas(loss):
    "A formula with another slope has that slope in JAX: it is not found by differentiation."
    def formula(*blocks):
        value, slope = original(*blocks)[:2]
        return value, 3 * slope
    original = type(loss).formula
    other = type(f"Other{type(loss).__name__}", (type(loss),), {"formula": staticmethod(formula)})()
    x, t = np.array([0.3, -2.0, 1.0], np.float32), np.array([1.0, 1, 1], np.float32)
    one, three = [jax.grad(to_jax(each))(x, t) for each in (loss, other)]
    check_close(np.asarray(three), 3 * np.asarray(one), f"the slope of {loss!r}")


def test_class_weights_ignored_samples_and_many_axes():
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=(4, 3, 2)).astype("f"), np.array([[0, 1], [2, -100], [1, 1], [0, 2]])
    loss = CrossEntropyLoss(weight=[1.0, 2.0, 3.0], label_smoothing=0.1)
    value, gradient = jax.jit(jax.value_and_grad(to_jax(loss)))(x, t)
    ours, slope = loss.value_and_gradient(x, t)
    check_close(np.asarray(value), ours, "the value", rtol=1e-5)
    check_close(np.asarray(gradient), slope, "the gradient", atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_computed_in_float32(dtype):
    x, t = jnp.asarray(np.random.default_rng(0).normal(size=(8, 3)), dtype), np.arange(8) % 3
    value, gradient = jax.value_and_grad(to_jax(CrossEntropyLoss()))(x, t)
    assert value.dtype == gradient.dtype == dtype
    exact = CrossEntropyLoss()(np.asarray(x.astype("float32")), t).item()
    assert value == jnp.asarray(exact, dtype)


def test_the_loss_is_copied_and_trains_a_line():
    rng = np.random.default_rng(0)
    x, loss = rng.normal(size=(200, 2)).astype("f"), HuberLoss(delta=0.5)
    y, f = x @ np.array([2.0, -1.0], "f"), to_jax(loss)
    step = jax.jit(lambda w: w - 0.5 * jax.grad(lambda w: f(x @ w, y))(w))
    w = jnp.zeros(2)
    for _ in range(100):
        w = step(w)
    check_close(np.asarray(w), np.array([2.0, -1.0]), "the line", atol=1e-3)
    loss.delta = 9.0
    assert f.loss.delta == 0.5 and "HuberLoss" in repr(f) and f.__name__ == "HuberLoss"


def test_what_jax_cannot_see_is_nan_and_what_it_cannot_compute_says_why():
    f, x = to_jax(CrossEntropyLoss()), np.zeros((2, 3), np.float32)
    for wrong in (7, -1, -7):
        assert np.isnan(f(x, np.array([0, wrong])))
    check_raises(TypeError, lambda: to_jax(SparsemaxLoss())(x, np.array([0, 1])), "np.sort")
    check_raises(ValueError, lambda: f(x, np.array([0, 1, 2])), "shape")


def test_arguments_by_name_copies_and_integers():
    f, x, t = to_jax(HuberLoss()), np.array([1.0, 3.0], "f"), np.zeros(2, "f")
    assert f(x, target=t) == jax.jit(f)(input=x, target=t) == f(x, t) == 1.5
    assert pickle.loads(pickle.dumps(f))(x, t) == copy.deepcopy(f)(x, t) == 1.5
    assert f(np.array([1, 3]), np.array([0, 0])) == 1.5
    check_raises(TypeError, lambda: f(x), "(input, target)")
    check_raises(TypeError, lambda: to_jax(HuberLoss), "Pass HuberLoss(...)")


def test_a_sum_of_losses(x64):
    x, t = np.array([0.3, -2.0, 1.0]), np.array([1.0, 0, 1])
    loss = 0.5 * MSELoss() + BCEWithLogitsLoss(pos_weight=[1.0, 2.0, 3.0])
    first = Tensor(x, requires_grad=True)
    loss(first, t).backward()
    value, gradient = jax.value_and_grad(to_jax(loss))(x, t)
    check_close(float(value), loss(x, t).item(), "the value")
    check_close(np.asarray(gradient), first.grad, "the gradient")


def test_a_traced_array_by_mistake_is_told_the_way():
    x = np.ones(3)
    check_raises(TypeError, lambda: jax.grad(lambda x: MSELoss()(x, x))(x), "to_jax(MSELoss(...))")
    check_raises(TypeError, lambda: jax.jit(lambda x: MSELoss()(1.0, x))(x), "target is traced")
