"Every loss in the registry keeps every promise of the contract in tinytorch.checking, without any warning."
import warnings
from zlib import crc32

import numpy as np
import pytest

import tinytorch
import tinytorch.nn
from tinytorch.checking import CONTRACT, TEXTBOOK
from tinytorch.nn.criterion import LOSSES

tinytorch.nn.__all__           # imports every module that registers losses
each_loss = pytest.mark.parametrize("name", [name for name, loss in LOSSES.items() if loss.__module__.startswith("tinytorch.")])


@each_loss
@pytest.mark.parametrize("promise", CONTRACT, ids=lambda promise: promise.__name__)
@pytest.mark.parametrize("engine", ["numpy", "numba"])
def test_contract(name, promise, engine):
    if engine == "numba":
        pytest.importorskip("numba")
    with tinytorch.engine(engine):
        keeps(name, promise)


def keeps(name, promise):
    for options in ({}, *LOSSES[name].variants):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            promise(LOSSES[name], options, np.random.default_rng(crc32(name.encode())))


@each_loss
def test_value_has_a_textbook_definition(name):
    if name not in TEXTBOOK:
        pytest.skip(f"checking.TEXTBOOK has no definition of {name}, so its value is checked by its own notebook only")
