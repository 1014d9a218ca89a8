"""Losses, and the layers and activations they train, under torch.nn's names.

Every public name of the modules in this folder is here: `from tinytorch.nn import MSELoss, Linear`. A module is
imported when one of its names is first asked for, so the notebook of a module can be run while its export is broken,
and a new loss or a new module needs no line in this file.
"""
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .activations import *
    from .layers import *
    from .losses import *


def _public() -> dict:
    "The public names of all modules of this folder, and the modules, with what they stand for."
    modules = {module.name: import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)}
    return modules | {name: getattr(module, name) for module in modules.values() for name in getattr(module, "__all__", ())}


def __getattr__(name):
    if name == "__all__":
        return sorted(_public())
    if not name.startswith("_") and name in (public := _public()):
        globals().update(public)
        return public[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *_public()])
