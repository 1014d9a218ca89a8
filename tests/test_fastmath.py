"""Fast mathematics: every float32, many float64, special values, vector instructions, flags of the
caller.
"""
import os
import platform
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

numba = pytest.importorskip("numba")
from numba import njit

from tinytorch.core import fastmath
from tinytorch.core.problem import cores

NAMES = ["exp", "log", "log1p", "expm1", "tanh"]
# units of the last digit
LIMIT = {"exp": 1.2, "log": 1.0, "log1p": 1.0, "expm1": 2.0, "tanh": 1.7}
FLAGS = {"reassoc", "nsz"}


def loop_of(name, **options):
    function = getattr(fastmath, name)

    @njit(nogil=True, **options)
    def loop(x, y):
        for i in range(len(x)):
            y[i] = function(x[i])
    return loop


def ulps(y, exact, dtype):
    """The error in units of the last digit; 0 where both are the same infinity or NaN, infinite
    where only one is.
    """
    with np.errstate(all="ignore"):
        rounded = exact.astype(dtype)
        error = np.abs(y - exact) / np.spacing(np.abs(rounded))
    same = (y == rounded) | np.isnan(y) & np.isnan(rounded)
    return np.where(np.isfinite(error), error, np.where(same, 0, np.inf)).astype(float)


# of a float32, by the bits of its exponent
SPACING = 2.0 ** (np.maximum(np.arange(256), 1) - 150)


@njit(nogil=True)
def count_wrong(y, exact, rounded, bits, limit):
    """How many of `y` differ from `exact` by more than `limit` units; `rounded` is `exact` in
    float32, `bits` its bits.
    """
    wrong = 0
    for i in range(len(y)):
        near = abs(np.float64(y[i]) - exact[i]) <= limit * SPACING[(bits[i] >> 23) & 255]
        same = (y[i] == rounded[i]) | ((y[i] != y[i]) & (rounded[i] != rounded[i]))
        wrong += not (same | (near & (abs(rounded[i]) < np.inf) & (abs(y[i]) < np.inf)))
    return wrong


def wrong_of(name, stride):
    "How many of the float32 with bits 0, stride, 2 stride, ... are wrong, and how many there are."
    loop, reference, size, workers = loop_of(name), getattr(np, name), 2**16, cores()
    step = size * stride

    def work(worker):
        y, wide, rounded, wrong, seen = (np.empty(size, np.float32), np.empty(size),
                                         np.empty(size, np.float32), 0, 0)
        for start in range(worker * step, 2**32, workers * step):
            x = np.arange(start, min(start + step, 2**32), stride, dtype=np.uint32).view(np.float32)
            n = len(x)
            loop(x, y)
            with np.errstate(all="ignore"):
                reference(x, out=wide[:n], dtype=np.float64)
                rounded[:n] = wide[:n]
            wrong += count_wrong(y[:n], wide[:n], rounded[:n], rounded[:n].view(np.int32),
                                 LIMIT[name])
            seen += n
        return wrong, seen

    with ThreadPoolExecutor(workers) as pool:
        return tuple(map(sum, zip(*pool.map(work, range(workers)))))


@pytest.mark.parametrize("name, stride", [("exp", 1), ("log", 1), ("log1p", 61), ("expm1", 61), ("tanh", 61)])
def test_every_float32(name, stride):
    assert wrong_of(name, stride) == (0, -(-2**32 // stride))


def numbers64():
    rng = np.random.default_rng(3)
    return np.concatenate([rng.integers(0, 2**64, 2**19, dtype=np.uint64).view(np.float64),
                           1 + 0.3 * rng.normal(size=2**18),
                           rng.normal(size=2**18) * 10.0 ** rng.uniform(-12, 0, 2**18),
                           rng.uniform(-750, 715, 2**18)])


@pytest.mark.skipif(np.finfo(np.longdouble).nmant <= 52, reason="no float wider than float64")
@pytest.mark.parametrize("name", NAMES)
def test_float64(name):
    x = numbers64()
    loop_of(name)(x, y := np.empty_like(x))
    with np.errstate(all="ignore"):
        exact = getattr(np, name)(x.astype(np.longdouble))
    assert ulps(y, exact, np.float64).max() <= LIMIT[name]


SPECIAL = {"exp": [(0, 1), (-0.0, 1), ("inf", "inf"), ("-inf", 0), ("nan", "nan")],
           "log": [(0, "-inf"), (-0.0, "-inf"), (1, 0), ("inf", "inf"), ("-inf", "nan"),
                   (-1, "nan"), ("nan", "nan")],
           "log1p": [(0, 0), (-0.0, -0.0), (-1, "-inf"), (-2, "nan"), ("-inf", "nan"),
                     ("inf", "inf"), ("nan", "nan")],
           "expm1": [(0, 0), (-0.0, -0.0), ("inf", "inf"), ("-inf", -1), ("nan", "nan")],
           "tanh": [(0, 0), (-0.0, -0.0), ("inf", 1), ("-inf", -1), ("nan", "nan")]}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", NAMES)
def test_special_values(name, dtype):
    x, expected = np.array(SPECIAL[name], dtype=object).T.astype(dtype)
    loop_of(name)(x, y := np.empty_like(x))
    np.testing.assert_array_equal(y, expected)
    kept = ~np.isnan(expected)
    assert (np.signbit(y) == np.signbit(expected))[kept].all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ends_of_the_range(dtype):
    info = np.finfo(dtype)
    last = dtype(np.nextafter(np.log(np.longdouble(info.max)).astype(dtype), dtype(0)))
    # the smallest numbers there are
    below = np.arange(1, 1000, dtype=f"i{info.dtype.itemsize}").view(dtype)
    run = {name: (lambda x, loop=loop_of(name): (loop(x, y := np.empty_like(x)), y)[1])
           for name in NAMES}
    ends = run["exp"](np.array([last, info.maxexp * 0.6932], dtype))
    assert ends[0] > 0.99 * info.max and np.isfinite(ends[0]) and np.isinf(ends[1])
    for name in ("log1p", "expm1", "tanh"):
        assert (run[name](below) == below).all()
    small = run["exp"](np.linspace((info.minexp - info.nmant) * 0.6931, info.minexp * 0.69315,
                                   1000).astype(dtype))
    assert (small > 0).all() and (small < info.tiny).all()
    assert ulps(run["log"](below), np.log(below.astype(np.longdouble)), dtype).max() <= LIMIT["log"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", NAMES)
def test_flags_of_the_caller(name, dtype):
    x = np.random.default_rng(4).normal(size=2**14).astype(dtype)
    loop_of(name)(x, strict := np.empty_like(x))
    loop_of(name, fastmath=FLAGS)(x, loose := np.empty_like(x))
    np.testing.assert_array_equal(strict, loose)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", NAMES)
def test_numpy_reads_the_same_formula(name, dtype):
    x = np.random.default_rng(5).normal(size=2**16).astype(dtype) * 5
    y = getattr(fastmath, name)(x)
    loop_of(name)(x, compiled := np.empty_like(x))
    assert y.dtype == dtype and type(getattr(fastmath, name)(x[0])) is dtype
    np.testing.assert_allclose(y, compiled, rtol=4 * np.finfo(dtype).eps)


def fused(dtype):
    "The loop of a sigmoid-cross-entropy, value and slope."
    exp, log1p, one, zero = fastmath.exp, fastmath.log1p, dtype(1), dtype(0)

    @njit(fastmath=FLAGS, error_model="numpy")
    def loop(x, t, g):
        total = 0.0
        for i in range(len(x)):
            e = exp(-abs(x[i]))
            g[i] = (one if x[i] >= zero else e) / (one + e) - t[i]
            total += np.float64((x[i] if x[i] > zero else zero) - x[i] * t[i] + log1p(e))
        return total
    return loop


def packed(assembly, dtype):
    "How many packed multiplications there are."
    letter, lanes = ("s", "4s") if dtype is np.float32 else ("d", "2d")
    if platform.machine().lower() in ("x86_64", "amd64"):
        return len(re.findall(rf"\bv?(?:mul|fn?m(?:add|sub)\d+)p{letter}\b", assembly))
    if platform.machine().lower() in ("aarch64", "arm64"):
        return len(re.findall(rf"\b(?:fmul|fmla|fmls)\b.*\.{lanes}", assembly))
    pytest.skip(f"unknown processor {platform.machine()}")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", [*NAMES, "fused"])
def test_vector_instructions(name, dtype):
    x = np.linspace(0.1, 2, 100, dtype=dtype)
    loop, arrays = ((fused(dtype), (x, x, np.empty_like(x))) if name == "fused"
                    else (loop_of(name), (x, np.empty_like(x))))
    loop(*arrays)
    assert packed(next(iter(loop.inspect_asm().values())), dtype) >= 5


@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="other processors always fuse")
def test_without_fused_instructions():
    code = "import test_fastmath as t; print([t.wrong_of(name, 509)[0] for name in t.NAMES])"
    environment = {**os.environ, "NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": "",
                   "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run([sys.executable, "-c", code], cwd=os.path.dirname(__file__),
                            env=environment, capture_output=True, text=True)
    assert result.stdout.strip() == str([0] * len(NAMES)), result.stderr
