"The engine: parts, blocks, threads, memory and precision."
import os
import threading
import weakref
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from math import prod

import numpy as np
import pytest

import tinytorch
from hypothesis import given, settings
from hypothesis import strategies as st

from tinytorch.checking import blocks_of, check_raises, pieces_of
from tinytorch.core import numpy_runner, problem as sharing
from tinytorch.core.engine import run
from tinytorch.core.problem import Part, Problem, blocks, pool, share
from tinytorch.core.tensor import Tensor
from tinytorch.nn import BCEWithLogitsLoss, CrossEntropyLoss, L1Loss, Loss, MSELoss
from tinytorch.nn.losses import class_weights, cross_entropy, squared_error

repeatable = settings(derandomize=True, database=None, deadline=None, max_examples=60)
whole_parts = st.builds(Part, st.integers(-1000, 1000).map(float), st.integers(0, 100))


@repeatable
@given(whole_parts, whole_parts, whole_parts)
def test_parts_are_a_monoid(a, b, c):
    assert (a + b) + c == a + (b + c)
    assert a + b == b + a
    assert a + Part(0.0, 0) == a == Part(0.0, 0) + a
    assert isinstance(a + b, Part)


def test_mean_of_a_part():
    assert Part(6.0, 4).mean() == 1.5
    assert Part(0.0, 0).mean() == 0


@repeatable
@given(st.lists(st.integers(0, 6), min_size=1, max_size=4).map(tuple), st.integers(1, 40))
def test_blocks_cover_every_sample_once(shape, size):
    count = np.zeros(shape, int)
    for index in blocks(shape, size):
        assert count[index].size <= size
        count[index] += 1
    assert (count == 1).all()


@repeatable
@given(st.lists(st.integers(1, 6), min_size=1, max_size=3).map(tuple), st.integers(1, 40))
def test_blocks_are_as_few_as_rows_allow(shape, size):
    number = len(list(blocks(shape, size)))
    assert number <= 2 * prod(shape) / size + prod(shape[:-1])


def problem_and_results(shape, seed=0):
    "A problem of squared errors, and arrays for its gradient and values."
    x, t = np.random.default_rng(seed).normal(size=(2, *shape))
    return (Problem(squared_error, (x, t), shape, np.dtype(float), divisor=x.size), np.zeros(shape),
            np.zeros(shape))


@pytest.mark.parametrize("threads", [1, 2, None])
@pytest.mark.parametrize("shape", [(1000,), (10, 100), (100, 10), (2, 50, 10)])
def test_threads_and_blocks_do_not_show(shape, threads):
    problem, gradient, values = problem_and_results(shape)
    with pieces_of(16), blocks_of(7):
        part = run(problem, [gradient], values, scale=0.5, threads=threads)
    error = problem.operands[0] - problem.operands[1]
    np.testing.assert_allclose(values, error**2)
    np.testing.assert_allclose(gradient, error)
    np.testing.assert_allclose(part.mean(), (error**2).mean())


def test_large_problems_run_on_threads(monkeypatch):
    used, threads = [], pool()
    monkeypatch.setattr(sharing, "pool", lambda: used.append(1) or threads)
    monkeypatch.setattr(numpy_runner, "cores", lambda: 2)
    for size in numpy_runner.LARGE // 2, numpy_runner.LARGE:
        with tinytorch.engine("numpy"):
            MSELoss()(np.zeros(size, np.float32), np.ones(size, np.float32))
    assert len(used) == 1


def test_an_error_on_a_thread_arrives():
    def broken(x, t):
        raise ZeroDivisionError("in a formula")

    problem, *_ = problem_and_results((1000,))
    with pieces_of(16), pytest.raises(ZeroDivisionError, match="in a formula"):
        run(problem.but(formula=broken), threads=2)


@pytest.mark.parametrize("rows", [False, True])
def test_chunks_cut_by_hand_join_to_the_whole(rows):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 7))
    t = rng.integers(0, 7, 30) if rows else rng.normal(size=(30, 7))
    weight = rng.uniform(0, 2, 30 if rows else (30, 7))
    formula = cross_entropy if rows else squared_error

    def part(chunk, gradient):
        w = weight[chunk]
        return run(Problem(formula, (x[chunk], t[chunk]), w.shape, np.dtype(float), weight=w,
                           divisor=w.sum(), rows=rows),
                   [gradient])

    gradient, whole_gradient = np.zeros_like(x), np.zeros_like(x)
    whole = part(slice(None), whole_gradient)
    joined = Part(0.0, 0)
    for chunk in slice(0, 11), slice(11, 12), slice(12, 30):
        joined += part(chunk, gradient[chunk])
    np.testing.assert_allclose(joined, whole, rtol=1e-14)
    np.testing.assert_allclose(joined.mean(), whole.mean(), rtol=1e-14)
    np.testing.assert_array_equal(gradient, whole_gradient)


def test_weight_zero_skips_a_sample():
    problem, gradient, values = problem_and_results((4,))
    problem.operands[0][1] = np.nan
    part = run(problem.but(weight=np.array([1.0, 0.0, 2.0, 1.0])), [gradient], values)
    assert gradient[1] == values[1] == 0 and np.isfinite(part.total)


def test_the_users_error_settings_do_not_matter():
    with np.errstate(all="raise"):
        loss = BCEWithLogitsLoss(reduction="none")(np.array([1e4, -np.inf, -800.0]),
                                                   np.array([0.0, 0.0, 1.0]))
    assert loss.data.tolist() == [1e4, 0, 800]


@pytest.mark.parametrize("loss, share", [(MSELoss(), 0.1), (L1Loss(), 0.1)])
def test_float32_mean_of_a_hundred_million_equal_samples(loss, share):
    """The sum of many float32 is made in float64: the mean is right to the last digit.

    The samples share one number's memory.
    """
    x = np.broadcast_to(np.float32(share), (10_000, 10_000))
    t = np.broadcast_to(np.float32(0), x.shape)
    found = loss(x, t)
    expected = loss(x[:1, :1], t[:1, :1])
    assert found.dtype == np.float32
    assert abs(found.item() - expected.item()) <= np.spacing(expected.data)


def test_a_sum_of_float32_is_rounded_once():
    rng = np.random.default_rng(0)
    for _ in range(50):
        x = rng.random(5000, dtype=np.float32)
        with blocks_of(1000):
            assert L1Loss(reduction="sum")(x, np.zeros_like(x)).data == np.float32(
                x.sum(dtype=np.float64))


def peak(function) -> int:
    "Bytes that `function` had allocated at most at one time."
    tracemalloc.start()
    try:
        result = function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.fixture
def two_threads(monkeypatch):
    """Two threads whatever the machine has: each holds a few blocks, about 2 MB. With NumPy, so
    that no import of a compiler is measured.
    """
    with ThreadPoolExecutor(2) as pool, tinytorch.engine("numpy"):
        monkeypatch.setattr(sharing, "pool", lambda: pool)
        yield


@pytest.fixture(scope="module")
def vocabulary():
    "Logits of 4096 positions over a vocabulary of 32000, and their targets: 524 MB."
    rng = np.random.default_rng(0)
    return rng.standard_normal((4096, 32000), dtype=np.float32), rng.integers(0, 32000, 4096)


def test_memory_of_forward_and_backward(vocabulary, two_threads):
    logits, target = vocabulary

    def train():
        leaf = Tensor(logits, requires_grad=True)
        CrossEntropyLoss()(leaf, target).backward(2.0)         # a gradient of 1 needs no work
        return leaf.grad

    assert logits.nbytes < peak(train) < 1.2 * logits.nbytes


def test_memory_of_evaluation(vocabulary, two_threads):
    logits, target = vocabulary
    assert peak(lambda: CrossEntropyLoss()(logits, target)) < 0.1 * logits.nbytes


@pytest.mark.parametrize("requires_grad", [False, True])
def test_memory_of_a_pointwise_loss(requires_grad, two_threads):
    x, t = np.ones((2, 20_000_000), np.float32)

    def train():
        leaf = Tensor(x, requires_grad=requires_grad)
        result = MSELoss()(leaf, t)
        if requires_grad:
            result.backward(2.0)
        return leaf.grad

    assert peak(train) < (1.2 if requires_grad else 0.1) * x.nbytes


def test_an_error_on_another_thread_alone_arrives():
    here, both = threading.get_ident(), threading.Barrier(2, timeout=60)

    def step(_):
        both.wait()
        if threading.get_ident() != here:
            raise ZeroDivisionError("elsewhere")

    with pytest.raises(ZeroDivisionError, match="elsewhere"):
        share(step, range(2), threads=2)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("number", [3e38, np.inf, np.nan])
def test_numbers_that_overflow_warn_of_nothing(number):
    with tinytorch.engine("numpy"):
        assert not np.isfinite(MSELoss()(np.float32([number, -number]), [0.0, number]).item())


def test_threads_that_have_not_begun_are_not_waited_for():
    "On a busy machine, this thread does all of the work before another one wakes up."
    free = threading.Event()
    busy = [pool().submit(free.wait, 60) for _ in range(pool()._max_workers)]
    try:
        held = np.zeros(3)
        assert share(held.__getitem__, range(3), threads=2) == [0, 0, 0]
        alive = weakref.ref(held)
        del held
        assert alive() is None, "the queue keeps what was cancelled, and that its arrays"
        assert not any(job.done() for job in busy)
    finally:
        free.set()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_starts_threads_of_its_own():
    pool()
    if (child := os.fork()) == 0:
        os._exit(pool.cache_info().currsize)
    assert os.waitpid(child, 0)[1] == 0


def test_weights_of_classes_are_added_in_float64():
    weight, count = np.array([0.1], np.float32), 100_003
    _, total = class_weights(np.zeros(count, int), weight, np.zeros(count, bool))
    assert total == pytest.approx(count * float(weight[0]), rel=1e-12)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_zero_where_is_numpys_where_to_the_bit(dtype):
    numbers = np.array([[1, -1, 0.5], [np.inf, -np.inf, np.nan], [-0.0, 0.0, 1e-7]], dtype)
    for array in (numbers, numbers.T, np.asfortranarray(numbers), numbers[::2, ::-1], numbers[0, 0]):
        for condition in (array > 0, array != array, np.bool_(True), np.bool_(False),
                          np.atleast_1d(array[..., 0] == 1)[:, None] if array.ndim else True):
            found = numpy_runner.zero_where(condition, array)
            expected = np.where(condition, 0, array)
            assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
            assert found.tobytes() == expected.tobytes()


def test_zero_where_takes_what_it_has_no_bits_of():
    assert numpy_runner.zero_where(np.array([True, False]), np.array([3, 4])).tolist() == [0, 4]
    assert numpy_runner.zero_where(False, 2.5) == 2.5


class OneSlope(Loss):
    "A loss without a slope for its target."
    def formula(input, target):
        return np.exp(input) - target * input, np.exp(input) - target


@pytest.mark.filterwarnings("ignore:.*is not compiled:RuntimeWarning")
@pytest.mark.parametrize("engine", ["numpy", "numba"])
@pytest.mark.parametrize("size", [3, 3 * numpy_runner.BLOCK])
def test_a_gradient_without_a_slope_is_an_error(engine, size):
    "It was whatever the memory held."
    if engine == "numba":
        pytest.importorskip("numba")
    numbers = np.zeros(size)
    with tinytorch.engine(engine):
        check_raises(ValueError, lambda: OneSlope()(numbers, Tensor(numbers, requires_grad=True)),
                     "formula returns 1 of 2 slopes")
        check_raises(ValueError, lambda: OneSlope().partial(numbers, numbers, wrt=("target",)),
                     "formula returns 1 of 2 slopes")
        assert (OneSlope()(Tensor(numbers, requires_grad=True), numbers)).item() == 1
