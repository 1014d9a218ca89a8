"""What tests and lessons check with: `from tinytorch.checking import check_close, check_exercise`.

A module is imported when one of its names is first asked for, so that `tito` can use the others
while a lesson is broken.
"""
from importlib import import_module
from importlib.util import find_spec

if not __debug__:
    raise RuntimeError("Python leaves assertions out (-O or PYTHONOPTIMIZE is set), so that no "
                       "test would test anything. Start it without.")

_MODULES = "slopes", "samples", "contract", "exercise"         # whose names are to be had here


def __getattr__(name):
    if not name.startswith("_"):
        if find_spec(f"{__name__}.{name}"):
            return import_module(f"{__name__}.{name}")
        for module in _MODULES:
            if name in (found := import_module(f"{__name__}.{module}")).__all__:
                return getattr(found, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *(name for module in _MODULES
                                 for name in import_module(f"{__name__}.{module}").__all__)})
