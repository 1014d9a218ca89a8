"""AdaptiveLogSoftmaxWithLoss against PyTorch with the same weights, against a full softmax's cost,
and its errors.
"""
import warnings
from math import inf, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinytorch.checking import check_close, check_raises
from tinytorch.core.engine import engine
from tinytorch.core.tensor import Tensor
from tinytorch.nn import AdaptiveLogSoftmaxWithLoss, ASMoutput, Linear, Module, Sequential, manual_seed

CASES = [((16, 50, [5, 20]), {}), ((16, 50, (5, 20)), {"head_bias": True}),
         ((12, 30, [10]), {"div_value": 2.0}), ((64, 40, [1, 2, 39]), {"head_bias": True}),
         ((16, 2, [1]), {}), ((10, 30, np.array([3, 9])), {"div_value": 1.5}),
         ((6, 30, [3, 9]), {"div_value": 0.5})]
TARGETS = {"all": (0, -1, 9), "head": (0, 0, 9), "tail": (-2, -1, 9), "one": (0, -1, 1),
           "single": (0, -1, None)}


def layer_of(arguments, options={}) -> AdaptiveLogSoftmaxWithLoss:
    "A layer with weights in float64."
    layer = AdaptiveLogSoftmaxWithLoss(*arguments, **options)
    for parameter in layer.parameters():
        parameter.data = parameter.data.astype(float)
    return layer


def pair(torch, arguments, options):
    "Our layer and PyTorch's, in float64, with the same weights, and the pairs of parameters."
    ours = layer_of(arguments, options)
    theirs = torch.nn.AdaptiveLogSoftmaxWithLoss(arguments[0], arguments[1],
                                                 [int(c) for c in arguments[2]], **options).double()
    names = dict(theirs.named_parameters())
    pairs = [(parameter, names.pop(name.replace("layers.", "")))
             for name, parameter in ours.named_parameters()]
    assert not names
    for mine, their in pairs:
        assert mine.shape == tuple(their.shape)
        mine.data = their.detach().numpy().copy()
    return ours, theirs, pairs


def batch(arguments, kind="all", seed=0):
    "An input in float64 and targets of a kind."
    features, classes, cutoffs = arguments
    edges, rng, (low, high, n) = [*cutoffs, classes], np.random.default_rng(seed), TARGETS[kind]
    low = edges[low] if low else 0
    shape = () if n is None else (n,)
    return rng.normal(size=(*shape, features)), rng.integers(low, edges[high], shape)


def same(mine, their) -> None:
    "Both None, or the same numbers."
    assert (mine is None) == (their is None)
    if mine is not None:
        assert mine.dtype == np.float64 and mine.shape == tuple(their.shape)
        np.testing.assert_allclose(mine, their.detach().numpy(), rtol=1e-7, atol=1e-13)


# --- PyTorch

@pytest.mark.parametrize("arguments, options", CASES)
@pytest.mark.parametrize("kind", TARGETS)
def test_equals_torch(arguments, options, kind):
    torch = pytest.importorskip("torch")
    (ours, theirs, pairs), (x, t) = pair(torch, arguments, options), batch(arguments, kind)
    mine, their = Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    result, expected = ours(mine, t), theirs(their, torch.tensor(t))
    assert (isinstance(result, ASMoutput) and result._fields == expected._fields
            and result[0] is result.output)
    same(result.output.data, expected.output)
    same(result.loss.data, expected.loss)
    upstream = np.random.default_rng(1).normal(size=t.shape)                # both results lead back
    (result.loss + (result.output * upstream).sum()).backward()
    (expected.loss + (expected.output * torch.tensor(upstream)).sum()).backward()
    same(mine.grad, their.grad)
    for parameter, other in pairs:
        # None for clusters without targets
        same(parameter.grad, other.grad)


@pytest.mark.parametrize("arguments, options", CASES)
def test_log_prob_and_predict_equal_torch(arguments, options):
    torch = pytest.importorskip("torch")
    ours, theirs, pairs = pair(torch, arguments, options)
    x = np.random.default_rng(0).normal(size=(40, arguments[0]))
    mine, their = Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    result, expected = ours.log_prob(mine), theirs.log_prob(their)
    same(result.data, expected)
    upstream = np.random.default_rng(1).normal(size=result.shape)
    result.backward(upstream)
    expected.backward(torch.tensor(upstream))
    same(mine.grad, their.grad)
    for parameter, other in pairs:
        same(parameter.grad, other.grad)
    for part in x, x[:1], x[:0]:
        predicted = ours.predict(part)
        assert predicted.dtype.kind == "i" and not predicted.requires_grad
        np.testing.assert_array_equal(predicted.data, theirs.predict(torch.tensor(part)).numpy())


OPTIONS = [(16, 50, c)
           for c in ([], [0], [-3, 5], [20, 5], [5, 5], [50], [2.5], [5.0, 20.0], [nan], [inf],
                     ["a"], [None], [[5]], [5, None], 5, None, "ab")]
OPTIONS += [(16, 0, [1]), (16, 1, [1]), (16, 50.0, [5]), (16, "50", [5]), (16, None, [5]),
            (-1, 50, [5]), (16.0, 50, [5]), ("a", 50, [5])]
OPTIONS += [(16, 50, [5, 20], d) for d in (0, -1, -2.0, nan, "4", None)]
CALLS = {"1-D input, 1-D target": lambda x, t: (x[0], t[:1]),
         "2-D input, no axis": lambda x, t: (x, t[0]), "2-D target": lambda x, t: (x, t[:, None]),
         "3-D input": lambda x, t: (x[None], t),
         "3-D input, 2-D target": lambda x, t: (x[None], t[None]),
         "a number": lambda x, t: (x[0, 0], t[0]), "too few features": lambda x, t: (x[:, :5], t),
         "no features": lambda x, t: (x[:, :0], t), "fewer targets": lambda x, t: (x, t[:2]),
         "more targets": lambda x, t: (x[:2], t), "negative": lambda x, t: (x, -t),
         "too high": lambda x, t: (x, t + 40), "fractions": lambda x, t: (x, t + 0.5)}


@pytest.mark.parametrize("arguments", OPTIONS, ids=str)
def test_options_that_torch_refuses(arguments):
    torch = pytest.importorskip("torch")
    with warnings.catch_warnings(), pytest.raises(Exception):
        warnings.simplefilter("ignore")
        torch.nn.AdaptiveLogSoftmaxWithLoss(*arguments)
    with pytest.raises(
        (TypeError, ValueError),
        match="AdaptiveLogSoftmaxWithLoss: (in_features|n_classes|cutoffs|div_value) is"):
        AdaptiveLogSoftmaxWithLoss(*arguments)


@pytest.mark.parametrize("change", CALLS.values(), ids=CALLS)
def test_calls_that_torch_refuses(change):
    torch = pytest.importorskip("torch")
    (ours, theirs, _), (x, t) = pair(torch, (16, 50, [5, 20]), {}), (
        np.ones((3, 16)), np.array([1, 10, 40]))
    x, t = change(x, t)
    with pytest.raises(Exception):
        theirs(torch.tensor(x), torch.tensor(t))
    with pytest.raises((ValueError, IndexError),
                       match="AdaptiveLogSoftmaxWithLoss: (input has shape|target)"):
        ours(x, t)


@pytest.mark.parametrize("shape", [(16,), (1, 2, 16), (3, 5), ()])
def test_all_classes_need_rows(shape):
    torch = pytest.importorskip("torch")
    ours, theirs, _ = pair(torch, (16, 50, [5, 20]), {})
    for name in "log_prob", "predict":
        check_raises(ValueError, lambda: getattr(ours, name)(np.ones(shape)),
                     f"AdaptiveLogSoftmaxWithLoss.{name}: input has shape {shape}", "(N, 16)")
    with pytest.raises(Exception):
        theirs.log_prob(torch.ones(shape, dtype=torch.float64))


# --- without PyTorch

whole = st.integers(1, 2**31)


@settings(derandomize=True, database=None, deadline=None, max_examples=60)
@given(st.integers(2, 40), st.integers(1, 12), st.integers(0, 9), st.sets(whole, min_size=1, max_size=4), st.sampled_from([1.0, 1.3, 2.0]), st.booleans(), whole)
def test_probabilities_add_up_to_1(classes, features, samples, cuts, div, bias, seed):
    """Any layer: probabilities of a target are those of all classes, and add up to 1; the
    prediction is the most probable.
    """
    cutoffs, rng = sorted({1 + c % (classes - 1) for c in cuts}), np.random.default_rng(seed)
    if features // div ** len(cutoffs) < 1:
        return
    layer = layer_of((features, classes, cutoffs), {"div_value": div, "head_bias": bias})
    x, t = rng.normal(size=(samples, features)), rng.integers(0, classes, samples)
    every, result = layer.log_prob(x).data, layer(x, t)
    assert every.shape == (samples, classes)
    np.testing.assert_allclose(np.exp(every).sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(result.output.data, every[np.arange(samples), t], rtol=1e-9,
                               atol=1e-12)
    assert result.loss.item() == pytest.approx(-result.output.data.mean() if samples else 0)
    np.testing.assert_array_equal(layer.predict(x).data, every.argmax(axis=1))
    order = rng.permutation(samples)
    np.testing.assert_allclose(layer(x[order], t[order]).output.data, result.output.data[order],
                               rtol=1e-12)


@pytest.mark.parametrize("name", ["numpy", "numba"])
def test_engines_agree(name):
    if name == "numba":
        pytest.importorskip("numba")
    layer, (x, t) = layer_of((16, 50, [5, 20])), batch((16, 50, [5, 20]))
    expected = layer.log_prob(x).data[np.arange(9), t]
    with engine(name):
        check_close(layer(x, t).output, expected, f"engine {name}")


def test_clusters_compute_only_their_rows():
    class Counted(Module):
        def __init__(self, layer):
            self.layer, self.seen = layer, []

        def forward(self, input):
            self.seen.append(len(input))
            return self.layer(input)

    layer = layer_of((16, 50, [5, 20]))
    for part in layer.tail:
        part.layers[0] = Counted(part.layers[0])
    layer(np.ones((6, 16)), [0, 4, 5, 19, 20, 49]).loss.backward()
    layer(np.ones((3, 16)), [0, 4, 30])
    assert [part[0].seen for part in layer.tail] == [[2], [2, 1]]
    layer.head.weight.data[5:] = -9                          # the head never says "a cluster"
    layer.predict(np.ones((3, 16)))
    assert [part[0].seen for part in layer.tail] == [[2], [2, 1]]


def test_is_a_module():
    manual_seed(3)
    layer = AdaptiveLogSoftmaxWithLoss(16, 50, [5, 20], head_bias=True)
    assert [name.replace("layers.", "") for name, _ in layer.named_parameters()] == [
        "head.weight", "head.bias", "tail.0.0.weight", "tail.0.1.weight", "tail.1.0.weight",
        "tail.1.1.weight"]
    assert [p.shape for p in layer.parameters()] == [(7, 16), (7,), (4, 16), (15, 4), (1, 16),
                                                     (30, 1)]
    assert all(p.dtype == np.float32 and (abs(p.data) <= p.shape[-1] ** -0.5).all()
               for p in layer.parameters() if p.ndim == 2)
    manual_seed(3)
    again = AdaptiveLogSoftmaxWithLoss(16, 50, [5, 20], head_bias=True)
    assert all((a.data == b.data).all()
               for a, b in zip(layer.parameters(), again.parameters(), strict=True))
    assert (isinstance(layer.head, Linear)
            and all(isinstance(part, Sequential) for part in layer.tail))
    assert "(tail.1)" in repr(layer) and layer.cutoffs == [5, 20, 50]
    layer(np.ones((2, 16)), [1, 40]).loss.backward()
    layer.zero_grad()
    assert all(p.grad is None for p in layer.parameters())


def test_empty_batch():
    layer = AdaptiveLogSoftmaxWithLoss(16, 50, [5, 20])
    x = Tensor(np.ones((0, 16), "float32"), requires_grad=True)
    result = layer(x, np.zeros(0, int))
    result.loss.backward()
    assert (result.output.shape == (0,) and str(result.loss.item()) == "0.0"
            and x.grad.shape == (0, 16) and not layer.head.weight.grad.any())
    assert layer.log_prob(x).shape == (0, 50) and layer.predict(x).shape == (0,)
    assert layer(np.zeros((0, 16)), []).loss.item() == 0


@pytest.mark.parametrize("scale", [1e4, 1e30, 1e300])
def test_extreme_input(scale):
    layer, (x, t) = layer_of((16, 50, [5, 20]), {"head_bias": True}), batch((16, 50, [5, 20]))
    x = Tensor(scale * x, requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = layer(x, t)
        result.loss.backward()
        every = layer.log_prob(x).data
    assert np.isfinite(result.output.data).all() and np.isfinite(every).all() and (every <= 0).all()
    assert all(np.isfinite(p.grad).all() for p in [x, *layer.parameters()])


def test_dtypes():
    x, t = batch((16, 50, [5, 20]))
    for dtype in "float16", "float32", "float64":
        layer = AdaptiveLogSoftmaxWithLoss(16, 50, [5, 20])
        for p in layer.parameters():
            p.data = p.data.astype(dtype)
        input = Tensor(x.astype(dtype), requires_grad=True)
        result = layer(input, t)
        result.loss.backward()
        assert ({y.dtype.name for y in (*result, layer.log_prob(input))} == {dtype}
                and input.grad.dtype == dtype)
        exact = layer.log_prob(Tensor(x.astype(dtype).astype(float))).data[np.arange(9), t]
        check_close(result.output.data.astype(float), exact, dtype,
                    rtol=1e-2 if dtype == "float16" else 1e-5)
    many = layer_of((4, 3000, [1]))
    for p in many.parameters():
        p.data = np.zeros(p.shape, "float16")
    # their sum is not a float16
    assert many(np.ones((20_000, 4), "float16"),
                np.full(20_000, 2)).loss.item() == pytest.approx(np.log(2 * 2999), rel=1e-3)


def test_targets_of_other_types():
    layer, (x, t) = layer_of((16, 50, [5, 20])), batch((16, 50, [5, 20]))
    expected = layer(x, t).output.data
    for other in t.tolist(), t.astype("uint8"), t.astype("int32"), Tensor(t), Tensor(
        t.astype("float32")):
        np.testing.assert_array_equal(layer(x, other).output.data, expected)
    before = x.copy(), t.copy()
    x.flags.writeable = t.flags.writeable = False
    layer(x, t), layer.log_prob(x), layer.predict(x)
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(t, before[1])


@pytest.mark.parametrize("cutoffs, fix", [([], "CrossEntropyLoss"), ([0], "CrossEntropyLoss"), ([20, 5], "[5, 20]"), ([5, 5], "[5]"), ([50], "CrossEntropyLoss"),
                                          ([2.5, 7], "[7]"), ([True], "CrossEntropyLoss"), (np.array([5, 2]), "[2, 5]")])
def test_bad_cutoffs_are_named(cutoffs, fix):
    check_raises(ValueError, lambda: AdaptiveLogSoftmaxWithLoss(16, 50, cutoffs),
                 f"AdaptiveLogSoftmaxWithLoss: cutoffs is {list(np.array(cutoffs, object))}", "49",
                 fix)


def test_bad_options_are_named():
    check_raises(TypeError, lambda: AdaptiveLogSoftmaxWithLoss(16, 50, 5), "cutoffs is 5", "list")
    check_raises(TypeError, lambda: AdaptiveLogSoftmaxWithLoss(16.5, 50, [5]),
                 "in_features is 16.5", "whole number")
    check_raises(ValueError, lambda: AdaptiveLogSoftmaxWithLoss(0, 50, [5]), "in_features is 0",
                 "at least 1")
    check_raises(ValueError, lambda: AdaptiveLogSoftmaxWithLoss(16, 1, [1]), "n_classes is 1",
                 "at least 2")
    check_raises(ValueError, lambda: AdaptiveLogSoftmaxWithLoss(8, 50, [5, 20]), "in_features=8",
                 "div_value=4.0", "cluster 1 has hidden states of length 0")
    check_raises(ValueError, lambda: AdaptiveLogSoftmaxWithLoss(8, 50, [5], div_value=0),
                 "div_value is 0")
    for div in 1e300, 1e-300:
        check_raises(ValueError, lambda: AdaptiveLogSoftmaxWithLoss(8, 50, [5, 20], div_value=div),
                     f"div_value is {div}")
    check_raises(ValueError, lambda: AdaptiveLogSoftmaxWithLoss(8, 50, [5, 20], div_value=inf),
                 "length 0")


def test_bad_input_is_named():
    layer = AdaptiveLogSoftmaxWithLoss(16, 50, [5, 20])
    check_raises(ValueError, lambda: layer(np.ones((2, 7)), [1, 2]), "input has shape (2, 7)",
                 "(N, 16)", "(16,)")
    check_raises(ValueError, lambda: layer(np.ones((2, 16)), [1]), "input has shape (2, 16)",
                 "target has shape (1,)", "(2,) is needed")
    check_raises(IndexError, lambda: layer(np.ones((2, 16)), [1, 50]), "target[1] is 50", "0..49",
                 "subtract 1")
    check_raises(IndexError, lambda: layer(np.ones(16), -100), "target is -100", "0..49", "leave")
    check_raises(ValueError, lambda: layer(np.ones((2, 16)), [1, 0.5]), "target[1] is 0.5")
    check_raises(ValueError, lambda: layer(np.ones((2, 16)), [1, nan]), "target[1] is nan")
    check_raises(TypeError, lambda: layer("words", [1, 2]),
                 "AdaptiveLogSoftmaxWithLoss: input has dtype")
    check_raises(TypeError, lambda: layer(np.ones((2, 16)), ["a", "b"]),
                 "AdaptiveLogSoftmaxWithLoss: target has dtype")
    check_raises(TypeError, lambda: layer(np.ones((2, 16)), None),
                 "AdaptiveLogSoftmaxWithLoss: target has dtype")
