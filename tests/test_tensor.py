"The tensor beyond its lesson: random shapes and graphs, very long graphs, memory."
import copy
import math
import pickle
import subprocess
import sys
import tracemalloc

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp

from tinytorch.amp import cast
from tinytorch.core.tensor import Tensor, cat, graph_order, narrow, stack, wide
from tinytorch.nn.activations import GELU, LogSoftmax, ReLU, Sigmoid, Softmax, Tanh
from tinytorch.nn.layers import Dropout, Linear


def check_gradient(operation, *arrays):
    """backward() through `operation` agrees with central differences along random directions, for
    each input.
    """
    tensors = [Tensor(array, requires_grad=True) for array in arrays]
    result = operation(*tensors)
    rng = np.random.default_rng(0)
    weights = rng.normal(size=result.shape)
    result.backward(weights)
    for i, tensor in enumerate(tensors):
        assert tensor.grad.shape == tensor.shape and tensor.grad.dtype == tensor.dtype
        direction = rng.normal(size=tensor.shape)
        up, down = ((operation(*arrays[:i], Tensor(arrays[i] + step * direction),
                               *arrays[i + 1:]).data * weights).sum() for step in (1e-6, -1e-6))
        np.testing.assert_allclose((tensor.grad * direction).sum(), (up - down) / 2e-6, rtol=1e-5,
                                   atol=1e-6)


def positive(shape):
    "An array of numbers between 0.5 and 1.5 without ties."
    return (np.random.default_rng(1).permutation(
                np.prod(shape, dtype=int)).reshape(shape) / max(np.prod(shape), 1) + 0.5)


@given(hnp.mutually_broadcastable_shapes(num_shapes=3, max_dims=4, max_side=3, min_side=0))
@settings(deadline=None)
def test_any_shapes_that_broadcast(shapes):
    a, b, c = map(positive, shapes.input_shapes)
    check_gradient(lambda a, b, c: (a * b - c) / (b + 1) ** 2 + a ** c, a, b, c)


@given(st.data())
@settings(deadline=None)
def test_any_matrix_product(data):
    shapes = data.draw(hnp.mutually_broadcastable_shapes(
                           signature="(n?,k),(k,m?)->(n?,m?)", max_dims=2, max_side=3))
    check_gradient(lambda a, b: a @ b, *map(positive, shapes.input_shapes))


@given(st.data())
@settings(deadline=None)
def test_any_index(data):
    shape = data.draw(hnp.array_shapes(max_dims=3, max_side=4))
    index = data.draw(st.one_of(hnp.basic_indices(shape, allow_newaxis=True),
                                hnp.integer_array_indices(shape), hnp.arrays(bool, shape)))
    check_gradient(lambda x: x[index] * 2, positive(shape))


@given(st.data())
@settings(deadline=None)
def test_any_reduction_and_order_of_axes(data):
    shape = data.draw(hnp.array_shapes(max_dims=4, max_side=3))
    axis = data.draw(st.one_of(st.none(), hnp.valid_tuple_axes(len(shape))))
    keepdims = data.draw(st.booleans())
    order = data.draw(st.permutations(range(len(shape))))
    for reduce in (Tensor.sum, Tensor.mean, Tensor.max):
        check_gradient(lambda x: reduce(x.transpose(*order), axis, keepdims).exp(), positive(shape))
        expected = getattr(np, reduce.__name__)(positive(shape), axis=axis, keepdims=keepdims)
        np.testing.assert_allclose(reduce(Tensor(positive(shape)), axis, keepdims), expected)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 100), st.integers(0, 100)), min_size=1, max_size=30))
@settings(deadline=None)
def test_any_graph(steps):
    "Random graphs with much reuse: every node is visited once, after all its users."
    def build(x):
        nodes = [x]
        for kind, i, j in steps:
            a, b = nodes[i % len(nodes)], nodes[j % len(nodes)]
            nodes.append(((a + b) / 2, a * b / (1 + abs(b)),
                          (a - b).exp() / (1 + (a - b).exp()))[kind])
        return sum(nodes[-3:], start=0)
    check_gradient(build, positive((3,)))


@pytest.mark.parametrize("steps, step", [
    (1_000_000, "x = x + 1"),
    (30_000, "x = x * one + x * 0"),
    (50_000, "x = x[0:1].reshape(1)"),
    (25_000, "x = (x @ x.reshape(1, 1)).max(axis=0, keepdims=True)"),
])
def test_long_graphs_need_no_stack(steps, step):
    """Build, go backward through, and free a graph of 100,000 results and more, on Python's
    default recursion limit.
    """
    run = f"""
from tinytorch.core.tensor import Tensor
leaf, one = Tensor([1.0], requires_grad=True), Tensor([1.0], requires_grad=True)
x = leaf
for _ in range({steps}):
    {step}
x.backward()
assert leaf.grad.shape == (1,) and leaf.grad[0] >= 1, leaf.grad
del x
print("freed")
"""
    done = subprocess.run([sys.executable, "-c", run], capture_output=True, text=True, timeout=600)
    assert done.stdout == "freed\n", done.stderr


def test_intermediate_gradients_are_dropped_on_the_way():
    x = Tensor(np.ones(1_000_000, np.float32), requires_grad=True)
    y = x
    for _ in range(20):
        y = y * 1.5
    y = y.sum()
    tracemalloc.start()
    y.backward()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.1 * x.data.nbytes


def test_a_leaf_takes_over_the_gradient_made_for_it():
    x = Tensor(np.ones(1_000_000, np.float32), requires_grad=True)
    y = Tensor.from_op(np.float32(1), (x,), lambda gradient: (np.full(1_000_000, 2, np.float32),))
    tracemalloc.start()
    y.backward()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert x.grad[0] == 2 and peak < 1.1 * x.data.nbytes


def test_a_changed_grad_does_not_change_the_slope():
    x, slope = Tensor([1, 2], requires_grad=True), np.float32([3, 4])
    y = Tensor.from_op([0, 0], (x,), lambda gradient: (slope,))
    y.backward([1, 1])
    x.grad *= 0.5
    y.backward([1, 1])
    assert x.grad.tolist() == [4.5, 6] and slope.tolist() == [3, 4]


@pytest.mark.parametrize("aliased", [lambda g, x: (g,), lambda g, x: (g[:],), lambda g, x: (x.data,),
                                     lambda g, x: (np.broadcast_to(np.float32(1), 2),)])
def test_a_leaf_never_shares_its_gradient(aliased):
    x, start = Tensor([1, 2], requires_grad=True), np.ones(2, np.float32)
    Tensor.from_op([0, 0], (x,), lambda g: aliased(g, x)).backward(start)
    x.grad += 5
    assert x.data.tolist() == [1, 2] and start.tolist() == [1, 1]


def test_two_inputs_handed_the_same_array():
    x, y = Tensor([1, 2], requires_grad=True), Tensor([1, 2], requires_grad=True)
    def backward(gradient):
        shared = gradient * 2
        return shared, shared
    Tensor.from_op([0, 0], (x, y), backward).backward([1, 1])
    x.grad += 5
    assert y.grad.tolist() == [2, 2]


def test_none_and_wrong_shapes_from_backward():
    x, y = Tensor([1, 2], requires_grad=True), Tensor([1, 2], requires_grad=True)
    Tensor.from_op([0, 0], (x, y), lambda gradient: (None, gradient)).backward([1, 1])
    assert x.grad is None and y.grad.tolist() == [1, 1]
    with pytest.raises(ValueError,
                       match=r"input 0 has shape \(1,\), but the input has shape \(2,\)"):
        Tensor.from_op([0, 0], (x,), lambda gradient: (gradient[:1],)).backward([1, 1])


def test_gradients_have_the_dtype_of_their_leaf():
    x, y = (Tensor(np.float16([1, 2]), requires_grad=True),
            Tensor(np.float64([1, 2]), requires_grad=True))
    (x * y).sum().backward()
    assert (x * y).dtype == np.float64 and x.grad.dtype == np.float16 and y.grad.dtype == np.float64


def test_inputs_without_gradient_are_not_worked_for():
    data, weight = Tensor(np.ones((3, 2))), Tensor(np.ones((2, 2)), requires_grad=True)
    assert [id(x) for x in (data @ weight)._inputs] == [id(weight)]


@pytest.mark.parametrize("wrap", [float, int, np.float32, np.array, lambda x: [x], lambda x: np.array([x])])
def test_numbers_arrays_and_lists_on_either_side(wrap):
    x = Tensor([3.0], requires_grad=True)
    two = wrap(2)
    for result, expected in ((two + x, 5), (two - x, -1), (two * x, 6), (two / x, 2 / 3),
                             (two ** x, 8), (x + two, 5), (x - two, 1), (x * two, 6),
                             (x / two, 1.5), (x ** two, 9)):
        assert isinstance(result, Tensor) and result.requires_grad
        np.testing.assert_allclose(result, [expected], rtol=1e-6)
    assert ((x > two).data.tolist() == (two < x).data.tolist() == [True]
            and (x == two).data.tolist() == (two == x).data.tolist() == [False])


def test_numpy_and_python_conventions():
    x = Tensor([[1, 2], [3, 4]], requires_grad=True)
    assert (np.asarray(x) is x.data and np.array(x, dtype=np.float64).dtype == np.float64
            and not np.shares_memory(np.array(x), x.data))
    assert (len(x) == 2 and [row.shape for row in x] == [(2,), (2,)] and float(x[0, 0]) == 1
            and x.size == 4 and x.ndim == 2)
    assert (x.numpy() is x.data and x.detach().data is x.data and x.T.shape == (2, 2)
            and "requires_grad=True" in repr(x))
    assert (len(repr(Tensor(np.zeros((1000, 1000))))) < 700
            and "shape=(1000, 1000)" in repr(Tensor(np.zeros((1000, 1000)))))
    with pytest.raises(TypeError):
        iter(Tensor(1.0))
    with pytest.raises(ValueError):
        bool(x == x)
    with pytest.raises(ValueError, match="different lengths"):
        Tensor([[1, 2], [3]])
    for other in (copy.deepcopy(x), pickle.loads(pickle.dumps(x))):
        assert other.requires_grad and (other == x).data.all() and other.data is not x.data


def test_nan_reaches_the_gradient_of_max_without_warnings():
    x = Tensor([1, np.nan, 2], requires_grad=True)
    x.max().backward()
    assert np.isfinite(x.grad).all()


DTYPES = [np.float16, ml_dtypes.bfloat16]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape, axis", [((4096,), None), ((4096, 2), 0), ((2, 4096), 1), ((3, 4096, 2), (0, 1))])
def test_sums_of_two_bytes_are_added_in_float64(dtype, shape, axis):
    x = Tensor(np.ones(shape, dtype), requires_grad=True)
    count = x.size // x.sum(axis).size
    assert ((x.sum(axis).data == count).all() and (x.mean(axis).data == 1).all()
            and x.sum(axis).dtype == dtype)
    x.mean(axis).sum().backward()
    assert (x.grad == dtype(1 / count)).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_products_of_two_bytes_are_rounded_once(dtype):
    x = np.random.default_rng(0).normal(size=(2, 500)).astype(dtype)
    product = Tensor(x) @ Tensor(x.T)
    exact = x.astype(np.float64) @ x.T.astype(np.float64)
    assert product.dtype == dtype and (product.data == exact.astype(dtype)).all()


def test_what_is_no_single_number_has_no_slope_of_its_own():
    x = Tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(ValueError, match=r"shape \(2,\) has no single slope.*mean\(\)"):
        (x * 2).backward()
    assert x.grad is None


def test_long_sums_of_float32():
    x = Tensor(np.ones((2**24 + 2**20, 2), np.float32))
    assert (x.mean(axis=0).data == 1).all() and (x.sum(axis=0).data == 2**24 + 2**20).all()
    assert Tensor(np.array([3e38, 3e38, -3e38], np.float32)).sum().item() == np.float32(3e38)
    assert Tensor(np.full(4, 60000, np.float16)).mean().item() == 60000


def test_a_sum_makes_no_copy_of_a_large_array():
    x = Tensor(np.ones((1_000_000, 2), np.float32))
    tracemalloc.start()
    x.sum(axis=0), x.mean(), x.sum()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 500_000


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("use", [lambda x: (Tensor(np.ones((4096, 1), x.dtype)) * x).sum(), lambda x: (np.zeros((4096, 1), x.dtype) + x).sum(),
                                 lambda x: x[np.zeros(4096, int)].sum(), lambda x: x[[0] * 4096, ...].sum(), lambda x: x[..., [-1, 0] * 2048].sum(),
                                 lambda x: sum((x for _ in range(4096)), start=0).sum(),
                                 lambda x: (np.ones((4096, 1), x.dtype) @ x.reshape(1, 1)).sum()])
def test_gradients_of_two_bytes_are_added_in_float64(dtype, use):
    x = Tensor(np.ones(1, dtype), requires_grad=True)
    use(x).backward()
    assert x.grad.tolist() == [4096] and x.grad.dtype == dtype


@pytest.mark.parametrize("dtype", DTYPES)
def test_grad_of_two_bytes_is_added_in_float64(dtype):
    x = Tensor(np.zeros(2, dtype), requires_grad=True)
    y = x * 1.0
    for _ in range(4096):
        y.backward([1, 2])
    assert x.grad.tolist() == [4096, 8192] and x.grad.dtype == dtype
    x.grad *= 0.5                                        # what the user did counts
    y.backward([1, 1])
    assert x.grad.tolist() == np.array([2049, 4097], dtype).tolist()
    x.zero_grad()
    y.backward([1, 1])
    assert x.grad.tolist() == [1, 1]


def test_a_lookup_in_a_large_table_needs_no_wider_table():
    table = Tensor(np.ones((100_000, 10), np.float32), requires_grad=True)
    y = table[np.arange(100) % 7].sum()
    tracemalloc.start()
    y.backward()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (peak < 1.1 * table.data.nbytes
            and table.grad[:8, 0].tolist() == [15, 15, 14, 14, 14, 14, 14, 0])


MATRIX = np.array([[0.5, 2.0], [1.5, 3.0]])
OPERATIONS = {
    "product": lambda x: x * x, "product with itself reversed": lambda x: x * x[::-1],
    "quotient": lambda x: 1 / x + x / (x + 1), "power": lambda x: x ** 3 + 2 ** x + x ** x,
    "exp": Tensor.exp, "log": Tensor.log, "sqrt": Tensor.sqrt, "abs": abs,
    "max": lambda x: x.max(axis=1), "matrix product": lambda x: x @ x,
    "matrix and vector": lambda x: x[0] @ x, "reshaped": lambda x: x.reshape(4).T.transpose() * 3,
    "sum": lambda x: x.sum(axis=0) * x.mean(),
    "from_op": lambda x: Tensor.from_op(x.data ** 2, (x,),
                                        lambda gradient: (gradient * 2 * x.data,)),
    "from_op, helper": lambda x: Tensor.from_op(
        x.data ** 2, (x,), (lambda slope: lambda g: (slope(g),))(lambda g: g * 2 * x.data)),
    "from_op, default": lambda x: Tensor.from_op(x.data ** 2, (x,),
                                                 lambda g, arrays=[x.data]: (g * 2 * arrays[0],)),
    "sigmoid": Sigmoid(), "relu": ReLU(), "tanh": Tanh(), "gelu": GELU(), "softmax": Softmax(),
    "log softmax": LogSoftmax(), "linear": lambda x: Linear(2, 3, rng=0)(x),
    "dropout": lambda x: Dropout(0.5, rng=0)(x) * x, "cast": lambda x: cast(x, np.float32) * x}


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_later_changes_do_not_reach_the_gradient(operation):
    "Every array on the way is overwritten after the forward pass, and between two backward passes."
    def gradient_of(change, twice=False):
        x = Tensor(MATRIX.copy(), requires_grad=True)
        y = operation(x)
        weights = np.random.default_rng(0).normal(size=y.shape)
        if twice:
            y.backward(weights)
            x.zero_grad()
        if change:
            for tensor in graph_order(y):
                tensor.data[...] = 7
        y.backward(weights)
        return x.grad
    expected = gradient_of(False)
    assert ((gradient_of(True) == expected).all()
            and (gradient_of(True, twice=True) == expected).all())


def test_an_index_may_be_changed_later():
    for index in (np.array([0, 1]), [0, 1], Tensor(np.array([0, 1])), np.array([True, True, False]),
                  (np.array([0, 1]),)):
        x = Tensor([1, 2, 3], requires_grad=True)
        y = x[index]
        part = (index[0] if isinstance(index, tuple) else index.data if isinstance(index, Tensor)
                else index)
        part[0] = part[1] = 2
        y.sum().backward()
        assert x.grad.tolist() == [1, 1, 0]


def test_global_arrays_are_kept_and_variables_of_backward_stay_its_own():
    run = """
from tinytorch.core.tensor import Tensor
x = Tensor([1.0, 2.0], requires_grad=True)
y = Tensor.from_op(x.data ** 2, (x,), lambda gradient: (gradient * 2 * x.data,))
x.data[:] = 5
y.sum().backward()
assert x.grad.tolist() == [2, 4]
"""
    exec(run, {})
    calls = 0
    def backward(gradient):
        nonlocal calls
        calls += 1
        return (backward and gradient,)
    x = Tensor([1.0], requires_grad=True)
    Tensor.from_op(x.data, (x,), backward).backward()
    assert calls == 1


def test_only_what_a_slope_needs_is_copied():
    x, w = (Tensor(np.ones((1000, 1000), np.float32), requires_grad=True),
            Tensor(np.ones(1000, np.float32), requires_grad=True))
    data = Tensor(np.ones((1000, 1000), np.float32))
    for operation, arrays in ((lambda: x + data, 1), (lambda: x.reshape(-1), 0), (lambda: -x, 1),
                              (lambda: x.sum(), 0), (lambda: data * data, 1), (lambda: x * data, 2),
                              (lambda: x * x, 2), (lambda: x @ data, 2), (lambda: data * 2.0, 1),
                              (lambda: x @ w, 1)):
        tracemalloc.start()
        result = operation()
        kept = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert round(kept / x.data.nbytes, 1) == arrays, result.shape


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", [*DTYPES, np.float32, np.float64])
def test_nothing_warns_whatever_numpys_error_state(dtype):
    extremes = np.array([0, -0.0, 1e-7, 1, 6e4, -6e4, np.inf, -np.inf, np.nan]).astype(dtype)
    with np.errstate(all="raise"):
        for operation in (lambda x: x * x, lambda x: x / x, lambda x: 1 / x, lambda x: x ** x,
                          lambda x: x ** 20, lambda x: 2 ** x, lambda x: x - x, Tensor.exp,
                          Tensor.log, Tensor.sqrt, abs, Tensor.sum, Tensor.mean, Tensor.max,
                          lambda x: x @ x, lambda x: x < x, lambda x: x[[0, 0, 7]],
                          lambda x: x + 1e300, Sigmoid(), ReLU(), Tanh(), GELU(), GELU("tanh"),
                          Softmax(), LogSoftmax(), lambda x: Dropout(0.5)(x),
                          lambda x: Linear(1, 2)(x.reshape(-1, 1)), lambda x: cast(x, np.float16)):
            x = Tensor(extremes, requires_grad=True)
            y = operation(x)
            if y.requires_grad:
                y.backward(np.full(y.shape, 1e300))
                assert x.grad.dtype == dtype
        for number in (1e300, 1e-300, np.nan):
            assert (narrow(np.array(number), np.dtype(np.float16)).dtype == np.float16
                    and wide(np.array([1], dtype)).dtype == max(
                        dtype, np.float32, key=lambda x: np.dtype(x).itemsize))
            assert Tensor(number).dtype == np.float32


def test_whole_numbers_are_not_changed_silently():
    assert Tensor([2**24, -2**24, 2**25, 10**8]).data.tolist() == [2**24, -2**24, 2**25, 10**8]
    for bad in ([2**24 + 1], 16777217, [[0, -123456789]], [0.5, 2**24 + 1],
                (np.int64(2**53 + 1), 1), [True, 2**24 + 1], [10**18 + 1, 0.5], 2**63 + 1):
        with pytest.raises(ValueError, match=r"whole number that float32 cannot hold.*np.array"):
            Tensor(bad)
    assert (Tensor(np.array([2**24 + 1])).data.tolist() == [2**24 + 1]
            and Tensor([16777217.0, 0.1]).dtype == np.float32)


class Length:
    "A length as packages for units make it: an array with a unit."
    def __init__(self, name):
        setattr(self, name, "m")
    def __array__(self, dtype=None, copy=None):
        return np.ones(2)


MASKED = np.ma.array([1.0, -9999.0], mask=[0, 1])
TIMES = np.array(["2024-01-01", "2024-01-02"], "datetime64[D]")


@pytest.mark.parametrize("data, text", [(MASKED, "filled"), ([MASKED, [1, 2]], "filled"), ([1.0, np.ma.masked], "filled"), (TIMES, "since a start"),
                                        (TIMES - TIMES[0], "since a start"), (Length("unit"), "unit m"), ([Length("units")], "unit m"),
                                        ([Tensor(1.0, requires_grad=True)], "stack"), ([[Tensor(1.0)], [2.0]], "stack"),
                                        (["cat", "dog"], "np.unique"), (np.array(["cat"]), "np.unique"), (np.array(["cat", 1], object), "np.unique")])
def test_what_would_be_dropped_is_refused(data, text):
    with pytest.raises(TypeError, match=text):
        Tensor(data)
    with pytest.raises(TypeError, match=text):
        Tensor([1.0, 2.0]) * data


@pytest.mark.parametrize("dtype", [">f4", ">f8", ">i2", ">f2"])
def test_other_byte_orders_become_native(dtype):
    array = np.array([1, 256, -3], dtype)
    tensor = Tensor(array)
    assert (tensor.dtype.isnative and tensor.data.tolist() == [1, 256, -3]
            and tensor.dtype.itemsize == array.dtype.itemsize)
    if dtype != ">i2":
        x = Tensor(array, requires_grad=True)
        (x * array).sum().backward()
        assert x.grad.tolist() == [1, 256, -3] and x.grad.dtype.isnative


def test_a_matrix_is_an_array_of_two_axes():
    with pytest.warns(PendingDeprecationWarning):
        matrix = np.matrix([[1.0, 2.0], [3.0, 4.0]])
    x = Tensor(matrix, requires_grad=True)
    assert (type(x.data) is np.ndarray and x[0].shape == (2,)
            and (x * x).data.tolist() == [[1, 4], [9, 16]])


@pytest.mark.parametrize("function", [np.exp, np.log, np.sqrt, np.abs, np.negative, np.square, np.sum, np.mean, np.max, np.amax, np.transpose,
                                      lambda x: np.mean(x, axis=0), lambda x: np.sum(x, axis=1, keepdims=True), lambda x: np.reshape(x, (4,)),
                                      lambda x: np.transpose(x, (1, 0)), lambda x: np.dot(x, x), lambda x: np.matmul(np.eye(2), x),
                                      lambda x: np.multiply(2, x), lambda x: np.power(x, x), lambda x: np.eye(2) - x, lambda x: np.divide(x, 2.0),
                                      lambda x: np.concatenate([x, x * 2]), lambda x: np.concatenate((np.eye(2), x), axis=1),
                                      lambda x: np.stack([x, x], axis=-1)])
def test_numpys_functions_record(function):
    check_gradient(lambda x: function(x if isinstance(x, Tensor) else Tensor(x)), positive((2, 2)))
    np.testing.assert_allclose(function(Tensor(positive((2, 2)))), function(positive((2, 2))))


@pytest.mark.parametrize("function", [np.tanh, np.median, np.std, np.cumsum, np.add.reduce, np.multiply.accumulate, np.linalg.norm, np.zeros_like, np.fft.fft,
                                      lambda x: np.where(x > 0, x, 0), lambda x: np.einsum("i->", x), lambda x: np.vstack([x, x]),
                                      lambda x: np.clip(x, 0, 1), lambda x: np.add(x, 1, out=np.zeros(2)), np.modf])
def test_numpys_other_functions_lose_no_gradient(function):
    with pytest.raises(TypeError, match=r"Tensor: np\.[\w.]+ records no gradient.*pass tensor\.data"):
        function(Tensor([1.0, 2.0], requires_grad=True))
    function(Tensor([1.0, 2.0]))


def test_numpys_functions_without_gradient():
    x = Tensor([1.0, np.nan], requires_grad=True)
    assert (np.isnan(x).tolist() == [False, True] and np.argmax(x) == 1 and np.shape(x) == (2,)
            and np.allclose(x, x, equal_nan=True))
    added = np.zeros(2)
    added += x
    assert (isinstance(added, Tensor) and added.requires_grad
            and np.array_equal(np.asarray(x), x.data, equal_nan=True))


def test_python_takes_a_number():
    loss = Tensor([2.25], requires_grad=True) * 1
    assert (f"{loss:.1f}" == "2.2" and f"{loss}" == str(loss) and int(loss) == 2
            and round(loss, 1) == 2.2 and round(loss) == 2)
    assert (math.sqrt(loss) == 1.5 and math.floor(loss) == 2
            and f"{Tensor(np.ones((), ml_dtypes.bfloat16)):.2f}" == "1.00")
    with pytest.raises(TypeError, match=r"'\.2f' is for one number.*\(2,\)"):
        f"{Tensor([1, 2]):.2f}"


def test_results_are_copied_without_their_history():
    leaf = Tensor([1.0, 2.0], requires_grad=True)
    result = leaf * leaf
    result.sum().backward()
    for made in (lambda x: pickle.loads(pickle.dumps(x)), copy.deepcopy, copy.copy):
        other, again = made(result), made(leaf)
        assert other.data.tolist() == [1, 4] and not other.requires_grad and other.is_leaf
        assert again.requires_grad and again.grad.tolist() == [2, 4]
    assert copy.deepcopy({"a": leaf, "b": leaf})["a"].data is not leaf.data


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_cat_and_stack_are_torchs(dim):
    torch = pytest.importorskip("torch")
    arrays = [positive((2, 3)), positive((2, 3)) * 2, positive((2, 3)) - 1]
    for ours, theirs in ((cat, torch.cat), (stack, torch.stack)):
        check_gradient(lambda *x: ours(x, dim) * 2, *arrays)
        np.testing.assert_array_equal(ours(arrays, dim=dim),
                                      theirs([torch.tensor(x) for x in arrays], dim=dim).numpy())
    assert (cat([Tensor(np.ones((2, 1))), np.ones((2, 3))], dim=1).shape == (2, 4)
            and stack([1.0, Tensor(2.0)]).data.tolist() == [1, 2])


def test_cat_and_stack_name_shapes():
    for call, text in ((lambda: cat([np.ones(2), np.ones((2, 2))]), r"cat: .*\(2,\), \(2, 2\)"),
                       (lambda: cat([]), "cat: "),
                       (lambda: stack([np.ones(2), np.ones(3)]), r"stack: .*\(2,\), \(3,\)"),
                       (lambda: stack([]), "stack: "), (lambda: cat([np.ones(2)], dim=1), "dim=1"),
                       (lambda: stack([np.ones(2)], dim=2), "dim=2")):
        with pytest.raises(ValueError, match=text):
            call()


@pytest.mark.parametrize("other", ["a", None, {}])
def test_what_is_no_number_is_not_equal_and_has_no_order(other):
    x = Tensor([1.0, 2.0])
    assert (x == other) is False and (x != other) is True
    for compare in "__lt__", "__le__", "__gt__", "__ge__":
        assert getattr(x, compare)(other) is NotImplemented
    with pytest.raises(TypeError, match="not supported between"):
        x < other


@pytest.mark.parametrize("first, second", [((), (3,)), ((2, 3), ()), ((), ()), ((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 4)),
                                           ((5, 2, 3), (3, 4)), ((2, 3), (5, 3, 4)), ((5, 2, 3), (5, 3, 4)), ((3,), (2, 0, 3, 4))])
def test_dot_is_numpys(first, second):
    a, b = positive(first), positive(second)
    found = np.dot(Tensor(a), Tensor(b))
    assert isinstance(found, Tensor) and found.shape == np.dot(a, b).shape
    np.testing.assert_allclose(found.data, np.dot(a, b))
    check_gradient(lambda x: np.dot(x if isinstance(x, Tensor) else Tensor(x), b), a)
    check_gradient(lambda x: np.dot(a, x if isinstance(x, Tensor) else Tensor(x)), b)


@pytest.mark.parametrize("function, name", [(lambda x: np.minimum(x, 1), "minimum"), (np.add.reduce, "add.reduce"),
                                            (lambda x: np.split(x, [1]), "split"),
                                            (lambda x: np.add(x, x, casting="same_kind"), "add")])
def test_what_records_no_gradient_is_named(function, name):
    with pytest.raises(TypeError, match=rf"^Tensor: np\.{name} records no gradient"):
        function(Tensor([1.0, 2.0], requires_grad=True))


def test_parts_of_different_lengths():
    one, two = np.split(Tensor([1.0, 2.0, 3.0]), [1])
    assert one.tolist() == [1] and two.tolist() == [2, 3]


def test_powers_of_0_have_torchs_slopes():
    torch = pytest.importorskip("torch")
    base, exponent = np.zeros(4), np.array([-1.0, 0.0, 0.5, 2.0])
    x, y = Tensor(exponent, requires_grad=True), torch.tensor(exponent, requires_grad=True)
    (base ** x).backward(np.ones(4))
    (torch.tensor(base) ** y).backward(torch.ones(4))
    np.testing.assert_array_equal(x.grad, y.grad.numpy())
