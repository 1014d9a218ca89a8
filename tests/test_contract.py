"""Every loss in the registry keeps every promise of the contract in tinytorch.checking, without
any warning.
"""
import warnings
from zlib import crc32

import numpy as np
import pytest

import tinytorch
from textbook import load
from tinytorch.checking import CONTRACT, TEXTBOOK, examples
from tinytorch.nn.criterion import LOSSES

load()
each_loss = pytest.mark.parametrize(
    "name",
    [name for name, loss in LOSSES.items()
     if loss.formula is not None and loss.__module__.startswith("tinytorch.")])

# Formulas that stay with NumPy, and what they do that a loop of numbers cannot.
NOT_COMPILED = {"MultiLabelMarginLoss": "cumprod", "LovaszHingeLoss": "argsort",
                "SparsemaxLoss": "sort", "ListMLELoss": "lexsort", "RankNetLoss": ".any"}

# What their formulas of class indices do.
OF_CLASSES = {**dict.fromkeys(["TverskyLoss", "DiceLoss"], "more than one axis"),
              "LovaszHingeLoss": "astype"}


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
            for reason in NOT_COMPILED.get(name), OF_CLASSES.get(name):
                if reason:
                    warnings.filterwarnings("ignore", f".*is not compiled.*{reason}",
                                            RuntimeWarning)
            promise(LOSSES[name], options, np.random.default_rng(crc32(name.encode())))


@each_loss
def test_value_has_a_textbook_definition(name):
    assert name in TEXTBOOK


@each_loss
def test_formula_is_compiled_unless_listed(name):
    pytest.importorskip("numba")
    from tinytorch.core.loops import Loop, find
    loss = LOSSES[name]()
    arguments = next(arguments
                     for _, arguments in examples(LOSSES[name], {}, np.random.default_rng(0),
                             reductions=["sum"]) if arguments[0].ndim)
    problem = loss.problem(*loss.fit(*arguments))
    # the slopes that a call asks for: the target's of a difference is the input's, turned round
    wanted = [x.dtype.kind == "f" and name not in loss.constant
              for name, x in zip(loss.domain, problem.operands, strict=True)]
    loop = find(problem, (wanted[0], False) if loss.difference else tuple(wanted), False)
    assert (NOT_COMPILED[name] in loop) if name in NOT_COMPILED else isinstance(loop, Loop), loop
