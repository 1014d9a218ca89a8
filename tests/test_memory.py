"Memory of large gradients: used again when nobody refers to it, and never before."
import os
import pickle
import platform
import subprocess
import sys
import threading

import numpy as np
import pytest

import tinytorch
from tinytorch.core import memory
from tinytorch.core.memory import HUGE, empty, release_memory
from tinytorch.core.tensor import Tensor
from tinytorch.nn import MSELoss

SMALL, LARGE = (3 * HUGE // 16,), (HUGE + 3,)       # floats: less than a huge page, several


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    monkeypatch.setattr(memory, "LARGE_BYTES", 2**17)               # so that the tests need little memory
    release_memory()
    yield
    release_memory()


def address(array):
    return array.ctypes.data


def gradient_of(numbers, engine="numpy"):
    "The gradient of a mean squared error whose target is 0: numbers * 2 / their count."
    x = Tensor(numbers, requires_grad=True)
    with tinytorch.engine(engine):
        MSELoss()(x, Tensor(np.zeros_like(numbers))).backward()
    return x.grad


@pytest.mark.parametrize("shape", [SMALL, LARGE])
def test_memory_is_used_again(shape):
    first = empty(shape, np.float32)
    place = address(first)
    first.fill(1)
    del first
    assert address(empty(shape, np.float32)) == place


@pytest.mark.parametrize("shape", [SMALL, LARGE])
@pytest.mark.parametrize("holder", [
    lambda a: a[1:], lambda a: a.reshape(1, -1), lambda a: a[::2].T, memoryview,
    lambda a: np.asarray(memoryview(a)), lambda a: a.view(np.int32), lambda a: [a[5:][3:6]],
    np.nditer, lambda a: a.ctypes, lambda a: np.broadcast_to(a, (3, *a.shape))])
def test_views_keep_the_memory(shape, holder):
    array = empty(shape, np.float32)
    place, kept = address(array), holder(array)
    del array
    assert address(empty(shape, np.float32)) != place
    del kept
    assert place in [address(x) for x in memory.unused.values()]


@pytest.mark.parametrize("engine", ["numpy", "numba"])
def test_a_kept_gradient_never_changes(engine):
    if engine == "numba":
        pytest.importorskip("numba")
    kept, views = [], []
    for step in range(6):
        gradient = gradient_of(np.full(LARGE, step, np.float32), engine)
        kept.append(gradient)
        views.append(gradient_of(np.full(LARGE, -step, np.float32), engine)[7:])
        gradient_of(np.full(LARGE, 100, np.float32), engine)        # dropped
    for step, (gradient, view) in enumerate(zip(kept, views)):
        assert (gradient == np.float32(2 * step / LARGE[0])).all()
        assert (view == np.float32(-2 * step / LARGE[0])).all()


def test_a_training_loop_uses_one_gradient():
    numbers, places = np.ones(LARGE, np.float32), set()
    x, target, loss = Tensor(numbers, requires_grad=True), Tensor(numbers), MSELoss()
    for _ in range(5):
        x.grad = None
        loss(x, target).backward()
        places.add(address(x.grad))
    assert len(places) == 1


def test_the_gradient_is_the_engines_array():
    "A leaf keeps what the loss filled; it is not copied."
    x = Tensor(np.ones(LARGE, np.float32), requires_grad=True)
    MSELoss()(x, Tensor(np.zeros(LARGE, np.float32))).backward()
    assert isinstance(x.grad.base, memory.Lease)
    x.grad += 1                                               # the user may change it


def test_losses_of_each_sample_are_kept_apart():
    each = MSELoss(reduction="none")
    first = each(np.full(LARGE, 3, np.float32), np.zeros(LARGE, np.float32)).data
    each(np.full(LARGE, 5, np.float32), np.zeros(LARGE, np.float32))
    assert (first == 9).all()


def test_a_smaller_array_fits_and_a_tiny_one_does_not():
    place = address(empty(LARGE, np.float32))
    assert address(empty((LARGE[0] - 1000,), np.float32)) == place
    assert address(empty((LARGE[0] // 3,), np.float32)) != place


def test_what_is_kept_is_bounded(monkeypatch):
    arrays = [empty(SMALL, np.float32) for _ in range(memory.MOST + 9)]
    del arrays
    assert len(memory.unused) == memory.MOST
    release_memory()
    monkeypatch.setattr(memory, "MOST_BYTES", 12 * HUGE)
    arrays = [empty(LARGE, np.float32) for _ in range(9)]
    newest = address(arrays[-1])
    while arrays:
        arrays.pop(0)
    assert 0 < sum(x.size for x in memory.unused.values()) <= 12 * HUGE
    assert newest in [address(x) for x in memory.unused.values()]
    empty((4 * HUGE,), np.float32)                            # more than may be kept
    assert sum(x.size for x in memory.unused.values()) <= 12 * HUGE


def test_memory_that_is_scarce_is_given_back(monkeypatch):
    empty(LARGE, np.float32)
    assert memory.unused

    def none_left(size):
        raise MemoryError

    monkeypatch.setattr(memory, "fresh", none_left)
    array = empty((3 * LARGE[0],), np.float32)
    assert array.size == 3 * LARGE[0]
    assert not memory.unused


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_has_memory_of_its_own():
    array, *others = [empty(LARGE, np.float32) for _ in range(4)]
    array.fill(1)
    del others
    assert len(memory.unused) == 3
    child = os.fork()
    if child == 0:
        array.fill(2)
        fresh = empty(LARGE, np.float32)
        fresh.fill(3)
        os._exit(0 if (array == 2).all() and len(memory.unused) == 0 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert (array == 1).all()


def test_threads_never_share():
    wrong = []

    def work(number):
        for step in range(200):
            array = empty(SMALL, np.float32)
            array.fill(number)
            held = array[:10]
            del array
            other = empty(SMALL, np.float32)
            other.fill(-1)
            if (held != number).any():
                wrong.append((number, step))

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work, args=(k,)) for k in range(1, 7)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
    finally:
        sys.setswitchinterval(before)
    assert not wrong
    assert len(memory.unused) <= memory.MOST


def test_memory_that_another_thread_took_first_is_left(monkeypatch):
    class Taken(dict):
        def pop(self, key, default=None):
            super().pop(key, None)                            # the other thread has it
            return default

    place = address(empty(SMALL, np.float32))
    kept = Taken(memory.unused)
    held = list(kept.values())
    monkeypatch.setattr(memory, "unused", kept)
    array = empty(SMALL, np.float32)
    assert len(held) == 1 and address(array) != place


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
@pytest.mark.parametrize("numbers", [100_000, 1_000_000])
def test_temporaries_have_memory_that_was_used_before(numbers):
    "In a new process, which has freed nothing large before."
    code = (f"import numpy as np, resource, tinytorch.nn as nn, tinytorch\n"
            "from tinytorch.core.problem import at_most\n"
            "from tinytorch.core.tensor import Tensor\n"
            "faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
            f"x = Tensor(np.ones({numbers}, np.float32), requires_grad=True)\n"
            "def step():\n    x.grad = None\n    nn.BCEWithLogitsLoss()(x, x.detach()).backward()\n"
            "with tinytorch.engine('numpy'), at_most(1):\n    step(), step()\n    before = faults()\n"
            "    step(), step()\n    print(faults() - before)")
    plain = {name: value for name, value in os.environ.items()
             if not name.startswith("MALLOC_")}         # a Dask cluster leaves its own there
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          env=plain)
    assert int(done.stdout) < 100


def test_an_array_that_the_c_library_keeps_is_numpys(monkeypatch):
    monkeypatch.setattr(memory, "LARGE_BYTES", 2**25)
    assert empty((2**23 - 1,), np.float32).base is None
    assert isinstance(empty((2**23,), np.float32).base, memory.Lease)


def test_a_gradient_is_copied_and_pickled_as_any_array():
    gradient = gradient_of(np.ones(LARGE, np.float32))
    again = pickle.loads(pickle.dumps(gradient))
    assert np.array_equal(again, gradient)
    assert gradient.copy().base is None


def test_a_program_ends_without_a_word():
    code = ("import numpy as np, tinytorch.nn as nn\nfrom tinytorch.core import memory, engine\n"
            "from tinytorch.core.tensor import Tensor\n"
            "memory.LEAST = 2**17\n"
            f"x = Tensor(np.ones({LARGE}, np.float32), requires_grad=True)\n"
            "nn.MSELoss()(x, x.detach()).backward()\n"
            f"engine.kept = memory.empty({LARGE}, np.float32)\n"
            f"memory.empty({LARGE}, np.float32)\n")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


PAGES_OF_TEMPORARIES = """
import resource
import numpy as np
import tinytorch.core.memory
kept = np.ones(100)                   # above nothing that is freed below
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        a = np.ones(2**18); b = a + 1
        del a, b
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have other rules")
@pytest.mark.parametrize("variables", [{}, {"MALLOC_TRIM_THRESHOLD_": "65536"}])
def test_temporaries_are_allocated_once(variables):
    "Also where the environment keeps glibc from learning, as Dask's does for its workers."
    told = subprocess.run([sys.executable, "-c", PAGES_OF_TEMPORARIES], env=os.environ | variables,
                          capture_output=True, text=True, check=True).stdout
    assert int(told) < 20 * 2 * 512 / 10          # of the pages of all temporaries
