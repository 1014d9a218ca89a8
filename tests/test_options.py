"Options of losses are declared: signature, check, attributes and domains follow from that."
import ast
import copy
import inspect
import pickle
import textwrap

import numpy as np
import pytest

import tinytorch
import tinytorch.nn as nn
from tinytorch.nn.arguments import LEVELS, REAL, flag, number
from tinytorch.nn.criterion import LOSSES, Loss, RowLoss

nn.__all__                                  # imports the modules that register losses
# composed of other losses or of sums over a graph, or with shapes that only they take
NOT_DECLARED = {"CTCLoss", "GaussianNLLLoss", "LinearCrossEntropyLoss", "MultiLabelMarginLoss",
                "MultiMarginLoss", "TripletMarginWithDistanceLoss"}
MAKES = {"LinearCrossEntropyLoss": {"in_features": 3, "num_classes": 4}}
RESTRICTED = [nn.PoissonNLLLoss(log_input=False), nn.KLDivLoss(log_target=True),
              nn.TweedieDevianceLoss(power=2, log_input=False)]


def lines_of_code(cls) -> int:
    "Return how many lines the body of a class has, its docstring, comments and blanks aside."
    source = textwrap.dedent(inspect.getsource(cls))
    first, *body = ast.parse(source).body[0].body
    rest = source.splitlines()[(body[0] if body else first).lineno - 1:]
    return sum(bool(line.strip()) and line.strip()[0] != "#" for line in rest)


@pytest.mark.parametrize("name", sorted(LOSSES.keys() - NOT_DECLARED))
def test_a_loss_is_a_declaration(name):
    assert lines_of_code(LOSSES[name]) <= 8
    assert "__init__" not in inspect.getsource(LOSSES[name])


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_options_are_attributes_and_the_signature(name):
    loss, parameters = LOSSES[name](**MAKES.get(name, {})), inspect.signature(LOSSES[name]).parameters
    assert "reduction" in parameters
    if name not in MAKES:
        assert list(parameters) == list(LOSSES[name].options)
        for option, parameter in parameters.items():
            assert getattr(loss, option) == parameter.default
    assert repr(pickle.loads(pickle.dumps(loss))) == repr(copy.deepcopy(loss)) == repr(loss)


class Scaled(Loss):
    "A loss of a user's own."
    options = {"scale": number(1.0, low=0, open=True), "square": flag(False)}
    formula = None


def test_a_loss_of_ones_own_declares_options():
    assert str(inspect.signature(Scaled)) == (
        "(scale: float = 1.0, square: bool = False, reduction: str = 'mean')")
    loss = Scaled(2, square=1)
    assert (loss.scale, loss.square, loss.reduction) == (2.0, True, "mean")
    assert type(loss.scale) is float
    for wrong, error in ((lambda: Scaled(0), ValueError), (lambda: Scaled("1"), TypeError),
                         (lambda: Scaled(reduction="all"), ValueError)):
        with pytest.raises(error, match="Scaled: (scale|reduction) is"):
            wrong()


def test_an_init_of_ones_own_passes_options_on():
    class Narrow(nn.HuberLoss):
        def __init__(self, unit):
            super().__init__("sum", delta=unit / 2)

    assert repr(Narrow.__mro__[1]("sum", 1.0)) == "HuberLoss(reduction='sum', delta=1.0)"
    assert Narrow(3.0).delta == 1.5 and Narrow(3.0).reduction == "sum"
    assert str(inspect.signature(Narrow)) == "(unit)"


def test_an_unknown_option_names_the_known_ones():
    with pytest.raises(TypeError, match=r"HuberLoss: got an unexpected keyword argument 'dleta'. "
                                        r"Its options are \(reduction, delta\)"):
        nn.HuberLoss(dleta=1.0)


@pytest.mark.parametrize("loss", RESTRICTED, ids=repr)
def test_a_copy_has_the_domains_that_its_options_ask_for(loss):
    ask = {name: bounds for name, bounds in zip(loss.domain, loss.bounds)}
    assert ask != {name: bounds for name, bounds in zip(loss.domain, type(loss).bounds)}
    for other in copy.copy(loss), copy.deepcopy(loss), pickle.loads(pickle.dumps(loss)):
        assert other.domain == loss.domain and other.bounds == loss.bounds


def test_an_option_that_is_set_later_changes_the_domain():
    loss, wrong = nn.PoissonNLLLoss(), [np.array([-1.0]), np.array([1.0])]
    loss(*wrong)                              # a rate's logarithm
    loss.log_input = False
    with pytest.raises(ValueError, match="Rates are not negative"):
        loss(*wrong)
    loss.log_input = True
    loss(*wrong)


@pytest.mark.parametrize("name", ["numpy", "numba"])
def test_levels_are_checked_in_every_call(name):
    if name == "numba":
        pytest.importorskip("numba")
    loss, input = nn.CoralLoss(), np.zeros((2, 3), "float32")
    with tinytorch.engine(name):
        for _ in range(3):
            loss(input, np.array([0, 3]))
        with pytest.raises(IndexError, match="between the levels 0..3"):
            loss(input, np.array([0, 4]))


class Leveled(RowLoss):
    "A loss that a compiled loop of its shapes could serve, if its levels were not to be checked."
    per_row = constant = ("target",)
    domain = {"input": REAL, "target": LEVELS}

    def formula(input, target):
        return input.sum(axis=-1) * target, input * 0 + np.expand_dims(target, -1)


def test_a_compiled_call_is_not_kept_for_arguments_that_are_checked():
    pytest.importorskip("numba")
    loss, input = Leveled(), np.zeros((2, 3), "float32")
    with tinytorch.engine("numba"):
        for target in (np.float32([0, 3]), np.float32([1, 2])):
            loss(input, target)
        with pytest.raises(IndexError, match="between the levels 0..3"):
            loss(input, np.float32([0, 4]))


@pytest.mark.parametrize("options", [(), {"delta": 1.0}, None])
def test_options_are_declared_as_options(options):
    with pytest.raises(TypeError, match="MyLoss: options is .* must be a dictionary of names and Options"):
        type("MyLoss", (Loss,), {"options": options})


def test_options_that_are_set_later_are_checked():
    for loss, option, wrong, error in (
            (nn.MSELoss(), "reduction", "average", ValueError), (nn.HuberLoss(), "delta", -1.0, ValueError),
            (nn.HuberLoss(), "delta", "1", TypeError), (nn.BCELoss(), "weight", ["a"], TypeError),
            (nn.NLLLoss(), "ignore_index", 0.5, TypeError)):
        before = getattr(loss, option)
        with pytest.raises(error, match=f"{type(loss).__name__}: {option} "):
            setattr(loss, option, wrong)
        assert getattr(loss, option) is before
    loss = nn.BCELoss()
    loss.weight = [1, 0]
    assert loss([0.5, 0.25], [1, 1]).item() == pytest.approx(np.log(2) / 2)


def test_an_option_may_be_a_property():
    class Annealed(nn.HuberLoss):
        step = 0

        @property
        def delta(self):
            return 1.0 if self.step else self.start

        @delta.setter
        def delta(self, value):
            vars(self)["start"] = value

    loss = Annealed(delta=2.0)
    assert loss([4.0], [0.0]).item() == 6
    loss.step = 1
    assert loss([4.0], [0.0]).item() == 3.5


@pytest.mark.parametrize("name", ["numpy", "numba"])
@pytest.mark.parametrize("lay", [lambda x: np.repeat(x, 2)[::2], lambda x: x[::-1].copy()[::-1]])
def test_weights_may_lie_in_memory_as_they_like(lay, name):
    if name == "numba":
        pytest.importorskip("numba")
    weight, input = np.float32([1, 2, 3]), np.float32([[1, 0, 2], [0, 3, 1]])
    for make, target in ((lambda w: nn.CrossEntropyLoss(w, label_smoothing=0.2), [0, 2]),
                         (nn.CoralLoss, [0, 3]),
                         (lambda w: nn.MultiMarginLoss(weight=w), [0, 2])):
        with tinytorch.engine(name):
            expected = make(weight)(input, target).item()
            assert make(lay(weight))(input, target).item() == expected


@pytest.mark.parametrize("function, option, right, wrong", [
    ("huber_loss", "delta", 1.0, True), ("cross_entropy", "ignore_index", 1, 1.0),
    ("multi_margin_loss", "p", 1, True), ("cross_entropy", "ignore_index", 0, False)])
def test_a_function_refuses_what_is_only_equal_to_an_option(function, option, right, wrong):
    target = [0] if function in ("cross_entropy", "multi_margin_loss") else [[1.0, 2.0]]
    call = getattr(nn.functional, function)
    call([[1.0, 2.0]], target, **{option: right})
    with pytest.raises(TypeError, match=f"{option} is {wrong}, but it must be"):
        call([[1.0, 2.0]], target, **{option: wrong})
