"""Losses, and the layers and activations they train, under torch.nn's names.

Every class of the modules in this folder is here, and a few functions: `from tinytorch.nn import MSELoss, Linear`.
The modules are imported when a name is first asked for, so the notebook of a module can be run while its export is
broken, and a new loss or a new module needs no line in this file. Type checkers and editors read `__init__.pyi`,
which `make export` writes.
"""
from importlib import import_module
from pkgutil import iter_modules

_FUNCTIONS = {"cosine_similarity", "log_softmax", "logsumexp", "manual_seed", "pairwise_distance"}


def _public() -> dict:
    "Return the classes and the `_FUNCTIONS` of all modules of this folder, and the modules, by name."
    modules = {module.name: import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)}
    names = {name: getattr(module, name) for module in modules.values() for name in module.__all__}
    return modules | {name: value for name, value in names.items() if isinstance(value, type) or name in _FUNCTIONS}


def __getattr__(name):
    if name == "__all__":
        return sorted(_public())
    if not name.startswith("_") and name in (public := _public()):
        globals().update(public)
        return public[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *_public()})
