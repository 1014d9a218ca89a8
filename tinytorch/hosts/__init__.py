"""The losses in other frameworks, each imported when it is first asked for: `from tinytorch.hosts import to_torch`."""
from importlib import import_module
from importlib.util import find_spec

_FUNCTIONS = {"to_torch": "torch_host", "to_jax": "jax_host", "to_keras": "keras_host",
              "objective": "boosting", "metric": "boosting", "scorer": "sklearn_host",
              "value_and_grad": "optimise"}


def __getattr__(name):
    if name in _FUNCTIONS:
        return getattr(import_module(f"{__name__}.{_FUNCTIONS[name]}"), name)
    if not name.startswith("_") and find_spec(f"{__name__}.{name}"):
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *_FUNCTIONS])
