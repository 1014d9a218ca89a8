"""Linear cross-entropy is cross-entropy of scores that are never whole: same numbers, less memory,
errors with their text.
"""
import tracemalloc
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinytorch.nn.linear_cross_entropy as module
from tinytorch.checking import check_close
from tinytorch.core import engine
from tinytorch.core.problem import at_most
from tinytorch.core.tensor import Tensor
from tinytorch.nn import CrossEntropyLoss
from tinytorch.nn.criterion import LOSSES
from tinytorch.nn.linear_cross_entropy import LinearCrossEntropyLoss, LinearCrossEntropyOptions, linear_cross_entropy

repeatable = settings(derandomize=True, database=None, deadline=None, max_examples=60)
TOLERANCE = {"float64": {"rtol": 1e-7, "atol": 1e-12}, "float32": {"rtol": 1.3e-6, "atol": 1e-5},
             "float16": {"rtol": 2e-3, "atol": 1e-3}}


def arguments_of(rng, samples=7, features=5, classes=4, positions=(), dtype="float64",
                 target="indices", bias=True) -> dict:
    "Arrays for `linear_cross_entropy`. `samples` None: one sample without an axis."
    first = () if samples is None else (samples,)
    drawn = {"input": rng.normal(size=(*first, features)),
             "linear_weight": rng.normal(size=(classes, *positions, features))}
    drawn["linear_bias"] = rng.normal(size=(classes, *positions)) if bias else None
    if target == "probabilities":
        drawn["target"] = rng.uniform(0.1, 1, (*first, classes, *positions))
        drawn["target"] /= drawn["target"].sum(axis=len(first), keepdims=True)
    drawn = {name: None if x is None else x.astype(dtype) for name, x in drawn.items()}
    return {"target": rng.integers(0, classes, (*first, *positions)), **drawn}


def explicit(input, linear_weight, target, linear_bias=None, **options):
    "The definition: all scores, then CrossEntropyLoss."
    *outer, features = linear_weight.shape
    scores = input @ linear_weight.reshape(-1, features).T
    if linear_bias is not None:
        scores = scores + linear_bias.reshape(-1)
    return CrossEntropyLoss(**options)(scores.reshape(*input.shape[:-1], *outer), target)


def answers(function, arguments: dict, upstream=None, **options) -> list:
    "The loss, and the gradient of each argument that has one."
    tensors = {name: Tensor(x, requires_grad=x.dtype.kind == "f") for name, x in arguments.items()
               if x is not None}
    loss = function(**tensors, **options)
    loss.backward(upstream)
    return [loss.data, *(tensors[name].grad for name in sorted(tensors))]


def check_same(ours: list, expected: list, what: str, **tolerance) -> None:
    for a, b in zip(ours, expected, strict=True):
        assert (a is None) == (b is None), what
        if a is not None:
            assert (a.dtype, a.shape) == (b.dtype, b.shape), what
            check_close(a, b, what, **tolerance)


OPTIONS = [{}, {"weight": True}, {"ignore_index": 2}, {"label_smoothing": 0.3},
           {"weight": True, "ignore_index": 0, "label_smoothing": 0.1}]


# --- the same numbers as the definition

@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("target", ["indices", "probabilities"])
def test_equals_the_definition(dtype, reduction, target):
    rng = np.random.default_rng(0)
    for options, positions, rows in product(OPTIONS, [(), (3,), (2, 2)], [None, 1, 3]):
        if target == "probabilities" and "ignore_index" in options:
            continue
        arguments = arguments_of(rng, positions=positions, dtype=dtype, target=target,
                                 bias=rows != 1)
        chosen = {**options, "weight": rng.uniform(0.5, 2, 4).astype(dtype)} if "weight" in options else options
        upstream = rng.normal(size=(7, *positions) if reduction == "none" else ()).astype(dtype)
        ours = answers(linear_cross_entropy, arguments, upstream, reduction=reduction,
                       options=LinearCrossEntropyOptions(rows), **chosen)
        # the definition rounds its scores; compare with what it gives in float32
        if dtype == "float16":
            arguments = {name: x.astype("float32") if x is not None and x.dtype == dtype else x
                         for name, x in arguments.items()}
            ours = [x if x is None else x.astype("float32") for x in ours]
        expected = answers(explicit, arguments, upstream, reduction=reduction, **chosen)
        check_same(ours, expected, f"{chosen}, positions {positions}, rows {rows}",
                   **TOLERANCE[dtype])


@repeatable
@given(st.integers(0, 12), st.integers(1, 6), st.integers(2, 9), st.integers(1, 14), st.integers(1, 40), st.sampled_from(["none", "mean", "sum"]),
       st.integers(0, 2**32 - 1))
def test_shapes_chunks_and_steps_do_not_show(samples, features, classes, rows, large, reduction,
                                             seed):
    "`large` is the size of a step; small ones cut the window, the classes and the engine's work."
    rng = np.random.default_rng(seed)
    arguments = arguments_of(rng, samples, features, classes)
    upstream = rng.normal(size=samples if reduction == "none" else ())
    before, module.STEP = module.STEP, large
    try:
        for options in (LinearCrossEntropyOptions(rows), None):
            ours = answers(linear_cross_entropy, arguments, upstream, reduction=reduction,
                           options=options, ignore_index=0)
            check_same(ours,
                       answers(explicit, arguments, upstream, reduction=reduction, ignore_index=0),
                       "any cut", rtol=1e-9, atol=1e-12)
    finally:
        module.STEP = before


@pytest.mark.parametrize("name", ["numpy", "numba"])
def test_engines_agree(name):
    if name == "numba":
        pytest.importorskip("numba")
    rng = np.random.default_rng(0)
    for positions, reduction in product([(), (2,)], ["none", "mean"]):
        arguments = arguments_of(rng, 300, 8, 50, positions, "float32")
        upstream = rng.normal(size=(300, *positions) if reduction == "none"
                              else ()).astype("float32")
        with engine.engine(name):
            ours = answers(linear_cross_entropy, arguments, upstream, reduction=reduction,
                           options=LinearCrossEntropyOptions(100))
        expected = answers(explicit, arguments, upstream, reduction=reduction)
        check_same(ours, expected, f"engine {name}, positions {positions}", rtol=1e-5, atol=1e-5)


def test_one_sample_without_an_axis():
    rng = np.random.default_rng(0)
    for target, reduction in product(["indices", "probabilities"], ["none", "mean"]):
        arguments = arguments_of(rng, None, target=target)
        alone = answers(linear_cross_entropy, arguments, reduction=reduction)
        batch = {name: x[None] if name in ("input", "target") else x
                 for name, x in arguments.items()}
        expected = answers(linear_cross_entropy, batch, reduction=reduction)
        assert alone[0].shape == ()
        for a, b in zip(alone, expected, strict=True):
            assert (a is None) == (b is None)
            if a is not None:
                check_close(a.ravel(), np.ravel(b), f"one sample, {target}")


def test_layouts_and_mixed_types():
    rng = np.random.default_rng(0)
    arguments = arguments_of(rng)
    expected = answers(linear_cross_entropy, arguments)
    other = {**arguments, "input": np.repeat(arguments["input"], 2, axis=1)[:, ::2],
             "linear_weight": np.asfortranarray(arguments["linear_weight"]),
             "target": arguments["target"].astype("uint8")}
    check_same(answers(linear_cross_entropy, other), expected, "another layout", rtol=1e-12)
    mixed = linear_cross_entropy(arguments["input"].astype("float32"), arguments["linear_weight"],
                                 arguments["target"])
    exact = linear_cross_entropy(arguments["input"].astype("float32").astype("float64"),
                                 arguments["linear_weight"], arguments["target"])
    assert mixed.dtype == "float64" and mixed.item() == exact.item()
    assert linear_cross_entropy([[1, 2]], [[0.0, 1.0], [0.0, 0.0]],
                                [1.0]).item() == pytest.approx(np.log1p(np.exp(2)))
    low = answers(linear_cross_entropy,
                  {name: x.astype("float16") if x.dtype.kind == "f" else x
                   for name, x in arguments.items()})
    assert [x.dtype.name for x in low if x is not None] == ["float16"] * 4


def test_one_class_is_none():
    for target in ([[1.0], [1.0]], [0, 0]):
        with pytest.raises(ValueError, match="one class.*BCEWithLogitsLoss"):
            linear_cross_entropy(np.ones((2, 3)), np.ones((1, 3)), target)


def test_bfloat16():
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    arguments = {name: x.astype(bfloat16) if x.dtype.kind == "f" else x
                 for name, x in arguments_of(np.random.default_rng(0)).items()}
    expected = answers(linear_cross_entropy,
                       {name: x.astype("float32") if name != "target" else x
                        for name, x in arguments.items()})
    tensors = {name: Tensor(x, requires_grad=name != "target") for name, x in arguments.items()}
    loss = linear_cross_entropy(**tensors)
    loss.backward()
    for ours, exact in zip([loss.data, *(tensors[name].grad for name in sorted(tensors))],
                           expected):
        if exact is not None:
            assert ours.dtype == bfloat16
            check_close(ours.astype("float32"), exact, "bfloat16 against float32", rtol=1e-2,
                        atol=1e-3)


# --- backward

def test_backward_again_and_from_above():
    rng = np.random.default_rng(0)
    for reduction, target in product(["none", "mean", "sum"], ["indices", "probabilities"]):
        arguments = arguments_of(rng, target=target)
        tensors = {name: Tensor(x, requires_grad=x.dtype.kind == "f")
                   for name, x in arguments.items()}
        loss = linear_cross_entropy(**tensors, reduction=reduction)
        loss.backward(np.ones(loss.shape))
        once = {name: x.grad for name, x in tensors.items()}
        kept = {name: None if x is None else x.copy() for name, x in once.items()}
        loss.backward(np.full(loss.shape, -3.0))
        for name, x in tensors.items():
            if x.requires_grad:
                # what was handed over stays as it is
                np.testing.assert_array_equal(once[name], kept[name])
                check_close(x.grad, -2 * kept[name], f"1 - 3 times the gradient of {name}",
                            rtol=1e-9)


def test_only_wanted_gradients():
    rng = np.random.default_rng(0)
    arguments = arguments_of(rng, target="probabilities")
    expected = answers(linear_cross_entropy, arguments)
    for wanted in arguments:
        tensors = {name: Tensor(x, requires_grad=name == wanted) for name, x in arguments.items()}
        linear_cross_entropy(**tensors).backward()
        for i, name in enumerate(sorted(tensors)):
            if name == wanted:
                check_close(tensors[name].grad, expected[1 + i], f"the gradient of {name} alone")
            else:
                assert tensors[name].grad is None
    assert not linear_cross_entropy(**arguments).requires_grad


def test_without_gradients_there_are_no_products_for_them(monkeypatch):
    calls = []
    monkeypatch.setattr(module, "add_gradients",
                        lambda slope, hidden, weight, *gradients: calls.append(gradients))
    arguments = arguments_of(np.random.default_rng(0))
    linear_cross_entropy(**arguments)
    assert all(gradient is None for gradients in calls for gradient in gradients)
    weight = Tensor(arguments.pop("linear_weight"), requires_grad=True)
    calls.clear()
    linear_cross_entropy(linear_weight=weight, **arguments)
    assert [[gradient is not None for gradient in gradients]
            for gradients in calls] == [[False, True, False]]
    # these gradients wait for backward
    linear_cross_entropy(linear_weight=weight, reduction="none", **arguments)
    assert [gradient is not None for gradient in calls[-1]] == [False, False, False]


def test_without_gradients_no_slopes_are_kept(monkeypatch):
    kept, run = [], engine.run
    monkeypatch.setattr(engine, "run",
                        lambda problem, gradients, *rest: kept.append(gradients) or run(
                            problem, gradients, *rest))
    linear_cross_entropy(**arguments_of(np.random.default_rng(0), target="probabilities"))
    assert kept == [(None, None)]


def test_class_indices_have_no_gradient():
    target = Tensor([0.0, 2.0], requires_grad=True)
    weight = Tensor(np.ones((3, 4)), requires_grad=True)
    linear_cross_entropy(np.ones((2, 4)), weight, target).backward()
    assert target.grad is None and weight.grad is not None


def test_inputs_stay_as_they_are():
    rng = np.random.default_rng(0)
    for reduction, target in product(["none", "mean"], ["indices", "probabilities"]):
        arguments = {**arguments_of(rng, target=target), "weight": rng.uniform(size=4)}
        before = {name: x.copy() for name, x in arguments.items()}
        for x in arguments.values():
            x.flags.writeable = False
        tensors = {name: Tensor(x, requires_grad=x.dtype.kind == "f" and name != "weight")
                   for name, x in arguments.items()}
        loss = linear_cross_entropy(**tensors, reduction=reduction,
                                    options=LinearCrossEntropyOptions(2))
        loss.backward(np.ones(loss.shape))
        for name, x in before.items():
            np.testing.assert_array_equal(arguments[name], x)


def test_ignored_samples():
    rng = np.random.default_rng(0)
    arguments = arguments_of(rng)
    arguments["target"][:] = -100
    assert (answers(linear_cross_entropy, arguments)[0] == 0
            and not any(x.any() for x in answers(linear_cross_entropy, arguments) if x is not None))
    arguments["target"][2] = 1
    one = {name: x[2:3] if name in ("input", "target") else x for name, x in arguments.items()}
    for reduction in ("mean", "sum"):
        ours, expected = (answers(linear_cross_entropy, x, reduction=reduction)
                          for x in (arguments, one))
        check_close(ours[0], expected[0], "the loss of the one sample that counts")
        check_close(ours[2], expected[2], "the bias's gradient")
        assert not ours[1][[0, 1, 3, 4, 5, 6]].any()


@pytest.mark.filterwarnings("error")
def test_large_scores_are_finite():
    arguments = {"input": np.array([[1e4], [-1e4]]),
                 "linear_weight": np.array([[1.0], [0.0], [-1.0]]), "target": np.array([0, 0])}
    loss, *gradients = answers(linear_cross_entropy, arguments)
    assert loss == 1e4 and all(np.isfinite(x).all() for x in gradients[:2])
    for value in (np.nan, np.inf):
        arguments["input"] = np.array([[value], [1.0]])
        assert np.isnan(linear_cross_entropy(**arguments).item())


# --- memory

def peak(function) -> float:
    "Bytes allocated at the peak, beyond what is left of the result."
    tracemalloc.start()
    result = function()
    left, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del result
    return most - left


def test_memory_does_not_grow_with_the_scores():
    rng = np.random.default_rng(0)
    classes, features = 30_000, 16

    def step(samples, **options):
        input, weight = (Tensor(rng.normal(size=(n, features)).astype("float32"),
                                requires_grad=True) for n in (samples, classes))
        target = rng.integers(0, classes, samples)
        return lambda: linear_cross_entropy(input, weight, target, **options).backward()

    chunk = LinearCrossEntropyOptions(batch_chunk_size=50)
    with at_most(1):                            # another thread has temporaries of its own
        small, large = peak(step(100, options=chunk)), peak(step(400, options=chunk))
    # (50 + 50) rows are 12 MB; the scores of 400 samples 48 MB
    assert large < 1.1 * small < 1.1 * 40e6
    assert peak(step(1200)) < 100e6                    # 144 MB of scores, and as much of slopes


def test_window_is_no_longer_than_it_has_to_be():
    assert LinearCrossEntropyOptions(50).rows(4096, 30_000) == (50, 50)
    assert LinearCrossEntropyOptions().rows(10, 30_000) == (10, 10)
    assert LinearCrossEntropyOptions().rows(4096, 50_257) == (320, 42)
    assert LinearCrossEntropyOptions().rows(4096, 2_000_000) == (16, 2)
    assert LinearCrossEntropyOptions(chunking_method=None).rows(4096, 30_000) == (4096, 70)
    assert LinearCrossEntropyOptions(acc_dtype=np.float32, acc_policy="compact",
                                     allow_retain_graph=True).rows(10, 30_000) == (10, 10)


@pytest.mark.parametrize("method", ["aspect_ratio", "aspect_ratio:2", "aspect_ratio:4"])
def test_chunks_by_their_shape_are_pytorchs(method):
    torch = pytest.importorskip("torch")
    for samples, features, classes in (4096, 768, 30_000), (8, 5, 4), (1000, 16, 17), (3, 100, 5):
        theirs = torch.nn.LinearCrossEntropyOptions(chunking_method=method)._adjust(
            samples, features, classes, torch.float32)
        mine, _ = LinearCrossEntropyOptions(chunking_method=method).rows(samples, classes, features)
        assert mine == theirs.batch_chunk_size


def test_memory_without_gradients():
    rng = np.random.default_rng(0)
    input, weight = (rng.normal(size=(64, 256)).astype("float32"),
                     rng.normal(size=(30_000, 256)).astype("float32"))
    evaluate = peak(lambda: linear_cross_entropy(input, weight, np.zeros(64, int),
                                                 options=LinearCrossEntropyOptions(8)))
    assert evaluate < 0.5 * weight.nbytes


# --- the class

def test_class_owns_its_layer():
    rng = np.random.default_rng(0)
    for positions, bias, target in product([(), (2, 3)], [False, True],
                                           ["indices", "probabilities"]):
        arguments = arguments_of(rng, positions=positions, dtype="float32", target=target)
        head = LinearCrossEntropyLoss(5, 4, out_features=positions, bias=bias, weight=[1, 2, 3, 4],
                                      reduction="sum")
        assert [
            name
            for name, _ in head.named_parameters()] == ["linear.weight", "linear.bias"][:1 + bias]
        assert head.linear.weight.shape == (4 * int(np.prod(positions)), 5)
        linear = {"linear_weight": head.linear.weight.data.reshape(4, *positions, 5),
                  "linear_bias": head.linear.bias.data.reshape(4, *positions) if bias else None}
        expected = answers(explicit, {**arguments, **linear}, weight=[1, 2, 3, 4], reduction="sum")
        input = Tensor(arguments["input"], requires_grad=True)
        loss = head(input, arguments["target"])
        loss.backward()
        found = [loss.data, input.grad, *([head.linear.bias.grad] if bias else []),
                 head.linear.weight.grad]
        for a, b in zip(found, expected):
            check_close(np.ravel(a), np.ravel(b), "the class against the definition", rtol=1e-5,
                        atol=1e-5)


def test_class_is_shown_and_trains():
    head = LinearCrossEntropyLoss(3, 5, bias=True, reduction="sum", ignore_index=1,
                                  options=LinearCrossEntropyOptions(4))
    again = eval(repr(head), vars(module))
    assert (repr(again) == repr(head) and LOSSES["LinearCrossEntropyLoss"].formula is None
            and "LinearCrossEntropy" not in LOSSES)
    head = LinearCrossEntropyLoss(2, 3)
    input, target = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]], "float32"), [0, 1, 2]
    for _ in range(100):
        head.zero_grad()
        loss = head(input, target)
        loss.backward()
        head.linear.weight.data -= head.linear.weight.grad
    assert loss.item() < 0.1


# --- what a user gets wrong

x, w = np.zeros((3, 4)), np.zeros((7, 4))
t = [0, 1, 2]
MISTAKES = {
    "three axes": (lambda: linear_cross_entropy(np.zeros((2, 3, 4)), w, t), ValueError,
                   ["input has shape (2, 3, 4)", "input.reshape(-1, 4)"]),
    "no axis": (lambda: linear_cross_entropy(1.0, w, 0), ValueError,
                ["input has shape ()", "(in_features,)"]),
    "a vector as the weight": (lambda: linear_cross_entropy(x, np.zeros(4), t), ValueError,
                               ["linear_weight has shape (4,)", "num_classes"]),
    "no classes": (lambda: linear_cross_entropy(x, np.zeros((0, 4)), t), ValueError,
                   ["linear_weight has shape (0, 4)", "at least one class"]),
    "weight transposed": (lambda: linear_cross_entropy(x, w.T, t), ValueError,
                          ["(3, 4)", "(4, 7)", "last axes"]),
    "positions without a batch": (lambda: linear_cross_entropy(
                                      np.zeros(4), np.zeros((7, 2, 4)), [0, 1]),
                                  ValueError, ["(7, 2, 4)", "input[None]"]),
    "bias of the wrong length": (lambda: linear_cross_entropy(x, w, t, linear_bias=np.zeros(4)),
                                 ValueError, ["linear_bias has shape (4,)", "(7,)"]),
    "too few targets": (lambda: linear_cross_entropy(x, w, [0, 1]), ValueError,
                        ["target has shape (2,)", "shape (3,)", "probabilities (3, 7)"]),
    "column of indices": (lambda: linear_cross_entropy(x, w, [[0], [1], [2]]), ValueError,
                          ["(3, 1)", "linear_weight of shape (7, 4)", "shape (3,)"]),
    "labels from 1": (lambda: linear_cross_entropy(x, w, [1, 7, 2]), IndexError,
                      ["target[1] is 7", "(7, 4)", "classes 0..6", "subtract 1"]),
    "labels from 1, as a ValueError": (lambda: linear_cross_entropy(x, w, [1, 7, 2]), ValueError,
                                       ["target[1] is 7"]),
    "a negative label": (lambda: linear_cross_entropy(x, w, [1, -1, 2]), IndexError,
                         ["target[1] is -1", "ignore_index"]),
    "a fraction as a class": (lambda: linear_cross_entropy(x, w, [1, 0.5, 2]), ValueError,
                              ["LinearCrossEntropy: target[1] is 0.5"]),
    "a probability above 1": (lambda: linear_cross_entropy(x, w, np.eye(3, 7) * 2), ValueError,
                              ["LinearCrossEntropy: target[0, 0] is 2", "[0, 1]"]),
    "ignored probabilities": (lambda: linear_cross_entropy(x, w, np.eye(3, 7), ignore_index=-100),
                              ValueError, ["ignore_index is -100", "probabilities"]),
    "class weights": (lambda: linear_cross_entropy(x, w, t, weight=[1, 2]), ValueError,
                      ["weight has shape (2,)", "(7, 4)", "7 classes"]),
    "class weights of the class": (lambda: LinearCrossEntropyLoss(4, 7, weight=[1, 2]), ValueError,
                                   ["weight has shape (2,)", "num_classes is 7"]),
    "an unknown reduction": (lambda: linear_cross_entropy(x, w, t, reduction="avg"), ValueError,
                             ["LinearCrossEntropy: reduction is 'avg'"]),
    "smoothing above 1": (lambda: linear_cross_entropy(x, w, t, label_smoothing=2), ValueError,
                          ["label_smoothing is 2", "at most 1"]),
    "ignore_index of a fraction": (lambda: linear_cross_entropy(x, w, t, ignore_index=0.5),
                                   TypeError, ["ignore_index is 0.5"]),
    "options of another kind": (lambda: linear_cross_entropy(x, w, t, options=64), TypeError,
                                ["options is 64", "LinearCrossEntropyOptions"]),
    "no rows": (lambda: LinearCrossEntropyOptions(0), ValueError,
                ["batch_chunk_size is 0", "at least 1"]),
    "half a row": (lambda: LinearCrossEntropyOptions(0.5), TypeError,
                   ["batch_chunk_size is 0.5", "whole number"]),
    "an unknown policy": (lambda: LinearCrossEntropyOptions(acc_policy="best"), ValueError,
                          ["acc_policy is 'best'", "'accurate'"]),
    "an unknown method": (lambda: LinearCrossEntropyOptions(chunking_method="aspect_ratio:0"),
                          ValueError, ["chunking_method is 'aspect_ratio:0'"]),
    "two sizes": (lambda: LinearCrossEntropyOptions(8, chunking_method="aspect_ratio"), ValueError,
                  ["batch_chunk_size is 8", "one of them"]),
    "sums in half precision": (lambda: LinearCrossEntropyOptions(acc_dtype="float16"), ValueError,
                               ["acc_dtype is 'float16'", "float32"]),
    "complex numbers": (lambda: linear_cross_entropy(x, w * 1j, t), TypeError,
                        ["linear_weight has dtype complex128"]),
    "rows of different lengths": (lambda: linear_cross_entropy([[1, 2], [3]], w, t), ValueError,
                                  ["LinearCrossEntropy", "input have different lengths"]),
    "a target missing": (lambda: linear_cross_entropy(x, w, None), TypeError, ["target"]),}


@pytest.mark.parametrize("call, error, texts", MISTAKES.values(), ids=MISTAKES)
def test_mistake_is_named(call, error, texts):
    with pytest.raises(error) as caught:
        call()
    assert [text for text in texts if text not in str(caught.value)] == []


# --- PyTorch

def torch_answers(torch, arguments: dict, upstream, options=None, **named) -> list:
    tensors = {name: torch.tensor(x, requires_grad=x.dtype.kind == "f")
               for name, x in arguments.items() if x is not None}
    named = {name: torch.tensor(x) if isinstance(x, np.ndarray) else x for name, x in named.items()}
    loss = torch.nn.functional.linear_cross_entropy(**tensors, options=options, **named)
    loss.backward(torch.tensor(upstream))
    return [loss.detach().numpy(),
            *(None if tensors[name].grad is None else tensors[name].grad.numpy()
              for name in sorted(tensors))]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_equals_torch(dtype, reduction):
    torch = pytest.importorskip("torch", minversion="2.13")
    rng = np.random.default_rng(0)
    for options, positions, target, bias in product(OPTIONS, [(), (3,)],
                                                    ["indices", "probabilities"], [True, False]):
        if target == "probabilities" and "ignore_index" in options:
            continue
        arguments = arguments_of(rng, positions=positions, dtype=dtype, target=target, bias=bias)
        chosen = ({**options, "weight": rng.uniform(0.5, 2, 4).astype(dtype)} if "weight" in options
                  else options)
        upstream = rng.normal(size=(7, *positions) if reduction == "none" else ()).astype(dtype)
        named = {"reduction": reduction, **chosen}
        ours = answers(linear_cross_entropy, arguments, upstream,
                       options=LinearCrossEntropyOptions(3), **named)
        what = f"{named}, positions {positions}, {target}, bias {bias}"
        check_same(ours, torch_answers(torch, arguments, upstream, **named), what,
                   **TOLERANCE[dtype])
        if not positions and target == "indices" and "label_smoothing" not in options:
            chunked = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=3, chunking_method=None)
            check_same(ours, torch_answers(torch, arguments, upstream, chunked, **named),
                       f"torch in chunks, {what}", **TOLERANCE[dtype])


def test_signatures_are_torchs():
    torch = pytest.importorskip("torch", minversion="2.13")
    from inspect import signature
    ours, theirs = (signature(f).parameters.values()
                    for f in (linear_cross_entropy, torch.nn.functional.linear_cross_entropy))
    assert [(p.name, p.kind, p.default) for p in ours
            if p.name != "sample_weight"] == [(p.name, p.kind, p.default) for p in theirs]
    ours, theirs = (signature(f).parameters
                    for f in (LinearCrossEntropyLoss, torch.nn.LinearCrossEntropyLoss))
    assert [(p.name, p.kind, p.default) for p in ours.values()] == \
        [(p.name, p.kind, p.default) for p in theirs.values() if p.name not in ("device", "dtype")]
