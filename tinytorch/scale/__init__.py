"""Losses of more than one array holds; each module is imported when it is first asked for."""
from importlib import import_module
from importlib.util import find_spec


def __getattr__(name):
    if not name.startswith("_") and find_spec(f"{__name__}.{name}"):
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
