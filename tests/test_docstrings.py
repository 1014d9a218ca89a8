"Every example in a docstring gives what it says."
import doctest
import importlib

import pytest

MODULES = ["tinytorch.core.engine", "tinytorch.core.tensor", "tinytorch.nn.activations", "tinytorch.nn.criterion",
           "tinytorch.nn.layers", "tinytorch.nn.linear_cross_entropy", "tinytorch.nn.losses", "tinytorch.amp"]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    failed, _ = doctest.testmod(importlib.import_module(name))
    assert failed == 0


def test_every_loss_has_an_example():
    from tinytorch.nn.criterion import LOSSES
    missing = [name for name, loss in LOSSES.items() if ">>>" not in loss.__doc__]
    assert missing == []
