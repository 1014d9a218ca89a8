"""What users see when they get an argument wrong: the loss, the argument, what was seen, and the
fix.
"""
import numpy as np
import pytest

from tinytorch.core.tensor import Tensor
from tinytorch.nn import (BCELoss, BCEWithLogitsLoss, CrossEntropyLoss, HuberLoss, KLDivLoss,
                          MSELoss, NLLLoss, PoissonNLLLoss, SupConLoss, TripletMarginLoss,
                          TripletMarginWithDistanceLoss, TweedieDevianceLoss)

logits = np.zeros((3, 10))

MISTAKES = {
    "column against row": (lambda: MSELoss()(np.ones((3, 1)), np.ones(3)), ValueError,
                           ["(3, 1)", "(3,)", "target.reshape(3, 1)"]),
    "indices in a regression": (lambda: MSELoss()(logits, np.ones(3)), ValueError,
                                ["use CrossEntropyLoss"]),
    "rows of different lengths": (lambda: MSELoss()([[1, 2], [3]], [1, 2]), ValueError,
                                  ["MSELoss", "rows of input have different lengths"]),
    "labels from 1": (lambda: CrossEntropyLoss()(logits, [1, 5, 10]), IndexError,
                      ["target[2] is 10", "classes 0..9", "subtract 1"]),
    "labels from 1, as a ValueError": (lambda: CrossEntropyLoss()(logits, [1, 5, 10]), ValueError,
                                       ["target[2] is 10"]),
    "negative label": (lambda: CrossEntropyLoss()(logits, [1, -1, 3]), IndexError,
                       ["target[1] is -1", "ignore_index=-1"]),
    "too few classes": (lambda: NLLLoss()(logits, [0, 12, 3]), IndexError,
                        ["target[1] is 12", "one score for each class"]),
    "fractions as classes": (lambda: CrossEntropyLoss()(logits, [0, 1.9, 3]), ValueError,
                             ["target[1] is 1.9", "MSELoss"]),
    "column of indices": (lambda: CrossEntropyLoss()(logits, [[1], [2], [3]]), ValueError,
                          ["(3, 1)", "have shape (3,)"]),
    "input and target exchanged": (lambda: CrossEntropyLoss()([0, 1, 2], logits), ValueError,
                                   ["exchanged?"]),
    "weights of the wrong length": (lambda: CrossEntropyLoss(weight=[1, 2])(logits, [1, 2, 3]),
                                    ValueError, ["weight has shape (2,)", "10 classes"]),
    "scores without a class axis": (lambda: CrossEntropyLoss()(1.0, 0), ValueError,
                                    ["shape ()", "(N, C)"]),
    "logits as probabilities": (lambda: BCELoss()([2.5], [1.0]), ValueError,
                                ["input[0] is 2.5", "[0, 1]", "takes logits"]),
    "labels of -1 and 1": (lambda: BCEWithLogitsLoss()([2.5, 1.0], [1.0, -1.0]), ValueError,
                           ["target[1] is -1", "(target + 1) / 2"]),
    "pos_weight that does not fit": (lambda: BCEWithLogitsLoss(pos_weight=[1, 2])(logits, logits),
                                     ValueError, ["pos_weight", "(2,)", "(3, 10)"]),
    "unknown reduction": (lambda: MSELoss("average"), ValueError, ["'average'", "'mean'"]),
    "delta of 0": (lambda: HuberLoss(delta=0), ValueError, ["delta is 0", "greater than 0"]),
    "smoothing above 1": (lambda: CrossEntropyLoss(label_smoothing=1.5), ValueError,
                          ["label_smoothing is 1.5", "at most 1"]),
    "index of a fraction": (lambda: CrossEntropyLoss(ignore_index=0.5), TypeError,
                            ["ignore_index is 0.5"]),
    "complex numbers": (lambda: MSELoss()([1j], [1]), TypeError, ["input has dtype complex128"]),
    "None": (lambda: MSELoss()([1.0], None), TypeError, ["target has dtype object"]),
    "a 0 of float16": (lambda: TweedieDevianceLoss(power=2)(np.float16([1]), np.float16([0])),
                       ValueError, ["target[0] is 0", "a power below 2"]),
    "weights to be learned": (lambda: BCELoss(weight=Tensor([1.0], requires_grad=True)), TypeError,
                              ["BCELoss: weight", "gets no gradient", "reduction='none'"]),
    "weights of samples to be learned": (
        lambda: MSELoss()([1.0], [2.0], sample_weight=Tensor([1.0], requires_grad=True)), TypeError,
        ["MSELoss: sample_weight", "gets no gradient"]),
    "a word as a flag": (lambda: PoissonNLLLoss(full="False"), TypeError,
                         ["PoissonNLLLoss: full is 'False'", "True or False"]),
    "an array as a flag": (lambda: KLDivLoss(log_target=np.ones(2)), TypeError,
                           ["KLDivLoss: log_target is array", "True or False"]),
    "a reduction in the place of a flag": (lambda: TripletMarginLoss(1.0, 2.0, 1e-6, "sum"),
                                           TypeError, ["TripletMarginLoss: swap is 'sum'"]),
    "weights of a composed loss": (
        lambda: TripletMarginWithDistanceLoss()(*[np.eye(2)] * 3, sample_weight=[1, -1]),
        ValueError, ["TripletMarginWithDistanceLoss: sample_weight[1] is -1"]),
    "labels of different lengths": (lambda: SupConLoss()(np.eye(2), [[1], [1, 2]]), ValueError,
                                    ["SupConLoss", "target", "one label for each row"]),}


@pytest.mark.parametrize("call, error, texts", MISTAKES.values(), ids=MISTAKES)
def test_mistake_is_named(call, error, texts):
    with pytest.raises(error) as caught:
        call()
    assert [text for text in texts if text not in str(caught.value)] == []


def test_arguments_by_name():
    assert MSELoss()(target=[1.0], input=[3.0]).item() == 4
