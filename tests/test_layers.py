"""Activations and layers beyond their lessons: any numbers, any shapes, what an import costs, and
PyTorch where it is installed.
"""
import math
import subprocess
import sys
import warnings
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp

from tinytorch.core.tensor import Tensor
from tinytorch.nn.activations import GELU, LogSoftmax, ReLU, Sigmoid, Softmax, Tanh, gelu, gelu_tanh
from tinytorch.nn.layers import Dropout, Linear, Module, Sequential, manual_seed

ELEMENTWISE = [ReLU(), Sigmoid(), Tanh(), GELU(), GELU("tanh")]


def value_and_slope(activation, x):
    "Result and gradient of `activation` for an upstream gradient of ones."
    x = Tensor(x, requires_grad=True)
    y = activation(x)
    y.backward(np.ones(y.shape))
    return y.data, x.grad


@pytest.mark.parametrize("activation", ELEMENTWISE, ids=repr)
@given(x=hnp.arrays(st.sampled_from([np.float16, np.float32, np.float64]), st.integers(0, 3),
                    elements=st.one_of(st.floats(-100, 100, width=16), st.sampled_from([-np.inf, -6e4, 6e4, np.inf]))))
@settings(deadline=None)
def test_elementwise_activations_of_any_numbers(activation, x):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = x.copy()
        value, slope = value_and_slope(activation, x)
    assert value.dtype == slope.dtype == x.dtype and value.shape == slope.shape == x.shape
    assert not np.isnan(value).any() and np.isfinite(slope).all() and (x == before).all()
    assert (value >= -1).all() and (slope >= -0.2).all() and (slope <= 1.2).all()


@pytest.mark.parametrize("function", [gelu, gelu_tanh])
def test_the_users_error_settings_do_not_matter(function):
    x = np.array([-1e300, -60, -1e-200, 1e-200, 60, 1e300])
    quiet = function(x)
    with np.errstate(all="raise"):
        np.testing.assert_array_equal(function(x), quiet)


def test_dropout_keeps_the_mean():
    x = Tensor(np.ones(100_000), requires_grad=True)
    y = Dropout(0.25, rng=0)(x)
    y.sum().backward()
    assert set(np.unique(y.data)) == {0, 1 / 0.75} and (x.grad == y.data).all()
    assert abs(y.data.mean() - 1) < 0.01


def test_gelu_is_exact_in_float64():
    x = np.linspace(-12, 12, 2001)
    value, slope = value_and_slope(GELU(), x)
    below = np.array([math.erfc(-number / math.sqrt(2)) / 2 for number in x])
    density = np.array([NormalDist().pdf(number) for number in x])
    np.testing.assert_allclose(value, x * below, rtol=1e-12, atol=1e-300)
    np.testing.assert_allclose(slope, below + x * density, rtol=1e-12, atol=1e-15)


@given(st.data())
@settings(deadline=None)
def test_softmax_of_any_numbers(data):
    dtype = data.draw(st.sampled_from([np.float16, np.float32, np.float64]))
    elements = st.one_of(st.floats(-100, 100, width=16), st.sampled_from([-np.inf, -1e4, 1e4]))
    x = data.draw(hnp.arrays(dtype, hnp.array_shapes(max_dims=3, max_side=4), elements=elements))
    dim = data.draw(st.integers(-x.ndim, x.ndim - 1))
    x[(slice(None),) * (dim % x.ndim) + (0,)] = 1                   # no row of -inf only
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        p, p_slope = value_and_slope(Softmax(dim), x)
        log_p, log_slope = value_and_slope(LogSoftmax(dim), x)
    assert p.dtype == log_p.dtype == p_slope.dtype == log_slope.dtype == dtype
    np.testing.assert_allclose(p.sum(axis=dim, dtype=np.float64), 1,
                               atol=4e-3 if dtype == np.float16 else 1e-6)
    assert (p[np.isneginf(x)] == 0).all() and np.isneginf(log_p[np.isneginf(x)]).all()
    assert np.isfinite(p_slope).all() and np.isfinite(log_slope).all() and not np.isnan(log_p).any()


@given(st.lists(st.integers(0, 3), max_size=3), st.integers(1, 4), st.integers(1, 4), st.booleans())
@settings(deadline=None)
def test_linear_on_any_leading_axes(leading, n, m, bias):
    layer, rng = Linear(n, m, bias), np.random.default_rng(0)
    x, upstream = rng.normal(size=(*leading, n)), rng.normal(size=(*leading, m))
    y = layer(x)
    y.backward(upstream)
    np.testing.assert_allclose(y, x @ layer.weight.data.T + (layer.bias.data if bias else 0),
                               rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(layer.weight.grad, upstream.reshape(-1, m).T @ x.reshape(-1, n),
                               rtol=1e-4, atol=1e-5)
    if bias:
        np.testing.assert_allclose(layer.bias.grad, upstream.reshape(-1, m).sum(axis=0), rtol=1e-4,
                                   atol=1e-5)
    assert len(layer.parameters()) == 1 + bias and layer.weight.grad.dtype == np.float32


@pytest.mark.parametrize("sizes", [(0, 1), (1, 0), (-1, 2)])
def test_linear_refuses_empty_sizes(sizes):
    with pytest.raises(ValueError, match="at least 1"):
        Linear(*sizes)


@pytest.mark.parametrize("shape", [(), (3,), (2, 4), (0,)])
def test_linear_names_both_shapes(shape):
    with pytest.raises(ValueError) as error:
        Linear(2, 5)(np.zeros(shape))
    assert (str(shape) in str(error.value) and "(5, 2)" in str(error.value)
            and "length 2" in str(error.value))


def test_layers_share_one_seeded_generator():
    def draw():
        return [*(p.data for p in Sequential(Linear(2, 3), Linear(3, 1)).parameters()),
                Dropout()(np.ones(20)).data]
    manual_seed(7)
    first, second = draw(), draw()
    manual_seed(7)
    again = draw()
    assert all((a == b).all() for a, b in zip(first, again)) and (first[0] != second[0]).any()
    a, b = Dropout(rng=3), Dropout(rng=np.random.default_rng(3))
    assert ((a(np.ones(50)).data == b(np.ones(50)).data).all()
            and (a(np.ones(50)).data == b(np.ones(50)).data).all())


def test_importing_seeds_the_generator():
    run = "from tinytorch.nn.layers import Linear; print(Linear(3, 3).weight.data.tolist())"
    one, two = (subprocess.run([sys.executable, "-c", run], capture_output=True, text=True,
                               check=True).stdout for _ in range(2))
    assert one == two


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_dropout_keeps_the_dtype(dtype):
    assert Dropout(0.3)(np.ones(5, dtype)).dtype == dtype


def test_tied_frozen_and_nested_parameters():
    class Net(Module):
        def __init__(self):
            self.a = Linear(2, 2)
            self.b = Linear(2, 2)
            self.b.weight = self.a.weight
            self.b.bias.requires_grad = False
            self.heads = (Linear(2, 1, bias=False), ReLU(), {"x": Tensor(1.0, requires_grad=True)})
    net = Net()
    assert [name for name, _ in net.named_parameters()] == [
        "a.weight", "a.bias", "heads.0.weight", "heads.2.x"]
    assert "(heads.1): ReLU()" in repr(net)
    with pytest.raises(NotImplementedError, match="Net has no forward"):
        net(1)


def test_the_modules_import_only_numpy_and_the_standard_library():
    run = """
import sys
import numpy.random
before = set(sys.modules)
import tinytorch.core.tensor, tinytorch.nn.activations, tinytorch.nn.layers
new = {name.split(".")[0] for name in set(sys.modules) - before}
print(sorted(new - set(sys.stdlib_module_names) - {"tinytorch", "numpy"}))
"""
    assert subprocess.run([sys.executable, "-c", run], capture_output=True, text=True,
                          check=True).stdout == "[]\n"


@pytest.mark.parametrize("name, options", [("ReLU", {}), ("Sigmoid", {}), ("Tanh", {}), ("GELU", {}), ("GELU", {"approximate": "tanh"}),
                                           ("Softmax", {"dim": -1}), ("LogSoftmax", {"dim": 0})])
def test_activations_against_pytorch(name, options):
    torch = pytest.importorskip("torch")
    import tinytorch.nn.activations as ours
    x, upstream = np.random.default_rng(0).normal(0, 3, (2, 20, 30))
    theirs = torch.tensor(x, requires_grad=True)
    expected = getattr(torch.nn, name)(**options)(theirs)
    expected.backward(torch.tensor(upstream))
    tensor = Tensor(x, requires_grad=True)
    y = getattr(ours, name)(**options)(tensor)
    y.backward(upstream)
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(tensor.grad, theirs.grad.numpy(), rtol=1e-11, atol=1e-14)


def test_a_network_against_pytorch():
    torch = pytest.importorskip("torch")
    ours = Sequential(Linear(4, 8), Tanh(), Linear(8, 3), Softmax())
    theirs = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3),
                                 torch.nn.Softmax(-1))
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        b.data = torch.tensor(a.data)
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    y, expected = ours(x), theirs(torch.tensor(x))
    (y * y).sum().backward()
    (expected * expected).sum().backward()
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-5)
    for a, b in zip(ours.parameters(), theirs.parameters()):
        np.testing.assert_allclose(a.grad, b.grad.numpy(), rtol=1e-4, atol=1e-6)
    assert (str(theirs[0]) == repr(ours[0])
            and [tuple(p.shape)
                 for p in theirs.parameters()] == [p.shape for p in ours.parameters()])
