"""Every example in a docstring gives what it says, and the docstring of a public name leaves
nothing out.
"""
import doctest
import importlib
import inspect
from pkgutil import iter_modules

import matplotlib
import pytest

import tinytorch.nn
from tinytorch.nn.criterion import LOSSES
from tinytorch.site import reference

matplotlib.use("Agg")

MODULES = ["tinytorch.amp", "tinytorch.core.engine", "tinytorch.core.tensor",
           "tinytorch.interactive", "tinytorch.plotting",
           *(f"tinytorch.nn.{module.name}" for module in iter_modules(tinytorch.nn.__path__))]
PUBLIC = {name: thing for module in reference.MODULES if module != "nn.functional"
          for name, thing in reference.names(module).items()}
METHODS = {f"{name}.{method}": function for name, thing in PUBLIC.items()
           for method, function in reference.methods_of(thing).items()}
# neither take nor return any
NO_ARRAYS = {"manual_seed", "LinearCrossEntropyOptions", "engine", "GradScaler"}
# are returned, not called
RECORDS = {"Term", "ASMoutput"}


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    module = importlib.import_module(name)
    failed, _ = doctest.testmod(module, globs=reference.run_imports(reference.START) | vars(module))
    assert failed == 0


def missing(name: str, thing) -> list:
    "What the docstring of a public name does not say."
    doc = reference.parse_docstring(thing.__doc__)
    wanted = (["Shapes"] * (name not in NO_ARRAYS | RECORDS) + ["Errors"] * (name not in RECORDS)
              + ["Range", "Source"] * (name in LOSSES))
    unsaid = [key for key in wanted if name in PUBLIC and not reference.said(thing, key)]
    unsaid += [p for p in inspect.signature(thing).parameters
               if p != "self" and not reference.meaning(thing, p)]
    return unsaid + ["summary"] * (not doc.summary) + ["example"] * (
        not any(step.want for step in doctest.DocTestParser().get_examples(doc.example)))


@pytest.mark.parametrize("name", [*PUBLIC, *METHODS])
def test_docstring_leaves_nothing_out(name):
    assert missing(name, (PUBLIC | METHODS)[name]) == [], (
        f"complete the docstring of {name} in its notebook, then run `tito export`")


@pytest.mark.parametrize("name", [name for name, thing in PUBLIC.items() if reference.properties(thing)])
def test_properties_have_a_meaning(name):
    assert [key for key, value in reference.properties(PUBLIC[name]).items()
            if not value.__doc__] == []


@pytest.mark.parametrize("name", reference.forms())
def test_function_has_the_parameters_of_its_loss(name):
    loss, function = reference.forms()[name], getattr(tinytorch.nn.functional, name)
    known = {*inspect.signature(loss).parameters, *loss.domain,
             *reference.parse_docstring(function.__doc__).parts}
    if function.__module__ == "tinytorch.nn.functional":
        assert not inspect.signature(function).parameters.keys() - known


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_limits_and_errors_of_options_follow_from_their_declaration(name):
    loss, text = LOSSES[name], " ".join(LOSSES[name].__doc__.split())
    table = reference.parameters(loss, name)
    for option, declared in loss.options.items():
        if declared.limits:
            assert f", {declared.limits} | `{declared.default!r}`" in table
            assert f"`{option}` ({declared.limits}): " in text or f"`{option}`: " not in text
    if "- Errors: " in loss.__doc__:
        assert "A wrong option raises ValueError or TypeError." in reference.said(loss, "Errors")


def test_the_usual_shapes_and_errors_follow_from_the_declaration():
    hinge = " ".join(LOSSES["HingeLoss"].__doc__.split())
    assert ("- Shapes: `input` and `target` equal, any shape; the loss is a number, or has their "
            'shape with `reduction="none"`. - Range: ') in hinge
    assert ("- Errors: ValueError if the shapes differ. `target` must be -1 or 1. A wrong option "
            "raises ValueError or TypeError. - Source: ") in hinge
    assert reference.said(LOSSES["SparsemaxLoss"], "Shapes").startswith("`input` (C,), (N, C) or")
    assert LOSSES["GaussianNLLLoss"].__doc__.count("- Shapes: ") == 1


def test_a_gap_is_seen():
    def half(x, scale=1.0):
        """Half of `x`.

        - `x`: a number.
        - Errors: none.
        """
    assert missing("half", half) == ["scale", "example"]
    assert missing(
        "HuberLoss",
        type("HuberLoss", (), {"__init__": lambda self, delta=1.0: None, "__doc__": "Huber."}),
    ) == ["Shapes", "Errors", "Range", "Source", "delta", "example"]
