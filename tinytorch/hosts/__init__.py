"""The losses in other frameworks, each imported when it is first asked for: `from tinytorch.hosts import to_torch`."""
from importlib import import_module

_MODULES = {"to_torch": "torch_host"}


def __getattr__(name):
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *_MODULES])
