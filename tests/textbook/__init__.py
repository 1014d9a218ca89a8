"""Definitions of losses as textbooks print them: float64, one sample at a time, with no care for
large numbers.

Each module here has a dictionary `TEXTBOOK` by loss, in the convention of
`tinytorch.checking.TEXTBOOK`.
"""
from importlib import import_module
from pkgutil import iter_modules

import tinytorch.nn
from tinytorch import checking


def load() -> None:
    "Register every loss of the package, and hand the definitions to the contract."
    tinytorch.nn.__all__               # imports every module that registers losses
    for module in iter_modules(__path__):
        checking.TEXTBOOK.update(import_module(f"textbook.{module.name}").TEXTBOOK)
