"Loss functions you can read, edit, run and trust."
__version__ = "0.1.0"


def __getattr__(name):
    if name == "engine":                      # imported when it is asked for, so that `import tinytorch` stays light
        from .core.engine import engine
        return engine
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), "engine"})
