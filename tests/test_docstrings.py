"Every example in a docstring gives what it says."
import doctest
import importlib
from pkgutil import iter_modules

import pytest

import tinytorch.nn

MODULES = ["tinytorch.amp", "tinytorch.core.engine", "tinytorch.core.tensor", *(f"tinytorch.nn.{module.name}" for module in iter_modules(tinytorch.nn.__path__))]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    failed, _ = doctest.testmod(importlib.import_module(name))
    assert failed == 0


def test_every_loss_has_an_example():
    from tinytorch.nn.criterion import LOSSES
    missing = [name for name, loss in LOSSES.items() if ">>>" not in loss.__doc__]
    assert missing == []
