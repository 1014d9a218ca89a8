"""Losses of more than one array holds; each module is imported when it is first asked for."""
from importlib import import_module
from importlib.util import find_spec

SHORT = {"accumulate": "partial", "divisor_of": "partial", "summarize": "partial",
         "report": "partial", "PartialLoss": "partial", "Summary": "partial", "summary": "dask",
         "evaluate_files": "evaluate"}


def __getattr__(name):
    if name in SHORT:
        return getattr(import_module(f"{__name__}.{SHORT[name]}"), name)
    if not name.startswith("_") and find_spec(f"{__name__}.{name}"):
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *SHORT, "dask", "evaluate", "merging", "partial"])
